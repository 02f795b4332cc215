"""Files as `torch.save` writes them, without torch."""

import pickle
import sys
import types
import zipfile
from unittest import mock

import numpy as np

KINDS = {"float32": "FloatStorage", "float16": "HalfStorage", "float64": "DoubleStorage", "int64": "LongStorage"}


class _Storage:
    def __init__(self, key, size, kind):
        self.key, self.size, self.kind = key, size, kind


class _Tensor:
    def __init__(self, key, array):
        self.key, self.array = key, np.ascontiguousarray(array).reshape(np.shape(array))

    def __reduce__(self):
        strides = tuple(step // self.array.itemsize for step in self.array.strides)
        storage = _Storage(self.key, self.array.size, KINDS[self.array.dtype.name])
        return sys.modules["torch._utils"]._rebuild_tensor_v2, (storage, 0, self.array.shape, strides)


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj):
        if type(obj) is not _Storage:
            return None
        return "storage", getattr(sys.modules["torch"], obj.kind), obj.key, "cpu", obj.size


def _modules():
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for kind in KINDS.values():
        setattr(torch, kind, type(kind, (), {"__module__": "torch"}))
    utils._rebuild_tensor_v2 = type("_rebuild_tensor_v2", (), {"__module__": "torch._utils"})
    return {"torch": torch, "torch._utils": utils}


def write_torch(path, content):
    """Write a nested dictionary of arrays and anything else."""
    tensors = {}

    def replaced(value):
        if isinstance(value, dict):
            return {key: replaced(inner) for key, inner in value.items()}
        if isinstance(value, np.ndarray):
            return tensors.setdefault(id(value), _Tensor(str(len(tensors)), value))
        return value

    with zipfile.ZipFile(path, "w") as archive, mock.patch.dict(sys.modules, _modules()):
        with archive.open("archive/data.pkl", "w") as file:
            _Pickler(file, 2).dump(replaced(content))
        archive.writestr("archive/byteorder", "little")
        for tensor in tensors.values():
            archive.writestr(f"archive/data/{tensor.key}", tensor.array.tobytes())
    return path


def write_pickle(path, pickled, *, compressed=False, **entries):
    """Write any bytes as the pickle of a zip file, with other entries."""
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, data in entries.items():
            archive.writestr(f"archive/{name}", data)
    return path
