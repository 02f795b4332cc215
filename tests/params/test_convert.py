import hashlib

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from swag_jax._checks import UserError
from swag_jax.params.checkpoint_file import checkpoint_shapes, tensors_sha256
from swag_jax.params.convert import convert, inspect, read_parameters
from swag_jax.params.quantize import dequantize, quantize
from swag_jax.params.safetensors_file import safetensors_header, write_safetensors
from swag_jax.params.tree import depth_of

VGG19_PLACES = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
ADAIN_PLACES = (2, 5, 9, 12, 16, 19, 22, 25, 29, 32, 35, 38, 42, 45, 48, 51)
CLASSIFIERS = {
    "torchvision": ("classifier.0.weight", "classifier.6.bias"),
    "timm": ("pre_logits.fc1.weight", "pre_logits.fc2.bias", "head.fc.weight"),
}


def check(network, tensors):
    assert sorted(tensors) == sorted(network.expected)
    for name in network.expected:
        assert tensors[name].dtype == np.float32
        np.testing.assert_array_equal(tensors[name], network.ours(name), strict=True)


@pytest.mark.parametrize("layout", ["torchvision", "timm"])
@pytest.mark.parametrize("asked", ["auto", "as it is"])
def test_vgg19_with_its_classifier(layout, asked, vgg, tmp_path):
    vgg.foreign |= {key: np.ones((2, 2), np.float32) for key in CLASSIFIERS[layout]}
    path = vgg.save(tmp_path / "x.safetensors")
    converted = convert(path, "vgg19", vgg.expected, layout=layout if asked == "as it is" else "auto")
    check(vgg, converted.tensors)
    assert converted.metadata == {
        "backbone": "vgg19",
        "layout": layout,
        "normalization": "imagenet",
        "told_by": "",
        "architecture": "{}",
        "padding": "zeros",
        "deepest_layer": "conv5_4",
        "source_name": "x.safetensors",
        "source_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "converter_version": "1",
        "tensors_sha256": tensors_sha256(converted.tensors),
    }


def test_resnet_with_its_classifier_and_counters(resnet, tmp_path):
    resnet.foreign |= {"fc.weight": np.ones((2, 2), np.float32), "fc.bias": np.ones(2, np.float32)}
    resnet.foreign |= {
        "bn1.num_batches_tracked": np.array(5),
        "layer2.1.bn3.num_batches_tracked": np.array(5),
    }
    converted = convert(resnet.save(tmp_path / "x.safetensors"), "resnet50", resnet.expected)
    check(resnet, converted.tensors)
    assert converted.metadata["deepest_layer"] == "conv5_1"


@pytest.mark.parametrize("name", ["googlenet", "inception"])
def test_inceptions_with_their_classifiers_and_counters(name, request, tmp_path):
    network = request.getfixturevalue(name)
    for key in ("fc.weight", "fc.bias", "aux1.conv.conv.weight", "aux2.fc1.bias", "AuxLogits.conv0.bn.weight"):
        network.foreign[key] = np.ones(2, np.float32)
    network.foreign["conv1.bn.num_batches_tracked"] = np.array(5)
    converted = convert(network.save(tmp_path / "x.safetensors"), network.backbone, network.expected)
    check(network, converted.tensors)
    assert (converted.metadata["layout"], converted.metadata["normalization"]) == ("torchvision", "inception")
    assert converted.metadata["deepest_layer"] == ("inception3b" if name == "googlenet" else "mixed7c")
    write_safetensors(tmp_path / "ours.safetensors", converted.tensors, converted.metadata)
    again = convert(tmp_path / "ours.safetensors", network.backbone, network.expected)
    check(network, again.tensors)
    assert again.metadata == converted.metadata


def test_misfits_of_an_inception(googlenet, tmp_path):
    googlenet.foreign["inception3b.branch5.0.conv.weight"] = np.ones((2, 8, 1, 1), np.float32)
    googlenet.foreign["conv2.conv.weight"] = np.ones((2, 2, 3, 3), np.float32)
    del googlenet.foreign["inception3a.branch4.1.conv.weight"]
    with pytest.raises(UserError) as caught:
        convert(googlenet.save(tmp_path / "x.safetensors"), "googlenet", googlenet.expected)
    head, *lines = str(caught.value).splitlines()
    assert head.endswith("must fit googlenet (read in the torchvision layout); misfits: 3")
    assert sorted(line.strip().rstrip(".") for line in lines) == [
        "conv2.kernel has shape (3, 3, 2, 2), expected (1, 1, 2, 2)",
        "missing inception3a.branch4.kernel",
        "unexpected inception3b.branch5.0.conv.weight",
    ]


def test_letters_of_layers_tell_their_depth(googlenet, tmp_path):
    path = cut(googlenet, "inception3a").save(tmp_path / "x.safetensors")
    converted = convert(path, "googlenet", googlenet.expected)
    assert converted.metadata["deepest_layer"] == "inception3a"
    upper = {name: shape for name, shape in googlenet.expected.items() if depth_of(name) <= (3,)}
    assert {name.split(".")[0] for name in upper} == {"conv1", "conv2", "conv3"}
    assert sorted(read_parameters(path, "googlenet", upper, whole=False)) == sorted(upper)


def test_a_file_of_our_own_is_of_the_network_it_names(resnet, tmp_path):
    """NoResNet and others share names and shapes with ResNet50."""
    tensors = convert(resnet.save(tmp_path / "x.safetensors"), "resnet50", resnet.expected).tensors
    write_safetensors(tmp_path / "ours.safetensors", tensors, {"backbone": "preact_resnet50"})
    converted = convert(tmp_path / "ours.safetensors", "preact_resnet50", resnet.expected)
    assert "normalization" not in converted.metadata
    with pytest.raises(UserError) as caught:
        convert(tmp_path / "ours.safetensors", "resnet50", resnet.expected)
    assert str(caught.value).endswith(
        "must hold weights of resnet50, got a file that names preact_resnet50: "
        "pass --backbone preact_resnet50, or a checkpoint of resnet50."
    )
    write_safetensors(tmp_path / "anonymous.safetensors", tensors, {})
    for backbone in ("resnet50", "preact_resnet50"):
        check(resnet, convert(tmp_path / "anonymous.safetensors", backbone, resnet.expected).tensors)


def test_adain_is_folded_and_asks_for_reflection(vgg, tmp_path):
    places = dict(zip(VGG19_PLACES, ADAIN_PLACES, strict=True))
    adain = {}
    for key, value in vgg.foreign.items():
        _, place, field = key.split(".")
        adain[f"{places[int(place)]}.{field}"] = np.ascontiguousarray(value)
    adain |= {
        "0.weight": 2 * np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1),
        "0.bias": np.ones(3, np.float32),
    }
    save_file(adain, tmp_path / "x.safetensors")
    converted = convert(tmp_path / "x.safetensors", "vgg19", vgg.expected)
    assert converted.metadata["normalization"] == "none"
    assert converted.metadata["padding"] == "reflect"
    kernel, bias = vgg.ours("conv1_1.kernel"), vgg.ours("conv1_1.bias")
    np.testing.assert_array_equal(converted.tensors["conv1_1.kernel"], 2 * kernel)
    np.testing.assert_allclose(converted.tensors["conv1_1.bias"], bias + kernel.sum(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_array_equal(converted.tensors["conv5_4.kernel"], vgg.ours("conv5_4.kernel"))


def test_half_precision_and_bfloat16_become_float32(vgg, tmp_path):
    vgg.foreign = {key: value.astype(np.float16) for key, value in vgg.foreign.items()}
    check(vgg, convert(vgg.save(tmp_path / "x.safetensors"), "vgg19", vgg.expected).tensors)


def test_our_own_file_converts_to_itself(vgg, tmp_path):
    first = convert(vgg.save(tmp_path / "x.safetensors"), "vgg19", vgg.expected)
    first.metadata.update(normalization="none", padding="reflect")
    write_safetensors(tmp_path / "ours.safetensors", first.tensors, first.metadata)
    again = convert(tmp_path / "ours.safetensors", "vgg19", vgg.expected)
    check(vgg, again.tensors)
    assert again.metadata == first.metadata


def cut(network, deepest):
    """End a checkpoint after a layer."""
    network.foreign = {
        key: network.foreign[key] for name, key in network.names.items() if depth_of(name) <= depth_of(deepest)
    }
    return network


def test_a_file_may_end_early(vgg, tmp_path):
    path = cut(vgg, "conv5_1").save(tmp_path / "x.safetensors")
    converted = convert(path, "vgg19", vgg.expected)
    assert len(converted.tensors) == 26
    assert converted.metadata["deepest_layer"] == "conv5_1"
    assert inspect(path, "vgg19").deepest_layer == "conv5_1"


def test_a_gap_and_half_a_layer_are_errors(vgg, tmp_path):
    cut(vgg, "conv3_1")
    del vgg.foreign["features.5.weight"], vgg.foreign["features.10.bias"]
    with pytest.raises(UserError) as caught:
        convert(vgg.save(tmp_path / "x.safetensors"), "vgg19", vgg.expected)
    assert str(caught.value).splitlines()[1:] == ["  missing conv2_1.kernel", "  missing conv3_1.bias."]


def test_every_failure_is_in_one_report(vgg, tmp_path):
    foreign = vgg.foreign
    foreign["features.0.weight"] = np.ones((2, 3, 3, 5), np.float32)
    foreign["features.2.bias"] = np.float32([np.nan, np.inf])
    foreign["features.5.bias"] = np.array([1, 2, 3])
    foreign["features.7.bias"] = np.float64([1e300, 0, 0])
    foreign["extra.thing"] = np.ones(1, np.float32)
    del foreign["features.10.bias"]
    with pytest.raises(UserError) as caught:
        convert(vgg.save(tmp_path / "x.safetensors"), "vgg19", vgg.expected)
    head, *lines = str(caught.value).splitlines()
    assert head.endswith("must fit vgg19 (read in the torchvision layout); misfits: 6")
    assert sorted(line.strip().rstrip(".") for line in lines) == [
        "conv1_1.kernel has shape (3, 5, 3, 2), expected (3, 3, 3, 2)",
        "features.2.bias holds 2 NaN or infinite values",
        "features.5.bias holds int64 numbers, expected floating-point ones",
        "features.7.bias holds 1 NaN or infinite values",
        "missing conv3_1.bias",
        "unexpected extra.thing",
    ]


def test_a_long_report_is_cut_and_counted(vgg, tmp_path):
    vgg.foreign |= {f"extra.{i}": np.ones(1, np.float32) for i in range(25)}
    with pytest.raises(UserError) as caught:
        convert(vgg.save(tmp_path / "x.safetensors"), "vgg19", vgg.expected)
    lines = str(caught.value).splitlines()
    assert len(lines) == 22
    assert lines[-1] == "  ... and 5 more."


def test_the_misshapen_color_convolution_of_adain(vgg, tmp_path):
    adain = {"0.weight": np.ones((3, 1, 1, 1)), "0.bias": np.ones(3), "2.weight": np.ones((2, 3, 3, 3))}
    save_file({**adain, "2.bias": np.ones(2)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=r"0\.weight has shape \(3, 1, 1, 1\), expected \(3, 3, 1, 1\)"):
        convert(tmp_path / "x.safetensors", "vgg19", vgg.expected)


def test_another_architecture_is_named(resnet, vgg, tmp_path):
    with pytest.raises(UserError, match="looks like a checkpoint of resnet"):
        convert(resnet.save(tmp_path / "x.safetensors"), "vgg19", vgg.expected)
    with pytest.raises(UserError, match="looks like a checkpoint of vgg19: pass --backbone vgg19"):
        convert(vgg.save(tmp_path / "y.safetensors"), "resnet50", resnet.expected)


def test_part_of_a_file_reads_only_that_part(vgg, tmp_path):
    vgg.foreign["features.34.weight"] = np.full_like(vgg.foreign["features.34.weight"], np.nan)
    path = vgg.save(tmp_path / "x.safetensors")
    upper = {name: shape for name, shape in vgg.expected.items() if depth_of(name) <= (4, 1)}
    tensors = read_parameters(path, "vgg19", upper, whole=False)
    assert sorted(tensors) == sorted(upper)
    with pytest.raises(UserError, match=r"features\.34\.weight holds"):
        read_parameters(path, "vgg19", vgg.expected, whole=False)


def test_part_of_a_file_must_be_there(vgg, tmp_path):
    path = cut(vgg, "conv1_1").save(tmp_path / "x.safetensors")
    upper = {name: shape for name, shape in vgg.expected.items() if depth_of(name) <= (1, 2)}
    with pytest.raises(UserError, match=r"missing conv1_2\.kernel\n  missing conv1_2\.bias"):
        read_parameters(path, "vgg19", upper, whole=False)


def test_a_safetensors_file_under_a_torch_name(vgg, tmp_path):
    check(vgg, convert(vgg.save(tmp_path / "x.pth"), "vgg19", vgg.expected).tensors)


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_garbage(name, vgg, tmp_path):
    (tmp_path / name).write_bytes(b"garbage")
    with pytest.raises(UserError, match="x"):
        convert(tmp_path / name, "vgg19", vgg.expected)


def test_the_hash_over_tensors_is_the_files_content_only(vgg, tmp_path):
    tensors = convert(vgg.save(tmp_path / "x.safetensors"), "vgg19", vgg.expected).tensors
    write_safetensors(tmp_path / "y.safetensors", dict(reversed(tensors.items())), {"other": "metadata"})
    assert tensors_sha256(load_file(tmp_path / "y.safetensors")) == tensors_sha256(tensors)
    tensors["conv1_1.bias"] = tensors["conv1_1.bias"] + 1
    assert tensors_sha256(load_file(tmp_path / "y.safetensors")) != tensors_sha256(tensors)


@pytest.fixture(params=["vgg", "resnet"])
def quantized(request, tmp_path):
    """A network whose numbers fit in 8 bits, the path of such a checkpoint, and the tensors in that."""
    network = request.getfixturevalue(request.param)
    tensors = quantize(network.foreign)
    network.foreign = dequantize(tensors)
    write_safetensors(tmp_path / "8.safetensors", tensors, {})
    return network, tmp_path / "8.safetensors", tensors


def test_8_bits_and_steps_are_one_tensor(quantized):
    network, path, tensors = quantized
    assert checkpoint_shapes(path) == {key: value.shape for key, value in network.foreign.items()}
    kernels = {key for key, value in tensors.items() if value.dtype == np.int8}
    assert kernels == {key for key, value in network.foreign.items() if value.ndim == 4}
    assert {key for key, (kind, _) in safetensors_header(path).items() if kind == "int8"} == kernels


def test_8_bits_convert_to_what_they_stand_for(quantized):
    network, path, _ = quantized
    converted = convert(path, network.backbone, network.expected)
    check(network, converted.tensors)
    assert (converted.metadata["layout"], converted.metadata["converter_version"]) == ("torchvision", "1")
    check(network, read_parameters(path, network.backbone, network.expected))
    first = {name: shape for name, shape in network.expected.items() if depth_of(name) <= (2, 1)}
    part = read_parameters(path, network.backbone, first, whole=False)
    assert sorted(part) == sorted(first)
    for name in first:
        np.testing.assert_array_equal(part[name], network.ours(name), strict=True)


def test_8_bits_in_our_own_names_and_axes(vgg, tmp_path):
    ours = {}
    for name in vgg.expected:
        key = vgg.names[name]
        coded = quantize({key: vgg.foreign[key]})
        axes = (2, 3, 1, 0) if len(vgg.expected[name]) == 4 else (0,)
        ours |= {tensor.replace(key, name): value.transpose(axes) for tensor, value in coded.items()}
    assert ours["conv1_1.kernel.step"].shape == (1, 1, 1, 2)
    write_safetensors(tmp_path / "8.safetensors", ours, {"padding": "reflect"})
    vgg.foreign = dequantize(quantize(vgg.foreign))
    converted = convert(tmp_path / "8.safetensors", "vgg19", vgg.expected)
    check(vgg, converted.tensors)
    assert (converted.metadata["layout"], converted.metadata["padding"]) == ("native", "reflect")


def test_only_the_steps_needed_are_read(vgg, tmp_path):
    tensors = quantize(vgg.foreign)
    tensors["features.34.weight.step"][:] = np.nan
    write_safetensors(tmp_path / "8.safetensors", tensors, {})
    upper = {name: shape for name, shape in vgg.expected.items() if depth_of(name) <= (5, 3)}
    read_parameters(tmp_path / "8.safetensors", "vgg19", upper, whole=False)
    with pytest.raises(UserError, match=r"features\.34\.weight\.step holds 6 values"):
        read_parameters(tmp_path / "8.safetensors", "vgg19", vgg.expected, whole=False)


def test_every_failure_of_8_bits_is_in_the_report(vgg, tmp_path):
    tensors = quantize(vgg.foreign)
    tensors["features.0.weight.step"] = tensors["features.0.weight.step"].ravel()
    tensors["features.2.weight.step"][0] = np.inf
    tensors["features.5.weight.step"][:2] = [[[[0]]], [[[-1]]]]
    del tensors["features.7.weight.step"]
    tensors["features.10.weight"] = vgg.foreign["features.10.weight"]
    tensors["features.12.weight.step"] = np.full((1, 1, 1, 1), 3e38, np.float32)
    tensors["features.14.weight"] = tensors["features.14.weight"][..., :2]
    write_safetensors(tmp_path / "8.safetensors", tensors, {})
    with pytest.raises(UserError) as caught:
        convert(tmp_path / "8.safetensors", "vgg19", vgg.expected)
    head, *lines = str(caught.value).splitlines()
    assert head.endswith("must fit vgg19 (read in the torchvision layout); misfits: 7")
    large = np.count_nonzero(np.abs(tensors["features.12.weight"].astype(int)) > 1)
    assert sorted(line.strip().rstrip(".") for line in lines) == [
        "conv3_3.kernel has shape (3, 2, 4, 4), expected (3, 3, 4, 4)",
        "features.0.weight.step has shape (2,), expected 1 or the length of (2, 3, 3, 3) along every axis",
        f"features.12.weight holds {large} NaN or infinite values",
        "features.2.weight.step holds 1 values that are not finite and positive",
        "features.5.weight.step holds 2 values that are not finite and positive",
        "features.7.weight holds int8 numbers, expected floating-point ones",
        "unexpected features.10.weight.step",
    ]
