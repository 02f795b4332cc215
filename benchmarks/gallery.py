"""Make the pictures of the README, from drawn or given pictures: a strip, a sheet of smoothings, a sheet of weights.

    python benchmarks/gallery.py strip
    python benchmarks/gallery.py smoothings --size 512 --steps 120 --content photo.jpg --style painting.jpg
    python benchmarks/gallery.py trained --pair harbor swirls --pair photo.jpg painting.jpg

Everything goes through the public API; the record of every run (settings, weights, losses, seconds) is written beside
the pictures as JSON. `trained` keeps every finished cell in the folder OUTPUT.cells, so that a run that was ended goes
on where it was; it also records and prints how far each column is from the style in networks that it was not
optimized through (`swag_jax.measure.gram_distance`).
"""

import argparse
import hashlib
import json
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

import swag_jax as swag
from swag_jax._files import replacing

RESULTS = Path(__file__).resolve().parent / "results"

COLUMNS = {
    "VGG19": swag.presets.gatys_vgg19,
    "VGG19 softmax": swag.presets.swag_vgg19,
    "ResNet50": swag.presets.gatys_resnet50,
    "ResNet50 softmax": swag.presets.swag_resnet50,
    "softmax, all layers": swag.presets.swag_resnet50.replace(layers=None),
    "channel softmax": swag.presets.swag_resnet50.replace(kind="channel-softmax"),
    "spatial softmax": swag.presets.swag_resnet50.replace(kind="spatial-softmax"),
    "scale 0.001": swag.presets.swag_resnet50.replace(kind="scale"),
    "softmax, T = 1": swag.presets.swag_resnet50.replace(temperature=1.0, layers=None),
}
"""What the sheet of smoothings compares: networks plain and smoothed, all in relative units with the same weights."""

TRAINED = ("VGG19", "ResNet50", "ResNet50 softmax")
"""What the sheet of weights compares, of `COLUMNS`: each with random and with trained weights."""

PAIRS = (
    ("harbor", "swirls"),
    ("cat", "embers"),
    ("mountains", "dots"),
    ("still_life", "mosaic"),
    ("harbor", "woodcut"),
    ("cat", "swirls"),
)
"""Every drawn content and style at least once."""

HELD_OUT = ("vgg19", "resnet50")
"""The networks of the sheet; each measures the results of the other."""

NEUTRAL, NEUTRAL_SEED = "wide_resnet50_2", 1
"""The random network that measures every result."""

Report: TypeAlias = dict[str, object]
Distances: TypeAlias = dict[str, float]


def picture(name: str, size: int) -> Any:
    """Return a drawn picture by its name, or the picture of a file."""
    known = (*swag.images.CONTENTS, *swag.images.STYLES)
    return swag.sample(name, size=size) if name in known else swag.read_image(name, size=size)


def run(content: Any, style: Any, settings: swag.Settings, label: str) -> tuple[Any, Report]:
    """Stylize once, say how it went, and return the picture with its record."""
    began = time.perf_counter()
    result = swag.stylize(content, style, settings=settings)
    last = {name: float(values[-1]) for name, values in result.history.items()}
    seconds = time.perf_counter() - began
    print(f"{label}: {seconds:.0f} s, {result.source.describe()}, {last}", flush=True)
    return result.image, {"label": label, "seconds": seconds, "weights": result.source.describe(), "losses": last}


def strip(arguments: argparse.Namespace) -> tuple[Any, Report]:
    """Content, style and result side by side."""
    content, style = (picture(name, arguments.size) for name in (arguments.content, arguments.style))
    settings = swag.presets.gatys_vgg19.replace(size=arguments.size, steps=arguments.steps, weights=arguments.weights)
    result, record = run(content, style, settings, "VGG19")
    return swag.images.sheet([[content, style, result]], gap=8), {"runs": [record]}


def smoothings(arguments: argparse.Namespace) -> tuple[Any, Report]:
    """One pair through every network and smoothing of `COLUMNS`."""
    content, style = (picture(name, arguments.size) for name in (arguments.content, arguments.style))
    cells, labels, records = [content, style], ["content", "style"], list[Report]()
    for label, settings in COLUMNS.items():
        settings = settings.replace(size=arguments.size, steps=arguments.steps, weights=arguments.weights)
        image, record = run(content, style, settings, label)
        cells.append(image)
        labels.append(label)
        records.append(record)
    half = -(-len(cells) // 2)
    sheet = swag.images.sheet([cells[:half], cells[half:]], captions=[labels[:half], labels[half:]])
    return sheet, {"runs": records}


@dataclass(frozen=True)
class Pair:
    """A content and a style picture."""

    name: str
    content: Any
    style: Any


@dataclass
class Cell:
    """One pair in one column: the picture, unless it failed, and its record."""

    pair: Pair
    column: str
    backbone: str
    image: Any = None
    record: Report = field(default_factory=dict)
    distances: Distances = field(default_factory=dict)


def trained(arguments: argparse.Namespace) -> tuple[Any, Report]:
    """One row per pair; networks with random and with trained weights side by side."""
    check_weights(arguments.weights)
    pairs = [read_pair(names, arguments.size) for names in arguments.pair]
    columns = with_weights(arguments)
    folder = Path(f"{arguments.output}.cells")
    rows = [[cell_of(pair, column, columns[column], folder) for column in columns] for pair in pairs]
    rulers, sources = load_rulers(arguments.weights)
    baselines = [measure(row, rulers) for row in rows]
    print(table(rows, baselines, sources))
    labels = ["content", "style", *columns]
    sheet = swag.images.sheet(
        [[row[0].pair.content, row[0].pair.style, *(cell.image for cell in row)] for row in rows], column_labels=labels
    )
    runs = [{**cell.record, "style_distances": cell.distances} for row in rows for cell in row]
    contents = [{"label": pair.name, "style_distances": found} for pair, found in zip(pairs, baselines, strict=True)]
    return sheet, {"held_out": sources, "contents": contents, "runs": runs}


def check_weights(weights: str) -> None:
    """Raise before any long work if no network of the sheet has these weights."""
    problems = list[swag.UserError]()
    for backbone in HELD_OUT:
        try:
            swag.params.resolve(backbone, weights=weights)
        except swag.UserError as problem:
            problems.append(problem)
    if len(problems) == len(HELD_OUT):
        raise problems[0]


def read_pair(names: Sequence[str], size: int) -> Pair:
    """Draw or read both pictures."""
    content, style = names
    return Pair(f"{Path(content).stem}_{Path(style).stem}", picture(content, size), picture(style, size))


def with_weights(arguments: argparse.Namespace) -> dict[str, swag.Settings]:
    """Return the settings of every column of the sheet of weights."""
    return {
        f"{label} {word}": COLUMNS[label].replace(size=arguments.size, steps=arguments.steps, weights=weights)
        for label in TRAINED
        for word, weights in (("random", "random"), ("trained", arguments.weights))
    }


def cell_of(pair: Pair, column: str, settings: swag.Settings, folder: Path) -> Cell:
    """Return a finished cell from its folder, or make it; whatever fails is said and recorded."""
    cell, label = Cell(pair, column, settings.backbone), f"{pair.name}, {column}"
    try:
        path = folder / f"{pair.name}_{column.lower().replace(' ', '-')}_{fingerprint(pair, settings)}.png"
        if not path.exists() or not path.with_suffix(".json").exists():
            image, record = run(pair.content, pair.style, settings, label)
            write_json(path.with_suffix(".json"), record)
            swag.write_image(path, image)
        cell.image, cell.record = swag.read_image(path), json.loads(path.with_suffix(".json").read_text())
    except Exception as problem:  # one cell must not sink the sheet
        print(f"{label}: failed: {problem}", flush=True)
        cell.record = {"label": label, "failed": str(problem)}
    return cell


def fingerprint(pair: Pair, settings: swag.Settings) -> str:
    """Return a name for all that a cell is made from: settings, the weights' content, both pictures."""
    source = swag.params.resolve(settings.backbone, weights=settings.weights)
    made_from = (repr(settings).encode(), str(source.sha256).encode(), pair.content.tobytes(), pair.style.tobytes())
    return hashlib.sha256(b"\n".join(made_from)).hexdigest()[:12]


def load_rulers(weights: str) -> tuple[dict[str, swag.Backbone], dict[str, str]]:
    """Return the networks that measure style distances, and where their weights are from.

    VGG19 and ResNet50 come with the weights asked for, or random ones where there are none; each measures what was
    not optimized through that architecture. The neutral network measures everything.
    """
    loaded = {name: load_ruler(name, weights) for name in HELD_OUT}
    loaded[NEUTRAL] = swag.backbones.load(NEUTRAL, weights="random", seed=NEUTRAL_SEED)
    rulers = {name: network for name, (network, _) in loaded.items()}
    return rulers, {name: source.describe() for name, (_, source) in loaded.items()}


def load_ruler(name: str, weights: str) -> tuple[swag.Backbone, swag.params.Source]:
    """Return a network with the weights asked for, or with random ones where these are missing."""
    try:
        return swag.backbones.load(name, weights=weights)
    except swag.UserError as problem:
        print(f"{name} measures style distances with random weights: {problem}", flush=True)
        return swag.backbones.load(name, weights="random")


def measure(row: Sequence[Cell], rulers: Mapping[str, swag.Backbone]) -> Distances:
    """Measure every cell of a pair in the networks that did not make it; return the content's own distances."""
    pair = row[0].pair
    for cell in row:
        if cell.image is not None:
            held_out = {name: network for name, network in rulers.items() if name != cell.backbone}
            cell.distances = distances(cell.image, pair.style, held_out)
    return distances(pair.content, pair.style, rulers)


def distances(image: Any, style: Any, rulers: Mapping[str, swag.Backbone]) -> Distances:
    """Return a picture's style distance by network, at the default style layers."""
    found = {}
    for name, network in rulers.items():
        layers = swag.backbones.entry(name).style_layers
        features, target = (_extract(network, jnp.asarray(picture), layers=layers) for picture in (image, style))
        found[name] = float(swag.measure.gram_distance(features, target))
    return found


_extract = jax.jit(swag.extract, static_argnames="layers")


def table(rows: Sequence[Sequence[Cell]], baselines: Sequence[Distances], sources: Mapping[str, str]) -> str:
    """Set the style distances in Markdown: mean over the pairs and its standard error, by column and network."""
    found = {"the content itself": list(baselines)}
    for column in zip(*rows, strict=True):
        found[column[0].column] = [cell.distances for cell in column]
    found["the style itself"] = [dict.fromkeys(sources, 0.0)]
    lines = [["style distance of", *(f"in {name}, {source}" for name, source in sources.items())]]
    lines += [["---"] * len(lines[0])]
    for label, each in found.items():
        lines.append([label, *(mean_and_error([d[name] for d in each if name in d]) for name in sources)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def mean_and_error(values: Sequence[float]) -> str:
    """Format the mean of some numbers, with its standard error where there are several."""
    if len(values) < 2:
        return f"{values[0]:.3g}" if values else "-"
    return f"{statistics.mean(values):.3g} ± {statistics.stdev(values) / math.sqrt(len(values)):.2g}"


def write_json(path: Path, content: Report) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


MAKERS = {"strip": strip, "smoothings": smoothings, "trained": trained}
DEFAULTS = {"strip": (384, 240, "auto"), "smoothings": (384, 240, "auto"), "trained": (256, 150, "embedded")}
"""Size, steps and weights where none are given."""


def parse() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Return the parser, one command per picture, and what it read."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    for what, maker in MAKERS.items():
        add_command(commands.add_parser(what, help=maker.__doc__, description=maker.__doc__), what)
    arguments = parser.parse_args()
    if arguments.what == "trained":
        arguments.pair = arguments.pair or PAIRS
    return parser, arguments


def add_command(command: argparse.ArgumentParser, what: str) -> None:
    """Add the options of one picture."""
    size, steps, weights = DEFAULTS[what]
    if what == "trained":
        help_pair = "drawn pictures' names or files, may be repeated; default: six drawn pairs"
        command.add_argument("--pair", nargs=2, action="append", metavar=("CONTENT", "STYLE"), help=help_pair)
    else:
        command.add_argument("--content", default="harbor", help="a drawn picture's name, or a file")
        command.add_argument("--style", default="swirls", help="likewise")
    command.add_argument("--size", type=int, default=size, help=f"default: {size}")
    command.add_argument("--steps", type=int, default=steps, help=f"default: {steps}")
    command.add_argument("--weights", default=weights, help=f"default: {weights}")
    help_output = f"default: benchmarks/results/{what}.png"
    command.add_argument("-o", "--output", type=Path, default=RESULTS / f"{what}.png", help=help_output)


def main() -> None:
    """Make one picture."""
    parser, arguments = parse()
    try:
        swag.images.check_output(arguments.output)
        image, report = MAKERS[arguments.what](arguments)
        swag.write_image(arguments.output, image)
        options = {name: str(value) for name, value in vars(arguments).items() if name != "output"}
        about = {"options": options, "device": jax.devices()[0].device_kind, "jax": jax.__version__}
        write_json(arguments.output.with_suffix(".json"), {**about, **report})
    except swag.UserError as problem:
        parser.error(str(problem))


if __name__ == "__main__":
    main()
