r"""Put a trained generator into this folder, as one that comes with the package.

python weights/pack_generator.py runs/adain --name adain --trained-on "which images, and their licenses"

Writes `NAME.safetensors`, with large kernels in 8 bits, and enters it in `manifest.json` and in the table of
`README.md`. The encoder is not stored again: the file names the embedded checkpoint that it was trained through. What
the 8 bits cost is measured on the package's samples, and printed.
"""

import argparse
import dataclasses
import json
import re
import sys
import tempfile
from pathlib import Path

import numpy as np

from swag_jax import params
from swag_jax._checks import UserError, error
from swag_jax._files import replacing, write_whole
from swag_jax.apply import ApplySettings, Stylizer, load_stylizer, repaint
from swag_jax.generators.checkpoint import find_generator, load_generator, write_generator
from swag_jax.generators.registry import method_of
from swag_jax.images import CONTENTS, STYLES, sample
from swag_jax.params._files import file_sha256
from swag_jax.params.manifest import PackagedGenerator
from swag_jax.params.quantize import quantize
from swag_jax.params.safetensors_file import read_metadata
from swag_jax.params.tree import Tensors, flat_parameters

LARGEST_ERROR = 0.03
"""What 8 bits may cost, as a share of the largest value of an image. Our choice: half of it is hardly seen."""

WHOLE = 2**17
"""Weights of a kernel, below which it is kept in 16 bits: the last layers are small, and their errors are pixels."""

SIZE = 256
"""Of the images on which the error is measured."""

TABLE = "| name | generator | size | trained on | license | 8 bits cost |\n|---|---|---|---|---|---|\n"


def packed(tensors: Tensors) -> Tensors:
    """Return a generator's tensors with large kernels in 8 bits, small ones in 16, and all others in float32.

    An 8-bit kernel has a step for each position in it and output channel: half the error of one for each channel.
    """
    coded: Tensors = {}
    for key, value in tensors.items():
        if value.ndim < 4:
            coded[key] = value
        elif value.size < WHOLE:
            coded[key] = value.astype(np.float16)
        else:
            height, width, inputs, outputs = value.shape
            # Positions and output channels on one axis.
            flat = quantize({key: value.transpose(2, 0, 1, 3).reshape(inputs, 1, 1, -1)}, channel_axis=3)
            codes, steps = flat.values()
            coded[key] = codes.reshape(inputs, height, width, outputs).transpose(1, 2, 0, 3)
            coded[f"{key}.step"] = steps.reshape(height, width, 1, outputs)
    return coded


def pixel_error(exact: Stylizer, other: Stylizer, *, size: int = SIZE) -> float:
    r"""Return what separates the images of two generators on the package's samples.

    .. math:: \max |y' - y| / \max |y|

    over all pixels and channels, the largest over every content with two styles each.
    """
    errors, settings = [], ApplySettings(style_size=size)
    for place, content in enumerate(CONTENTS):
        for name in [STYLES[(place + i) % len(STYLES)] for i in range(2)]:
            styles = [sample(name, size=size)] if exact.reads_styles else []
            images = (repaint(each, sample(content, size=size), styles, settings=settings) for each in (exact, other))
            before, after = images
            errors.append(float(np.abs(after - before).max() / before.max()))
    return max(errors)


def pack(checkpoint: Path, folder: Path, *, name: str, size: int = SIZE, **facts: str) -> PackagedGenerator:
    """Write a generator into a folder, enter it in the manifest and the README there, and return its entry.

    Args:
        checkpoint: A generator's file, or a training run's folder.
        folder: It must have a `manifest.json` and a `README.md`.
        size: Of the images on which the error is measured.
        facts: `source`, `trained_on`, `license` of the entry.

    Raises:
        UserError: If its encoder does not come with the package, or 8 bits cost too much; nothing is written then.
    """
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name):  # without a dot, a name is told from a path
        raise error("a generator's name must be small letters, digits and -", got=repr(name))
    source = find_generator(checkpoint)
    notes, generator = read_metadata(source), load_generator(source)
    encoder = None
    if generator.layers:
        embedded = {entry.name: entry for entry in params.checkpoints() if entry.kind == "embedded"}
        encoder = embedded.get(notes.get("encoder", ""))
        if encoder is None:
            rule = f"{source} must be trained through an encoder of the package ({', '.join(embedded)})"
            raise error(rule, got=notes.get("encoder", "none"))
    tensors = {key: np.asarray(value) for key, value in flat_parameters(generator).items()}
    file = folder / f"{name}.safetensors"
    with tempfile.TemporaryDirectory() as scratch:
        written = Path(scratch) / file.name
        write_generator(written, generator.config, packed(tensors), notes)
        found = pixel_error(load_stylizer(source), load_stylizer(written), size=size)
        if found > LARGEST_ERROR:
            raise error(f"8 bits may cost {LARGEST_ERROR:.0%} of an image of {source}", got=f"{found:.2%}")
        write_whole(file, written.read_bytes())
    entry = PackagedGenerator(
        name=name,
        method=method_of(generator.config).name,
        encoder=encoder and encoder.name,
        file=file.name,
        sha256=file_sha256(file),
        terms=encoder.terms if encoder else "",
        largest_error=round(found, 4),
        **facts,
    )
    _enter(entry, folder / "manifest.json")
    _tabulate(entry, folder / "README.md", file.stat().st_size)
    return entry


def _enter(entry: PackagedGenerator, manifest: Path) -> None:
    listed = json.loads(manifest.read_text(encoding="utf-8"))
    entries = {each["name"]: each for each in listed["generators"]} | {entry.name: dataclasses.asdict(entry)}
    listed["generators"] = list(entries.values())
    with replacing(manifest) as temporary:
        temporary.write_text(json.dumps(listed, indent=2) + "\n", encoding="utf-8")


def _tabulate(entry: PackagedGenerator, readme: Path, size: int) -> None:
    text = readme.read_text(encoding="utf-8")
    head, found, rest = text.partition(TABLE)
    if not found:
        raise error(f"{readme} must have the table of generators", cure=f"add its head, {TABLE.splitlines()[0]}")
    rows, after = re.match(r"((?:\|.*\n)*)((?:.|\n)*)", rest).groups()  # pyright: ignore[reportOptionalMemberAccess]
    named = {row.split("`")[1]: row for row in rows.splitlines()}
    network = f" through `{entry.encoder}`" if entry.encoder else ""
    cells = (f"`{entry.name}`", f"{entry.method}{network}", f"{size / 1e6:.1f} MB", entry.trained_on, entry.license)
    named[entry.name] = f"| {' | '.join(cells)} | {entry.largest_error:.1%} |"
    with replacing(readme) as temporary:
        temporary.write_text(head + TABLE + "\n".join(named.values()) + "\n" + after, encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Pack one generator; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoint", type=Path, help="a generator's file, or a training run's folder")
    parser.add_argument("--name", required=True, help="what `swag-jax apply` will call it")
    parser.add_argument("--trained-on", required=True, help="the images, in words")
    parser.add_argument("--license", default="Apache-2.0")
    parser.add_argument("--source", default="the swag_jax authors", help="who trained it, in words")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent, help="this folder, or another")
    given = parser.parse_args(arguments)
    facts = {"trained_on": given.trained_on, "license": given.license, "source": given.source}
    try:
        entry = pack(given.checkpoint, given.output, name=given.name, size=SIZE, **facts)
    except UserError as problem:
        print(problem, file=sys.stderr)
        return 2
    print(f"{entry.file}: sha256 {entry.sha256}, 8 bits cost {entry.largest_error:.2%} of an image")
    print(f'for the wheel, add to pyproject.toml: "weights/{entry.file}" = "swag_jax/_weights/{entry.file}"')
    return 0


if __name__ == "__main__":
    sys.exit(main())
