"""AlexNet without its classifier, as torchvision lays it out.

Krizhevsky, "One weird trick for parallelizing convolutional neural networks" (2014): five convolutions, each followed
by a ReLU, the first, second and fifth also by a 3x3 max pool with stride 2. LPIPS reads the ReLUs.
"""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from swag_jax._types import Activations
from swag_jax.backbones._layers import Conv, Convolution, half_padding, relu
from swag_jax.backbones._network import Backbone

# Output channels, kernel size and stride: torchvision/models/alexnet.py.
_CONVOLUTIONS = {
    "conv1": (64, 11, 4),
    "conv2": (192, 5, 1),
    "conv3": (384, 3, 1),
    "conv4": (256, 3, 1),
    "conv5": (256, 3, 1),
}

_FIRST_PADDING = ((2, 2), (2, 2))  # of conv1; the others pad by half their kernel

LAYERS = (
    *("conv1", "relu1", "pool1"),
    *("conv2", "relu2", "pool2"),
    *("conv3", "relu3", "conv4", "relu4", "conv5", "relu5", "pool5"),
)

_STRIDES = (4, 4, 8, 8, 8, 16, 16, 16, 16, 16, 16, 16, 32)


class UniformConv(Conv):
    """A convolution drawn by `torch.nn.Conv2d`'s default, as in torchvision's AlexNet: uniform within 1 / √fan_in."""

    def __init__(self, channels_in: int, channels_out: int, *, size: int, stride: int = 1, rngs: nnx.Rngs):
        bound = (size * size * channels_in) ** -0.5
        shapes = ((size, size, channels_in, channels_out), (channels_out,))
        kernel, bias = (
            jax.random.uniform(rngs.params(), shape, jnp.float32, minval=-bound, maxval=bound) for shape in shapes
        )
        self.kernel, self.bias = nnx.Param(kernel), nnx.Param(bias)
        self.stride, self.padding = stride, half_padding(kernel)


class AlexNet(Backbone):
    """AlexNet's five convolutions, read at their named activations."""

    def __init__(self, *, rngs: nnx.Rngs, **options: Any):
        super().__init__(LAYERS, _STRIDES, **options)
        channels = 3
        for name in self.layers:
            if name.startswith("conv"):
                width, size, stride = _CONVOLUTIONS[name]
                setattr(self, name, UniformConv(channels, width, size=size, stride=stride, rngs=rngs))
                channels = width

    def _apply(self, name: str, x: Activations) -> Activations:
        if name.startswith("conv"):
            layer: Convolution = getattr(self, name)
            return layer(x, self.compute, padding=_FIRST_PADDING if name == "conv1" else None)
        return relu(x) if name.startswith("relu") else self.compute.max_pool(x, size=3, stride=2)

    def minimum_size(self, layers: Iterable[str]) -> int:
        """Return the smallest image side, in pixels, that gives the deepest of `layers` a whole position."""
        # conv1 sees 11 pixels, 4 of them padded, and a pool needs 3 positions at half its stride.
        return 2 * super().minimum_size(layers) - 1
