"""`swag-jax measure`: quality metrics of results, next to those of the unchanged content and of a copy of the style."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
from rich.table import Table

from swag_jax import params
from swag_jax._checks import UserError, check_name, check_range, error
from swag_jax._files import check_target, read_text
from swag_jax.backbones import NAMES, layer_names, load
from swag_jax.backbones.zoo import entry
from swag_jax.cli._display import Display, clock, count_line, table_console
from swag_jax.cli._exit import ExitCode
from swag_jax.cli._flags import Quiet, word
from swag_jax.cli._folder import Task, read_records
from swag_jax.cli._outputs import check_outputs, write_report
from swag_jax.cli._pairs import each_row, paths_of
from swag_jax.images import read_image
from swag_jax.measure import METRICS, Comparison, Estimate, Evaluator, load_inception, load_lpips
from swag_jax.measure.aggregate import Aggregate, Estimates
from swag_jax.measure.evaluator import CANDIDATES, CFSD_LAYER

DEFAULT_BACKBONE = "resnet50"
"""A network with embedded weights, and not the one that most images are made with."""

_FILES = {"lpips": "lpips_weights", "inception": "fid_weights"}
"""The flags for what a judge reads from files."""

_PARTS = {"artfid": ("lpips", "fid")}
"""What a metric is made of, which is then measured too."""

_ROUNDING = 1e-12
"""Less is shown as 0: what float32 leaves of a style's distance to itself, relative and squared."""

_ROW_KEYS = ("name", "content", "style", "output", "backbone")


@dataclass(frozen=True)
class Triple(Task):
    """One result to be measured.

    Attributes:
        output: The result; `None` if `batch` made none.
        backbone: The network that made it, if known.
    """

    output: Path | None
    backbone: str | None = None


@dataclass(frozen=True)
class Measured:
    """What became of a triple: its comparison, or what was wrong with it."""

    triple: Triple
    comparison: Comparison | None
    problem: str | None


@dataclass(frozen=True, kw_only=True)
class Measure(Quiet):
    """Quality metrics of results.

    Measure how much of the content results keep and how near they come to the style, in a network that did not make
    them, next to the two trivial results: the unchanged content, and a copy of the style. Exit code 3 says that some
    results could not be measured.

    Attributes:
        paths: RESULTS: the folder of `batch`, or the report of `stylize`; or the images CONTENT STYLE OUT.
        pairs: A .csv or .jsonl file with columns or keys content, style and output, perhaps name, and backbone: the
            network that made it.
        metrics: Which of the metrics.
        backbone: The network for content and style, not the one that made the images.
        weights: Its weights: auto, imagenet, embedded, random, or a path.
        layers: Its layers for the style; by default the network's own.
        content_layer: Its layer for the content; by default the network's own.
        lpips_weights: Linear weights of LPIPS, such as alex.pth of the lpips package; they tell the trunk.
        lpips_trunk: Weights of LPIPS's AlexNet or VGG16, like --weights.
        fid_weights: Weights of FID's Inception v3, such as pt_inception-2015-12-05-6726825d.pth of pytorch-fid.
        seed: Of random directions and weights.
        json: Write all numbers here, those of every pair included.
    """

    usage: ClassVar[str] = "swag-jax measure RESULTS | CONTENT STYLE [STYLE ...] OUT | --pairs FILE [flags]"

    paths: tuple[Path, ...] = word("PATH", ())
    pairs: Path | None = None
    metrics: tuple[str, ...] = tuple(METRICS)
    backbone: str = DEFAULT_BACKBONE
    weights: str = "auto"
    layers: tuple[str, ...] = ()
    content_layer: str | None = None
    lpips_weights: Path | None = None
    lpips_trunk: str = "imagenet"
    fid_weights: Path | None = None
    seed: int = 0
    json: Path | None = None

    def run(self) -> ExitCode:
        """Check everything first, then measure, then write."""
        began = time.perf_counter()
        triples = _triples(self)
        metrics, missing = _available(self)
        _check(self, triples)
        evaluator, sources = _judge(metrics, self)
        warning = _warning(triples, sources, self)
        display = Display("measure", quiet=self.quiet, opening=_opening(sources, warning))
        with display:
            found, aggregate = _measure(triples, evaluator, display)
        estimates = aggregate.estimates()
        missing |= _impossible(metrics, estimates)
        if not self.quiet:
            _print(estimates, missing)
        if self.json is not None:
            conditions = _conditions(evaluator, sources, warning, self.seed)
            write_report(self.json, _report(found, estimates, missing) | conditions)
        display.say(_closing(self, found, time.perf_counter() - began))
        return ExitCode.SOME_FAILED if any(each.problem for each in found) else ExitCode.DONE


def _triples(command: Measure) -> list[Triple]:
    paths = command.paths
    if (pairs := command.pairs) is not None:
        if paths:
            raise error("--pairs stands alone", cure="leave out the other paths")
        return each_row(pairs, lambda row: _of_row(row, pairs.parent))
    if len(paths) == 1:
        return _of_folder(paths[0]) if paths[0].is_dir() else [_of_report(paths[0])]
    if len(paths) < 3:
        raise error("there must be the folder or report of results, or CONTENT STYLE OUT, or --pairs")
    content, *styles, output = paths
    return [Triple(output.stem, content, tuple(styles), output)]


def _of_row(row: Mapping[str, Any], folder: Path) -> Triple:
    for key in row:
        check_name(key, _ROW_KEYS, what="column or key")
    content, styles = paths_of(row, folder)
    if not row.get("output"):
        raise error("there must be an output", cure="add the column or key `output`")
    output = folder / str(row["output"])
    return Triple(str(row.get("name") or output.stem), content, styles, output, row.get("backbone"))


def _of_folder(folder: Path) -> list[Triple]:
    """Return the pairs that `batch` recorded; outputs are in the folder itself, wherever it is now."""
    triples = []
    for record in read_records(folder):
        try:
            output = folder / Path(record["output"]).name if record.get("output") else None
            styles = tuple(map(Path, record["styles"]))
            triples.append(Triple(record["name"], Path(record["content"]), styles, output, record.get("backbone")))
        except (KeyError, TypeError) as problem:
            raise error(f"the records of {folder} must be those of `batch`", got=f"{record} ({problem})") from problem
    return triples


def _of_report(path: Path) -> Triple:
    try:
        report = json.loads(read_text(path))
        output = _path(report["output"])
        styles = tuple(map(_path, report["styles"]))
        return Triple(output.stem, _path(report["content"]), styles, output, report["settings"]["backbone"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as problem:
        rule = f"{path} must be the folder of `swag-jax batch` or the report of `swag-jax stylize --report`"
        raise error(rule, got=f"something else ({problem})", cure="or name CONTENT STYLE OUT") from problem


def _path(name: str) -> Path:
    if "\0" in name:
        raise ValueError("a NUL character in a file's name")
    return Path(name)


def _available(command: Measure) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the metrics that can be measured, with their parts, and what the others need."""
    asked = [check_name(name, METRICS, what="metric") for name in command.metrics]
    if not asked:
        raise error("there must be at least one metric", cure=f"choose among {', '.join(METRICS)}")
    missing = {}
    for name in asked:
        flags = [_FILES[needed] for needed in METRICS[name].reads if needed in _FILES]
        absent = [f"--{flag.replace('_', '-')} FILE" for flag in flags if getattr(command, flag) is None]
        if absent:
            missing[name] = f"needs {' and '.join(absent)}"
    wanted = {part for name in asked if name not in missing for part in (name, *_PARTS.get(name, ()))}
    return tuple(name for name in METRICS if name in wanted), missing


def _check(command: Measure, triples: Sequence[Triple]) -> None:
    """Raise unless all names are known and the report can be written, and not over a file that is read."""
    check_range(command.seed, what="seed", low=0, high=2**32 - 1)
    check_name(command.backbone, NAMES, what="backbone")
    for layer in (*command.layers, *filter(None, [command.content_layer])):
        check_name(layer, layer_names(command.backbone), what="layer")
    if command.json is not None:
        check_target(command.json, what="--json")
    inputs: list[tuple[str, Path | None]] = [("--pairs", command.pairs), *(("PATH", p) for p in command.paths)]
    inputs += [("the records", file) for p in command.paths for file in p.glob("results*.jsonl")]
    inputs += [("--lpips-weights", command.lpips_weights), ("--fid-weights", command.fid_weights)]
    inputs += [(f"an image of {t.name}", path) for t in triples for path in (t.content, *t.styles, t.output)]
    check_outputs([("--json", command.json)], inputs, weights=[command.weights, command.lpips_trunk])


def _judge(metrics: tuple[str, ...], command: Measure) -> tuple[Evaluator, dict[str, params.Source]]:
    """Load what the metrics read; return also where each network's weights came from."""
    needed = {attribute for name in metrics for attribute in METRICS[name].reads}
    known = entry(command.backbone)
    content_layer = command.content_layer or known.content_layer
    style_layers = command.layers or known.style_layers
    loaded: dict[str, Any] = {}
    sources: dict[str, params.Source] = {}
    if "network" in needed:
        layers = (content_layer, *style_layers)
        options = {"weights": command.weights, "seed": command.seed}
        loaded["network"], sources["network"] = load(command.backbone, layers=layers, **options)
    if "vgg19" in needed:
        weights = command.weights if command.backbone == "vgg19" else "auto"
        loaded["vgg19"], sources["vgg19"] = load("vgg19", weights=weights, layers=(CFSD_LAYER,), seed=command.seed)
    if "lpips" in needed and command.lpips_weights is not None:
        loaded["lpips"], sources["lpips"] = load_lpips(command.lpips_weights, trunk=command.lpips_trunk)
    if "inception" in needed and command.fid_weights is not None:
        loaded["inception"], sources["inception"] = load_inception(command.fid_weights)
    key = jax.random.key(command.seed)
    evaluator = Evaluator(metrics, content_layer=content_layer, style_layers=tuple(style_layers), key=key, **loaded)
    return evaluator, sources


_ROLES = {"network": "content and style", "vgg19": "cfsd", "lpips": "lpips", "inception": "fid"}
"""What each network of a judge is for."""


def _opening(sources: Mapping[str, params.Source], warning: str | None) -> list[str]:
    """Say which networks measure what."""
    lines = [f"{_ROLES[role]}: {source.backbone}, {source.describe()}" for role, source in sources.items()]
    return [*lines, *([f"warning: {warning}"] if warning else [])]


def _warning(triples: Sequence[Triple], sources: Mapping[str, params.Source], command: Measure) -> str | None:
    """Say how many images were made through the network that is to judge them."""
    own = [triple for triple in triples if triple.backbone == command.backbone]
    if not own or "network" not in sources:
        return None
    other = next(name for name in (DEFAULT_BACKBONE, "vgg19") if name != command.backbone)
    return (
        f"{command.backbone} made {len(own)} of {len(triples)} images itself: content and style in it say little; "
        f"pass --backbone {other}"
    )


def _measure(triples: Sequence[Triple], evaluator: Evaluator, display: Display) -> tuple[list[Measured], Aggregate]:
    """Measure all results; what is wrong with one of many is reported, and the others are measured."""
    aggregate, found, began = Aggregate(), list[Measured](), time.perf_counter()
    for triple in triples:
        try:
            comparison, problem = _compare(triple, evaluator), None
            aggregate.add(comparison)
        except UserError as failure:
            if len(triples) == 1:
                raise
            comparison, problem = None, " ".join(str(failure).split())
        found.append(Measured(triple, comparison, problem))
        done, total = len(found), len(triples)
        expected = (time.perf_counter() - began) / done * (total - done)
        display.show(count_line(done, total, "pairs", seconds_left=expected), done, total)
        if problem is not None:
            display.say(f"failed: {triple.name}: {problem}")
    return found, aggregate


def _compare(triple: Triple, evaluator: Evaluator) -> Comparison:
    if triple.output is None:
        raise error("there must be an image to measure", got="a pair that `batch` could not make")
    output, content, *styles = map(read_image, (triple.output, triple.content, *triple.styles))
    return evaluator.compare(output, content, styles)


def _impossible(metrics: Sequence[str], estimates: Estimates) -> dict[str, str]:
    """Return what the metrics need that no pair could give."""
    reasons = {
        "identity": "needs a pair whose content is its style",
        "fid": "needs at least 2 pairs",
        "artfid": "needs at least 2 pairs",
    }
    return {name: reasons.get(name, "needs a pair that can be measured") for name in metrics if name not in estimates}


def _print(estimates: Estimates, missing: Mapping[str, str]) -> None:
    """Print a table: means and standard errors over pairs, for each candidate."""
    table = Table(box=None, pad_edge=False)
    table.add_column("metric")
    table.add_column("better")
    for title in ("output", "output = content", "output = style", "pairs"):
        table.add_column(title, justify="right")
    for name in METRICS:
        if name in estimates:
            found = estimates[name]
            cells = [_cell(found[candidate]) for candidate in CANDIDATES]
            table.add_row(name, METRICS[name].better, *cells, str(found["output"].count))
    console = table_console()
    console.print(table)
    for name in METRICS:
        if name in missing:
            console.print(f"{name}: not measured: {missing[name]}", markup=False, soft_wrap=True)


def _cell(estimate: Estimate) -> str:
    mean, error = (0.0 if x is None or abs(x) < _ROUNDING else x for x in (estimate.mean, estimate.standard_error))
    return f"{mean:.4g}" if estimate.standard_error is None else f"{mean:.4g} ± {error:.2g}"


def _report(found: Sequence[Measured], estimates: Estimates, missing: Mapping[str, str]) -> dict[str, Any]:
    """Return all numbers."""
    return {
        "metrics": {
            name: {"better": METRICS[name].better, "against": METRICS[name].against}
            | {candidate: asdict(estimate) for candidate, estimate in by_candidate.items()}
            for name, by_candidate in estimates.items()
        },
        "not_measured": dict(missing),
        "pairs": [_pair(each) for each in found],
    }


def _conditions(
    evaluator: Evaluator, sources: Mapping[str, params.Source], warning: str | None, seed: int
) -> dict[str, Any]:
    """Return what is needed to understand and repeat the numbers."""
    return {
        "networks": {role: {**asdict(source), "description": source.describe()} for role, source in sources.items()},
        "content_layer": evaluator.content_layer,
        "style_layers": list(evaluator.style_layers),
        "seed": seed,
        "warning": warning,
    }


def _pair(measured: Measured) -> dict[str, Any]:
    triple, comparison = measured.triple, measured.comparison
    return {
        "name": triple.name,
        "content": str(triple.content),
        "styles": [str(style) for style in triple.styles],
        "output": None if triple.output is None else str(triple.output),
        "backbone": triple.backbone,
        "values": {} if comparison is None else comparison.values,
        "error": measured.problem,
    }


def _closing(command: Measure, found: Sequence[Measured], seconds: float) -> str:
    failed = sum(each.problem is not None for each in found)
    line = f"measured {len(found) - failed} of {len(found)} images in {clock(seconds)}"
    line += f", {failed} failed" if failed else ""
    return line if command.json is None else f"{line}, wrote {command.json}"
