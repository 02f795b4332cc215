"""One step over eight devices is one step on the whole batch, and every kind of generator learns."""

import functools
import math

import jax
import numpy as np
import optax
import pytest

from swag_jax import backbones, devices, extract, generators, train
from swag_jax._checks import UserError
from swag_jax.generators import adain
from swag_jax.generators.method import encode
from swag_jax.generators.registry import with_parameters
from swag_jax.train import state as states
from swag_jax.train import step as steps

INITS = ("kaiming", "random")


@pytest.fixture(scope="module")
def batch():
    """Eight pairs of flat squares in many colors."""
    rng = np.random.default_rng(0)
    squares = rng.integers(0, 256, (2, 8, 4, 4, 3), np.uint8).repeat(4, 2).repeat(4, 3)
    return {"content": squares[0], "style": squares[1] // 2}


@pytest.fixture(scope="module")
def encoder():
    return backbones.create("vgg19", seed=1, until="relu1_2")


def mean_loss(settings, generator, encoder, contents, styles):
    """The total loss of a batch."""
    options = {"objective": settings.objective, "key": jax.random.key(0)}
    return settings.method.loss(generator, encoder, contents, styles, **options)[0].mean()


def prepared(settings, encoder, batch):
    """What a step takes beside the encoder."""
    config = settings.fitted_config(encoder)
    return config, devices.replicate_global(states.initial_state(settings, config)), devices.split(batch)


def advanced(settings, encoder, batch, *, count):
    """The state after some steps on one batch, and what each reported."""
    config, state, split = prepared(settings, encoder, batch)
    advance, reports = steps.make_step(settings, config), []
    for _ in range(count):
        state, report = advance(encoder, None, state, split)
        reports.append({name: float(value) for name, value in report.items()})
    return state, reports


@pytest.mark.parametrize("kind", ["adain", "sanet", "adaattn"])
def test_losses_fall(small, encoder, batch, kind):
    """Johnson's do in `tests/cli/test_train_command.py`."""
    state, reports = advanced(small[kind], encoder, batch, count=5)
    for report in reports:
        terms = [value for name, value in report.items() if name not in ("total", "update")]
        assert report["total"] == pytest.approx(sum(terms), rel=1e-4)
        assert report["update"] > 0
    assert reports[-1]["total"] < reports[0]["total"]
    assert int(state["step"]) == 5


def test_a_generator_learns_through_a_residual_network_with_swag(small, batch):
    """What this project is for: ResNet50's activations, smoothed inside the losses only."""
    objective = adain.AdaINObjective("conv2_1", ("conv1", "conv2_1"), normalization="relative")
    residual = backbones.create("resnet50", seed=1, until="conv2_1")
    first = {}
    for kind in ("none", "softmax"):
        settings = small["adain"].replace(encoder="resnet50", objective=objective.replace(smoothing=kind))
        _, reports = advanced(settings, residual, batch, count=4)
        assert reports[-1]["total"] < reports[0]["total"]
        first[kind] = reports[0]["total"]
    assert first["softmax"] != pytest.approx(first["none"], rel=1e-2)


def test_the_loss_is_the_mean_over_images(small, encoder, batch):
    """Written out for AdaIN."""
    settings, layers = small["adain"], ("relu1_1", "relu1_2")
    generator = generators.create(settings.fitted_config(encoder))
    contents, styles = (jax.numpy.asarray(batch[name][:2], jax.numpy.float32) / 255 for name in ("content", "style"))
    found = jax.jit(functools.partial(mean_loss, settings))(generator, encoder, contents, styles)
    content, style = (encode(encoder, images, layers=layers) for images in (contents, styles))
    stylized = generator.stylize(encoder, contents, styles, key=jax.random.key(0))
    output = encode(encoder, stylized, layers=layers)
    totals = [
        adain.evaluate(
            *({n: x[i] for n, x in f.items()} for f in (output, content, style)), objective=settings.objective
        )
        for i in range(2)
    ]
    assert float(found) == pytest.approx(np.mean([float(total) for total, _ in totals]), rel=1e-5)


def test_eight_devices_take_one_step_on_the_whole_batch(small, encoder, batch):
    settings = small["adain"]
    config, state, split = prepared(settings, encoder, batch)
    before = jax.device_get(state["parameters"])
    contents, styles = (jax.numpy.asarray(batch[name], jax.numpy.float32) / 255 for name in ("content", "style"))

    def loss(parameters, encoder):
        return mean_loss(settings, with_parameters(config, parameters), encoder, contents, styles)

    total, gradient = jax.jit(jax.value_and_grad(loss))(before, encoder)
    solver = optax.adam(1e-4)
    updates, _ = solver.update(gradient, solver.init(before))
    expected = optax.apply_updates(before, updates)
    after, report = steps.make_step(settings, config)(encoder, None, state, split)
    assert float(report["total"]) == pytest.approx(float(total), rel=1e-5)
    for name, value in expected.items():
        # Adam's first step is the gradient's sign, where it is not rounding.
        sure = np.abs(gradient[name]) > 1e-4 * np.abs(gradient[name]).max()
        assert sure.mean() > 0.9
        np.testing.assert_allclose(after["parameters"][name][sure], value[sure], atol=2e-6)


def test_a_step_of_the_warm_up_gives_images_back(small, encoder, batch):
    """Its loss is the difference between pixels of contents and styles and what is made of each in its own style."""
    settings = small["adain"]
    config, state, split = prepared(settings, encoder, batch)
    generator = with_parameters(config, state["parameters"])
    images = jax.numpy.asarray(np.concatenate([batch["content"], batch["style"]]), jax.numpy.float32) / 255
    again = generator.stylize(encoder, images, images, key=None)
    warm = steps.make_step(settings, config, warmup=True)
    after, report = warm(encoder, None, state, split)
    assert set(report) == {"total", "pixels", "update"}
    assert float(report["pixels"]) == pytest.approx(float(np.mean((again - images) ** 2)), rel=1e-4)
    assert float(warm(encoder, None, after, split)[1]["total"]) < float(report["total"])


def test_johnsons_network_warms_up_on_contents(small, encoder, batch):
    settings = small["johnson"]
    config, state, _ = prepared(settings, encoder, batch)
    generator = with_parameters(config, state["parameters"])
    images = jax.numpy.asarray(batch["content"], jax.numpy.float32) / 255
    again = generator.stylize(None, images, None, key=None)
    _, report = steps.make_step(settings, config, warmup=True)(
        encoder, None, state, devices.split({"content": batch["content"]})
    )
    assert float(report["total"]) == pytest.approx(float(np.mean((again - images) ** 2)), rel=1e-4)


def test_the_encoder_is_no_constant_of_the_program(small, encoder, batch):
    settings = small["adain"]
    config, state, split = prepared(settings, encoder, batch)
    text = steps.make_step(settings, config).lower(encoder, None, state, split).as_text()
    assert len(text) < 1_000_000  # the encoder's kernels alone would be 300,000 digits


def test_bfloat16_is_near(small, encoder, batch):
    settings = small["adain"]
    config = settings.fitted_config(encoder)
    contents, styles = (jax.numpy.asarray(batch[name][:1], jax.numpy.float32) / 255 for name in ("content", "style"))
    totals = []
    for precision in ("float32", "bfloat16"):
        generator = generators.create(config, compute=backbones.Compute(precision=precision))
        totals.append(float(mean_loss(settings, generator, encoder, contents, styles)))
    assert totals[1] == pytest.approx(totals[0], rel=0.03)
    assert totals[1] != totals[0]


@pytest.mark.parametrize("kind", ["adain", "adaattn"])
def test_a_decoder_may_keep_the_scale(kind):
    """Kernels have variance 2 over inputs, biases are 0; all that is no decoder's is as its authors draw it."""
    settings = train.recipe(kind).replace(seed=3)
    kept, drawn = (states.initial_state(settings.replace(init=i), settings.config)["parameters"] for i in INITS)
    for name, array in kept.items():
        if not name.startswith("decoder."):
            np.testing.assert_array_equal(array, drawn[name])
        elif name.endswith(".bias"):
            assert not array.any()
        else:
            inputs = math.prod(array.shape[:-1])
            assert float(array.std()) * (inputs / 2) ** 0.5 == pytest.approx(1, abs=4 / (2 * array.size) ** 0.5)


def test_an_encoder_may_mirror(small):
    """Beyond the border there is the image again: of an even one, features do not see the border."""
    settings = small["adain"].replace(padding="reflect")
    flat = jax.numpy.full((16, 16, 3), 0.3)
    mirrored, zeros = (
        np.ptp(extract(states.load_encoder(s)[0], flat, layers=("relu1_2",))["relu1_2"], axis=(0, 1)).max()
        for s in (settings, small["adain"])
    )
    assert mirrored < 1e-6
    assert zeros > 0.1
    with pytest.raises(UserError, match="padding can only be chosen for a VGG, got resnet50: leave it out"):
        states.load_encoder(settings.replace(encoder="resnet50"))


def test_keys_differ_from_step_to_step(small, encoder):
    settings = small["johnson"]
    first = states.initial_state(settings, settings.fitted_config(encoder))
    second = {**first, "step": first["step"] + 1}
    keys = [jax.random.key_data(states.step_key(state)).tolist() for state in (first, first, second)]
    assert keys[0] == keys[1] != keys[2]
