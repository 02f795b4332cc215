"""How other projects name the weights of our networks: one table of rules per layout.

Parameters have flat names here: `conv3_1.kernel`, `conv2_1.conv1.norm.scale`. A layout says which of them
each foreign key becomes, and which keys it drops on purpose. PyTorch kernels are (out, in, height, width);
ours are (height, width, in, out).
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from swag_jax._checks import check_name, error
from swag_jax.params.rescale import MEAN_ACTIVATION

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
"""The shape of every tensor by its key."""

Tensors: TypeAlias = dict[str, np.ndarray]
"""Tensors in host memory by their keys."""


@dataclass(frozen=True)
class Rule:
    """One row of a layout's table.

    Attributes:
        pattern: A regular expression that a foreign key matches as a whole.
        name: What makes our flat name of the match.
    """

    pattern: str
    name: Callable[[re.Match[str]], str]


@dataclass(frozen=True)
class Layout:
    """How one family of checkpoints lays out its weights.

    Attributes:
        name: What the command line calls it.
        family: The networks it is for: `vgg`, `vgg16`, `alexnet`, `resnet` or `inception`; empty for all.
        signature: Regular expressions of keys that together identify it.
        rules: The table; the first match wins.
        drops: Regular expressions of keys left out on purpose.
        normalization: How images in [0, 1] become the network's input; `None` for what is the network's default.
        padding: What its convolutions see beyond the edge.
        axes: The order of a foreign kernel's axes that gives ours.
        folded: Shapes of foreign tensors that `prepare` folds into others.
        prepare: What happens to the foreign tensors before the table applies.
    """

    name: str
    family: str
    signature: tuple[str, ...]
    rules: tuple[Rule, ...]
    drops: tuple[str, ...] = ()
    normalization: str | None = "imagenet"
    padding: str = "zeros"
    axes: tuple[int, ...] = (2, 3, 1, 0)
    folded: tuple[tuple[str, tuple[int, ...]], ...] = ()
    prepare: Callable[[Tensors], Tensors] = dict

    def fits(self, shapes: Shapes) -> bool:
        """Tell whether a checkpoint has the keys that identify this layout."""
        return all(any(re.fullmatch(pattern, key) for key in shapes) for pattern in self.signature)

    def rename(self, key: str) -> str | None:
        """Return our name for a foreign key, or `None` where no rule knows it."""
        for rule in self.rules:
            if match := re.fullmatch(rule.pattern, key):
                return rule.name(match)
        return None

    def dropped(self, key: str) -> bool:
        """Tell whether a foreign key is left out on purpose."""
        return any(re.fullmatch(pattern, key) for pattern in self.drops)

    def shape(self, foreign: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape a foreign tensor has in our order of axes."""
        return tuple(foreign[axis] for axis in self.axes) if len(foreign) == len(self.axes) else foreign

    def arrange(self, foreign: np.ndarray) -> np.ndarray:
        """Return a foreign tensor in our order of axes."""
        return np.transpose(foreign, self.axes) if foreign.ndim == len(self.axes) else foreign


def _convolutions(*depths: int) -> tuple[str, ...]:
    return tuple(f"conv{block}_{i}" for block, depth in enumerate(depths, 1) for i in range(1, depth + 1))


# Configurations E and D of Simonyan and Zisserman (ICLR 2015): convolutions per block.
_VGG19_CONVOLUTIONS = _convolutions(2, 2, 4, 4, 4)
_VGG16_CONVOLUTIONS = _convolutions(2, 2, 3, 3, 3)

_ALEXNET_CONVOLUTIONS = ("conv1", "conv2", "conv3", "conv4", "conv5")

# Positions in the `features` of torchvision's vgg19, vgg16 and alexnet, where ReLUs and pools take places too
# (torchvision/models/vgg.py and alexnet.py).
_VGG19_PLACES = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
_VGG16_PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
_ALEXNET_PLACES = (0, 3, 6, 8, 10)

# Positions in AdaIN's 53-module `vgg`, where every convolution follows its own reflection pad; the 1x1
# convolution at 0 is folded away (naoto0804/pytorch-AdaIN, net.py).
_ADAIN_PLACES = (2, 5, 9, 12, 16, 19, 22, 25, 29, 32, 35, 38, 42, 45, 48, 51)

_CONV_FIELDS = {"weight": "kernel", "bias": "bias"}
_NORM_FIELDS = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "variance"}


def _place_rules(
    prefix: str, places: tuple[int, ...], convolutions: tuple[str, ...] = _VGG19_CONVOLUTIONS
) -> tuple[Rule, ...]:
    names = dict(zip(places, convolutions, strict=True))

    def name(match: re.Match[str]) -> str:
        return f"{names[int(match['place'])]}.{_CONV_FIELDS[match['field']]}"

    places_pattern = "|".join(map(str, places))
    return (Rule(rf"{re.escape(prefix)}(?P<place>{places_pattern})\.(?P<field>weight|bias)", name),)


def _named_rules(convolutions: tuple[str, ...]) -> tuple[Rule, ...]:
    pattern = rf"(?P<convolution>{'|'.join(convolutions)})\.(?P<field>weight|bias)"
    return (Rule(pattern, lambda m: f"{m['convolution']}.{_CONV_FIELDS[m['field']]}"),)


def _block(match: re.Match[str]) -> str:
    """Torchvision's `layer2.0` is `conv3_1` in table 1 of the ResNet paper."""
    return f"conv{int(match['stage']) + 1}_{int(match['block']) + 1}"


def _norm(match: re.Match[str]) -> str:
    return f"norm.{_NORM_FIELDS[match['field']]}"


_IN_BLOCK = r"layer(?P<stage>[1-4])\.(?P<block>\d+)\."
_FIELD = r"\.(?P<field>weight|bias|running_mean|running_var)"

_RESNET_RULES = (
    Rule(r"conv1\.weight", lambda m: "conv1.kernel"),
    Rule(r"bn1" + _FIELD, lambda m: f"conv1.{_norm(m)}"),
    Rule(_IN_BLOCK + r"conv(?P<conv>[1-3])\.weight", lambda m: f"{_block(m)}.conv{m['conv']}.kernel"),
    Rule(_IN_BLOCK + r"bn(?P<conv>[1-3])" + _FIELD, lambda m: f"{_block(m)}.conv{m['conv']}.{_norm(m)}"),
    Rule(_IN_BLOCK + r"downsample\.0\.weight", lambda m: f"{_block(m)}.shortcut.kernel"),
    Rule(_IN_BLOCK + r"downsample\.1" + _FIELD, lambda m: f"{_block(m)}.shortcut.{_norm(m)}"),
)

# The classifier, and the count of batches that trained a batch norm's running statistics.
_RESNET_DROPS = (r"fc\.(weight|bias)", r".*\.num_batches_tracked")


def _unit(match: re.Match[str]) -> str:
    """Torchvision's `BasicConv2d` is a convolution `conv` and its batch norm `bn`."""
    return f"norm.{_NORM_FIELDS[match['field']]}" if match["field"] else "kernel"


def _branch(match: re.Match[str]) -> str:
    """GoogLeNet's branches have their places in a sequence, where the fourth begins with a pool."""
    number, _, place = match["branch"].partition(".")
    branch = f"branch{number}_{int(place) + 1}" if number in ("2", "3") else f"branch{number}"
    return f"{match['block']}.{branch}.{_unit(match)}"


_UNIT = r"\.(?:conv\.weight|bn\.(?P<field>weight|bias|running_mean|running_var))"

_INCEPTION_RULES = (
    Rule(r"(?P<layer>conv[1-3])" + _UNIT, lambda m: f"{m['layer']}.{_unit(m)}"),
    Rule(r"(?P<block>inception\d[a-e])\.branch(?P<branch>1|[23]\.[01]|4\.1)" + _UNIT, _branch),
    Rule(r"Conv2d_(?P<place>\d[ab])_\dx\d" + _UNIT, lambda m: f"conv{m['place']}.{_unit(m)}"),
    Rule(
        r"Mixed_(?P<place>\d[a-e])\.(?P<branch>branch\w+)" + _UNIT,
        lambda m: f"mixed{m['place']}.{m['branch']}.{_unit(m)}",
    ),
)

# The classifiers, auxiliary ones included, and the batch norms' counts.
_INCEPTION_DROPS = (*_RESNET_DROPS, r"aux[12]\..*", r"AuxLogits\..*")


def fold_color_convolution(tensors: Tensors) -> Tensors:
    """Fold AdaIN's first 1x1 convolution into conv1_1, exactly.

    The file's network sees y = A x + c at each pixel, then conv1_1: sum over taps of K y + b. A pointwise map
    commutes with reflection padding (not with zero padding), so conv1_1 of x has

        K'[o, i, h, w] = sum_m K[o, m, h, w] A[m, i]        b'[o] = b[o] + sum_{m, h, w} K[o, m, h, w] c[m].

    A and c scale to 0..255, swap RGB to BGR and subtract Caffe's mean, so the folded network takes RGB in
    [0, 1].
    """
    mix, shift = tensors["0.weight"][:, :, 0, 0].astype(np.float64), tensors["0.bias"].astype(np.float64)
    kernel, bias = tensors["2.weight"].astype(np.float64), tensors["2.bias"].astype(np.float64)
    folded = dict(tensors)
    del folded["0.weight"], folded["0.bias"]
    folded["2.weight"] = np.einsum("omhw,mi->oihw", kernel, mix).astype(np.float32)
    folded["2.bias"] = (bias + np.einsum("omhw,m->o", kernel, shift)).astype(np.float32)
    return folded


NATIVE = Layout(
    "native",
    "",
    (r"conv\d\S*\.kernel",),
    (Rule(rf"(conv|inception|mixed)\d\S*(?<!{re.escape(MEAN_ACTIVATION)})", lambda m: m[0]),),
    (rf".*{re.escape(MEAN_ACTIVATION)}",),
    normalization=None,
    axes=(0, 1, 2, 3),
)
"""Our own files: names and layout as they are."""

_TIMM_VGG = Layout(
    "timm",
    "vgg",
    (r"features\.0\.weight", r"pre_logits\.fc1\.weight"),
    _place_rules("features.", _VGG19_PLACES),
    (r"(pre_logits|head)\..*",),
)
_TORCHVISION_VGG = Layout(
    "torchvision",
    "vgg",
    (r"features\.0\.weight",),
    _place_rules("features.", _VGG19_PLACES),
    (r"classifier\..*",),
)
_VGG16_RULES = _place_rules("features.", _VGG16_PLACES, _VGG16_CONVOLUTIONS)
_TIMM_VGG16 = dataclasses.replace(_TIMM_VGG, family="vgg16", rules=_VGG16_RULES)
_TORCHVISION_VGG16 = dataclasses.replace(_TORCHVISION_VGG, family="vgg16", rules=_VGG16_RULES)
_TORCHVISION_ALEXNET = dataclasses.replace(
    _TORCHVISION_VGG,
    family="alexnet",
    rules=_place_rules("features.", _ALEXNET_PLACES, _ALEXNET_CONVOLUTIONS),
)
_ADAIN = Layout(
    "adain",
    "vgg",
    (r"0\.weight", r"0\.bias", r"2\.weight", r"2\.bias"),
    _place_rules("", _ADAIN_PLACES),
    normalization="none",
    padding="reflect",
    folded=(("0.weight", (3, 3, 1, 1)), ("0.bias", (3,))),
    prepare=fold_color_convolution,
)
# `vgg_conv.pth` of leongatys/PytorchNeuralStyleTransfer: Caffe's names, and the original's numbers.
_GATYS = Layout(
    "gatys",
    "vgg",
    (r"conv1_1\.weight",),
    _named_rules(_VGG19_CONVOLUTIONS),
    (r"fc[678]\.(weight|bias)",),
    normalization="caffe",
)
_GATYS_VGG16 = dataclasses.replace(_GATYS, family="vgg16", rules=_named_rules(_VGG16_CONVOLUTIONS))
_TORCHVISION_RESNET = Layout(
    "torchvision", "resnet", (r"conv1\.weight", r"layer1\.0\.conv1\.weight"), _RESNET_RULES, _RESNET_DROPS
)
# timm renamed nothing in its ResNets, so "auto" calls these files "torchvision".
_TIMM_RESNET = Layout("timm", "resnet", _TORCHVISION_RESNET.signature, _RESNET_RULES, _RESNET_DROPS)

_TORCHVISION_INCEPTION = Layout(
    "torchvision",
    "inception",
    (r"(inception3a|Mixed_5b)\..*\.conv\.weight",),
    _INCEPTION_RULES,
    _INCEPTION_DROPS,
    normalization="inception",
)

# Two layouts' signatures may both fit a file; the first in this order is taken.
LAYOUTS = (
    *(_TIMM_VGG, _TORCHVISION_VGG, _TIMM_VGG16, _TORCHVISION_VGG16, _TORCHVISION_ALEXNET, _ADAIN),
    *(_GATYS, _GATYS_VGG16),
    *(_TORCHVISION_RESNET, _TIMM_RESNET, _TORCHVISION_INCEPTION, NATIVE),
)
"""Every layout, the most specific first."""

LAYOUT_NAMES = ("auto", *dict.fromkeys(layout.name for layout in LAYOUTS))
"""What the command line accepts."""


_FAMILIES = {
    "vgg19": "vgg",
    "vgg16": "vgg16",
    "alexnet": "alexnet",
    **dict.fromkeys(("resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50_2"), "resnet"),
    **dict.fromkeys(("googlenet", "inception_v3"), "inception"),
}
"""The family of each network that other projects publish; those without one have files of our own only."""


def find_layout(shapes: Shapes, *, backbone: str, name: str = "auto", where: object = "the file") -> Layout:
    """Find the layout of a checkpoint for a network of ours.

    Args:
        shapes: The shape of every tensor of the checkpoint, by its own keys.
        backbone: The network to be filled.
        name: One of `LAYOUT_NAMES`; `auto` tells by the keys.
        where: What to call the checkpoint in messages.

    Raises:
        UserError: If the name is unknown, no layout fits, or the checkpoint is of another network.
    """
    check_name(name, LAYOUT_NAMES, what="layout")
    family = _FAMILIES.get(backbone)
    looks = looks_like(shapes)
    fitting = [layout for layout in LAYOUTS if layout.family in (family, "") and layout.fits(shapes)]
    chosen = [layout for layout in fitting if name in ("auto", layout.name)]
    likely = (looks or backbone).split(" or ")
    if not {backbone, family} & set(likely) or not chosen:
        keys = ", ".join(list(shapes)[:3])
        raise error(
            f"{where} must hold weights of {backbone} in {_asked(name, family)}",
            got=f"what looks like a checkpoint of {looks}" if looks else f"keys such as {keys}",
            cure=_cure(looks, backbone, fitting),
        )
    return chosen[0]


def _asked(name: str, family: str | None) -> str:
    known = list(dict.fromkeys(layout.name for layout in LAYOUTS if layout.family in (family, "")))
    if name != "auto" or len(known) == 1:
        return f"layout {known[0] if name == 'auto' else name}"
    return f"one of the layouts {', '.join(known)}"


def _cure(looks: str | None, backbone: str, fitting: Iterable[Layout]) -> str:
    if looks != backbone and looks in _FAMILIES:
        return f"pass --backbone {looks}, or a checkpoint of {backbone}"
    names = " or ".join(dict.fromkeys(layout.name for layout in fitting))
    fits = backbone in (looks or backbone).split(" or ")
    return f"pass --layout {names}" if names and fits else f"pass a checkpoint of {backbone}"


def looks_like(shapes: Shapes) -> str | None:
    """Name the network that a checkpoint seems to come from, for a helpful message; `None` where unknown.

    Example:
        >>> looks_like({"conv1.weight": (64, 3, 7, 7), "layer1.0.conv1.weight": (64, 64, 3, 3)})
        'resnet of another depth'
    """
    for pattern, name in _LOOKS:
        if any(re.fullmatch(pattern, key) for key in shapes):
            return name(shapes)
    return None


def _resnet(shapes: Shapes) -> str:
    blocks = len([key for key in shapes if re.fullmatch(r"layer3\.\d+\.conv2\.weight", key)])
    if "layer1.0.conv3.weight" not in shapes:
        return _BASIC_RESNETS.get(blocks, "resnet of another depth")
    width, group = shapes["layer1.0.conv2.weight"][:2]
    if group != width:
        return "resnext"
    return _RESNETS.get((blocks, width), "resnet")


# Blocks in the third stage: torchvision/models/resnet.py.
_BASIC_RESNETS = {2: "resnet18", 6: "resnet34"}

# (blocks in the third stage, channels of the first 3x3 convolution): the same, of bottleneck blocks.
_RESNETS = {
    (6, 64): "resnet50",
    (23, 64): "resnet101",
    (36, 64): "resnet152",
    (6, 128): "wide_resnet50_2",
    (23, 128): "wide_resnet101_2",
}


def _vgg(shapes: Shapes) -> str:
    places = {int(m[1]) for key in shapes if (m := re.fullmatch(r"features\.(\d+)\.weight", key))}
    if shapes["features.0.weight"][2:] == (11, 11):
        return "alexnet"
    if "features.1.running_mean" in shapes:
        return "vgg with batch norm"
    depths = {"vgg16": _VGG16_PLACES, "vgg19": _VGG19_PLACES}
    return " or ".join(name for name, known in depths.items() if places <= set(known)) or "vgg of another depth"


def _vgg_by(field: str) -> Callable[[Shapes], str]:
    """Tell by the fourth convolution of block 3, which a checkpoint that ends before it leaves open."""

    def name(shapes: Shapes) -> str:
        if f"conv3_4.{field}" in shapes:
            return "vgg19"
        return "vgg16" if f"conv4_1.{field}" in shapes else "vgg16 or vgg19"

    return name


def _named(name: str) -> Callable[[Shapes], str]:
    return lambda shapes: name


_LOOKS: tuple[tuple[str, Callable[[Shapes], str]], ...] = (
    (r"layer1\.0\.conv1\.weight", _resnet),
    (r"conv1_1\.kernel", _vgg_by("kernel")),
    (r"conv1_1\.weight", _vgg_by("weight")),
    (r"conv5\.kernel", _named("alexnet")),
    (r"features\.0\.weight", _vgg),
    (r"features\.denseblock1\..*", _named("densenet")),
    (r"inception3a\..*", _named("googlenet")),
    (r"(Mixed_5b|mixed5b)\..*", _named("inception_v3")),
    (r"cls_token|blocks\.0\.attn\.qkv\.weight", _named("vision transformer")),
    (r"unet\..*|model\.diffusion_model\..*", _named("diffusion model")),
)
