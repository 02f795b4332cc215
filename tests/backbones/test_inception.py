"""What GoogLeNet and Inception v3 have beyond the laws of all networks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from swag_jax import backbones
from swag_jax._checks import UserError
from swag_jax.backbones import Compute
from swag_jax.backbones.kernels import average_pool as pool
from swag_jax.backbones.zoo import parameter_shapes
from swag_jax.params.tree import flat_parameters

COMPUTE = Compute()


def average_pool(x, *, counts_padding):
    return pool(x, size=3, stride=1, padding=1, counts_padding=counts_padding)


def test_neighbors_are_averaged_with_or_without_the_padding():
    x = jnp.arange(1.0, 7.0).reshape(1, 2, 3, 1)  # 1 2 3 / 4 5 6
    sums = np.array([[12, 21, 16], [12, 21, 16]])
    with_padding, without = (average_pool(x, counts_padding=counts)[0, ..., 0] for counts in (True, False))
    np.testing.assert_allclose(with_padding, sums / 9, rtol=1e-6)
    np.testing.assert_allclose(without, sums / np.array([[4, 6, 4], [4, 6, 4]]), rtol=1e-6)
    flat = average_pool(jnp.full((1, 1, 5, 2), 3.0, jnp.bfloat16), counts_padding=False)
    assert flat.dtype == jnp.bfloat16
    np.testing.assert_array_equal(flat, jnp.full((1, 1, 5, 2), 3.0, jnp.bfloat16))


@functools.cache
def inception(variant):
    return nnx.eval_shape(lambda: backbones.create("inception_v3", variant=variant))


def pooled(name, variant, x):
    return inception(variant)._pooled(name, x)


@pytest.mark.parametrize("name", ["mixed5b", "mixed5d", "mixed6b", "mixed6e", "mixed7b", "mixed7c"])
def test_the_fid_variant_pools_otherwise(name):
    x = jax.random.normal(jax.random.key(0), (1, 4, 5, 2))
    np.testing.assert_array_equal(pooled(name, "torchvision", x), average_pool(x, counts_padding=True))
    expected = COMPUTE.max_pool(x, size=3, stride=1, padding=1) if name == "mixed7c" else None
    expected = average_pool(x, counts_padding=False) if expected is None else expected
    np.testing.assert_array_equal(pooled(name, "fid", x), expected)


@pytest.mark.parametrize("name", ["mixed6a", "mixed7a"])
@pytest.mark.parametrize("variant", ["torchvision", "fid"])
def test_blocks_that_halve_the_resolution_pool_by_the_maximum(name, variant):
    x = jax.random.normal(jax.random.key(0), (1, 7, 8, 2))
    np.testing.assert_array_equal(pooled(name, variant, x), COMPUTE.max_pool(x, size=3, stride=2))


def test_the_variants_share_their_parameters():
    plain, fid = (parameter_shapes("inception_v3", variant=v) for v in ("torchvision", "fid"))
    assert plain == fid


@pytest.mark.parametrize(("name", "until"), [("googlenet", "conv3"), ("inception_v3", "conv4a")])
def test_kaiming_initialization(name, until):
    arrays = flat_parameters(backbones.create(name, init="kaiming", until=until))
    for flat, array in arrays.items():
        if flat.endswith("kernel"):
            height, width, _, out = array.shape
            goal = (2 / (height * width * out)) ** 0.5
            assert abs(float(array.std()) - goal) < 5 * goal / (2 * array.size) ** 0.5


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("googlenet", {"init": "kaming"}, "unknown init 'kaming': did you mean kaiming?"),
        ("googlenet", {"variant": "fid"}, "unknown option of googlenet 'variant': "),
        ("inception_v3", {"variant": "tf"}, "unknown variant 'tf': known: torchvision, fid"),
        ("inception_v3", {"init": "normal"}, "unknown init 'normal': "),
        ("inception_v3", {"residual": False}, "unknown option of inception_v3 'residual': "),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_impossible_options_are_explained(name, options, message):
    with pytest.raises(UserError) as caught:
        backbones.create(name, **options)
    assert str(caught.value).startswith(message)
