"""Plots: what they show, what they are written as, and that nothing but drawing needs matplotlib."""

import ast
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swag_jax import UserError, plots
from swag_jax.measure.activations import MEASURES, ActivationStatistics, NetworkStatistics
from swag_jax.measure.network_spec import NetworkSpec
from swag_jax.params import Source

STARRED = "softmax T=1"


@pytest.fixture
def statistics():
    """Three networks of five stages, the last with four; numbers from 1e-8 to 1e4, entropies in [0, 1]."""
    rng = np.random.default_rng(0)

    def network(name, stages):
        values = 10 ** rng.uniform(-8, 4, (stages, 2, 2, len(MEASURES)))
        values[..., [1, 4]] = rng.uniform(0, 1, (stages, 2, 2, 2))
        layers = {f"conv{stage}_1": each for stage, each in enumerate(values)}
        source = Source("random", "random", "resnet50")
        return NetworkStatistics(
            NetworkSpec(name, "resnet50"), source, dict(enumerate(layers)), ("none", STARRED), layers
        )

    networks = {name: network(name, stages) for name, stages in (("one", 5), ("two", 5), ("three", 4))}
    return ActivationStatistics(networks, (), {}, 1.0)


def test_lines_are_the_means_by_stage(statistics):
    figure = plots.activation_statistics(statistics, starred=["two"])
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "linear", "log", "linear"]
    for axes, measure in zip(figure.axes, ("max", "entropy", "gram_max", "gram_entropy"), strict=True):
        lines = {line.get_label(): line for line in axes.get_lines()}
        assert list(lines) == ["one", "two", "three", "two* (softmax T=1)"]
        for name, network in statistics.networks.items():
            shown = dict(zip(*lines[name].get_data(), strict=True))
            assert shown == pytest.approx(network.line(measure))
        smoothed = lines["two* (softmax T=1)"]
        assert list(smoothed.get_ydata()) == pytest.approx(
            list(statistics.networks["two"].line(measure, smoothing=STARRED).values())
        )
        assert smoothed.get_color() == lines["two"].get_color()
        assert (smoothed.get_linestyle(), lines["two"].get_linestyle()) == ("--", "-")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(lines)


def test_every_number_lies_within_its_panel(statistics):
    figure = plots.activation_statistics(statistics, starred=["one"])
    figure.canvas.draw()
    for axes in figure.axes:
        low, high = axes.get_ylim()
        assert all(low <= y <= high for line in axes.get_lines() for y in line.get_ydata())


def test_peaks_have_panels_of_their_own(statistics):
    figure = plots.activation_statistics(statistics, peaks=True)
    titles = [axes.get_title() for axes in figure.axes]
    assert len(titles) == 6
    assert [titles[2], titles[5]] == [title for _, title, _ in plots.PEAK_PANELS]
    (line, *_) = figure.axes[5].get_lines()
    assert list(line.get_ydata()) == pytest.approx(list(statistics.networks["one"].line("gram_peak").values()))


def test_many_lines_differ():
    _, (axes,) = plots.figure(1, 1)
    for place in range(len(plots.COLORS) * len(plots.MARKERS)):
        plots.line(axes, {0: 1.0}, place=place, label=str(place))
    assert len({(line.get_color(), line.get_marker()) for line in axes.get_lines()}) == 72


@pytest.mark.parametrize(("name", "columns"), [("resnet50", 3), ("resnet50:residual=false:kernel_size=5", 2)])
def test_the_legend_stays_within_the_page(statistics, name, columns):
    names = [f"{name}/{weights}" for weights in ("a", "b", "c")]
    networks = dict(zip(names, statistics.networks.values(), strict=True))
    figure = plots.activation_statistics(ActivationStatistics(networks, (), {}, 1.0))
    figure.canvas.draw()
    (legend,) = figure.legends
    assert legend._ncols == columns
    box = legend.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width


def test_starred_networks_that_cannot_be_shown(statistics):
    with pytest.raises(UserError, match="unknown network 'ones': did you mean one"):
        plots.activation_statistics(statistics, starred=["ones"])
    source = statistics.networks["one"].source
    raw = NetworkStatistics(NetworkSpec("raw", "vgg19"), source, {}, ("none",), {})
    with pytest.raises(UserError, match="a starred network must have been measured after a smoothing, got none"):
        plots.activation_statistics(ActivationStatistics({"raw": raw}, (), {}, 1.0), starred=["raw"])


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".SVG", b"<?xml"), (".pdf", b"%PDF")])
def test_formats(statistics, tmp_path, suffix, start):
    plots.write(tmp_path / f"plot{suffix}", plots.activation_statistics(statistics))
    assert (tmp_path / f"plot{suffix}").read_bytes().startswith(start)
    assert [path.name for path in tmp_path.iterdir()] == [f"plot{suffix}"]


def test_a_plot_is_as_wide_as_a_page(statistics, tmp_path):
    plots.write(tmp_path / "plot.png", plots.activation_statistics(statistics))
    with Image.open(tmp_path / "plot.png") as image:
        assert image.size == (1260, 1005)


def test_pyplot_and_its_global_state_are_left_alone(statistics, tmp_path):
    sys.modules.pop("matplotlib.pyplot", None)
    plots.write(tmp_path / "plot.png", plots.activation_statistics(statistics))
    assert "matplotlib.pyplot" not in sys.modules


def test_nothing_else_imports_matplotlib():
    """No module does so when it is imported itself."""
    for path in Path(plots.__file__).parent.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.startswith("matplotlib") for name in names), path


def test_paths_that_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match=r"must end in one of \.png, \.svg, \.pdf, got 'plot\.jpg'"):
        plots.check_output(tmp_path / "plot.jpg")
    with pytest.raises(UserError, match="the plot must name a file in an existing, writable folder"):
        plots.check_output(tmp_path / "none" / "plot.png")


def test_matplotlib_is_missing(monkeypatch, tmp_path):
    """The message names the extra, which exists and which the tests install."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    rule = r"^matplotlib must be installed for plots: run `pip install 'swag-jax\[plots\]'`\.$"
    with pytest.raises(UserError, match=rule):
        plots.check_output(tmp_path / "plot.png")
    with pytest.raises(UserError, match=rule):
        plots.figure(1, 1)
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert any(text.startswith("matplotlib") for text in extras["plots"])
    assert any(text.startswith("swag-jax[plots") for text in extras["test"])
    assert not any(text.startswith("matplotlib") for text in project["dependencies"])
