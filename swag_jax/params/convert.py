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
from swag_jax.params._files import check_file, file_sha256
from swag_jax.params.layouts import NATIVE, Layout, Shapes, Tensors, find_layout
from swag_jax.params.quantize import companion_keys, decode
from swag_jax.params.safetensors_file import read_metadata, read_safetensors, safetensors_shapes, safetensors_types
from swag_jax.params.torch_file import read_torch, torch_shapes

CONVERTER_VERSION = "1"
"""Grows when the same checkpoint would convert to other numbers."""


@dataclass(frozen=True)
class Converted:
    """A checkpoint in our names and layout.

    Attributes:
        tensors: float32 arrays by flat name; kernels in (height, width, in, out) order.
        metadata: Where they come from and how the network must be set up: `backbone`, `layout`, `normalization`,
            `padding`, `architecture`, `deepest_layer`, `source_name`, `source_sha256`, `converter_version` and
            `tensors_sha256`.
    """

    tensors: Tensors
    metadata: dict[str, str]


@dataclass(frozen=True)
class Setup:
    """How a checkpoint is laid out, and what it asks of its network.

    Attributes:
        layout: The layout's name.
        normalization: How pictures in [0, 1] become the network's input; `None` for what is the network's default.
        padding: What convolutions see beyond the edge.
        architecture: What the network differs in from the zoo's of its name, such as `{"version": "v1"}`.
        deepest_layer: The last layer, such as `conv5_1`, that the checkpoint reaches.
    """

    layout: str
    normalization: str | None
    padding: str
    architecture: Mapping[str, Any]
    deepest_layer: str


def convert(
    source: Path,
    backbone: str,
    expected: Shapes,
    *,
    layout: str = "auto",
    architecture: Mapping[str, Any] | None = None,
) -> Converted:
    """Read a checkpoint and bring it into our names and layout.

    Args:
        source: A safetensors or PyTorch file.
        backbone: The network it is for.
        expected: The shape of every parameter of the whole network by flat name.
        layout: How the file lays out its weights; `auto` tells by its keys.
        architecture: What its network differs in from the zoo's of that name, such as `{"version": "v1"}`; default:
            what a file of our own says, else nothing.

    Returns:
        The tensors by flat name, float32, and what the store records about them.

    Raises:
        UserError: If the file cannot be read or does not fit; one line for every misfit.
    """
    tensors = read_parameters(source, backbone, expected, layout=layout)
    setup = inspect(source, backbone, layout=layout)
    origin = {"source_name": source.name, "source_sha256": file_sha256(source)}
    origin |= _said(source, setup.layout)
    metadata = {
        **origin,
        "backbone": backbone,
        "layout": origin.get("layout", setup.layout),
        **({} if setup.normalization is None else {"normalization": setup.normalization}),
        "padding": setup.padding,
        "architecture": json.dumps(dict(setup.architecture if architecture is None else architecture)),
        "deepest_layer": setup.deepest_layer,
        "converter_version": CONVERTER_VERSION,
        "tensors_sha256": tensors_sha256(tensors),
    }
    return Converted(tensors, metadata)


def inspect(source: Path, backbone: str, *, layout: str = "auto") -> Setup:
    """Tell how a checkpoint is laid out and what it asks of its network, from its keys alone.

    Args:
        source: A safetensors or PyTorch file.
        backbone: The network it is for.
        layout: How the file lays out its weights; `auto` tells by its keys.

    Returns:
        What the checkpoint asks of its network.

    Raises:
        UserError: If the file cannot be read or is of another network.
    """
    shapes, found, ours = _recognized(source, backbone, layout)
    names = [name for key in shapes if (name := found.rename(key)) is not None]
    return Setup(
        found.name,
        ours.get("normalization", found.normalization),
        ours.get("padding", found.padding),
        _architecture(source, ours),
        layer_of(max(names, key=depth_of)),
    )


def read_parameters(
    source: Path, backbone: str, expected: Shapes, *, layout: str = "auto", whole: bool = True
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
    shapes, found, _ = _recognized(source, backbone, layout)
    plan, misfits = _plan(found, shapes, expected, whole=whole)
    foreign, unusable = usable_floats(source, [*plan, *dict(found.folded)])
    if misfits or unusable:
        raise _report(source, backbone, found, misfits + unusable)
    prepared = found.prepare(foreign)
    return {name: np.ascontiguousarray(found.arrange(prepared[key])) for key, name in plan.items()}


def _recognized(source: Path, backbone: str, layout: str) -> tuple[Shapes, Layout, dict[str, str]]:
    """Return a checkpoint's shapes and layout, and what a file of our own says about itself.

    Networks may share all names and shapes, so that a file of our own that names another one is refused by that name.
    """
    shapes = checkpoint_shapes(source)
    found = find_layout(shapes, backbone=backbone, name=layout, where=source)
    ours = _said(source, found.name)
    named = ours.get("backbone", backbone)
    if named != backbone:
        cure = f"pass --backbone {named}, or a checkpoint of {backbone}"
        raise error(f"{source} must hold weights of {backbone}", got=f"a file that names {named}", cure=cure)
    return shapes, found, ours


def _said(source: Path, layout: str) -> dict[str, str]:
    """Return the metadata of a file of our own; empty for others."""
    return read_metadata(source) if layout == NATIVE.name and _is_safetensors(source) else {}


def _architecture(source: Path, ours: Mapping[str, str]) -> dict[str, Any]:
    """Return what a file of our own says that its network differs in."""
    written = ours.get("architecture", "{}")
    try:
        architecture = json.loads(written)
    except (ValueError, RecursionError):
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
    if not _is_safetensors(source):
        return torch_shapes(source)
    companions = _companion_keys(source).values()
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


def _is_safetensors(source: Path) -> bool:
    # By content, since users rename files: a safetensors file is a 64-bit length and then a JSON object.
    with check_file(source).open("rb") as file:
        return file.read(9)[8:] == b"{" or source.suffix == ".safetensors"


def _companion_keys(source: Path) -> dict[str, str]:
    """Return the key of its steps or its table for each 8-bit tensor of a safetensors file."""
    names = {"I8": "int8", "U8": "uint8"}
    return companion_keys({key: names.get(kind, kind) for key, kind in safetensors_types(source).items()})


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
    """Read tensors, 8-bit ones decoded, and list those that cannot be."""
    if not _is_safetensors(source):
        return read_torch(source, names=keys), []
    companions = [companion for key, companion in _companion_keys(source).items() if key in keys]
    return decode(read_safetensors(source, names=[*keys, *companions]))


def usable_floats(source: Path, keys: Collection[str]) -> tuple[Tensors, list[str]]:
    """Read tensors as float32, and list those that are not finite floating-point numbers.

    Args:
        source: A safetensors or PyTorch file.
        keys: Which of its tensors.

    Returns:
        Arrays by the file's own keys, and one line for each that cannot be used.

    Raises:
        UserError: If the file cannot be read.
    """
    values, unusable = _read(source, keys)
    floats = {}
    for key, value in values.items():
        if value.dtype.kind != "f" and value.dtype.name != "bfloat16":
            unusable.append(f"{key} holds {value.dtype} numbers, expected floating-point ones")
        # Numbers beyond float32 become infinite here, and are counted as such.
        with np.errstate(over="ignore"):
            floats[key] = value.astype(np.float32)
        if bad := np.count_nonzero(~np.isfinite(floats[key])):
            unusable.append(f"{key} holds {bad} NaN or infinite values")
    return floats, unusable


def _report(source: Path, backbone: str, layout: Layout, misfits: list[str]) -> UserError:
    return misfits_error(f"{source} must fit {backbone} (read in the {layout.name} layout)", misfits)
