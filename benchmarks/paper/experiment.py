"""The common part of the figures: methods times pairs, stylized by `swag-jax batch`, laid out with labels, measured.

An experiment is a table of methods, each a mapping of the command's flags. Images and records of all experiments are in
one folder, `cells`, next to the results, by flags and pair: what two figures share is made once, an interrupted run
resumes, and a changed method is repeated. By default the pairs are samples of the package, so that anybody can make the
same sheet.
"""

import argparse
import hashlib
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
import table
from methods import Flags

import swag_jax as swag
from swag_jax.__main__ import main as command
from swag_jax._files import replacing

RESULTS = Path(__file__).resolve().parents[1] / "results" / "paper"

PAIRS = tuple(
    zip(
        ("astronaut", "cat", "coffee", "astronaut", "cat", "coffee", "astronaut", "cat"),
        ("swirls", "embers", "dots", "mosaic", "woodcut", "swirls", "embers", "mosaic"),
        strict=True,
    )
)
"""Eight pairs of samples: every content at least twice, every style at least once. The first four have all contents."""

CELL = 128
"""Longer side of an image on a sheet, in pixels."""


ANOTHER = "another image"
"""The trivial result if there is no pair."""

SHEET_QUALITY = 80
"""Of JPEG: sheets of noise are large files."""

SETTLED = 0.02
"""The loss has settled if the last tenth of the steps made less than this share of its fall, in orders of magnitude: a
fifth of what it would be if the loss fell as fast as at first. Our choice."""


@dataclass(frozen=True)
class Experiment:
    """One figure.

    Attributes:
        name: Of its files.
        title: Its description.
        methods: The flags of `swag-jax batch` by label.
        pairs: `all`, or only their `contents` or `styles`, if the other image of a pair plays no part.
        references: The method that each method is compared with, pair by pair.
    """

    name: str
    title: str
    methods: Mapping[str, Flags]
    pairs: str = "all"
    references: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pair:
    """Files of a content and a style image."""

    content: Path
    style: Path

    @property
    def name(self) -> str:
        """Of its results."""
        return "_".join(dict.fromkeys((self.content.stem, self.style.stem)))


def parse(title: str, *, rows: int = 4, networks: Sequence[str] = (), weights: bool = False) -> argparse.Namespace:
    """Read the options of all experiments.

    Args:
        title: The experiment's description.
        rows: How many pairs to show by default.
        networks: The labels of networks to choose from, if there is a choice.
        weights: Whether there is a choice of weights.
    """
    parser = argparse.ArgumentParser(description=title)
    if networks:
        parser.add_argument("--networks", nargs="+", choices=networks, default=networks, help="default: all")
    if weights:
        parser.add_argument("--weights", default="random", help="random, or fetched ones (default: random)")
    text = f"names of samples or files, may be repeated; default: {len(PAIRS)} pairs of samples"
    parser.add_argument("--pair", nargs=2, action="append", metavar=("CONTENT", "STYLE"), help=text)
    parser.add_argument("--size", type=int, default=256, help="longer side in pixels (default: 256)")
    parser.add_argument("--steps", type=int, default=200, help="default: 200")
    parser.add_argument(
        "--rows", type=int, default=rows, help=f"pairs on the sheet (default: {rows}); all are measured"
    )
    parser.add_argument("-o", "--output", type=Path, default=RESULTS, help="default: benchmarks/results/paper")
    arguments = parser.parse_args()
    arguments.pair = arguments.pair or PAIRS
    return arguments


def run(experiment: Experiment, arguments: argparse.Namespace) -> dict[str, Any]:
    """Stylize, lay out and record one experiment; return the report, which is also written as JSON."""
    pairs = chosen_pairs(arguments, only=experiment.pairs)
    records = painted(experiment, pairs, arguments)
    if shown := pairs[: arguments.rows]:
        image = sheet(experiment, shown, records)
        swag.write_image(arguments.output / f"{experiment.name}.jpg", image, quality=SHEET_QUALITY)
    rows = [row(label, pair, records[label, pair.name]) for label in experiment.methods for pair in pairs]
    failed = Counter(one["method"] for one in rows if one["error"] is not None)
    found = measured(experiment, pairs, records)
    report = {
        "experiment": experiment.name,
        "title": experiment.title,
        "date": time.strftime("%Y-%m-%d"),
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "options": {"size": arguments.size, "steps": arguments.steps},
        "pairs": [pair.name for pair in pairs],
        "kind": experiment.pairs,
        "methods": dict(experiment.methods),
        "backbones": {label: backbone_of(flags) for label, flags in experiment.methods.items()},
        "failed": failed,
        "settled": {label: settled(rows, label) for label in experiment.methods},
        "seconds": round(sum(one["seconds"] or 0 for one in rows), 1),
        "table": found,
        "differences": table.differences(found, experiment.references),
        "rows": rows,
    }
    print(table.markdown(report), table.markdown_differences(report), sep="\n\n")
    write_json(arguments.output / f"{experiment.name}.json", report)
    return report


def settled(rows: Sequence[Mapping[str, Any]], label: str) -> int:
    """Return at how many pairs the loss of a method has settled."""
    return sum(one["method"] == label and one["last_tenth"] is not None and one["last_tenth"] < SETTLED for one in rows)


def chosen_pairs(arguments: argparse.Namespace, *, only: str = "all") -> list[Pair]:
    """Return the chosen pairs, after writing samples to files; `contents` or `styles` alone: each with itself, once."""
    folder = arguments.output / "cells" / "images"
    pairs = [Pair(*(file_of(name, arguments.size, folder) for name in names)) for names in arguments.pair]
    if only == "contents":
        pairs = [Pair(pair.content, pair.content) for pair in pairs]
    if only == "styles":
        pairs = [Pair(pair.style, pair.style) for pair in pairs]
    return list(dict.fromkeys(pairs))


def file_of(name: str, size: int, folder: Path) -> Path:
    """Return the path of an image; a sample is written to a folder, as a square."""
    if name not in (*swag.images.CONTENTS, *swag.images.STYLES):
        return Path(name).absolute()
    path = folder / f"{name}.png"
    if not path.exists() or swag.read_image(path).shape[0] != size:
        folder.mkdir(parents=True, exist_ok=True)
        swag.write_image(path, swag.images.resize(squared(swag.sample(name, size=2 * size)), size, size))
    return path


def squared(image: np.ndarray) -> np.ndarray:
    """Return the middle square: images of one shape need one program per method."""
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    return image[top : top + side, left : left + side]


def cell(flags: Flags, pair: Pair, arguments: argparse.Namespace) -> str:
    """Return the name of an image; equal for equal flags, so that experiments share it."""
    said = json.dumps([sorted(flags.items()), arguments.size, arguments.steps])
    network = "-".join(str(flags[key]) for key in ("backbone", "weights") if key in flags) or flags["preset"]
    return f"{network}-{hashlib.sha256(said.encode()).hexdigest()[:10]}_{pair.name}"


def painted(
    experiment: Experiment, pairs: Sequence[Pair], arguments: argparse.Namespace
) -> dict[tuple[str, str], dict[str, Any]]:
    """Stylize every pair with every method, except finished ones; return the records by label and pair."""
    folder = arguments.output / "cells"
    names = {
        (label, pair.name): cell(flags, pair, arguments)
        for label, flags in experiment.methods.items()
        for pair in pairs
    }
    lines = {
        names[label, pair.name]: {"content": str(pair.content), "style": str(pair.style), **flags}
        for label, flags in experiment.methods.items()
        for pair in pairs
    }
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps({"name": name, **line}) + "\n" for name, line in lines.items())
    path = folder / f"{experiment.name}.jsonl"
    path.write_text(text)
    size, steps = str(arguments.size), str(arguments.steps)
    options = ["--size", size, "--smallest-size", size, "--steps", steps, "--no-sheet", "--retry-failed"]
    code = command(["batch", "--pairs", str(path), "-o", str(folder), *options])
    if code not in (0, 3):
        sys.exit(code)
    found = map(json.loads, (folder / "results.jsonl").read_text().splitlines())
    records = {record["name"]: record for record in found}
    return {key: records[name] for key, name in names.items()}


def measured(
    experiment: Experiment, pairs: Sequence[Pair], records: Mapping[tuple[str, str], Mapping[str, Any]]
) -> dict[str, table.Numbers]:
    """Measure every method over all pairs; the trivial results come first.

    If an image is to be restored from its content or style alone, another image is the trivial result.
    """
    images, labels = [], tuple(experiment.methods)
    for place, pair in enumerate(pairs):
        outputs = {label: records[label, pair.name]["output"] for label in labels}
        made = {label: Path(output) for label, output in outputs.items() if output is not None}
        if experiment.pairs != "all":
            made[ANOTHER] = pairs[place - 1].content
        images.append((pair.content, pair.style, made))
    found = table.surveyed(images, (ANOTHER, *labels))
    if experiment.pairs == "all":
        return found
    shown = table.SHOWN[experiment.pairs]
    return {label: {m: each[m] for m in shown} for label, each in found.items() if label not in table.BASELINES}


def backbone_of(flags: Flags) -> str:
    """Return the trained network that a method optimizes through; none if its weights are random."""
    preset = swag.presets.PRESETS[str(flags["preset"])]
    return str(flags.get("backbone", preset.backbone)) if flags.get("weights") != "random" else ""


def sheet(
    experiment: Experiment, pairs: Sequence[Pair], records: Mapping[tuple[str, str], Mapping[str, Any]]
) -> np.ndarray:
    """Lay out a row for each pair and group of methods: content and style, then the methods.

    A label before a colon is the group's: `ResNet50: softmax` stands in the row `ResNet50`, below `softmax`. If a
    group lacks a method, or the method failed, its cell is blank.
    """
    givens = {"all": ("content", "style"), "contents": ("content",), "styles": ("style",)}[experiment.pairs]
    split = {label: tuple(label.rpartition(": ")[::2]) for label in experiment.methods}
    groups, columns = (list(dict.fromkeys(names)) for names in zip(*split.values(), strict=True))
    labels = {names: label for label, names in split.items()}

    def painting(label: str | None, pair: Pair) -> str | None:
        return None if label is None else records[label, pair.name]["output"]

    rows = [
        [
            *(small(getattr(pair, given)) for given in givens),
            *(small(painting(labels.get((group, column)), pair)) for column in columns),
        ]
        for pair in pairs
        for group in groups
    ]
    sides = groups * len(pairs) if any(groups) else None
    return swag.images.sheet(rows, row_labels=sides, column_labels=[*givens, *columns])


def small(path: str | Path | None) -> np.ndarray | None:
    """Return an image for the sheet; none of a pair that failed."""
    return None if path is None else swag.read_image(path, size=CELL)


def row(label: str, pair: Pair, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of one image for the report."""
    kept = ("status", "error", "losses", "last_tenth", "seconds")
    return {"method": label, "pair": pair.name, **{name: record[name] for name in kept}}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")
