"""Plots of measured numbers, as PNG, SVG or PDF.

They need matplotlib, an extra (`pip install 'swag-jax[plots]'`) that is imported only to draw. Figures are made
without pyplot: no window, no global state. Colors are distinct for all kinds of color vision, and each line has its
own marker.
"""

import importlib.util
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from swag_jax._checks import check_name, error
from swag_jax._files import check_target, write_whole
from swag_jax.measure.activations import RAW, ActivationStatistics

# matplotlib's own classes, which are not imported here.
Figure: TypeAlias = Any
Axes: TypeAlias = Any

FORMATS = (".png", ".svg", ".pdf")

# Okabe and Ito, Color Universal Design, 2008, strongest first; the yellow, the last, is darkened for white paper.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#B8A900")

# One more than colors, so that the first 72 lines differ.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")

# Inches, and dots per inch: 1,260 pixels, half again as wide as a README.
WIDTH, PANEL_HEIGHT, DPI = 8.4, 2.9, 150

# Width of a line in the legend with the gaps around it, and of a character of its name, at most.
_LINE_INCHES, _CHARACTER_INCHES = 0.8, 0.075

# The panels of the paper's figure: measure, title, whether the axis is logarithmic.
PANELS = (
    ("max", "maximum of activations", True),
    ("entropy", "normalized entropy of activations", False),
    ("gram_max", "maximum of Gram matrix", True),
    ("gram_entropy", "normalized entropy of Gram matrix", False),
)

# Panels of the maximum over the root mean square, which does not depend on the activations' scale.
PEAK_PANELS = (("peak", "peak of activations", True), ("gram_peak", "peak of Gram matrix", True))


def check_output(path: Path) -> None:
    """Check, before long work starts, that matplotlib is there and a plot can be written to a path."""
    if path.suffix.lower() not in FORMATS:
        raise error(f"the name of a plot must end in one of {', '.join(FORMATS)}", got=repr(path.name))
    check_target(path, what="the plot")
    _check_matplotlib()


def _check_matplotlib() -> None:
    if importlib.util.find_spec("matplotlib") is None:
        raise error("matplotlib must be installed for plots", cure="run `pip install 'swag-jax[plots]'`")


def write(path: Path, figure: Figure) -> None:
    """Write a figure, all or nothing; the suffix, one of `FORMATS`, chooses the format."""
    check_output(path)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix.lower()[1:], dpi=DPI)
    write_whole(path, buffer.getvalue())


def figure(rows: int, columns: int) -> tuple[Figure, list[Axes]]:
    """Return an empty figure as wide as a page, and its panels, row by row."""
    _check_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as New

    made = New(figsize=(WIDTH, 0.9 + PANEL_HEIGHT * rows), layout="constrained")
    FigureCanvasAgg(made)
    panels = made.subplots(rows, columns, squeeze=False).ravel().tolist()
    for panel in panels:
        panel.grid(color="#dddddd", linewidth=0.6)
        panel.set_axisbelow(True)
        panel.tick_params(labelsize=9)
    return made, panels


def line(axes: Axes, points: Mapping[int, float], *, place: int, label: str, dashed: bool = False) -> None:
    """Draw points, vertical by horizontal position, as line number `place`, which chooses its color and marker."""
    color = COLORS[place % len(COLORS)]
    axes.plot(
        list(points.keys()),
        list(points.values()),
        color=color,
        marker=MARKERS[place % len(MARKERS)],
        markerfacecolor="none" if dashed else color,  # hollow
        markersize=max(4.0, 9.0 - 0.7 * place),  # lines that lie on each other all show
        linewidth=1.8,
        linestyle="--" if dashed else "-",
        label=label,
    )


def legend(figure: Figure, axes: Axes, *, columns: int = 3) -> None:
    """Name the lines of one panel below the figure, `columns` of them in a row if they are short enough."""
    lines, names = axes.get_legend_handles_labels()
    room = int(WIDTH / (_LINE_INCHES + _CHARACTER_INCHES * max(map(len, names))))
    figure.legend(
        lines,
        names,
        loc="outside lower center",
        ncols=max(1, min(columns, len(names), room)),
        fontsize=10,
        handlelength=3,
        frameon=False,
    )


def activation_statistics(
    statistics: ActivationStatistics, *, starred: Sequence[str] = (), peaks: bool = False
) -> Figure:
    """Return the paper's figure: maxima and entropies of activations and Gram matrices by stage and network.

    Args:
        starred: Networks that are also drawn after their first smoothing, dashed, like the paper's ResNet*.
        peaks: Whether to add the panels of maximum over root mean square: a third to each row.
    """
    chosen = (*PANELS[:2], PEAK_PANELS[0], *PANELS[2:], PEAK_PANELS[1]) if peaks else PANELS
    smoothings = {name: _smoothing(statistics, name) for name in starred}
    made, panels = figure(2, len(chosen) // 2)
    for axes, (measure, title, logarithmic) in zip(panels, chosen, strict=True):
        axes.set_title(title, fontsize=9.5)
        for place, (name, network) in enumerate(statistics.networks.items()):
            line(axes, network.line(measure), place=place, label=name)
        for name, smoothing in smoothings.items():
            place = list(statistics.networks).index(name)
            points = statistics.networks[name].line(measure, smoothing=smoothing)
            line(axes, points, place=place, label=f"{name}* ({smoothing})", dashed=True)
        axes.set_xticks(sorted({stage for each in statistics.networks.values() for stage in each.stages}))
        axes.set_xlabel("stage", fontsize=9)
        if logarithmic:
            _make_logarithmic(axes)
        else:
            axes.set_ylim(-0.04, 1.04)
    legend(made, panels[0])
    return made


def _smoothing(statistics: ActivationStatistics, starred: str) -> str:
    """Return the first smoothing that a network was measured after."""
    network = statistics.networks[check_name(starred, statistics.networks, what="network")]
    found = next((kind for kind in network.smoothings if kind != RAW), None)
    if found is None:
        raise error("a starred network must have been measured after a smoothing", got="none")
    return found


def _make_logarithmic(axes: Axes) -> None:
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high < 1000 * low:  # fewer than three powers of ten: fives and twos as well
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
