"""Foreign checkpoints to our parameters: strict both ways, with every failure in one report.

Every name the network needs must come out, and every key that goes in must be used or dropped by a rule. A
file may end before the network does (our own VGG19 ends at conv5_1), but has no gaps. A safetensors file may hold
tensors in 8 bits (`swag_jax.params.quantize`); here they are floating-point ones.
"""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from swag_jax._checks import UserError, error, misfits_error
from swag_jax._limits import read_json
from swag_jax.params import originals
from swag_jax.params._files import check_file, file_sha256
from swag_jax.params.layouts import NATIVE, Layout, Shapes, Tensors, find_layout, looks_like
from swag_jax.params.prefixes import shared_prefixes, without_prefix
from swag_jax.params.quantize import companion_keys, decode
from swag_jax.params.safetensors_file import (
    is_read,
    read_metadata,
    read_safetensors,
    safetensors_shapes,
    safetensors_types,
)
from swag_jax.params.torch_file import read_torch, torch_shapes

CONVERTER_VERSION = "1"
"""Grows when the same checkpoint would convert to other numbers."""


@dataclass(frozen=True)
class Converted:
    """A checkpoint in our names and layout.

    Attributes:
        tensors: float32 arrays by flat name; kernels in (height, width, in, out) order.
        metadata: Where they come from and how the network must be set up: `backbone`, `layout`, `normalization`,
            `told_by`, `padding`, `architecture`, `deepest_layer`, `source_name`, `source_sha256`, `converter_version`
            and `tensors_sha256`.
    """

    tensors: Tensors
    metadata: dict[str, str]


@dataclass(frozen=True)
class Setup:
    """How a checkpoint is laid out, and what it asks of its network.

    Attributes:
        layout: The layout's name.
        normalization: How images in [0, 1] become the network's input; `None` for what is the network's default.
        padding: What convolutions see beyond the edge.
        architecture: What the network differs in from the zoo's of its name, such as `{"version": "v1"}`.
        deepest_layer: The last layer, such as `conv5_1`, that the checkpoint reaches.
        told_by: What the normalization is known by, in words.
    """

    layout: str
    normalization: str | None
    padding: str
    architecture: Mapping[str, Any]
    deepest_layer: str
    told_by: str = ""

    def describe_input(self) -> str:
        """Say in a few words what the network reads; nothing where that is the network's default.

        Example:
            >>> Setup("torchvision", "caffe", "zeros", {}, "conv5_4", told_by="asked for").describe_input()
            'input caffe (asked for)'
        """
        if self.normalization is None:
            return ""
        return f"input {self.normalization}" + (f" ({self.told_by})" if self.told_by else "")


@dataclass(frozen=True)
class _Checkpoint:
    """A file whose layout is known.

    Attributes:
        source: The file.
        shapes: The shape of every tensor, by its own key without the prefix.
        layout: How it lays out its weights.
        ours: What a file of our own says about itself; empty for others.
        prefix: What stands in front of all its keys.
    """

    source: Path
    shapes: Shapes
    layout: Layout
    ours: dict[str, str]
    prefix: str


@dataclass(frozen=True)
class _Input:
    """What a checkpoint's network reads.

    Attributes:
        normalization: How images in [0, 1] become its input; `None` for what is the network's default.
        told_by: What that is known by, in words.
        is_turned: Whether the first kernel takes red first where the normalization has blue first.
    """

    normalization: str | None
    told_by: str
    is_turned: bool = False


def convert(
    source: Path,
    backbone: str,
    expected: Shapes,
    *,
    layout: str = "auto",
    architecture: Mapping[str, Any] | None = None,
    normalization: str = "auto",
) -> Converted:
    """Read a checkpoint and bring it into our names and layout.

    Args:
        source: A safetensors or PyTorch file.
        backbone: The network it is for.
        expected: The shape of every parameter of the whole network by flat name.
        layout: How the file lays out its weights; `auto` tells by its keys.
        architecture: What its network differs in from the zoo's of that name, such as `{"version": "v1"}`; default:
            what a file of our own says, else nothing.
        normalization: How images become the network's input, where that is known better than by `auto`: by the
            layout, but for the original VGGs, which are told by their numbers (`swag_jax.params.originals`).

    Returns:
        The tensors by flat name, float32, and what the store records about them.

    Raises:
        UserError: If the file cannot be read or does not fit; one line for every misfit.
    """
    tensors = read_parameters(source, backbone, expected, layout=layout, normalization=normalization)
    sha256 = file_sha256(source)
    setup = inspect(source, backbone, layout=layout, normalization=normalization, sha256=sha256)
    origin = {"source_name": source.name, "source_sha256": sha256}
    origin |= _said(source, setup.layout)
    metadata = {
        **origin,
        "backbone": backbone,
        "layout": origin.get("layout", setup.layout),
        **({} if setup.normalization is None else {"normalization": setup.normalization, "told_by": setup.told_by}),
        "padding": setup.padding,
        "architecture": json.dumps(dict(setup.architecture if architecture is None else architecture)),
        "deepest_layer": setup.deepest_layer,
        "converter_version": CONVERTER_VERSION,
        "tensors_sha256": tensors_sha256(tensors),
    }
    return Converted(tensors, metadata)


def inspect(
    source: Path, backbone: str, *, layout: str = "auto", normalization: str = "auto", sha256: str | None = None
) -> Setup:
    """Tell how a checkpoint is laid out and what it asks of its network, from its keys and its first convolution.

    Args:
        source: A safetensors or PyTorch file.
        backbone: The network it is for.
        layout: How the file lays out its weights; `auto` tells by its keys.
        sha256: Of the file, where it is known; files of the original VGGs are known by it too.

    Returns:
        What the checkpoint asks of its network.

    Raises:
        UserError: If the file cannot be read or is of another network.
    """
    found = _recognized(source, backbone, layout)
    names = [name for key in found.shapes if (name := found.layout.rename(key)) is not None]
    taken = _input(found, normalization, sha256)
    return Setup(
        found.layout.name,
        taken.normalization,
        found.ours.get("padding", found.layout.padding),
        architecture_of(source, found.ours),
        layer_of(max(names, key=depth_of)),
        taken.told_by,
    )


def read_parameters(
    source: Path,
    backbone: str,
    expected: Shapes,
    *,
    layout: str = "auto",
    normalization: str = "auto",
    whole: bool = True,
) -> Tensors:
    """Read a checkpoint's tensors in our names and layout.

    Args:
        source: A safetensors or PyTorch file.
        backbone: The network it is for.
        expected: The shape of every parameter by flat name: of the whole network, or down to some layer.
        layout: How the file lays out its weights; `auto` tells by its keys.
        whole: `True`: the file may end early, and layers beyond `expected` are misfits. `False`: the file
            must reach the end of `expected`, and what lies deeper is not read.

    Returns:
        float32 arrays by flat name.

    Raises:
        UserError: If the file cannot be read or does not fit; one line for every misfit.
    """
    found = _recognized(source, backbone, layout)
    rules = found.layout
    plan, misfits = _plan(rules, found.shapes, expected, whole=whole)
    # What has another shape is not read: it could have any size.
    fitting = [key for key, name in plan.items() if rules.shape(found.shapes[key]) == tuple(expected[name])]
    fitting += [key for key, shape in rules.folded if found.shapes[key] == shape]
    foreign, unusable = usable_floats(source, fitting, prefix=found.prefix)
    if misfits or unusable:
        raise _report(source, backbone, rules, misfits + unusable)
    prepared = rules.prepare(foreign)
    arrays = {name: np.ascontiguousarray(rules.arrange(prepared[key])) for key, name in plan.items()}
    if _input(found, normalization).is_turned:
        arrays[_FIRST[0]] = np.ascontiguousarray(arrays[_FIRST[0]][:, :, ::-1])
    return arrays


_FIRST = ("conv1_1.kernel", "conv1_1.bias")
"""The first convolution of a VGG."""

_FIRST_SHAPE = (3, 3, 3, 64)
"""Of its kernel, in our order of axes."""

_OPEN = ("imagenet", "caffe", None)
"""Normalizations that a layout stands for without being bound to them."""


def _input(found: _Checkpoint, asked: str, sha256: str | None = None) -> _Input:
    """Tell what a checkpoint's network reads: what was asked for, what its file records, or what its numbers say."""
    ours = found.ours
    recorded = ours.get("normalization", found.layout.normalization)
    if asked != "auto" and recorded not in _OPEN:
        rule = f"the input of {found.source} is known to be {recorded}"
        raise error(rule, got=f"a demand for {asked}", cure="leave the input out")
    # Files of 0.1.0 say `imagenet` of an original too, and not what that was told by.
    is_sure = "told_by" in ours or ours.get("normalization", "imagenet") != "imagenet"
    if asked == "auto" and is_sure:
        return _Input(recorded, ours.get("told_by", ""))
    original = _original(found)
    is_turned = original is not None and original.is_rgb
    if asked != "auto":
        return _Input(asked, "asked for", is_turned and asked == "caffe")
    if original is not None:
        turned = ", red and blue exchanged" if is_turned else ""
        return _Input("caffe", f"the original {original.original.name}, by its first convolution{turned}", is_turned)
    if sha256 is not None and (published := originals.of_file(sha256)):
        return _Input("caffe", f"the original {published.name}, by its sha256")
    return _Input(recorded, "")


def _original(found: _Checkpoint) -> originals.Recognized | None:
    """Return which original VGG a checkpoint is; `None` for others, and where the first convolution is made anew."""
    rules = found.layout
    first = {name: key for key in found.shapes if (name := rules.rename(key)) in _FIRST}
    if rules.folded or len(first) < len(_FIRST):
        return None
    kernel, bias = (first[name] for name in _FIRST)
    if rules.shape(found.shapes[kernel]) != _FIRST_SHAPE or found.shapes[bias] != _FIRST_SHAPE[-1:]:
        return None
    floats, unusable = usable_floats(found.source, [kernel, bias], prefix=found.prefix)
    return None if unusable else originals.recognize(rules.arrange(floats[kernel]).transpose(3, 2, 0, 1), floats[bias])


def _recognized(source: Path, backbone: str, layout: str) -> _Checkpoint:
    """Return a checkpoint with its layout, and what a file of our own says about itself.

    Networks may share all names and shapes, so that a file of our own that names another one is refused by that name.
    """
    prefix, shapes, found = _unwrapped(checkpoint_shapes(source), source, backbone, layout)
    ours = _said(source, found.name)
    named = ours.get("backbone", backbone)
    if named != backbone:
        cure = f"pass --backbone {named}, or a checkpoint of {backbone}"
        raise error(f"{source} must hold weights of {backbone}", got=f"a file that names {named}", cure=cure)
    return _Checkpoint(source, shapes, found, ours, prefix)


def _unwrapped(shapes: Shapes, source: Path, backbone: str, layout: str) -> tuple[str, Shapes, Layout]:
    """Find the prefix behind which the keys are those of a known layout, the shapes without it, and the layout."""
    first: UserError | None = None
    for prefix in shared_prefixes(shapes):
        inner = without_prefix(shapes, prefix)
        try:
            return prefix, inner, find_layout(inner, backbone=backbone, name=layout, where=source)
        except UserError as problem:
            if looks_like(inner) is not None:
                raise
            first = first or problem
    assert first is not None  # no prefix is the first
    raise first


def _said(source: Path, layout: str) -> dict[str, str]:
    """Return the metadata of a file of our own; empty for others."""
    return read_metadata(source) if layout == NATIVE.name and is_safetensors(source) else {}


def architecture_of(source: Path, facts: Mapping[str, str]) -> dict[str, Any]:
    """Return what a file of our own says that its network differs in, such as `{"version": "v1"}`.

    Args:
        source: The file.
        facts: Its metadata.

    Raises:
        UserError: If that is no JSON object.
    """
    written = facts.get("architecture", "{}")
    try:
        architecture = read_json(written)
    except ValueError:
        architecture = None
    if not isinstance(architecture, dict):
        raise error(f"{source} must name its architecture as a JSON object", got=written[:40], cure="convert it again")
    return {switch: tuple(value) if isinstance(value, list) else value for switch, value in architecture.items()}


def checkpoint_shapes(source: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a safetensors or PyTorch file, by its own keys.

    Steps and tables of 8-bit tensors are part of these, and have no entries of their own.

    Args:
        source: A safetensors or PyTorch file.

    Raises:
        UserError: If the file cannot be read.
    """
    if not is_safetensors(source):
        return torch_shapes(source)
    companions = _companion_keys(safetensors_types(source)).values()
    return {key: shape for key, shape in safetensors_shapes(source).items() if key not in companions}


def read_floats(source: Path, keys: Collection[str]) -> Tensors:
    """Return tensors of a safetensors or PyTorch file as float32 arrays, by their own keys.

    Args:
        source: The file.
        keys: Which of its tensors.

    Raises:
        UserError: If the file cannot be read, or one of them does not hold finite floating-point numbers.
    """
    floats, unusable = usable_floats(source, keys)
    if unusable:
        raise error(f"{source} must hold finite floating-point numbers", got="; ".join(unusable))
    return floats


def tensors_sha256(tensors: Mapping[str, np.ndarray]) -> str:
    """Return one SHA-256 over all names, shapes and values: the same for the same weights in any file.

    Args:
        tensors: Arrays by flat name.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype.str} {tensors[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(tensors[name]).data)
    return digest.hexdigest()


def layer_of(name: str) -> str:
    """Return the layer of a parameter: `conv2_1` of `conv2_1.conv1.kernel`."""
    return name.split(".", 1)[0]


def depth_of(name: str) -> tuple[int, ...]:
    """Return what sorts parameters and layers from shallow to deep.

    Example:
        >>> depth_of("conv2_1.conv1.kernel"), depth_of("conv3.kernel"), depth_of("inception3b.branch1.kernel")
        ((2, 1), (3,), (3, 2))
    """
    parts = re.findall(r"\d+|(?<=\d)[a-z]", layer_of(name))
    return tuple(int(part) if part.isdigit() else ord(part) - ord("a") + 1 for part in parts)


def is_safetensors(source: Path) -> bool:
    """Tell whether a file is a safetensors file, or is called one; otherwise it should be a PyTorch file.

    Args:
        source: The file.

    Returns:
        Whether it is to be read as a safetensors file.

    Raises:
        UserError: If it is missing, a directory, unreadable or empty.
    """
    # By content, since users rename files: a safetensors file is a 64-bit length and then a JSON object.
    with check_file(source).open("rb") as file:
        return file.read(9)[8:] == b"{" or source.suffix == ".safetensors"


def _companion_keys(types: Mapping[str, str]) -> dict[str, str]:
    """Return the key of its steps or its table for each 8-bit tensor of a safetensors file."""
    names = {"I8": "int8", "U8": "uint8"}
    return companion_keys({key: names.get(kind, kind) for key, kind in types.items()})


def _plan(layout: Layout, shapes: Shapes, expected: Shapes, *, whole: bool) -> tuple[dict[str, str], list[str]]:
    """Decide which foreign key becomes which parameter, and list what does not fit."""
    plan: dict[str, str] = {}
    misfits = []
    end = max(map(depth_of, expected))
    for key, shape in shapes.items():
        name = layout.rename(key)
        if name is not None and name in expected:
            plan[key] = name
            if layout.shape(shape) != tuple(expected[name]):
                misfits.append(f"{name} has shape {layout.shape(shape)}, expected {tuple(expected[name])}")
        elif name is not None and not whole and depth_of(name) > end:
            continue
        elif not layout.dropped(key) and key not in dict(layout.folded):
            misfits.append(f"unexpected {key}")
    misfits += [
        f"{key} has shape {shapes[key]}, expected {shape}" for key, shape in layout.folded if shapes[key] != shape
    ]
    return plan, misfits + _missing(plan.values(), expected, whole=whole)


def _missing(present: Collection[str], expected: Shapes, *, whole: bool) -> list[str]:
    reached = max(map(depth_of, present)) if whole and present else max(map(depth_of, expected))
    return [
        f"missing {name}"
        for name in sorted(expected, key=depth_of)
        if name not in present and depth_of(name) <= reached
    ]


def _read(source: Path, keys: Collection[str]) -> tuple[Tensors, list[str]]:
    """Read tensors, 8-bit ones decoded, and list those that cannot be used."""
    if not is_safetensors(source):
        return read_torch(source, names=keys), []
    types = safetensors_types(source)
    unread = [f"{key} holds {types[key]} numbers, which are not read" for key in keys if not is_read(types[key])]
    known = [key for key in keys if is_read(types[key])]
    companions = [companion for key, companion in _companion_keys(types).items() if key in set(known)]
    decoded, misfits = decode(read_safetensors(source, names=[*known, *companions]))
    return decoded, unread + misfits


def usable_floats(source: Path, keys: Collection[str], *, prefix: str = "") -> tuple[Tensors, list[str]]:
    """Read tensors as float32, and list those that are not finite floating-point numbers.

    Args:
        source: A safetensors or PyTorch file.
        keys: Which of its tensors, without the prefix.
        prefix: What stands in front of their keys in the file.

    Returns:
        Arrays by the file's own keys, and one line for each that cannot be used.

    Raises:
        UserError: If the file cannot be read.
    """
    values, unusable = _read(source, [prefix + key for key in keys])
    floats = {}
    for key, value in without_prefix(values, prefix).items():
        if value.dtype.kind != "f" and value.dtype.name != "bfloat16":
            unusable.append(f"{key} holds {value.dtype} numbers, expected floating-point ones")
            continue
        # Numbers beyond float32 become infinite here, and are counted as such.
        with np.errstate(over="ignore"):
            floats[key] = value.astype(np.float32)
        if bad := np.count_nonzero(~np.isfinite(floats[key])):
            unusable.append(f"{key} holds {bad} NaN or infinite values")
    return floats, unusable


def _report(source: Path, backbone: str, layout: Layout, misfits: list[str]) -> UserError:
    return misfits_error(f"{source} must fit {backbone} (read in the {layout.name} layout)", misfits)
