"""Show generators made by `swag-jax train`: for each a sheet of unseen pairs, its losses, and metrics.

    python benchmarks/trained.py runs/adain runs/adaattn
    python benchmarks/trained.py runs/adain --contents cat.jpg street.jpg --styles wave.jpg night.jpg -o looks

By default, contents and styles are the samples; no generator is trained with these. The metrics of the results stand
next to those of two trivial results: the unchanged contents, and copies of the styles.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gallery import read_source

import swag_jax as swag
from swag_jax import plots
from swag_jax._files import replacing
from swag_jax.apply import Stylizer
from swag_jax.backbones.zoo import entry
from swag_jax.measure import Evaluator
from swag_jax.measure.aggregate import Aggregate
from swag_jax.params.safetensors_file import read_metadata
from swag_jax.train.journal import read_journal

RESULTS = Path(__file__).resolve().parent / "results" / "trained"
JUDGE = "resnet50"
"""The network in which contents and styles are compared: not the encoder of the runs."""

NOT_LOSSES = ("step", "total", "update", "steps_per_second", "waiting")


def painted(stylizer: Stylizer, contents: Sequence[Any], styles: Sequence[Any]) -> list[list[Any]]:
    """Return a row of results for each content, a column for each style."""
    return [[swag.repaint(stylizer, content, [style]) for style in styles] for content in contents]


def measured(rows: Sequence[Sequence[Any]], contents: Sequence[Any], styles: Sequence[Any]) -> dict[str, Any]:
    """Return mean and standard error over all pairs, by metric and candidate."""
    known = entry(JUDGE)
    network, _ = swag.backbones.load(JUDGE, weights="embedded")
    layers = {"content_layer": known.content_layer, "style_layers": known.style_layers}
    evaluator, aggregate = (
        Evaluator(metrics=("ssim", "content", "gram", "color"), network=network, **layers),
        Aggregate(),
    )
    for row, content in zip(rows, contents, strict=True):
        for image, style in zip(row, styles, strict=True):
            aggregate.add(evaluator.compare(image, content, [style]))
    return {
        name: {candidate: {"mean": value.mean, "error": value.standard_error} for candidate, value in found.items()}
        for name, found in aggregate.estimates().items()
    }


def curves(runs: dict[str, list[dict[str, float]]]) -> Any:
    """Draw the weighted terms of every run by step, one panel per run."""
    made, panels = plots.figure(1, len(runs))
    for axes, (name, lines) in zip(panels, runs.items(), strict=True):
        terms = [term for term in lines[0] if term not in NOT_LOSSES]
        for term in terms:
            axes.plot([line["step"] for line in lines], [line[term] for line in lines], label=term, linewidth=1.2)
        axes.set(title=name, xlabel="step", yscale="log")
        axes.legend(fontsize=8, frameon=False)
    return made


def show(run: Path, contents: Sequence[Any], styles: Sequence[Any], output: Path) -> dict[str, Any]:
    """Write the sheet of one run; return its record."""
    stylizer = swag.load_stylizer(run)
    rows = painted(stylizer, contents, styles)
    shown = [[None, *styles], *([content, *row] for content, row in zip(contents, rows, strict=True))]
    swag.write_image(output / f"{run.name}.jpg", swag.images.sheet(shown, gap=6))
    notes = read_metadata(run / "generator.safetensors")
    return {
        "step": int(notes["step"]),
        "settings": json.loads((run / "settings.json").read_text()),
        "metrics": measured(rows, contents, styles),
        "losses": read_journal(run / "losses.jsonl"),
    }


def parse() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Return the parser and the parsed options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of swag-jax train")
    parser.add_argument("--contents", nargs="+", default=list(swag.images.CONTENTS), help="names or files")
    parser.add_argument("--styles", nargs="+", default=list(swag.images.STYLES), help="likewise")
    parser.add_argument("--size", type=int, default=256, help="longer side in pixels (default: 256)")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS, help="default: benchmarks/results/trained")
    return parser, parser.parse_args()


def main() -> None:
    """Make all sheets, the plot and the JSON."""
    parser, arguments = parse()
    try:
        contents, styles = (
            [read_source(name, arguments.size) for name in names] for names in (arguments.contents, arguments.styles)
        )
        arguments.output.mkdir(parents=True, exist_ok=True)
        found = {run.name: show(run, contents, styles, arguments.output) for run in arguments.runs}
        plots.write(arguments.output / "losses.png", curves({name: run["losses"] for name, run in found.items()}))
    except swag.UserError as problem:
        parser.error(str(problem))
    with replacing(arguments.output / "trained.json") as temporary:
        temporary.write_text(json.dumps({"size": arguments.size, "judge": JUDGE, "runs": found}, indent=1) + "\n")
    for name, run in found.items():
        values = ", ".join(
            f"{metric} {each['output']['mean']:.3f} ({each['content']['mean']:.3f}, {each['style']['mean']:.3f})"
            for metric, each in run["metrics"].items()
        )
        print(f"{name} after {run['step']} steps: {values} (content, style)")


if __name__ == "__main__":
    main()
