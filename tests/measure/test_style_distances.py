"""Distances of styles: exact cases, independent implementations, and the laws all of them keep."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from swag_jax import measure, sample
from swag_jax.measure.style import _directions, _sliced, _sorted, _squared_distance

KEY = jax.random.key(0)

gram_distance, moment_distance, color_distance = map(
    jax.jit, (measure.gram_distance, measure.moment_distance, measure.color_distance)
)
sliced_wasserstein = jax.jit(functools.partial(measure.sliced_wasserstein, directions=8))

DISTANCES = {
    "gram": gram_distance,
    "moments": moment_distance,
    "sliced-wasserstein": functools.partial(sliced_wasserstein, KEY),
}


def features(seed, rows=6, columns=7):
    keys = jax.random.split(jax.random.key(seed))
    return {
        "relu1_1": jax.random.uniform(keys[0], (rows, columns, 3)),
        "relu2_1": jax.random.normal(keys[1], (rows // 2, columns // 2, 5)),
    }


@pytest.fixture(params=DISTANCES)
def distance(request):
    return DISTANCES[request.param]


def test_zero_for_the_style_itself(distance):
    style = features(0)
    assert float(distance(style, style)) == pytest.approx(0, abs=1e-9)


def test_blind_to_positions(distance):
    style = features(0)
    shuffled = {
        layer: jax.random.permutation(KEY, x.reshape(-1, x.shape[-1])).reshape(x.shape) for layer, x in style.items()
    }
    assert float(distance(shuffled, style)) == pytest.approx(0, abs=1e-9)
    assert float(distance(shuffled, features(1))) == pytest.approx(float(distance(style, features(1))), rel=1e-5)


def test_blind_to_repetition_and_size(distance):
    """A tiled texture is the same texture."""
    style = features(0)
    tiled = {layer: jnp.tile(x, (2, 3, 1)) for layer, x in style.items()}
    assert float(distance(tiled, style)) == pytest.approx(0, abs=1e-9)
    assert float(distance(features(1), tiled)) == pytest.approx(float(distance(features(1), style)), rel=1e-5)


@pytest.mark.parametrize(("first", "second"), [(100, 0.01), (1e-11, 1e12), (1e20, 1e-20)])
def test_has_no_unit(distance, first, second):
    """A factor on a layer's features, in both images, changes nothing: also where float32 has none of its squares.

    A random GoogLeNet ends in activations of 2e-11, a random Inception v3 in 2e12; Gram matrices square them twice.
    """
    found, style = features(0), features(1)
    scaled = [{"relu1_1": first * x["relu1_1"], "relu2_1": second * x["relu2_1"]} for x in (found, style)]
    assert float(distance(*scaled)) == pytest.approx(float(distance(found, style)), rel=1e-4)


def test_is_the_mean_over_layers(distance):
    found, style = features(0), features(1)
    if distance is not DISTANCES["sliced-wasserstein"]:  # whose directions depend on the number of layers
        single = [float(distance({layer: found[layer]}, {layer: style[layer]})) for layer in style]
        assert float(distance(found, style)) == pytest.approx(np.mean(single), rel=1e-5)
    more = {**found, "relu9_9": jnp.ones((2, 2, 2))}
    assert float(distance(more, style)) == float(distance(found, style))


def test_grows_with_noise(distance):
    style = features(0)
    noise = features(1)
    values = [
        float(distance({layer: x + strength * noise[layer] for layer, x in style.items()}, style))
        for strength in (0.1, 0.3, 1.0, 3.0)
    ]
    assert values == sorted(values)
    assert values[0] > 0


def test_batch_equals_single(distance):
    style, images = features(0), [features(seed) for seed in (1, 2, 3)]
    batch = jax.tree.map(lambda *x: jnp.stack(x), *images)
    found = jax.vmap(distance, in_axes=(0, None))(batch, style)
    np.testing.assert_allclose(found, [distance(x, style) for x in images], rtol=1e-5)


def test_gram_distance_by_hand():
    """Gram matrices [[5, 1], [1, 2]] and the identity: (16 + 1 + 1 + 1) / 2."""
    found = {"a": jnp.array([[[1.0, 2.0]], [[3.0, 0.0]]])}
    style = {"a": jnp.sqrt(2.0) * jnp.eye(2)[None]}
    assert float(gram_distance(found, style)) == pytest.approx(19 / 2, rel=1e-6)


def test_moment_distance_by_hand():
    """Means 3 and 0, deviations 1 and 2, of the style 1, 1 and 0, 0: (4 + 1 + 1 + 4) / 2."""
    found = {"a": jnp.array([[[2.0, -2.0], [4.0, 2.0]]])}
    assert float(moment_distance(found, {"a": jnp.ones((3, 3, 2))})) == pytest.approx(5, rel=1e-6)


def quantiles(sample, levels):
    """The quantile function of a sample as its definition: the least x with at least a share t at or below it."""
    return np.sort(sample)[np.ceil(levels * len(sample) - 1e-9).astype(int) - 1]


def squared_wasserstein(x, y):
    """The integral of the squared difference: both functions are constant between multiples of 1 / (m n)."""
    levels = (np.arange(len(x) * len(y)) + 0.5) / (len(x) * len(y))
    return np.mean((quantiles(x, levels) - quantiles(y, levels)) ** 2)


def gram_reference(found, style):
    g, g_style = (np.einsum("ki,kj->ij", f, f) / len(f) for f in (found, style))
    return np.sum((g - g_style) ** 2) / np.sum(g_style**2)


def moment_reference(found, style):
    (mean, deviation), (mean_style, deviation_style) = ((f.mean(0), np.sqrt(f.var(0))) for f in (found, style))
    difference = np.sum((mean - mean_style) ** 2) + np.sum((deviation - deviation_style) ** 2)
    return difference / (np.sum(mean_style**2) + np.sum(deviation_style**2))


def sliced_reference(found, style, directions):
    squared = [squared_wasserstein(found @ direction, style @ direction) for direction in directions]
    return np.sum(squared) / np.sum([np.var(style @ direction) for direction in directions])


def rows(features):
    """Positions by channels, in float64."""
    return np.asarray(features, np.float64).reshape(-1, features.shape[-1])


@pytest.fixture(
    params=[((6, 7), (6, 7)), ((5, 9), (8, 3)), ((2, 2), (1, 5))], ids=["equal sizes", "other sizes", "few positions"]
)
def pair(request):
    """Random features of two images: 3 channels and 24, each with its own mean and deviation."""
    rng = np.random.default_rng(0)
    return [
        {
            layer: jnp.asarray(rng.normal(rng.normal(size=n), rng.uniform(0.1, 3, n), (*size, n)), jnp.float32)
            for layer, n in {"relu1_1": 3, "relu2_1": 24}.items()
        }
        for size in request.param
    ]


@pytest.mark.parametrize(
    ("distance", "reference"), [(gram_distance, gram_reference), (moment_distance, moment_reference)]
)
def test_gram_and_moment_distances_equal_numpy_in_float64(distance, reference, pair):
    found, style = pair
    expected = np.mean([reference(rows(found[layer]), rows(style[layer])) for layer in style])
    assert float(distance(found, style)) == pytest.approx(expected, rel=1e-5)


def test_sliced_distance_equals_numpy_in_float64(pair):
    """Along the same 8 directions: in groups of three for 3 channels, all at right angles for 24."""
    found, style = pair
    layers = zip(jax.random.split(KEY, 2), sorted(style), strict=True)
    drawn = {layer: np.asarray(_directions(key, style[layer].shape[-1], 8), np.float64) for key, layer in layers}
    expected = np.mean([sliced_reference(rows(found[layer]), rows(style[layer]), drawn[layer]) for layer in style])
    assert float(sliced_wasserstein(KEY, found, style)) == pytest.approx(expected, rel=1e-5)


def test_sliced_distance_over_many_directions_is_that_over_numpys():
    """Two clouds on the diagonal against one as wide: along the axes alone the distance would be a third less."""
    rng = np.random.default_rng(0)
    found, style = rng.standard_normal((2, 60, 4))
    found += 2 * rng.choice([-1, 1], (60, 1))
    style += 2 * rng.standard_normal((60, 1))
    directions = rng.standard_normal((4000, 4))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    expected = sliced_reference(found, style, directions)
    images = ({"a": jnp.asarray(f, jnp.float32).reshape(6, 10, 4)} for f in (found, style))
    many = jax.jit(functools.partial(measure.sliced_wasserstein, directions=1000))
    assert float(many(KEY, *images)) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(("size", "other"), [((9, 8), (9, 8)), ((7, 9), (5, 1))])
def test_color_distance_equals_numpy_in_float64(size, other):
    rng = np.random.default_rng(0)
    image, reference = rng.random((*size, 3), np.float32), rng.beta(0.5, 2, (*other, 3)).astype(np.float32)
    directions = np.asarray(_directions(KEY, 3, 63), np.float64)
    squared = [squared_wasserstein(rows(image) @ direction, rows(reference) @ direction) for direction in directions]
    found = color_distance(KEY, jnp.asarray(image), jnp.asarray(reference))
    assert float(found) == pytest.approx(np.sqrt(np.mean(squared)), rel=1e-5)


@pytest.mark.parametrize(("first", "second"), [(5, 5), (6, 4), (1, 9), (12, 18)])
def test_the_integral_over_quantiles_is_exact(first, second):
    rng = np.random.default_rng(first)
    x, y = rng.standard_normal(first), rng.standard_normal(second)
    found = _squared_distance(*(_sorted(jnp.asarray(v, jnp.float32)) for v in (x, y)))
    assert float(found) == pytest.approx(squared_wasserstein(x, y), rel=1e-5, abs=1e-7)


def test_sliced_distance_on_a_line_is_scipys():
    """In one dimension every direction is the same; for shifted samples the 2-distance equals scipy's 1-distance."""
    rng = np.random.default_rng(0)
    x, shift = rng.standard_normal(50), 1.75
    y = np.concatenate([x, x]) + shift  # twice as many, the same distribution
    squared, variance = _sliced(KEY, *(jnp.asarray(v, jnp.float32).reshape(1, -1, 1) for v in (x, y)), 3)
    assert float(squared) ** 0.5 == pytest.approx(wasserstein_distance(x, y), rel=1e-5)
    assert float(variance) == pytest.approx(x.var(), rel=1e-4)


def test_sorting_by_bits():
    values = jnp.array([0.5, -0.0, -2.0, 1e-40, -1e-40, 3e38, -3e38, 0.0, 7.0])
    np.testing.assert_array_equal(_sorted(values), np.sort(np.asarray(values)))


@pytest.mark.parametrize(("channels", "count"), [(3, 63), (5, 64), (512, 16), (4, 2), (1, 3)])
def test_directions_are_unit_vectors_at_right_angles(channels, count):
    directions = _directions(KEY, channels, count)
    assert directions.shape == (count, channels)
    group = np.asarray(directions[: min(channels, count)], np.float64)
    np.testing.assert_allclose(group @ group.T, np.eye(len(group)), atol=1e-5)


def test_equal_keys_give_equal_directions():
    found, style = features(0), features(1)
    values = [float(sliced_wasserstein(jax.random.key(seed), found, style)) for seed in (0, 0, 1)]
    assert values[0] == values[1] != values[2]
    assert values[2] == pytest.approx(values[0], rel=0.3)


def test_the_order_of_layers_is_no_matter_with_or_without_jit():
    found, style = ({name: x[name] for name in ("relu2_1", "relu1_1")} for x in (features(0), features(1)))
    eager = measure.sliced_wasserstein(KEY, found, style, directions=8)
    assert float(eager) == pytest.approx(float(sliced_wasserstein(KEY, features(0), features(1))), rel=1e-5)


def test_gaussians_of_other_covariance_are_told_apart_where_moments_are_not():
    """Equal means and deviations, but correlated channels: the moments see nothing."""
    plain = jax.random.normal(KEY, (32, 32, 2))
    mixed = jnp.stack([plain[..., 0], 0.8 * plain[..., 0] + 0.6 * plain[..., 1]], -1)
    assert float(moment_distance({"a": mixed}, {"a": plain})) < 0.02
    assert float(sliced_wasserstein(KEY, {"a": mixed}, {"a": plain})) > 0.05


def test_color_distance_laws():
    coffee, swirls, mosaic = (jnp.asarray(sample(name, size=24)[:16, :16]) for name in ("coffee", "swirls", "mosaic"))
    distance = functools.partial(color_distance, KEY)
    assert float(distance(coffee, coffee)) == 0
    assert float(distance(coffee, swirls)) == pytest.approx(float(distance(swirls, coffee)), rel=1e-5)
    assert float(distance(coffee[::-1], coffee)) == pytest.approx(0, abs=1e-6)
    assert float(distance(coffee, swirls)) <= float(distance(coffee, mosaic) + distance(mosaic, swirls))


def test_a_shift_of_all_colors_moves_them_by_its_root_mean_square():
    image, shift = jax.random.uniform(KEY, (16, 16, 3)), jnp.array([0.3, -0.1, 0.2])
    found = float(color_distance(KEY, image + shift[None, None], image))
    assert found == pytest.approx(float(jnp.sqrt((shift**2).mean())), rel=1e-5)
    assert float(color_distance(KEY, jnp.zeros((16, 16, 3)), jnp.ones((16, 16, 3)))) == pytest.approx(1, rel=1e-6)
