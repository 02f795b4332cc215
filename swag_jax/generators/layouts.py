"""How the published checkpoints of the generators name their tensors: one layout per kind.

A kind may come in several files, whose keys do not collide, so that one layout serves all of them. Sources: `net.py` of
naoto0804/pytorch-AdaIN, `Eval.py` of GlebSBrykin/SANET, `models/networks.py` and `inference_frame.py` of
Huage001/AdaAttN, `fast_neural_style/neural_style/transformer_net.py` of pytorch/examples.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from swag_jax.generators.adaattn import AdaAttNConfig
from swag_jax.generators.adain import AdaINConfig
from swag_jax.generators.johnson import JohnsonConfig
from swag_jax.generators.method import Config
from swag_jax.generators.sanet import SANetConfig
from swag_jax.params.layouts import Layout, table
from swag_jax.params.tree import Tensors


@dataclass(frozen=True)
class Published:
    """One kind of published checkpoint.

    Attributes:
        config: What its generator is made of.
        files: The files that it comes in.
        layout: How these files together lay out its weights.
        reads: The checkpoint of its encoder by its name in the manifest; `None` for a generator that reads images.
    """

    config: Config
    files: tuple[str, ...]
    layout: Layout
    reads: str | None = "vgg19-normalized-adain"


# Mirrored, so that the last one leads to colors.
_DECODER = tuple(f"decoder.conv{name}" for name in ("4_1", "3_4", "3_3", "3_2", "3_1", "2_2", "2_1", "1_2", "1_1"))

# Places in the Sequentials, which count pads, ReLUs and up-samplings too.
_ADAIN_DECODER = dict(zip(map(str, (1, 5, 8, 11, 14, 18, 21, 25, 28)), _DECODER, strict=True))
_ADAATTN_PLACES = (1, 4, 7, 10, 14, 17, 21, 24)


def _adaattn_decoder(prefix: str) -> dict[str, str]:
    return {f"{prefix}.{place}": ours for place, ours in zip(_ADAATTN_PLACES, _DECODER[1:], strict=True)}


def _attention(prefix: str, layer: str) -> dict[str, str]:
    return {f"{prefix}{a}": f"{layer}.{b}" for a, b in (("f", "query"), ("g", "key"), ("h", "value"))}


# Ours by those of `TransformerNet`; `deconv` are up-samplings and a convolution.
_JOHNSON_NORMED = {
    **{f"conv{i}": (f"in{i}", f"down{i}") for i in (1, 2, 3)},
    **{f"res{i}.conv{j}": (f"res{i}.in{j}", f"block{i}.conv{j}") for i in range(1, 6) for j in (1, 2)},
    **{f"deconv{i}": (f"in{i + 3}", f"up{i}") for i in (1, 2)},
}

_JOHNSON_SCALES = {"conv1.conv2d.weight": 255, "deconv3.conv2d.weight": 1 / 255, "deconv3.conv2d.bias": 1 / 255}


def _scaled(tensors: Tensors) -> Tensors:
    """Make Johnson's network, whose images are in 0..255, one for images in [0, 1]."""
    return {
        key: (value.astype(np.float64) * _JOHNSON_SCALES[key]).astype(np.float32) if key in _JOHNSON_SCALES else value
        for key, value in tensors.items()
    }


_JOHNSON = Layout(
    "johnson",
    table(
        {
            **{f"{own}.conv2d": f"{ours}.conv" for own, (_, ours) in _JOHNSON_NORMED.items()},
            "deconv3.conv2d": "output",
        },
        dict(_JOHNSON_NORMED.values()),
    ).get,
    # PyTorch before 0.4 gave instance norms running statistics that these networks never used.
    r"(.*\.)?in\d\.(running_mean|running_var|num_batches_tracked)",
    prepare=_scaled,
)
_SANET = {
    **_ADAIN_DECODER,
    **_attention("sanet4_1.", "relu4_1"),
    "sanet4_1.out_conv": "relu4_1.output",
    **_attention("sanet5_1.", "relu5_1"),
    "sanet5_1.out_conv": "relu5_1.output",
    "merge_conv": "merge.conv",
}
_ADAATTN = {
    "decoder_layer_1.1": "decoder.conv4_1",
    **_adaattn_decoder("decoder_layer_2"),
    **_attention("attn_adain_4_1.", "relu4_1"),
    **_attention("attn_adain_5_1.", "relu5_1"),
    "merge_conv": "merge.conv",
    **_attention("", "relu3_1"),
}
_ADAATTN_VIDEO = {**_adaattn_decoder("decoder"), **_attention("", "relu3_1")}

PUBLISHED: Mapping[str, Published] = {
    "johnson": Published(JohnsonConfig(bounded=False), ("mosaic",), _JOHNSON, reads=None),
    "adain": Published(AdaINConfig(), ("decoder",), Layout("adain", table(_ADAIN_DECODER).get)),
    "sanet": Published(SANetConfig(), ("decoder", "transformer"), Layout("sanet", table(_SANET).get)),
    "adaattn": Published(
        AdaAttNConfig(), ("decoder", "transformer", "adaattn_3"), Layout("adaattn", table(_ADAATTN).get)
    ),
    "adaattn-video": Published(
        AdaAttNConfig.video(), ("decoder", "transformer"), Layout("adaattn-video", table(_ADAATTN_VIDEO).get)
    ),
}
"""Every kind, by the name that the command line has for it."""


def kinds_of(keys: Collection[str]) -> tuple[str, ...]:
    """Name the kinds of generator that a published file with these keys may belong to.

    Example:
        >>> kinds_of(["deconv1.conv2d.weight"]), kinds_of(["sanet4_1.f.bias"]), kinds_of(["features.0.weight"])
        (('johnson',), ('sanet',), ())
    """
    return tuple(kind for kind, published in PUBLISHED.items() if keys and all(map(published.layout.knows, keys)))
