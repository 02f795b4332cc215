"""The decoder that AdaIN, SANet and AdaAttN share: VGG19's convolutions, mirrored.

Each convolution has the name of the one of VGG19 that it mirrors: `conv4_1` takes 512 channels to 256 at an eighth of
the image's size, `conv1_1` ends in colors. After `conv4_1`, `conv3_1` and `conv2_1` the size doubles.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from swag_jax._types import Activations, Images
from swag_jax.backbones import Compute
from swag_jax.features import LayerSpec
from swag_jax.generators._layers import Conv, Size, enlarge

_DEPTHS = (2, 2, 4, 4, 4)
"""Convolutions of each block of VGG19: configuration E of Simonyan and Zisserman (ICLR 2015). Deeper blocks, which
networks with larger strides need, are like the last: our choice."""

_WIDTHS = (64, 128, 256, 512, 512)


class Decoder(nnx.Module):
    """From features to images, by nearest up-sampling and convolutions without normalization.

    Args:
        stride: Of the features, a power of two: 8 starts at `conv4_1`.
        whole: Whether all convolutions of VGG19's block are at the features' own size, or its first one only.
        skip: A tap whose features are concatenated, after the decoder's own, at the first convolution of its stride.
        deviation: Of the initial kernels, as `Conv` has it.
    """

    def __init__(
        self,
        channels: int,
        stride: int,
        *,
        whole: bool = False,
        skip: LayerSpec | None = None,
        deviation: float | None = None,
        compute: Compute,
        rngs: nnx.Rngs,
    ):
        self.names = _names(int(math.log2(stride)) + 1, whole)
        self.skip_at = None if skip is None else next(n for n in self.names if _stride(n) == skip.stride)
        self.compute = compute
        for name in self.names:
            added = skip.channels if skip is not None and name == self.skip_at else 0
            setattr(self, name, Conv(channels + added, _channels_out(name), deviation=deviation, rngs=rngs))
            channels = _channels_out(name)

    def __call__(self, features: Activations, *, size: Size, skip: Activations | None = None) -> Images:
        """Return images of `size`."""
        x = features
        for name in self.names:
            if name == self.skip_at and skip is not None:
                same = enlarge(skip, 1, rows=x.shape[1], columns=x.shape[2])
                x = jnp.concatenate([x.astype(self.compute.dtype), same.astype(self.compute.dtype)], -1)
            x = getattr(self, name)(x, self.compute)
            if name != self.names[-1]:
                x = jax.nn.relu(x)
            # Every up-sampling doubles, repeating the edge if the image needs one more; the rest beyond `size` is cut.
            # If the encoder's pools keep odd edges, these are the published decoder's pixels.
            if name.endswith("_1") and name != self.names[-1]:
                needed = [-(-side // (_stride(name) // 2)) for side in size]
                rows, columns = (max(2 * n, m) for n, m in zip(x.shape[1:3], needed, strict=True))
                x = enlarge(x, 2, rows=rows, columns=columns)
        return x[:, : size[0], : size[1]].astype(jnp.float32)


def _names(first: int, whole: bool) -> tuple[str, ...]:
    depths = {block: _DEPTHS[min(block, len(_DEPTHS)) - 1] for block in range(first, 0, -1)}
    if not whole:
        depths[first] = 1
    return tuple(f"conv{block}_{i}" for block, depth in depths.items() for i in range(depth, 0, -1))


def _stride(name: str) -> int:
    return 2 ** (_block(name) - 1)


def _block(name: str) -> int:
    return int(name.removeprefix("conv").split("_")[0])


def _channels_out(name: str) -> int:
    # The input channels of VGG19's convolution of that name.
    if name == "conv1_1":
        return 3
    block = _block(name) - name.endswith("_1")
    return _WIDTHS[min(block, len(_WIDTHS)) - 1]
