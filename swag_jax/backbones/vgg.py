"""VGG19 and VGG16 without their classifier (Simonyan and Zisserman, ICLR 2015), as torchvision lays them out.

Five blocks of 3x3 convolutions, each followed by a ReLU, each block closed by a 2x2 pool. Activations are named
`conv1_1`, `relu1_1`, ..., `pool1`, ..., `pool5`.
"""

from typing import Any, ClassVar, Literal, TypeAlias

import jax.numpy as jnp
from flax import nnx

from swag_jax._checks import check_name
from swag_jax._types import Activations, Border
from swag_jax.backbones import kernels
from swag_jax.backbones._layers import Conv, Convolution, relu
from swag_jax.backbones._network import Backbone

Pooling: TypeAlias = Literal["max", "average"]
VGGPadding: TypeAlias = Literal["zeros", "replicate", "reflect"]

POOLINGS: tuple[Pooling, ...] = ("max", "average")
PADDINGS: tuple[VGGPadding, ...] = ("zeros", "replicate", "reflect")

_CHANNELS = (64, 128, 256, 512, 512)  # output channels of each block's convolutions, in all configurations

AVERAGE_POOL_SCALE = 2.0
"""Factor on average pools that keeps activations at the scale max pools give them; from
crowsonkb/style-transfer-pytorch, `VGGFeatures.poolings`."""


def _names(depths: tuple[int, ...]) -> tuple[str, ...]:
    names: list[str] = []
    for block, depth in enumerate(depths, 1):
        for i in range(1, depth + 1):
            names += [f"conv{block}_{i}", f"relu{block}_{i}"]
        names.append(f"pool{block}")
    return tuple(names)


class VGG(Backbone):
    """A VGG's convolutions, read at their named activations.

    Args:
        pooling: `max` as trained, or `average` (smoother gradients, Gatys et al. 2015) times 2 to keep scale.
        padding: `zeros` as trained; `replicate` repeats the edge at the first convolution (fewer border
            artifacts, crowsonkb/style-transfer-pytorch); `reflect` mirrors at every convolution (AdaIN's encoder).
        keep_odd: Whether pools keep an odd last row or column as a separate window (AdaIN's encoder, PyTorch's
            `ceil_mode`); otherwise they drop it.
    """

    depths: ClassVar[tuple[int, ...]]

    def __init__(
        self,
        *,
        pooling: Pooling = "max",
        padding: VGGPadding = "zeros",
        keep_odd: bool = False,
        rngs: nnx.Rngs,
        **options: Any,
    ):
        layers = _names(self.depths)
        # A pool's own activations already have the next block's spacing.
        super().__init__(layers, (2 ** (int(name[4]) - (not name.startswith("pool"))) for name in layers), **options)
        self.pooling = check_name(pooling, POOLINGS, what="pooling")
        self.padding = check_name(padding, PADDINGS, what="padding")
        self.keep_odd = keep_odd
        channels = 3
        for name in self.layers:
            if name.startswith("conv"):
                width = _CHANNELS[int(name[4]) - 1]
                setattr(self, name, Conv(channels, width, size=3, rngs=rngs))
                channels = width

    def _apply(self, name: str, x: Activations) -> Activations:
        if name.startswith("conv"):
            return self._convolve(name, x)
        return relu(x) if name.startswith("relu") else self._pool(x)

    def _convolve(self, name: str, x: Activations) -> Activations:
        layer: Convolution = getattr(self, name)
        border: Border = "reflect" if self.padding == "reflect" else "zeros"
        if self.padding == "replicate" and name == "conv1_1":
            border = "edge"
        return layer(x, self.compute, border=border)

    def _pool(self, x: Activations) -> Activations:
        if self.keep_odd:
            # A repeated edge changes neither maximum nor mean of the last window.
            x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)), mode="edge")
        if self.pooling == "max":
            return self.compute.max_pool(x, size=2, stride=2)
        return kernels.average_pool(x, size=2, stride=2) * AVERAGE_POOL_SCALE


class VGG16(VGG):
    """Configuration D: 13 convolutions."""

    depths = (2, 2, 3, 3, 3)


class VGG19(VGG):
    """Configuration E: 16 convolutions."""

    depths = (2, 2, 4, 4, 4)
