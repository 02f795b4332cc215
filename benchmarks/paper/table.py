"""Numbers for an experiment: every metric of every image in three networks, means and standard errors over the pairs.

The networks have the embedded weights. An image always matches its style best in the network that it was optimized
through; such numbers are marked by an asterisk and say little. All methods stylize the same pairs, so that two can be
compared pair by pair: the mean of the differences has a smaller standard error than the difference of the means.

Run: `python benchmarks/paper/table.py REPORT.json` prints the tables of a finished experiment.
"""

import argparse
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import swag_jax as swag
from swag_jax.backbones.zoo import entry
from swag_jax.measure import Evaluator
from swag_jax.measure.aggregate import estimate
from swag_jax.measure.evaluator import Candidate, Comparison

JUDGES = ("vgg19", "resnet50", "efficientnet-lite0")
IN_NETWORK = ("content", "gram", "moments", "sliced-wasserstein")
ALONE = ("ssim", "noise", "color", "cfsd")
"""Metrics of pixels, and the one that is defined in VGG19."""

OF_CONTENTS = {
    "ssim": "SSIM ↑",
    "content/vgg19": "content, VGG19 ↓",
    "content/resnet50": "content, ResNet50 ↓",
    "content/efficientnet-lite0": "content, EfficientNet ↓",
    "noise": "noise ↓",
}
OF_STYLES = {
    "gram/vgg19": "Gram, VGG19 ↓",
    "gram/resnet50": "Gram, ResNet50 ↓",
    "gram/efficientnet-lite0": "Gram, EfficientNet ↓",
    "color": "color ↓",
}
SHOWN = {"all": OF_CONTENTS | OF_STYLES, "contents": OF_CONTENTS, "styles": OF_STYLES}
"""The columns of the printed table, by the kind of the experiment's pairs; the JSON has all metrics."""

BASELINES: Mapping[str, Candidate] = {"output = content": "content", "output = style": "style"}

DIGITS = {"noise": 3}
"""Decimals of a metric; two of others."""

NONE = "-"
"""The cell of a missing method, or of one that failed for every pair."""

Numbers: TypeAlias = dict[str, dict[str, Any]]
"""By metric: `mean` and standard `error`, and the `values` of the pairs in their order, none of one that failed."""


@functools.cache
def judges() -> dict[str, Evaluator]:
    """Return an evaluator for each network, and one for metrics that need none or a certain one."""
    found = dict[str, Evaluator]()
    for name in JUDGES:
        known = entry(name)
        network, _ = swag.backbones.load(name, weights="embedded")
        layers = {"content_layer": known.content_layer, "style_layers": known.style_layers}
        found[name] = Evaluator(metrics=IN_NETWORK, network=network, **layers)
    return {"": Evaluator(metrics=ALONE, vgg19=found["vgg19"].network), **found}


def surveyed(images: Sequence[tuple[Path, Path, Mapping[str, Path]]], methods: Sequence[str]) -> dict[str, Numbers]:
    """Measure images with all evaluators.

    Args:
        images: A content, a style, and the results of each method by its label; none if all failed.
        methods: All labels.

    Returns:
        The numbers of the trivial results, and of every method with results.
    """
    found: dict[str, dict[str, list[float | None]]] = {}
    for place, (content, style, outputs) in enumerate(images):
        givens = swag.read_image(content), [swag.read_image(style)]
        made = [swag.read_image(path) for path in outputs.values()]
        for judge_name, evaluator in judges().items() if made else ():
            comparisons = evaluator.compare_all(made, *givens)
            rows: list[tuple[str, Comparison, Candidate]] = []
            rows.extend((row, comparisons[0], candidate) for row, candidate in BASELINES.items())
            rows.extend((label, one, "output") for label, one in zip(outputs, comparisons, strict=True))
            for row, comparison, candidate in rows:
                for metric, values in comparison.values.items():
                    name = f"{metric}/{judge_name}".rstrip("/")
                    series = found.setdefault(row, {}).setdefault(name, [None] * len(images))
                    series[place] = float(f"{values[candidate]:.6g}")
    ordered = [label for label in (*BASELINES, *methods) if label in found]
    return {label: {name: numbers(values) for name, values in found[label].items()} for label in ordered}


def numbers(values: Sequence[float | None]) -> dict[str, Any]:
    """Return all values, with mean and standard error of those that are there."""
    found = estimate([value for value in values if value is not None])
    return {"mean": found.mean, "error": found.standard_error, "values": list(values)}


def differences(rows: Mapping[str, Numbers], references: Mapping[str, str]) -> dict[str, Numbers]:
    """Return the differences of methods from their references, pair by pair.

    Args:
        rows: From `surveyed`.
        references: The reference of each method; pairs that either failed at are left out.
    """
    found: dict[str, Numbers] = {}
    for label, reference in references.items():
        if label in rows and reference in rows:
            own, other = rows[label], rows[reference]
            each = {name: _paired(own[name]["values"], other[name]["values"]) for name in own}
            if all(any(value is not None for value in values) for values in each.values()):
                found[f"{label} - {reference}"] = {name: numbers(values) for name, values in each.items()}
    return found


def _paired(own: Sequence[float | None], other: Sequence[float | None]) -> list[float | None]:
    pairs = zip(own, other, strict=True)
    return [None if a is None or b is None else float(f"{a - b:.6g}") for a, b in pairs]


def markdown(report: Mapping[str, Any]) -> str:
    """Format the table of a report; a method that failed at pairs says at how many."""
    shown, rows = SHOWN[report["kind"]], report["table"]
    lines = [["method", *shown.values()], ["---"] * (1 + len(shown))]
    for label in (*[row for row in rows if row not in report["methods"]], *report["methods"]):
        failed, optimized = report["failed"].get(label, 0), report["backbones"].get(label, "")
        name = f"{label} ({failed} of {len(report['pairs'])} failed)" if failed else label
        lines.append([name, *(_cell(rows.get(label), metric, optimized) for metric in shown)])
    return _set(lines)


def markdown_differences(report: Mapping[str, Any]) -> str:
    """Format the table of differences; differences above two standard errors are bold."""
    shown = SHOWN[report["kind"]]
    lines = [["difference, pair by pair", *shown.values()], ["---"] * (1 + len(shown))]
    lines += [[label, *(_signed(each[m], m) for m in shown)] for label, each in report["differences"].items()]
    return _set(lines)


def matrix(report: Mapping[str, Any], metric: str) -> str:
    """Format one metric of methods called `GROUP: KIND`, groups down and kinds across."""
    split = {label: label.split(": ", 1) for label in report["methods"]}
    groups, kinds = (list(dict.fromkeys(names)) for names in zip(*split.values(), strict=True))
    lines = [[SHOWN[report["kind"]][metric], *kinds], ["---"] * (1 + len(kinds))]
    for label in BASELINES:
        lines.append([label, *([_cell(report["table"][label], metric, "")] + [""] * (len(kinds) - 1))])
    for group in groups:
        labels = [f"{group}: {kind}" for kind in kinds]
        cells = [_cell(report["table"].get(one), metric, report["backbones"].get(one, "")) for one in labels]
        lines.append([group, *cells])
    return _set(lines)


def _set(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(numbers_of: Numbers | None, metric: str, optimized: str) -> str:
    # An asterisk marks what was measured in the network that the image was optimized through.
    if numbers_of is None:
        return NONE
    text = _with_error(numbers_of[metric], metric)
    return f"{text}*" if metric.endswith(f"/{optimized}") else text


def _signed(number: Mapping[str, Any], metric: str) -> str:
    text, error = _with_error(number, metric, sign="+"), number["error"]
    return f"**{text}**" if error is not None and abs(number["mean"]) > 2 * error else text


def _with_error(number: Mapping[str, Any], metric: str, *, sign: str = "") -> str:
    mean, error, digits = number["mean"], number["error"], DIGITS.get(metric, 2)
    text = f"{mean:{sign}.{digits}f}"
    return text if error is None else f"{text} ± {error:.{digits}f}"


def main() -> None:
    """Print the tables of a report."""
    parser = argparse.ArgumentParser(description="The tables of an experiment that was run")
    parser.add_argument("report", type=Path, help="the JSON that it wrote")
    parser.add_argument("--metric", help="methods `GROUP: KIND` as a matrix of this metric")
    arguments = parser.parse_args()
    report = json.loads(arguments.report.read_text())
    if arguments.metric is not None:
        print(matrix(report, arguments.metric))
        return
    print(markdown(report))
    if report["differences"]:
        print(f"\n{markdown_differences(report)}")


if __name__ == "__main__":
    main()
