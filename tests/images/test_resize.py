import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swag_jax._checks import UserError
from swag_jax.images import fitted, resize
from swag_jax.images.resize import nearest, resample, scales


def ramp(height: int, width: int) -> np.ndarray:
    """Values that grow along the width alone."""
    return np.broadcast_to(np.linspace(0.2, 0.8, width, dtype=np.float32), (height, width)).copy()


@pytest.mark.parametrize(
    ("height", "width", "size", "expected"),
    [
        (300, 400, 200, (150, 200)),
        (400, 300, 200, (200, 150)),
        (7, 7, 512, (512, 512)),
        (3, 2, 3, (3, 2)),
        (2, 4, 5, (3, 5)),  # 2.5 rounds up
        (10, 1000, 20, (1, 20)),  # never 0
        (1, 178_956_970, 512, (1, 512)),
    ],
)
def test_fitted(height, width, size, expected):
    assert fitted(height, width, size) == expected


@pytest.mark.parametrize("sides", [(0, 4, 4), (4, 0, 4), (4, 4, 0)])
def test_fitted_refuses_nothing(sides):
    with pytest.raises(UserError, match="must be at least 1, got 0"):
        fitted(*sides)


@pytest.mark.parametrize("shape", [(20, 30), (7, 11), (64, 48)])
def test_resize_keeps_a_constant(shape):
    image = np.full((16, 24, 3), 0.25, np.float32)
    np.testing.assert_allclose(resize(image, *shape), np.full((*shape, 3), 0.25), atol=1e-6)


def test_resize_to_the_same_size_changes_nothing():
    image = np.random.default_rng(0).random((16, 24, 3), np.float32)
    np.testing.assert_array_equal(resize(image, 16, 24), image)


def test_resize_averages_when_it_shrinks():
    """The finest checkerboard becomes even gray: nothing aliases."""
    checkerboard = (np.indices((64, 64)).sum(axis=0) % 2).astype(np.float32)
    np.testing.assert_allclose(resize(checkerboard, 16, 16)[4:-4, 4:-4], 0.5, atol=0.01)


def test_resize_is_centered():
    """A ramp stays symmetric about its middle, enlarged or shrunk."""
    for width in (10, 40):
        row = resize(ramp(4, 20), 4, width)[0]
        np.testing.assert_allclose(row + row[::-1], 1, atol=1e-6)
        assert (np.diff(row) > 0).all()


def test_resize_stays_in_range():
    edges = np.zeros((16, 16, 3), np.float32)
    edges[4:12, 4:12] = 1
    enlarged = resize(edges, 100, 100)
    assert enlarged.dtype == np.float32
    assert enlarged.min() == 0
    assert enlarged.max() == 1


def test_resize_treats_channels_alone():
    image = np.random.default_rng(0).random((16, 24, 3), np.float32)
    resized = resize(image, 9, 40)
    for channel in range(3):
        np.testing.assert_array_equal(resized[..., channel], resize(image[..., channel], 9, 40))


@pytest.mark.parametrize("function", [resize, resample])
@pytest.mark.parametrize("sides", [(0, 4), (4, 0)])
def test_an_empty_result_is_refused(function, sides):
    image = np.ones((4, 4, 3), np.float32)
    with pytest.raises(UserError, match="must be at least 1, got 0"):
        function(image if function is resize else jnp.asarray(image), *sides)


@pytest.mark.parametrize("method", ["bicubic", "linear"])
@pytest.mark.parametrize("trailing", [(), (3,), (2, 5)])
def test_resample(method, trailing):
    image = jnp.full((8, 12, *trailing), 0.25)
    resampled = jax.jit(lambda array: resample(array, 12, 20, method=method))(image)
    np.testing.assert_allclose(resampled, np.full((12, 20, *trailing), 0.25), rtol=1e-6)


def test_resample_linear_halves_by_averaging():
    """Half the size under a triangle of twice the width: weights 1 3 3 1 over eight."""
    row = jnp.arange(8.0) ** 2
    halved = resample(jnp.broadcast_to(row[None], (4, 8)), 4, 4, method="linear")
    np.testing.assert_allclose(halved[0, 1], (1 + 3 * 4 + 3 * 9 + 16) / 8, rtol=1e-6)


def test_resample_agrees_with_pillow_on_a_ramp():
    image = ramp(16, 32)
    ours = resample(jnp.asarray(image), 24, 48)
    np.testing.assert_allclose(ours[:, 6:-6], resize(image, 24, 48)[:, 6:-6], atol=2e-3)


def test_resample_keeps_values_beyond_a_image():
    assert resample(jnp.full((4, 4, 3), -7.5), 8, 8).min() == pytest.approx(-7.5, rel=1e-6)


def test_resample_keeps_the_dtype():
    assert resample(jnp.ones((4, 4, 3), jnp.bfloat16), 8, 8).dtype == jnp.bfloat16


def test_resample_names_its_methods():
    with pytest.raises(UserError, match="did you mean bicubic"):
        resample(jnp.ones((4, 4, 3)), 8, 8, method="cubic")


@pytest.mark.parametrize(
    ("size", "options", "expected"),
    [
        (512, {}, (128, 181, 256, 362, 512)),
        (128, {}, (128,)),
        (100, {}, (100,)),
        (500, {}, (177, 250, 354, 500)),
        (1024, {"smallest": 256, "ratio": 2.0}, (256, 512, 1024)),
        (1024, {"smallest": 257, "ratio": 2.0}, (512, 1024)),
        (5, {"smallest": 1, "ratio": 1.1}, (1, 2, 3, 4, 5)),
        (300, {"ratio": 1e308}, (300,)),
    ],
)
def test_scales(size, options, expected):
    assert scales(size, **options) == expected


@pytest.mark.parametrize("options", [{"smallest": 0}, {"ratio": 1.0}, {"ratio": float("nan")}])
def test_scales_refuses_what_never_ends(options):
    with pytest.raises(UserError, match="must be at least"):
        scales(512, **options)


@pytest.mark.parametrize(("old", "new"), [(6, 3), (6, 2), (3, 6), (5, 3), (3, 5), (9, 4), (4, 4), (7, 1)])
def test_nearest_picks_what_pytorch_picks(old, new):
    features = jnp.arange(2.0 * old).reshape(2, old, 1)
    found = nearest(features, 4, new)
    assert found.shape == (4, new, 1)
    rows = [i * 2 // 4 for i in range(4)]
    columns = [i * old // new for i in range(new)]
    np.testing.assert_array_equal(found, features[np.ix_(rows, columns)])


def test_nearest_of_mixed_ratios_has_a_gradient():
    gradient = jax.grad(lambda x: (nearest(x, 6, 3) ** 2).sum() / 2)(jnp.ones((3, 5, 2)))
    np.testing.assert_array_equal(gradient[..., 0], np.outer([2, 2, 2], [1, 1, 0, 1, 0]))


def test_nearest_refuses_nothing():
    with pytest.raises(UserError, match="width must be at least 1, got 0"):
        nearest(jnp.ones((2, 2, 1)), 2, 0)
