"""`swag-jax stats`: peaks and entropies of activations, network by network and stage by stage."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from rich.table import Table

from swag_jax import plots
from swag_jax._checks import check_name, check_range, printable
from swag_jax._files import check_target
from swag_jax.backbones import NAMES
from swag_jax.cli._display import Display, clock, count_line, table_console
from swag_jax.cli._exit import ExitCode
from swag_jax.cli._flags import Quiet, flag
from swag_jax.cli._networks import available, names_of, read_specs
from swag_jax.cli._outputs import check_outputs, write_report
from swag_jax.cli._pairs import images_in, left_out_of
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
from swag_jax.smoothing import Kind, Smoothing

_STARRED = "resnet50"
"""The network that the paper's figure also shows smoothed."""


@dataclass(frozen=True, kw_only=True)
class Stats(Quiet):
    """Activation statistics of networks.

    Measure maximum, normalized entropy and peak (maximum over root mean square) of the activations and Gram matrices
    of networks, stage by stage, averaged over images: the SWAG paper's figure. Exit code 3 says that some images or
    networks failed.

    Attributes:
        images: Folders, files, or names of samples.
        networks: Names; a residual one with other switches is NAME:SWITCH=VALUE, such as
            resnet50:residual=false:depths=2-2-2-2.
        weights: For every network: auto, imagenet, embedded, random, or a path; for one: NETWORK=PATH. If there are
            several, results are called NETWORK/WEIGHTS. The paper's are random.
        layers: stages (the last of each), all, or layers that every network has.
        size: Longer side of the images in pixels.
        smoothing: Also measure after these.
        temperature: Temperatures of a softmax; the plot shows the first.
        seed: Seed of random weights.
        batch_size: Images at once, at most; by default it depends on their size.
        json: Write all numbers here.
        plot: Draw them here: .png, .svg or .pdf.
        starred: Networks that the plot also shows smoothed; by default resnet50, as in the paper.
        peaks: Add panels of the peaks to the plot.
    """

    usage: ClassVar[str] = "swag-jax stats [--images DIR|FILE ...] [--networks A,B] [--json FILE] [--plot FILE] [flags]"

    images: tuple[Path, ...] = flag(tuple(map(Path, (*CONTENTS, *STYLES))), metavar="PATH")
    networks: tuple[str, ...] = flag(("vgg19", "resnet50"), known=NAMES)
    weights: tuple[str, ...] = ("random",)
    layers: tuple[str, ...] = (CHOICES[0],)
    size: int = StylizeSettings().size
    smoothing: tuple[Kind, ...] = ("softmax",)
    temperature: tuple[float | Literal["auto"], ...] = tuple(smoothing.temperature for smoothing in SMOOTHINGS)
    seed: int = 0
    batch_size: int | None = None
    json: Path | None = None
    plot: Path | None = None
    starred: tuple[str, ...] | None = None
    peaks: bool = False

    def run(self) -> ExitCode:
        """Check everything first, then measure, then write."""
        smoothings = _smoothings(self)
        specs, missing = available(read_specs(self.networks, self.weights))
        files = _files(self.images)
        starred = _starred(self, specs, smoothings)
        _check_outputs(self, files)
        readers = {name: sample if isinstance(each, str) else read_image for name, each in files.items()}
        images = {name: functools.partial(readers[name], each, size=self.size) for name, each in files.items()}
        display = Display("stats", quiet=self.quiet, opening=_opening(missing, self))

        def show(progress: StatisticsProgress) -> None:
            done, total, left = progress.images, progress.total, progress.seconds_left
            line = count_line(done, total, "images", failed=progress.failed, seconds_left=left)
            display.show({**line, "network": progress.network}, done, total)

        with display:
            found = activation_statistics(
                images,
                specs,
                layers=_layers(self),
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
        display.say(_closing(self, found))
        return ExitCode.SOME_FAILED if missing or found.failures else ExitCode.DONE


def _layers(command: Stats) -> str | tuple[str, ...]:
    asked = command.layers
    return asked[0] if len(asked) == 1 and asked[0] in CHOICES else asked


def _smoothings(command: Stats) -> list[Smoothing]:
    """Return every softmax at every temperature, and the others once."""
    kinds = [Smoothing(kind) for kind in command.smoothing]
    return [
        Smoothing(kind.kind, temperature=temperature)
        for kind in kinds
        for temperature in (command.temperature if kind.axes else [1.0])
    ]


def _opening(missing: dict[str, str], command: Stats) -> list[str]:
    """Say which networks and files are left out."""
    return [*(f"left out: {name}: {problem}" for name, problem in missing.items()), *left_out_of(*command.images)]


def _files(asked: Sequence[Path]) -> dict[str, Path | str]:
    """Return paths, and names of samples, by the names of the files; by their paths if two are equal."""
    found = list[Path | str]()
    for path in asked:
        if path.is_dir():
            found += images_in(path, "--images")
        else:
            found.append(str(path) if str(path) in (*CONTENTS, *STYLES) and not path.exists() else path)
    names = [Path(each).name for each in found]
    return {name if names.count(name) == 1 else str(each): each for name, each in zip(names, found, strict=True)}


def _starred(command: Stats, specs: Sequence[NetworkSpec], smoothings: Sequence[Smoothing]) -> list[str]:
    """Return the names of the networks that the plot also shows smoothed."""
    asked = command.starred
    if asked is None:
        asked = [_STARRED] if any(smoothing.kind != "none" for smoothing in smoothings) else []
    else:
        known = dict.fromkeys(name for spec in specs for name in names_of(spec))
        asked = [check_name(name, known, what="network") for name in asked]
    return [spec.name for spec in specs if set(asked) & set(names_of(spec))]


def _check_outputs(command: Stats, files: dict[str, Path | str]) -> None:
    """Raise unless all that will be written can be, and none of it over an image that is read."""
    check_range(command.size, what="size", low=1)
    if command.json is not None:
        check_target(command.json, what="--json")
    if command.plot is not None:
        plots.check_output(command.plot)
    inputs = [("--images", path) for path in files.values() if isinstance(path, Path)]
    weights = [part for entry in command.weights for part in (entry, entry.partition("=")[2]) if part]
    check_outputs([("--json", command.json), ("--plot", command.plot)], inputs, weights=weights)


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


def _closing(command: Stats, found: ActivationStatistics) -> str:
    outputs = [str(path) for path in (command.json, command.plot) if path is not None]
    wrote = f", wrote {' and '.join(outputs)}" if outputs else ""
    failed = f", {len(found.failures)} failed" if found.failures else ""
    number = f"{len(found.networks)} networks on {len(found.images)} images"
    return f"measured {number} in {clock(found.seconds)}{failed}{wrote}"
