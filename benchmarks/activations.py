"""Peaks and entropies of activations and Gram matrices, stage by stage: trained networks beside random ones.

    python benchmarks/activations.py
    python benchmarks/activations.py --images photos/ --size 512 --weights random resnet50=checkpoint.pth

The protocol of the SWAG paper's figure of activation statistics, for the last layer of each stage, averaged over the
pictures. The maximum is that of all entries; the normalized entropy is that of the softmax over all entries (paper,
eqs. 5 to 8; the softmax is our reading, because the paper's definition of the probabilities is not known to us). Both
grow and shrink with the activations' scale; `peak`, the maximum over the root mean square, does not. Each is taken

* `none`: of the activations as they are;
* `T=1`: behind the softmax over everything, whose entries sum to one (paper, eq. 11);
* `auto`: behind the same at our `auto` temperature.

Entries that sum to one are so small that the entropies behind a smoothing are near one whatever the network; what it
evens out shows in `peak`. Prints a table, writes all numbers with the settings as JSON, and plots to the PNG of the
same name.
"""

import argparse
import functools
import itertools
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw, ImageFont

import swag_jax as swag
from swag_jax._files import replacing
from swag_jax._versions import installed
from swag_jax.smoothing import softmax
from swag_jax.statistics import normalized_entropy

RESULTS = Path(__file__).resolve().parent / "results"

_RESNET = ("conv1", "conv2_3", "conv3_4", "conv4_6", "conv5_3")
LAYERS = {
    "vgg19": ("relu1_2", "relu2_2", "relu3_4", "relu4_4", "relu5_1", "relu5_4"),
    "resnet50": _RESNET,
    "wide_resnet50_2": _RESNET,
}
"""The last layer of each stage, and VGG19's relu5_1, where its embedded checkpoint ends."""

EVERYTHING = (0, 1, 2)
"""The axes of eq. 11's softmax: rows, columns and channels."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".gif", ".bmp")
MISSING = ("embedded", "imagenet")
"""Weights that some networks do not have; these are left out with a note."""

Numbers: TypeAlias = dict[str, dict[str, float]]
"""By smoothing (`none`, `T=1`, `auto`) and measure (`max`, `entropy`, `peak`, `gram_max`, ...)."""


def smoothed(features: jax.Array) -> dict[str, jax.Array]:
    """Return a layer's features as they are and behind each smoothing."""
    temperature = swag.auto_temperature(features, axes=EVERYTHING)
    return {
        "none": features,
        "T=1": softmax(features, axes=EVERYTHING),
        "auto": softmax(features, axes=EVERYTHING, temperature=temperature),
    }


def measures(values: jax.Array, prefix: str = "") -> dict[str, jax.Array]:
    r"""Return maximum, normalized entropy and peak of an array.

    .. math:: H_n = -\frac{1}{\log N} \sum_i p_i \log p_i, \quad p = \mathrm{softmax}(v), \qquad
        \text{peak} = \max_i v_i \,/\, \sqrt{\textstyle\sum_i v_i^2 / N}
    """
    flat = values.ravel()
    return {
        f"{prefix}max": flat.max(),
        f"{prefix}entropy": normalized_entropy(jax.nn.softmax(flat)),
        # Divided by the maximum first: a softmax's entries leave the range in which float32 squares are exact.
        f"{prefix}peak": 1.0 / jnp.sqrt(jnp.mean((flat / flat.max()) ** 2)),
    }


@functools.partial(jax.jit, static_argnames="layers")
def statistics(network: swag.Backbone, image: jax.Array, *, layers: tuple[str, ...]) -> dict[str, Any]:
    """Return `Numbers` of one picture by layer."""
    features = swag.extract(network, image, layers=layers)
    return {
        layer: {
            kind: {**measures(values), **measures(swag.gram(values), "gram_")}
            for kind, values in smoothed(features[layer]).items()
        }
        for layer in layers
    }


@dataclass(frozen=True)
class Row:
    """One layer's numbers, as means and standard deviations over the pictures."""

    network: str
    weights: str
    source: str
    layer: str
    mean: Numbers
    deviation: Numbers

    @property
    def stage(self) -> int:
        """The number in the layer's name: 1 to 5."""
        return int(self.layer[4])


def over_pictures(function: Callable[..., Any], values: Sequence[Any]) -> Any:
    """Reduce the numbers of several pictures by `function`."""
    return jax.tree.map(lambda *numbers: float(function(np.asarray(numbers, np.float64))), *values)


def reached(network: str, source: swag.params.Source) -> tuple[str, ...]:
    """Return those of the network's `LAYERS` that its weights reach."""
    shapes = functools.partial(swag.backbones.parameter_shapes, network)
    known = shapes(until=source.deepest_layer).keys()
    return tuple(layer for layer in LAYERS[network] if shapes(until=layer).keys() <= known)


def rows_of(network: str, weights: str, label: str, images: Sequence[np.ndarray], seed: int) -> list[Row]:
    """Measure one network with one choice of weights."""
    layers = reached(network, swag.params.resolve(network, weights=weights))
    loaded, source = swag.backbones.load(network, weights=weights, layers=layers, seed=seed)
    check_sizes(images, loaded.minimum_size(layers), network)
    values = [jax.device_get(statistics(loaded, jnp.asarray(image), layers=layers)) for image in images]
    mean, deviation = over_pictures(np.mean, values), over_pictures(np.std, values)
    return [Row(network, label, source.describe(), layer, mean[layer], deviation[layer]) for layer in layers]


def check_sizes(images: Sequence[np.ndarray], least: int, network: str) -> None:
    """Raise if a picture is too small for the deepest layer."""
    side = min(min(image.shape[:2]) for image in images)
    if side < least:
        raise swag.UserError(
            f"the shorter side must be at least {least} pixels for {network}, got {side}: pass a larger --size."
        )


def named_weights(asked: Iterable[str], network: str) -> Iterator[tuple[str, str]]:
    """Yield a label and a choice of weights for each that is meant for `network`."""
    for entry in asked:
        name, equals, path = entry.partition("=")
        if not equals:
            yield entry, entry
        elif name == network:
            yield Path(path).name, path


def measure_all(arguments: argparse.Namespace, images: Sequence[np.ndarray]) -> tuple[list[Row], list[str]]:
    """Measure every network with all its weights; return the rows, and what was left out and why."""
    rows, missing = list[Row](), list[str]()
    for network in arguments.networks:
        for label, weights in named_weights(arguments.weights, network):
            try:
                swag.params.resolve(network, weights=weights)
            except swag.UserError as problem:
                if weights not in MISSING:
                    raise
                missing.append(f"{network} {label}: {problem}")
                print(f"left out: {missing[-1]}", flush=True)
                continue
            rows += rows_of(network, weights, label, images, arguments.seed)
    return rows, missing


def files_of(entry: str) -> list[str]:
    """Return the pictures of a folder, or the entry itself."""
    folder = Path(entry)
    if not folder.is_dir():
        return [entry]
    found = sorted(str(path) for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise swag.UserError(f"the folder {entry} must hold pictures ({', '.join(SUFFIXES)}), got none.")
    return found


def pictures(asked: Sequence[str], size: int) -> list[tuple[str, np.ndarray]]:
    """Return drawn samples and the pictures of files and folders, each with its name."""
    samples = (*swag.images.CONTENTS, *swag.images.STYLES)
    names = [name for entry in asked for name in files_of(entry)] if asked else samples
    return [
        (Path(name).name, swag.sample(name, size=size) if name in samples else swag.read_image(name, size=size))
        for name in names
    ]


COLUMNS = (
    ("max", ("none", "T=1")),
    ("entropy", ("none", "T=1")),
    ("peak", ("none", "T=1", "auto")),
    ("gram_max", ("none", "T=1")),
    ("gram_entropy", ("none", "T=1")),
    ("gram_peak", ("none", "T=1", "auto")),
)
"""What the table shows."""


def table(rows: Sequence[Row]) -> str:
    """Set the rows in Markdown."""
    heads = [f"{name.replace('_', ' ')} {kind}" for name, kinds in COLUMNS for kind in kinds]
    lines = [["network", "weights", "layer", *heads], ["---"] * (3 + len(heads))]
    for row in rows:
        numbers = [number(name, row.mean[kind][name]) for name, kinds in COLUMNS for kind in kinds]
        lines.append([row.network, row.weights, row.layer, *numbers])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(name: str, value: float) -> str:
    """Format one number: entropies lie in [0, 1], the others span many decades."""
    return f"{value:.3f}" if name.endswith("entropy") else f"{value:.3g}"


# The plot, in Pillow: the package needs no plotting library.

PANELS = (
    ("max", "maximum", True, ("none",)),
    ("entropy", "normalized entropy", False, ("none", "auto")),
    ("peak", "maximum / root mean square", True, ("none", "auto")),
    ("gram_max", "Gram matrix: maximum", True, ("none",)),
    ("gram_entropy", "Gram matrix: normalized entropy", False, ("none", "auto")),
    ("gram_peak", "Gram matrix: maximum / root mean square", True, ("none", "auto")),
)
"""Measure, title, whether the axis is logarithmic, and the smoothings to draw; three panels to a row."""

COLORS = ("#d95f02", "#7570b3", "#1b9e77", "#e7298a", "#66a61e", "#a6761d", "#386cb0", "#444444")
STAGES, ACROSS, DASH = 5, 3, 14
WIDTH, HEIGHT, LEFT, TOP, LEGEND = 560, 420, 90, 110, 44
"""Of a panel, of the space left of it and above it, and of a line of the legend; in pixels."""


@dataclass(frozen=True)
class Axes:
    """One panel: where it lies, and its vertical range (of decades if logarithmic)."""

    left: int
    top: int
    low: float
    high: float
    logarithmic: bool

    def at(self, stage: int, value: float) -> tuple[float, float]:
        """Return the pixel of a value."""
        scaled = math.log10(value) if self.logarithmic else value
        x = self.left + WIDTH * (stage - 0.5) / STAGES
        return x, self.top + HEIGHT * (self.high - scaled) / (self.high - self.low)

    def ticks(self) -> list[tuple[float, str]]:
        """Return the values to mark, with their labels."""
        if not self.logarithmic:
            return [(tick / 4, f"{tick / 4:g}") for tick in range(5)]
        step = max(1, math.ceil((self.high - self.low) / 6))
        return [(10.0**power, f"1e{power}") for power in range(int(self.low), int(self.high) + 1, step)]


def axes_of(index: int, rows: Sequence[Row]) -> Axes:
    """Place a panel and find its range."""
    name, _, logarithmic, kinds = PANELS[index]
    left = LEFT + (index % ACROSS) * (WIDTH + LEFT)
    top = TOP + (index // ACROSS) * (HEIGHT + TOP)
    if not logarithmic:
        return Axes(left, top, -0.03, 1.03, False)
    decades = [math.log10(row.mean[kind][name]) for row in rows for kind in kinds]
    return Axes(left, top, math.floor(min(decades)), math.floor(max(decades)) + 1, True)


def draw_line(draw: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], color: str, dashed: bool) -> None:
    """Join points by a line, dashed or not, and mark them."""
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        pieces = 2 * max(1, round(math.dist((x0, y0), (x1, y1)) / DASH / 2)) - 1 if dashed else 1
        for i in range(0, pieces, 2):
            a, b = i / pieces, (i + 1) / pieces
            ends = [(x0 + a * (x1 - x0), y0 + a * (y1 - y0)), (x0 + b * (x1 - x0), y0 + b * (y1 - y0))]
            draw.line(ends, fill=color, width=4)
    for x, y in points:
        draw.ellipse((x - 8, y - 8, x + 8, y + 8), fill="white" if dashed else color, outline=color, width=4)


def draw_frame(draw: ImageDraw.ImageDraw, axes: Axes, title: str, font: Any) -> None:
    """Draw a panel's title, border, ticks and grid."""
    right, bottom = axes.left + WIDTH, axes.top + HEIGHT
    draw.text((axes.left + WIDTH / 2, axes.top - 16), title, fill="black", font=font, anchor="ms")
    for value, label in axes.ticks():
        y = axes.at(1, value)[1]
        draw.line([(axes.left, y), (right, y)], fill="#dddddd", width=2)
        draw.text((axes.left - 14, y), label, fill="black", font=font, anchor="rm")
    for stage in range(1, STAGES + 1):
        draw.text((axes.at(stage, 1.0)[0], bottom + 12), f"stage {stage}", fill="black", font=font, anchor="ma")
    draw.rectangle((axes.left, axes.top, right, bottom), outline="black", width=2)


def series(rows: Sequence[Row]) -> dict[tuple[str, str], dict[int, Row]]:
    """Group rows by network and weights, one per stage: the first, where a network has several."""
    lines: dict[tuple[str, str], dict[int, Row]] = {}
    for row in rows:
        lines.setdefault((row.network, row.weights), {}).setdefault(row.stage, row)
    return lines


def plot(rows: Sequence[Row]) -> np.ndarray:
    """Draw all panels: solid as the activations are, dashed behind the `auto` smoothing."""
    lines, font = series(rows), ImageFont.load_default(24)
    bottom = 2 * (TOP + HEIGHT) + TOP
    image = Image.new("RGB", (ACROSS * (WIDTH + LEFT) + LEFT // 2, bottom + LEGEND * len(lines)), "white")
    draw = ImageDraw.Draw(image)
    for index, (name, title, _, kinds) in enumerate(PANELS):
        axes = axes_of(index, rows)
        draw_frame(draw, axes, title, font)
        for color, line in zip(itertools.cycle(COLORS), lines.values(), strict=False):
            for kind in kinds:
                points = [axes.at(stage, row.mean[kind][name]) for stage, row in line.items()]
                draw_line(draw, points, color, dashed=kind == "auto")
    draw_legend(draw, [" ".join(key) for key in lines], bottom, font)
    return np.asarray(image, np.float32) / np.float32(255.0)


def draw_legend(draw: ImageDraw.ImageDraw, labels: Sequence[str], top: int, font: Any) -> None:
    """Name the lines below the panels."""
    for i, (label, color) in enumerate(zip(labels, itertools.cycle(COLORS), strict=False)):
        y = top + LEGEND * i
        draw_line(draw, [(LEFT, y), (LEFT + 90, y)], color, dashed=False)
        draw_line(draw, [(LEFT + 130, y), (LEFT + 220, y)], color, dashed=True)
        draw.text((LEFT + 250, y), f"{label}; dashed: smoothed (auto)", fill="black", font=font, anchor="lm")


def report(
    arguments: argparse.Namespace,
    images: Sequence[tuple[str, np.ndarray]],
    rows: Sequence[Row],
    missing: Sequence[str],
) -> str:
    """Put the JSON together."""
    settings = {name: getattr(arguments, name) for name in ("size", "networks", "seed")}
    content = {
        "benchmark": "activations",
        "date": time.strftime("%Y-%m-%d"),
        "device": jax.devices()[0].device_kind,
        "versions": installed(),
        "settings": {**settings, "weights": [Path(entry).name for entry in arguments.weights]},
        "images": [{"name": name, "height": len(image), "width": len(image[0])} for name, image in images],
        "missing": missing,
        "rows": [vars(row) for row in rows],
    }
    return json.dumps(content, indent=1) + "\n"


def parse() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", nargs="+", default=[], help="folders, files, drawn samples; default: all samples")
    parser.add_argument("--size", type=int, default=224, help="longer side of the pictures in pixels")
    parser.add_argument("--networks", nargs="+", default=["vgg19", "resnet50"], choices=tuple(LAYERS))
    help_weights = "embedded, imagenet, random or auto, for every network; NETWORK=PATH for one"
    parser.add_argument("--weights", nargs="+", default=["embedded", "random"], help=help_weights)
    parser.add_argument("--seed", type=int, default=0, help="of random weights")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / "activations.json")
    arguments = parser.parse_args()
    for entry in arguments.weights:
        known = arguments.networks if "=" in entry else swag.params.WEIGHTS
        if entry.partition("=")[0] not in known:
            words, networks = ", ".join(swag.params.WEIGHTS), ", ".join(arguments.networks)
            parser.error(f"--weights must be one of {words}, or NETWORK=PATH with one of {networks}, got {entry}")
    for network in arguments.networks:
        labels = [label for label, _ in named_weights(arguments.weights, network)]
        if len(set(labels)) < len(labels):
            parser.error(f"the weights of a network must differ in name, got {', '.join(labels)} for {network}")
    if arguments.output.suffix != ".json":
        parser.error(f"--output must end in .json, got {arguments.output.name!r}")
    return parser, arguments


def main() -> None:
    """Measure, print the table, write the numbers and the plots."""
    parser, arguments = parse()
    drawing = arguments.output.with_suffix(".png")
    try:
        swag.images.check_output(drawing)
        images = pictures(arguments.images, arguments.size)
        rows, missing = measure_all(arguments, [image for _, image in images])
        if not rows:
            parser.error("there must be at least one network with weights: add random to --weights")
        print(table(rows))
        with replacing(arguments.output) as temporary:
            temporary.write_text(report(arguments, images, rows, missing))
        swag.write_image(drawing, plot(rows))
    except swag.UserError as problem:
        parser.error(str(problem))


if __name__ == "__main__":
    main()
