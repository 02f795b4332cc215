"""EfficientNet-Lite0 without its classifier, as its TensorFlow authors trained it.

Tan and Le, "EfficientNet" (ICML 2019), in the variant for mobile devices: a stem, 16 inverted residual blocks without
squeeze-and-excitation, and a 1x1 head. A block expands its channels by a 1x1 convolution, convolves each of them
separately, and projects them back by another 1x1 convolution. The first two are followed by ReLU6, the projection by
nothing: what blocks pass on, and what the skip connections add to, is signed.

Activations are `stem`, for each block (numbered from 0, as in the authors' checkpoint) `block1_expand` and
`block1_depthwise` after their ReLU6 and `block1` after the addition, and `head`. Block 0 expands nothing.
"""

import itertools
import operator
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
from flax import nnx

from swag_jax._checks import check_name
from swag_jax._types import Activations, Padding
from swag_jax.backbones._layers import ConvNorm, kaiming_normal, normal, relu
from swag_jax.backbones._network import Backbone

Activation: TypeAlias = Literal["relu6", "relu"]

ACTIVATIONS: tuple[Activation, ...] = ("relu6", "relu")

_EPSILON = 1e-3
"""Of the batch norms: tensorflow/tpu, efficientnet/lite/efficientnet_lite_builder.py, like all constants below."""

_STEM, _HEAD = 32, 1280
"""Channels."""

_STAGES = (
    *((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80)),
    *((3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)),
)
"""Blocks, depthwise kernel, stride of the first block, expansion and channels out: table 1 of the paper."""


class _Layer(NamedTuple):
    """A convolution.

    Attributes:
        channels_in: Of its kernel: one if it convolves every channel separately.
        channels_out: Of its kernel.
        size: Height and width of its kernel.
        stride: Its step.
        place: `ends` (stem and head), `inside` a block, or `closes` it, without an activation.
        adds: Whether the block's input is added.
    """

    channels_in: int
    channels_out: int
    size: int = 1
    stride: int = 1
    place: Literal["ends", "inside", "closes"] = "inside"
    adds: bool = False


def _layers() -> Iterator[tuple[str, _Layer]]:
    yield "stem", _Layer(3, _STEM, size=3, stride=2, place="ends")
    channels, blocks = _STEM, itertools.count()
    for repeats, size, stride, expansion, out in _STAGES:
        for i in range(repeats):
            name, inner, step = f"block{next(blocks)}", expansion * channels, 1 if i else stride
            if expansion > 1:
                yield f"{name}_expand", _Layer(channels, inner)
            yield f"{name}_depthwise", _Layer(1, inner, size, step)
            yield name, _Layer(inner, out, place="closes", adds=step == 1 and channels == out)
            channels = out
    yield "head", _Layer(channels, _HEAD, place="ends")


_LAYERS = dict(_layers())


class EfficientNetLite0(Backbone):
    """EfficientNet-Lite0, read at its named activations.

    Args:
        activation: `relu6` as trained, or `relu`, whose gradient does not vanish where an activation exceeds 6.
        rngs: Randomness for the initialization.
        options: Of every network: `until`, `normalization`, `compute`.
    """

    def __init__(
        self,
        *,
        activation: Activation = "relu6",
        normalization: str = "lite",
        rngs: nnx.Rngs,
        **options: Any,
    ):
        strides = itertools.accumulate((layer.stride for layer in _LAYERS.values()), operator.mul)
        super().__init__(tuple(_LAYERS), strides, normalization=normalization, **options)
        self.activation = check_name(activation, ACTIVATIONS, what="activation")
        for name in self.layers:
            layer = _LAYERS[name]
            # A depthwise kernel's fan-out is one channel, as in the authors' code.
            draw = normal((2 / layer.size**2) ** 0.5) if layer.channels_in == 1 else kaiming_normal
            options = {"size": layer.size, "stride": layer.stride, "epsilon": _EPSILON, "draw": draw, "rngs": rngs}
            setattr(self, name, ConvNorm(layer.channels_in, layer.channels_out, **options))

    def _apply(self, name: str, x: Any) -> tuple[Activations, Activations]:
        """Return the input of the block that the layer lies in (of the next, after its end), and the activations."""
        carried, y = x if isinstance(x, tuple) else (x, x)
        layer = _LAYERS[name]
        y = getattr(self, name)(y, self.compute, padding=_same(y, layer.size, layer.stride))
        if layer.place == "closes":
            y = carried + y if layer.adds else y
            return y, y
        y = jax.nn.relu6(y) if self.activation == "relu6" else relu(y)
        return (carried if layer.place == "inside" else y), y

    def _read(self, x: tuple[Activations, Activations]) -> Activations:
        return x[1]


def _same(x: Activations, size: int, stride: int) -> Padding:
    """Return TensorFlow's SAME padding: as many positions as strides fit in, and an odd row more at the end."""
    missing = [max((-(-length // stride) - 1) * stride + size - length, 0) for length in x.shape[1:3]]
    above, left = (total // 2 for total in missing)
    return (above, missing[0] - above), (left, missing[1] - left)
