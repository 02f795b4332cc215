"""Modes that JAX's users turn on change nothing, and every transformation of JAX passes through."""

import contextlib
import functools
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from numpy.testing import assert_allclose

import swag_jax as swag
from swag_jax import generators
from swag_jax.apply import Stylizer
from swag_jax.features import taps
from swag_jax.train.journal import read_journal

OBJECTIVES = {
    "vgg19": swag.Objective(content_layers=("relu2_1",), style_layers=("relu1_1", "relu2_1"), tv_weight=1.0),
    "resnet50": swag.Objective(
        content_layers=("conv2_1",),
        style_layers=("conv1", "conv2_1"),
        smoothing=swag.Smoothing("softmax", layers=("conv2_1",)),
    ),
}
"""They read convolutions of all strides and a maximum, and smooth."""

SHALLOW = swag.Objective(content_layers=("relu1_1",), style_layers=("relu1_1",), tv_weight=1.0)

CONTENT, STYLE = np.random.default_rng(0).random((2, 16, 24, 3)).astype(np.float32)


@contextlib.contextmanager
def checked():
    """All that JAX can check: NaN and infinities, types, transfers and leaks."""
    modes = jax.debug_nans(True), jax.debug_infs(True), jax.numpy_dtype_promotion("strict")
    with modes[0], modes[1], modes[2], jax.transfer_guard("disallow"), jax.checking_leaks():
        yield


MODES = {
    "64 bits": lambda: jax.enable_x64(True),
    "checked": checked,
    "not compiled": jax.disable_jit,
    "explicit mesh": lambda: jax.set_mesh(jax.make_mesh((2,), ("x",), axis_types=(AxisType.Explicit,))),
}


@functools.cache
def network(name):
    return swag.backbones.load(name, weights="random", layers=OBJECTIVES[name].layers)[0].frozen()


@pytest.fixture(scope="module", autouse=True)
def loaded():
    """Load the networks before any mode is on."""
    for name in OBJECTIVES:
        network(name)


ARRAYS = jnp.asarray(CONTENT), jnp.asarray(STYLE)


def loss(image, style=None, *, backbone="vgg19"):
    """The loss of an image with the content and a style."""
    content, other = ARRAYS
    objective = OBJECTIVES[backbone]
    styles, blend = [other if style is None else style], jnp.ones(1, jnp.float32)
    targets = swag.make_targets(network(backbone), content, styles, objective=objective, blend=blend)
    return swag.evaluate(network(backbone), image, targets, objective=objective)[0]


def solved(content, style, *, solver=None, steps=3):
    solver = solver or swag.LBFGS(memory=2, spectral_decay=0.5)
    return swag.solve(network("vgg19"), content, [style], objective=OBJECTIVES["vgg19"], solver=solver, steps=steps)[0]


def settings(**changes):
    chosen = swag.StylizeSettings(size=24, smallest_size=24, steps=2, weights="random", objective=SHALLOW)
    return chosen.replace(**changes)


def painted():
    encoder, _ = swag.backbones.load("vgg19", weights="random", layers=("relu1_2",))
    config = generators.AdaINConfig(taps(encoder, layers=("relu1_2",)))
    return swag.repaint(Stylizer(encoder, generators.create(config)), CONTENT, [STYLE])


def trained():
    """The losses of two steps of training."""
    small = {"weights": "random", "batch_size": 8, "size": 18, "crop": 16, "steps": 2, "precision": "float32"}
    chosen = swag.train.TrainSettings(generators.JohnsonConfig(channels=2, blocks=1), SHALLOW, **small)
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        images.mkdir()
        for i in range(8):
            swag.write_image(images / f"{i}.png", np.roll(CONTENT, i, 0).repeat(2, 0).repeat(2, 1))
        cadence = swag.train.Cadence(log=1, save=2, sheet=0)
        swag.train.train_generator(chosen, images, images / "0.png", Path(folder) / "run", cadence=cadence)
        lines = read_journal(Path(folder) / "run" / "losses.jsonl")
    return np.array([line["total"] for line in lines], np.float32)


FUNCTIONS = {
    "evaluate": lambda: jax.jit(jax.grad(functools.partial(loss, backbone="resnet50")))(ARRAYS[0]),
    "solve": lambda: jax.jit(solved)(*ARRAYS),
    "solve, Adam": lambda: jax.jit(functools.partial(solved, solver=swag.Adam(averaging=0.5)))(*ARRAYS),
    "stylize": lambda: (
        swag.stylize(
            CONTENT, STYLE, settings=settings(smallest_size=16, steps=4, init="statistics", colors="match")
        ).image
    ),
    "stylize, Adam": lambda: swag.stylize(CONTENT, STYLE, settings=settings(solver="adam", init="noise")).image,
    "stylize_batch": lambda: swag.stylize_batch(
        [CONTENT, STYLE], STYLE, settings=settings(solver="adam"), batch_size=2
    ).images[1],
    "repaint": painted,
    "train_generator": trained,
}


@functools.cache
def usual(function):
    """What a function returns where no mode is on."""
    return np.asarray(FUNCTIONS[function]())


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("mode", MODES)
def test_nothing_changes(mode, function, drop_programs):
    expected = usual(function)
    if function == "train_generator":
        drop_programs()  # those of the others: where nothing is compiled whole, its own take 1.4 GB
    with MODES[mode]():
        found = np.asarray(FUNCTIONS[function]())
    assert found.dtype == np.float32
    assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_a_image_of_64_bits_is_solved_in_them():
    expected = np.asarray(solved(*ARRAYS))
    with jax.enable_x64(True):
        wide = jnp.asarray(CONTENT, jnp.float64), jnp.asarray(STYLE, jnp.float64)
        found = solved(*wide)
        assert found.dtype == jnp.float64
    assert_allclose(found, expected, atol=1e-3)


# --- Transformations


def direction():
    return jnp.asarray(np.random.default_rng(1).normal(size=CONTENT.shape).astype(np.float32))


@pytest.mark.parametrize("backbone", OBJECTIVES)
def test_forward_mode_is_the_gradient(backbone):
    content, along = ARRAYS[0], direction()
    of = functools.partial(loss, backbone=backbone)
    _, slope = jax.jit(lambda x: jax.jvp(of, (x,), (along,)))(content)
    expected = jnp.vdot(jax.jit(jax.grad(of))(content), along)
    assert_allclose(slope, expected, rtol=1e-3)


@pytest.mark.parametrize("backbone", OBJECTIVES)
def test_second_derivatives(backbone):
    """Forward over reverse is reverse over reverse, and a Hessian is symmetric."""
    content, u = ARRAYS[0], direction()
    v = u[::-1]
    gradient = jax.grad(functools.partial(loss, backbone=backbone))
    times = jax.jit(lambda along: jax.jvp(gradient, (content,), (along,))[1])
    back = jax.jit(lambda along: jax.grad(lambda x: jnp.vdot(gradient(x), along))(content))
    found = times(u)
    scale = float(jnp.abs(found).max())
    assert scale > 0
    assert_allclose(found, back(u), atol=1e-4 * scale)
    assert float(jnp.vdot(v, found)) == pytest.approx(float(jnp.vdot(u, times(v))), abs=1e-3 * scale * u.size**0.5)


@pytest.mark.parametrize("solver", [swag.LBFGS(memory=2), swag.Adam()], ids=["lbfgs", "adam"])
def test_gradients_through_a_solve(solver):
    """The gradient at the style, along a direction, is the finite difference."""
    content, style = ARRAYS
    along = direction() * 0.1

    def mean(style):
        return (solved(content, style, solver=solver) * content).mean()

    slope = jnp.vdot(jax.jit(jax.grad(mean))(style), along)
    step, mean = 0.02, jax.jit(mean)
    expected = (mean(style + step * along) - mean(style - step * along)) / (2 * step)
    assert abs(float(expected)) > 1e-5
    assert float(slope) == pytest.approx(float(expected), rel=0.1)


# --- Meshes


@pytest.fixture
def batch():
    return np.stack([CONTENT, STYLE])


@jax.jit
def many_solved(contents):
    return jax.vmap(lambda content: solved(content, ARRAYS[1]))(contents)


@pytest.mark.parametrize("checked", [True, False])
def test_shard_map(batch, checked):
    mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Auto,))
    place = PartitionSpec("x")
    split = jax.shard_map(many_solved, mesh=mesh, in_specs=place, out_specs=place, check_vma=checked)
    found = jax.jit(split)(jax.device_put(batch, NamedSharding(mesh, place)))
    assert_allclose(found, many_solved(batch), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("checked", [True, False])
def test_gradients_at_what_all_devices_have(batch, checked):
    """The gradient at a style that all devices share is the sum of theirs."""
    mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Auto,))
    style = ARRAYS[1]

    def total(style, contents):
        return jax.vmap(lambda x: loss(x, style))(contents).sum()

    def shared(style):
        parts = jax.shard_map(
            lambda style, contents: total(style, contents)[None],
            mesh=mesh,
            in_specs=(PartitionSpec(), PartitionSpec("x")),
            out_specs=PartitionSpec("x"),
            check_vma=checked,
        )
        return parts(style, batch).sum()

    expected = jax.jit(jax.grad(total))(style, batch)
    scale = float(jnp.abs(expected).max())
    assert_allclose(jax.jit(jax.grad(shared))(style), expected, atol=1e-4 * scale)


def test_a_batch_on_an_explicit_mesh(batch):
    many = jax.jit(jax.vmap(jax.grad(loss)))
    expected = many(batch)
    mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        found = many(jax.device_put(batch, NamedSharding(mesh, PartitionSpec("x"))))
    assert_allclose(found, expected, atol=1e-4 * float(jnp.abs(expected).max()))
