"""Networks with shapes in place of arrays, traced once for all tests."""

import functools

from flax import nnx

from swag_jax import backbones


@functools.cache
def skeleton(name):
    """The whole network of a name of the zoo."""
    return nnx.eval_shape(lambda: backbones.create(name))
