"""XLA's operations and our forms of them for the CPU, compared."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from swag_jax.backbones import Compute

XLA, CPU = Compute(kernels="xla"), Compute(kernels="cpu")


def compare(function, *arguments, tolerance=2e-5):
    """Compare value and gradients of `function(compute, *arguments)` under both kinds of kernels."""
    cotangent_key = jax.random.key(9)

    def pulled(compute, *arguments):
        value, pull = jax.vjp(lambda *xs: function(compute, *xs), *arguments)
        return value, *pull(jax.random.normal(cotangent_key, value.shape))

    results = [jax.jit(functools.partial(pulled, compute))(*arguments) for compute in (XLA, CPU)]
    for xla, cpu in zip(*results, strict=True):
        np.testing.assert_allclose(cpu, xla, rtol=tolerance, atol=tolerance * float(jnp.abs(xla).max()))
