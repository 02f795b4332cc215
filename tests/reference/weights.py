"""Inputs that the reference values and the tests share, in NumPy only: weights, images, sampled positions.

The weights have the keys and the layout of torchvision (convolutions `OIHW`), so whoever reads them exercises
the same conversion as a downloaded checkpoint; networks that torchvision lacks have this package's (`HWIO`). Every
array depends on the seed and its own key alone.
"""

import functools
import zlib
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

Shape: TypeAlias = tuple[int, ...]
Weights: TypeAlias = Iterator[tuple[str, np.ndarray]]

# The output channels of a VGG's convolutions; "M" is a 2x2 pooling. Simonyan and Zisserman 2015, table 1, E and D.
VGG_PLANS: dict[str, tuple[int | str, ...]] = {
    "vgg19": (*(64, 64, "M", 128, 128, "M", *[256] * 4, "M"), *(*[512] * 4, "M", *[512] * 4, "M")),
    "vgg16": (*(64, 64, "M", 128, 128, "M", *[256] * 3, "M"), *(*[512] * 3, "M", *[512] * 3, "M")),
}
# Position in torchvision's `alexnet().features`, output and input channels and kernel size of its convolutions.
ALEXNET_PLAN = ((0, 64, 3, 11), (3, 192, 64, 5), (6, 384, 192, 3), (8, 256, 384, 3), (10, 256, 256, 3))
# Blocks by stage of the 50-layer networks: He et al. 2016, table 1.
BLOCKS = (3, 4, 6, 3)
# The width of the 3x3 convolution relative to ResNet50: Zagoruyko and Komodakis 2016, as in torchvision.
WIDTH_FACTORS = {"resnet50": 1, "wide_resnet50_2": 2}
EXPANSION = 4
# How the networks that SWAG compares differ from ResNet50; the depths of the pseudo networks are our choice.
SWITCHES: dict[str, dict[str, object]] = {
    "no_resnet50": {"residual": False},
    "pseudo_vgg": {"residual": False, "block": "basic", "downsampling": "pool", "stem": "3x3"},
    "pseudo_resvgg": {"block": "basic", "downsampling": "pool", "stem": "3x3"},
    "preact_resnet50": {"pre_relu": True},
}
# Channels of GoogLeNet's blocks: input, 1x1, 3x3 reduced, 3x3, "5x5" reduced, "5x5" (3x3 in torchvision), pool
# projection. Szegedy et al. 2015, table 1.
GOOGLENET: dict[str, tuple[int, ...]] = {
    "inception3a": (192, 64, 96, 128, 16, 32, 32),
    "inception3b": (256, 128, 128, 192, 32, 96, 64),
    "inception4a": (480, 192, 96, 208, 16, 48, 64),
    "inception4b": (512, 160, 112, 224, 24, 64, 64),
    "inception4c": (512, 128, 128, 256, 24, 64, 64),
    "inception4d": (512, 112, 144, 288, 32, 64, 64),
    "inception4e": (528, 256, 160, 320, 32, 128, 128),
    "inception5a": (832, 256, 160, 320, 32, 128, 128),
    "inception5b": (832, 384, 192, 384, 48, 128, 128),
}
# Kind, input channels and what differs within a kind of Inception v3's blocks: torchvision/models/inception.py.
INCEPTION_V3: dict[str, tuple[str, int, int]] = {
    "Mixed_5b": ("A", 192, 32),
    "Mixed_5c": ("A", 256, 64),
    "Mixed_5d": ("A", 288, 64),
    "Mixed_6a": ("B", 288, 0),
    "Mixed_6b": ("C", 768, 128),
    "Mixed_6c": ("C", 768, 160),
    "Mixed_6d": ("C", 768, 160),
    "Mixed_6e": ("C", 768, 192),
    "Mixed_7a": ("D", 768, 0),
    "Mixed_7b": ("E", 1280, 0),
    "Mixed_7c": ("E", 2048, 0),
}
# A residual stream adds one branch per block; half-size branches keep its activations below about 10.
BRANCH_SCALE = 0.5


def _convolution(key: str, shape: Shape, seed: int) -> np.ndarray:
    # He et al. 2015, eq. 10, in its fan-out form: what torchvision's constructors draw.
    output, _, height, width = shape
    deviation = np.sqrt(2.0 / (output * height * width))
    return (_generator(key, seed).standard_normal(shape) * deviation).astype(np.float32)


def _generator(key: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(key.encode())])


def _batch_norm(prefix: str, channels: int, seed: int, *, scale: float = 1.0) -> Weights:
    ranges = {
        "weight": (0.7 * scale, 1.3 * scale),
        "bias": (-0.2, 0.2),
        "running_mean": (-0.3, 0.3),
        "running_var": (0.5, 2.0),
    }
    for name, (low, high) in ranges.items():
        key = f"{prefix}.{name}"
        yield key, _generator(key, seed).uniform(low, high, channels).astype(np.float32)


def _with_bias(key: str, shape: Shape, seed: int) -> Weights:
    yield f"{key}.weight", _convolution(f"{key}.weight", shape, seed)
    yield f"{key}.bias", _generator(f"{key}.bias", seed).uniform(-0.1, 0.1, shape[0]).astype(np.float32)


def _vgg(plan: tuple[int | str, ...], seed: int) -> Weights:
    index, channels = 0, 3
    for step in plan:
        if isinstance(step, str):
            index += 1
            continue
        yield from _with_bias(f"features.{index}", (step, channels, 3, 3), seed)
        index, channels = index + 2, step


def _alexnet(seed: int) -> Weights:
    for place, outputs, inputs, size in ALEXNET_PLAN:
        yield from _with_bias(f"features.{place}", (outputs, inputs, size, size), seed)


def _block(prefix: str, inputs: int, shapes: tuple[Shape, ...], seed: int) -> Weights:
    for number, shape in enumerate(shapes, start=1):
        key = f"{prefix}.conv{number}.weight"
        yield key, _convolution(key, shape, seed)
        scale = BRANCH_SCALE if number == len(shapes) else 1.0
        yield from _batch_norm(f"{prefix}.bn{number}", shape[0], seed, scale=scale)
    outputs = shapes[-1][0]
    if inputs != outputs:
        key = f"{prefix}.downsample.0.weight"
        yield key, _convolution(key, (outputs, inputs, 1, 1), seed)
        yield from _batch_norm(f"{prefix}.downsample.1", outputs, seed)


def _stem(seed: int) -> Weights:
    yield "conv1.weight", _convolution("conv1.weight", (64, 3, 7, 7), seed)
    yield from _batch_norm("bn1", 64, seed)


def _resnet(seed: int, width_factor: int) -> Weights:
    yield from _stem(seed)
    inputs = 64
    for stage, blocks in enumerate(BLOCKS):
        width, outputs = 64 * 2**stage * width_factor, 64 * 2**stage * EXPANSION
        for block in range(blocks):
            shapes = (width, inputs, 1, 1), (width, width, 3, 3), (outputs, width, 1, 1)
            yield from _block(f"layer{stage + 1}.{block}", inputs, shapes, seed)
            inputs = outputs


def _resnet18(seed: int) -> Weights:
    yield from _stem(seed)
    inputs = 64
    for stage in range(4):
        width = 64 * 2**stage
        for block in range(2):
            shapes = (width, inputs, 3, 3), (width, width, 3, 3)
            yield from _block(f"layer{stage + 1}.{block}", inputs, shapes, seed)
            inputs = width


def _native(key: str, shape: Shape, seed: int, *, scale: float, norm: bool) -> Weights:
    """Draw one convolution of `outputs inputs side side` under this package's names, with a batch norm or a bias."""
    names = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "variance"}
    factor = 1.0 if norm else scale
    kernel = factor * _convolution(f"{key}.kernel", shape, seed)
    yield f"{key}.kernel", np.ascontiguousarray(kernel.transpose(2, 3, 1, 0), np.float32)
    if norm:
        for name, array in _batch_norm(f"{key}.norm", shape[0], seed, scale=scale):
            yield f"{key}.norm.{names[name.rpartition('.')[2]]}", array
    else:
        yield f"{key}.bias", _generator(f"{key}.bias", seed).uniform(-0.1, 0.1, shape[0]).astype(np.float32)


def _residual(
    seed: int,
    *,
    residual: bool = True,
    pre_relu: bool = False,
    block: str = "bottleneck",
    kernel_size: int = 3,
    depths: tuple[int, ...] = BLOCKS,
    batch_norm: bool = True,
    downsampling: str = "stride",
    stem: str = "7x7",
    channels: int = 64,
    width: int | None = None,
) -> Weights:
    """Draw the weights of any residual network, by the switches that its class in this package has."""
    draw = functools.partial(_native, seed=seed, norm=batch_norm)
    side, k = int(stem[0]), kernel_size
    yield from draw("conv1", (channels, 3, side, side), scale=1.0)
    inputs = channels
    for stage, blocks in enumerate(depths):
        inner, outputs = (width or channels) * 2**stage, channels * 2**stage * (1 if block == "basic" else EXPANSION)
        for number in range(blocks):
            prefix = f"conv{stage + 2}_{number + 1}"
            basic = (inner, inputs, k, k), (outputs, inner, k, k)
            bottleneck = (inner, inputs, 1, 1), (inner, inner, k, k), (outputs, inner, 1, 1)
            shapes = basic if block == "basic" else bottleneck
            for i, shape in enumerate(shapes, start=1):
                scale = BRANCH_SCALE if residual and i == len(shapes) else 1.0
                yield from draw(f"{prefix}.conv{i}", shape, scale=scale)
            strided = number == 0 and downsampling == "stride" and (stage > 0 or stem == "3x3")
            if residual and (strided or inputs != outputs):
                yield from draw(f"{prefix}.shortcut", (outputs, inputs, 1, 1), scale=1.0)
            inputs = outputs


def _unit(prefix: str, shape: Shape, seed: int) -> Weights:
    """Draw torchvision's `BasicConv2d`."""
    yield f"{prefix}.conv.weight", _convolution(f"{prefix}.conv.weight", shape, seed)
    yield from _batch_norm(f"{prefix}.bn", shape[0], seed)


def _googlenet(seed: int) -> Weights:
    for name, shape in {"conv1": (64, 3, 7, 7), "conv2": (64, 64, 1, 1), "conv3": (192, 64, 3, 3)}.items():
        yield from _unit(name, shape, seed)
    for name, (inputs, one, three_reduced, three, five_reduced, five, pool) in GOOGLENET.items():
        shapes = {
            "branch1": (one, inputs, 1, 1),
            "branch2.0": (three_reduced, inputs, 1, 1),
            "branch2.1": (three, three_reduced, 3, 3),
            "branch3.0": (five_reduced, inputs, 1, 1),
            "branch3.1": (five, five_reduced, 3, 3),
            "branch4.1": (pool, inputs, 1, 1),
        }
        for branch, shape in shapes.items():
            yield from _unit(f"{name}.{branch}", shape, seed)


def _inception_shapes(kind: str, inputs: int, size: int) -> dict[str, tuple[int, int, int, int]]:
    """Return the kernels of one of Inception v3's blocks, `outputs inputs height width`."""
    double = {"branch3x3dbl_1": (64, inputs, 1, 1), "branch3x3dbl_2": (96, 64, 3, 3), "branch3x3dbl_3": (96, 96, 3, 3)}
    if kind == "A":
        one = {"branch1x1": (64, inputs, 1, 1), "branch5x5_1": (48, inputs, 1, 1), "branch5x5_2": (64, 48, 5, 5)}
        return {**one, **double, "branch_pool": (size, inputs, 1, 1)}
    if kind == "B":
        return {"branch3x3": (384, inputs, 3, 3), **double}
    if kind == "C":
        return {
            "branch1x1": (192, inputs, 1, 1),
            "branch7x7_1": (size, inputs, 1, 1),
            "branch7x7_2": (size, size, 1, 7),
            "branch7x7_3": (192, size, 7, 1),
            "branch7x7dbl_1": (size, inputs, 1, 1),
            "branch7x7dbl_2": (size, size, 7, 1),
            "branch7x7dbl_3": (size, size, 1, 7),
            "branch7x7dbl_4": (size, size, 7, 1),
            "branch7x7dbl_5": (192, size, 1, 7),
            "branch_pool": (192, inputs, 1, 1),
        }
    if kind == "D":
        return {
            "branch3x3_1": (192, inputs, 1, 1),
            "branch3x3_2": (320, 192, 3, 3),
            "branch7x7x3_1": (192, inputs, 1, 1),
            "branch7x7x3_2": (192, 192, 1, 7),
            "branch7x7x3_3": (192, 192, 7, 1),
            "branch7x7x3_4": (192, 192, 3, 3),
        }
    return {
        "branch1x1": (320, inputs, 1, 1),
        "branch3x3_1": (384, inputs, 1, 1),
        "branch3x3_2a": (384, 384, 1, 3),
        "branch3x3_2b": (384, 384, 3, 1),
        "branch3x3dbl_1": (448, inputs, 1, 1),
        "branch3x3dbl_2": (384, 448, 3, 3),
        "branch3x3dbl_3a": (384, 384, 1, 3),
        "branch3x3dbl_3b": (384, 384, 3, 1),
        "branch_pool": (192, inputs, 1, 1),
    }


def _inception_v3(seed: int) -> Weights:
    stem = {"1a_3x3": (32, 3), "2a_3x3": (32, 32), "2b_3x3": (64, 32), "3b_1x1": (80, 64), "4a_3x3": (192, 80)}
    for name, channels in stem.items():
        yield from _unit(f"Conv2d_{name}", (*channels, int(name[-1]), int(name[-1])), seed)
    for name, block in INCEPTION_V3.items():
        for branch, shape in _inception_shapes(*block).items():
            yield from _unit(f"{name}.{branch}", shape, seed)


def random_weights(backbone: str, seed: int, **switches: Any) -> dict[str, np.ndarray]:
    """Draw the weights of one backbone, without its classifier.

    Args:
        backbone: One of the networks above.
        seed: Of every array, together with the array's key.
        **switches: What makes another residual network of `"resnet50"`.

    Returns:
        float32 arrays by torchvision's keys, or by this package's for networks that torchvision lacks; batch
        normalizations have random scales, biases and statistics.
    """
    if switches or backbone in SWITCHES:
        chosen: dict[str, Any] = {**SWITCHES.get(backbone, {}), **switches}
        chosen.pop("version", None)  # where a stride sits; no shape depends on it
        return dict(_residual(seed, **chosen))
    if backbone in WIDTH_FACTORS:
        return dict(_resnet(seed, WIDTH_FACTORS[backbone]))
    if backbone in VGG_PLANS:
        return dict(_vgg(VGG_PLANS[backbone], seed))
    others = {"alexnet": _alexnet, "resnet18": _resnet18, "googlenet": _googlenet, "inception_v3": _inception_v3}
    return dict(others[backbone](seed))


# Where the published checkpoints of AdaIN, SANet and AdaAttN keep their convolutions: places in a Sequential.
ENCODER_PLACES = (2, 5, 9, 12, 16, 19, 22, 25, 29, 32, 35, 38, 42, 45, 48, 51)
ADAIN_PLACES = (1, 5, 8, 11, 14, 18, 21, 25, 28)
ADAATTN_PLACES = (1, 4, 7, 10, 14, 17, 21, 24)
DECODER_CHANNELS = (512, 256, 256, 256, 256, 128, 128, 64, 64, 3)


def _default(key: str, shape: tuple[int, ...], seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Draw a convolution with its bias as PyTorch does, uniformly within 1 / sqrt(fan-in)."""
    bound = 1 / np.sqrt(np.prod(shape[1:]))
    for name, size in ((f"{key}.weight", shape), (f"{key}.bias", shape[:1])):
        yield name, _generator(name, seed).uniform(-bound, bound, size).astype(np.float32)


def _chain(keys: list[str], channels: tuple[int, ...], seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Draw 3x3 convolutions that keep the scale of their input."""
    for key, inputs, outputs in zip(keys, channels[:-1], channels[1:], strict=True):
        yield f"{key}.weight", _convolution(f"{key}.weight", (outputs, inputs, 3, 3), seed)
        yield f"{key}.bias", _generator(f"{key}.bias", seed).uniform(-0.1, 0.1, outputs).astype(np.float32)


def _encoder(seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Draw AdaIN's VGG19: its first convolution is no chance but the preprocessing of Caffe's networks."""
    yield "0.weight", np.float32([[0, 0, 255], [0, 255, 0], [255, 0, 0]]).reshape(3, 3, 1, 1)
    yield "0.bias", np.float32([-103.939, -116.779, -123.68])
    channels = (3, *(step for step in VGG_PLANS["vgg19"] if isinstance(step, int)))
    for key, value in _chain([str(place) for place in ENCODER_PLACES], channels, seed):
        yield key, value / np.float32(128 if key == "2.weight" else 1)


def _attention(prefix: str, channels: int, width: int, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    for name, size in (("f", width), ("g", width), ("h", channels)):
        yield from _default(f"{prefix}{name}", (size, size, 1, 1), seed)


def _adaattn_transformer(seed: int) -> Iterator[tuple[str, np.ndarray]]:
    yield from _attention("attn_adain_4_1.", 512, 960, seed)
    yield from _attention("attn_adain_5_1.", 512, 1472, seed)
    yield from _default("merge_conv", (512, 512, 3, 3), seed)


def _sanet_transformer(seed: int) -> Iterator[tuple[str, np.ndarray]]:
    for name in ("sanet4_1", "sanet5_1"):
        yield from _attention(f"{name}.", 512, 512, seed)
        yield from _default(f"{name}.out_conv", (512, 512, 1, 1), seed)
    yield from _default("merge_conv", (512, 512, 3, 3), seed)


def _adaattn_decoder(seed: int) -> Iterator[tuple[str, np.ndarray]]:
    yield from _chain(["decoder_layer_1.1"], DECODER_CHANNELS[:2], seed)
    keys = [f"decoder_layer_2.{place}" for place in ADAATTN_PLACES]
    yield from _chain(keys[:1], (512, 256), seed)
    yield from _chain(keys[1:], DECODER_CHANNELS[2:], seed)


def _johnson(seed: int) -> Iterator[tuple[str, np.ndarray]]:
    layers = {"down1": (32, 3, 9), "down2": (64, 32, 3), "down3": (128, 64, 3)}
    layers |= {f"block{i}.conv{j}": (128, 128, 3) for i in range(1, 6) for j in (1, 2)}
    layers |= {"up1": (64, 128, 3), "up2": (32, 64, 3)}
    for key, (outputs, inputs, size) in layers.items():
        yield from _default(f"{key}.conv", (outputs, inputs, size, size), seed)
        for name, (low, high) in {"weight": (0.5, 1.5), "bias": (-0.5, 0.5)}.items():
            full = f"{key}.norm.{name}"
            yield full, _generator(full, seed).uniform(low, high, outputs).astype(np.float32)
    yield from _default("output.conv", (3, 32, 9, 9), seed)


def transformer_weights(seed: int) -> dict[str, np.ndarray]:
    """Return the weights of `johnson` in the keys of pytorch/examples, with the statistics that old files have."""
    places = {f"down{i}": (f"conv{i}", f"in{i}") for i in (1, 2, 3)}
    places |= {f"block{i}.conv{j}": (f"res{i}.conv{j}", f"res{i}.in{j}") for i in range(1, 6) for j in (1, 2)}
    places |= {f"up{i}": (f"deconv{i}", f"in{i + 3}") for i in (1, 2)} | {"output": ("deconv3", "")}
    found: dict[str, np.ndarray] = {}
    for key, value in _johnson(seed):
        module, part, field = key.rsplit(".", 2)
        convolution, norm = places[module]
        found[f"{convolution}.conv2d.{field}" if part == "conv" else f"{norm}.{field}"] = value
        if part == "norm":
            found |= {f"{norm}.running_{name}": np.full_like(value, 7) for name in ("mean", "var")}
    return found


def generator_weights(name: str, seed: int) -> dict[str, np.ndarray]:
    """Draw the weights of one file of a generator, or of the encoder of AdaIN, SANet and AdaAttN, in its own layout.

    Args:
        name: `encoder`, `adain` (SANet's decoder too), `sanet_transformer`, `adaattn_transformer`, `adaattn_decoder`,
            `adaattn_3` (the video model's attention too), `video_decoder` or `johnson`.
        seed: Of every array, together with the array's key.
    """
    drawn = {
        "encoder": lambda: _encoder(seed),
        "adain": lambda: _chain([str(place) for place in ADAIN_PLACES], DECODER_CHANNELS, seed),
        "sanet_transformer": lambda: _sanet_transformer(seed),
        "adaattn_transformer": lambda: _adaattn_transformer(seed),
        "adaattn_decoder": lambda: _adaattn_decoder(seed),
        "adaattn_3": lambda: _attention("", 256, 448, seed),
        "video_decoder": lambda: _chain([f"decoder.{place}" for place in ADAATTN_PLACES], DECODER_CHANNELS[1:], seed),
        "johnson": lambda: _johnson(seed),
    }
    return dict(drawn[name]())


# Channels of the layers that LPIPS compares: lpips/lpips.py of richzhang/PerceptualSimilarity.
LPIPS_CHANNELS = {"alexnet": (64, 192, 384, 256, 256), "vgg16": (64, 128, 256, 512, 512)}


def linear_weights(trunk: str, seed: int) -> dict[str, np.ndarray]:
    """Draw LPIPS's linear weights in the lpips package's layout: not negative, as the released ones are."""
    shapes = {f"lin{i}.model.1.weight": (1, channels, 1, 1) for i, channels in enumerate(LPIPS_CHANNELS[trunk])}
    return {key: _generator(key, seed).uniform(0, 0.2, shape).astype(np.float32) for key, shape in shapes.items()}


def fingerprint(weights: dict[str, np.ndarray]) -> float:
    """Sum the magnitudes of all weights: tells weights that differ from networks that differ."""
    return float(sum(np.abs(array, dtype=np.float64).sum() for array in weights.values()))


def reference_image(height: int, width: int, seed: int) -> np.ndarray:
    """Draw a float32 image of shape `height width 3` in [0, 1]: four waves per color, plus noise."""
    generator = np.random.default_rng([seed, height, width])
    rows, columns = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    waves = np.zeros((height, width, 3))
    for _ in range(4):
        frequency = generator.uniform(-3, 3, (2, 3))
        phase = generator.uniform(0, 1, 3)
        angle = rows[..., None] * frequency[0] + columns[..., None] * frequency[1] + phase
        waves += 0.12 * np.sin(2 * np.pi * angle)
    noise = generator.uniform(-0.1, 0.1, (height, width, 3))
    return np.clip(0.5 + waves + noise, 0.0, 1.0).astype(np.float32)


def sample_positions(size: int, count: int) -> np.ndarray:
    """Spread `count` flat positions over an array of `size` entries, by multiples of the golden ratio."""
    fractions = np.modf(np.arange(count) * ((np.sqrt(5.0) - 1.0) / 2.0))[0]
    return (fractions * size).astype(np.int64)
