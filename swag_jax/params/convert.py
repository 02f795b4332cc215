"""Foreign checkpoints to our parameters: strict both ways, with every failure in one report.

Every parameter that is needed must come out, and every key that goes in must be used or dropped. The layout that
`read_fitting` is given knows the names of networks or generators. A network's file may end before the network does
(our own VGG19 ends at conv5_1), but has no gaps.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from swag_jax._checks import error, misfits_error
from swag_jax._limits import read_json
from swag_jax.params import originals
from swag_jax.params._files import file_sha256
from swag_jax.params.checkpoint_file import checkpoint_shapes, is_safetensors, tensors_sha256, usable_floats
from swag_jax.params.layouts import NATIVE, Layout, find_layout, is_known
from swag_jax.params.prefixes import shared_prefixes, without_prefix
from swag_jax.params.safetensors_file import read_metadata
from swag_jax.params.tree import Shapes, Tensors, depth_of, layer_of, misfits

CONVERTER_VERSION = "1"
"""Grows when the same checkpoint would convert to other numbers."""


@dataclass(frozen=True)
class Converted:
    """A checkpoint in our names and layout: kernels are (height, width, in, out), all float32."""

    tensors: Tensors
    metadata: dict[str, str]


@dataclass(frozen=True)
class Setup:
    """How a checkpoint is laid out, and what it asks of its network; `None` is the network's default normalization.

    Attributes:
        deepest_layer: The last layer, such as `conv5_1`, that the checkpoint reaches.
        told_by: What the normalization is known by, in words.
        swaps_colors: Whether the first kernel takes red first, but the normalization has blue first.
    """

    layout: str
    normalization: str | None
    padding: str
    architecture: Mapping[str, Any]
    deepest_layer: str
    told_by: str = ""
    swaps_colors: bool = False

    def describe_input(self) -> str:
        """Say in a few words what the network reads; nothing if that is the network's default."""
        told_by = f" ({self.told_by})" if self.told_by else ""
        return f"input {self.normalization}{told_by}" if self.normalization is not None else ""


@dataclass(frozen=True)
class Part:
    """A file of a checkpoint; `shapes` are by its keys without the prefix that stands in front of all of them."""

    source: Path
    prefix: str
    shapes: Shapes


@dataclass(frozen=True)
class _Checkpoint:
    """A network's file, its layout, and what a file of our own says about itself (empty for others)."""

    file: Part
    layout: Layout
    ours: dict[str, str]


def convert(
    source: Path,
    backbone: str,
    expected: Shapes,
    *,
    layout: str = "auto",
    architecture: Mapping[str, Any] | None = None,
    normalization: str = "auto",
) -> Converted:
    """Read a network's checkpoint and bring it into our names and layout.

    Args:
        source: A safetensors or PyTorch file.
        expected: The shape of every parameter of the whole network by flat name.
        layout: How the file lays out its weights; `auto` tells by its keys.
        architecture: How its network differs from the zoo's of that name; default: what a file of our own says.
        normalization: How images become the network's input, if that is known better than by `auto`: by the layout,
            and for the original VGGs by their numbers (`swag_jax.params.originals`).

    Returns:
        The tensors by flat name, float32, and what the store records about them.
    """
    found = _recognized(source, backbone, layout)
    sha256 = file_sha256(source)
    setup = _setup(found, normalization, sha256)
    tensors = _read_network(found, backbone, _reached(found, expected), setup)
    # Later entries win: what a file of our own says over its layout, and what is known now over both.
    read = {} if setup.normalization is None else {"normalization": setup.normalization, "told_by": setup.told_by}
    metadata = {
        "source_name": source.name,
        "source_sha256": sha256,
        "layout": setup.layout,
        **found.ours,
        "backbone": backbone,
        **read,
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
    """Return how a checkpoint is laid out and what it asks of its network, from its keys and its first convolution.

    The original VGGs are known by the `sha256` of their file, too.
    """
    return _setup(_recognized(source, backbone, layout), normalization, sha256)


def read_parameters(
    source: Path,
    backbone: str,
    expected: Shapes,
    *,
    layout: str = "auto",
    normalization: str = "auto",
    whole: bool = True,
) -> Tensors:
    """Read a network's tensors in our names and layout: float32 arrays by flat name.

    Shapes are expected of the whole network or down to some layer. If read `whole`, the file may end early, and layers
    beyond are misfits; otherwise it must reach the end, and what lies deeper is not read.
    """
    found = _recognized(source, backbone, layout)
    setup = _setup(found, normalization)
    if whole:
        expected = _reached(found, expected)
    else:
        # What lies deeper than all that is expected is not read.
        end, rename = max(map(depth_of, expected)), found.layout.rename
        shapes = {key: shape for key, shape in found.file.shapes.items() if depth_of(rename(key) or "") <= end}
        found = replace(found, file=replace(found.file, shapes=shapes))
    return _read_network(found, backbone, expected, setup)


def read_fitting(parts: Sequence[Part], layout: Layout, expected: Shapes, *, rule: str) -> Tensors:
    """Read the tensors of one checkpoint in our names and layout: all that are expected, and no others.

    The `rule` is what an error says that must hold, such as `x.pth must fit vgg19`; it lists every misfit.
    """
    plan, wrong = _homes(parts, layout)
    shapes = {name: layout.shape(part.shapes[key]) for name, (part, key) in plan.items()}
    wrong += misfits(shapes, expected)
    foreign: Tensors = {}
    for part in parts:
        # What has another shape is not read: it could have any size.
        keys = [key for name, (home, key) in plan.items() if home is part and shapes[name] == expected.get(name)]
        keys += [key for key, shape in layout.folded.items() if part.shapes.get(key) == shape]
        floats, unusable = usable_floats(part.source, keys, prefix=part.prefix)
        foreign |= floats
        wrong += unusable
    if wrong:
        raise misfits_error(rule, wrong)
    foreign = layout.prepare(foreign)
    return {name: layout.arrange(foreign[key]) for name, (_, key) in plan.items()}


def _homes(parts: Sequence[Part], layout: Layout) -> tuple[dict[str, tuple[Part, str]], list[str]]:
    plan: dict[str, tuple[Part, str]] = {}
    wrong = []
    for part in parts:
        for key, shape in part.shapes.items():
            name = layout.rename(key)
            if name in plan:
                wrong.append(f"{name} is in {plan[name][0].source.name} and in {part.source.name}")
            elif name is not None:
                plan[name] = part, key
            elif shape != layout.folded.get(key, shape):
                wrong.append(f"{key} has shape {shape}, expected {layout.folded[key]}")
            elif not layout.dropped(key) and key not in layout.folded:
                wrong.append(f"unexpected {key}")
    return plan, wrong


def _read_network(found: _Checkpoint, backbone: str, expected: Shapes, setup: Setup) -> Tensors:
    rule = f"{found.file.source} must fit {backbone} (read in the {setup.layout} layout)"
    tensors = read_fitting([found.file], found.layout, expected, rule=rule)
    if setup.swaps_colors:
        tensors[_FIRST[0]] = np.ascontiguousarray(tensors[_FIRST[0]][:, :, ::-1])
    return tensors


def _reached(found: _Checkpoint, expected: Shapes) -> Shapes:
    """Return what is expected down to the file's last layer; all of it for a file that has none of it."""
    present = set(map(found.layout.rename, found.file.shapes))
    end = max(map(depth_of, [name for name in expected if name in present] or expected))
    return {name: shape for name, shape in expected.items() if depth_of(name) <= end}


def _recognized(source: Path, backbone: str, layout: str) -> _Checkpoint:
    file = open_part(source, is_known)
    found = find_layout(file.shapes, backbone=backbone, name=layout, where=source)
    # Networks may share all names and shapes: a file of our own that names another one is refused by that name.
    ours = read_metadata(source) if found.name == NATIVE.name and is_safetensors(source) else {}
    named = ours.get("backbone", backbone)
    if named != backbone:
        cure = f"pass --backbone {named}, or a checkpoint of {backbone}"
        raise error(f"{source} must hold weights of {backbone}", got=f"a file that names {named}", cure=cure)
    return _Checkpoint(file, found, ours)


def open_part(source: Path, accepts: Callable[[Shapes], object]) -> Part:
    """Return a file's shapes without the shortest prefix that leaves known keys; with all of it if none does."""
    shapes = checkpoint_shapes(source)
    parts = (Part(source, prefix, without_prefix(shapes, prefix)) for prefix in shared_prefixes(shapes))
    return next((part for part in parts if accepts(part.shapes)), Part(source, "", shapes))


def _setup(found: _Checkpoint, asked: str, sha256: str | None = None) -> Setup:
    normalization, told_by, swaps_colors = _input(found, asked, sha256)
    names = filter(None, map(found.layout.rename, found.file.shapes))
    return Setup(
        found.layout.name,
        normalization,
        found.ours.get("padding", found.layout.padding),
        architecture_of(found.file.source, found.ours),
        layer_of(max(names, key=depth_of)),
        told_by,
        swaps_colors,
    )


_FIRST = ("conv1_1.kernel", "conv1_1.bias")  # the first convolution of a VGG, its shapes in our order of axes

_FIRST_SHAPES = [(3, 3, 3, 64), (64,)]

_OPEN = ("imagenet", "caffe", None)  # normalizations that a layout stands for without being bound to them


def _input(found: _Checkpoint, asked: str, sha256: str | None) -> tuple[str | None, str, bool]:
    """Tell what the network reads (asked for, recorded, or told by its numbers), by what, and if colors are swapped."""
    ours = found.ours
    recorded = ours.get("normalization", found.layout.normalization)
    if asked != "auto":
        if recorded not in _OPEN:
            rule = f"the input of {found.file.source} is known to be {recorded}"
            raise error(rule, got=f"a demand for {asked}", cure="leave the input out")
        return asked, "asked for", asked == "caffe" and _first_convolution(found)[1]
    # Files of 0.1.0 say `imagenet` of an original too, and not what that was told by.
    if "told_by" in ours or ours.get("normalization", "imagenet") != "imagenet":
        return recorded, ours.get("told_by", ""), False
    original, is_rgb = _first_convolution(found)
    if original is not None:
        swapped = ", red and blue exchanged" if is_rgb else ""
        return "caffe", f"the original {original.name}, by its first convolution{swapped}", is_rgb
    if sha256 is not None and (published := originals.of_file(sha256)):
        return "caffe", f"the original {published.name}, by its sha256", False
    return recorded, "", False


def _first_convolution(found: _Checkpoint) -> tuple[originals.Original | None, bool]:
    """Tell which original VGG a checkpoint is, if any and if it is not folded, and whether it reads RGB."""
    file, layout = found.file, found.layout
    by_name = {layout.rename(key): key for key in file.shapes}
    keys = [by_name[name] for name in _FIRST if name in by_name]
    if layout.folded or [layout.shape(file.shapes[key]) for key in keys] != _FIRST_SHAPES:
        return None, False
    floats, unusable = usable_floats(file.source, keys, prefix=file.prefix)
    if unusable:
        return None, False
    kernel, bias = (layout.arrange(floats[key]) for key in keys)
    return originals.recognize(kernel.transpose(3, 2, 0, 1), bias) or (None, False)


def architecture_of(source: Path, facts: Mapping[str, str]) -> dict[str, Any]:
    """Return what the metadata of a file of our own says that its network differs in, such as `{"version": "v1"}`."""
    written = facts.get("architecture", "{}")
    try:
        architecture = read_json(written)
    except ValueError:
        architecture = None
    if not isinstance(architecture, dict):
        raise error(f"{source} must name its architecture as a JSON object", got=written[:40], cure="convert it again")
    return {switch: tuple(value) if isinstance(value, list) else value for switch, value in architecture.items()}
