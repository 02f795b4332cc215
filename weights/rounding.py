"""Networks in 8 bits, rounded layer by layer so that each layer makes up for the errors of those before it.

Rounding every weight to the nearest step costs 5 % of ResNet50's deepest activations: 53 layers' errors add up. Here
each kernel is chosen by what it does. With X the inputs that a layer sees in the coded network, and Y the outputs that
it should have, on photographs,

1. the kernel is refitted, W' = argmin |X W' - Y|^2 + ridge |W' - W|^2, which takes back errors of its inputs;
2. it is rounded weight by weight, and what each rounding changes is made up for by the weights still to come
   (GPTQ: Frantar, Ashkboos, Hoefler and Alistarh, ICLR 2023, algorithm 1);
3. what is left of the mean error goes into the batch norm's mean.

Y is what the layer puts out in the exact network; for the last layer of a block, plus what the carried branch lacks.
The first layers are small, and what they get wrong goes through all others: they stay in 16 bits.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jax import lax

from swag_jax.backbones import Compute, create, layer_names
from swag_jax.params.quantize import dequantize, quantize
from swag_jax.params.tree import Tensors, shapes_of, with_parameters

FIRST_IMAGES, POSITIONS = 256, 36_000
"""Photographs, and positions in them, that a layer before the last stage is fitted on. The last stage is fitted on all
positions of all photographs: it has 49 of each, and kernels with up to 4,608 inputs."""


class Care(NamedTuple):
    """How a layer is fitted and rounded.

    The numbers are our choice: with smaller ones a layer fits its own photographs better and others worse.

    Attributes:
        ridge: Share of the inputs' mean square that holds a refitted kernel near the original.
        damping: Share of it that is added for the rounding.
        by_tap: Whether each place of a kernel has its own steps, which are smaller.
    """

    ridge: float
    damping: float
    by_tap: bool


FIRST, LAST = Care(0.1, 0.01, by_tap=False), Care(3.0, 0.1, by_tap=True)
"""Before the last stage and in it: there kernels have the most inputs, and photographs the fewest positions."""

IN_16_BITS = ("conv1", "conv2_", "conv3_1", "conv3_2", "conv3_3.conv1")
"""Beginnings of the names of layers that are not rounded, as many as 38 MB for VGG19 and ResNet50 allow."""

LEAST_FACTOR = 0.05
"""Share of its layer's mean factor below which a channel cannot make up for what the carried branch lacks."""

LITE_FIRST, LITE_LAST = "block11", "block15"
"""The ends of EfficientNet-Lite0's parts. To the first, a quarter of its parameters, all layers stay in 16 bits, as do
the last layer, for which no other can make up, and all depthwise convolutions, which are small."""

BLOCK = 128
"""Weights that are rounded before the others are told: the GPTQ paper's."""

EPSILON, LITE_EPSILON = 1e-5, 1e-3
"""What the batch norms of ResNet50 and of EfficientNet-Lite0 add to the variance."""


class Pair(NamedTuple):
    """Activations of the exact and of the coded network, `batch height width channels`."""

    exact: np.ndarray
    coded: np.ndarray


def rounded_resnet50(tensors: Tensors, images: np.ndarray) -> Tensors:
    """Return He et al.'s ResNet50 (v1) in 8 bits.

    Args:
        tensors: Its parameters by flat name, float32.
        images: Normalized photographs, 224 x 224.

    Returns:
        Kernels as int8 and their steps (`swag_jax.params.quantize`), the first ones as float16, and batch norms.
    """
    coder = _Coder(tensors, in_16_bits=lambda name: name.startswith(IN_16_BITS))
    few = images[:FIRST_IMAGES]
    x = _pooled(_relu(coder.layer("conv1", Pair(few, few), size=7, stride=2, positions=POSITIONS)))
    for stage, depth in ((2, 3), (3, 4), (4, 6)):
        x = coder.stage(x, stage, depth, positions=POSITIONS)
    x = Pair(*(np.concatenate(each) for each in zip(*coder.last_inputs(images), strict=True)))
    coder.care = LAST
    coder.stage(x, 5, 3, positions=len(images) * 49)
    return coder.coded


def rounded_efficientnet_lite0(tensors: Tensors, images: np.ndarray) -> Tensors:
    """Return EfficientNet-Lite0 to its last block, with most 1x1 convolutions of its last four in 8 bits.

    Args:
        tensors: Its parameters by flat name, float32.
        images: Normalized photographs, 224 x 224.
    """
    names = layer_names("efficientnet-lite0", until=LITE_LAST)
    first = layer_names("efficientnet-lite0", until=LITE_FIRST)
    kept = {key: value for key, value in tensors.items() if key.split(".")[0] in names}
    in_16_bits = (*first, *(name for name in names if name.endswith("_depthwise")), LITE_LAST)
    coder = _Coder(kept, in_16_bits=lambda name: name in in_16_bits, epsilon=LITE_EPSILON)
    for name in first:
        coder.store_16_bits(name)
    code = functools.partial(coder.layer, positions=len(images) * 49)
    x = Pair(*(_lite_inputs(images, side) for side in (coder.exact, coder.decoded)))
    for i in range(12, 16):
        y = _relu6(code(f"block{i}_expand", x))
        y = _relu6(code(f"block{i}_depthwise", y, size=len(tensors[f"block{i}_depthwise.kernel"])))
        if f"block{i}" != LITE_LAST:
            y = code(f"block{i}", y, lacking=x.exact - x.coded)
            x = Pair(x.exact + y.exact, x.coded + y.coded)
        else:
            coder.store_16_bits(LITE_LAST)
    return coder.coded


def _lite_inputs(images: np.ndarray, tensors: Tensors) -> np.ndarray:
    """Return what EfficientNet-Lite0's twelfth block is given."""
    skeleton = nnx.eval_shape(lambda: create("efficientnet-lite0", until=LITE_FIRST))
    network = with_parameters(skeleton, {name: tensors[name] for name in shapes_of(skeleton)})
    run = jax.jit(lambda n, x: n(x)[LITE_FIRST])
    return np.concatenate([np.asarray(run(network, part)) for part in np.array_split(images, -(-len(images) // 16))])


def _relu6(x: Pair) -> Pair:
    return Pair(*(np.clip(each, 0, 6) for each in x))


class _Coder:
    """What has been coded so far, and the way through the network."""

    def __init__(self, tensors: Tensors, *, in_16_bits: Callable[[str], bool], epsilon: float = EPSILON):
        self.exact, self.in_16_bits, self.epsilon = tensors, in_16_bits, epsilon
        self.decoded = dict(tensors)
        self.coded = {name: value for name, value in tensors.items() if not name.endswith(".kernel")}
        self.care = FIRST
        self.random = np.random.default_rng(0)

    def stage(self, x: Pair, stage: int, depth: int, *, positions: int) -> Pair:
        """Code a stage's blocks."""
        for i in range(1, depth + 1):
            name, stride = f"conv{stage}_{i}", 2 if i == 1 and stage > 2 else 1
            code = functools.partial(self.layer, positions=positions)
            carried = code(f"{name}.shortcut", x, stride=stride) if i == 1 else x
            y = _relu(code(f"{name}.conv1", x, stride=stride))
            y = _relu(code(f"{name}.conv2", y, size=3))
            y = code(f"{name}.conv3", y, lacking=carried.exact - carried.coded)
            x = _relu(Pair(carried.exact + y.exact, carried.coded + y.coded))
            error = np.linalg.norm(x.coded - x.exact) / np.linalg.norm(x.exact)
            print(f"  coded {name}: {error:.2%} on the photographs that it is fitted on", flush=True)
        return x

    def layer(
        self,
        name: str,
        x: Pair,
        *,
        positions: int,
        size: int = 1,
        stride: int = 1,
        lacking: np.ndarray | None = None,
    ) -> Pair:
        """Code a convolution, and return its normalized outputs.

        Args:
            name: Its name.
            x: Its inputs.
            positions: How many it is fitted on.
            size: Of its kernel.
            stride: Its stride.
            lacking: What its normalized outputs should have in addition.
        """
        outputs = _convolve(x.exact, self.exact[f"{name}.kernel"], stride)
        if self.in_16_bits(name):
            self.store_16_bits(name)
        else:
            self._fit(name, outputs, *_windows(x.coded, size, stride, positions, self.random), lacking)
        coded = _convolve(x.coded, self.decoded[f"{name}.kernel"], stride)
        sides = ((outputs, self.exact), (coded, self.decoded))
        return Pair(*(_normalized(y, name, side, self.epsilon) for y, side in sides))

    def _fit(self, name: str, outputs: np.ndarray, inputs: np.ndarray, places: Any, lacking: np.ndarray | None) -> None:
        wanted = outputs[places].astype(np.float64)
        if lacking is not None:
            scale, variance = self.exact[f"{name}.norm.scale"], self.exact[f"{name}.norm.variance"]
            factor = scale / np.sqrt(variance + self.epsilon)
            steady = np.abs(factor) > LEAST_FACTOR * np.abs(factor).mean()
            wanted += np.where(steady, lacking[places] / np.where(steady, factor, 1), 0)
        self._store(name, _fitted(self.exact[f"{name}.kernel"], inputs, wanted, f"{name}.kernel", self.care))
        decoded = self.decoded[f"{name}.kernel"]
        rest = (wanted - inputs @ decoded.reshape(-1, decoded.shape[3])).mean(0)
        mean = (self.exact[f"{name}.norm.mean"] - rest).astype(np.float32)
        self.coded[f"{name}.norm.mean"] = self.decoded[f"{name}.norm.mean"] = mean

    def store_16_bits(self, name: str) -> None:
        """Keep a kernel in 16 bits."""
        self._store(name, {f"{name}.kernel": self.exact[f"{name}.kernel"].astype(np.float16)})

    def _store(self, name: str, coded: Tensors) -> None:
        self.coded |= coded
        self.decoded[f"{name}.kernel"] = dequantize(coded)[f"{name}.kernel"]

    def last_inputs(self, images: np.ndarray) -> Iterator[Pair]:
        """Yield what the last stage is given, in batches."""
        for batch in np.array_split(images, -(-len(images) // 32)):
            yield Pair(*(_until_last(batch, side) for side in (self.exact, self.decoded)))


def _fitted(kernel: np.ndarray, inputs: np.ndarray, outputs: np.ndarray, key: str, care: Care) -> Tensors:
    """Return the tensors that stand for a kernel: steps 1 and 2 of this module's method."""
    original = kernel.reshape(-1, kernel.shape[3]).astype(np.float64)
    hessian = inputs.T @ inputs / len(inputs)
    unit = np.diag(hessian).mean() * np.eye(len(hessian))
    pull = inputs.T @ (outputs - inputs @ original) / len(inputs)
    refitted = original + np.linalg.solve(hessian + care.ridge * unit, pull)
    step = _steps(refitted.reshape(kernel.shape).astype(np.float32), care)
    wide = np.broadcast_to(step, kernel.shape).reshape(original.shape).astype(np.float64)
    codes = _rounded(refitted, hessian + care.damping * unit, wide)
    return {key: codes.reshape(kernel.shape), f"{key}.step": step}


def _steps(kernel: np.ndarray, care: Care) -> np.ndarray:
    """Return the steps of each output channel, or of each place and output channel."""
    if not care.by_tap:
        return quantize({"k": kernel}, channel_axis=3)["k.step"]
    rows = [[quantize({"k": tap[None, None]}, channel_axis=3)["k.step"] for tap in row] for row in kernel]
    return np.concatenate([np.concatenate(row, 1) for row in rows])


def _rounded(weights: np.ndarray, hessian: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Round weights (inputs, outputs) to whole steps by GPTQ, the inputs with the largest mean square first."""
    order = np.argsort(-np.diag(hessian))
    weights, step = weights[order], step[order]
    upper = np.linalg.cholesky(np.linalg.inv(hessian[order][:, order])).T
    codes = np.zeros(weights.shape, np.int8)
    for start in range(0, len(weights), BLOCK):
        end = min(start + BLOCK, len(weights))
        errors = np.zeros((end - start, weights.shape[1]))
        for i in range(start, end):
            codes[i] = np.clip(np.rint(weights[i] / step[i]), -127, 127)
            errors[i - start] = (weights[i] - codes[i] * step[i]) / upper[i, i]
            weights[i:end] -= upper[i, i:end, None] * errors[i - start]
        weights[end:] -= upper[start:end, end:].T @ errors
    return codes[np.argsort(order)]


def _windows(x: np.ndarray, size: int, stride: int, count: int, random: np.random.Generator) -> tuple[Any, Any]:
    """Return what `count` random positions of a convolution see (positions, inputs), and where they are."""
    pad = size // 2
    batch, height, width = len(x), *(-(-side // stride) for side in x.shape[1:3])
    chosen = np.sort(random.permutation(batch * height * width)[:count])
    image, row, column = np.unravel_index(chosen, (batch, height, width))
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    taps = [padded[image, row * stride + i, column * stride + j] for i in range(size) for j in range(size)]
    return np.concatenate(taps, 1).astype(np.float64), (image, row, column)


def _until_last(images: np.ndarray, side: Tensors) -> np.ndarray:
    """Return the activations before the last stage of one network."""
    x = _max_pool(_rectified(_unit("conv1", images, side, 2)))
    for stage, depth in ((2, 3), (3, 4), (4, 6)):
        for i in range(1, depth + 1):
            name, stride = f"conv{stage}_{i}", 2 if i == 1 and stage > 2 else 1
            carried = _unit(f"{name}.shortcut", x, side, stride) if i == 1 else x
            y = _rectified(_unit(f"{name}.conv1", x, side, stride))
            y = _rectified(_unit(f"{name}.conv2", y, side, 1))
            x = _rectified(carried + _unit(f"{name}.conv3", y, side, 1))
    return x


def _unit(name: str, x: np.ndarray, side: Tensors, stride: int) -> np.ndarray:
    return _normalized(_convolve(x, side[f"{name}.kernel"], stride), name, side)


def _normalized(x: np.ndarray, name: str, side: Tensors, epsilon: float = EPSILON) -> np.ndarray:
    scale, bias, mean, variance = (side[f"{name}.norm.{part}"] for part in ("scale", "bias", "mean", "variance"))
    return (x - mean) * (scale / np.sqrt(variance + epsilon)) + bias


def _convolve(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    parts = np.array_split(x, -(-len(x) // 16))
    return np.concatenate([np.asarray(_correlate(part, kernel, stride=stride)) for part in parts])


@functools.partial(jax.jit, static_argnames="stride")
def _correlate(x: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
    pad = kernel.shape[0] // 2
    return Compute().convolve(x, kernel, stride=stride, padding=((pad, pad), (pad, pad)))


def _rectified(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def _relu(x: Pair) -> Pair:
    return Pair(*map(_rectified, x))


def _pooled(x: Pair) -> Pair:
    return Pair(*map(_max_pool, x))


def _max_pool(x: np.ndarray) -> np.ndarray:
    window, strides, padding = (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0))
    return np.asarray(lax.reduce_window(x, -np.inf, lax.max, window, strides, padding))
