"""`results.jsonl`: one JSON line per pair, appended as pairs end, so that a killed run knows what is done."""

import functools
import hashlib
import json
import stat
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from swag_jax import params
from swag_jax._checks import UserError, error
from swag_jax._files import append, read_json_lines, replacing
from swag_jax.cli._pairs import Job
from swag_jax.images import read_image
from swag_jax.params._files import file_sha256

DONE, FAILED = "done", "failed"


class Results:
    """The records of an output folder, by name.

    Attributes:
        folder: The folder.
        records: The newest record of each name, from all files of records in the folder.

    Args:
        folder: The folder.
        process: The number of this process, where there are several; each writes a file of its own.
        options: What images depend on beside their pairs.
    """

    def __init__(self, folder: Path, *, process: int | None = None, options: Mapping[str, object] | None = None):
        self.folder, self._options = folder, dict(options or {})
        # A checkpoint is hashed to be resolved: once for all pairs.
        self._source = functools.cache(lambda backbone, weights: params.resolve(backbone, weights=weights))
        self._path = folder / ("results.jsonl" if process is None else f"results-{process}.jsonl")
        self._lock = threading.Lock()
        self.records = _read(_files(folder))
        if process is None:
            self.merge([])
        else:  # a line that was cut off when the last run was killed would spoil the one after it
            _write(self._path, _read([self._path]).values())

    def fingerprint(self, job: Job) -> str:
        """Return what tells a pair from others of its name: settings, weights, the images' bytes, the options."""
        source = self._source(job.settings.backbone, job.settings.weights)
        facts = {
            "settings": asdict(job.settings),
            "weights": [source.name, source.sha256],
            "init": None if job.init is None else _sha256_of(job.init),
        }
        return self.hashed(facts, [job.content, *job.styles])

    def hashed(self, facts: Mapping[str, object], images: Iterable[Path]) -> str:
        """Return what tells an image made from these facts and images, and with the options, from others."""
        known = {**facts, "images": [_sha256_of(path) for path in images], **self._options}
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]

    def add(self, record: dict[str, Any]) -> None:
        """Append a record."""
        with self._lock:
            self.records[record["name"]] = record
            append(self._path, json.dumps(record) + "\n")

    def is_ended(self, name: str, fingerprint: str, output: Path, *, retry_failed: bool) -> bool:
        """Tell whether an earlier run has left nothing to do: the same work, and what it wrote is still there.

        Args:
            name: The pair's.
            fingerprint: Of the pair as it is now.
            output: Where its result belongs.
            retry_failed: Whether what failed is to be tried again.
        """
        record = self.records.get(name)
        if record is None or record.get("fingerprint") != fingerprint:
            return False
        if record.get("status") == FAILED:
            return not retry_failed
        return record.get("status") == DONE and _is_kept(output, record)

    def merge(self, names: Sequence[str]) -> None:
        """Gather the records of all processes in `results.jsonl`: those of `names` in their order, then the others."""
        found = _read(_files(self.folder))
        order = [*(name for name in names if name in found), *(name for name in found if name not in set(names))]
        self.records = {name: found[name] for name in order}
        _write(self.folder / "results.jsonl", self.records.values())
        for path in _files(self.folder)[1:]:
            path.unlink()


def read_records(folder: Path) -> list[dict[str, Any]]:
    """Return the newest record of each name in a folder that `batch` wrote, and touch nothing there.

    Raises:
        UserError: If there are none.
    """
    records = list(_read(_files(folder)).values())
    if not records:
        raise error(f"{folder} must hold results.jsonl, as `swag-jax batch` writes it", got="no records")
    return records


def written(path: Path) -> dict[str, object]:
    """Return what a record holds of a file, by which a later run sees that it was cut, emptied or changed.

    Args:
        path: The file.
    """
    return {"bytes": path.stat().st_size, "sha256": file_sha256(path)}


def _is_kept(path: Path, record: Mapping[str, object]) -> bool:
    """Tell whether a result is still what was written; by version 0.1.0's records, whether it is a whole image."""
    try:
        if not path.is_file():
            return False
        if "sha256" in record:
            return path.stat().st_size == record.get("bytes") and written(path)["sha256"] == record["sha256"]
        read_image(path)
    except (OSError, UserError):
        return False
    return True


def _files(folder: Path) -> list[Path]:
    return [folder / "results.jsonl", *sorted(folder.glob("results-*.jsonl"))]


def _read(paths: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Return the last record of each name; damaged lines are left out, and their pairs done again."""
    lines = (line for path in paths if path.is_file() for line in read_json_lines(path)[0])
    return {line["name"]: line for line in lines if _is_record(line)}


_TEXTS = ("name", "content", "output", "backbone", "status", "error", "fingerprint")
"""What is text in a record, or `None`."""


def _is_record(line: Mapping[str, Any]) -> bool:
    """Tell whether what a record says of itself is of the right types; it need not say all of it."""
    styles = line.get("styles", [])
    listed = isinstance(styles, list) and all(map(_is_text, styles))
    return (
        _is_text(line.get("name"))
        and listed
        and all(_is_text(line.get(key, "")) or line[key] is None for key in _TEXTS)
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value


def _write(path: Path, records: Iterable[dict[str, Any]]) -> None:
    with replacing(path) as temporary:
        temporary.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def _sha256_of(path: Path) -> str | None:
    """Return the hash of a file's bytes; none of what cannot be read, nor of pipes and devices, which may not end."""
    try:
        found = path.stat()
        return _sha256(path, found.st_mtime_ns, found.st_size) if stat.S_ISREG(found.st_mode) else None
    except (OSError, ValueError):
        return None


@functools.lru_cache(maxsize=4096)
def _sha256(path: Path, _changed: int, _size: int) -> str:
    return file_sha256(path)
