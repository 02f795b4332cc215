"""Laws that every generator keeps, on small ones; sizes and parameter counts of the published ones."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from skeletons import skeleton

from swag_jax import backbones, generators
from swag_jax._checks import UserError
from swag_jax.backbones import Compute
from swag_jax.backbones.zoo import entry
from swag_jax.features import LayerSpec, taps
from swag_jax.generators import AdaAttNConfig, AdaINConfig, JohnsonConfig, SANetConfig
from swag_jax.generators._layers import Conv, enlarge
from swag_jax.generators.registry import parameter_shapes, with_parameters
from swag_jax.params.tree import flat_parameters

TAPS = (LayerSpec("a", 3, 1), LayerSpec("b", 4, 2), LayerSpec("c", 5, 2), LayerSpec("d", 6, 4))

SMALL = {
    "johnson": JohnsonConfig(channels=4, blocks=1),
    "adain": AdaINConfig(TAPS[1:2]),
    "sanet": SANetConfig(TAPS[2:]),
    "adaattn": AdaAttNConfig(TAPS, samples=20, skip_samples=12),
}

SIZE = (10, 13)
STYLE_SIZE = (12, 9)


@pytest.fixture(params=SMALL)
def kind(request):
    return request.param


@functools.cache
def create(config, precision="float32"):
    """A generator with kernels that keep the scale of their input, without compiling their initialization."""
    random, arrays = np.random.default_rng(7), {}
    for name, shape in parameter_shapes(config).items():
        scale = np.prod(shape[:3]) ** -0.5 if len(shape) == 4 else 0.5
        arrays[name] = np.asarray(random.normal(scale=scale, size=shape), np.float32)
    return with_parameters(config, arrays, compute=Compute(precision))


def features(config, size, seed, *, batch=2):
    """Random positive activations of images of that size, whose pools keep odd edges."""
    shapes = {tap.layer: (batch, *(-(-side // tap.stride) for side in size), tap.channels) for tap in config.taps}
    random = np.random.default_rng(seed)
    return {layer: jnp.asarray(random.random(shape), jnp.float32) for layer, shape in shapes.items()}


def inputs(kind, *, size=SIZE):
    config = SMALL[kind]
    if not config.taps:
        return (jnp.asarray(np.random.default_rng(0).random((2, *size, 3)), jnp.float32),)
    return features(config, size, 0), features(config, STYLE_SIZE, 1)


def paint(generator, arguments, *, size=SIZE, **options):
    if not generator.layers:
        return generator(*arguments)
    return generator(*arguments, size=size, **{"key": jax.random.key(0), **options})


run = jax.jit(paint, static_argnames="size")


@jax.jit
def slopes(generator, arguments):
    definition, state = nnx.split(generator)
    return jax.grad(lambda state: (paint(nnx.merge(definition, state), arguments) ** 2).mean())(state)


def test_images_have_the_size_asked_for_and_a_batch_is_its_images(kind):
    generator, arguments = create(SMALL[kind]), inputs(kind)
    found = run(generator, arguments)
    assert (found.shape, found.dtype) == ((2, *SIZE, 3), jnp.float32)
    single = run(generator, jax.tree.map(lambda x: x[1:], arguments))
    np.testing.assert_allclose(single[0], found[1], rtol=1e-4, atol=1e-5)


def test_every_parameter_is_trained(kind):
    gradients = nnx.to_flat_state(slopes(create(SMALL[kind]), inputs(kind)))
    values = {".".join(map(str, path)): variable.get_value() for path, variable in gradients}
    assert values.keys() == parameter_shapes(SMALL[kind]).keys()
    assert all(np.isfinite(g).all() for g in values.values())
    # A bias in front of an instance norm has no effect, and all keys moved alike move all logits alike.
    still = {name for name, g in values.items() if np.abs(g).max() < 1e-9}
    assert all(name.endswith((".conv.bias", ".key.bias")) for name in still)


def test_bfloat16_stays_near_float32(kind):
    high, low = (run(create(SMALL[kind], precision), inputs(kind)) for precision in ("float32", "bfloat16"))
    assert low.dtype == jnp.float32
    assert np.linalg.norm(np.subtract(low, high)) < 0.05 * np.linalg.norm(high)


def test_parameters_are_float32_and_follow_the_seed():
    config, half = SMALL["adain"], Compute("bfloat16")
    first, again, other = (flat_parameters(generators.create(config, seed=seed, compute=half)) for seed in (3, 3, 4))
    assert {name: array.shape for name, array in first.items()} == parameter_shapes(config)
    for name, array in first.items():
        assert array.dtype == jnp.float32
        np.testing.assert_array_equal(array, again[name])
        assert not np.array_equal(array, other[name])


@pytest.mark.parametrize(("deviation", "expected"), [(None, (9 * 40) ** -0.5 / 3**0.5), (0.02, 0.02)])
def test_initialization_is_pytorchs_or_normal(deviation, expected):
    """A uniform distribution within a bound deviates by the bound over the root of 3."""
    layer = Conv(40, 50, deviation=deviation, rngs=nnx.Rngs(0))
    kernel, bias = layer.kernel[...], layer.bias[...]
    # The sample deviation of n numbers is within 5 standard errors.
    assert abs(float(kernel.std()) - expected) < 5 * expected / (2 * kernel.size) ** 0.5
    assert abs(float(kernel.mean())) < 5 * expected / kernel.size**0.5
    if deviation is None:
        assert np.abs(kernel).max() <= (9 * 40) ** -0.5
        assert 0.5 * expected < float(bias.std()) < 1.5 * expected
    else:
        np.testing.assert_array_equal(bias, 0)


def test_parameters_make_the_generator(kind):
    generator = create(SMALL[kind])
    same = with_parameters(SMALL[kind], flat_parameters(generator))
    np.testing.assert_array_equal(run(same, inputs(kind)), run(generator, inputs(kind)))


def test_configurations_are_values(kind):
    config = SMALL[kind]
    assert hash(config) == hash(dataclasses.replace(config))
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.taps = ()


def count(config, *prefixes):
    shapes = parameter_shapes(config).items()
    return sum(int(np.prod(shape)) for name, shape in shapes if name.startswith(prefixes))


@pytest.mark.parametrize(
    ("config", "prefixes", "expected"),
    [
        (JohnsonConfig(), ("",), 1_679_235),
        (AdaINConfig(), ("",), 3_505_219),
        (SANetConfig(), ("relu4_1", "relu5_1", "merge"), 4_461_056),
        (SANetConfig(), ("decoder",), 3_505_219),
        (AdaAttNConfig(), ("decoder",), 4_095_043),
        (AdaAttNConfig(), ("relu4_1", "relu5_1", "merge"), 9_066_752),
        (AdaAttNConfig(), ("relu3_1",), 468_096),
        (AdaAttNConfig(skip=False), ("decoder",), 3_505_219),
        (AdaAttNConfig.video(), ("relu3_1",), 468_096),
    ],
    ids=str,
)
def test_parameter_counts_are_the_published_ones(config, prefixes, expected):
    assert count(config, *prefixes) == expected


def activations(network, size):
    """The shapes of a network's activations of one image of `size`."""
    images = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    return jax.eval_shape(lambda n, x: n(x), network, images)


def painted_size(config, content, style, size):
    """The size of what is painted of activations of such shapes."""
    generator = nnx.eval_shape(lambda: generators.create(config))
    read = tuple({layer: x[layer] for layer in generator.layers} for x in (content, style))
    return jax.eval_shape(lambda g, x: paint(g, x, size=size), generator, read).shape[1:3]


@pytest.mark.parametrize("keep_odd", [True, False])
def test_any_size_is_painted_from_vgg19_whatever_its_pools_do(keep_odd):
    network = nnx.eval_shape(lambda: backbones.create("vgg19", until="relu5_1", keep_odd=keep_odd))
    content, style = activations(network, (67, 93)), activations(network, (64, 83))
    for config in (AdaINConfig(), SANetConfig(), AdaAttNConfig(), AdaAttNConfig.video()):
        assert painted_size(config, content, style, (67, 93)) == (67, 93)


@pytest.mark.parametrize("name", backbones.NAMES)
def test_every_network_can_feed_every_generator(name):
    """With channels and strides that differ from VGG19's, at sizes that are no multiples of any stride."""
    network = skeleton(name)
    content = activations(network, (99, 131))
    read = taps(network, layers=entry(name).style_layers)
    for config in (AdaINConfig(read[-2:-1]), SANetConfig(read[-2:]), AdaAttNConfig(read)):
        assert painted_size(config, content, content, (99, 131)) == (99, 131)


def test_johnsons_network_reads_no_style():
    with pytest.raises(UserError, match="one style in its weights, got a style image: pass none"):
        create(SMALL["johnson"]).read(jnp.zeros((1, 8, 8, 3)))


def test_strength_zero_reconstructs_the_content():
    generator, (content, style) = create(SMALL["adain"]), inputs("adain")
    found = run(generator, (content, style), strength=0.0)
    np.testing.assert_allclose(found, jax.jit(generator.decoder, static_argnames="size")(content["b"], size=SIZE))
    assert not np.allclose(found, run(generator, (content, style), strength=1.0))


def test_without_its_residual_sanet_forgets_the_content():
    config = dataclasses.replace(SMALL["sanet"], residual=False)
    generator, (_, style) = create(config), inputs("sanet")
    flat = jax.tree.map(jnp.ones_like, inputs("sanet")[0])
    found = [run(generator, (x, style)) for x in (flat, jax.tree.map(lambda x: 5 * x, flat))]
    np.testing.assert_allclose(*found, rtol=1e-4)
    whole = create(SMALL["sanet"])
    assert not np.allclose(*(run(whole, (x, style)) for x in (flat, jax.tree.map(lambda x: 5 * x, flat))))


def test_keys_choose_among_style_positions_and_are_asked_for():
    generator, arguments = create(SMALL["adaattn"]), inputs("adaattn")
    one, other = (run(generator, arguments, key=jax.random.key(i)) for i in (1, 2))
    assert not np.allclose(one, other, rtol=1e-3)
    np.testing.assert_array_equal(one, run(generator, arguments, key=jax.random.key(1)))
    with pytest.raises(UserError, match="a key must be given if the style has more than 12 positions"):
        run(generator, arguments, key=None)


def test_outside_a_region_nothing_changes():
    """One position of attention each: the masked half of the first image differs, the second is as it was."""
    config = AdaAttNConfig((LayerSpec("a", 3, 1),), fused=False, skip=False)
    generator, size = create(config), (8, 8)
    content, style = features(config, size, 0), features(config, size, 1)
    half, none = jnp.zeros((2, 16, 16), bool).at[0, :8].set(True), jnp.zeros((2, 4, 4), bool).at[:, 0].set(True)
    attend = jax.jit(lambda g, c, s, inside, used: g.transfer(c, g.read(s, region=used), region=inside)[0])
    free, bound = (attend(generator, content, style, *regions) for regions in ((None, None), (half, none)))
    np.testing.assert_allclose(bound[0, 4:], free[0, 4:], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(bound[1], free[1], rtol=1e-4, atol=1e-6)
    assert not np.allclose(bound[0, :4], free[0, :4], rtol=1e-2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AdaINConfig(()), "must read 1 layers, got 0"),
        (lambda: SANetConfig(TAPS), "must read 2 layers, got 4"),
        (lambda: SANetConfig(TAPS[3:] + TAPS[:1]), "taps must be ordered shallow to deep, got d, a"),
        (lambda: AdaAttNConfig(TAPS[:2]), "must read 3 layers or more, got 2"),
        (lambda: AdaAttNConfig(TAPS, fused=False), "a skip needs the two deepest layers fused"),
        (lambda: AdaAttNConfig(samples=0), "samples must be at least 1, got 0"),
        (lambda: AdaAttNConfig(similarity="cosin"), "unknown similarity 'cosin': did you mean cosine"),
        (lambda: JohnsonConfig(blocks=0), "blocks must be at least 1 and at most 100, got 0"),
    ],
)
def test_bad_configurations(make, message, unchecked):
    with pytest.raises(UserError, match=message):
        make()


def test_enlarging_repeats_then_cuts_or_repeats_the_edge():
    x = jnp.arange(6.0).reshape(1, 2, 3, 1)
    found = enlarge(x, 2, rows=5, columns=5)[0, ..., 0]
    np.testing.assert_array_equal(found[0], [0, 0, 1, 1, 2])
    np.testing.assert_array_equal(found[:, 0], [0, 0, 3, 3, 3])
    np.testing.assert_array_equal(enlarge(x, 1, rows=2, columns=3), x)


@pytest.mark.parametrize("ratio", [1, 2, 3])
def test_gradient_of_enlarging_sums_what_was_repeated(ratio):
    """Entry i gets the gradients of all its copies; what was cut has none, what was repeated at the edge has more."""
    x = jnp.zeros((2, 3, 4, 5))
    rows, columns = 3 * ratio - 1, 4 * ratio + 1
    gradient = jax.random.normal(jax.random.key(0), (2, rows, columns, 5))
    found = jax.vjp(lambda x: enlarge(x, ratio, rows=rows, columns=columns), x)[1](gradient)[0]
    expected = np.zeros(x.shape)
    for row in range(rows):
        for column in range(columns):
            expected[:, row // ratio, min(column // ratio, 3)] += gradient[:, row, column]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
