"""Attention in chunks equals the formulas with the whole matrix, and its memory grows with the number of positions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swag_jax._checks import UserError
from swag_jax.attention import SIMILARITIES, adaattn, key_features, weighted_mean, weighted_moments
from swag_jax.images.resize import nearest
from swag_jax.statistics import instance_norm

RANDOM = np.random.default_rng(0)

QUERIES, KEYS, VALUES = (
    RANDOM.normal(scale=scale, size=shape) for shape, scale in (((37, 6), 2.0), ((53, 6), 1.0), ((53, 4), 3.0))
)

ALLOWED = (np.arange(37) % 3 > 0, np.arange(53) < 20)


@pytest.fixture(params=SIMILARITIES)
def similarity(request):
    return request.param


@pytest.fixture(params=[None, ALLOWED], ids=["everywhere", "regions"])
def allowed(request):
    return request.param


def float32(*arrays):
    return [jnp.asarray(x, jnp.float32) for x in arrays]


def multiply(a, b):
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def weights(queries, keys, similarity, allowed):
    """The whole matrix A as the papers write it."""
    blocked = False if allowed is None else allowed[0][:, None] & ~allowed[1][None]
    if similarity == "softmax":
        return jax.nn.softmax(jnp.where(blocked, -jnp.inf, multiply(queries, keys.T)), axis=1)
    lengths = [jnp.linalg.norm(x, axis=1, keepdims=True) + 1e-5 for x in (queries, keys)]
    cosines = multiply(queries / lengths[0], (keys / lengths[1]).T)
    found = jnp.where(blocked, 0.0, jax.nn.relu(cosines + 1))
    return found / (found.sum(1, keepdims=True) + 1e-5)


def whole(queries, keys, values, *, similarity="softmax", allowed=None):
    matrix = weights(queries, keys, similarity, allowed)
    mean = multiply(matrix, values)
    return mean, jnp.sqrt(jax.nn.relu(multiply(matrix, values**2) - mean**2))


def close(found, expected, tolerance=1e-5):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * float(np.abs(b).max()))


@functools.partial(jax.jit, static_argnames="function")
def with_gradients(function, cotangents, *arguments):
    value, pull = jax.vjp(function, *arguments)
    return value, pull(cotangents)


@pytest.mark.parametrize(("similarity", "chunk"), [("softmax", 8), ("softmax", 37), ("cosine", 8)])
def test_chunks_equal_the_whole_matrix_with_gradients(similarity, chunk, allowed):
    """In float64, for chunks that do not divide the 37 queries and that do; cosines need none."""
    with jax.enable_x64(True):
        arguments = [jnp.asarray(x) for x in (QUERIES, KEYS, VALUES)]
        cotangents = tuple(jnp.asarray(RANDOM.normal(size=(37, 4))) for _ in range(2))
        options = {"similarity": similarity, "allowed": None if allowed is None else tuple(map(jnp.asarray, allowed))}
        in_chunks = functools.partial(weighted_moments, chunk=chunk, **options)
        found, gradients = with_gradients(in_chunks, cotangents, *arguments)
        assert {x.dtype for x in (*found, *gradients)} == {jnp.dtype(jnp.float64)}
        close((found, gradients), with_gradients(functools.partial(whole, **options), cotangents, *arguments), 1e-10)


def test_float32_and_bfloat16_are_computed_in_float32(similarity):
    for dtype in (jnp.float32, jnp.bfloat16):
        arguments = [jnp.asarray(x, dtype) for x in (QUERIES, KEYS, VALUES)]
        cotangents = (jnp.ones((37, 4)), jnp.ones((37, 4)))
        function = functools.partial(weighted_moments, similarity=similarity, chunk=16)
        found, gradients = with_gradients(function, cotangents, *arguments)
        assert {x.dtype for x in found} == {jnp.dtype(jnp.float32)}
        assert {g.dtype for g in gradients} == {jnp.dtype(dtype)}
        wide = [x.astype(jnp.float32) for x in arguments]
        close(found, jax.jit(functools.partial(whole, similarity=similarity))(*wide), 1e-4)


def test_by_hand():
    """Logits 0 and log 3: weights 1/4 and 3/4 of the values 0 and 4, whose mean is 3 and whose variance is 12 - 9."""
    arguments = float32([[1.0]], [[0.0], [np.log(3.0)]], [[0.0], [4.0]])
    mean, deviation = weighted_moments(*arguments)
    np.testing.assert_allclose([mean[0, 0], deviation[0, 0]], [3, np.sqrt(3)], rtol=1e-6)
    np.testing.assert_array_equal(weighted_mean(*arguments), mean)


def test_cosine_by_hand():
    """Cosines 1, 0 and -1: weights 2/3, 1/3 and 0, but for the 1e-5 in norms and sum; variance 18 - 16."""
    arguments = float32([[5.0, 0.0]], [[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]], [[3.0], [6.0], [0.0]])
    mean, deviation = weighted_moments(*arguments, similarity="cosine")
    np.testing.assert_allclose([mean[0, 0], deviation[0, 0]], [4, np.sqrt(2)], rtol=1e-3)


def test_large_logits_stay_finite():
    arguments = float32(100 * QUERIES, 100 * KEYS, VALUES)
    cotangents = (jnp.ones((37, 4)), jnp.ones((37, 4)))
    value, gradients = with_gradients(functools.partial(weighted_moments, chunk=16), cotangents, *arguments)
    assert all(np.isfinite(x).all() for x in (*value, *gradients))


def test_gradients_are_finite_where_deviations_and_lengths_are_zero(similarity):
    """Equal values have no deviation, whose root's slope is infinite; queries of zeros have no direction."""

    def both(queries, values):
        return weighted_moments(queries, queries, values, similarity=similarity)

    cotangents = (jnp.zeros((2, 1)), jnp.ones((2, 1)))
    (_, deviation), gradients = with_gradients(both, cotangents, jnp.zeros((2, 3)), jnp.full((2, 1), 2.0))
    assert float(deviation.max()) < 0.02  # the 1e-5 in the sum of cosine weights
    assert all(np.isfinite(g).all() for g in gradients)
    if similarity == "softmax":
        np.testing.assert_array_equal(deviation, 0)
        np.testing.assert_array_equal(gradients[1], 0)


def test_an_empty_style_region_restricts_nothing(similarity):
    arguments = float32(QUERIES, KEYS, VALUES)
    nothing = (jnp.asarray(ALLOWED[0]), jnp.zeros(53, bool))
    found = weighted_mean(*arguments, similarity=similarity, allowed=nothing)
    np.testing.assert_allclose(found, weighted_mean(*arguments, similarity=similarity), rtol=1e-6)


def temporary_bytes(function, positions):
    """Memory of the compiled program in addition to its arguments and results."""
    shapes = [jax.ShapeDtypeStruct((positions, width), jnp.float32) for width in (24, 24, 8)]
    return jax.jit(function).lower(*shapes).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("gradient", [False, True], ids=["forward", "gradient"])
def test_memory_grows_with_the_positions_and_not_with_their_square(similarity, gradient):
    def program(function, **options):
        def total(*x):
            return sum(y.sum() for y in function(*x, similarity=similarity, **options))

        return jax.grad(total, (0, 1, 2)) if gradient else total

    small, large = (temporary_bytes(program(weighted_moments, chunk=64), n) for n in (2048, 4096))
    assert large < 2.1 * small
    assert large < temporary_bytes(program(whole), 4096) / 8


def test_unknown_similarity_and_empty_chunks(unchecked):
    with pytest.raises(UserError, match="unknown similarity 'cosin': did you mean cosine"):
        weighted_mean(*float32(QUERIES, KEYS, VALUES), similarity="cosin")
    with pytest.raises(UserError, match="chunk must be at least 1, got 0"):
        weighted_mean(*float32(QUERIES, KEYS, VALUES), chunk=0)


CONTENT, QUERY, KEY, VALUE = float32(
    *(RANDOM.normal(size=shape) for shape in ((5, 7, 4), (5, 7, 6), (4, 6, 6), (4, 6, 4)))
)

attend = jax.jit(adaattn, static_argnames=("samples", "similarity", "chunk"))


def test_adaattn_is_its_equation(similarity):
    flat = [x.reshape(-1, x.shape[-1]) for x in (QUERY, KEY, VALUE)]
    mean, deviation = (x.reshape(CONTENT.shape) for x in whole(*flat, similarity=similarity))
    found = attend(CONTENT, QUERY, KEY, VALUE, similarity=similarity, chunk=9)
    close(found, deviation * instance_norm(CONTENT) + mean, 1e-4)


def test_left_out_style_positions_do_not_count():
    key = jax.random.key(5)
    kept = jax.random.permutation(key, 24)[:10]
    expected = attend(CONTENT, QUERY, *(x.reshape(24, 1, -1)[kept] for x in (KEY, VALUE)))
    close(attend(CONTENT, QUERY, KEY, VALUE, key=key, samples=10), expected, 1e-4)
    other = attend(CONTENT, QUERY, KEY, VALUE, key=jax.random.key(6), samples=10)
    assert not np.allclose(other, expected, rtol=0.1)


def test_as_many_style_positions_as_samples_are_all_kept():
    close(attend(CONTENT, QUERY, KEY, VALUE, samples=24), attend(CONTENT, QUERY, KEY, VALUE))
    with pytest.raises(UserError, match="more than 23 positions to attend to, got none for 24: pass key="):
        adaattn(CONTENT, QUERY, KEY, VALUE, samples=23)


def test_inside_a_region_only_the_styles_region_counts(similarity):
    """The first two rows of the content, the first two columns of the style; also among sampled positions."""
    inside, attended = jnp.zeros((5, 7), bool).at[:2].set(True), jnp.zeros((4, 6), bool).at[:, :2].set(True)
    run = functools.partial(attend, CONTENT, QUERY, similarity=similarity)
    found = run(KEY, VALUE, masks=(inside, attended))
    everywhere, region = run(KEY, VALUE), run(KEY[:, :2], VALUE[:, :2])
    close(found[2:], everywhere[2:], 1e-4)
    close(found[:2], region[:2], 1e-4)
    assert not np.allclose(found[:2], everywhere[:2], rtol=0.01)
    key = jax.random.key(5)
    kept = jax.random.permutation(key, 24)[:10]
    keys, values, part = (x.reshape(24, 1, -1)[kept] for x in (KEY, VALUE, attended[..., None]))
    sampled = run(KEY, VALUE, key=key, samples=10, masks=(inside, attended))
    close(sampled, run(keys, values, masks=(inside, part[..., 0])), 1e-4)


def test_a_batch_leaves_out_the_same_positions():
    """Instance norm takes scale and shift away, so that equal positions give equal results."""
    batch, key = jnp.stack([CONTENT, 2 * CONTENT + 1]), jax.random.key(5)
    found = jax.vmap(lambda c: adaattn(c, QUERY, KEY, VALUE, key=key, samples=10))(batch)
    close(found[0], attend(CONTENT, QUERY, KEY, VALUE, key=key, samples=10))
    close(found[1], found[0], 1e-4)


def test_keys_are_normalized_layers_shallow_to_deep_at_the_deepest_size():
    shapes = {"a": (9, 12, 2), "b": (4, 6, 3), "unread": (1, 1, 1), "c": (3, 3, 4)}
    features = {name: jnp.asarray(RANDOM.normal(size=shape), jnp.float32) for name, shape in shapes.items()}
    found = jax.jit(key_features, static_argnames="layers")(features, layers=("a", "b", "c"))
    assert found.shape == (3, 3, 9)
    np.testing.assert_allclose(found[..., :2], instance_norm(nearest(features["a"], 3, 3)), rtol=1e-5)
    np.testing.assert_allclose(found[..., 5:], instance_norm(features["c"]), rtol=1e-5)
