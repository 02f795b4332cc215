"""Inputs that the reference values and the tests share, in NumPy only: weights, pictures, sampled positions.

The weights have the keys and the layout of torchvision (convolutions `OIHW`), so whoever reads them exercises
the same conversion as a downloaded checkpoint. Every array depends on the seed and its own key alone.
"""

import zlib
from collections.abc import Iterator

import numpy as np

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
# A residual stream adds one branch per block; half-size branches keep its activations below about 10.
BRANCH_SCALE = 0.5


def _convolution(key: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    # He et al. 2015, eq. 10, in its fan-out form: what torchvision's constructors draw.
    output, _, height, width = shape
    deviation = np.sqrt(2.0 / (output * height * width))
    return (_generator(key, seed).standard_normal(shape) * deviation).astype(np.float32)


def _generator(key: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(key.encode())])


def _batch_norm(prefix: str, channels: int, seed: int, *, scale: float = 1.0) -> Iterator[tuple[str, np.ndarray]]:
    ranges = {
        "weight": (0.7 * scale, 1.3 * scale),
        "bias": (-0.2, 0.2),
        "running_mean": (-0.3, 0.3),
        "running_var": (0.5, 2.0),
    }
    for name, (low, high) in ranges.items():
        key = f"{prefix}.{name}"
        yield key, _generator(key, seed).uniform(low, high, channels).astype(np.float32)


def _with_bias(key: str, shape: tuple[int, ...], seed: int) -> Iterator[tuple[str, np.ndarray]]:
    yield f"{key}.weight", _convolution(f"{key}.weight", shape, seed)
    yield f"{key}.bias", _generator(f"{key}.bias", seed).uniform(-0.1, 0.1, shape[0]).astype(np.float32)


def _vgg(plan: tuple[int | str, ...], seed: int) -> Iterator[tuple[str, np.ndarray]]:
    index, channels = 0, 3
    for step in plan:
        if isinstance(step, str):
            index += 1
            continue
        yield from _with_bias(f"features.{index}", (step, channels, 3, 3), seed)
        index, channels = index + 2, step


def _alexnet(seed: int) -> Iterator[tuple[str, np.ndarray]]:
    for place, outputs, inputs, size in ALEXNET_PLAN:
        yield from _with_bias(f"features.{place}", (outputs, inputs, size, size), seed)


def _block(prefix: str, inputs: int, width: int, outputs: int, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    shapes = ((width, inputs, 1, 1), (width, width, 3, 3), (outputs, width, 1, 1))
    for number, shape in enumerate(shapes, start=1):
        key = f"{prefix}.conv{number}.weight"
        yield key, _convolution(key, shape, seed)
        scale = BRANCH_SCALE if number == len(shapes) else 1.0
        yield from _batch_norm(f"{prefix}.bn{number}", shape[0], seed, scale=scale)
    if inputs != outputs:
        key = f"{prefix}.downsample.0.weight"
        yield key, _convolution(key, (outputs, inputs, 1, 1), seed)
        yield from _batch_norm(f"{prefix}.downsample.1", outputs, seed)


def _resnet(seed: int, width_factor: int) -> Iterator[tuple[str, np.ndarray]]:
    yield "conv1.weight", _convolution("conv1.weight", (64, 3, 7, 7), seed)
    yield from _batch_norm("bn1", 64, seed)
    inputs = 64
    for stage, blocks in enumerate(BLOCKS):
        planes = 64 * 2**stage
        for block in range(blocks):
            prefix = f"layer{stage + 1}.{block}"
            yield from _block(prefix, inputs, planes * width_factor, planes * EXPANSION, seed)
            inputs = planes * EXPANSION


def random_weights(backbone: str, seed: int) -> dict[str, np.ndarray]:
    """Draw the weights of one backbone, without its classifier, in torchvision's layout.

    Args:
        backbone: `"vgg19"`, `"vgg16"`, `"alexnet"`, `"resnet50"` or `"wide_resnet50_2"`.
        seed: Of every array, together with the array's key.

    Returns:
        float32 arrays by torchvision key; batch normalizations have random scales, biases and statistics.
    """
    if backbone in VGG_PLANS:
        return dict(_vgg(VGG_PLANS[backbone], seed))
    if backbone == "alexnet":
        return dict(_alexnet(seed))
    return dict(_resnet(seed, WIDTH_FACTORS[backbone]))


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
    """Draw a float32 picture of shape `height width 3` in [0, 1]: four waves per color, plus noise."""
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
