from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from swag_jax.statistics import adain, gram, instance_norm, moments, normalized_entropy, peak

GOLDEN = dict(np.load(Path(__file__).parent / "reference" / "losses.npz"))

FEATURES = jax.random.normal(jax.random.key(0), (6, 7, 5))


def test_gram_by_hand():
    """Two channels at the positions (1, 2), (0, -1) and (3, 0): sums 1 + 9, 2, 4 + 1, over three positions."""
    features = jnp.array([[[1.0, 2.0], [0.0, -1.0], [3.0, 0.0]]])
    np.testing.assert_allclose(gram(features), [[10 / 3, 2 / 3], [2 / 3, 5 / 3]], rtol=1e-6)


@pytest.mark.parametrize("layer", ["shallow", "deep"])
def test_gram_matches_pytorch(layer):
    found = gram(jnp.asarray(GOLDEN[f"image_{layer}"]))
    np.testing.assert_allclose(found, GOLDEN[f"gram_positions_{layer}"], rtol=1e-5, atol=1e-6)


def test_gram_is_symmetric_and_positive_semidefinite():
    matrix = np.asarray(gram(FEATURES[:2, :2]))  # 4 positions, 5 channels: one eigenvalue is zero
    np.testing.assert_allclose(matrix, matrix.T, rtol=1e-6)
    assert np.linalg.eigvalsh(matrix).min() > -1e-6


def test_gram_is_blind_to_the_order_of_positions():
    shuffled = jax.random.permutation(jax.random.key(1), FEATURES.reshape(-1, 5)).reshape(3, 14, 5)
    np.testing.assert_allclose(gram(shuffled), gram(FEATURES), rtol=1e-5, atol=1e-6)


def test_gram_does_not_depend_on_the_number_of_positions():
    np.testing.assert_allclose(gram(jnp.tile(FEATURES, (2, 3, 1))), gram(FEATURES), rtol=1e-5, atol=1e-6)


def test_gram_of_bfloat16_is_summed_in_float32():
    """1024 ones and their squares: a bfloat16 sum would stop growing at 256."""
    matrix = gram(jnp.ones((32, 32, 2), jnp.bfloat16))
    assert matrix.dtype == jnp.float32
    np.testing.assert_array_equal(matrix, np.ones((2, 2)))
    low = FEATURES.astype(jnp.bfloat16)
    np.testing.assert_allclose(gram(low), gram(low.astype(jnp.float32)), rtol=1e-5, atol=1e-6)


def test_a_masked_gram_is_that_of_the_masked_positions():
    mask = jnp.zeros((6, 7)).at[:, :3].set(1)
    np.testing.assert_allclose(gram(FEATURES, mask=mask), gram(FEATURES[:, :3]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gram(FEATURES, mask=jnp.full((6, 7), 0.3)), gram(FEATURES), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(gram(FEATURES, mask=jnp.zeros((6, 7))), np.zeros((5, 5)))
    weights = jax.random.uniform(jax.random.key(3), (6, 7))
    expected = np.einsum("ij,ijc,ijd->cd", weights, FEATURES, FEATURES) / np.sum(weights)
    np.testing.assert_allclose(gram(FEATURES, mask=weights), expected, rtol=1e-5, atol=1e-6)


def test_gram_of_a_batch_is_that_of_each_image():
    batch = jax.random.normal(jax.random.key(2), (3, 6, 7, 5))
    np.testing.assert_allclose(jax.vmap(gram)(batch), [gram(x) for x in batch], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 2, 7)])
def test_gradient_of_gram_matches_finite_differences(shape):
    """With more positions than channels and with fewer: `gram` computes its gradient differently."""
    with jax.enable_x64(True):
        features = jnp.asarray(np.random.default_rng(0).standard_normal(shape))
        assert gram(features).dtype == jnp.float64

        def matrix(x):
            return gram(jnp.asarray(x))

        check_grads(matrix, (features,), order=1, modes=["rev"], atol=1e-8, rtol=1e-8, eps=1e-4)


def test_gradient_of_normalized_entropy_matches_finite_differences():
    with jax.enable_x64(True):
        p = jax.nn.softmax(jnp.asarray(np.random.default_rng(0).standard_normal((3, 4, 5))))
        check_grads(lambda x: normalized_entropy(jnp.asarray(x)), (p,), order=1, atol=1e-7, rtol=1e-7, eps=1e-5)


@pytest.mark.parametrize(
    ("probabilities", "entropy"),
    [
        (np.full((2, 3, 4), 1 / 24), 1.0),
        ([0.0, 1.0, 0.0], 0.0),
        ([[0.5, 0.0], [0.0, 0.5]], 0.5),
        ([0.25, 0.75], (0.25 * np.log(4) + 0.75 * np.log(4 / 3)) / np.log(2)),
    ],
)
def test_normalized_entropy_by_hand(probabilities, entropy):
    found = normalized_entropy(jnp.asarray(probabilities, jnp.float32))
    assert float(found) == pytest.approx(entropy, rel=1e-6, abs=1e-7)


def test_normalized_entropy_has_a_finite_gradient_beside_zeros():
    gradient = jax.grad(normalized_entropy)(jnp.array([0.5, 0.0, 0.5]))
    assert np.isfinite(gradient).all()


def test_moments_follow_numpy():
    flat = np.asarray(FEATURES, np.float64).reshape(-1, 5)
    for unbiased in (True, False):
        mean, deviation = moments(FEATURES, unbiased=unbiased, epsilon=0.25)
        np.testing.assert_allclose(mean, flat.mean(0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(deviation, np.sqrt(flat.var(0, ddof=int(unbiased)) + 0.25), rtol=1e-5)


def test_moments_by_hand():
    """The values 1 and 5: mean 3, squares 8 over one or two positions."""
    features = jnp.array([[[1.0]], [[5.0]]])
    assert float(moments(features, epsilon=0.0)[1][0]) == pytest.approx(8**0.5)
    assert float(moments(features, unbiased=False, epsilon=0.0)[1][0]) == 2
    assert float(moments(features)[1][0]) == pytest.approx((8 + 1e-5) ** 0.5)


def test_moments_of_a_region_are_those_of_its_positions():
    region = jnp.zeros((6, 4), bool).at[1:3].set(True)
    features = jax.random.normal(jax.random.key(2), (6, 4, 5))
    for a, b in zip(moments(features, region=region), moments(features[1:3]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    for a, b in zip(moments(features, region=jnp.zeros_like(region)), moments(features), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_known_moments_are_taken_in_place_of_the_features_own():
    features = jnp.array([[[1.0], [3.0]]])
    assert instance_norm(features, known=(jnp.array([5.0]), jnp.array([2.0]))).ravel().tolist() == [-2, -1]


@pytest.mark.parametrize(("shape", "epsilon"), [((1, 1, 3), 0.0), ((2, 2, 3), 0.0), ((2, 2, 3), 1e-5)])
def test_moments_of_one_position_and_of_constants_are_finite_with_their_gradients(shape, epsilon):
    measure = jax.jit(jax.value_and_grad(lambda x: moments(x, epsilon=epsilon)[1].sum()))
    value, gradient = measure(jnp.ones(shape))
    assert float(value) == pytest.approx(3 * epsilon**0.5)
    np.testing.assert_array_equal(gradient, 0)


def test_normalized_features_have_mean_zero_and_deviation_one():
    normalized = instance_norm(7 + 3 * FEATURES)
    mean, deviation = moments(normalized, epsilon=0.0)
    np.testing.assert_allclose(mean, 0, atol=1e-5)
    np.testing.assert_allclose(deviation, 1, rtol=1e-5)


def test_adain_has_the_styles_moments():
    style = 2 + 5 * jax.random.normal(jax.random.key(1), (3, 9, 5))
    found = moments(adain(FEATURES, style), epsilon=0.0)
    for a, b in zip(found, moments(style), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(adain(FEATURES, FEATURES), FEATURES, rtol=1e-4, atol=1e-5)


def test_moments_of_bfloat16_are_summed_in_float32():
    """1024 times 1 and 3: a bfloat16 sum would stop growing at 256."""
    mean, deviation = moments(jnp.tile(jnp.array([1.0, 3.0]), 512).reshape(32, 32, 1).astype(jnp.bfloat16))
    assert (mean.dtype, float(mean[0])) == (jnp.float32, 2)
    assert float(deviation[0]) == pytest.approx((1024 / 1023) ** 0.5, rel=1e-4)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3.0, -4.0], 3 / np.sqrt(12.5)),
        ([[0.0, 0.0], [0.0, 7.0]], 2.0),
        ([-2.0, -2.0], -1.0),
        ([0.25, 0.25, 0.25], 1.0),
        ([0.0, 0.0], 1.0),
        ([1e-30, 0.0, 0.0, 0.0], 2.0),
        ([1e30, 0.0, 0.0, 0.0], 2.0),
    ],
)
def test_peak_by_hand(values, expected):
    assert float(peak(jnp.asarray(values, jnp.float32))) == pytest.approx(expected, rel=1e-6)


def test_peak_does_not_follow_the_scale_and_is_float32_of_bfloat16():
    assert float(peak(1000 * FEATURES)) == pytest.approx(float(peak(FEATURES)), rel=1e-5)
    low = FEATURES.astype(jnp.bfloat16)
    assert peak(low).dtype == jnp.float32
    assert float(peak(low)) == pytest.approx(float(peak(low.astype(jnp.float32))), rel=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_peak_of_what_is_not_finite_is_not(bad):
    assert not np.isfinite(peak(jnp.array([1.0, bad])))
