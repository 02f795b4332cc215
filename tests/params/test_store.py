import dataclasses
from pathlib import Path

import pytest

from swag_jax._checks import UserError
from swag_jax.params import convert
from swag_jax.params.manifest import checkpoint, weights_folder
from swag_jax.params.store import home, install, stored, stored_path, verify_embedded, verify_stored


@pytest.fixture
def installed(vgg, tmp_path):
    return install("mine", convert(vgg.save(tmp_path / "x.safetensors"), "vgg19", vgg.expected))


def test_where_the_store_is(tmp_path, monkeypatch):
    assert stored_path("x.y-1") == tmp_path / "home" / "weights" / "x.y-1.safetensors"
    monkeypatch.delenv("SWAG_JAX_HOME")
    assert home() == Path.home() / ".cache" / "swag_jax"


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".x", "a b"])
def test_names_cannot_leave_the_store(name):
    with pytest.raises(UserError, match="a checkpoint's name must be letters"):
        stored_path(name)


def test_what_is_installed_is_listed_and_sound(installed, vgg, store):
    assert stored() == {"mine": installed} == {"mine": store / "mine.safetensors"}
    assert [path.name for path in store.iterdir()] == ["mine.safetensors"]
    verify_stored("mine", vgg.expected)


def test_an_empty_store_has_nothing():
    assert stored() == {}


def test_half_written_files_are_not_listed(installed, store):
    (store / ".mine.safetensors.1234.part").write_bytes(b"half")
    (store / ".other.safetensors").write_bytes(b"half")
    assert list(stored()) == ["mine"]


def test_a_flipped_bit_is_found(installed, vgg):
    damaged = bytearray(installed.read_bytes())
    damaged[-1] ^= 1
    installed.write_bytes(damaged)
    with pytest.raises(UserError, match="must have the recorded sha256"):
        verify_stored("mine", vgg.expected)


def test_a_truncated_or_missing_file_is_found(installed, vgg):
    installed.write_bytes(installed.read_bytes()[:-1])
    with pytest.raises(UserError, match="must be a complete safetensors file"):
        verify_stored("mine", vgg.expected)
    with pytest.raises(UserError, match="no file"):
        verify_stored("other", vgg.expected)


def test_another_networks_shapes_are_found(installed, vgg):
    vgg.expected["conv1_1.bias"] = (64,)
    with pytest.raises(UserError, match=r"conv1_1\.bias has shape \(2,\), expected \(64,\)"):
        verify_stored("mine", vgg.expected)


def test_the_embedded_checkpoint(vgg, tmp_path, monkeypatch):
    entry = checkpoint("vgg19-caffe")
    path = vgg.save(tmp_path / "vgg.safetensors")
    monkeypatch.setattr("swag_jax.params.store.weights_folder", lambda: tmp_path)
    entry = dataclasses.replace(entry, file=path.name, layout="torchvision")
    with pytest.raises(UserError, match=f"must have the recorded sha256 {entry.sha256}"):
        verify_embedded(entry, vgg.expected)


def test_the_real_embedded_checkpoint_is_where_the_manifest_says():
    for name in ("vgg19", "resnet50"):
        assert (weights_folder() / f"{name}-caffe.safetensors").is_file()
