import hashlib
import os
import stat

import numpy as np
import pytest

from swag_jax._checks import UserError
from swag_jax.params._files import file_sha256
from swag_jax.params.safetensors_file import (
    read_metadata,
    read_safetensors,
    safetensors_header,
    write_safetensors,
)

TENSORS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.float16([1.5])}


@pytest.fixture
def path(tmp_path):
    write_safetensors(tmp_path / "x.safetensors", TENSORS, {"key": "value"})
    return tmp_path / "x.safetensors"


def test_what_is_written_is_read(path):
    read = read_safetensors(path)
    for name, value in TENSORS.items():
        np.testing.assert_array_equal(read[name], value, strict=True)
        assert read[name].dtype == value.dtype
    assert read_metadata(path) == {"key": "value"}
    assert safetensors_header(path) == {"a": ("float32", (2, 3)), "b": ("float16", (1,))}
    assert list(read_safetensors(path, names=["b"])) == ["b"]


def test_a_transposed_view_is_written_as_it_reads(tmp_path):
    view = np.arange(6, dtype=np.float32).reshape(2, 3).T
    write_safetensors(tmp_path / "t.safetensors", {"t": view}, {})
    np.testing.assert_array_equal(read_safetensors(tmp_path / "t.safetensors")["t"], view)


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_its_mode_is_what_the_umask_leaves(mask, tmp_path):
    before = os.umask(mask)
    try:
        write_safetensors(tmp_path / "x.safetensors", TENSORS, {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x.safetensors").stat().st_mode) == 0o666 & ~mask


def test_only_the_whole_file_appears(path):
    assert [item.name for item in path.parent.iterdir()] == ["x.safetensors"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(path, monkeypatch):
    def break_off(self, data):
        with self.open("wb") as file:
            file.write(data[:20])
        raise OSError("disk full")

    before = path.read_bytes()
    monkeypatch.setattr("pathlib.Path.write_bytes", break_off)
    with pytest.raises(UserError, match=r"cannot write .*disk full"):
        write_safetensors(path, TENSORS, {})
    assert path.read_bytes() == before
    assert [item.name for item in path.parent.iterdir()] == ["x.safetensors"]


def test_the_mode_follows_the_umask(path):
    before = os.umask(0o027)
    try:
        write_safetensors(path, TENSORS, {})
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_folder_that_is_a_file_cannot_be_written_to(path):
    with pytest.raises(UserError, match="cannot write"):
        write_safetensors(path / "y.safetensors", TENSORS, {})


@pytest.mark.parametrize("read", [read_safetensors, read_metadata, safetensors_header])
def test_truncated_and_garbage_files(read, path):
    whole = path.read_bytes()
    for damaged in (
        whole[:-1],
        whole[:20],
        whole[:4],
        b"garbage",
        b"\xff" * 64,
        whole[:8] + b"}" + whole[9:],
    ):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="must be a complete safetensors file"):
            read(path)


def test_missing_files_directories_and_names(path):
    with pytest.raises(UserError, match="no file"):
        read_safetensors(path.parent / "no.safetensors")
    with pytest.raises(UserError, match="must be a file, got the directory"):
        read_safetensors(path.parent)
    with pytest.raises(UserError, match="must be a complete safetensors file"):
        read_safetensors(path, names=["c"])


def test_sha256_of_a_file(path):
    assert file_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
