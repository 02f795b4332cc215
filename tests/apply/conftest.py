"""Small generators that read a small network, with kernels that keep the scale of their input."""

import jax
import numpy as np
import pytest
from flax import nnx

from swag_jax import generators
from swag_jax.apply import Stylizer
from swag_jax.backbones import Backbone, Compute
from swag_jax.backbones._layers import Conv
from swag_jax.features import taps
from swag_jax.generators.registry import parameter_shapes, with_parameters


class Tiny(Backbone):
    """Three convolutions, each but the first behind a pool."""

    def __init__(self, *, rngs):
        self.layers, self.strides = ("a", "b", "c"), (1, 2, 4)
        self.normalization, self.compute = "imagenet", Compute()
        self.a, self.b, self.c = (Conv(m, n, size=3, rngs=rngs) for m, n in ((3, 4), (4, 5), (5, 6)))

    def _apply(self, name, x):
        if name != "a":
            x = self.compute.max_pool(x, size=2, stride=2)
        return jax.nn.relu(getattr(self, name)(x, self.compute))


def filled(config):
    random, arrays = np.random.default_rng(7), {}
    for name, shape in parameter_shapes(config).items():
        scale = np.prod(shape[:3]) ** -0.5 if len(shape) == 4 else 0.2
        arrays[name] = np.asarray(random.normal(scale=scale, size=shape), np.float32)
    if "decoder.conv1_1.bias" in arrays:
        arrays["decoder.conv1_1.bias"] += 0.5
    return with_parameters(config, arrays)


@pytest.fixture(scope="session")
def stylizers():
    """A stylizer of every kind, by the kind's name."""
    encoder = Tiny(rngs=nnx.Rngs(3))
    a, b, c = taps(encoder, layers=("a", "b", "c"))
    configs = {
        "johnson": generators.JohnsonConfig(channels=4, blocks=1),
        "adain": generators.AdaINConfig((c,)),
        "sanet": generators.SANetConfig((b, c)),
        "adaattn": generators.AdaAttNConfig((a, b, c), skip_samples=40),
    }
    return {k: Stylizer(None if k == "johnson" else encoder, filled(config)) for k, config in configs.items()}


@pytest.fixture(scope="session")
def images():
    """A content of odd sides and two styles, smooth enough that nothing is clipped away."""
    random = np.random.default_rng(0)
    return [random.random(shape).astype(np.float32) for shape in ((27, 37, 3), (18, 14, 3), (12, 21, 3))]
