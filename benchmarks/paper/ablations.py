"""The options that the paper's authors varied before they named the residual connection as the cause, one at a time.

A random ResNet50 with and without its residual additions, and with other kernels, depths, down-sampling and channels,
and without batch norm: maximum, normalized entropy and peak (maximum over root mean square) of the activations at the
end of every stage, averaged over photographs; means and standard errors over seeds of the weights. A batch norm has
its initial statistics, as in the paper's figure by our reading, and so divides by one. The authors' numbers of blocks
and channels are not published: our choice.

A network's name is a value of `swag-jax stats --networks`. Run: `python benchmarks/paper/ablations.py`.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import jax
import numpy as np
from experiment import PAIRS, RESULTS, squared, write_json
from PIL import Image

import swag_jax as swag
from swag_jax import plots
from swag_jax._files import replacing
from swag_jax.cli._networks import read_specs
from swag_jax.measure import Estimate, NetworkSpec, activation_statistics, estimate

SWITCHES: Mapping[str, Mapping[str, str]] = {
    "kernel size": {"1": "kernel_size=1", "3": "", "5": "kernel_size=5", "7": "kernel_size=7"},
    "blocks": {"1-1-1-1": "depths=1-1-1-1", "2-2-2-2": "depths=2-2-2-2", "3-4-6-3": "", "3-4-23-3": "depths=3-4-23-3"},
    "batch norm": {"yes": "", "no": "batch_norm=false"},
    "down-sampling": {"stride": "", "max pool": "downsampling=pool"},
    "channels": {"32": "channels=32", "64": "", "128": "channels=128"},
}
"""Changes of ResNet50, by title and label."""

RESIDUAL = {"with": "", "without": "residual=false"}

MEASURES = {"max": "maximum", "entropy": "normalized entropy", "peak": "peak"}
"""Of `swag_jax.measure.activations`, with the title of a column of panels."""

HEAD = "| network | maximum, stage 0 | 1 | 2 | 3 | 4 | entropy, 4 | peak, 4 |\n" + "| --- " * 8 + "|"

CONTENTS = tuple(dict.fromkeys(content for content, _ in PAIRS))
"""The samples that are measured."""

HEIGHT, PALETTE = 11.5, 64
"""Of the plot: inches, and colors, which make its file small."""

Stages: TypeAlias = Mapping[int, Mapping[str, Estimate]]
"""The estimate of every measure by stage."""


def name(*switches: str) -> str:
    """Return the command line's name for ResNet50 with other options."""
    return ":".join(["resnet50", *filter(None, switches)])


def names() -> list[str]:
    """Return all networks, each once: ResNet50 first, its variants with residual connections and then without."""
    values = ["", *(value for table in SWITCHES.values() for value in table.values())]
    return list(dict.fromkeys(name(residual, value) for residual in RESIDUAL.values() for value in values))


def measured(subject: NetworkSpec, images: Mapping[str, np.ndarray], seeds: int) -> Stages:
    """Measure one network with the weights of several seeds."""
    runs = [activation_statistics(images, [subject], smoothings=(), seed=seed) for seed in range(seeds)]
    lines = {measure: [run.networks[subject.name].line(measure) for run in runs] for measure in MEASURES}
    stages = lines["max"][0]
    return {
        stage: {measure: estimate([line[stage] for line in found]) for measure, found in lines.items()}
        for stage in stages
    }


def row(label: str, stages: Stages) -> str:
    """Format a row of the table: maxima by stage, entropy and peak of the last one."""
    *_, last = stages.values()
    cells = [label, *(_cell(each["max"]) for each in stages.values()), _cell(last["entropy"]), _cell(last["peak"])]
    return f"| {' | '.join(cells)} |"


def _cell(number: Estimate) -> str:
    error = "" if number.standard_error is None else f" ± {float(f'{number.standard_error:.1g}'):g}"
    return f"{number.mean:.3g}{error}"


def drawn(found: Mapping[str, Stages]) -> plots.Figure:
    """Draw a row of panels for each option; networks without residual connections are dashed."""
    made, panels = plots.figure(len(SWITCHES), len(MEASURES))
    made.set_size_inches(plots.WIDTH, HEIGHT)
    cells = ((title, measure) for title in SWITCHES for measure in MEASURES)
    for axes, (title, measure) in zip(panels, cells, strict=True):
        for residual, switch in RESIDUAL.items():
            for place, (label, value) in enumerate(SWITCHES[title].items()):
                points = {stage: each[measure] for stage, each in found[name(switch, value)].items()}
                _line(axes, points, place=place, label=label, dashed=residual == "without")
        _finish(axes, title, measure)
    made.suptitle("random ResNet50 with (solid) and without (dashed) residual connections, by stage", fontsize=11)
    return made


def _line(axes: plots.Axes, points: Mapping[int, Estimate], *, place: int, label: str, dashed: bool) -> None:
    means = {stage: each.mean for stage, each in points.items()}
    plots.line(axes, means, place=place, label="" if dashed else label, dashed=dashed)
    errors = [each.standard_error or 0.0 for each in points.values()]
    color = plots.COLORS[place]
    axes.errorbar(list(means), list(means.values()), yerr=errors, fmt="none", ecolor=color, capsize=2)


def _finish(axes: plots.Axes, title: str, measure: str) -> None:
    if title == next(iter(SWITCHES)):
        axes.set_title(MEASURES[measure], fontsize=9.5)
    if measure == "max":
        axes.set_yscale("log")
    elif measure == "entropy":
        axes.set_ylim(-0.04, 1.04)
    else:
        axes.set_ylim(bottom=0)
        axes.legend(title=title, loc="lower left", ncols=2, fontsize=8, title_fontsize=9, handlelength=1.5)


def write_plot(path: Path, figure: plots.Figure) -> None:
    """Write a figure with few colors, which makes its file small."""
    plots.write(path, figure)
    with Image.open(path) as image:
        reduced = image.convert("RGB").quantize(PALETTE)
    with replacing(path) as temporary:
        reduced.save(temporary, format="PNG", optimize=True)


def parse(words: Sequence[str] | None = None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Return the parser and the parsed options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels (default: 128)")
    parser.add_argument("--seeds", type=int, default=3, help="how many networks of each kind (default: 3)")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS, help="default: benchmarks/results/paper")
    arguments = parser.parse_args(words)
    if arguments.size < 32 or arguments.seeds < 1:
        parser.error("--size must be at least 32, --seeds at least 1")
    return parser, arguments


def main() -> None:
    """Measure every network, print the table, write the numbers and the plot."""
    parser, arguments = parse()
    size, began = arguments.size, time.perf_counter()
    try:
        plots.check_output(arguments.output / "ablations.png")
    except swag.UserError as problem:
        parser.error(str(problem))
    images = {
        image: np.asarray(swag.images.resize(squared(swag.sample(image, size=2 * size)), size, size))
        for image in CONTENTS
    }
    found = dict[str, Stages]()
    print(HEAD, flush=True)
    for subject in read_specs(names(), ["random"]):
        found[subject.name] = measured(subject, images, arguments.seeds)
        print(row(subject.name, found[subject.name]), flush=True)
    write_json(arguments.output / "ablations.json", report(found, arguments, time.perf_counter() - began))
    write_plot(arguments.output / "ablations.png", drawn(found))


def report(found: Mapping[str, Stages], arguments: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """Return all numbers with the information needed to understand and repeat them."""
    return {
        "experiment": "ablations",
        "title": "Activations of a random ResNet50 by the switches of its architecture",
        "date": time.strftime("%Y-%m-%d"),
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "options": {"size": arguments.size, "seeds": arguments.seeds},
        "images": list(CONTENTS),
        "seconds": round(seconds, 1),
        "networks": {label: _numbers(stages) for label, stages in found.items()},
    }


def _numbers(stages: Stages) -> dict[str, Any]:
    return {
        str(stage): {measure: {"mean": each.mean, "error": each.standard_error} for measure, each in numbers.items()}
        for stage, numbers in stages.items()
    }


if __name__ == "__main__":
    main()
