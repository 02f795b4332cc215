"""Plots of measured numbers, as PNG, SVG or PDF.

They are drawn by matplotlib, an extra (`pip install 'swag-jax[plots]'`) that is imported only when something is drawn.
Figures are made without pyplot: no window, no state that outlives a call. Colors are told apart by all kinds of color
vision, and each line has a marker of its own.
"""

import importlib.util
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from swag_jax._checks import check_name, error
from swag_jax._files import check_target, write_whole
from swag_jax.measure.activations import RAW, ActivationStatistics, NetworkStatistics

Figure: TypeAlias = Any
"""A `matplotlib.figure.Figure`."""

Axes: TypeAlias = Any
"""A `matplotlib.axes.Axes`."""

FORMATS = (".png", ".svg", ".pdf")
"""The suffixes of plots, which choose the format."""

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#B8A900")
"""Okabe and Ito, Color Universal Design, 2008, strongest first; the yellow, the last, is darkened for white paper."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
"""One more than colors: the first 72 lines differ."""

WIDTH, PANEL_HEIGHT, DPI = 8.4, 2.9, 150
"""Inches, and pixels per inch: 1,260 pixels, half again as many as a README is wide."""

_LINE_INCHES, _SIGN_INCHES = 0.8, 0.075
"""Width of a line in the legend with the gaps around it, and of a sign of its name, at most."""

PANELS = (
    ("max", "maximum of activations", True),
    ("entropy", "normalized entropy of activations", False),
    ("gram_max", "maximum of Gram matrix", True),
    ("gram_entropy", "normalized entropy of Gram matrix", False),
)
"""The paper's panels: measure, title, whether the axis is logarithmic."""

PEAK_PANELS = (
    ("peak", "peak of activations", True),
    ("gram_peak", "peak of Gram matrix", True),
)
"""The panels of maximum over root mean square, which does not follow the activations' scale."""


def check_output(path: Path) -> None:
    """Check, before long work starts, that a plot can be drawn and written to a path.

    Args:
        path: The output file, which need not exist.

    Raises:
        UserError: If matplotlib is missing, the suffix is unknown, or the file cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise error(f"the name of a plot must end in one of {', '.join(FORMATS)}", got=repr(path.name))
    check_target(path, what="the plot")
    _check_matplotlib()


def _check_matplotlib() -> None:
    if importlib.util.find_spec("matplotlib") is None:
        raise error("matplotlib must be installed for plots", cure="run `pip install 'swag-jax[plots]'`")


def write(path: Path, figure: Figure) -> None:
    """Write a figure, all or nothing.

    Args:
        path: The output file; its suffix, one of `FORMATS`, chooses the format.
        figure: The figure.

    Raises:
        UserError: As `check_output` does.
    """
    check_output(path)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix.lower()[1:], dpi=DPI)
    write_whole(path, buffer.getvalue())


def figure(rows: int, columns: int) -> tuple[Figure, list[Axes]]:
    """Return an empty figure as wide as a page, and its panels, row by row.

    Args:
        rows: Rows of panels.
        columns: Panels per row.

    Raises:
        UserError: If matplotlib is missing.

    Example:
        >>> len(figure(2, 3)[1])
        6
    """
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
    """Draw one line with its color and marker; dashed lines have hollow markers.

    Args:
        axes: The panel.
        points: Vertical by horizontal position.
        place: The number of the line, which chooses color and marker.
        label: Its name in the legend.
        dashed: Whether it is dashed.
    """
    color = COLORS[place % len(COLORS)]
    axes.plot(
        list(points.keys()),
        list(points.values()),
        color=color,
        marker=MARKERS[place % len(MARKERS)],
        markerfacecolor="none" if dashed else color,
        markersize=max(4.0, 9.0 - 0.7 * place),  # lines that lie on each other all show
        linewidth=1.8,
        linestyle="--" if dashed else "-",
        label=label,
    )


def legend(figure: Figure, axes: Axes, *, columns: int = 3) -> None:
    """Name the lines of a panel, which stand for those of all, below the figure.

    Args:
        figure: The figure.
        axes: The panel.
        columns: Names per row; fewer where they are long.
    """
    lines, names = axes.get_legend_handles_labels()
    room = int(WIDTH / (_LINE_INCHES + _SIGN_INCHES * max(map(len, names))))
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
    """Draw the paper's figure: maxima and entropies of activations and Gram matrices by stage, a line for each network.

    Args:
        statistics: What was measured.
        starred: Networks that are also drawn behind the first smoothing, dashed, as the paper's ResNet*.
        peaks: Whether to add the panels of maximum over root mean square.

    Returns:
        The figure, two rows of two panels or three.

    Raises:
        UserError: If matplotlib is missing, or a starred network or its smoothing was not measured.
    """
    chosen = _with_peaks() if peaks else PANELS
    made, panels = figure(2, len(chosen) // 2)
    for axes, (measure, title, logarithmic) in zip(panels, chosen, strict=True):
        axes.set_title(title, fontsize=9.5)
        for place, (name, network) in enumerate(statistics.networks.items()):
            line(axes, network.line(measure), place=place, label=name)
        for name in starred:
            place = list(statistics.networks).index(check_name(name, statistics.networks, what="network"))
            smoothing = _first_smoothing(statistics.networks[name])
            points = statistics.networks[name].line(measure, smoothing=smoothing)
            line(axes, points, place=place, label=f"{name}* ({smoothing})", dashed=True)
        _finish(axes, sorted({stage for each in statistics.networks.values() for stage in each.stages}), logarithmic)
    legend(made, panels[0])
    return made


def _with_peaks() -> tuple[tuple[str, str, bool], ...]:
    half = len(PANELS) // 2
    return (*PANELS[:half], PEAK_PANELS[0], *PANELS[half:], PEAK_PANELS[1])


def _first_smoothing(network: NetworkStatistics) -> str:
    found = [kind for kind in network.smoothings if kind != RAW]
    if not found:
        raise error("a starred network must have been measured behind a smoothing", got="none")
    return found[0]


def _finish(axes: Axes, stages: list[int], logarithmic: bool) -> None:
    axes.set_xticks(stages)
    axes.set_xlabel("stage", fontsize=9)
    if logarithmic:
        _make_logarithmic(axes)
    else:
        axes.set_ylim(-0.04, 1.04)


def _make_logarithmic(axes: Axes) -> None:
    """Mark powers of ten; fives and twos as well where there would be less than three marks."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high < 1000 * low:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
