"""VGGs, AlexNet, ResNet50 and WideResNet50-2 in plain PyTorch, with every activation by name.

`tests/reference/make_reference.py` records their values, and `benchmarks/torch_baseline.py` times them. Attributes have
torchvision's names, so a state dict in torchvision's layout without the classifier loads strictly. Inputs are
`batch 3 height width`, RGB, normalized by `normalize`.
"""

import abc
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn  # pyright: ignore[reportMissingImports]
from torch.nn.utils.fusion import fuse_conv_bn_eval  # pyright: ignore[reportMissingImports]

# The channel statistics of ImageNet that torchvision's weights were trained with.
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
# Output channels by block and convolution: Simonyan and Zisserman 2015, table 1, columns E and D.
VGG19_BLOCKS = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)
VGG16_BLOCKS = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)
# Blocks by stage: He et al. 2016, table 1, 50 layers.
RESNET50_BLOCKS = (3, 4, 6, 3)
EXPANSION = 4
# The factor that keeps the scale of the activations: `pooling_scales` of crowsonkb/style-transfer-pytorch.
POOLING_SCALES = {"max": 1.0, "average": 2.0}
PADDINGS = ("zeros", "replicate", "reflect")


def normalize(images: Tensor) -> Tensor:
    """Subtract ImageNet's channel means and divide by its deviations; `images` are RGB in [0, 1]."""
    mean = images.new_tensor(MEAN).view(1, 3, 1, 1)
    deviation = images.new_tensor(DEVIATION).view(1, 3, 1, 1)
    return (images - mean) / deviation


class ScaledPooling(nn.Module):
    """2x2 pooling with stride 2, times a factor."""

    def __init__(self, pooling: str, scale: float):
        super().__init__()
        self.pool = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}[pooling](2)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Pool and scale."""
        return self.pool(x) if self.scale == 1.0 else self.pool(x) * self.scale


class Network(nn.Module, abc.ABC):
    """A network that yields its activations one by one, so that nothing deeper than needed is computed."""

    @abc.abstractmethod
    def walk(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield name and value of every activation, in order of depth."""

    def forward(self, x: Tensor, layers: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Compute the activations named by `layers`, or all of them."""
        wanted = None if layers is None else set(layers)
        found: dict[str, Tensor] = {}
        for name, value in self.walk(x):
            if wanted is None or name in wanted:
                found[name] = value
            if wanted is not None and len(found) == len(wanted):
                return found
        if wanted is not None:
            raise ValueError(f"unknown layers: {sorted(wanted - found.keys())}")
        return found


class Vgg(Network):
    """A VGG without its classifier.

    Args:
        blocks: Output channels by block and convolution.
        pooling: `"max"` or `"average"`; averages are multiplied by `POOLING_SCALES["average"]`.
        padding: `"zeros"`, `"replicate"` (replicated border at conv1_1 only, zeros elsewhere: what
            crowsonkb/style-transfer-pytorch does) or `"reflect"` (in all convolutions).
        inplace: Let every ReLU overwrite its convolution, whose name then shows the rectified value.
    """

    def __init__(
        self,
        blocks: Iterable[Iterable[int]] = VGG19_BLOCKS,
        *,
        pooling: str = "max",
        padding: str = "zeros",
        inplace: bool = False,
    ):
        super().__init__()
        if padding not in PADDINGS:
            raise ValueError(f"unknown padding {padding!r}: known: {', '.join(PADDINGS)}")
        modules: list[nn.Module] = []
        self.names: list[str] = []
        channels = 3
        for block, widths in enumerate(blocks, start=1):
            for number, width in enumerate(widths, start=1):
                mode = self._mode(padding, first=not modules)
                modules += [
                    nn.Conv2d(channels, width, 3, padding=1, padding_mode=mode),
                    nn.ReLU(inplace=inplace),
                ]
                self.names += [f"conv{block}_{number}", f"relu{block}_{number}"]
                channels = width
            modules.append(ScaledPooling(pooling, POOLING_SCALES[pooling]))
            self.names.append(f"pool{block}")
        self.features = nn.Sequential(*modules)

    @staticmethod
    def _mode(padding: str, *, first: bool) -> Literal["zeros", "replicate", "reflect"]:
        if padding == "reflect":
            return "reflect"
        return "replicate" if padding == "replicate" and first else "zeros"

    def walk(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield name and value of every activation, in order of depth."""
        for name, module in zip(self.names, self.features, strict=True):
            x = module(x)
            yield name, x


class AlexNet(Network):
    """AlexNet without its classifier: torchvision's `alexnet().features`."""

    names = (
        *("conv1", "relu1", "pool1", "conv2", "relu2", "pool2"),
        *("conv3", "relu3", "conv4", "relu4", "conv5", "relu5", "pool5"),
    )

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
        )

    def walk(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield name and value of every activation, in order of depth."""
        for name, module in zip(self.names, self.features, strict=True):
            x = module(x)
            yield name, x


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions around a shortcut; the 3x3 one strides (torchvision's "v1.5")."""

    def __init__(self, inputs: int, width: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Sequential | None = None
        if inputs != outputs or stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Compute the output of the block, after addition and ReLU."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)).add_(shortcut))


class ResNet(Network):
    """ResNet50 without its classifier, or with `width_factor` 2 WideResNet50-2.

    Names: `conv1` is the stem after batch normalization and ReLU, `pool1` the max pool, and `conv2_1` to
    `conv5_3` are the outputs of the blocks, numbered as in He et al. 2016.
    """

    def __init__(self, *, width_factor: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        inputs = 64
        for stage, blocks in enumerate(RESNET50_BLOCKS):
            planes = 64 * 2**stage
            outputs = planes * EXPANSION
            stack = nn.Sequential()
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                stack.append(Bottleneck(inputs, planes * width_factor, outputs, stride))
                inputs = outputs
            self.add_module(f"layer{stage + 1}", stack)

    def walk(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield name and value of every activation, in order of depth."""
        x = self.relu(self.bn1(self.conv1(x)))
        yield "conv1", x
        x = self.maxpool(x)
        yield "pool1", x
        for stage in range(len(RESNET50_BLOCKS)):
            for block, module in enumerate(self.get_submodule(f"layer{stage + 1}").children(), start=1):
                x = module(x)
                yield f"conv{stage + 2}_{block}", x


def build(name: str, **options: object) -> Network:
    """Make the network called `name`: `"vgg19"`, `"vgg16"`, `"alexnet"`, `"resnet50"` or `"wide_resnet50_2"`."""
    if name in ("vgg19", "vgg16"):
        blocks = VGG19_BLOCKS if name == "vgg19" else VGG16_BLOCKS
        return Vgg(blocks, **options)  # pyright: ignore[reportArgumentType]
    if name == "alexnet":
        return AlexNet()
    return ResNet(width_factor={"resnet50": 1, "wide_resnet50_2": 2}[name])


def load(network: Network, weights: Mapping[str, np.ndarray]) -> Network:
    """Load `weights` (torchvision's keys) strictly, freeze the network and put it into inference mode."""
    network.load_state_dict({key: torch.from_numpy(array) for key, array in weights.items()}, strict=True)
    return network.eval().requires_grad_(False)


def fold_batch_norms(network: Network) -> Network:
    """Merge every batch normalization of a frozen network into the convolution before it, in place."""
    for module in list(network.modules()):
        children = list(module.named_children())
        for (first, convolution), (second, norm) in itertools.pairwise(children):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, first, fuse_conv_bn_eval(convolution, norm).requires_grad_(False))
                setattr(module, second, nn.Identity())
    return network
