"""Laws that every backbone keeps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from skeletons import skeleton

from swag_jax import backbones
from swag_jax._checks import UserError
from swag_jax.backbones.zoo import parameter_shapes
from swag_jax.features import extract
from swag_jax.params.tree import flat_parameters, with_parameters

EARLY = dict.fromkeys(backbones.NAMES, "conv2_1") | {
    "vgg19": "relu2_1",
    "vgg16": "relu1_1",
    "alexnet": "pool1",
    "googlenet": "inception3a",
    "inception_v3": "mixed5b",
    "efficientnet-lite0": "block3",
}

# Standard deviations that torchvision gives to all kernels; the others are Kaiming normal.
DEVIATIONS = {"googlenet": 0.01, "inception_v3": 0.1}

# Projections of ResNet50's four stages with their batch norms' scales and biases.
PROJECTIONS = sum(a * b + 2 * b for a, b in ((64, 256), (256, 512), (512, 1024), (1024, 2048)))

# A 3x3 stem of 64 channels, and 3, 4, 6 and 3 pairs of 3x3 convolutions, all with their batch norms.
PLAIN = (27 * 64 + 128) + sum(
    9 * (before * c + (2 * depth - 1) * c * c) + 4 * depth * c
    for depth, before, c in ((3, 64, 64), (4, 64, 128), (6, 128, 256), (3, 256, 512))
)

# Convolutions of VGG19; torchvision's published totals for its other networks, less their heads'; ResNet50's less its
# projections; two pseudo networks by their definition, which differ by the projections of three stages.
PARAMETERS = {
    "vgg19": 20_024_384,
    "vgg16": 138_357_544 - 123_642_856,
    "alexnet": 61_100_840 - 58_631_144,
    "resnet50": 25_557_032 - 2_049_000,
    "wide_resnet50_2": 68_883_240 - 2_049_000,
    "resnet18": 11_689_512 - 513_000,
    "resnet34": 21_797_672 - 513_000,
    "resnet101": 44_549_160 - 2_049_000,
    "no_resnet50": 25_557_032 - 2_049_000 - PROJECTIONS,
    "pseudo_vgg": PLAIN,
    "pseudo_resvgg": PLAIN + sum(a * b + 2 * b for a, b in ((64, 128), (128, 256), (256, 512))),
    "preact_resnet50": 25_557_032 - 2_049_000,
    "googlenet": 6_624_904 - 1_025_000,
    "inception_v3": 27_161_264 - 3_326_696 - 2_049_000,
    "efficientnet-lite0": 4_652_008 - 1_281_000,
}

# One of each kind of layers. Their relatives differ in depth, width and switches, which the references of
# `test_parity.py` cover; what compiles nothing is asked of every network.
KINDS = ("vgg19", "alexnet", "resnet18", "resnet50", "pseudo_resvgg", "googlenet", "inception_v3", "efficientnet-lite0")

IMAGE = jax.random.uniform(jax.random.key(0), (40, 52, 3))
BATCH = jax.random.uniform(jax.random.key(1), (3, 40, 52, 3))


@pytest.fixture(params=backbones.NAMES)
def name(request):
    return request.param


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@functools.cache
def early(kind):
    return backbones.create(kind, until=EARLY[kind])


@pytest.fixture
def network(kind):
    return early(kind)


@jax.jit
def run(network, images):
    return network(images)


def energy(image, network):
    features = extract(network, image, layers=network.layers)
    return sum((x**2).mean() for x in features.values()), features


@jax.jit
def pull(image, network):
    """Return the gradient of the activations' energy at the image, and the activations."""
    (_, features), gradient = jax.value_and_grad(energy, has_aux=True)(image, network)
    return gradient, features


@jax.jit
def pull_all(image, network):
    """Return the gradients of the activations' energy at the image and at every kernel, and the activations."""
    definition, kernels, others = nnx.split(network, nnx.PathContains("kernel"), ...)

    def of(image, kernels):
        return energy(image, nnx.merge(definition, kernels, others))

    (_, features), gradients = jax.value_and_grad(of, argnums=(0, 1), has_aux=True)(image, kernels)
    return *gradients, features


def close(a, b, tolerance=1e-5):
    """Of numpy, as all sums below: JAX would compile them for every shape."""
    assert a.keys() == b.keys()
    for layer in a:
        np.testing.assert_allclose(a[layer], b[layer], rtol=tolerance, atol=tolerance * np.abs(b[layer]).max())


def test_parameter_count_is_the_published_one(name):
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(skeleton(name), nnx.Param))) == PARAMETERS[name]


def test_parameter_shapes_name_every_array(name):
    shapes = parameter_shapes(name, until=EARLY[name])
    arrays = flat_parameters(backbones.create(name, until=EARLY[name]))
    assert shapes == {flat: array.shape for flat, array in arrays.items()}


def test_batched_equals_single(network):
    batched = run(network, BATCH)
    for i in range(len(BATCH)):
        close(run(network, BATCH[i : i + 1]), {layer: np.asarray(x)[i : i + 1] for layer, x in batched.items()})


def test_vmap_equals_batched(network):
    mapped = jax.jit(jax.vmap(lambda network, image: network(image[None]), in_axes=(None, 0)))(network, BATCH)
    close({layer: np.asarray(x)[:, 0] for layer, x in mapped.items()}, run(network, BATCH))


def test_early_stop_equals_full_pass_and_goes_no_deeper(network):
    """Not compiled, too: an eager pass to the second layer, and a compiled one to the last."""
    shallow, full = network(BATCH[:1], until=network.layers[1]), run(network, BATCH[:1])
    assert tuple(shallow) == network.layers[:2]
    assert full.keys() == set(network.layers)
    close(shallow, {layer: full[layer] for layer in shallow}, 1e-6)


def test_early_stop_computes_fewer_convolutions(name):
    network = skeleton(name)
    shape = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    text = jax.jit(lambda n, x: n(x, until=n.layers[0])).lower(network, shape).as_text()
    assert text.count("stablehlo.convolution") == 1


def test_unused_parameters_are_not_built(name):
    everything = jax.tree.leaves(nnx.state(skeleton(name)))
    assert len(parameter_shapes(name, until=EARLY[name])) < len(everything) / 3


def test_gradient_at_the_image_is_finite_and_not_zero(network):
    gradient, *_ = pull_all(IMAGE, network)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


def test_seeded_initialization_repeats(kind):
    first, again, other = (flat_parameters(backbones.create(kind, until=EARLY[kind], seed=seed)) for seed in (3, 3, 4))
    for flat in first:
        np.testing.assert_array_equal(first[flat], again[flat])
    kernels = [flat for flat in first if flat.endswith("kernel")]
    assert all(not np.array_equal(first[flat], other[flat]) for flat in kernels)


def test_initialization_follows_pytorch(kind):
    arrays = {flat: np.asarray(array) for flat, array in flat_parameters(early(kind)).items()}
    if kind == "alexnet":  # torch.nn.Conv2d's default: uniform within 1 / sqrt(fan_in), biases as well
        bound = float(np.prod(arrays["conv1.kernel"].shape[:3])) ** -0.5
        for array in arrays.values():
            assert bound * 0.9 < np.abs(array).max() <= bound
            assert abs(np.std(array) - bound / 3**0.5) < bound / array.size**0.5
        return
    for flat, array in arrays.items():
        if flat.endswith("kernel"):
            height, width, channels, out = array.shape
            out = 1 if channels == 1 else out  # each channel of a depthwise convolution is separate
            kaiming = (2 / (height * width * out)) ** 0.5  # Kaiming normal, fan-out, ReLU
            goal = DEVIATIONS.get(kind, kaiming)
            # The sample deviation of n normal numbers is within 5 standard errors, goal / sqrt(2 n).
            assert abs(np.std(array) - goal) < 5 * goal / (2 * array.size) ** 0.5
        else:
            ones = flat.endswith(("scale", "variance"))
            np.testing.assert_array_equal(array, np.ones_like(array) if ones else np.zeros_like(array))


def sizes(kind, side):
    """Rows of every layer for an image of so many."""
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    shapes = jax.eval_shape(lambda n, x: n(x), skeleton(kind), image)
    return np.array([shapes[layer].shape[1] for layer in skeleton(kind).layers])


def test_strides_are_the_spacing_of_positions(name):
    """An image larger by a layer's stride has one position more there, wherever padding leaves off."""
    network = skeleton(name)
    np.testing.assert_array_equal(sizes(name, 160) - sizes(name, 128), 32 // np.array(network.strides))


def test_the_smallest_image_has_one_position_in_the_deepest_layer(name):
    network = skeleton(name)
    assert sizes(name, network.minimum_size(network.layers))[-1] == 1


def test_unknown_layer_offers_near_names(name):
    network = skeleton(name)
    layer = network.layers[-2]
    with pytest.raises(UserError, match=f"unknown layer '{layer}x': did you mean .*{layer}"):
        network.check_layers([layer + "x"])
    with pytest.raises(UserError, match="at least one layer must be given"):
        network.check_layers([])


def test_bfloat16_stays_near_float32(kind):
    compute = backbones.Compute(precision="bfloat16")
    low = run(backbones.create(kind, until=EARLY[kind], compute=compute), BATCH[:1])
    high = run(early(kind), BATCH[:1])
    for layer in high:
        assert low[layer].dtype == jnp.bfloat16
        expected = np.asarray(high[layer])
        assert np.linalg.norm(np.asarray(low[layer], np.float32) - expected) < 0.02 * np.linalg.norm(expected)


def test_frozen_equals_the_network_and_its_gradient(kind):
    """With statistics that are not trivial; freezing twice changes nothing."""
    network = early(kind)
    rng = np.random.default_rng(5)
    arrays = {
        flat: jnp.asarray(np.asarray(array) + np.float32(0.1) * rng.random(array.shape, np.float32))
        for flat, array in flat_parameters(network).items()
    }
    network = with_parameters(network, arrays)
    frozen = jax.jit(backbones.Backbone.frozen)(network)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(frozen.frozen()), nnx.state(frozen))
    expected, _, plain = pull_all(IMAGE, network)
    found, folded = pull(IMAGE, frozen)
    close(folded, plain)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_parameters_can_be_trained(network):
    """The networks are ordinary NNX modules: gradients reach every kernel."""
    kernels = jax.tree.leaves(pull_all(IMAGE, network)[1])
    assert len(kernels) == sum(name.endswith("kernel") for name in flat_parameters(network))
    assert all(np.isfinite(g).all() and np.abs(g).max() > 0 for g in map(np.asarray, kernels))
