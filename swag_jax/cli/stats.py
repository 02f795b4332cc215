"""`swag-jax stats`: peaks and entropies of activations, network by network and stage by stage."""

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from rich.table import Table

from swag_jax import plots
from swag_jax._checks import check_name, check_range, printable
from swag_jax._types import AnyHostImage
from swag_jax.backbones import NAMES
from swag_jax.cli._display import Display, clock, closing, count_line, table_console
from swag_jax.cli._exit import ExitCode
from swag_jax.cli._flags import Quiet, flag
from swag_jax.cli._images import images_in, left_out_of
from swag_jax.cli._networks import available, read_specs
from swag_jax.cli._outputs import check_outputs, labeled, write_report
from swag_jax.images import CONTENTS, STYLES, read_image, sample
from swag_jax.measure import activations
from swag_jax.measure.activations import ActivationStatistics, NetworkStatistics, StatisticsProgress, label
from swag_jax.measure.network_spec import CHOICES, NetworkSpec
from swag_jax.optimize import StylizeSettings
from swag_jax.params.resolve import WEIGHTS
from swag_jax.smoothing import Kind, Smoothing

# The network that the paper's figure also shows smoothed.
_STARRED = "resnet50"


@dataclass(frozen=True, kw_only=True)
class Stats(Quiet):
    """Activation statistics of networks.

    Measure maximum, normalized entropy and peak (maximum over root mean square) of the activations and Gram matrices
    of networks, stage by stage, averaged over images: the SWAG paper's figure. Exit code 3 says that some images or
    networks failed.
    """

    usage: ClassVar[str] = "swag-jax stats [--images DIR|FILE ...] [--networks A,B] [--json FILE] [--plot FILE] [flags]"

    images: tuple[Path, ...] = flag(
        "Folders, files, or names of samples", tuple(map(Path, (*CONTENTS, *STYLES))), metavar="PATH"
    )
    networks: tuple[str, ...] = flag(
        "Names; a residual one with other switches is NAME:SWITCH=VALUE, such as "
        "resnet50:residual=false:depths=2-2-2-2",
        ("vgg19", "resnet50"),
        known=NAMES,
    )
    weights: tuple[str, ...] = flag(
        "For every network: auto, imagenet, embedded, random, or a path; for one: NETWORK=PATH. If there are "
        "several, results are called NETWORK/WEIGHTS. The paper's are random",
        ("random",),
    )
    layers: tuple[str, ...] = flag("stages (the last of each), all, or layers that every network has", (CHOICES[0],))
    size: int = flag("Longer side of the images in pixels", StylizeSettings().size)
    smoothing: tuple[Kind, ...] = flag("Also measure after these", ("softmax",))
    temperature: tuple[float | Literal["auto"], ...] = flag(
        "Temperatures of a softmax; the plot shows the first",
        tuple(smoothing.temperature for smoothing in activations.SMOOTHINGS),
    )
    seed: int = flag("Seed of random weights", 0)
    batch_size: int | None = flag("Images at once, at most; by default it depends on their size", None)
    json: Path | None = flag("Write all numbers here", None)
    plot: Path | None = flag("Draw them here: .png, .svg or .pdf", None)
    starred: tuple[str, ...] | None = flag(
        "Networks that the plot also shows smoothed; by default resnet50, as in the paper", None
    )
    peaks: bool = flag("Add panels of the peaks to the plot", False)

    def run(self) -> ExitCode:
        """Check everything first, then measure, then write."""
        smoothings, layers = _smoothings(self), self.layers
        specs, missing = available(read_specs(self.networks, self.weights))
        files = _files(self.images)
        starred = _starred(self, specs, smoothings)
        _check(self, [each for _, each in files.values()])
        left_out = [f"left out: {name}: {problem}" for name, problem in missing.items()]
        display = Display("stats", quiet=self.quiet, opening=[*left_out, *left_out_of(*self.images)])

        def show(progress: StatisticsProgress) -> None:
            done, total, left = progress.images, progress.total, progress.seconds_left
            line = count_line(done, total, "images", failed=progress.failed, seconds_left=left)
            display.show({**line, "network": progress.network}, done, total)

        with display:
            found = activations.activation_statistics(
                {name: functools.partial(read, each, size=self.size) for name, (read, each) in files.items()},
                specs,
                layers=layers[0] if len(layers) == 1 and layers[0] in CHOICES else layers,
                smoothings=smoothings,
                seed=self.seed,
                batch_size=self.batch_size,
                callback=show,
            )
        for name, problem in found.failures.items():
            display.say(f"failed: {name}: {problem}")
        if not self.quiet:
            _print(found)
        if self.json is not None:
            write_report(self.json, _report(self, found, smoothings, missing))
        if self.plot is not None:
            plots.write(self.plot, plots.activation_statistics(found, starred=starred, peaks=self.peaks))
        line = f"measured {len(found.networks)} networks on {len(found.images)} images in {clock(found.seconds)}"
        display.say(closing(line, failed=len(found.failures), written=(self.json, self.plot)))
        return ExitCode.SOME_FAILED if missing or found.failures else ExitCode.DONE


def _smoothings(command: Stats) -> list[Smoothing]:
    """Return every softmax at every temperature, and the others once."""
    kinds = [Smoothing(kind) for kind in command.smoothing]
    return [kind.replace(temperature=t) for kind in kinds for t in (command.temperature if kind.axes else (1.0,))]


def _files(asked: Sequence[Path]) -> dict[str, tuple[Callable[..., AnyHostImage], Path | str]]:
    """Return what reads each image, and its path or a sample's name, by file name, or by path if two are equal."""
    found = list[tuple[Callable[..., AnyHostImage], Path | str]]()
    for path in asked:
        if path.is_dir():
            found += [(read_image, file) for file in images_in(path, "--images")]
        elif str(path) in (*CONTENTS, *STYLES) and not path.exists():
            found.append((sample, str(path)))
        else:
            found.append((read_image, path))
    names = [Path(each).name for _, each in found]
    keys = [name if names.count(name) == 1 else str(each) for name, (_, each) in zip(names, found, strict=True)]
    return dict(zip(keys, found, strict=True))


def _starred(command: Stats, specs: Sequence[NetworkSpec], smoothings: Sequence[Smoothing]) -> list[str]:
    """Return the names of the networks that the plot also shows smoothed."""
    # A network is called by its name or, without switches, by its backbone's.
    names = {spec.name: (spec.name,) if spec.options else (spec.name, spec.backbone) for spec in specs}
    default = [_STARRED] if any(smoothing.kind != "none" for smoothing in smoothings) else []
    asked, known = command.starred, dict.fromkeys(itertools.chain(*names.values()))
    stars = default if asked is None else [check_name(name, known, what="network") for name in asked]
    return [name for name, called in names.items() if set(stars).intersection(called)]


def _check(command: Stats, files: Iterable[Path | str]) -> None:
    check_range(command.size, what="size", low=1)
    weights = [part for entry in command.weights for part in (entry, entry.partition("=")[2]) if part]
    images = [path for path in files if isinstance(path, Path)]
    outputs = [("--json", command.json), ("--plot", command.plot)]
    check_outputs(outputs, labeled("--images", images), weights=weights)


def _print(found: ActivationStatistics) -> None:
    """Print the means: a table for each network and smoothing, 80 columns wide."""
    console = table_console()
    console.print(f"means over {len(found.images)} images")
    for name, network in found.networks.items():
        for kind in network.smoothings:
            shown = name if kind == activations.RAW else f"{name}, {kind}"
            console.print("\n" + printable(f"{shown}: {network.source.describe()}"), markup=False, soft_wrap=True)
            console.print(_table(network, kind))


def _table(network: NetworkStatistics, kind: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("stage", min_width=5)
    table.add_column("layer", min_width=8)
    for measure in activations.MEASURES:
        table.add_column(measure.replace("_", " "), justify="right", min_width=8)
    ends = {layer: str(stage) for stage, layer in network.stages.items()}
    for layer in network.values:
        values = {measure: network.mean(layer, measure, smoothing=kind) for measure in activations.MEASURES}
        # An entropy lies in [0, 1]; the others span many decades.
        cells = [f"{x:.3f}" if measure.endswith("entropy") else f"{x:.3g}" for measure, x in values.items()]
        table.add_row(ends.get(layer, ""), layer, *cells)
    return table


def _report(
    command: Stats, found: ActivationStatistics, smoothings: Sequence[Smoothing], missing: dict[str, str]
) -> dict[str, Any]:
    """Return all numbers with what is needed to understand and repeat them."""
    numbers = found.as_dict()
    return {
        "networks": numbers["networks"],
        "images": numbers["images"],
        "failures": [{"name": name, "error": problem} for name, problem in missing.items()] + numbers["failures"],
        "settings": {
            "networks": list(command.networks),
            "weights": [entry if entry in WEIGHTS else Path(entry).name for entry in command.weights],
            "layers": list(command.layers),
            "size": command.size,
            "smoothings": [label(smoothing) for smoothing in smoothings],
            "seed": command.seed,
        },
        "seconds": round(found.seconds, 3),
    }
