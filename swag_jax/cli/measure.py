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
from swag_jax._files import read_text
from swag_jax.backbones import NAMES, layer_names, load
from swag_jax.backbones.zoo import entry
from swag_jax.cli._display import Display, clock, closing, table_console
from swag_jax.cli._exit import ExitCode
from swag_jax.cli._flags import Quiet, flag, word
from swag_jax.cli._folder import Task, read_records
from swag_jax.cli._outputs import check_outputs, labeled, write_report
from swag_jax.cli._pairs import each_row, paths_of
from swag_jax.images import read_image
from swag_jax.measure import METRICS, Estimate, Evaluator, load_inception, load_lpips
from swag_jax.measure.aggregate import Aggregate, Estimates
from swag_jax.measure.evaluator import CANDIDATES, CFSD_LAYER

# A network with embedded weights, and not the one that most images are made with.
DEFAULT_BACKBONE = "resnet50"

# The flags for what an evaluator reads from files.
_FILES = {"lpips": "lpips_weights", "inception": "fid_weights"}

# What a metric is made of, which is then measured too.
_PARTS = {"artfid": ("lpips", "fid")}

# What each network of an evaluator is for.
_ROLES = {"network": "content and style", "vgg19": "cfsd", "lpips": "lpips", "inception": "fid"}

# What a metric needs that no pair could give, apart from an image.
_NEEDS = {
    "identity": "needs a pair whose content is its style",
    **dict.fromkeys(("fid", "artfid"), "needs at least 2 pairs"),
}

# Less is shown as 0: what float32 leaves of a style's distance to itself, relative and squared.
_ROUNDING = 1e-12

_ROW_KEYS = ("name", "content", "style", "output", "backbone")


@dataclass(frozen=True)
class Triple(Task):
    """A result to be measured, if `batch` made one, and the network that made it, if known."""

    output: Path | None
    backbone: str | None = None


@dataclass(frozen=True, kw_only=True)
class Measure(Quiet):
    """Quality metrics of results.

    Measure how much of the content results keep and how near they come to the style, in a network that did not make
    them, next to the two trivial results: the unchanged content, and a copy of the style. Exit code 3 says that some
    results could not be measured.
    """

    usage: ClassVar[str] = "swag-jax measure RESULTS | CONTENT STYLE [STYLE ...] OUT | --pairs FILE [flags]"

    paths: tuple[Path, ...] = word(
        "PATH", "RESULTS: the folder of batch, or the report of stylize; or the images CONTENT STYLE OUT", ()
    )
    pairs: Path | None = flag(
        "A .csv or .jsonl file with columns or keys content, style and output, perhaps name, and backbone: "
        "the network that made it",
        None,
    )
    metrics: tuple[str, ...] = flag("Which of the metrics", tuple(METRICS))
    backbone: str = flag("The network for content and style, not the one that made the images", DEFAULT_BACKBONE)
    weights: str = flag("Its weights: auto, imagenet, embedded, random, or a path", "auto")
    layers: tuple[str, ...] = flag("Its layers for the style; by default the network's own", ())
    content_layer: str | None = flag("Its layer for the content; by default the network's own", None)
    lpips_weights: Path | None = flag(
        "Linear weights of LPIPS, such as alex.pth of the lpips package; they tell the trunk", None
    )
    lpips_trunk: str = flag("Weights of LPIPS's AlexNet or VGG16, like --weights", "imagenet")
    fid_weights: Path | None = flag(
        "Weights of FID's Inception v3, such as pt_inception-2015-12-05-6726825d.pth of pytorch-fid", None
    )
    seed: int = flag("Of random directions and weights", 0)
    json: Path | None = flag("Write all numbers here, those of every pair included", None)

    def run(self) -> ExitCode:
        """Check everything first, then measure, then write."""
        began = time.perf_counter()
        triples = _triples(self)
        metrics, missing = _available(self)
        _check(self, triples)
        evaluator, sources = _evaluator(metrics, self)
        warning = _warning(triples, sources, self)
        opening = [f"{_ROLES[role]}: {source.backbone}, {source.describe()}" for role, source in sources.items()]
        opening += [f"warning: {warning}"] if warning else []
        display = Display("measure", quiet=self.quiet, opening=opening)
        with display:
            pairs, estimates = _measure(triples, evaluator, display)
        missing |= {n: _NEEDS.get(n, "needs a pair that can be measured") for n in metrics if n not in estimates}
        if not self.quiet:
            _print(estimates, missing)
        if self.json is not None:
            layers = {"content_layer": evaluator.content_layer, "style_layers": list(evaluator.style_layers)}
            found = _report(pairs, estimates, missing, sources) | layers
            write_report(self.json, {**found, "seed": self.seed, "warning": warning})
        failed = sum(pair["error"] is not None for pair in pairs)
        line = f"measured {len(pairs) - failed} of {len(pairs)} images in {clock(time.perf_counter() - began)}"
        display.say(closing(line, failed=failed, written=[self.json]))
        return ExitCode.SOME_FAILED if failed else ExitCode.DONE


def _triples(command: Measure) -> list[Triple]:
    paths = command.paths
    if (pairs := command.pairs) is not None:
        if paths:
            raise error("--pairs must be given alone", cure="leave out the other paths")
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
        # Anything else that is no such report fails at one of the keys.
        names = [report["output"], report["content"], *report["styles"]]
        if "\0" in "".join(names):
            raise ValueError("a NUL character in a file's name")
        output, content, *styles = map(Path, names)
        return Triple(output.stem, content, tuple(styles), output, report["settings"]["backbone"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as problem:
        rule = f"{path} must be the folder of `swag-jax batch` or the report of `swag-jax stylize --report`"
        raise error(rule, got=f"something else ({problem})", cure="or pass CONTENT STYLE OUT") from problem


def _available(command: Measure) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the metrics that can be measured, with their parts, and what the others need."""
    asked = [check_name(name, METRICS, what="metric") for name in command.metrics]
    if not asked:
        raise error("there must be at least one metric", cure=f"choose among {', '.join(METRICS)}")
    absent = {needed: flag for needed, flag in _FILES.items() if getattr(command, flag) is None}
    wanted, missing = set[str](), {}
    for name in asked:
        flags = [f"--{absent[x].replace('_', '-')} FILE" for x in METRICS[name].reads if x in absent]
        if flags:
            missing[name] = f"needs {' and '.join(flags)}"
        else:
            wanted |= {name, *_PARTS.get(name, ())}
    return tuple(name for name in METRICS if name in wanted), missing


def _check(command: Measure, triples: Sequence[Triple]) -> None:
    """Raise unless all names are known and the report can be written, and not over a file that is read."""
    check_range(command.seed, what="seed", low=0, high=2**32 - 1)
    check_name(command.backbone, NAMES, what="backbone")
    for layer in (*command.layers, *filter(None, [command.content_layer])):
        check_name(layer, layer_names(command.backbone), what="layer")
    inputs: list[tuple[str, Path | None]] = [("--pairs", command.pairs), *labeled("PATH", command.paths)]
    inputs += [("the records", file) for p in command.paths for file in p.glob("results*.jsonl")]
    inputs += [("--lpips-weights", command.lpips_weights), ("--fid-weights", command.fid_weights)]
    inputs += [(f"an image of {t.name}", path) for t in triples for path in (t.content, *t.styles, t.output)]
    check_outputs([("--json", command.json)], inputs, weights=[command.weights, command.lpips_trunk])


def _evaluator(metrics: tuple[str, ...], command: Measure) -> tuple[Evaluator, dict[str, params.Source]]:
    """Load what the metrics read; return also where each network's weights came from."""
    needed = {attribute for name in metrics for attribute in METRICS[name].reads}
    known, seed = entry(command.backbone), command.seed
    content_layer, style_layers = command.content_layer or known.content_layer, command.layers or known.style_layers
    # CFSD's network has the weights asked for only if those are of a VGG19.
    weights = command.weights if command.backbone == "vgg19" else "auto"
    layers = (content_layer, *style_layers)
    loaders = {
        "network": lambda: load(command.backbone, weights=command.weights, layers=layers, seed=seed),
        "vgg19": lambda: load("vgg19", weights=weights, layers=(CFSD_LAYER,), seed=seed),
        "lpips": lambda: load_lpips(command.lpips_weights or Path(), trunk=command.lpips_trunk),
        "inception": lambda: load_inception(command.fid_weights or Path()),
    }
    loaded = {role: make() for role, make in loaders.items() if role in needed}
    networks: dict[str, Any] = {role: network for role, (network, _) in loaded.items()}
    key = jax.random.key(seed)
    evaluator = Evaluator(metrics, content_layer=content_layer, style_layers=tuple(style_layers), key=key, **networks)
    return evaluator, {role: source for role, (_, source) in loaded.items()}


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


def _measure(
    triples: Sequence[Triple], evaluator: Evaluator, display: Display
) -> tuple[list[dict[str, Any]], Estimates]:
    """Return what the report says of each result, and the means; what is wrong with one of many is reported."""
    aggregate, pairs = Aggregate(), []
    for triple in triples:
        values, problem, output = {}, None, triple.output
        try:
            if output is None:
                raise error("there must be an image to measure", got="a pair that `batch` could not make")
            image, content, *styles = map(read_image, (output, triple.content, *triple.styles))
            comparison = evaluator.compare(image, content, styles)
            aggregate.add(comparison)
            values = comparison.values
        except UserError as failure:
            if len(triples) == 1:
                raise
            problem = " ".join(str(failure).split())
        pair = {"name": triple.name, "content": str(triple.content), "styles": list(map(str, triple.styles))}
        pair |= {"output": None if output is None else str(output), "backbone": triple.backbone}
        pairs.append({**pair, "values": values, "error": problem})
        display.count(len(pairs), len(triples), "pairs")
        if problem is not None:
            display.say(f"failed: {triple.name}: {problem}")
    return pairs, aggregate.estimates()


def _print(estimates: Estimates, missing: Mapping[str, str]) -> None:
    """Print a table: means and standard errors over pairs, for each candidate."""
    table = Table("metric", "better", box=None, pad_edge=False)
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


def _report(
    pairs: Sequence[Mapping[str, Any]],
    estimates: Estimates,
    missing: Mapping[str, str],
    sources: Mapping[str, params.Source],
) -> dict[str, Any]:
    """Return all numbers, and where they are from."""
    return {
        "metrics": {
            name: {"better": METRICS[name].better, "against": METRICS[name].against}
            | {candidate: asdict(estimate) for candidate, estimate in by_candidate.items()}
            for name, by_candidate in estimates.items()
        },
        "not_measured": dict(missing),
        "pairs": list(pairs),
        "networks": {role: {**asdict(source), "description": source.describe()} for role, source in sources.items()},
    }
