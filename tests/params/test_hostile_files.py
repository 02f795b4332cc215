"""Small files that ask for any time, memory or depth are refused at once, in one line."""

import json
import struct
import zipfile

import numpy as np
import pytest
from reference.torch_writer import write_pickle, write_torch

from swag_jax import _limits
from swag_jax._checks import UserError
from swag_jax.params import pickles, torch_file
from swag_jax.params.convert import checkpoint_shapes, usable_floats
from swag_jax.params.torch_file import read_torch, torch_shapes

CALL = b"ctorch._utils\n_rebuild_tensor_v2\n"
STORAGE = b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x04tQ"
MANY = 20_000
"""Instructions of a long pickle, fewer than `DESCRIPTION_VALUES`."""


def tensor(shape=b"K\x04\x85", stride=b"K\x01\x85", offset=b"K\x00"):
    """A pickled dictionary of one tensor of the storage 0, of four floats."""
    return b"\x80\x02}U\x01a" + CALL + b"(" + STORAGE + offset + shape + stride + b"\x89}tRs."


PICKLES = {
    "a key nested far": b"\x80\x02}K\x01" + b"\x85" * MANY + b"K\x01s.",
    "a key of 2^34 parts": b"\x80\x02}U\x01a" + b"2\x86" * 34 + b"K\x01s.",
    "a value of 2^34 parts": b"\x80\x02}U\x01aK\x01" + b"2\x86" * 34 + b"s.",
    "lists nested far": b"\x80\x02}U\x01a" + b"]" * MANY + b"a" * (MANY - 1) + b"s.",
    "dictionaries nested far": b"\x80\x02" + b"}U\x01a" * MANY + b"}" + b"s" * MANY + b".",
    "a dictionary in itself": b"\x80\x02}q\x00U\x01ah\x00s.",
    "a memory place far out": b"\x80\x02}U\x01aK\x01r\xff\xff\xff\x7fs.",
    "a memory place that is empty": b"\x80\x02}U\x01ah\x07s.",
    "copies of a long tuple": b"\x80\x02}(U\x01a("
    + b"K\x01" * MANY
    + b"tq\x00"
    + b"".join(b"U\x04%04dctorch\nSize\nh\x00\x85R" % i for i in range(9999))
    + b"u.",
    "a number as long as a book": b"\x80\x02}\x8b" + struct.pack("<I", MANY) + b"\x7f" * MANY + b"K\x01s.",
    "a shape of many axes": tensor(shape=b"(" + b"K\x01" * MANY + b"t", stride=b"(" + b"K\x01" * MANY + b"t"),
    "a shape of nested tuples": tensor(shape=b"K\x01" + b"2\x86" * 34 + b"\x85"),
    "a shape of texts": tensor(shape=b"U\x014\x85"),
    "a negative shape": tensor(shape=b"J\xff\xff\xff\xff\x85"),
    "an offset that is a tuple": tensor(offset=b"K\x00\x85"),
    "a stride that is missing": tensor(stride=b")"),
    "a storage that is no tuple": b"\x80\x02}U\x01aK\x01Qs.",
    "a storage of any size": b"\x80\x02}U\x01a(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpu)tQs.",
    "a storage of an unknown kind": b"\x80\x02}U\x01a(U\x07storageU\x04evilU\x010U\x03cpuK\x04tQs.",
    "an attribute of a known function": b"\x80\x02}(U\x01a" + CALL + b"}U\x03abcU\x03xyzsbu.",
    "a call of a number": b"\x80\x02}U\x01aK\x01)Rs.",
    "a call without arguments": b"\x80\x02}U\x01a" + CALL + b"K\x01Rs.",
    "many dictionaries": b"\x80\x02}(" + b"".join(b"U\x05%05d}U\x01aK\x01s" % i for i in range(MANY // 4)) + b"u.",
    "no end": b"\x80\x02}",
    "a tuple of nothing": b"\x80\x02t.",
    "nothing left": b"\x80\x020000.",
    "an append to a number": b"\x80\x02K\x01(K\x01e.",
    "an entry of a number": b"\x80\x02K\x01(K\x01K\x01u.",
    "an odd number of entries": b"\x80\x02}(K\x01u.",
    "an instruction of old classes": b"\x80\x02(ios\nsystem\n.",
    "nothing": b"",
    "a number": b"\x80\x02K\x01.",
    "a tuple": b"\x80\x02K\x01\x85.",
}


@pytest.mark.parametrize("name", PICKLES)
def test_pickles(name, tmp_path):
    path = write_pickle(tmp_path / "x.pth", PICKLES[name], **{"data/0": bytes(16)})
    for read in (read_torch, torch_shapes):
        with pytest.raises(UserError) as caught:
            read(path) if read is read_torch else usable_floats(path, torch_shapes(path))
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 700


def test_nothing_outlives_the_read(tmp_path):
    write_pickle(tmp_path / "x.pth", PICKLES["an attribute of a known function"])
    before = {key: dict(vars(key)) for key in (torch_file._Call, torch_file._Contents, pickles.Machine)}
    with pytest.raises(UserError):
        read_torch(tmp_path / "x.pth")
    assert before == {key: dict(vars(key)) for key in before}


def test_the_sound_one_beside_them_is_read(tmp_path):
    floats = np.arange(4, dtype=np.float32)
    path = write_pickle(tmp_path / "x.pth", tensor(), byteorder=b"little", **{"data/0": floats.tobytes()})
    np.testing.assert_array_equal(read_torch(path)["a"], floats)


def test_a_description_without_end(tmp_path, monkeypatch):
    write_pickle(tmp_path / "x.pth", b"\x80\x02" + b"]0" * 500 + b"}.")
    for module, name, bound in (
        (pickles, "DESCRIPTION_VALUES", 100),
        (pickles, "DESCRIPTION_BYTES", 100),
        (torch_file, "DESCRIPTION_BYTES", 100),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, bound)
            with pytest.raises(UserError, match=r"without end|data\.pkl of \d+ bytes"):
                read_torch(tmp_path / "x.pth")


@pytest.mark.parametrize("entry", ["data.pkl", "byteorder", "data/0"])
def test_compressed_parts_are_not_unpacked(entry, tmp_path):
    parts = {"data.pkl": tensor(), "byteorder": b"little", "data/0": bytes(16)}
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            kind = zipfile.ZIP_DEFLATED if name == entry else zipfile.ZIP_STORED
            archive.writestr(f"archive/{name}", data + bytes(2**20 if name == entry else 0), kind)
    with pytest.raises(UserError, match="compressed parts"):
        read_torch(path)


@pytest.mark.parametrize(("order", "message"), [(b"big", "big-endian"), (bytes(10**6), "byteorder of 1000000 bytes")])
def test_byte_orders(order, message, tmp_path):
    path = write_pickle(tmp_path / "x.pth", tensor(), byteorder=order, **{"data/0": bytes(16)})
    with pytest.raises(UserError, match=message):
        read_torch(path)


def test_tensors_that_repeat_their_file(tmp_path):
    """Each lies inside its storage, all of them together far outside of the file."""
    shared = np.zeros(1000, np.float32)
    path = write_torch(tmp_path / "x.pth", {str(i): shared for i in range(100)})
    with pytest.raises(UserError, match="repeat their file"):
        read_torch(path)
    assert read_torch(path, names=["5", "7"])["7"].shape == (1000,)


OTHER_KINDS = {
    "float8": b"\x80\x02}U\x01actorch._utils\n_rebuild_tensor_v3\n)Rs.",
    "complex": b"\x80\x02}U\x01actorch\nComplexFloatStorage\ns.",
    "quantized": b"\x80\x02}U\x01actorch._utils\n_rebuild_qtensor\n)Rs.",
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_numbers_that_are_not_read_are_named(kind, tmp_path):
    with pytest.raises(UserError, match=r"tensors must be plain ones .*: save them as float32"):
        read_torch(write_pickle(tmp_path / "x.pth", OTHER_KINDS[kind]))


def safetensors_file(path, kind, size):
    header = json.dumps({"a": {"dtype": kind, "shape": [4], "data_offsets": [0, 4 * size]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4 * size))
    return path


@pytest.mark.parametrize(
    ("kind", "size"), [("F8_E4M3", 1), ("F8_E5M2", 1), ("F8_E8M0", 1), ("C64", 8), ("I64", 8), ("BOOL", 1)]
)
def test_numbers_of_safetensors_that_are_no_floats(kind, size, tmp_path):
    path = safetensors_file(tmp_path / "x.safetensors", kind, size)
    assert checkpoint_shapes(path) == {"a": (4,)}
    floats, unusable = usable_floats(path, ["a"])
    assert floats == {}
    assert len(unusable) == 1
    assert unusable[0].startswith("a holds ")


@pytest.mark.parametrize(("kind", "size"), [("BF16", 2), ("F16", 2), ("F32", 4), ("F64", 8)])
def test_numbers_of_safetensors_that_are(kind, size, tmp_path):
    floats, unusable = usable_floats(safetensors_file(tmp_path / "x.safetensors", kind, size), ["a"])
    assert unusable == []
    np.testing.assert_array_equal(floats["a"], np.zeros(4, np.float32), strict=True)


@pytest.mark.parametrize("text", ["[" * 100_000, "[" * 2_000_000, "{", "", b"\xff\xfe\x00"])
def test_json_that_is_none(text):
    with pytest.raises(ValueError, match=r".") as caught:
        _limits.read_json(text)
    assert not isinstance(caught.value, UserError)
