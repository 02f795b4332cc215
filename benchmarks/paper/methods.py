"""The methods of the experiments, as flags of `swag-jax batch`: a network, the units of its losses, and a smoothing.

All work on pixels, without total variation, at one scale, as Gatys et al. and SWAG's code do. Equal flags are one
image: what two figures share is made once.
"""

from collections.abc import Mapping
from typing import TypeAlias

from swag_jax.backbones.zoo import entry

Flags: TypeAlias = Mapping[str, str | int | float]

NETWORKS = {
    "p-VGG19": ("vgg19", "embedded"),
    "p-ResNet50": ("resnet50", "embedded"),
    "p-EfficientNet": ("efficientnet-lite0", "embedded"),
    "r-VGG19": ("vgg19", "random"),
    "r-ResNet50": ("resnet50", "random"),
    "r-NoResNet50": ("no_resnet50", "random"),
    "r-pseudo-VGG": ("pseudo_vgg", "random"),
    "r-pseudo-ResVGG": ("pseudo_resvgg", "random"),
    "r-pre-ReLU": ("preact_resnet50", "random"),
    "r-WideResNet50-2": ("wide_resnet50_2", "random"),
    "r-GoogLeNet": ("googlenet", "random"),
    "r-Inception v3": ("inception_v3", "random"),
}
"""Backbone and weights by label: p- trained on ImageNet, r- random. The last three may be given fetched weights."""

_PIXELS: Flags = {"tv-weight": 0, "spectral-decay": 0}

UNITS: Mapping[str, Flags] = {
    "released": {"normalization": "released", "content-weight": 1, "style-weight": 1e17},
    "paper": {"normalization": "paper", "content-weight": 1, "style-weight": 1e3},
    "relative": {"normalization": "relative", "content-weight": 1, "style-weight": 60},
}
"""Released: weights of peiwang062/swag, resnet_swag.py. Paper: its equations 3 and 4 are those of Gatys et al. 2016,
with their ratio of 1e-3; its own weights are unknown to us. Relative: the weights of `gatys-vgg19`."""

PAPER_SOFTMAX_WEIGHT = 1e20
"""The style's weight in the paper's units after its softmax, which makes Gram matrices tiny: `swag-resnet50-paper`."""

SMOOTHINGS: Mapping[str, Flags] = {
    "raw": {"smoothing": "none"},
    "softmax": {"smoothing": "softmax", "temperature": 1},
    "SWAG": {"smoothing": "channel-softmax", "temperature": 1},
    "spatial softmax": {"smoothing": "spatial-softmax", "temperature": 1},
    "factor": {"smoothing": "scale", "smoothing-scale": 1e-3},
}
"""`softmax` is the paper's, over everything (eq. 11). `SWAG` is over channels: what its code had on the last two stages
when it was released. `factor` is what the code has had since 2021-04-28. The authors say that all three do the same."""


def method(
    network: str, units: str = "released", smoothing: str = "raw", *, layers: str | None = None, **more: str | float
) -> Flags:
    """Return the flags of a method.

    Args:
        network: From `NETWORKS`.
        units: From `UNITS`.
        smoothing: From `SMOOTHINGS`.
        layers: To be smoothed, separated by commas; by default the last two style layers, in ResNets the ends of the
            last two stages.
        more: Other flags, with underscores for hyphens.
    """
    backbone, weights = NETWORKS[network]
    style = entry(backbone).style_layers
    preset = "gatys-vgg19" if backbone == "vgg19" else "gatys-resnet50"
    found = {"preset": preset, "backbone": backbone, "weights": weights, **_PIXELS, **UNITS[units]}
    found |= {} if units == "relative" else {"style-layer-weights": ",".join("1" for _ in style)}
    found |= SMOOTHINGS[smoothing]
    found |= {} if smoothing == "raw" else {"smoothing-layers": ",".join(style[-2:]) if layers is None else layers}
    return found | {name.replace("_", "-"): value for name, value in more.items()}


def all_layers(network: str) -> str:
    """Return all style layers of a network, as `method` takes them."""
    return ",".join(entry(NETWORKS[network][0]).style_layers)
