"""GoogLeNet and Inception v3 without their classifiers, as torchvision lays them out.

Szegedy et al., "Going deeper with convolutions" (CVPR 2015) and "Rethinking the Inception architecture" (CVPR 2016),
both with batch norms. Blocks of parallel branches, whose outputs are joined along the channels. Every convolution is
followed by a batch norm and a ReLU. A layer's name is torchvision's without the kernel's size.
"""

import functools
import itertools
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from swag_jax._checks import check_name
from swag_jax._numerics import widen
from swag_jax._types import Activations
from swag_jax.backbones._layers import Compute, ConvNorm, Draw, FrozenConv, kaiming_normal, normal
from swag_jax.backbones._network import Backbone, cut

Initialization: TypeAlias = Literal["torchvision", "kaiming"]
Variant: TypeAlias = Literal["torchvision", "fid"]
Build: TypeAlias = Callable[..., ConvNorm]
Parts: TypeAlias = Mapping[str, Callable[[Build], nnx.Module] | None]

INITIALIZATIONS: tuple[Initialization, ...] = ("torchvision", "kaiming")
VARIANTS: tuple[Variant, ...] = ("torchvision", "fid")

_EPSILON = 1e-3
"""Of the batch norms: torchvision's `BasicConv2d` in both networks."""

_GOOGLENET_DEVIATION = 0.01
_INCEPTION_DEVIATION = 0.1
"""Of the initial kernels: torchvision/models/googlenet.py and inception.py. Values are cut at -2 and 2 there, 200 and
20 deviations away, which no draw reaches; older releases cut at two deviations. Only heads that are not here have
other ones."""

_VALID = ((0, 0), (0, 0))


def _chain(x: Activations, compute: Compute, *layers: ConvNorm | FrozenConv) -> Activations:
    """Apply convolutions one after another, each with its norm and a ReLU."""
    for layer in layers:
        x = jax.nn.relu(layer(x, compute))
    return x


class _Inception(Backbone):
    """What both networks share: layers by a table of what builds them, initialized alike."""

    parts: Parts
    steps: Mapping[str, int]
    deviation: float

    def __init__(
        self,
        *,
        init: Initialization = "torchvision",
        until: str | None = None,
        normalization: str = "inception",
        compute: Compute | None = None,
        rngs: nnx.Rngs,
    ):
        check_name(init, INITIALIZATIONS, what="init")
        self.layers = cut(tuple(self.parts), until)
        self.strides = tuple(itertools.accumulate((self.steps.get(name, 1) for name in self.layers), operator.mul))
        self.normalization = normalization
        self.compute = compute or Compute()
        draw: Draw = normal(self.deviation) if init == "torchvision" else kaiming_normal
        build = functools.partial(ConvNorm, epsilon=_EPSILON, draw=draw, rngs=rngs)
        for name in self.layers:
            part = self.parts[name]
            if part is not None:
                setattr(self, name, part(build))


# --- GoogLeNet


class GoogLeNetBlock(nnx.Module):
    """Four branches: 1x1; 1x1 and 3x3; 1x1 and 3x3 (5x5 in the paper); pool and 1x1."""

    def __init__(self, channels_in: int, channels: tuple[int, ...], *, build: Build):
        one, three_reduced, three, five_reduced, five, pool = channels
        self.branch1 = build(channels_in, one, size=1)
        self.branch2_1 = build(channels_in, three_reduced, size=1)
        self.branch2_2 = build(three_reduced, three, size=3)
        self.branch3_1 = build(channels_in, five_reduced, size=1)
        self.branch3_2 = build(five_reduced, five, size=3)
        self.branch4 = build(channels_in, pool, size=1)

    def __call__(self, x: Activations, compute: Compute) -> Activations:
        """Apply the block."""
        branches = (
            _chain(x, compute, self.branch1),
            _chain(x, compute, self.branch2_1, self.branch2_2),
            _chain(x, compute, self.branch3_1, self.branch3_2),
            _chain(compute.max_pool(x, size=3, stride=1, padding=1), compute, self.branch4),
        )
        return jnp.concatenate(branches, -1)


def _block(channels_in: int, *channels: int) -> Callable[[Build], nnx.Module]:
    return lambda build: GoogLeNetBlock(channels_in, channels, build=build)


# The paper's table 1: channels of the input; 1x1; 3x3 reduction and 3x3; "5x5" reduction and "5x5"; pool projection.
_GOOGLENET: Parts = {
    "conv1": lambda build: build(3, 64, size=7, stride=2),
    "pool1": None,
    "conv2": lambda build: build(64, 64, size=1),
    "conv3": lambda build: build(64, 192, size=3),
    "pool2": None,
    "inception3a": _block(192, 64, 96, 128, 16, 32, 32),
    "inception3b": _block(256, 128, 128, 192, 32, 96, 64),
    "pool3": None,
    "inception4a": _block(480, 192, 96, 208, 16, 48, 64),
    "inception4b": _block(512, 160, 112, 224, 24, 64, 64),
    "inception4c": _block(512, 128, 128, 256, 24, 64, 64),
    "inception4d": _block(512, 112, 144, 288, 32, 64, 64),
    "inception4e": _block(528, 256, 160, 320, 32, 128, 128),
    "pool4": None,
    "inception5a": _block(832, 256, 160, 320, 32, 128, 128),
    "inception5b": _block(832, 384, 192, 384, 48, 128, 128),
}

_GOOGLENET_STEPS: Mapping[str, int] = {"conv1": 2, "pool1": 2, "pool2": 2, "pool3": 2, "pool4": 2}
"""Stride of the layers that change the resolution."""


class GoogLeNet(_Inception):
    """GoogLeNet (Inception v1), read at its named activations.

    As in torchvision's port, the paper's 5x5 convolutions are 3x3 ones, and pools keep a last row and column that do
    not fill a window.

    Args:
        init: `torchvision` (normal, standard deviation 0.01: random activations vanish with depth) or `kaiming`
            (He et al. 2015, fan-out, which keeps their size).
        until: The deepest layer to build; blocks beyond it have no parameters.
        normalization: How images in [0, 1] become its input.
        compute: Precision and kernels.
        rngs: Randomness for the initialization.
    """

    parts, steps, deviation = _GOOGLENET, _GOOGLENET_STEPS, _GOOGLENET_DEVIATION

    def _apply(self, name: str, x: Activations) -> Activations:
        if name.startswith("pool"):
            return self.compute.max_pool(x, size=2 if name == "pool4" else 3, stride=2, partial=True)
        layer = getattr(self, name)
        return _chain(x, self.compute, layer) if name.startswith("conv") else layer(x, self.compute)


# --- Inception v3


class MixedA(nnx.Module):
    """Four branches: 1x1; 1x1 and 5x5; 1x1 and two 3x3; pool and 1x1."""

    def __init__(self, channels_in: int, channels_pool: int, *, build: Build):
        self.branch1x1 = build(channels_in, 64, size=1)
        self.branch5x5_1 = build(channels_in, 48, size=1)
        self.branch5x5_2 = build(48, 64, size=5)
        self.branch3x3dbl_1 = build(channels_in, 64, size=1)
        self.branch3x3dbl_2 = build(64, 96, size=3)
        self.branch3x3dbl_3 = build(96, 96, size=3)
        self.branch_pool = build(channels_in, channels_pool, size=1)

    def __call__(self, x: Activations, pooled: Activations, compute: Compute) -> Activations:
        """Apply the block to its input and the same pooled."""
        branches = (
            _chain(x, compute, self.branch1x1),
            _chain(x, compute, self.branch5x5_1, self.branch5x5_2),
            _chain(x, compute, self.branch3x3dbl_1, self.branch3x3dbl_2, self.branch3x3dbl_3),
            _chain(pooled, compute, self.branch_pool),
        )
        return jnp.concatenate(branches, -1)


class MixedB(nnx.Module):
    """Three branches with stride 2: 3x3; 1x1 and two 3x3; pool."""

    def __init__(self, channels_in: int, *, build: Build):
        self.branch3x3 = build(channels_in, 384, size=3, stride=2, padding=_VALID)
        self.branch3x3dbl_1 = build(channels_in, 64, size=1)
        self.branch3x3dbl_2 = build(64, 96, size=3)
        self.branch3x3dbl_3 = build(96, 96, size=3, stride=2, padding=_VALID)

    def __call__(self, x: Activations, pooled: Activations, compute: Compute) -> Activations:
        """Apply the block to its input and the same pooled."""
        branches = (
            _chain(x, compute, self.branch3x3),
            _chain(x, compute, self.branch3x3dbl_1, self.branch3x3dbl_2, self.branch3x3dbl_3),
            pooled,
        )
        return jnp.concatenate(branches, -1)


class MixedC(nnx.Module):
    """Four branches: 1x1; 1x1, 1x7 and 7x1; 1x1 and two of 7x1 and 1x7; pool and 1x1."""

    def __init__(self, channels_in: int, inner: int, *, build: Build):
        self.branch1x1 = build(channels_in, 192, size=1)
        self.branch7x7_1 = build(channels_in, inner, size=1)
        self.branch7x7_2 = build(inner, inner, size=(1, 7))
        self.branch7x7_3 = build(inner, 192, size=(7, 1))
        self.branch7x7dbl_1 = build(channels_in, inner, size=1)
        self.branch7x7dbl_2 = build(inner, inner, size=(7, 1))
        self.branch7x7dbl_3 = build(inner, inner, size=(1, 7))
        self.branch7x7dbl_4 = build(inner, inner, size=(7, 1))
        self.branch7x7dbl_5 = build(inner, 192, size=(1, 7))
        self.branch_pool = build(channels_in, 192, size=1)

    def __call__(self, x: Activations, pooled: Activations, compute: Compute) -> Activations:
        """Apply the block to its input and the same pooled."""
        double = (self.branch7x7dbl_2, self.branch7x7dbl_3, self.branch7x7dbl_4, self.branch7x7dbl_5)
        branches = (
            _chain(x, compute, self.branch1x1),
            _chain(x, compute, self.branch7x7_1, self.branch7x7_2, self.branch7x7_3),
            _chain(x, compute, self.branch7x7dbl_1, *double),
            _chain(pooled, compute, self.branch_pool),
        )
        return jnp.concatenate(branches, -1)


class MixedD(nnx.Module):
    """Three branches with stride 2: 1x1 and 3x3; 1x1, 1x7, 7x1 and 3x3; pool."""

    def __init__(self, channels_in: int, *, build: Build):
        self.branch3x3_1 = build(channels_in, 192, size=1)
        self.branch3x3_2 = build(192, 320, size=3, stride=2, padding=_VALID)
        self.branch7x7x3_1 = build(channels_in, 192, size=1)
        self.branch7x7x3_2 = build(192, 192, size=(1, 7))
        self.branch7x7x3_3 = build(192, 192, size=(7, 1))
        self.branch7x7x3_4 = build(192, 192, size=3, stride=2, padding=_VALID)

    def __call__(self, x: Activations, pooled: Activations, compute: Compute) -> Activations:
        """Apply the block to its input and the same pooled."""
        long = (self.branch7x7x3_1, self.branch7x7x3_2, self.branch7x7x3_3, self.branch7x7x3_4)
        branches = (
            _chain(x, compute, self.branch3x3_1, self.branch3x3_2),
            _chain(x, compute, *long),
            pooled,
        )
        return jnp.concatenate(branches, -1)


class MixedE(nnx.Module):
    """Four branches: 1x1; 1x1 forking into 1x3 and 3x1; 1x1 and 3x3 forking likewise; pool and 1x1."""

    def __init__(self, channels_in: int, *, build: Build):
        self.branch1x1 = build(channels_in, 320, size=1)
        self.branch3x3_1 = build(channels_in, 384, size=1)
        self.branch3x3_2a = build(384, 384, size=(1, 3))
        self.branch3x3_2b = build(384, 384, size=(3, 1))
        self.branch3x3dbl_1 = build(channels_in, 448, size=1)
        self.branch3x3dbl_2 = build(448, 384, size=3)
        self.branch3x3dbl_3a = build(384, 384, size=(1, 3))
        self.branch3x3dbl_3b = build(384, 384, size=(3, 1))
        self.branch_pool = build(channels_in, 192, size=1)

    def __call__(self, x: Activations, pooled: Activations, compute: Compute) -> Activations:
        """Apply the block to its input and the same pooled."""
        single = _chain(x, compute, self.branch3x3_1)
        double = _chain(x, compute, self.branch3x3dbl_1, self.branch3x3dbl_2)
        branches = (
            _chain(x, compute, self.branch1x1),
            _chain(single, compute, self.branch3x3_2a),
            _chain(single, compute, self.branch3x3_2b),
            _chain(double, compute, self.branch3x3dbl_3a),
            _chain(double, compute, self.branch3x3dbl_3b),
            _chain(pooled, compute, self.branch_pool),
        )
        return jnp.concatenate(branches, -1)


_INCEPTION: Parts = {
    "conv1a": lambda build: build(3, 32, size=3, stride=2, padding=_VALID),
    "conv2a": lambda build: build(32, 32, size=3, padding=_VALID),
    "conv2b": lambda build: build(32, 64, size=3),
    "pool1": None,
    "conv3b": lambda build: build(64, 80, size=1),
    "conv4a": lambda build: build(80, 192, size=3, padding=_VALID),
    "pool2": None,
    "mixed5b": lambda build: MixedA(192, 32, build=build),
    "mixed5c": lambda build: MixedA(256, 64, build=build),
    "mixed5d": lambda build: MixedA(288, 64, build=build),
    "mixed6a": lambda build: MixedB(288, build=build),
    "mixed6b": lambda build: MixedC(768, 128, build=build),
    "mixed6c": lambda build: MixedC(768, 160, build=build),
    "mixed6d": lambda build: MixedC(768, 160, build=build),
    "mixed6e": lambda build: MixedC(768, 192, build=build),
    "mixed7a": lambda build: MixedD(768, build=build),
    "mixed7b": lambda build: MixedE(1280, build=build),
    "mixed7c": lambda build: MixedE(2048, build=build),
}

_INCEPTION_STEPS = {"conv1a": 2, "conv2a": 1, "pool1": 2, "conv4a": 1, "pool2": 2, "mixed6a": 2, "mixed7a": 2}
"""Stride of the layers that see 3x3 windows without padding; the others keep the resolution."""


class InceptionV3(_Inception):
    """Inception v3, read at its named activations.

    Args:
        variant: `torchvision`, or `fid`, the network of the Fréchet inception distance as in pytorch-fid: average pools
            leave the padding out of their count, and the pool of `mixed7c` takes the maximum.
        init: `torchvision` (normal, standard deviation 0.1) or `kaiming` (He et al. 2015, fan-out).
        until: The deepest layer to build; blocks beyond it have no parameters.
        normalization: How images in [0, 1] become its input.
        compute: Precision and kernels.
        rngs: Randomness for the initialization.
    """

    parts, steps, deviation = _INCEPTION, _INCEPTION_STEPS, _INCEPTION_DEVIATION

    def __init__(self, *, variant: Variant = "torchvision", rngs: nnx.Rngs, **options: Any):
        self.variant = check_name(variant, VARIANTS, what="variant")
        super().__init__(rngs=rngs, **options)

    def minimum_size(self, layers: Iterable[str]) -> int:
        """Return the smallest image side, in pixels, that gives the deepest of `layers` a whole position."""
        size = 1
        for name in reversed(cut(self.layers, self.deepest(layers))):
            if name in self.steps:
                size = (size - 1) * self.steps[name] + 3
        return size

    def _apply(self, name: str, x: Activations) -> Activations:
        if name.startswith("pool"):
            return self.compute.max_pool(x, size=3, stride=2)
        layer = getattr(self, name)
        if name.startswith("conv"):
            return _chain(x, self.compute, layer)
        return layer(x, self._pooled(name, x), self.compute)

    def _pooled(self, name: str, x: Activations) -> Activations:
        """Return what the pool branch of a block sees."""
        if name in self.steps:
            return self.compute.max_pool(x, size=3, stride=2)
        if name == "mixed7c" and self.variant == "fid":
            return self.compute.max_pool(x, size=3, stride=1, padding=1)
        return average_pool(x, counts_padding=self.variant == "torchvision")


def average_pool(x: Activations, *, counts_padding: bool) -> Activations:
    """Average every position with its eight neighbors, zero beyond the edge; the sum is float32 at least.

    Args:
        x: `batch height width channels`.
        counts_padding: Whether sums are divided by nine everywhere, or by the neighbors that there are.
    """
    ones = jnp.ones((1, *x.shape[1:3], 1), jnp.float32)
    count = 9 * ones if counts_padding else _sum_neighbors(ones)
    return (_sum_neighbors(widen(x)) / count).astype(x.dtype)


def _sum_neighbors(x: Activations) -> Activations:
    for axis in (1, 2):
        edges = [(0, 0)] * x.ndim
        edges[axis] = (1, 1)
        padded, length = jnp.pad(x, edges), x.shape[axis]
        left, middle, right = (lax.slice_in_dim(padded, k, k + length, axis=axis) for k in range(3))
        x = left + middle + right
    return x
