"""Moments and the Fréchet distance against NumPy and SciPy."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from swag_jax import UserError
from swag_jax.measure import artfid, frechet_distance
from swag_jax.measure.frechet import Moments


def moments(vectors):
    return Moments.empty(vectors.shape[1]).add(vectors)


def by_square_root(x, y):
    """The published code's form: the trace of the root of the product of the covariances."""
    root = np.real(sqrtm(np.cov(x, rowvar=False) @ np.cov(y, rowvar=False)))
    step = x.mean(0) - y.mean(0)
    return step @ step + np.trace(np.cov(x, rowvar=False) + np.cov(y, rowvar=False) - 2 * root)


def draw(seed, count, features):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, features)) @ rng.standard_normal((features, features)) + rng.standard_normal()


@pytest.mark.parametrize("parts", [[10], [3, 7], [1] * 10, [2, 1, 7]])
def test_moments_do_not_depend_on_the_parts(parts):
    vectors = draw(0, 10, 4) + 1e6  # far from zero, where sums of squares would lose all digits
    found = Moments.empty(4)
    for part in np.split(vectors, np.cumsum(parts)[:-1]):
        found = found.add(part)
    assert found.count == 10
    np.testing.assert_allclose(found.mean, vectors.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(vectors, rowvar=False), rtol=1e-7)


def test_adding_leaves_the_moments_before_as_they_were():
    first = moments(draw(0, 5, 3))
    mean = first.mean.copy()
    first.add(draw(1, 5, 3))
    np.testing.assert_array_equal(first.mean, mean)
    assert first.count == 5


@pytest.mark.parametrize(("count", "features"), [(50, 6), (200, 20), (30, 1)])
def test_distance_equals_the_matrix_root(count, features):
    x, y = draw(0, count, features), draw(1, count + 3, features)
    expected = (
        by_square_root(x, y) if features > 1 else (x.mean() - y.mean()) ** 2 + (x.std(ddof=1) - y.std(ddof=1)) ** 2
    )
    assert frechet_distance(moments(x), moments(y)) == pytest.approx(float(expected), rel=1e-9)


def test_singular_covariances_are_exact():
    """Fewer vectors than features: the trace is the sum of singular values of the product of the data themselves."""
    x, y = draw(0, 4, 12), draw(1, 5, 12)
    factors = [(v - v.mean(0)) / np.sqrt(len(v) - 1) for v in (x, y)]
    overlap = np.linalg.svd(factors[0] @ factors[1].T, compute_uv=False).sum()
    expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + sum(np.sum(f**2) for f in factors) - 2 * overlap
    assert frechet_distance(moments(x), moments(y)) == pytest.approx(float(expected), rel=1e-6)


def test_distance_by_hand():
    """Along the axes, deviations 1, 2 and 3, 1, means apart by (3, 4): 25 + (1 - 3)² + (2 - 1)²."""
    corners = np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]) * np.sqrt(3 / 4)
    x, y = corners * [1.0, 2.0], corners * [3.0, 1.0] + [3.0, 4.0]
    assert frechet_distance(moments(x), moments(y)) == pytest.approx(30, rel=1e-12)


def test_distance_laws():
    x, y = moments(draw(0, 40, 8)), moments(draw(1, 30, 8))
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-9)
    step = np.full(8, 0.5)
    assert frechet_distance(x, Moments(x.count, x.mean + step, x.scatter)) == pytest.approx(2, rel=1e-9)


def test_one_image_has_no_covariance():
    with pytest.raises(UserError, match="the covariance of features needs at least 2 images, got 1"):
        frechet_distance(moments(draw(0, 1, 3)), moments(draw(1, 9, 3)))


def test_artfid_by_hand():
    assert artfid(0.0, 0.0) == 1
    assert artfid(0.608, 18.24) == pytest.approx(30.93, abs=0.01)  # AdaIN's row of the StyleID protocol
