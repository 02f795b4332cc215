"""Artifacts to serve: a generator compiled ahead for images of one size, in a file that needs JAX alone to run.

An artifact is a zip file: `program.bin` (`jax.export`), `weights.safetensors` and `about.json`. The program takes the
weights as arguments, in the order that `about.json` lists them, then what `Artifact` is called with.
"""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxtyping import Array, ArrayLike, Float
from safetensors.numpy import load, save

from swag_jax import devices
from swag_jax._checks import check_type, error
from swag_jax._files import write_whole
from swag_jax._limits import JSON_BYTES, read_entry, read_json
from swag_jax.apply.drivers import own_key
from swag_jax.apply.functional import StyleConditioning, paint, read
from swag_jax.apply.stylizer import Stylizer
from swag_jax.images._arrays import as_image

_FORMAT = "1"
_PROGRAM, _WEIGHTS, _ABOUT = "program.bin", "weights.safetensors", "about.json"

Shape = tuple[int, int]
"""Height and width in pixels."""

_FIELDS = {
    "shape": tuple[int, ...],
    "style_shapes": tuple[tuple[int, ...], ...],
    "batch": int,
    "mixed": bool,
    "platforms": tuple[str, ...],
    "weights": tuple[str, ...],
}
"""Of `about.json`, next to its format."""


@dataclass(frozen=True, eq=False)
class Artifact:
    """A loaded artifact.

    Attributes:
        shape: Height and width of the contents.
        style_shapes: Of each style image.
        batch: Contents of one call.
        mixed: Whether it takes a strength below 1.
        platforms: Where it runs, such as `cpu` and `cuda`.
    """

    shape: Shape
    style_shapes: tuple[Shape, ...]
    batch: int
    mixed: bool
    platforms: tuple[str, ...]
    exported: Any
    weights: tuple[Any, ...]

    def __call__(
        self,
        contents: Float[ArrayLike, "batch height width 3"],
        styles: Sequence[Float[ArrayLike, "_ _ 3"]],
        *,
        blend: Sequence[float] = (),
        strength: float = 1.0,
    ) -> Float[Array, "batch height width 3"]:
        """Return the images in [0, 1] of contents and styles in [0, 1], of the artifact's batch and shapes.

        Args:
            blend: Weight of each style; empty: equal weights.
            strength: 1 is all style, 0 the content unstyled.
        """
        wanted = [(self.batch, *self.shape, 3), *((*shape, 3) for shape in self.style_shapes)]
        found = [np.shape(x) for x in (contents, *styles)]
        if found != wanted:
            raise error(f"the artifact takes images of shapes {wanted}", got=found, cure="resize them, or export again")
        if strength != 1 and not self.mixed:
            raise error("the artifact paints at full strength", got=strength, cure="export one with a strength")
        shares = np.asarray(blend or [1.0] * max(len(wanted) - 1, 1), np.float32)
        batch = jnp.stack([as_image(content, "content") for content in jnp.asarray(contents)]).astype(jnp.float32)
        painted = [as_image(style, "style").astype(jnp.float32) for style in styles]
        return self.exported.call(list(self.weights), batch, painted, shares, np.float32(strength))


@devices.moves_arrays
def save_artifact(
    path: Path | str,
    stylizer: Stylizer,
    shape: Shape,
    *,
    style_shapes: Sequence[Shape] = (),
    batch: int = 1,
    mixed: bool = False,
    seed: int = 0,
    platforms: Sequence[str] | None = None,
) -> None:
    """Export a generator for contents and styles of given sizes.

    Args:
        shape: Height and width of the contents.
        style_shapes: Height and width of each style image; none if the generator reads no styles.
        batch: Contents of one call, all in the same styles.
        mixed: Whether it takes a strength. SANet and AdaAttN then also read the content as a style, at its own size.
        seed: Draws the style positions that attention keeps.
        platforms: Where it will run, such as `["cpu", "cuda"]`; default: here. If `cpu` is one of several, build the
            stylizer with `Compute(kernels="xla")`.

    Raises:
        UserError: If the numbers do not go together, or the file cannot be written.
    """
    if stylizer.reads_styles != bool(style_shapes):
        wanted = "at least one style shape" if stylizer.reads_styles else "no style shapes"
        raise error(f"this generator needs {wanted}", got=len(style_shapes))
    leaves, definition = jax.tree.flatten(stylizer)

    def program(weights, contents, styles, blend, strength):
        whole = jax.tree.unflatten(definition, weights)
        kept = tuple(read(whole, style, key=jax.random.key(seed)) for style in styles)
        conditioning = StyleConditioning(kept, blend, strength)
        return jax.vmap(lambda content: _paint(whole, conditioning, content, mixed=mixed))(contents)

    shapes = _arguments(leaves, shape, style_shapes, batch)
    exported = export.export(jax.jit(program), platforms=platforms)(*shapes)
    about = {
        "format": _FORMAT,
        "shape": shape,
        "style_shapes": list(style_shapes),
        "batch": batch,
        "mixed": mixed,
        "platforms": exported.platforms,
        "weights": [f"{i:04d}" for i in range(len(leaves))],
    }
    tensors = {name: np.asarray(leaf) for name, leaf in zip(about["weights"], leaves, strict=True)}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(_PROGRAM, bytes(exported.serialize()))
        archive.writestr(_WEIGHTS, save(tensors))
        archive.writestr(_ABOUT, json.dumps(about, indent=1))
    write_whole(Path(path), buffer.getvalue())


@devices.moves_arrays
def load_artifact(path: Path | str) -> Artifact:
    """Return what `save_artifact` wrote, to be called with images.

    Raises:
        UserError: If the file is missing, damaged, or no artifact.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            about = read_json(read_entry(archive, _ABOUT, most=JSON_BYTES))
            tensors = load(read_entry(archive, _WEIGHTS))
            exported = export.deserialize(bytearray(read_entry(archive, _PROGRAM)))
        return _checked(about, tensors, exported)
    # Parts that were tampered with raise nearly anything, in zipfile, safetensors and flatbuffers alike.
    except Exception as problem:
        got = " ".join(f"{type(problem).__name__}: {problem}"[:200].split())
        raise error(
            f"{path} must be an artifact that save_artifact wrote", got=f"another file ({got})", cure="export it again"
        ) from problem


def _checked(about: Any, tensors: Mapping[str, np.ndarray], exported: Any) -> Artifact:
    # Nothing in a file need be what it should: the fields are compared with what the program takes and makes.
    if not isinstance(about, dict) or about.get("format") != _FORMAT:
        raise ValueError(f"not of format {_FORMAT}")
    fields = {name: check_type(about[name], hint, what=name) for name, hint in _FIELDS.items()}
    weights = tuple(jnp.asarray(tensors[name]) for name in fields.pop("weights"))
    wanted = _arguments(weights, fields["shape"], fields["style_shapes"], fields["batch"])
    taken, given = ([(tuple(x.shape), x.dtype) for x in jax.tree.leaves(each)] for each in (exported.in_avals, wanted))
    if taken != given or tuple(exported.platforms) != fields["platforms"]:
        raise ValueError("a program for other weights or images")
    if [(x.shape, x.dtype) for x in exported.out_avals] != [((fields["batch"], *fields["shape"], 3), np.float32)]:
        raise ValueError("a program that makes something else")
    return Artifact(exported=exported, weights=weights, **fields)


def _arguments(weights: Sequence[Any], shape: Shape, styles: Sequence[Shape], batch: int) -> tuple[Any, ...]:
    """Return shapes and types of what a program takes: weights, contents, styles, blend and strength."""
    return (
        [jax.ShapeDtypeStruct(weight.shape, weight.dtype) for weight in weights],
        jax.ShapeDtypeStruct((batch, *shape, 3), jnp.float32),
        [jax.ShapeDtypeStruct((*style, 3), jnp.float32) for style in styles],
        jax.ShapeDtypeStruct((max(len(styles), 1),), jnp.float32),
        jax.ShapeDtypeStruct((), jnp.float32),
    )


def _paint(stylizer: Stylizer, conditioning: StyleConditioning, content: Any, *, mixed: bool) -> Any:
    # Reflect the content beyond its end, paint, and cut.
    height, width, _ = content.shape
    missing = [length - side for length, side in zip(stylizer.extended(height, width), (height, width), strict=True)]
    whole = jnp.pad(content, [(0, missing[0]), (0, missing[1]), (0, 0)], mode="reflect")
    own = read(stylizer, content, key=own_key()) if mixed and stylizer.needs_own else None
    painted = paint(stylizer, conditioning, whole, own=own, mixed=mixed)
    return jnp.clip(painted[:height, :width], 0, 1)
