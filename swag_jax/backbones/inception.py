"""GoogLeNet and Inception v3 without their classifiers, as torchvision lays them out.

Szegedy et al., "Going deeper with convolutions" (CVPR 2015) and "Rethinking the Inception architecture" (CVPR 2016),
both with batch norms. Blocks of parallel branches, whose outputs are joined along the channels. Every convolution is
followed by a batch norm and a ReLU. A layer's name is torchvision's without the kernel's size.
"""

import abc
import functools
import itertools
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias

import jax.numpy as jnp
from flax import nnx

from swag_jax._checks import check_name
from swag_jax._types import Activations
from swag_jax.backbones import kernels
from swag_jax.backbones._layers import Compute, ConvNorm, Convolution, Draw, kaiming_normal, normal, relu
from swag_jax.backbones._network import Backbone, cut

Initialization: TypeAlias = Literal["torchvision", "kaiming"]
Variant: TypeAlias = Literal["torchvision", "fid"]
Build: TypeAlias = Callable[..., ConvNorm]
Parts: TypeAlias = Mapping[str, Callable[[Build], nnx.Module] | None]
Branches: TypeAlias = tuple[tuple[Any, ...], ...]
"""For each branch its convolutions: name, channels out, size and, for a stride of 2 without padding, `2`. First
may stand `None`: that branch sees the input pooled."""

INITIALIZATIONS: tuple[Initialization, ...] = ("torchvision", "kaiming")
VARIANTS: tuple[Variant, ...] = ("torchvision", "fid")

_EPSILON = 1e-3  # of the batch norms: torchvision's `BasicConv2d` in both networks

# Of the initial kernels: torchvision/models/googlenet.py and inception.py. Values are cut at -2 and 2 there, 200 and 20
# deviations away, which no draw reaches; older releases cut at two deviations. Only heads that are not here have other
# ones.
_GOOGLENET_DEVIATION = 0.01
_INCEPTION_DEVIATION = 0.1

_VALID = ((0, 0), (0, 0))


class Branched(nnx.Module):
    """Parallel branches of convolutions, joined along the channels. Convolutions of one name are one."""

    def __init__(self, channels_in: int, branches: Branches, *, build: Build):
        self.names = tuple(tuple(part and part[0] for part in branch) for branch in branches)
        for branch in branches:
            channels = channels_in
            for name, channels_out, size, *halves in filter(None, branch):
                if not hasattr(self, name):
                    options = {"stride": 2, "padding": _VALID} if halves else {}
                    setattr(self, name, build(channels, channels_out, size=size, **options))
                channels = channels_out

    def __call__(self, x: Activations, pooled: Activations, compute: Compute) -> Activations:
        """Apply the block to its input and the same pooled."""
        # Branches may begin with the same convolutions, whose outputs are computed once.
        known, branches = {}, []
        for names in self.names:
            y = x
            for name in names:
                if name is None:
                    y = pooled
                    continue
                if name not in known:
                    known[name] = relu(getattr(self, name)(y, compute))
                y = known[name]
            branches.append(y)
        return jnp.concatenate(branches, -1)


class _Inception(Backbone):
    """A network whose layers are built by a table."""

    parts: Parts
    steps: Mapping[str, int]
    deviation: float

    def __init__(
        self, *, init: Initialization = "torchvision", normalization: str = "inception", rngs: nnx.Rngs, **options: Any
    ):
        check_name(init, INITIALIZATIONS, what="init")
        strides = itertools.accumulate((self.steps.get(name, 1) for name in self.parts), operator.mul)
        super().__init__(tuple(self.parts), strides, normalization=normalization, **options)
        draw: Draw = normal(self.deviation) if init == "torchvision" else kaiming_normal
        build = functools.partial(ConvNorm, epsilon=_EPSILON, draw=draw, rngs=rngs)
        for name in self.layers:
            part = self.parts[name]
            if part is not None:
                setattr(self, name, part(build))

    def _apply(self, name: str, x: Activations) -> Activations:
        if name.startswith("pool"):
            return self._pool(name, x)
        layer: Convolution | Branched = getattr(self, name)
        if isinstance(layer, Branched):
            return layer(x, self._pooled(name, x), self.compute)
        return relu(layer(x, self.compute))

    @abc.abstractmethod
    def _pool(self, name: str, x: Activations) -> Activations:
        """Apply a pool between blocks."""

    @abc.abstractmethod
    def _pooled(self, name: str, x: Activations) -> Activations:
        """Return what the pool branch of a block sees."""


# --- GoogLeNet


def _block(channels_in: int, one: int, three_in: int, three: int, five_in: int, five: int, pool: int):
    branches = (
        (("branch1", one, 1),),
        (("branch2_1", three_in, 1), ("branch2_2", three, 3)),
        (("branch3_1", five_in, 1), ("branch3_2", five, 3)),
        (None, ("branch4", pool, 1)),
    )
    return functools.partial(_built, channels_in, branches)


def _built(channels_in: int, branches: Branches, build: Build) -> Branched:
    return Branched(channels_in, branches, build=build)


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

# Stride of the layers that change the resolution.
_GOOGLENET_STEPS: Mapping[str, int] = {"conv1": 2, "pool1": 2, "pool2": 2, "pool3": 2, "pool4": 2}


class GoogLeNet(_Inception):
    """GoogLeNet (Inception v1), read at its named activations.

    As in torchvision's port, the paper's 5x5 convolutions are 3x3, and pools keep a partial last row and column.

    Args:
        init: `torchvision` (normal, standard deviation 0.01: random activations vanish with depth) or `kaiming`
            (He et al. 2015, fan-out, which keeps their size).
    """

    parts, steps, deviation = _GOOGLENET, _GOOGLENET_STEPS, _GOOGLENET_DEVIATION

    def _pool(self, name: str, x: Activations) -> Activations:
        return self.compute.max_pool(x, size=2 if name == "pool4" else 3, stride=2, partial=True)

    def _pooled(self, name: str, x: Activations) -> Activations:
        return self.compute.max_pool(x, size=3, stride=1, padding=1)


# --- Inception v3


def _chain(name: str, *parts: tuple[Any, ...]) -> tuple[tuple[Any, ...], ...]:
    return tuple((f"{name}_{i}", *part) for i, part in enumerate(parts, 1))


def _mixed_a(pool: int) -> Branches:
    return (
        (("branch1x1", 64, 1),),
        _chain("branch5x5", (48, 1), (64, 5)),
        _chain("branch3x3dbl", (64, 1), (96, 3), (96, 3)),
        (None, ("branch_pool", pool, 1)),
    )


_ACROSS, _DOWN = (1, 7), (7, 1)


def _mixed_c(inner: int) -> Branches:
    return (
        (("branch1x1", 192, 1),),
        _chain("branch7x7", (inner, 1), (inner, _ACROSS), (192, _DOWN)),
        _chain("branch7x7dbl", (inner, 1), (inner, _DOWN), (inner, _ACROSS), (inner, _DOWN), (192, _ACROSS)),
        (None, ("branch_pool", 192, 1)),
    )


_MIXED_B: Branches = (
    (("branch3x3", 384, 3, 2),),
    _chain("branch3x3dbl", (64, 1), (96, 3), (96, 3, 2)),
    (None,),
)
_MIXED_D: Branches = (
    _chain("branch3x3", (192, 1), (320, 3, 2)),
    _chain("branch7x7x3", (192, 1), (192, _ACROSS), (192, _DOWN), (192, 3, 2)),
    (None,),
)
_DOUBLE = _chain("branch3x3dbl", (448, 1), (384, 3))
_MIXED_E: Branches = (
    (("branch1x1", 320, 1),),
    (("branch3x3_1", 384, 1), ("branch3x3_2a", 384, (1, 3))),
    (("branch3x3_1", 384, 1), ("branch3x3_2b", 384, (3, 1))),
    (*_DOUBLE, ("branch3x3dbl_3a", 384, (1, 3))),
    (*_DOUBLE, ("branch3x3dbl_3b", 384, (3, 1))),
    (None, ("branch_pool", 192, 1)),
)

_INCEPTION: Parts = {
    "conv1a": lambda build: build(3, 32, size=3, stride=2, padding=_VALID),
    "conv2a": lambda build: build(32, 32, size=3, padding=_VALID),
    "conv2b": lambda build: build(32, 64, size=3),
    "pool1": None,
    "conv3b": lambda build: build(64, 80, size=1),
    "conv4a": lambda build: build(80, 192, size=3, padding=_VALID),
    "pool2": None,
    "mixed5b": functools.partial(_built, 192, _mixed_a(32)),
    "mixed5c": functools.partial(_built, 256, _mixed_a(64)),
    "mixed5d": functools.partial(_built, 288, _mixed_a(64)),
    "mixed6a": functools.partial(_built, 288, _MIXED_B),
    "mixed6b": functools.partial(_built, 768, _mixed_c(128)),
    "mixed6c": functools.partial(_built, 768, _mixed_c(160)),
    "mixed6d": functools.partial(_built, 768, _mixed_c(160)),
    "mixed6e": functools.partial(_built, 768, _mixed_c(192)),
    "mixed7a": functools.partial(_built, 768, _MIXED_D),
    "mixed7b": functools.partial(_built, 1280, _MIXED_E),
    "mixed7c": functools.partial(_built, 2048, _MIXED_E),
}

# Stride of the layers that see 3x3 windows without padding; the others keep the resolution.
_INCEPTION_STEPS = {"conv1a": 2, "conv2a": 1, "pool1": 2, "conv4a": 1, "pool2": 2, "mixed6a": 2, "mixed7a": 2}


class InceptionV3(_Inception):
    """Inception v3, read at its named activations.

    Args:
        variant: `torchvision`, or `fid`, the network of the Fréchet inception distance as in pytorch-fid: average pools
            leave the padding out of their count, and the pool of `mixed7c` takes the maximum.
        init: `torchvision` (normal, standard deviation 0.1) or `kaiming` (He et al. 2015, fan-out).
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

    def _pool(self, name: str, x: Activations) -> Activations:
        return self.compute.max_pool(x, size=3, stride=2)

    def _pooled(self, name: str, x: Activations) -> Activations:
        if name in self.steps:
            return self.compute.max_pool(x, size=3, stride=2)
        if name == "mixed7c" and self.variant == "fid":
            return self.compute.max_pool(x, size=3, stride=1, padding=1)
        return kernels.average_pool(x, size=3, stride=1, padding=1, counts_padding=self.variant == "torchvision")
