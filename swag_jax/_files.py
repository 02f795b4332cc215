"""Files: written whole or not at all, compared by what they mean, and read even if a killed process damaged them."""

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
except ImportError:  # Windows has no such locks; files of killed runs stay there
    fcntl = None

_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.part")  # names of files that are being written

# Errors of a file system without room, or of a user who has used up a quota.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_swept: set[Path] = set()  # folders that this process has cleaned up


def place(path: Path) -> Hashable:
    """Return a key that is equal for all spellings of one file, links to it, and its hard links."""
    try:
        target = real(path)
        # A file that does not exist: its folder's identity, and its name in it.
        return _numbers(target) or (_numbers(target.parent) or target.parent, target.name)
    except ValueError:  # a NUL character, which no file's name has
        return str(path)


def real(path: Path) -> Path:
    """Return the absolute path after all links; for a link that leads to itself, the link."""
    return Path(os.path.realpath(path))  # `Path.resolve` raises for such a link before Python 3.13


def _numbers(path: Path) -> tuple[int, int] | None:
    """Return the device and inode of a file, which identify it; `None` if there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # ValueError: a NUL character
        return None
    return found.st_dev, found.st_ino


def _mode(path: Path) -> int:
    """Return the mode of a file, or of a link itself; 0 if there is none."""
    try:
        return path.lstat().st_mode
    except (OSError, ValueError):
        return 0


def check_apart(outputs: Iterable[tuple[str, Path]], inputs: Iterable[tuple[str, Path | None]] = ()) -> None:
    """Check, before long work starts, that no output is also an input, and no two outputs are one file.

    Each file comes with its name for errors. What killed runs left partly written next to the outputs is removed.
    """
    read = {place(path): what for what, path in inputs if path is not None and _numbers(path)}
    written: dict[Hashable, str] = {}
    folders = dict[Path, None]()
    for what, path in outputs:
        own = place(path)  # links and other spellings are the same file
        if own in read:
            rule = f"{what} must not be one of the files that are read ({read[own]})"
            raise error(rule, got=path, cure="choose another name for the output")
        if own in written:
            raise error(f"{what} and {written[own]} must be two files", got=path, cure="choose another name for one")
        written[own] = what
        folders[path.parent] = None
    for folder in folders:
        sweep(folder)


def check_target(path: Path, *, what: str) -> None:
    """Check, before long work starts, that a file can be written; `what` names it in errors."""
    target = target_of(path)
    if target.is_dir() or not target.parent.is_dir() or not os.access(target.parent, os.W_OK):
        raise error(f"{what} must name a file in an existing, writable folder", got=path)


def target_of(path: Path) -> Path:
    """Return the file to write: the end of a link, which itself stays; otherwise the path."""
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
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as problem:
        reason = what_is_missing(folder) or getattr(problem, "strerror", None) or problem
        raise error(f"cannot make the folder {folder}", got=reason, cure="choose another folder") from problem


def what_is_missing(path: Path) -> str | None:
    """Describe a link that leads nowhere; `None` for any other path."""
    if not stat.S_ISLNK(_mode(path)) or _numbers(path):
        return None
    if stat.S_ISLNK(_mode(real(path))):
        return "a link that leads to itself"
    return f"a link to {path.readlink()}, which does not exist"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file in the folder of `path`; it becomes `path` at the end, or vanishes if the body fails.

    A link stays a link.
    """
    target = target_of(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if (folder := real(target.parent)) not in _swept:
            sweep(folder)
            _swept.add(folder)
        # In the same folder, because a rename is atomic only within one file system.
        with _held(target.parent) as temporary:
            try:
                yield temporary
                _sync(temporary)  # before it is renamed, so that a power cut leaves no empty file
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not all file systems can, and the file itself is safe
            _sync(target.parent)
    except OSError as problem:
        raise unwritable(path, problem) from problem


def write_whole(path: Path, data: bytes) -> None:
    """Write a file from memory, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)
        if (size := temporary.stat().st_size) != len(data):
            raise OSError(errno.ENOSPC, f"only {size} of {len(data)} bytes were kept")


def append(path: Path, text: str) -> None:
    """Add text at the end of a file, all of it or nothing."""
    left = memoryview(text.encode("utf-8"))
    try:
        with path.open("ab", buffering=0) as file:
            end = file.tell()
            try:
                while left:
                    left = left[file.write(left) :]
            except OSError:
                file.truncate(end)  # a partial line would spoil the next one
                raise
    except OSError as problem:
        raise unwritable(path, problem) from problem


def read_text(path: Path, *, encoding: str = "utf-8") -> str:
    """Return the text of a file; a device or pipe, which may not end, is not read: an `OSError`."""
    if path.exists() and not path.is_file():
        raise OSError("a folder, device or pipe")
    return path.read_text(encoding=encoding)


def read_json_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the JSON objects of a file with one on each line, and the number of lines that hold anything else.

    A last line that a killed process left unfinished is not counted. A missing file has no lines.
    """
    if not path.exists():
        return [], 0
    if not path.is_file():
        raise error(f"{path} must be a file", cure="move it away")
    try:
        *lines, last = path.read_bytes().split(b"\n")
    except OSError as problem:
        raise error(f"cannot read {path}: {problem.strerror}") from problem
    # The last line counts if it is complete; if not, it is no damage.
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
    """Return the error that explains why a file cannot be written."""
    cure = "make room on the disk" if problem.errno in _FULL else "choose a folder you may write to"
    return error(f"cannot write {path}: {problem.strerror or problem}", cure=cure)


def tells_of_no_room(problem: BaseException | None) -> bool:
    """Tell whether an error, or one of its causes, is a full disk, whatever library raised it."""
    if problem is None:
        return False
    full = isinstance(problem, OSError) and problem.errno in _FULL
    named = any(os.strerror(code) in str(problem) for code in _FULL)
    return full or named or tells_of_no_room(problem.__cause__ or problem.__context__)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[Path]:
    # Locked, so that `sweep` in another process leaves it alone.
    while True:
        # Not the target's name with a suffix, which may be too long for the file system.
        temporary = folder / f".{secrets.token_hex(8)}.part"
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        try:
            _lock(handle, wait=True)
            if _numbers(temporary):  # otherwise another process removed it before it was locked
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
    """Remove what killed runs left partly written in a folder: files with our temporary names that no process holds."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if _TEMPORARY.fullmatch(path.name) and stat.S_ISREG(_mode(path)):
                with contextlib.suppress(OSError), path.open("r+b") as file:
                    if _lock(file.fileno(), wait=False):
                        path.unlink()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as problem:
        if problem.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems without it
            raise
    finally:
        os.close(handle)
