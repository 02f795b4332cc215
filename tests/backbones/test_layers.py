"""The layers of all networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from swag_jax._checks import UserError
from swag_jax.backbones import Compute
from swag_jax.backbones._layers import ConvNorm, normal

XLA, CPU = Compute(kernels="xla"), Compute(kernels="cpu")


@pytest.mark.parametrize("size", [(1, 7), (7, 1)])
def test_rectangular_convolution_keeps_the_size(size):
    layer = ConvNorm(3, 5, size=size, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2, 8, 9, 3))
    assert jax.eval_shape(lambda x: layer(x, CPU), x).shape == (2, 8, 9, 5)
    np.testing.assert_allclose(layer(x, CPU), layer(x, XLA), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("shape", [(3, 3, 5, 7), (1, 1, 8, 16), (1, 1, 1, 1)])
def test_normal_kernels_are_jaxs(shape):
    expected = 0.3 * jax.random.normal(nnx.Rngs(4).params(), shape)
    np.testing.assert_array_equal(normal(0.3)(nnx.Rngs(4), shape), expected)


def test_names_are_checked(unchecked):
    with pytest.raises(UserError, match="unknown precision 'float23': did you mean float32"):
        Compute(precision="float23")
    with pytest.raises(UserError, match="unknown kernels 'fast'"):
        Compute(kernels="fast")


def test_convolution_with_norm_folds():
    layer = ConvNorm(3, 4, size=3, rngs=nnx.Rngs(0))
    layer.norm.mean[...], layer.norm.variance[...] = jnp.arange(4.0), jnp.arange(1.0, 5.0)
    x = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
    evaluated = layer(x, Compute())
    np.testing.assert_allclose(evaluated, layer.frozen(Compute())(x, Compute()), rtol=1e-6)
    a, b = layer.norm.affine()
    plain = CPU.convolve(x, layer.kernel[...], padding=((1, 1), (1, 1)))
    np.testing.assert_allclose(evaluated, np.asarray(a) * np.asarray(plain) + np.asarray(b), rtol=1e-4, atol=1e-5)
