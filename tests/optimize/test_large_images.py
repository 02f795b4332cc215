"""Images in tiles: loss, gradient and result are those of the whole, on any number of devices, after any kill."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swag_jax.backbones import create
from swag_jax.losses import Objective
from swag_jax.optimize import OutOfMemoryError, Pair, StylizeSettings, memory, stylize
from swag_jax.optimize.engine import Programs, objective_with_gradient
from swag_jax.optimize.pairs import Reader
from swag_jax.optimize.state_file import StateFile
from swag_jax.optimize.tiles import TiledPrograms, reach
from swag_jax.smoothing import Smoothing

RNG = np.random.default_rng(0)
HEIGHT, WIDTH = 75, 101  # of no stride's multiples


def mosaic(height, width, side):
    return np.kron(RNG.random((20, 20, 3)), np.ones((side, side, 1))).astype(np.float32)[:height, :width]


CONTENT, STYLE, OTHER = mosaic(HEIGHT, WIDTH, 8), mosaic(83, 120, 7), mosaic(60, 60, 4)
IMAGE = np.clip(CONTENT + 0.2 * RNG.standard_normal(CONTENT.shape), 0, 1).astype(np.float32)
LEFT = np.linspace(1, 0, WIDTH, dtype=np.float32)[None].repeat(HEIGHT, 0)
VGG = Objective(content_layers=("relu2_1",), style_layers=("relu1_1", "relu2_1"), tv_weight=3.0)
RESNET = Objective(content_layers=("conv3_1",), style_layers=("conv1", "conv3_1"))
SETTINGS = StylizeSettings(
    weights="random", size=WIDTH, smallest_size=WIDTH, precision="float32", objective=VGG, steps=4
)


def both(settings, *, image=IMAGE, styles=(STYLE,), **masks):
    """Return ((loss, terms), gradient) of an image, in tiles and whole."""
    pair = Reader().prepare(Pair(CONTENT, list(styles), settings, **masks))
    return TiledPrograms(32).targets(pair, 0).evaluate(image, pair.problem.objective), evaluated_whole(pair, image)


def evaluated_whole(pair, image):
    problem, targets = pair.problem, Programs(mapping=None).targets(pair, 0)

    @jax.jit
    def evaluate(network, targets, image):
        return objective_with_gradient(network, targets, problem.objective)(image)

    return evaluate(problem.loaded.network, targets, jnp.asarray(image))


def assert_equal(tiled, whole, *, rtol=2e-5):
    ((loss, terms), gradient), ((total, named), slope) = tiled, whole
    assert list(terms) == list(named)
    np.testing.assert_allclose(loss, total, rtol=rtol)
    for name in named:
        np.testing.assert_allclose(terms[name], named[name], rtol=rtol, err_msg=name)
    np.testing.assert_allclose(gradient, slope, rtol=0, atol=rtol * float(jnp.abs(slope).max()))


@pytest.mark.parametrize(
    ("kind", "normalization"),
    [
        *((kind, "relative") for kind in ("none", "softmax", "spatial-softmax", "channel-softmax", "scale")),
        ("softmax", "paper"),  # whose unit is that of all positions
        ("none", "released"),
    ],
)
def test_loss_and_gradient_are_those_of_the_whole(kind, normalization):
    objective = VGG.replace(smoothing=Smoothing(kind), normalization=normalization)
    assert_equal(*both(SETTINGS.replace(objective=objective)))


def test_a_softmax_whose_exponentials_overflow():
    objective = VGG.replace(style_layers=("relu2_1",), smoothing=Smoothing.softmax(temperature=1.0))
    pair = with_parameters(SETTINGS.replace(objective=objective), lambda bias: bias + 200, only="conv2_1")
    assert_equal(TiledPrograms(32).targets(pair, 0).evaluate(IMAGE, objective), evaluated_whole(pair, IMAGE), rtol=2e-4)


def with_parameters(settings, change, *, only=""):
    """Return a pair whose network's biases, or all its parameters unless a layer is named, are changed."""
    pair = Reader().prepare(Pair(CONTENT, [STYLE], settings))

    def changed(path, x):
        return change(x) if not only or (only in jax.tree_util.keystr(path) and x.ndim == 1) else x

    network = jax.tree_util.tree_map_with_path(changed, pair.problem.loaded.network)
    loaded = pair.problem.loaded._replace(network=network, key=object(), structure=object())
    return dataclasses.replace(pair, problem=dataclasses.replace(pair.problem, loaded=loaded))


def test_a_network_of_one_convolution():
    """With it, the first pass has as many arrays as arguments."""
    objective = Objective(content_layers=("relu1_1",), style_layers=("relu1_1",))
    assert_equal(*both(SETTINGS.replace(objective=objective)))


def test_a_residual_network():
    settings = SETTINGS.replace(backbone="resnet50", objective=RESNET.replace(smoothing="softmax"))
    assert_equal(*both(settings), rtol=1e-4)


def test_regions_style_masks_and_a_blend():
    settings = SETTINGS.replace(blend=(1.0, 3.0), style_scale=(1.2, 0.8))
    masks = {
        "content_masks": (LEFT, 1 - LEFT),
        "style_masks": (mosaic(83, 120, 11)[..., 0], np.ones((60, 60), np.float32)),
    }
    assert_equal(*both(settings, styles=(STYLE, OTHER), **masks))


def test_styles_are_mixed_everywhere():
    objective = VGG.replace(smoothing="softmax")
    assert_equal(*both(SETTINGS.replace(objective=objective, blend=(1.0, 3.0)), styles=(STYLE, OTHER)))


def test_bfloat16():
    assert_equal(*both(SETTINGS.replace(precision="bfloat16")), rtol=2e-2)


def test_activations_far_out_of_range():
    """The squares of features of 1e24 are infinite in float32."""
    objective = Objective(content_layers=("relu2_1",), style_weight=0.0)
    pair = with_parameters(SETTINGS.replace(objective=objective), lambda parameter: parameter * 1e8)
    whole = evaluated_whole(pair, IMAGE)
    assert np.isfinite(float(whole[0][0]))
    assert_equal(TiledPrograms(32).targets(pair, 0).evaluate(IMAGE, objective), whole)


def test_reach_is_half_of_the_receptive_field():
    """Four convolutions of 3x3, two of them after a pool; positions are counted by their first pixel."""
    network = create("vgg19", until="relu2_2", pooling="average")
    assert reach(network, ("relu1_2",)) == 2
    assert reach(network, ("relu2_2",)) == 2 + 2 * 2


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_the_result_is_that_of_the_whole(solver):
    settings = SETTINGS.replace(solver=solver, memory=3, smallest_size=50)  # coarse to fine, the finest in tiles
    whole, tiled = (stylize(CONTENT, STYLE, settings=settings, tile=tile) for tile in (0, 64))
    assert (whole.tile, tiled.tile) == (0, 64)
    assert (tiled.sizes, tiled.steps) == (whole.sizes, whole.steps) == (((37, 50), (75, 101)), (2, 2))
    np.testing.assert_allclose(tiled.history["total"], whole.history["total"], rtol=1e-4)
    # Adam's first steps are signs of gradients, which rounding may turn where they are about zero.
    assert np.abs(tiled.image - whole.image).mean() < 1e-4


def test_tiles_are_taken_if_the_whole_does_not_fit(monkeypatch):
    monkeypatch.setattr("swag_jax.optimize.tiles.SIDES", (64, 32))
    monkeypatch.setattr(memory, "ANALYZED_SIZE", 48)
    needed = _needed(SETTINGS)
    monkeypatch.setattr(memory, "free_bytes", lambda: 0.8 * needed)
    monkeypatch.setattr(memory, "sharing", lambda: 1)
    assert stylize(CONTENT, STYLE, settings=SETTINGS.replace(steps=1)).tile in (64, 32)
    with pytest.raises(OutOfMemoryError, match="needed at size 101"):
        stylize(CONTENT, STYLE, settings=SETTINGS, tile=0)


def _needed(settings):
    programs = Programs(mapping=None)
    problem = Reader().prepare(Pair(CONTENT, [STYLE], settings)).problem
    return memory.needed_bytes(programs.chunk(problem, problem.scales[-1], steps=1, size=1))


def test_an_image_too_large_for_the_host(monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("", (), {"available": 1e5}))
    with pytest.raises(OutOfMemoryError, match=r"host's memory, .* pass --size \d+ or less, or --solver adam"):
        stylize(CONTENT, STYLE, settings=SETTINGS, tile=32)


class _Killed(BaseException):
    pass


@pytest.mark.parametrize(("tile", "step"), [(0, 1), (64, 2), (64, 3)])
def test_a_killed_run_ends_with_the_same_bits(tile, step, tmp_path, monkeypatch):
    settings, file = SETTINGS.replace(smallest_size=50, solver="lbfgs", memory=3), tmp_path / "run.state"
    monkeypatch.setattr("swag_jax.optimize.state_file.StateFile.due", lambda _: True)

    def kill(progress):
        if progress.step == step + 1:
            raise _Killed

    unbroken = stylize(CONTENT, STYLE, settings=settings, tile=tile, every=1)
    with pytest.raises(_Killed):
        stylize(CONTENT, STYLE, settings=settings, tile=tile, every=1, state_file=file, callback=kill)
    seen = []
    resumed = stylize(
        CONTENT, STYLE, settings=settings, tile=tile, every=1, state_file=file, callback=lambda p: seen.append(p.step)
    )
    assert seen == list(range(step + 1, 5))
    np.testing.assert_array_equal(resumed.image, unbroken.image)
    np.testing.assert_array_equal(resumed.history["total"], unbroken.history["total"])
    assert not file.exists()


def test_the_state_of_another_run_is_refused_and_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("swag_jax.optimize.drivers.StateFile", functools.partial(StateFile, seconds=0))
    file = tmp_path / "run.state"
    stop = {"callback": lambda _: True, "every": 1, "state_file": file}
    assert stylize(CONTENT, STYLE, settings=SETTINGS, **stop).status == "stopped"
    before = file.read_bytes()
    with pytest.raises(ValueError, match=r"run.state must be of the same run, got other images or settings: remove"):
        stylize(CONTENT, OTHER, settings=SETTINGS, state_file=file)
    assert file.read_bytes() == before
    file.write_bytes(before[: len(before) // 2])
    with pytest.raises(ValueError, match=r"run.state must hold the state of a run, got damage"):
        stylize(CONTENT, STYLE, settings=SETTINGS, state_file=file)


def test_a_short_run_that_is_stopped_leaves_no_state(tmp_path):
    file = tmp_path / "run.state"
    assert stylize(CONTENT, STYLE, settings=SETTINGS, callback=lambda _: True, every=1, state_file=file).steps == (1,)
    assert not file.exists()


def test_a_state_that_cannot_be_written_does_not_end_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("swag_jax.optimize.drivers.StateFile", functools.partial(StateFile, seconds=0))
    (tmp_path / "file").touch()  # where a folder is needed
    with pytest.warns(UserWarning, match="the run's state is not kept: cannot write"):
        found = stylize(CONTENT, STYLE, settings=SETTINGS, every=1, state_file=tmp_path / "file" / "run.state")
    assert found.status == "done"
