"""Small made-up networks: the names and axes of the real ones, a few channels each."""

from dataclasses import dataclass

import numpy as np
import pytest
from safetensors.numpy import save_file

VGG19_PLACES = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
VGG19_LAYERS = (
    *("conv1_1", "conv1_2", "conv2_1", "conv2_2"),
    *("conv3_1", "conv3_2", "conv3_3", "conv3_4"),
    *("conv4_1", "conv4_2", "conv4_3", "conv4_4"),
    *("conv5_1", "conv5_2", "conv5_3", "conv5_4"),
)
NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "variance": "running_var"}


@dataclass
class Network:
    """Expected shapes by our names, and a checkpoint in torchvision's names and axes that fits them."""

    backbone: str
    expected: dict[str, tuple[int, ...]]
    names: dict[str, str]
    foreign: dict[str, np.ndarray]

    def ours(self, name):
        """What the parameter `name` must become."""
        value = self.foreign[self.names[name]].astype(np.float32)
        return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value

    def save(self, path, **metadata):
        save_file({key: np.ascontiguousarray(value) for key, value in self.foreign.items()}, path, metadata)
        return path


def _network(backbone, shapes, names):
    rng = np.random.default_rng(0)
    foreign = {}
    for name, shape in shapes.items():
        value = rng.standard_normal(shape).astype(np.float32)
        foreign[names[name]] = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
    return Network(backbone, shapes, names, foreign)


@pytest.fixture
def vgg():
    """VGG19 with 2 to 6 channels."""
    shapes, names, channels = {}, {}, 3
    for layer, place in zip(VGG19_LAYERS, VGG19_PLACES, strict=True):
        width = int(layer[4]) + 1
        shapes[f"{layer}.kernel"], shapes[f"{layer}.bias"] = (3, 3, channels, width), (width,)
        names[f"{layer}.kernel"], names[f"{layer}.bias"] = (
            f"features.{place}.weight",
            f"features.{place}.bias",
        )
        channels = width
    return _network("vgg19", shapes, names)


@pytest.fixture
def resnet():
    """A bottleneck ResNet with stages of 1, 2, 1 and 1 blocks and 2 channels, in torchvision's names."""
    shapes, names = {}, {}

    def add(ours, conv, norm, shape):
        shapes[f"{ours}.kernel"], names[f"{ours}.kernel"] = shape, f"{conv}.weight"
        for field, foreign in NORM.items():
            shapes[f"{ours}.norm.{field}"] = (shape[-1],)
            names[f"{ours}.norm.{field}"] = f"{norm}.{foreign}"

    add("conv1", "conv1", "bn1", (7, 7, 3, 2))
    channels = 2
    for stage, depth in enumerate((1, 2, 1, 1), 1):
        for block in range(depth):
            ours, theirs = f"conv{stage + 1}_{block + 1}", f"layer{stage}.{block}"
            sides = ((1, channels, 2), (3, 2, 2), (1, 2, 8))
            for i, (side, before, after) in enumerate(sides, 1):
                shape = (side, side, before, after)
                add(f"{ours}.conv{i}", f"{theirs}.conv{i}", f"{theirs}.bn{i}", shape)
            if block == 0:
                shortcut = (1, 1, channels, 8)
                add(f"{ours}.shortcut", f"{theirs}.downsample.0", f"{theirs}.downsample.1", shortcut)
            channels = 8
    return _network("resnet50", shapes, names)


def _units(backbone, units):
    """A network of `BasicConv2d`: (our name, torchvision's, kernel)."""
    shapes, names = {}, {}
    for ours, theirs, shape in units:
        shapes[f"{ours}.kernel"], names[f"{ours}.kernel"] = shape, f"{theirs}.conv.weight"
        for field, foreign in NORM.items():
            shapes[f"{ours}.norm.{field}"] = (shape[-1],)
            names[f"{ours}.norm.{field}"] = f"{theirs}.bn.{foreign}"
    return _network(backbone, shapes, names)


@pytest.fixture
def googlenet():
    """GoogLeNet down to its second block, with 2 channels a branch."""
    units = [("conv1", "conv1", (7, 7, 3, 2)), ("conv2", "conv2", (1, 1, 2, 2)), ("conv3", "conv3", (3, 3, 2, 8))]
    for block in ("inception3a", "inception3b"):
        for ours, theirs, side, before in (
            ("branch1", "branch1", 1, 8),
            ("branch2_1", "branch2.0", 1, 8),
            ("branch2_2", "branch2.1", 3, 2),
            ("branch3_1", "branch3.0", 1, 8),
            ("branch3_2", "branch3.1", 3, 2),
            ("branch4", "branch4.1", 1, 8),
        ):
            units.append((f"{block}.{ours}", f"{block}.{theirs}", (side, side, before, 2)))
    return _units("googlenet", units)


@pytest.fixture
def inception():
    """Some of Inception v3, with 2 channels everywhere."""
    return _units(
        "inception_v3",
        [
            ("conv1a", "Conv2d_1a_3x3", (3, 3, 3, 2)),
            ("conv3b", "Conv2d_3b_1x1", (1, 1, 2, 2)),
            ("mixed5b.branch5x5_2", "Mixed_5b.branch5x5_2", (5, 5, 2, 2)),
            ("mixed6b.branch7x7dbl_3", "Mixed_6b.branch7x7dbl_3", (1, 7, 2, 2)),
            ("mixed7c.branch3x3_2b", "Mixed_7c.branch3x3_2b", (3, 1, 2, 2)),
            ("mixed7c.branch_pool", "Mixed_7c.branch_pool", (1, 1, 2, 2)),
        ],
    )


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    """A store of its own for every test."""
    monkeypatch.setenv("SWAG_JAX_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "weights"
