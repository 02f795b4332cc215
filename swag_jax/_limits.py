"""Limits on what a file may cost to read: for every reader of checkpoints and artifacts, in one place.

The numbers of networks and images cost what their files weigh. Descriptions (pickles, JSON) are small in every real
file, but could ask for any time and memory. The limits are our choices, far above what real files need.
"""

import json
import zipfile
from typing import Any

DESCRIPTION_BYTES = 64 * 2**20
"""Of a pickle. A network of 10,000 tensors has 1 MB."""

DESCRIPTION_VALUES = 400_000
"""Steps of a pickle. A network of 10,000 tensors has 200,000."""

JSON_BYTES = 2**20
"""Of a configuration or a table of contents."""

LEVELS = 8
"""Dictionaries or prefixes around the weights."""

AXES = 32
"""Of one tensor."""

REPEATED = 4
"""Bytes of all tensors together per byte of their file: tensors may share numbers, and bfloat16 is widened."""


def read_json(text: str | bytes) -> Any:
    """Return the contents of a JSON text; a `ValueError` if it is too large, too deep, or no JSON."""
    if len(text) > JSON_BYTES:
        raise ValueError(f"{len(text)} bytes of JSON")
    try:
        return json.loads(text)
    except RecursionError as problem:
        raise ValueError("JSON that is too deep") from problem


def read_entry(archive: zipfile.ZipFile, name: str, *, most: int | None = None) -> bytes:
    """Read one entry, of at most so many bytes, of a zip file that stores without compressing, and verify its checksum.

    A `ValueError` if it is compressed, since it could then unpack to any size.
    """
    entry = archive.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
        raise ValueError("compressed parts")
    if most is not None and entry.file_size > most:
        raise ValueError(f"{name} of {entry.file_size} bytes")
    return archive.read(entry)
