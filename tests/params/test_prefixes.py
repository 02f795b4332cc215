"""What wraps a checkpoint's keys is no part of them, whatever it is called and in whatever format."""

import numpy as np
import pytest
from reference.torch_writer import write_torch
from safetensors.numpy import save_file

from swag_jax._checks import UserError
from swag_jax.params.convert import convert, inspect
from swag_jax.params.prefixes import shared_prefixes
from swag_jax.params.quantize import quantize
from swag_jax.params.safetensors_file import write_safetensors
from swag_jax.params.torch_file import read_torch

PREFIXES = ("", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "vgg.", "net.encoder.a.")


def save(path, tensors):
    if path.suffix == ".pth":
        return write_torch(path, tensors)
    save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, path)
    return path


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_that_all_keys_share_is_undone(prefix, suffix, vgg, tmp_path):
    path = save(tmp_path / f"x{suffix}", {prefix + key: value for key, value in vgg.foreign.items()})
    tensors = convert(path, "vgg19", vgg.expected).tensors
    assert sorted(tensors) == sorted(vgg.expected)
    for name in vgg.expected:
        np.testing.assert_array_equal(tensors[name], vgg.ours(name), strict=True)
    assert inspect(path, "vgg19").layout == "torchvision"


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_the_count_of_an_averaged_model_stands_beside_the_prefix(suffix, resnet, tmp_path):
    tensors = {f"module.{key}": value for key, value in resnet.foreign.items()} | {"n_averaged": np.array(7)}
    converted = convert(save(tmp_path / f"x{suffix}", tensors), "resnet50", resnet.expected)
    np.testing.assert_array_equal(converted.tensors["conv1.kernel"], resnet.ours("conv1.kernel"))


def test_our_own_names_and_eight_bits_behind_a_prefix(vgg, tmp_path):
    first = convert(save(tmp_path / "x.safetensors", vgg.foreign), "vgg19", vgg.expected)
    small = {f"model.{key}": value for key, value in quantize(first.tensors, channel_axis=3).items()}
    write_safetensors(tmp_path / "small.safetensors", small, first.metadata)
    tensors = convert(tmp_path / "small.safetensors", "vgg19", vgg.expected).tensors
    np.testing.assert_allclose(tensors["conv5_4.kernel"], first.tensors["conv5_4.kernel"], atol=0.02)
    np.testing.assert_array_equal(tensors["conv5_4.bias"], first.tensors["conv5_4.bias"])


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("rename", "message"),
    [
        (lambda i, key: f"{'a' if i % 2 else 'b'}.{key}", "must hold weights of vgg19"),
        (lambda i, key: f"model.{key}.x", "must hold weights of vgg19"),
        (lambda i, key: f"model{key}", "vgg19"),
        (lambda i, key: key if i else f"model.{key}", "must hold weights of vgg19"),
    ],
)
def test_what_is_no_shared_prefix_is_refused(rename, message, suffix, vgg, tmp_path):
    tensors = {rename(i, key): value for i, (key, value) in enumerate(vgg.foreign.items())}
    with pytest.raises(UserError, match=message):
        convert(save(tmp_path / f"x{suffix}", tensors), "vgg19", vgg.expected)


def test_another_network_behind_a_prefix_is_named(resnet, tmp_path):
    path = save(tmp_path / "x.safetensors", {f"model.{key}": value for key, value in resnet.foreign.items()})
    with pytest.raises(UserError, match="looks like a checkpoint of resnet"):
        inspect(path, "vgg19")


@pytest.mark.parametrize(
    ("keys", "prefixes"),
    [
        (["a"], ("",)),
        ([], ("",)),
        (["a.b", "a.c"], ("", "a.")),
        (["a.b", "ab.c"], ("",)),
        (["a.b.c.weight", "a.b.d.weight"], ("", "a.", "a.b.")),
        (["n_averaged", "a.b"], ("", "a.")),
        (["n_averaged"], ("",)),
        (["." * 1000], tuple("." * count for count in range(9))),
    ],
)
def test_prefixes_that_are_tried(keys, prefixes):
    assert shared_prefixes(keys) == prefixes


ONE = {"features.0.weight": np.ones((2, 3, 3, 3), np.float32), "features.0.bias": np.ones(2, np.float32)}
OTHER = {key: 2 * value for key, value in ONE.items()}
LESS = {"head.weight": np.ones(3, np.float32)}
OPTIMIZER = {"state": {0: {"exp_avg": np.ones(2, np.float32)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}


def prefixed(prefix, tensors):
    return {prefix + key: value for key, value in tensors.items()}


@pytest.mark.parametrize(
    "content",
    [
        {"net": ONE, "acc": 0.9, "epoch": 3},
        {"params_ema": ONE},
        {"anything at all": {"inner": {"state": ONE}}},
        {"net": ONE, "best": np.full((), 0.9, np.float32), "args": {"lr": 0.1, "names": ["a", "b"]}},
        {"net": ONE, "metrics": {"loss": np.ones((), np.float32)}},
        {"net": ONE, "optimizer": OPTIMIZER},
        {"net": ONE, "opt_g": OPTIMIZER, "lr_scheduler": {"last": np.ones(1, np.float32)}},
        {"net": ONE, "copy": ONE},
        {"state_dict": prefixed("module.", ONE), "optimizer": {"m": np.ones(5, np.float32)}},
        {"state_dict": ONE, "discriminator": LESS},
        {"checkpoint": {"model": ONE, "head": LESS, "ema": {}}},
        {"net": prefixed("module._orig_mod.", ONE)},
    ],
)
def test_the_state_dict_is_found_under_any_key(content, tmp_path):
    read = read_torch(write_torch(tmp_path / "x.pth", content))
    assert list(read) == list(ONE)
    np.testing.assert_array_equal(read["features.0.weight"], ONE["features.0.weight"])


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"params": ONE, "params_ema": OTHER}, ["params, params_ema", "['params']"]),
        ({"generator": ONE, "discriminator": LESS}, ["discriminator, generator"]),
        ({"state_dict": ONE, "state_dict_ema": OTHER}, ["state_dict, state_dict_ema"]),
        ({"model": ONE, "ema": prefixed("module.", OTHER)}, ["ema, model"]),
        ({"model": ONE, "state_dict": LESS}, ["model, state_dict"]),
        ({"a": {"x": ONE, "y": OTHER}}, ["a.x, a.y", "['a']['x']"]),
        ({f"net{i}": {f"k{i}": ONE["features.0.bias"]} for i in range(9)}, ["net0, net1, net2, net3, net4, net5, ..."]),
    ],
)
def test_several_are_refused_by_their_names(content, named, tmp_path):
    with pytest.raises(UserError, match="must hold one state dict") as caught:
        read_torch(write_torch(tmp_path / "x.pth", content))
    assert all(part in str(caught.value) for part in named)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [{"net": {}}, {"epoch": 3}, {"names": ["a"]}, {"optimizer": OPTIMIZER}])
def test_files_without_any_are_refused(content, tmp_path):
    with pytest.raises(UserError, match="must map names to tensors"):
        read_torch(write_torch(tmp_path / "x.pth", content))
