"""Named settings, each with its source.

`gatys` compares raw activations, `swag` smoothed ones. `paper` and `released` follow the SWAG paper's formulas and its
released code, which differ from each other; if the paper's value is not known to us, it is marked as our choice.
All of them keep the content's aspect ratio; the released code squashes both images to 512 x 512.
"""

from collections.abc import Mapping as _Mapping

from swag_jax.backbones.zoo import entry as _entry
from swag_jax.losses import Objective as _Objective
from swag_jax.optimize import StylizeSettings as _StylizeSettings
from swag_jax.smoothing import Smoothing as _Smoothing

gatys_vgg19 = _StylizeSettings()
"""Gatys et al., CVPR 2016: VGG19 with average pooling, style at relu1_1 to relu5_1, content at relu4_2. Weights,
coarse to fine, the basis and 200 steps are our choice, by eye on real photographs and paintings, as
`benchmarks/README.md` tells."""

swag_vgg19 = gatys_vgg19.replace(
    objective=gatys_vgg19.objective.replace(
        smoothing=_Smoothing.softmax(over="channels", layers=("relu4_1", "relu5_1"))
    )
)
"""`gatys_vgg19` with its two deepest style layers smoothed, at the `auto` temperature: our choice. VGG19 has no peaks
to be smoothed; with more layers, or a softmax over everything, colors fade and the style is hardly reached."""

gatys_vgg16 = gatys_vgg19.replace(backbone="vgg16")
"""`gatys_vgg19` with VGG16, whose blocks 3 to 5 have three convolutions instead of four."""

gatys_alexnet = gatys_vgg19.replace(backbone="alexnet")
"""`gatys_vgg19` with AlexNet, at its five ReLUs. Our choice."""

_EQUAL = (1.0, 1.0, 1.0, 1.0, 1.0)

# The last two stages: what SWAG's released code smooths, whose author notes that only deep layers are peaky.
_DEEP = ("conv4_6", "conv5_3")

swag_resnet50 = _StylizeSettings(
    backbone="resnet50",
    objective=_Objective(
        content_weight=2.0,
        style_weight=5000.0,
        tv_weight=0.05,
        normalization="released",
        smoothing=_Smoothing.softmax(temperature=1.0, over="channels", layers=_DEEP),
    ),
    smallest_size=256,
    spectral_decay=0.5,
)
"""Our best setting for ResNet50: losses and smoothing of SWAG's first release (`swag_resnet50_first`). Content counts
more, 2e-3 of a style layer (the code: 1e-17), so that it stays legible; weights, a little variation, coarse to
fine from 256 pixels, the basis and 200 steps are our choice, by eye, like those of `gatys_vgg19`."""


gatys_resnet50 = gatys_vgg19.replace(backbone="resnet50")
"""What SWAG sets out to repair: ResNet50 at SWAG's layers (conv1 and the end of every stage, content at conv4_6), raw.
Its relative weights already balance the layers, so that it paints well: see `swag_resnet50`."""


def _swag(backbone: str, smoothed: tuple[str, ...]) -> _StylizeSettings:
    """`swag_resnet50` with another network and its smoothed layers."""
    objective = swag_resnet50.objective
    smoothing = objective.smoothing.replace(layers=smoothed)
    return swag_resnet50.replace(backbone=backbone, objective=objective.replace(smoothing=smoothing))


swag_resnet50_paper = _StylizeSettings(
    backbone="resnet50",
    objective=_Objective(
        style_layer_weights=_EQUAL,
        style_weight=1e20,
        normalization="paper",
        smoothing=_Smoothing.softmax(temperature=1.0),
    ),
    size=512,
    smallest_size=512,
    steps=1000,
    memory=100,
    spectral_decay=0.0,
)
"""SWAG eqs. 11 to 13 to the letter: softmax over everything with T = 1, w_l = 1, one scale. The paper's content and
style weights and iterations are unknown to us: the weights are our choice, size, iterations and L-BFGS history are the
released code's. With the ImageNet ResNet50 it does not paint: its deep activations are so large that their softmax is
almost a single entry, which a change that no eye sees moves elsewhere. At higher temperatures colored grain appears."""

swag_resnet50_released = _StylizeSettings(
    backbone="resnet50",
    objective=_Objective(
        style_layer_weights=_EQUAL,
        content_weight=1.0,
        style_weight=1e17,
        normalization="released",
        smoothing=_Smoothing.scaled(0.001, layers=_DEEP),
    ),
    size=512,
    smallest_size=512,
    steps=1000,
    memory=100,
    spectral_decay=0.0,
)
"""peiwang062/swag, resnet_swag.py, mode resnet50_swag as enabled since 2021-04-28: layer3 and layer4 times 0.001, the
rest raw, weights 1 and 1e17, L-BFGS with history 100 and about 1000 evaluations at 512 pixels from the content. The
tiny factor all but removes the two deep style terms and the content term compared with the shallow ones."""

swag_resnet50_first = swag_resnet50_released.replace(
    objective=swag_resnet50_released.objective.replace(smoothing=swag_resnet50.objective.smoothing)
)
"""peiwang062/swag, resnet_swag.py as first released, 2021-03-31: layer3 and layer4 through a softmax over the channels,
T = 1, all else as in `swag_resnet50_released`."""

swag_wide_resnet50 = swag_resnet50.replace(backbone="wide_resnet50_2")
"""`swag_resnet50` with WideResNet50-2. The paper shows this network; layers and width are our choice."""

gatys_wide_resnet50 = gatys_resnet50.replace(backbone="wide_resnet50_2")
"""`gatys_resnet50` with WideResNet50-2."""

swag_wide_resnet50_paper = swag_resnet50_paper.replace(backbone="wide_resnet50_2")
"""`swag_resnet50_paper` with WideResNet50-2."""

swag_wide_resnet50_released = swag_resnet50_released.replace(backbone="wide_resnet50_2")
"""`swag_resnet50_released` with WideResNet50-2, for which no code was released."""

swag_wide_resnet50_first = swag_resnet50_first.replace(backbone="wide_resnet50_2")
"""`swag_resnet50_first` with WideResNet50-2, for which no code was released."""

swag_googlenet = _swag("googlenet", ("inception4e", "inception5b"))
"""`swag_resnet50` with GoogLeNet, which the paper may mean by Inception; its layers are our choice."""

gatys_googlenet = gatys_vgg19.replace(backbone="googlenet")
"""`gatys_vgg19` with GoogLeNet at the layers of `swag_googlenet`."""

swag_inception_v3 = _swag("inception_v3", ("mixed6e", "mixed7c"))
"""`swag_resnet50` with Inception v3, which the paper may mean by Inception; its layers are our choice."""

gatys_inception_v3 = gatys_vgg19.replace(backbone="inception_v3")
"""`gatys_vgg19` with Inception v3 at the layers of `swag_inception_v3`."""

fast = gatys_vgg19.replace(
    backbone="efficientnet-lite0",
    objective=gatys_vgg19.objective.replace(style_weight=200.0, tv_weight=80.0),
    steps=150,
    spectral_decay=1.0,
)
"""EfficientNet-Lite0, raw activations: a step takes a sixth of the time of `gatys_vgg19`'s. Steps are those of a trial
with this network; weights and the basis of natural frequencies, which keep single pixels' noise out of flat areas, are
our choice, by eye on photographs and paintings at 256 and 512 pixels."""

PRESETS: _Mapping[str, _StylizeSettings] = {
    name.replace("_", "-"): value for name, value in list(globals().items()) if isinstance(value, _StylizeSettings)
}
"""Every preset by the name it has on the command line; the first of each network is its default."""


def of_backbone(name: str) -> _StylizeSettings:
    """Return a backbone's default settings: its preset or, if it has none, `swag_resnet50` at its own layers.

    Example:
        >>> of_backbone("resnet18").objective.smoothing.layers
        ('conv4_2', 'conv5_2')
    """
    layers = _entry(name).style_layers
    return next((preset for preset in PRESETS.values() if preset.backbone == name), None) or _swag(name, layers[-2:])
