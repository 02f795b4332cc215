"""More networks in plain PyTorch, with every activation by name: ResNet18, SWAG's variants, Inceptions, EfficientNet.

Networks in addition to `benchmarks/torch_networks.py`, for reference values only. ResNet18 has torchvision's names.
The others take the shape of every convolution from the weights they are built for, so that the code says only how
these are connected.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
import torch_networks as networks  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn
from torch.nn import functional

from reference.weights import INCEPTION_V3


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut: torchvision/models/resnet.py."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Sequential | None = None
        if inputs != outputs or stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Compute the output of the block, after addition and ReLU."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(x + shortcut)


class ResNet18(networks.ResNet):
    """ResNet18 without its classifier: basic blocks in place of ResNet50's stages."""

    def __init__(self):
        super().__init__()
        inputs = 64
        for stage in range(4):
            outputs, stride = 64 * 2**stage, 1 if stage == 0 else 2
            blocks = BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1)
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
            inputs = outputs


class Unit(nn.Module):
    """A convolution of a given kernel, followed by its batch norm where it has one, else with a bias."""

    def __init__(self, shape: tuple[int, ...], *, stride: int, padded: bool, epsilon: float | None):
        super().__init__()
        outputs, inputs, height, width = shape
        padding = (height // 2, width // 2) if padded else 0
        self.conv = nn.Conv2d(inputs, outputs, (height, width), stride, padding, bias=epsilon is None)
        self.bn = nn.BatchNorm2d(outputs, eps=epsilon) if epsilon is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and normalize."""
        return self.bn(self.conv(x))


def add(parent: nn.Module, path: str, child: nn.Module) -> None:
    """Put a module at a path below another."""
    *folders, name = path.split(".")
    for folder in folders:
        if not hasattr(parent, folder):
            parent.add_module(folder, nn.Module())
        parent = parent.get_submodule(folder)
    parent.add_module(name, child)


class Residual(networks.Network):
    """Any residual network by its switches, under this package's names (see `Architecture` there)."""

    def __init__(
        self,
        weights: Mapping[str, np.ndarray],
        *,
        residual: bool = True,
        pre_relu: bool = False,
        downsampling: str = "stride",
        stem: str = "7x7",
        version: str = "v1.5",
        **_: object,
    ):
        super().__init__()
        self.version = version
        self.residual, self.pre_relu, self.downsampling, self.stem = residual, pre_relu, downsampling, stem
        paths = [key.removesuffix(".kernel") for key in weights if key.endswith(".kernel")]
        self.blocks = list(dict.fromkeys(path.split(".")[0] for path in paths[1:]))
        for path in paths:
            height, width, inputs, outputs = weights[f"{path}.kernel"].shape
            epsilon = 1e-5 if f"{path}.norm.scale" in weights else None
            stride = self._stride(path, [other for other in paths if other.startswith(path.split(".")[0] + ".")])
            add(self, path, Unit((outputs, inputs, height, width), stride=stride, padded=True, epsilon=epsilon))

    def _stride(self, path: str, block: list[str]) -> int:
        if path == "conv1":
            return 2 if self.stem == "7x7" else 1
        name, _, unit = path.partition(".")
        first = name.endswith("_1") and not self._pools(int(name[4]) - 1)
        strided = "conv2" if f"{name}.conv3" in block and self.version == "v1.5" else "conv1"
        return 2 if first and unit in (strided, "shortcut") else 1

    def _pools(self, stage: int) -> bool:
        return self.downsampling == "pool" or (stage == 1 and self.stem == "7x7")

    def walk(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield name and value of every activation, in order of depth."""
        x = self.get_submodule("conv1")(x)
        x = x if self.pre_relu else functional.relu(x)
        yield "conv1", functional.relu(x)
        for name in self.blocks:
            stage = int(name[4]) - 1
            if name.endswith("_1") and self._pools(stage):
                large = stage == 1 and self.stem == "7x7"
                x = functional.max_pool2d(x, 3, 2, 1) if large else functional.max_pool2d(x, 2)
                yield f"pool{stage}", functional.relu(x)
            x = self._block(dict(self.get_submodule(name).named_children()), x)
            yield name, functional.relu(x)

    def _block(self, units: dict[str, nn.Module], x: Tensor) -> Tensor:
        carried = units.pop("shortcut")(x) if "shortcut" in units else x
        y = functional.relu(x) if self.pre_relu else x
        for number, unit in enumerate(units.values(), start=1):
            y = unit(y) if number == len(units) else functional.relu(unit(y))
        y = carried + y if self.residual else y
        return y if self.pre_relu else functional.relu(y)


class Units(networks.Network):
    """A network of torchvision's `BasicConv2d`, each found by its path."""

    strided: tuple[str, ...] = ()
    unpadded: tuple[str, ...] = ()

    def __init__(self, weights: Mapping[str, np.ndarray]):
        super().__init__()
        for path in (key.removesuffix(".conv.weight") for key in weights if key.endswith(".conv.weight")):
            stride, padded = 2 if path in self.strided else 1, path not in self.unpadded
            add(self, path, Unit(weights[f"{path}.conv.weight"].shape, stride=stride, padded=padded, epsilon=1e-3))

    def chain(self, x: Tensor, prefix: str, *paths: str) -> Tensor:
        """Apply units one after another, each with its ReLU."""
        for path in paths:
            x = functional.relu(self.get_submodule(prefix + path)(x))
        return x


class GoogLeNet(Units):
    """torchvision/models/googlenet.py without its classifiers."""

    strided = ("conv1",)

    def walk(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield name and value of every activation, in order of depth."""
        pools = {"conv1": ("pool1", 3), "conv3": ("pool2", 3), "inception3b": ("pool3", 3), "inception4e": ("pool4", 2)}
        for name, _ in self.named_children():
            x = self.chain(x, name, "") if name.startswith("conv") else self.block(x, f"{name}.branch")
            yield name, x
            if name in pools:
                pool, size = pools[name]
                x = functional.max_pool2d(x, size, stride=2, ceil_mode=True)
                yield pool, x

    def block(self, x: Tensor, prefix: str) -> Tensor:
        """Compute the four branches of one block."""
        pooled = functional.max_pool2d(x, 3, stride=1, padding=1, ceil_mode=True)
        branches = (
            self.chain(x, prefix, "1"),
            self.chain(x, prefix, "2.0", "2.1"),
            self.chain(x, prefix, "3.0", "3.1"),
            self.chain(pooled, prefix, "4.1"),
        )
        return torch.cat(branches, 1)


class InceptionV3(Units):
    """torchvision/models/inception.py without its classifiers; `fid` as mseitzer/pytorch-fid, inception.py."""

    strided = (
        *("Conv2d_1a_3x3", "Mixed_6a.branch3x3", "Mixed_6a.branch3x3dbl_3"),
        *("Mixed_7a.branch3x3_2", "Mixed_7a.branch7x7x3_4"),
    )
    unpadded = (*strided, "Conv2d_2a_3x3", "Conv2d_4a_3x3")

    def __init__(self, weights: Mapping[str, np.ndarray], *, variant: str = "torchvision"):
        super().__init__(weights)
        self.fid = variant == "fid"

    def walk(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield name and value of every activation, in order of depth."""
        pools = {"2b_3x3": "pool1", "4a_3x3": "pool2"}
        for name, _ in self.named_children():
            kind, _, place = name.partition("_")
            if kind == "Mixed":
                x = torch.cat(self.block(x, name), 1)
                yield f"mixed{place}", x
                continue
            x = self.chain(x, name, "")
            yield f"conv{place[:2]}", x
            if place in pools:
                x = functional.max_pool2d(x, 3, stride=2)
                yield pools[place], x

    def block(self, x: Tensor, name: str) -> list[Tensor]:
        """Compute the branches of one block, by the chains of each kind."""
        at, kind = f"{name}.branch", INCEPTION_V3[name][0]
        if kind in "BD":
            pooled = functional.max_pool2d(x, 3, stride=2)
        elif self.fid and name == "Mixed_7c":
            pooled = functional.max_pool2d(x, 3, stride=1, padding=1)
        else:
            pooled = functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=not self.fid)
        chains = {
            "A": (("1x1",), ("5x5_1", "5x5_2"), ("3x3dbl_1", "3x3dbl_2", "3x3dbl_3")),
            "B": (("3x3",), ("3x3dbl_1", "3x3dbl_2", "3x3dbl_3")),
            "C": (
                ("1x1",),
                ("7x7_1", "7x7_2", "7x7_3"),
                ("7x7dbl_1", "7x7dbl_2", "7x7dbl_3", "7x7dbl_4", "7x7dbl_5"),
            ),
            "D": (("3x3_1", "3x3_2"), ("7x7x3_1", "7x7x3_2", "7x7x3_3", "7x7x3_4")),
            "E": (
                ("1x1",),
                *(("3x3_1", "3x3_2a"), ("3x3_1", "3x3_2b")),
                *(("3x3dbl_1", "3x3dbl_2", "3x3dbl_3a"), ("3x3dbl_1", "3x3dbl_2", "3x3dbl_3b")),
            ),
        }
        branches = [self.chain(x, at, *paths) for paths in chains[kind]]
        return [*branches, pooled if kind in "BD" else self.chain(pooled, at, "_pool")]


class Lite(networks.Network):
    """EfficientNet-Lite0 without its classifier, of units under this package's names: TensorFlow's SAME padding."""

    # The stem, and the first block of each stage with a stride of 2.
    strided = ("stem", *(f"block{i}_depthwise" for i in (1, 3, 5, 11)))

    def __init__(self, weights: Mapping[str, np.ndarray]):
        super().__init__()
        for path in (key.removesuffix(".kernel") for key in weights if key.endswith(".kernel")):
            height, width, inputs, outputs = weights[f"{path}.kernel"].shape
            unit = Unit((outputs, inputs, height, width), stride=1, padded=False, epsilon=1e-3)
            stride, groups = 2 if path in self.strided else 1, outputs if inputs == 1 else 1
            channels = inputs * groups
            unit.conv = nn.Conv2d(channels, outputs, (height, width), stride, groups=groups, bias=False)
            add(self, path, unit)

    def apply_to(self, x: Tensor, path: str) -> Tensor:
        """Pad as TensorFlow does, convolve and normalize."""
        unit = self.get_submodule(path)
        stride, sides = unit.conv.stride[0], []
        for size, length in zip(unit.conv.kernel_size[::-1], (x.shape[3], x.shape[2]), strict=True):
            missing = max(size - stride, 0) if length % stride == 0 else max(size - length % stride, 0)
            sides += [missing // 2, missing - missing // 2]
        return unit(functional.pad(x, sides))

    def walk(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield name and value of every activation, in order of depth."""
        x = functional.relu6(self.apply_to(x, "stem"))
        yield "stem", x
        for i in range(16):
            y = x
            for part in ("expand", "depthwise") if i else ("depthwise",):
                y = functional.relu6(self.apply_to(y, f"block{i}_{part}"))
                yield f"block{i}_{part}", y
            y = self.apply_to(y, f"block{i}")
            x = x + y if x.shape == y.shape else y
            yield f"block{i}", x
        if hasattr(self, "head"):
            yield "head", functional.relu6(self.apply_to(x, "head"))


def in_torch(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rename and transpose weights under this package's names to those of `Residual`."""
    fields = {"scale": "weight", "bias": "bias", "mean": "running_mean", "variance": "running_var"}
    renamed = {}
    for key, array in weights.items():
        path, _, field = key.rpartition(".")
        if field == "kernel":
            renamed[f"{path}.conv.weight"] = np.ascontiguousarray(array.transpose(3, 2, 0, 1))
        elif path.endswith(".norm"):
            renamed[f"{path.removesuffix('norm')}bn.{fields[field]}"] = array
        else:
            renamed[f"{path}.conv.bias"] = array
    return renamed
