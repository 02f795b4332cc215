"""The work of both sides of the speed benchmarks, and how much arithmetic it is. NumPy only.

A job is one stylization, or several in one batch: backbone, image size, precision, loss weights. It is sent to
the measuring processes as JSON; images and weights are sent as files, so that both sides compute the same loss.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Protocol

# Style layers and content layer: Gatys et al. 2016 for VGG19; the released code of SWAG for ResNet50.
STYLE_LAYERS = {
    "vgg19": ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"),
    "resnet50": ("conv1", "conv2_3", "conv3_4", "conv4_6", "conv5_3"),
}
CONTENT_LAYER = {"vgg19": "relu4_2", "resnet50": "conv4_6"}
PRECISIONS = ("float32", "tf32", "bfloat16")
# Step size and decay rates of crowsonkb/style-transfer-pytorch; the defaults of `swag_jax.optimize.Adam`.
LEARNING_RATE = 0.02
DECAYS = (0.9, 0.99)


@dataclass(frozen=True)
class Job:
    """Stylization by Adam, started from the content image and clipped to [0, 1] after every step.

    Attributes:
        backbone: `vgg19` or `resnet50`.
        size: Height and width of content and style image.
        precision: `float32`, `tf32` or `bfloat16`.
        weights: Path of a safetensors file in torchvision's layout.
        images: Path of an `.npz` file with `content` and `style`, float32 `pairs height width 3` in [0, 1].
        pairs: Images per batch.
        mapping: For swag_jax: `pmap` or `shard_map` over the devices, or nothing for the program of a single image.
        devices: For swag_jax: simulated CPU devices, among which the pairs are divided.
        compiler: For PyTorch: a mode of `torch.compile`, or nothing for eager PyTorch.
        device: `cpu` or `cuda`.
        iterations: Steps per call of `Side.iterate`, which a side may compile for.
        cpus: Processors that a side may use; 0: all.
        content_weight: Weight of the relative content loss.
        style_weight: Weight of the mean of the relative style losses.
        tv_weight: Weight of the total variation.
    """

    backbone: str
    size: int
    precision: str
    weights: str
    images: str
    pairs: int = 1
    mapping: str = ""
    devices: int = 1
    compiler: str = ""
    device: str = "cpu"
    iterations: int = 5
    cpus: int = 0
    content_weight: float = 1.0
    style_weight: float = 100.0
    tv_weight: float = 1.0

    @property
    def style_layers(self) -> tuple[str, ...]:
        """The layers whose Gram matrices are matched."""
        return STYLE_LAYERS[self.backbone]

    @property
    def content_layer(self) -> str:
        """The layer whose activations are matched."""
        return CONTENT_LAYER[self.backbone]

    def to_json(self) -> str:
        """Write the job as one line."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(line: str) -> "Job":
        """Read a job."""
        return Job(**json.loads(line))


class Side(Protocol):
    """One implementation under measurement; its constructor warms it up."""

    def iterate(self) -> tuple[float, float]:
        """Take the job's steps; return the loss before the first and before the last of them.

        For several pairs, it is the mean of their losses.
        """
        ...

    def split(self, repeats: int) -> dict[str, list[float]]:
        """Measure `forward`, `backward` and `update` of a single pair in seconds, each `repeats` times."""
        ...

    def device_peak_bytes(self) -> int | None:
        """Return the peak memory on an accelerator."""
        ...

    def matrix_rate(self, side: int, repeats: int) -> float:
        """Return the best rate, in FLOP/s, of a square matrix product at the job's precision."""
        ...

    def describe(self) -> dict[str, str]:
        """Return device and versions."""
        ...


@dataclass(frozen=True)
class Convolution:
    """One convolution: the name of its activation, or nothing, and the numbers that its cost depends on."""

    name: str
    kernel: int
    inputs: int
    outputs: int
    positions: int

    @property
    def flops(self) -> int:
        """Multiplications and additions, forward."""
        return 2 * self.kernel**2 * self.inputs * self.outputs * self.positions


def _vgg19(size: int) -> Iterator[Convolution]:
    inputs = 3
    for block, (width, depth) in enumerate(((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)), start=1):
        for number in range(1, depth + 1):
            yield Convolution(f"relu{block}_{number}", 3, inputs, width, size * size)
            inputs = width
        size //= 2


def _halved(size: int) -> int:
    return (size + 1) // 2


def _resnet50(size: int) -> Iterator[Convolution]:
    size = _halved(size)
    yield Convolution("conv1", 7, 3, 64, size * size)
    size, inputs = _halved(size), 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        planes = 64 * 2**stage
        for block in range(1, blocks + 1):
            before, size = size, _halved(size) if stage and block == 1 else size
            yield Convolution("", 1, inputs, planes, before * before)
            yield Convolution("", 3, planes, planes, size * size)
            if inputs != 4 * planes:
                yield Convolution("", 1, inputs, 4 * planes, size * size)
            yield Convolution(f"conv{stage + 2}_{block}", 1, planes, 4 * planes, size * size)
            inputs = 4 * planes


def iteration_flops(job: Job) -> int:
    """Count the multiplications and additions of one iteration of all pairs: convolutions and Gram matrices.

    Forward, a Gram matrix of C channels over M positions takes 2 C^2 M. Backward, a convolution costs the same again
    (only the gradient at its input), a Gram matrix twice that (a product per factor).
    """
    walk = {"vgg19": _vgg19, "resnet50": _resnet50}[job.backbone](job.size)
    wanted = {job.content_layer, *job.style_layers}
    total, found = 0, 0
    for convolution in walk:
        total += 2 * convolution.flops
        if convolution.name in job.style_layers:
            total += 3 * 2 * convolution.outputs**2 * convolution.positions
        found += convolution.name in wanted
        if found == len(wanted):
            break
    return job.pairs * total
