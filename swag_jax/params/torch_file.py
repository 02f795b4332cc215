"""PyTorch state dicts (`.pth`, `.pt`, `.bin`, `.pth.tar`) read without PyTorch: no torch at all is a promise.

The reader of pickles here runs nothing; it knows only the names that a state dict needs, and refuses a file that names
anything else. Both formats are read: zip archives (PyTorch 1.6 and later) and the older format, in which raw storages
follow the pickle. References: `torch/serialization.py` and `torch/_utils.py`.
"""

import collections
import contextlib
import io
import math
import mmap
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import numpy as np

from swag_jax._checks import UserError, error
from swag_jax._limits import AXES, DESCRIPTION_BYTES, LEVELS, REPEATED, read_entry
from swag_jax.params._files import check_file
from swag_jax.params.pickles import Machine, mapping
from swag_jax.params.prefixes import without_technical

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

# Keys under which training scripts wrap a state dict; any other key serves too, if it is the only one.
_WRAPPERS = ("state_dict", "model_state_dict", "model")

# Parts of these in a key say that what it holds is a training's state, not a network.
_TRAINING = ("optim", "sched", "scaler")

_MOST_FOUND = 50  # state dicts in one file that are told apart; more are too many to choose from

_CALLS = {
    ("collections", "OrderedDict"): "OrderedDict",
    ("torch", "Size"): "Size",
    ("torch._utils", "_rebuild_tensor"): "tensor",
    ("torch._utils", "_rebuild_tensor_v2"): "tensor",
    ("torch._utils", "_rebuild_parameter"): "parameter",
}


class _Storage(NamedTuple):
    """A named run of elements somewhere in the file."""

    kind: str
    key: str
    size: int

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(_DTYPES[self.kind])


class _View(NamedTuple):
    """A tensor: a strided window on a storage, counted in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


_BytesOf: TypeAlias = Callable[[Iterable[_Storage]], dict[str, bytes]]


class _Call(NamedTuple):
    what: str


class _Contents(Machine):
    def __init__(self) -> None:
        super().__init__()
        self.storages: dict[str, _Storage] = {}

    def name(self, module: str, name: str) -> object:
        if module == "torch" and name in _DTYPES:
            return name
        if (module, name) in _CALLS:
            return _Call(_CALLS[module, name])
        if (module == "torch" and name.endswith("Storage")) or (module == "torch._utils" and name.startswith("_rebu")):
            raise error(
                "tensors must be plain ones of float16, float32, float64, bfloat16 or whole numbers",
                got=f"another kind ({module}.{_shown(name)})",
                cure="save them as float32, such as `{k: v.float() for k, v in model.state_dict().items()}`",
            )
        raise error(
            "a checkpoint may hold only tensors by name",
            got=f"a reference to {_shown(module)}.{_shown(name)} (refused; nothing was run)",
            cure="save `model.state_dict()` instead of the model, or get the file from its publisher",
        )

    def referred(self, reference: Any) -> _Storage:
        # ("storage", class, key, device, number of elements), and in the older format a sixth entry, always
        # None since PyTorch 0.4.
        tag, kind, key, _, size, *view = reference
        if tag != "storage" or any(part is not None for part in view):
            raise pickle.UnpicklingError("storages of PyTorch before 0.4")
        if not (isinstance(kind, str) and kind in _DTYPES and isinstance(key, str) and _are_sizes((size,))):
            raise pickle.UnpicklingError("a storage without kind, key and size")
        storage = _Storage(kind, key, size)
        self.storages[storage.key] = storage
        return storage

    def made(self, what: Any, arguments: tuple) -> object:
        match what, arguments:
            case _Call("OrderedDict"), ():
                return {}
            case _Call("OrderedDict"), ([*pairs],):
                return mapping([part for key, value in pairs for part in (key, value)])
            case _Call("Size"), (tuple() as sizes,):
                return sizes
            case _Call("tensor"), (_Storage() as storage, offset, tuple() as shape, tuple() as stride, *_):
                if not (len(shape) <= AXES and len(stride) <= AXES and _are_sizes((offset, *shape, *stride))):
                    raise ValueError("a tensor that lies outside its storage")
                return _View(storage, offset, shape, stride)
            case _Call("parameter"), (_View() as view, *_):
                return view
        raise pickle.UnpicklingError("a call of something else")


def _are_sizes(numbers: tuple) -> bool:
    return all(type(number) is int and 0 <= number < 2**63 for number in numbers)


def _shown(name: str) -> str:
    # On one line, and not without end.
    return name[:100].encode("unicode_escape").decode() + ("..." if len(name) > 100 else "")


def torch_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor in a PyTorch file, reading none of them."""
    with _opened(path) as file:
        views, _ = _contents(file, path)
        return {name: view.shape for name, view in views.items()}


def read_torch(path: Path, *, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Read tensors of a PyTorch state dict, all by default, in the file's precision; bfloat16 becomes float32.

    Wrapping dictionaries (`state_dict`, `model`, or any other key) and the prefixes `module.` and `_orig_mod.` are not
    part of the names. A `UserError` if the file is not a state dict, is damaged, or asks for code to run.
    """
    with _opened(path) as file:
        views, bytes_of = _contents(file, path)
        wanted = views if names is None else {name: views[name] for name in names}
        for view in wanted.values():
            _check_view(view)
        total = sum(math.prod(view.shape) * view.storage.dtype.itemsize for view in wanted.values())
        if total > REPEATED * path.stat().st_size:
            raise ValueError("tensors that repeat their file many times")
        buffers = bytes_of({view.storage for view in wanted.values()})
        return {name: _array(view, buffers[view.storage.key]) for name, view in wanted.items()}


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with check_file(path).open("rb") as file:
            yield file
    except UserError:
        raise
    # Damaged pickles raise nearly any exception: KeyError, TypeError, MemoryError, struct.error, ...
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
    if f"{root}byteorder" in archive.namelist() and read_entry(archive, f"{root}byteorder", most=8) != b"little":
        raise ValueError("big-endian storages")

    def bytes_of(storages: Iterable[_Storage]) -> dict[str, bytes]:
        names = {storage.key: f"{root}data/{storage.key}" for storage in storages}
        whole = file.seek(0, io.SEEK_END)
        if sum(archive.getinfo(name).compress_size for name in names.values()) > whole:
            raise ValueError("storages that overlap")
        return {key: read_entry(archive, name) for key, name in names.items()}

    content = _Contents().run(io.BytesIO(read_entry(archive, pickled, most=DESCRIPTION_BYTES)))
    return content, bytes_of


def _read_legacy(file: BinaryIO) -> tuple[object, _BytesOf]:
    # Mapped, since a read can then not reserve more memory than the file has bytes, whatever length it claims.
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    # The order of torch/serialization.py, `_legacy_save`: magic number, version, system, content, storage keys.
    for expected in (_LEGACY_MAGIC, _LEGACY_PROTOCOL):
        found = _Contents().run(mapped)
        if not isinstance(found, int) or found != expected:
            raise ValueError("no PyTorch header")
    system = _Contents().run(mapped)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("big-endian storages")
    contents = _Contents()
    content = contents.run(mapped)
    keys = _Contents().run(mapped)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError("no list of storages")
    in_file = [contents.storages[key] for key in keys]
    return content, lambda wanted: _legacy_storages(mapped, in_file, set(wanted))


def _legacy_storages(mapped: mmap.mmap, in_file: list[_Storage], wanted: set[_Storage]) -> dict[str, bytes]:
    # They follow the pickles: for each its 64-bit element count, then the elements.
    buffers = {}
    for storage in in_file:
        size = storage.size * storage.dtype.itemsize
        if struct.unpack("<q", mapped.read(8))[0] != storage.size:
            raise ValueError(f"storage {storage.key} has another size than announced")
        if storage in wanted:
            buffers[storage.key] = mapped.read(size)
        else:
            mapped.seek(size, io.SEEK_CUR)
    return buffers


def _state_dict(content: object, path: Path) -> dict[str, _View]:
    """Find the state dict in what was read: the dictionary itself, or the one that it wraps."""
    if not isinstance(content, dict) or not content:
        raise error(
            f"{path} must be a state dict (names and tensors)",
            got="an empty one" if isinstance(content, dict) else f"a {type(content).__name__}",
            cure="save `model.state_dict()`",
        )
    found = _wrapped(content)
    if not found:
        raise error(
            f"{path} must map names to tensors",
            got=f"other things under {', '.join(_shown(str(key)) for key in _strangers(content)[:3])}",
            cure="save `model.state_dict()` alone",
        )
    return _meant(found, path)


def _wrapped(content: dict) -> dict[str, dict[str, _View]]:
    """Return every dictionary of names and tensors in nested ones, by the keys that lead to it; optimizers left out."""
    found: dict[str, dict[str, _View]] = {}
    seen: set[int] = set()
    waiting: collections.deque[tuple[tuple[str, ...], dict]] = collections.deque([((), content)])
    while waiting and len(found) <= _MOST_FOUND:
        keys, inner = waiting.popleft()
        if id(inner) in seen or _is_no_network(keys, inner):
            continue
        seen.add(id(inner))
        if not _strangers(inner):
            named = without_technical(inner)
            if named not in found.values():
                found[".".join(keys)] = named
        elif len(keys) < LEVELS:
            waiting.extend(((*keys, _shown(str(k))), value) for k, value in inner.items() if isinstance(value, dict))
    return found


def _is_no_network(keys: tuple[str, ...], inner: dict) -> bool:
    return not inner or "param_groups" in inner or any(word in key.lower() for key in keys for word in _TRAINING)


def _strangers(inner: dict) -> list[object]:
    return [key for key, value in inner.items() if not (isinstance(key, str) and isinstance(value, _View))]


def _meant(found: Mapping[str, dict[str, _View]], path: Path) -> dict[str, _View]:
    """Choose the only state dict; of several, the one under a usual key, unless another holds the same names."""
    # Without counts, rates and the like.
    found = {key: views for key, views in found.items() if any(view.shape for view in views.values())} or found
    usual = [key for key in found if key.split(".")[-1] in _WRAPPERS] if len(found) > 1 else list(found)
    alike = [views for views in found.values() if len(usual) == 1 and views.keys() == found[usual[0]].keys()]
    if len(alike) != 1:
        raise _several(sorted(found), path)
    return alike[0]


def _several(keys: list[str], path: Path) -> UserError:
    named = ", ".join(keys[:6]) + (", ..." if len(keys) > 6 else "")
    access = "".join(f"[{part!r}]" for part in keys[0].split("."))
    return error(
        f"{path} must hold one state dict",
        got=f"{len(keys)} of them, under {named}",
        cure=f"save the one that is meant, such as `torch.save(torch.load(FILE){access}, 'one.pth')`",
    )


def _check_view(view: _View) -> None:
    storage, offset, shape, stride = view
    count = math.prod(shape)
    # From the first element to one past the last.
    reach = 1 + sum((length - 1) * step for length, step in zip(shape, stride, strict=False)) if count else 0
    # One larger than its storage would repeat elements: no weight does, and it could claim any memory.
    if len(shape) != len(stride) or count > storage.size or offset + reach > storage.size:
        raise ValueError("a tensor that lies outside its storage")


def _array(view: _View, buffer: bytes) -> np.ndarray:
    storage, offset, shape, stride = view
    elements = np.frombuffer(buffer, storage.dtype, count=storage.size)
    if storage.kind == "BFloat16Storage":
        # bfloat16 is the upper half of a float32.
        elements = (elements.astype(np.uint32) << 16).view(np.float32)
    steps = [step * elements.itemsize for step in stride]
    window = np.lib.stride_tricks.as_strided(elements[offset:], shape, steps)
    return np.ascontiguousarray(window).reshape(shape)
