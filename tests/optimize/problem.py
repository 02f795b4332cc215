"""The problem of `reference.solver_problem` in JAX, and small problems of known solution."""

import jax
import jax.numpy as jnp
from reference import solver_problem as reference

from swag_jax.optimize.solvers import Evaluate


def _features(image):
    found, x = [], image[None]
    for i, (kernel, bias) in enumerate(reference.weights()):
        if i == reference.POOL_AFTER:
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = jax.nn.relu(x + bias[None, None, None])
        found.append(x[0])
    return found


def _gram(features):
    return jnp.einsum("hwi,hwj->ij", features, features) / (features.shape[0] * features.shape[1])


def style_transfer(factor: float = 1.0) -> tuple[Evaluate, jax.Array]:
    """Return the evaluation of `reference.solver_problem`'s loss times `factor`, and where it starts."""
    layer = reference.CONTENT_LAYER - 1
    content = _features(jnp.asarray(reference.content()))[layer]
    grams = [_gram(features) for features in _features(jnp.asarray(reference.style()))]

    def loss(image):
        features = _features(image)
        fidelity = ((features[layer] - content) ** 2).mean()
        likeness = sum(((_gram(f) - g) ** 2).mean() for f, g in zip(features, grams, strict=True))
        terms = {"content": factor * fidelity, "style": factor * reference.STYLE_WEIGHT * likeness}
        return terms["content"] + terms["style"], terms

    return jax.value_and_grad(loss, has_aux=True), jnp.asarray(reference.content())


def quadratic(target: jax.Array, *, stiffness: float = 1.0, offset: float = 0.0) -> Evaluate:
    """Return the evaluation of stiffness/2 times the squared distance from `target`, weighted by pixel."""
    weights = 1 + jnp.arange(target.size).reshape(target.shape) / target.size

    def loss(image):
        value = 0.5 * stiffness * (weights * (image - target) ** 2).sum() + offset
        return value, {"distance": value}

    return jax.value_and_grad(loss, has_aux=True)
