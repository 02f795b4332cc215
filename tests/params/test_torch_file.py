import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from swag_jax._checks import UserError
from swag_jax.params.torch_file import read_torch, torch_shapes

FILES = Path(__file__).parent / "torch_files"
FORMATS = ("zip", "legacy")


def content():
    """What make_torch_files.py wrote, with bfloat16 widened."""
    ramp = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    return {
        "float": ramp,
        "double": ramp.astype(np.float64) / 3,
        "half": ramp.astype(np.float16) / 8,
        "bfloat16": ramp / 8,
        "transposed": ramp.transpose(2, 0, 1),
        "slice": ramp[1:, 1:, ::2],
        "shared": ramp.ravel()[5:9],
        "parameter": ramp + 1,
        "scalar": np.int64(7),
        "empty": np.zeros((0, 3), np.float32),
        "ints": np.arange(3, dtype=np.int32),
        "bools": np.array([True, False]),
    }


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", ["plain", "wrapped", "model"])
def test_every_kind_of_tensor_is_read_exactly(name, form):
    read = read_torch(FILES / f"{name}_{form}.pth")
    assert list(read) == list(content())
    for key, expected in content().items():
        assert read[key].dtype == expected.dtype, key
        np.testing.assert_array_equal(read[key], expected, err_msg=key, strict=True)


@pytest.mark.parametrize("form", FORMATS)
def test_shapes_without_reading(form):
    assert torch_shapes(FILES / f"plain_{form}.pth") == {key: np.shape(v) for key, v in content().items()}


@pytest.mark.parametrize("form", FORMATS)
def test_only_the_named_tensors_are_read(form):
    read = read_torch(FILES / f"plain_{form}.pth", names=["ints", "slice"])
    assert list(read) == ["ints", "slice"]
    np.testing.assert_array_equal(read["slice"], content()["slice"])


@pytest.mark.parametrize("name", ["malicious_zip", "malicious_legacy", "malicious_bare"])
def test_code_is_refused_and_not_run(name, capfd):
    with pytest.raises(UserError, match=r"reference to (posix|nt)\.system \(refused; nothing was run\)"):
        read_torch(FILES / f"{name}.pth")
    assert capfd.readouterr().out == ""


def test_a_whole_module_is_refused_with_the_cure():
    with pytest.raises(UserError, match=r"torch\.nn\.modules\.conv\.Conv2d .*save `model.state_dict\(\)`"):
        read_torch(FILES / "module_zip.pth")


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("list", "must be a state dict .* got a list"),
        ("empty", "must be a state dict .* got an empty one"),
        ("stranger", "must map names to tensors, got other things under note"),
        ("repeated", "a tensor that lies outside its storage"),
    ],
)
def test_other_contents_are_refused(name, form, message):
    with pytest.raises(UserError, match=message):
        read_torch(FILES / f"{name}_{form}.pth")


@pytest.mark.parametrize("form", FORMATS)
def test_every_truncation_is_an_error(form, tmp_path):
    whole = (FILES / f"plain_{form}.pth").read_bytes()
    path = tmp_path / "cut.pth"
    for length in range(1, len(whole), 61):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="must be a PyTorch state dict"):
            read_torch(path)


def test_a_flipped_bit_in_a_zip_file_is_an_error(tmp_path):
    damaged = bytearray((FILES / "plain_zip.pth").read_bytes())
    at = damaged.find(np.arange(24, dtype=np.float32).tobytes())
    assert at > 0
    damaged[at + 3] ^= 1
    (tmp_path / "damaged.pth").write_bytes(damaged)
    with pytest.raises(UserError, match="Bad CRC-32"):
        read_torch(tmp_path / "damaged.pth")


class Storage:
    """Pickles as a reference to storage 0, of 4 floats."""


class Tensor:
    """Pickles as a tensor with any view of storage 0."""

    def __init__(self, *view):
        self.view = view

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, (Storage(), *self.view)


class Pickler(pickle.Pickler):
    def persistent_id(self, obj):
        return ("storage", sys.modules["torch"].FloatStorage, "0", "cpu", 4, None) if type(obj) is Storage else None


@pytest.fixture
def legacy_file(tmp_path, monkeypatch):
    """Write a file of the older format with one tensor of any view, without torch."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})
    utils._rebuild_tensor_v2 = type("_rebuild_tensor_v2", (), {"__module__": "torch._utils"})

    def write(*view):
        path = tmp_path / "x.pth"
        parts = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {"x": Tensor(*view)}, ["0"])
        with path.open("wb") as file, monkeypatch.context() as patch:
            patch.setitem(sys.modules, "torch", torch)
            patch.setitem(sys.modules, "torch._utils", utils)
            for part in parts:
                Pickler(file, 2).dump(part)
            file.write((4).to_bytes(8, "little") + np.arange(4, dtype=np.float32).tobytes())
        return path

    return write


def test_a_view_inside_its_storage_is_read(legacy_file):
    read = read_torch(legacy_file(1, (3,), (1,)))
    np.testing.assert_array_equal(read["x"], np.float32([1, 2, 3]))


@pytest.mark.parametrize(
    "view",
    [
        (0, (5,), (1,)),
        (2, (3,), (1,)),
        (-1, (2,), (1,)),
        (3, (2,), (-1,)),
        (0, (2,), (4,)),
        (0, (2, 2), (2,)),
    ],
)
def test_a_view_outside_its_storage_is_an_error(view, legacy_file):
    with pytest.raises(UserError, match="outside its storage"):
        read_torch(legacy_file(*view))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_text("<html>404 Not Found</html>"), "must be a PyTorch state dict"),
        (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "no PyTorch header"),
        (lambda path: path.write_bytes(b""), "is empty: download it again"),
        (lambda path: path.mkdir(), "must be a file, got the directory"),
        (lambda path: None, "no file .*x.pth"),
    ],
)
def test_things_that_are_no_checkpoint(write, message, tmp_path):
    write(tmp_path / "x.pth")
    with pytest.raises(UserError, match=message):
        read_torch(tmp_path / "x.pth")
