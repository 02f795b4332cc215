"""Named settings, each with its witness.

`gatys` compares raw activations, `swag` smoothed ones. `paper` and `released` follow the SWAG paper's formulas and its
released code, which differ from each other; where the paper's value is not known to us, it is marked as our choice.
All of them keep the content's aspect ratio, where the released code squashes both pictures to 512 x 512.
"""

from collections.abc import Mapping

from swag_jax.backbones import entry
from swag_jax.losses import Objective
from swag_jax.optimize import Settings
from swag_jax.smoothing import Smoothing

gatys_vgg19 = Settings(backbone="vgg19", objective=Objective(style_weight=5.0, tv_weight=1.0))
"""Gatys et al., CVPR 2016: VGG19 with average pooling, style at relu1_1 to relu5_1, content at relu4_2. Relative
weights, a little total variation, coarse to fine and 300 steps are our choice."""

swag_vgg19 = gatys_vgg19.replace(kind="softmax")
"""As `gatys_vgg19`, smoothed. Our choice in all but the layers."""

gatys_vgg16 = gatys_vgg19.replace(backbone="vgg16")
"""`gatys_vgg19` with VGG16, whose blocks 3 to 5 have three convolutions instead of four."""

gatys_alexnet = gatys_vgg19.replace(backbone="alexnet")
"""`gatys_vgg19` with AlexNet, at its five ReLUs. Our choice."""

swag_resnet50 = Settings(
    backbone="resnet50",
    objective=Objective(style_weight=5.0, tv_weight=1.0, smoothing=Smoothing("softmax", layers=("conv4_6", "conv5_3"))),
)
"""Our best setting for ResNet50: SWAG's layers and its softmax over everything (eq. 11), at the `auto` temperature,
with relative weights, coarse to fine. As in SWAG's released code, whose author notes that only deep layers are peaky,
the last two stages are smoothed. Temperature, weights and scales are our choice."""

gatys_resnet50 = swag_resnet50.replace(kind="none")
"""What SWAG sets out to repair: `swag_resnet50` without smoothing."""

_EQUAL = (1.0, 1.0, 1.0, 1.0, 1.0)

swag_resnet50_paper = Settings(
    backbone="resnet50",
    objective=Objective(
        style_layer_weights=_EQUAL,
        style_weight=100.0,
        normalization="paper",
        smoothing=Smoothing("softmax", temperature=1.0),
    ),
    size=512,
    smallest_size=512,
    steps=1000,
    memory=100,
)
"""SWAG eqs. 11 to 13 to the letter: softmax over everything with T = 1, w_l = 1, one scale. The softmax is rescaled
to mean one, which changes the loss by a constant only. The paper's content and style weights and iterations are
unknown to us: the weights are our choice, size, iterations and L-BFGS history are the released code's."""

swag_resnet50_released = Settings(
    backbone="resnet50",
    objective=Objective(
        style_layer_weights=_EQUAL,
        content_weight=1.0,
        style_weight=1e17,
        normalization="released",
        smoothing=Smoothing("scale", scale=0.001, layers=("conv4_6", "conv5_3")),
    ),
    size=512,
    smallest_size=512,
    steps=1000,
    memory=100,
)
"""peiwang062/swag, resnet_swag.py, mode resnet50_swag as enabled since 2021-04-28: layer3 and layer4 times 0.001, the
rest raw, weights 1 and 1e17, L-BFGS with history 100 and about 1000 evaluations at 512 pixels from the content. The
tiny factor all but removes the two deep style terms and the content term beside the shallow ones."""

swag_wide_resnet50 = swag_resnet50.replace(backbone="wide_resnet50_2")
"""`swag_resnet50` with WideResNet50-2. The paper shows this network; layers and width are our choice."""

gatys_wide_resnet50 = gatys_resnet50.replace(backbone="wide_resnet50_2")
"""`gatys_resnet50` with WideResNet50-2."""

swag_wide_resnet50_paper = swag_resnet50_paper.replace(backbone="wide_resnet50_2")
"""`swag_resnet50_paper` with WideResNet50-2."""

swag_wide_resnet50_released = swag_resnet50_released.replace(backbone="wide_resnet50_2")
"""`swag_resnet50_released` with WideResNet50-2, for which no code was released."""

swag_googlenet = swag_resnet50.replace(backbone="googlenet", layers=("inception4e", "inception5b"))
"""`swag_resnet50` with GoogLeNet, which the paper may mean by Inception; its layers are our choice."""

gatys_googlenet = swag_googlenet.replace(kind="none")
"""`swag_googlenet` without smoothing."""

swag_inception_v3 = swag_resnet50.replace(backbone="inception_v3", layers=("mixed6e", "mixed7c"))
"""`swag_resnet50` with Inception v3, which the paper may mean by Inception; its layers are our choice."""

gatys_inception_v3 = swag_inception_v3.replace(kind="none")
"""`swag_inception_v3` without smoothing."""

PRESETS: Mapping[str, Settings] = {
    name.replace("_", "-"): value for name, value in list(globals().items()) if isinstance(value, Settings)
}
"""Every preset by the name it has on the command line."""

OF_BACKBONE: Mapping[str, str] = {
    "vgg19": "gatys-vgg19",
    "vgg16": "gatys-vgg16",
    "alexnet": "gatys-alexnet",
    "resnet50": "swag-resnet50",
    "wide_resnet50_2": "swag-wide-resnet50",
    "googlenet": "swag-googlenet",
    "inception_v3": "swag-inception-v3",
}
"""The preset that stands for a backbone where none is named."""


def of_backbone(name: str) -> Settings:
    """Return the settings that stand for a backbone where no preset is named.

    They are its preset or, for a residual network without one, `swag_resnet50` at its own layers.

    Args:
        name: A network of the zoo.

    Raises:
        UserError: If there is none of that name.

    Example:
        >>> of_backbone("resnet18").objective.smoothing.layers
        ('conv4_2', 'conv5_2')
    """
    known = entry(name)
    if name in OF_BACKBONE:
        return PRESETS[OF_BACKBONE[name]]
    return swag_resnet50.replace(backbone=name, layers=known.style_layers[-2:])
