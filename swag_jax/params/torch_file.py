"""PyTorch state dicts (`.pth`, `.pt`, `.bin`, `.pth.tar`), read with numpy only and without running anything.

A PyTorch checkpoint is a pickle, and a pickle is a program: it names Python objects and calls them. The
reader here resolves only the names that a state dict needs, so a file that names anything else is refused
before it runs. Both formats are read: zip archives (PyTorch 1.6 and later) and the older format, where raw
storages follow the pickle. References: `torch/serialization.py` and `torch/_utils.py`.
"""

import collections
import contextlib
import io
import math
import mmap
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias, TypeGuard

import numpy as np

from swag_jax._checks import UserError, error
from swag_jax.params._files import check_file

# torch/serialization.py: MAGIC_NUMBER and PROTOCOL_VERSION open a file of the older format.
_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001

# Storage classes of torch/storage.py. numpy has no bfloat16: it is read as its 16 bits and widened.
_DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}

# Keys under which training scripts wrap a state dict.
_WRAPPERS = ("state_dict", "model_state_dict", "model")

# nn.DataParallel and DistributedDataParallel put this in front of every key.
_PARALLEL_PREFIX = "module."


class _Storage(NamedTuple):
    """A named run of elements somewhere in the file."""

    kind: str
    key: str
    size: int


class _View(NamedTuple):
    """A tensor: a strided window on a storage, counted in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


_Readable: TypeAlias = io.BytesIO | mmap.mmap
_BytesOf: TypeAlias = Callable[[Iterable[_Storage]], dict[str, bytes]]


class _Unpickler(pickle.Unpickler):
    """An unpickler that knows the handful of names in a state dict, and no other.

    Instructions of a pickle may set attributes on what they are given, so they are given only strings, tuples
    and bound methods: nothing whose change would outlive the read.
    """

    def __init__(self, file: _Readable):
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> object:
        if module == "torch" and name in _DTYPES:
            return name
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch", "Size"):
            return tuple
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return self._view
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return self._parameter
        raise error(
            "a checkpoint may hold only tensors by name",
            got=f"a reference to {module}.{name} (refused; nothing was run)",
            cure="save `model.state_dict()` instead of the model, or get the file from its publisher",
        )

    def persistent_load(self, pid: tuple) -> _Storage:
        # ("storage", class, key, device, number of elements), and in the older format a sixth entry, always
        # None since PyTorch 0.4.
        tag, kind, key, _, size, *view = pid
        if tag != "storage" or any(view):
            raise pickle.UnpicklingError("storages of PyTorch before 0.4")
        storage = _Storage(str(kind), str(key), int(size))
        self.storages[storage.key] = storage
        return storage

    def _view(self, storage, offset, shape, stride, *_) -> _View:
        return _View(storage, int(offset), tuple(map(int, shape)), tuple(map(int, stride)))

    def _parameter(self, data, *_) -> _View:
        return data


def torch_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor in a PyTorch file, reading none of them.

    Raises:
        UserError: If the file is not a PyTorch state dict.
    """
    with _opened(path) as file:
        views, _ = _contents(file, path)
        return {name: view.shape for name, view in views.items()}


def read_torch(path: Path, *, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Read tensors of a PyTorch state dict.

    Args:
        path: A file written by `torch.save`.
        names: The tensors to read; all by default. A wrapping dictionary (`state_dict`, `model`) and the
            prefix `module.` are not part of the names.

    Returns:
        Arrays in the file's precision; bfloat16, which numpy lacks, becomes float32 (exactly).

    Raises:
        UserError: If the file is not a state dict, is damaged, or asks for code to run.
    """
    with _opened(path) as file:
        views, bytes_of = _contents(file, path)
        wanted = views if names is None else {name: views[name] for name in names}
        buffers = bytes_of({view.storage for view in wanted.values()})
        return {name: _array(view, buffers[view.storage.key]) for name, view in wanted.items()}


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file, and turn whatever goes wrong while reading it into one clear error.

    Damaged pickles raise nearly any exception (`KeyError`, `TypeError`, `MemoryError`, `struct.error`, ...),
    so all are caught.
    """
    try:
        with check_file(path).open("rb") as file:
            yield file
    except UserError:
        raise
    except Exception as problem:
        raise error(
            f"{path} must be a PyTorch state dict",
            got=f"something that cannot be read as one ({type(problem).__name__}: {problem})",
            cure="check that the download is complete and that the file was written by torch.save",
        ) from problem


def _contents(file: BinaryIO, path: Path) -> tuple[dict[str, _View], _BytesOf]:
    """Return every tensor as a view, and a function from storages to their bytes."""
    zipped = file.read(4) == b"PK\x03\x04"
    file.seek(0)
    content, bytes_of = _read_zip(file) if zipped else _read_legacy(file)
    return _state_dict(content, path), bytes_of


def _read_zip(file: BinaryIO) -> tuple[object, _BytesOf]:
    archive = zipfile.ZipFile(file)
    pickled = next((name for name in archive.namelist() if name.split("/")[-1] == "data.pkl"), None)
    if pickled is None:
        raise ValueError("a zip archive without data.pkl")
    root = pickled.removesuffix("data.pkl")
    if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
        raise ValueError("big-endian storages")

    def bytes_of(storages: Iterable[_Storage]) -> dict[str, bytes]:
        return {storage.key: _stored(archive, f"{root}data/{storage.key}") for storage in storages}

    content, _ = _unpickled(io.BytesIO(_stored(archive, pickled)))
    return content, bytes_of


def _unpickled(file: _Readable) -> tuple[Any, dict[str, _Storage]]:
    """Unpickle what comes next, and return it with every storage it names."""
    start = file.tell()
    for opcode, argument, position in pickletools.genops(file):  # pyright: ignore[reportArgumentType]
        # The places of the unpickler's memory are numbered from 0; a far one would reserve all before it.
        stores = opcode.name in ("PUT", "BINPUT", "LONG_BINPUT")
        if stores and not 0 <= int(argument or 0) <= int(position or 0):
            raise pickle.UnpicklingError("a memo place beyond the file")
    file.seek(start)
    unpickler = _Unpickler(file)
    return unpickler.load(), unpickler.storages


def _stored(archive: zipfile.ZipFile, name: str) -> bytes:
    """Read one entry, its checksum included."""
    # torch.save never compresses, and a compressed entry could unpack to any size.
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise ValueError("compressed storages")
    return archive.read(name)


def _read_legacy(file: BinaryIO) -> tuple[object, _BytesOf]:
    # Mapped, since a read can then not reserve more memory than the file has bytes, whatever length it claims.
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    # The order of torch/serialization.py, `_legacy_save`: magic number, version, system, content, storage keys.
    for expected in (_LEGACY_MAGIC, _LEGACY_PROTOCOL):
        if _unpickled(mapped)[0] != expected:
            raise ValueError("no PyTorch header")
    system, _ = _unpickled(mapped)
    if not isinstance(system, dict) or not system.get("little_endian"):
        raise ValueError("big-endian storages")
    content, known = _unpickled(mapped)
    keys, _ = _unpickled(mapped)
    in_file = [known[key] for key in keys]
    return content, lambda wanted: _legacy_storages(mapped, in_file, set(wanted))


def _legacy_storages(mapped: mmap.mmap, in_file: list[_Storage], wanted: set[_Storage]) -> dict[str, bytes]:
    """Read storages as they follow the pickles: for each its 64-bit element count, then the elements."""
    buffers = {}
    for storage in in_file:
        size = _byte_size(storage)
        if struct.unpack("<q", mapped.read(8))[0] != storage.size:
            raise ValueError(f"storage {storage.key} has another size than announced")
        if storage in wanted:
            buffers[storage.key] = mapped.read(size)
        else:
            mapped.seek(size, io.SEEK_CUR)
    return buffers


def _byte_size(storage: _Storage) -> int:
    if storage.size < 0:
        raise ValueError("a storage of negative size")
    return storage.size * np.dtype(_DTYPES[storage.kind]).itemsize


def _state_dict(content: object, path: Path) -> dict[str, _View]:
    """Find the state dict in what was unpickled: the dictionary itself, or the one it wraps."""
    if isinstance(content, dict):
        wrapped = [content[key] for key in _WRAPPERS if isinstance(content.get(key), dict)]
        content = wrapped[0] if wrapped else content
    if not isinstance(content, dict) or not content:
        raise error(
            f"{path} must be a state dict (names and tensors)",
            got=f"a {type(content).__name__}" if content else "an empty one",
            cure="save `model.state_dict()`",
        )
    strangers = [str(key) for key, value in content.items() if not (isinstance(key, str) and _is_view(value))]
    if strangers:
        raise error(
            f"{path} must map names to tensors",
            got=f"other things under {', '.join(strangers[:3])}",
            cure="save `model.state_dict()` alone",
        )
    parallel = all(name.startswith(_PARALLEL_PREFIX) for name in content)
    return {name.removeprefix(_PARALLEL_PREFIX) if parallel else name: view for name, view in content.items()}


def _is_view(value: object) -> TypeGuard[_View]:
    return isinstance(value, _View) and isinstance(value.storage, _Storage)


def _array(view: _View, buffer: bytes) -> np.ndarray:
    """Cut a view out of its storage, after checking that it lies inside."""
    storage, offset, shape, stride = view
    elements = np.frombuffer(buffer, _DTYPES[storage.kind], count=storage.size)
    if storage.kind == "BFloat16Storage":
        # bfloat16 is the upper half of a float32.
        elements = (elements.astype(np.uint32) << 16).view(np.float32)
    # A view larger than its storage would repeat elements: no weight does, and it could claim any memory.
    valid = len(shape) == len(stride) and min((offset, *shape, *stride), default=0) >= 0
    if not valid or math.prod(shape) > storage.size or offset + _reach(shape, stride) > storage.size:
        raise ValueError("a tensor that lies outside its storage")
    steps = [step * elements.itemsize for step in stride]
    window = np.lib.stride_tricks.as_strided(elements[offset:], shape, steps)
    return np.ascontiguousarray(window).reshape(shape)


def _reach(shape: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """Elements from a view's first to one past its last: 1 + sum over axes of (length - 1) * stride."""
    if math.prod(shape) == 0:
        return 0
    return 1 + sum((length - 1) * step for length, step in zip(shape, stride, strict=True))
