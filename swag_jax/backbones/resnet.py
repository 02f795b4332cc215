"""ResNet50 and WideResNet50-2 without their classifier, as torchvision lays them out (v1.5).

He et al., CVPR 2016; Zagoruyko and Komodakis, BMVC 2016. A 7x7 stem, a 3x3 max pool, and four stages of
bottleneck blocks. Version 1.5 puts a stage's stride on its first block's 3x3 convolution.

Activations carry the names of the ResNet paper's table, which the SWAG paper uses too: `conv1` (the stem after
its ReLU), `pool1`, then the output of every block after the addition and its ReLU, `conv2_1` ... `conv2_3`,
`conv3_1` ... `conv3_4`, `conv4_1` ... `conv4_6`, `conv5_1` ... `conv5_3`.
"""

import jax
from flax import nnx

from swag_jax._types import Activations
from swag_jax.backbones._layers import ConvNorm, Operations
from swag_jax.backbones._network import Backbone, cut

_STAGES = (3, 4, 6, 3)
"""Blocks per stage of a 50-layer network."""

_STEM_CHANNELS = 64
_EXPANSION = 4
"""A bottleneck block's output has four times the channels of its stage's base width."""


def _names() -> tuple[str, ...]:
    blocks = [f"conv{stage}_{i}" for stage, depth in enumerate(_STAGES, 2) for i in range(1, depth + 1)]
    return ("conv1", "pool1", *blocks)


LAYERS = _names()


class Bottleneck(nnx.Module):
    """F(x) = ReLU(S(x) + R(x)): R is 1x1, 3x3, 1x1 convolutions; S the identity or a 1x1 projection."""

    def __init__(self, channels_in: int, width: int, channels_out: int, *, stride: int, rngs: nnx.Rngs):
        self.conv1 = ConvNorm(channels_in, width, size=1, rngs=rngs)
        self.conv2 = ConvNorm(width, width, size=3, stride=stride, rngs=rngs)
        self.conv3 = ConvNorm(width, channels_out, size=1, rngs=rngs)
        self.projects = channels_in != channels_out or stride != 1
        if self.projects:
            self.shortcut = ConvNorm(channels_in, channels_out, size=1, stride=stride, rngs=rngs)

    def __call__(self, x: Activations, operations: Operations) -> Activations:
        """Apply the block."""
        residual = jax.nn.relu(self.conv1(x, operations))
        residual = jax.nn.relu(self.conv2(residual, operations))
        residual = self.conv3(residual, operations)
        carried = self.shortcut(x, operations) if self.projects else x
        return jax.nn.relu(carried + residual)


class ResNet(Backbone):
    """A 50-layer bottleneck ResNet read at its named activations.

    Args:
        width: Channels of the first stage's 3x3 convolutions: 64 for ResNet50, 128 for WideResNet50-2.
        until: The deepest layer to build; blocks beyond it have no parameters.
        normalization: How pictures in [0, 1] become its input.
        operations: Precision and kernels.
        rngs: Randomness for the initialization.
    """

    def __init__(
        self,
        *,
        width: int = 64,
        until: str | None = None,
        normalization: str = "imagenet",
        operations: Operations | None = None,
        rngs: nnx.Rngs,
    ):
        self.layers = cut(LAYERS, until)
        self.strides = tuple(2 ** max(int(name[4]), 1 + (name == "pool1")) for name in self.layers)
        self.normalization = normalization
        self.operations = operations or Operations()
        self.conv1 = ConvNorm(3, _STEM_CHANNELS, size=7, stride=2, rngs=rngs)
        channels = _STEM_CHANNELS
        for name in self.layers[2:]:
            stage, index = int(name[4]) - 2, int(name[6])
            channels_out = _STEM_CHANNELS * _EXPANSION * 2**stage
            stride = 2 if stage > 0 and index == 1 else 1
            block = Bottleneck(channels, width * 2**stage, channels_out, stride=stride, rngs=rngs)
            setattr(self, name, block)
            channels = channels_out

    def _apply(self, name: str, x: Activations) -> Activations:
        if name == "conv1":
            return jax.nn.relu(self.conv1(x, self.operations))
        if name == "pool1":
            return self.operations.max_pool(x, size=3, stride=2, padding=1)
        return getattr(self, name)(x, self.operations)
