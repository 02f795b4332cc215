"""XLA's operations and our forms of them for the CPU, compared."""

import jax
import jax.numpy as jnp
import numpy as np

from swag_jax.backbones import Compute

XLA, CPU = Compute(kernels="xla"), Compute(kernels="cpu")


def compare(function, *arguments, tolerance=2e-5):
    """Compare value and gradients of `function(compute, *arguments)` under both kinds of kernels."""
    results = []
    for compute in (XLA, CPU):
        value, pull = jax.vjp(lambda *xs, o=compute: function(o, *xs), *arguments)
        cotangent = jax.random.normal(jax.random.key(9), value.shape)
        results.append((value, *pull(cotangent)))
    for xla, cpu in zip(*results, strict=True):
        np.testing.assert_allclose(cpu, xla, rtol=tolerance, atol=tolerance * float(jnp.abs(xla).max()))
