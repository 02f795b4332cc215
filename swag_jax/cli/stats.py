"""`swag-jax stats`: peaks and entropies of activations, network by network and stage by stage."""

import argparse
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from swag_jax import plots
from swag_jax._checks import check_name, check_range, printable
from swag_jax._files import check_target
from swag_jax.backbones import NAMES
from swag_jax.backbones.resnet import SWITCHES
from swag_jax.cli._display import Display, clock, count_line, table_console
from swag_jax.cli._exit import ExitCode
from swag_jax.cli._flags import listed, number_or
from swag_jax.cli._outputs import check_outputs, write_report
from swag_jax.cli._pairs import images_in, left_out_of
from swag_jax.cli._subjects import available, names_of, read_subjects
from swag_jax.images import CONTENTS, STYLES, read_image, sample
from swag_jax.measure.activations import (
    MEASURES,
    RAW,
    SMOOTHINGS,
    ActivationStatistics,
    NetworkStatistics,
    StatisticsProgress,
    activation_statistics,
    label,
)
from swag_jax.measure.network_spec import CHOICES, NetworkSpec
from swag_jax.optimize import StylizeSettings
from swag_jax.params.resolve import WEIGHTS
from swag_jax.smoothing import Smoothing

SIZE = StylizeSettings().size

_DEFAULT_NETWORKS = ("vgg19", "resnet50")
_STARRED = "resnet50"
"""The network that the paper's figure also shows smoothed."""


def add_parser(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "stats",
        help="activation statistics of networks",
        usage="swag-jax stats [--images DIR|FILE ...] [--networks A,B] [--json FILE] [--plot FILE] [flags]",
        description="Measure maximum, normalized entropy and peak (maximum over root mean square) of the activations "
        "and Gram matrices of networks, stage by stage, averaged over images: the SWAG paper's figure. Exit code 3 "
        "says that some images or networks failed.",
    )
    parser.add_argument(
        "--images",
        nargs="+",
        default=[*CONTENTS, *STYLES],
        metavar="PATH",
        help="Folders, files, or names of samples (default: all samples)",
    )
    parser.add_argument(
        "--networks",
        type=listed(str),
        default=_DEFAULT_NETWORKS,
        metavar="A,B",
        help=f"Of {', '.join(NAMES)}; a residual one with switches turned: NAME:SWITCH=VALUE, as in "
        f"resnet50:residual=false:depths=2-2-2-2, of {', '.join(SWITCHES)} (default: {','.join(_DEFAULT_NETWORKS)})",
    )
    parser.add_argument(
        "--weights",
        type=listed(str),
        default=("random",),
        metavar="A,B",
        help=f"For every network: {', '.join(WEIGHTS)}, or a path; for one: NETWORK=PATH. Where several are "
        "named, results are called NETWORK/WEIGHTS (default: random, as in the paper)",
    )
    parser.add_argument(
        "--layers",
        type=listed(str),
        default=(CHOICES[0],),
        metavar="A,B",
        help="stages (the last of each), all, or layers that every network has (default: stages)",
    )
    parser.add_argument(
        "--size", type=int, default=SIZE, metavar="N", help=f"Longer side of the images in pixels (default: {SIZE})"
    )
    parser.add_argument(
        "--smoothing",
        type=listed(str),
        default=("softmax",),
        metavar="A,B",
        help="Also measure behind these (default: softmax)",
    )
    parser.add_argument(
        "--temperature",
        type=listed(number_or("auto")),
        default=tuple(smoothing.temperature for smoothing in SMOOTHINGS),
        metavar="T,T",
        help="Temperatures of a softmax; the plot shows the first (default: 1,auto)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="Seed of random weights (default: 0)")
    parser.add_argument("--batch-size", type=int, metavar="N", help="Images at once, at most (default: by their size)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="Write all numbers here")
    parser.add_argument("--plot", type=Path, metavar="FILE", help=f"Draw them here: {', '.join(plots.FORMATS)}")
    parser.add_argument(
        "--starred",
        type=listed(str),
        metavar="A,B",
        help=f"Networks that the plot also shows smoothed (default: {_STARRED}, as in the paper)",
    )
    parser.add_argument("--peaks", action="store_true", help="Add panels of the peaks to the plot")
    parser.add_argument("--quiet", action="store_true", help="Print nothing but errors")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> ExitCode:
    """Check everything first, then measure, then write."""
    smoothings = _smoothings(arguments)
    specs, missing = available(read_subjects(arguments.networks, arguments.weights))
    files = _files(arguments.images)
    starred = _starred(arguments, specs, smoothings)
    _check_outputs(arguments, files)
    readers = {name: sample if isinstance(each, str) else read_image for name, each in files.items()}
    images = {name: functools.partial(readers[name], each, size=arguments.size) for name, each in files.items()}
    display = Display("stats", quiet=arguments.quiet, opening=_opening(missing, arguments))

    def show(progress: StatisticsProgress) -> None:
        done, total, left = progress.images, progress.total, progress.seconds_left
        line = count_line(done, total, "images", failed=progress.failed, seconds_left=left)
        display.show({**line, "network": progress.network}, done, total)

    with display:
        found = activation_statistics(
            images,
            specs,
            layers=_layers(arguments),
            smoothings=smoothings,
            seed=arguments.seed,
            batch_size=arguments.batch_size,
            callback=show,
        )
    for name, problem in found.failures.items():
        display.say(f"failed: {name}: {problem}")
    if not arguments.quiet:
        _print(found)
    if arguments.json is not None:
        _write_report(arguments, found, smoothings, missing)
    if arguments.plot is not None:
        plots.write(arguments.plot, plots.activation_statistics(found, starred=starred, peaks=arguments.peaks))
    display.say(_closing(arguments, found))
    return ExitCode.SOME_FAILED if missing or found.failures else ExitCode.DONE


def _layers(arguments: argparse.Namespace) -> str | tuple[str, ...]:
    asked: tuple[str, ...] = arguments.layers
    return asked[0] if len(asked) == 1 and asked[0] in CHOICES else asked


def _smoothings(arguments: argparse.Namespace) -> list[Smoothing]:
    """Return every softmax at every temperature, and the others once."""
    kinds = [Smoothing(kind) for kind in arguments.smoothing]
    return [
        Smoothing(kind.kind, temperature=temperature)
        for kind in kinds
        for temperature in (arguments.temperature if kind.axes else [1.0])
    ]


def _opening(missing: dict[str, str], arguments: argparse.Namespace) -> list[str]:
    """Say which networks and files are left out."""
    folders = [Path(entry) for entry in arguments.images]
    return [*(f"left out: {name}: {problem}" for name, problem in missing.items()), *left_out_of(*folders)]


def _files(asked: Sequence[str]) -> dict[str, Path | str]:
    """Return paths, and names of samples, by the names of the files; by their paths where two are equal."""
    found = list[Path | str]()
    for entry in asked:
        path = Path(entry)
        if path.is_dir():
            found += images_in(path, "--images")
        else:
            found.append(entry if entry in (*CONTENTS, *STYLES) and not path.exists() else path)
    names = [Path(each).name for each in found]
    return {name if names.count(name) == 1 else str(each): each for name, each in zip(names, found, strict=True)}


def _starred(arguments: argparse.Namespace, specs: Sequence[NetworkSpec], smoothings: Sequence[Smoothing]) -> list[str]:
    """Return the names of the networks that the plot also shows smoothed."""
    asked = arguments.starred
    if asked is None:
        asked = [_STARRED] if any(smoothing.kind != "none" for smoothing in smoothings) else []
    else:
        known = dict.fromkeys(name for spec in specs for name in names_of(spec))
        asked = [check_name(name, known, what="network") for name in asked]
    return [spec.name for spec in specs if set(asked) & set(names_of(spec))]


def _check_outputs(arguments: argparse.Namespace, files: dict[str, Path | str]) -> None:
    """Raise unless all that will be written can be, and none of it over an image that is read."""
    check_range(arguments.size, what="size", low=1)
    if arguments.json is not None:
        check_target(arguments.json, what="--json")
    if arguments.plot is not None:
        plots.check_output(arguments.plot)
    inputs = [("--images", path) for path in files.values() if isinstance(path, Path)]
    weights = [part for entry in arguments.weights for part in (entry, entry.partition("=")[2]) if part]
    check_outputs([("--json", arguments.json), ("--plot", arguments.plot)], inputs, weights=weights)


def _print(found: ActivationStatistics) -> None:
    """Print the means: a table for each network and smoothing, 80 columns wide."""
    console = table_console()
    console.print(f"means over {len(found.images)} images")
    for name, network in found.networks.items():
        for kind in network.smoothings:
            shown = name if kind == RAW else f"{name}, {kind}"
            console.print("\n" + printable(f"{shown}: {network.source.describe()}"), markup=False, soft_wrap=True)
            console.print(_table(network, kind))


def _table(network: NetworkStatistics, kind: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("stage", min_width=5)
    table.add_column("layer", min_width=8)
    for measure in MEASURES:
        table.add_column(measure.replace("_", " "), justify="right", min_width=8)
    ends = {layer: str(stage) for stage, layer in network.stages.items()}
    for layer in network.values:
        table.add_row(ends.get(layer, ""), layer, *_cells(network, layer, kind))
    return table


def _cells(network: NetworkStatistics, layer: str, kind: str) -> Iterator[str]:
    for measure in MEASURES:
        value = network.mean(layer, measure, smoothing=kind)
        # An entropy lies in [0, 1]; the others span many decades.
        yield f"{value:.3f}" if measure.endswith("entropy") else f"{value:.3g}"


def _write_report(
    arguments: argparse.Namespace, found: ActivationStatistics, smoothings: Sequence[Smoothing], missing: dict[str, str]
) -> None:
    """Write all numbers with what is needed to understand and repeat them, as JSON."""
    numbers = found.as_dict()
    report = {
        "networks": numbers["networks"],
        "images": numbers["images"],
        "failures": [{"name": name, "error": problem} for name, problem in missing.items()] + numbers["failures"],
        "settings": {
            "networks": list(arguments.networks),
            "weights": [entry if entry in WEIGHTS else Path(entry).name for entry in arguments.weights],
            "layers": list(arguments.layers),
            "size": arguments.size,
            "smoothings": [label(smoothing) for smoothing in smoothings],
            "seed": arguments.seed,
        },
        "seconds": round(found.seconds, 3),
    }
    write_report(arguments.json, report)


def _closing(arguments: argparse.Namespace, found: ActivationStatistics) -> str:
    outputs = [str(path) for path in (arguments.json, arguments.plot) if path is not None]
    wrote = f", wrote {' and '.join(outputs)}" if outputs else ""
    failed = f", {len(found.failures)} failed" if found.failures else ""
    number = f"{len(found.networks)} networks on {len(found.images)} images"
    return f"measured {number} in {clock(found.seconds)}{failed}{wrote}"
