"""Files: written whole or not at all, told apart by what they mean, and read though another process damaged them."""

import contextlib
import errno
import json
import os
import re
import secrets
import stat
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any

from swag_jax._checks import UserError, error

try:
    import fcntl
except ImportError:  # Windows has no such locks: there, what a killed run leaves is not told from what one writes
    fcntl = None

_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.part")
"""Names of files that are being written."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a file system answers that has no room left, or a user of it."""

_swept: set[Path] = set()
"""Folders that this process has cleaned up."""


def place(path: Path) -> Hashable:
    """Return what a path means: equal for two spellings of one file, for links to it, and for its hard links.

    A file that does not exist is told by its folder and its name.

    Args:
        path: The file.
    """
    try:
        target = real(path)
        return _numbers(target) or (_numbers(target.parent) or target.parent, target.name)
    except ValueError:  # a NUL character, which no file's name has
        return str(path)


def real(path: Path) -> Path:
    """Return the absolute path behind all links; of a link that leads to itself, the link.

    Args:
        path: Any path. (`Path.resolve` raises for such a link before Python 3.13.)
    """
    return Path(os.path.realpath(path))


def _numbers(path: Path) -> tuple[int, int] | None:
    """Return what the file system knows a file by; nothing where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # ValueError: a NUL character
        return None
    return found.st_dev, found.st_ino


def _mode(path: Path) -> int:
    """Return the mode of a file, of a link itself; 0 where there is none."""
    try:
        return path.lstat().st_mode
    except (OSError, ValueError):
        return 0


def check_apart(outputs: Iterable[tuple[str, Path]], inputs: Iterable[tuple[str, Path | None]] = ()) -> None:
    """Check, before long work starts, that nothing which is written is also read, nor written twice.

    What killed runs left half written beside the outputs is removed.

    Args:
        outputs: What each file that will be written is called, and the file.
        inputs: What each file that is read is called, and the file; those that do not exist are passed over.

    Raises:
        UserError: If two of them are one file.
    """
    read = {place(path): what for what, path in inputs if path is not None and _numbers(path)}
    written: dict[Hashable, str] = {}
    folders = dict[Path, None]()
    for what, path in outputs:
        own = place(path)
        if own in read:
            rule = f"{what} must not be one of the files that are read ({read[own]})"
            raise error(rule, got=path, cure="choose another name for the output")
        if own in written:
            raise error(f"{what} and {written[own]} must be two files", got=path, cure="name one of them otherwise")
        written[own] = what
        folders[path.parent] = None
    for folder in folders:
        sweep(folder)


def check_target(path: Path, *, what: str) -> None:
    """Check, before long work starts, that a file can be written.

    Args:
        path: The file, which need not exist.
        what: What to call it.

    Raises:
        UserError: If it is a folder or a device, or its folder is missing or not writable.
    """
    target = target_of(path)
    if target.is_dir() or not target.parent.is_dir() or not os.access(target.parent, os.W_OK):
        raise error(f"{what} must name a file in an existing, writable folder", got=path)


def target_of(path: Path) -> Path:
    """Return the file that a path leads to, which is the one to be written: a link stays.

    Args:
        path: The file, which need not exist.

    Raises:
        UserError: If it is a device, a pipe, or a link without end.
    """
    if "\0" in str(path):
        raise error("a file's name must not contain a NUL character", got=repr(str(path)))
    target = real(path) if stat.S_ISLNK(_mode(path)) else path
    kind = _mode(target)
    if stat.S_ISLNK(kind):
        raise error(f"{path} must be a file to write", got="a link that leads to itself", cure="remove it")
    if kind and not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise error(f"{path} must be a file to write", got="a device or pipe", cure="name a file")
    return target


def make_folder(folder: Path) -> None:
    """Make the folder of results, unless it is there.

    Args:
        folder: The folder.

    Raises:
        UserError: If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as problem:
        reason = what_is_missing(folder) or getattr(problem, "strerror", None) or problem
        raise error(f"cannot make the folder {folder}", got=reason, cure="choose another folder") from problem


def what_is_missing(path: Path) -> str | None:
    """Say of a link that it leads nowhere; nothing of any other path.

    Args:
        path: A path.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     link = Path(folder, "link.png")
        ...     link.symlink_to("nowhere.png")
        ...     what_is_missing(link)
        'a link to nowhere.png, which does not exist'
    """
    if not stat.S_ISLNK(_mode(path)) or _numbers(path):
        return None
    if stat.S_ISLNK(_mode(real(path))):
        return "a link that leads to itself"
    return f"a link to {path.readlink()}, which does not exist"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside `path`; it becomes `path` at the end, or vanishes if the body fails.

    Beside, not in the system's temporary folder: a rename is atomic only within one file system. It is on the disk
    before it gets its name, so that no power cut leaves an empty file of that name. A link stays a link.

    Raises:
        UserError: If the folder or the file cannot be written.
    """
    target = target_of(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if (folder := real(target.parent)) not in _swept:
            sweep(folder)
            _swept.add(folder)
        with _held(target.parent) as temporary:
            try:
                yield temporary
                _sync(temporary)
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # some file systems cannot, and the file itself is safe
            _sync(target.parent)
    except OSError as problem:
        raise unwritable(path, problem) from problem


def write_whole(path: Path, data: bytes) -> None:
    """Write a file from memory, whole or not at all.

    Args:
        path: The file.
        data: All of it.

    Raises:
        UserError: If it cannot be written, for lack of room also.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(data)
        if (size := temporary.stat().st_size) != len(data):
            raise OSError(errno.ENOSPC, f"only {size} of {len(data)} bytes were kept")


def append(path: Path, text: str) -> None:
    """Add text at the end of a file, all of it or nothing.

    Args:
        path: The file, which need not exist.
        text: What to add.

    Raises:
        UserError: If it cannot be written.
    """
    left = memoryview(text.encode("utf-8"))
    try:
        with path.open("ab", buffering=0) as file:
            end = file.tell()
            try:
                while left:
                    left = left[file.write(left) :]
            except OSError:
                file.truncate(end)  # half a line would spoil the next one
                raise
    except OSError as problem:
        raise unwritable(path, problem) from problem


def read_text(path: Path, *, encoding: str = "utf-8") -> str:
    """Return the text of a file; a device or pipe, which may not end, is not read.

    Args:
        path: The file.
        encoding: Of the text.

    Raises:
        OSError: If it is no file, or cannot be read.
        UnicodeDecodeError: If it is no such text.
    """
    if path.exists() and not path.is_file():
        raise OSError("a folder, device or pipe")
    return path.read_text(encoding=encoding)


def read_json_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    r"""Return the JSON objects of a file with one on each line, whatever else stands there.

    Args:
        path: The file, which need not exist.

    Returns:
        The objects in order, and the number of other lines. One at the end that a killed process left half written is
        not counted.

    Raises:
        UserError: If the file is there and cannot be read.

    Example:
        >>> _ = Path("lines.jsonl").write_bytes(b'{"a": 1}\n\xff\n[2]\n{"b": 3}\n{"half')
        >>> read_json_lines(Path("lines.jsonl"))
        ([{'a': 1}, {'b': 3}], 2)
    """
    if not path.exists():
        return [], 0
    if not path.is_file():
        raise error(f"{path} must be a file", cure="move it away")
    try:
        *lines, last = path.read_bytes().split(b"\n")
    except OSError as problem:
        raise error(f"cannot read {path}: {problem.strerror}") from problem
    whole = [_json_object(line) for line in lines if line.strip()]
    found = [each for each in (*whole, _json_object(last)) if each is not None]
    return found, whole.count(None)


def _json_object(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def unwritable(path: Path, problem: OSError) -> UserError:
    """Explain why a file cannot be written.

    Args:
        path: The file.
        problem: What went wrong.
    """
    cure = "make room on the disk" if problem.errno in _FULL else "choose a folder you may write to"
    return error(f"cannot write {path}: {problem.strerror or problem}", cure=cure)


def tells_of_no_room(problem: BaseException | None) -> bool:
    """Tell whether an error, or what it came of, is that a disk has no room, whatever library it came through.

    Args:
        problem: The error.

    Example:
        >>> tells_of_no_room(ValueError("RESOURCE_EXHAUSTED: write failed: No space left on device"))
        True
    """
    if problem is None:
        return False
    full = isinstance(problem, OSError) and problem.errno in _FULL
    named = any(os.strerror(code) in str(problem) for code in _FULL)
    return full or named or tells_of_no_room(problem.__cause__ or problem.__context__)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[Path]:
    """Yield a new file of this process, locked, so that `sweep` in another one leaves it alone."""
    while True:
        # A short name of its own: where only the target's name is too long, cleaning up still works.
        temporary = folder / f".{secrets.token_hex(8)}.part"
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        try:
            _lock(handle, wait=True)
            if _numbers(temporary):  # else it was swept away before it was locked
                yield temporary
                return
        finally:
            os.close(handle)


def _lock(handle: int, *, wait: bool) -> bool:
    """Lock a file against other processes and handles; tell whether that was possible."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def sweep(folder: Path) -> None:
    """Remove what killed runs left half written in a folder: files named as ours that no process holds.

    Args:
        folder: The folder, which need not exist.
    """
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            if _TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    _remove_unless_held(Path(entry.path))


def _remove_unless_held(path: Path) -> None:
    handle = os.open(path, os.O_RDWR)
    try:
        if _lock(handle, wait=False):
            path.unlink()
    finally:
        os.close(handle)


def _sync(path: Path) -> None:
    """Bring a file, or a folder's names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as problem:
        if problem.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems without it
            raise
    finally:
        os.close(handle)
