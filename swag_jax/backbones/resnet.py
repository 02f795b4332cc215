"""The residual family: ResNets as published (v1) and as torchvision lays them out (v1.5), and SWAG's variants of them.

He et al., CVPR 2016; Zagoruyko and Komodakis, BMVC 2016; Wang et al. (SWAG), CVPR 2021. Activations carry the names of
the ResNet paper's table, which the SWAG paper uses too: `conv1` (the stem after its ReLU), `pool1`, then the output of
every block after the addition and its ReLU, `conv2_1` ... `conv5_3` in 50 layers. If max pools halve the resolution,
`pool1` ... `pool4` stand before the stages.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from flax import nnx

from swag_jax._checks import check_name, error
from swag_jax._types import Activations
from swag_jax.backbones._layers import Compute, Conv, ConvNorm, relu
from swag_jax.backbones._network import Backbone

BlockName: TypeAlias = Literal["bottleneck", "basic"]
Downsampling: TypeAlias = Literal["stride", "pool"]
Stem: TypeAlias = Literal["7x7", "3x3"]
Version: TypeAlias = Literal["v1", "v1.5"]

BLOCKS: tuple[BlockName, ...] = ("bottleneck", "basic")
DOWNSAMPLINGS: tuple[Downsampling, ...] = ("stride", "pool")
STEMS: tuple[Stem, ...] = ("7x7", "3x3")
VERSIONS: tuple[Version, ...] = ("v1", "v1.5")
_NAMES = {"block": BLOCKS, "downsampling": DOWNSAMPLINGS, "stem": STEMS, "version": VERSIONS}
KERNEL_SIZES = (1, 3, 5, 7)
"""What SWAG's authors tried."""

# Channels of a block's output relative to its stage's `channels`: He et al., table 1.
_EXPANSIONS = {"bottleneck": 4, "basic": 1}

DEEPEST, WIDEST = 400, 4096
"""Blocks of a stage, and channels, of the largest network that a file may ask for: twice those of ResNet-1202, and
sixteen times the channels of WideResNet50-2. Our choice."""


@dataclass(frozen=True)
class Architecture:
    r"""A network of the residual family; by default, ResNet50.

    With R a block's two (basic) or three (bottleneck) convolutions and S the identity, or a 1x1 projection if the shape
    changes, block l computes

    .. math:: x_l = \mathrm{ReLU}(S(x_{l-1}) + R(x_{l-1})).

    Without residual connections it is :math:`x_l = \mathrm{ReLU}(R(x_{l-1}))`. A pre-ReLU network carries signed
    values, :math:`x_l = S(x_{l-1}) + R(\mathrm{ReLU}(x_{l-1}))`, from its stem on, and is read at
    :math:`\mathrm{ReLU}(x_l)`. SWAG's authors varied these before they blamed the residual connection; how exactly is
    not published, so the details are our choice.

    Attributes:
        pre_relu: Whether the carried branch is taken before the ReLU; it may be negative then.
        block: `bottleneck` (1x1, k x k and 1x1 convolutions) or `basic` (two of k x k).
        kernel_size: k: 1, 3, 5 or 7.
        depths: Blocks in each of the four stages.
        batch_norm: Whether convolutions have a batch norm, or else a bias.
        downsampling: How a stage halves the resolution: by the `stride` of its first block and of the projection
            parallel to it, or by a 2x2 max `pool` before it.
        version: Which convolution of a bottleneck has that stride: the first 1x1 (`v1`: He et al.'s own networks, as
            published for Caffe) or the k x k one (`v1.5`: torchvision's). Shapes are equal, but weights trained as one
            do not work as the other.
        stem: `7x7` (stride 2, and a 3x3 max pool with stride 2 in place of the first stage's down-sampling) or `3x3`
            (which keeps the resolution).
        channels: Of the stem; a block of stage i has 2^(i-1) times as many, a bottleneck four times those.
        width: Channels between the convolutions of the first stage's blocks; default: `channels`.
    """

    residual: bool = True
    pre_relu: bool = False
    block: BlockName = "bottleneck"
    kernel_size: int = 3
    depths: tuple[int, int, int, int] = (3, 4, 6, 3)
    batch_norm: bool = True
    downsampling: Downsampling = "stride"
    stem: Stem = "7x7"
    channels: int = 64
    width: int | None = None
    version: Version = "v1.5"

    def __post_init__(self):
        for name, known in _NAMES.items():
            check_name(getattr(self, name), known, what=name)
        for name in ("residual", "pre_relu", "batch_norm"):
            if not isinstance(getattr(self, name), bool):
                raise error(f"{name} must be True or False", got=repr(getattr(self, name)))
        if not (_is_count(self.kernel_size) and self.kernel_size in KERNEL_SIZES):
            raise error("kernel size must be 1, 3, 5 or 7", got=self.kernel_size)
        self._check_sizes()
        if self.pre_relu and not self.residual:
            raise error("pre_relu needs residual connections", got="residual=False")

    def _check_sizes(self):
        if not (isinstance(self.depths, tuple) and len(self.depths) == 4 and all(map(_is_count, self.depths))):
            raise error("depths must be a tuple of four whole numbers of at least 1", got=self.depths)
        if max(self.depths) > DEEPEST:
            raise error(f"no stage may have more than {DEEPEST} blocks", got=self.depths)
        for name, value in {"channels": self.channels, "width": 1 if self.width is None else self.width}.items():
            if not _is_count(value):
                raise error(f"{name} must be a whole number of at least 1", got=value)
            if value > WIDEST:
                raise error(f"{name} must be at most {WIDEST}", got=value)

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of its activations, shallow to deep."""
        names = ["conv1"]
        for stage, depth in enumerate(self.depths, 1):
            names += [f"pool{stage}"] * self.pools(stage)
            names += [f"conv{stage + 1}_{i}" for i in range(1, depth + 1)]
        return tuple(names)

    @property
    def ends(self) -> tuple[str, ...]:
        """The names of the stages' last activations."""
        return tuple(f"conv{stage}_{depth}" for stage, depth in enumerate(self.depths, 2))

    def spacing(self, layer: str) -> int:
        """Return the distance in image pixels of neighboring positions of a layer."""
        return 2 ** (stage_of(layer) + (self.stem == "7x7"))

    def pools(self, stage: int) -> bool:
        """Tell whether a max pool comes before a stage; otherwise its first block has stride 2."""
        return self.downsampling == "pool" or (stage == 1 and self.stem == "7x7")

    def channels_out(self, stage: int) -> int:
        """Return the channels that the blocks of a stage pass on; stage 0 is the stem."""
        return self.channels * _EXPANSIONS[self.block] * 2 ** (stage - 1) if stage else self.channels

    def convolutions(self, stage: int, stride: int) -> tuple[tuple[int, int, int], ...]:
        """Return channels, size and stride of each convolution in a stage's block that has `stride` as a whole."""
        inner, out = (self.width or self.channels) * 2 ** (stage - 1), self.channels_out(stage)
        if self.block == "basic":
            return (inner, self.kernel_size, stride), (out, self.kernel_size, 1)
        first, middle = (stride, 1) if self.version == "v1" else (1, stride)
        return (inner, 1, first), (inner, self.kernel_size, middle), (out, 1, 1)


SWITCHES = tuple(field.name for field in dataclasses.fields(Architecture))
"""The fields of an architecture."""


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def stage_of(layer: str) -> int:
    """Return the stage, 1 to 4, of a block or of what follows a pool; 0 for the stem."""
    return int(layer[4]) - layer.startswith("conv")


class Block(nnx.Module):
    """A block: see `Architecture`."""

    def __init__(self, architecture: Architecture, channels_in: int, *, stage: int, stride: int, rngs: nnx.Rngs):
        layer = ConvNorm if architecture.batch_norm else Conv
        self.architecture = architecture
        convolutions = architecture.convolutions(stage, stride)
        self.names = tuple(f"conv{i}" for i in range(1, len(convolutions) + 1))
        channels = channels_in
        for name, (channels_out, size, own_stride) in zip(self.names, convolutions, strict=True):
            setattr(self, name, layer(channels, channels_out, size=size, stride=own_stride, rngs=rngs))
            channels = channels_out
        self.projects = architecture.residual and (channels != channels_in or stride != 1)
        if self.projects:
            self.shortcut = layer(channels_in, channels, size=1, stride=stride, rngs=rngs)

    def __call__(self, x: Activations, compute: Compute) -> Activations:
        """Apply the block."""
        *first, last = (getattr(self, name) for name in self.names)
        y = relu(x) if self.architecture.pre_relu else x
        for layer in first:
            y = relu(layer(y, compute))
        y = last(y, compute)
        if self.architecture.residual:
            y = (self.shortcut(x, compute) if self.projects else x) + y
        return y if self.architecture.pre_relu else relu(y)


class ResNet(Backbone):
    """A network of the residual family, read at its named activations."""

    def __init__(self, architecture: Architecture, *, rngs: nnx.Rngs, **options: Any):
        super().__init__(architecture.layers, map(architecture.spacing, architecture.layers), **options)
        self.architecture = architecture
        channels = architecture.channels_out(0)
        size, stride = (7, 2) if architecture.stem == "7x7" else (3, 1)
        layer = ConvNorm if architecture.batch_norm else Conv
        self.conv1 = layer(3, channels, size=size, stride=stride, rngs=rngs)
        for name in self.layers[1:]:
            if name.startswith("conv"):
                stage = stage_of(name)
                stride = 2 if name.endswith("_1") and not architecture.pools(stage) else 1
                setattr(self, name, Block(architecture, channels, stage=stage, stride=stride, rngs=rngs))
                channels = architecture.channels_out(stage)

    def _apply(self, name: str, x: Activations) -> Activations:
        if name == "conv1":
            y = self.conv1(x, self.compute)
            return y if self.architecture.pre_relu else relu(y)
        if name == "pool1" and self.architecture.stem == "7x7":
            return self.compute.max_pool(x, size=3, stride=2, padding=1)
        if name.startswith("pool"):
            return self.compute.max_pool(x, size=2, stride=2)
        return getattr(self, name)(x, self.compute)

    def _read(self, x: Activations) -> Activations:
        return relu(x) if self.architecture.pre_relu else x
