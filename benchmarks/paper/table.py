"""Numbers for an experiment: every metric of every picture in two networks, means and standard errors over the pairs.

Both judges have the embedded weights. A picture is nearest to its style in the network that was optimized to say so;
such numbers are marked by an asterisk and say little.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import swag_jax as swag
from swag_jax.measure import Judge, Survey
from swag_jax.measure.survey import Estimates

JUDGES = ("vgg19", "resnet50")
IN_NETWORK = ("content", "gram", "moments", "sliced-wasserstein")
ALONE = ("ssim", "color", "cfsd")
"""Metrics of pixels, and the one that is defined in VGG19."""

SHOWN = {
    "ssim": "SSIM ↑",
    "content/vgg19": "content, VGG19 ↓",
    "gram/vgg19": "Gram, VGG19 ↓",
    "sliced-wasserstein/vgg19": "sliced W., VGG19 ↓",
    "gram/resnet50": "Gram, ResNet50 ↓",
    "sliced-wasserstein/resnet50": "sliced W., ResNet50 ↓",
    "color": "color ↓",
}
"""The columns of the printed table; the JSON has all."""

BASELINES = {"output = content": "content", "output = style": "style"}

Numbers = dict[str, dict[str, float | None]]
"""Mean and standard error by metric."""


@functools.cache
def judges() -> dict[str, Judge]:
    """Return who measures: each network, and one for what needs none or a certain one."""
    found = dict[str, Judge]()
    for name in JUDGES:
        known = swag.backbones.entry(name)
        network, _ = swag.backbones.load(name, weights="embedded")
        layers = {"content_layer": known.content_layer, "style_layers": known.style_layers}
        found[name] = Judge(metrics=IN_NETWORK, network=network, **layers)
    return {"": Judge(metrics=ALONE, vgg19=found["vgg19"].network), **found}


def surveyed(pictures: Mapping[tuple[Path, Path], Mapping[str, Path]]) -> dict[str, Numbers]:
    """Measure pictures by all judges.

    Args:
        pictures: What each method made, by content and style and then by the method's label.

    Returns:
        The numbers of the trivial results, and of every method.
    """
    found: dict[str, Numbers] = {}
    for judge_name, judge in judges().items():
        trivial, surveys = Survey(), dict[str, Survey]()
        for (content, style), outputs in pictures.items():
            givens = swag.read_image(content), [swag.read_image(style)]
            comparisons = judge.compare_all([swag.read_image(path) for path in outputs.values()], *givens)
            trivial.add(comparisons[0])
            for label, comparison in zip(outputs, comparisons, strict=True):
                surveys.setdefault(label, Survey()).add(comparison)
        rows = {row: (trivial, candidate) for row, candidate in BASELINES.items()}
        rows |= {label: (survey, "output") for label, survey in surveys.items()}
        for row, (survey, candidate) in rows.items():
            found.setdefault(row, {}).update(_numbers(survey.estimates(), candidate, judge_name))
    return found


def _numbers(estimates: Estimates, candidate: Any, judge: str) -> Numbers:
    return {
        f"{metric}/{judge}".rstrip("/"): {"mean": each[candidate].mean, "error": each[candidate].standard_error}
        for metric, each in estimates.items()
    }


def markdown(rows: Mapping[str, Numbers], backbones: Mapping[str, str]) -> str:
    """Set the table.

    Args:
        rows: Numbers by method.
        backbones: The network that each method optimizes through, by method.
    """
    lines = [["method", *SHOWN.values()], ["---"] * (1 + len(SHOWN))]
    for label, numbers in rows.items():
        own = backbones.get(label, "")
        lines.append([label, *(_cell(numbers[name], own=name.endswith(f"/{own}")) for name in SHOWN)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(number: Mapping[str, float | None], *, own: bool) -> str:
    mean, error = number["mean"], number["error"]
    text = f"{mean:.2f}" if error is None else f"{mean:.2f} ± {error:.2f}"
    return f"{text}*" if own else text
