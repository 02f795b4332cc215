"""Generators are read back as they were written, and published checkpoints become them, strict both ways."""

import json

import numpy as np
import pytest
from reference.torch_writer import write_torch
from reference.weights import generator_weights, transformer_weights
from safetensors.numpy import save_file

from swag_jax import generators
from swag_jax._checks import UserError
from swag_jax.features import LayerSpec
from swag_jax.generators import (
    AdaAttNConfig,
    AdaINConfig,
    JohnsonConfig,
    SANetConfig,
    convert_generator,
    load_generator,
    save_generator,
)
from swag_jax.generators.registry import PUBLISHED, parameter_shapes, with_parameters
from swag_jax.params._files import file_sha256
from swag_jax.params.convert import tensors_sha256
from swag_jax.params.manifest import checkpoint
from swag_jax.params.safetensors_file import read_metadata, read_safetensors, write_safetensors
from swag_jax.params.tree import flat_parameters

FILES = {
    "adain": ("adain",),
    "sanet": ("sanet_transformer", "adain"),
    "adaattn": ("adaattn_decoder", "adaattn_transformer", "adaattn_3"),
    "adaattn-video": ("adaattn_3", "video_decoder"),
}

CONFIGS = (
    JohnsonConfig(channels=2, blocks=1, bounded=False),
    AdaINConfig((LayerSpec("conv2_3", 3, 2),)),
    SANetConfig((LayerSpec("conv1", 2, 2), LayerSpec("conv2_3", 3, 2)), residual=False),
    AdaAttNConfig(
        (LayerSpec("a", 2, 1), LayerSpec("b", 2, 2)), skip=False, shallow=False, similarity="cosine", samples=7
    ),
)


@pytest.fixture(scope="module")
def adain_weights():
    return generator_weights("adain", 0)


@pytest.fixture
def adain_file(adain_weights, tmp_path):
    """A published `decoder.pth`, with tensors changed or left out."""

    def write(name="decoder.pth", *, without=(), **changes):
        tensors = {key: value for key, value in adain_weights.items() if key not in without} | changes
        save_file(tensors, tmp_path / name)
        return tmp_path / name

    return write


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_what_is_saved_is_loaded(config, tmp_path):
    random = np.random.default_rng(0)
    arrays = {name: random.random(shape, np.float32) for name, shape in parameter_shapes(config).items()}
    generator = with_parameters(config, arrays)
    save_generator(tmp_path / "g.safetensors", generator, notes={"steps": "5"})
    loaded = load_generator(tmp_path / "g.safetensors")
    assert loaded.config == config
    assert type(loaded) is type(generator)
    for name, array in flat_parameters(loaded).items():
        np.testing.assert_array_equal(array, arrays[name])
    metadata = read_metadata(tmp_path / "g.safetensors")
    assert metadata["steps"] == "5"
    assert metadata["tensors_sha256"] == tensors_sha256(arrays)


@pytest.mark.parametrize("kind", FILES)
def test_published_files_become_a_generator(kind, tmp_path):
    """The prefix of `torch.nn.DataParallel` and the order of files do not matter."""
    weights = [generator_weights(name, 0) for name in FILES[kind]]
    sources = [
        write_torch(tmp_path / f"{name}.pth", {f"{'module.' * (i == 0)}{key}": x for key, x in tensors.items()})
        for i, (name, tensors) in enumerate(zip(FILES[kind], weights, strict=True))
    ]
    config = convert_generator(sources, kind, tmp_path / "out.safetensors")
    loaded = load_generator(tmp_path / "out.safetensors")
    assert loaded.config == config == PUBLISHED[kind].config
    arrays = flat_parameters(loaded)
    rename = PUBLISHED[kind].layout.rename
    foreign = {key: value for tensors in weights for key, value in tensors.items()}
    assert {rename(key) for key in foreign} == set(arrays)
    for key, value in foreign.items():
        expected = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value
        np.testing.assert_array_equal(arrays[rename(key)], expected, strict=True)


def test_a_conversion_says_where_it_is_from(adain_file, tmp_path):
    convert_generator([adain_file()], "adain", tmp_path / "out.safetensors")
    metadata = read_metadata(tmp_path / "out.safetensors")
    assert metadata["generator"] == "adain"
    assert checkpoint(metadata["encoder"]).backbone == "vgg19"
    sha256 = file_sha256(tmp_path / "decoder.pth")
    assert json.loads(metadata["source_sha256"]) == {"decoder.pth": sha256}


def misfits(caught):
    head, *lines = str(caught.value).splitlines()
    assert head.endswith(f"misfits: {len(lines)}")
    return [line.strip().rstrip(".") for line in lines]


def test_every_misfit_of_a_published_file_is_in_one_report(adain_file, tmp_path):
    changes = {
        "5.bias": np.ones(3, np.float32),
        "8.bias": np.full(256, np.nan, np.float32),
        "11.bias": np.ones(256, np.int32),
        "99.weight": np.ones(1, np.float32),
    }
    source = adain_file(without=("28.weight",), **changes)
    with pytest.raises(UserError, match=r"must together be a published adain generator \(decoder\)") as caught:
        convert_generator([source], "adain", tmp_path / "out.safetensors")
    assert sorted(misfits(caught)) == [
        "11.bias holds int32 numbers, expected floating-point ones",
        "8.bias holds 256 NaN or infinite values",
        "decoder.conv3_4.bias has shape (3,), expected (256,)",
        "missing decoder.conv1_1.kernel",
        "unexpected 99.weight",
    ]
    assert not (tmp_path / "out.safetensors").exists()


def test_a_file_missing_and_a_file_twice(adain_file, tmp_path):
    with pytest.raises(UserError, match=r"published sanet generator \(decoder and transformer\)") as caught:
        convert_generator([adain_file()], "sanet", tmp_path / "out.safetensors")
    assert "missing relu4_1.query.kernel" in misfits(caught)
    twice = [adain_file("a.pth", without=("1.weight",)), adain_file("b.pth")]
    with pytest.raises(UserError, match=r"decoder\.conv4_1\.bias is in a\.pth and in b\.pth"):
        convert_generator(twice, "adain", tmp_path / "out.safetensors")
    with pytest.raises(UserError, match="unknown generator 'adaatn': did you mean adaattn"):
        convert_generator([adain_file()], "adaatn", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


@pytest.fixture
def saved(tmp_path):
    """A small checkpoint, with its metadata and tensors to be changed."""
    config = JohnsonConfig(channels=2, blocks=1)
    zeros = {name: np.zeros(shape, np.float32) for name, shape in parameter_shapes(config).items()}
    save_generator(tmp_path / "g.safetensors", with_parameters(config, zeros))
    return tmp_path / "g.safetensors"


def rewritten(path, metadata=None, *, without=(), **changes):
    tensors = {name: x for name, x in read_safetensors(path).items() if name not in without} | changes
    write_safetensors(path, tensors, read_metadata(path) | (metadata or {}))
    return path


def test_every_misfit_of_our_own_file_is_in_one_report(saved):
    changes = {"extra": np.ones(1, np.float32), "output.bias": np.ones(4, np.float32)}
    changes["down1.scale"] = np.full(2, np.inf, np.float32)
    with pytest.raises(UserError, match="must fit the johnson generator that it describes") as caught:
        load_generator(rewritten(saved, without=("output.kernel",), **changes))
    assert sorted(misfits(caught)) == [
        "down1.scale holds 2 NaN or infinite values",
        "missing output.kernel",
        "output.bias has shape (4,), expected (3,)",
        "unexpected extra",
    ]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "must hold the configuration of a johnson generator"),
        ('{"colour": 1}', "must hold the configuration .*colour"),
        ('{"blocks": 0}', "must hold the configuration .*blocks must be at least 1"),
        ('{"blocks": 100000}', "must hold the configuration .*blocks must be .*at most 100"),
        ('{"blocks": 1.5}', "must hold the configuration .*blocks must be int, not 1.5"),
        ('{"blocks": 3}', "must fit the johnson generator"),
        ('{"channels": 4.0}', "must hold the configuration .*channels must be int, not 4.0"),
        ('{"channels": true}', "must hold the configuration .*channels must be int, not True"),
        ('{"channels": "4"}', "must hold the configuration .*channels must be int"),
        ('{"channels": NaN}', "must hold the configuration .*channels must be int"),
        ('{"channels": 1024}', "must fit the johnson generator"),
        ('{"channels": 1e30}', "must hold the configuration .*channels must be int"),
        ('{"channels": 1000000000000000000000000}', "must hold the configuration .*channels must be int"),
        ('{"bounded": 1}', "must hold the configuration .*bounded must be bool, not 1"),
        ('{"bounded": null}', "must hold the configuration .*bounded must be bool, not None"),
        ('{"taps": []}', "must hold the configuration .*unknown 'taps'"),
        ("[]", "must hold the configuration"),
        ("null", "must hold the configuration"),
        ("3", "must hold the configuration"),
        ("", "must hold the configuration"),
        pytest.param("[" * 100_000, "must hold the configuration .*too deep", id="deep"),
        pytest.param(" " * 2**21 + "{}", "must hold the configuration .*bytes of JSON", id="long"),
    ],
)
def test_bad_configurations_in_files(config, message, saved):
    with pytest.raises(UserError, match=message):
        load_generator(rewritten(saved, {"config": config}))


@pytest.mark.parametrize(
    ("taps", "message"),
    [
        ('[{"layer": 3, "channels": 2, "stride": 2}]', "layer must be str, not 3"),
        ('[{"layer": "a", "channels": 2.5, "stride": 2}]', "channels must be int"),
        ('[{"layer": "a", "channels": 2, "stride": 2, "x": 1}]', "unknown 'x'"),
        ('[{"layer": "a"}]', "must hold the configuration"),
        ('[{"layer": "a", "channels": 2, "stride": 4611686018427387904}]', "stride must be int"),
        ('["a"]', "no table of fields"),
        ('"relu4_1"', "taps must be a list of layers"),
        ('{"layer": "a", "channels": 2, "stride": 2}', "taps must be a list of layers"),
        ("[]", "must read 1 layers"),
        pytest.param(f"[{'0,' * 5000}0]", "taps must be a list of layers", id="many"),
    ],
)
def test_bad_layers_in_files(taps, message, saved):
    path = rewritten(saved, {"generator": "adain", "config": f'{{"taps": {taps}}}'})
    with pytest.raises(UserError, match=message):
        load_generator(path)


@pytest.mark.parametrize("missing", ["config", "generator"])
def test_metadata_that_is_missing(missing, saved):
    tensors, metadata = read_safetensors(saved), read_metadata(saved)
    del metadata[missing]
    write_safetensors(saved, tensors, metadata)
    with pytest.raises(UserError, match=r"must hold the configuration|a file that does not say what it is"):
        load_generator(saved)


@pytest.mark.parametrize("prefix", ["", "module.", "model.generator."])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_johnsons_published_files_are_converted(prefix, suffix, tmp_path):
    """Names, scales of 255 in and out, and the running statistics that old instance norms have."""
    weights = transformer_weights(0)
    foreign, source = {prefix + key: value for key, value in weights.items()}, tmp_path / f"mosaic{suffix}"
    if suffix == ".pth":
        write_torch(source, {"model": foreign, "epoch": 2})
    else:
        save_file(foreign, source)
    config = convert_generator([source], "johnson", tmp_path / "out.safetensors")
    loaded = load_generator(tmp_path / "out.safetensors")
    assert loaded.config == config == JohnsonConfig(bounded=False)
    arrays = flat_parameters(loaded)
    wanted = {"down1.conv.kernel": 255 * weights["conv1.conv2d.weight"].transpose(2, 3, 1, 0)}
    wanted |= {"down1.conv.bias": weights["conv1.conv2d.bias"], "down1.scale": weights["in1.weight"]}
    wanted |= {"block5.conv2.bias": weights["res5.in2.bias"], "up2.scale": weights["in5.weight"]}
    wanted |= {"block5.conv2.conv.bias": weights["res5.conv2.conv2d.bias"]}
    wanted |= {"output.bias": weights["deconv3.conv2d.bias"] / 255}
    for name, value in wanted.items():
        np.testing.assert_allclose(arrays[name], value, rtol=1e-6)
    assert "encoder" not in read_metadata(tmp_path / "out.safetensors")


def test_misfits_of_johnsons_files(tmp_path):
    weights = transformer_weights(0)
    del weights["in1.weight"], weights["in1.running_var"]
    weights |= {"in9.x": np.ones(1, np.float32), "in2.bias": np.ones(3, np.float32)}
    save_file(weights, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="published johnson generator") as caught:
        convert_generator([tmp_path / "x.safetensors"], "johnson", tmp_path / "out.safetensors")
    assert sorted(misfits(caught)) == [
        "down2.bias has shape (3,), expected (64,)",
        "missing down1.scale",
        "unexpected in9.x",
    ]


@pytest.mark.parametrize(
    ("keys", "command"),
    [
        (["conv1.conv2d.weight", "in1.running_mean"], "--generator johnson"),
        (["module.conv1.conv2d.weight", "module.in1.weight"], "--generator johnson"),
        (["sanet4_1.f.weight", "merge_conv.bias"], r"\[ITS OTHER FILES\] --generator sanet"),
        (["1.weight", "28.bias"], "--generator KIND .*KIND being adain or sanet"),
        (["decoder.1.weight", "decoder.4.bias"], "--generator adaattn-video"),
        (["features.0.weight"], "KIND being johnson or adain or"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_foreign_file_names_the_command_that_converts_it(keys, command, suffix, tmp_path):
    tensors, path = {key: np.ones(3, np.float32) for key in keys}, tmp_path / f"x{suffix}"
    if suffix == ".pth":
        write_torch(path, tensors)
    else:
        save_file(tensors, path)
    with pytest.raises(UserError, match=rf"swag-jax weights convert .*x{suffix}.* {command}"):
        load_generator(path)


def test_files_that_are_no_generators(saved, tmp_path):
    save_file({"a": np.ones(1, np.float32)}, tmp_path / "plain.safetensors")
    with pytest.raises(UserError, match="a file that does not say what it is: convert"):
        load_generator(tmp_path / "plain.safetensors")
    save_file({"a": np.ones(1, np.float32)}, tmp_path / "vgg.safetensors", {"backbone": "vgg19"})
    with pytest.raises(UserError, match="got one of vgg19: convert a published one"):
        load_generator(tmp_path / "vgg.safetensors")
    with pytest.raises(UserError, match="no file"):
        load_generator(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(saved.read_bytes()[:-3])
    with pytest.raises(UserError, match="must be a complete safetensors file"):
        load_generator(tmp_path / "bad.safetensors")


def test_a_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "g.safetensors"
    save_generator(path, generators.create(JohnsonConfig(channels=2, blocks=1)))
    whole = path.read_bytes()
    load_generator(path)
    for place in (-1, -100, -200):
        data = bytearray(whole)
        data[place] ^= 1
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"g.safetensors must hold the numbers that were written, .*: bring back"):
            load_generator(path)


def test_a_generator_that_notes_no_hash_is_read(tmp_path):
    path = tmp_path / "g.safetensors"
    save_generator(path, generators.create(JohnsonConfig(channels=2, blocks=1)))
    notes = read_metadata(path)
    del notes["tensors_sha256"]
    write_safetensors(path, read_safetensors(path), notes)
    assert load_generator(path).config.channels == 2
