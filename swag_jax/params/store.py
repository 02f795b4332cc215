"""The local store of converted checkpoints: one safetensors file each, in our names and layout.

It is the folder `weights` in `$SWAG_JAX_HOME`, or in `~/.cache/swag_jax`. A file's metadata says what it comes from.
"""

import os
import re
from pathlib import Path

from swag_jax._checks import error
from swag_jax.params._files import file_sha256
from swag_jax.params.checkpoint_file import tensors_sha256
from swag_jax.params.convert import Converted, convert, read_parameters
from swag_jax.params.layouts import NATIVE
from swag_jax.params.manifest import Checkpoint, weights_folder
from swag_jax.params.safetensors_file import read_metadata, write_safetensors
from swag_jax.params.tree import Shapes

_SUFFIX = ".safetensors"


def home() -> Path:
    """Return the folder for everything this package keeps between runs."""
    chosen = os.environ.get("SWAG_JAX_HOME")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "swag_jax"


def stored_path(name: str) -> Path:
    """Return where the store keeps (or would keep) a checkpoint; a `UserError` if no file may be called so."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise error("a checkpoint's name must be letters, digits and . _ -", got=repr(name), cure="rename it")
    return home() / "weights" / f"{name}{_SUFFIX}"


def stored() -> dict[str, Path]:
    """Return every checkpoint in the store by name."""
    return {path.stem: path for path in sorted((home() / "weights").glob(f"[!.]*{_SUFFIX}"))}


def install(name: str, converted: Converted) -> Path:
    """Put a converted checkpoint into the store, whole or not at all, and return its path.

    Returns:
        The file that it is now.
    """
    path = stored_path(name)
    write_safetensors(path, converted.tensors, converted.metadata)
    return path


def verify_stored(name: str, expected: Shapes) -> None:
    """Check that a stored checkpoint is there, is undamaged and fits its network."""
    path = stored_path(name)
    metadata = read_metadata(path)
    # As stored: 0.1.0 took originals for torchvision's, which is put right only when they are read.
    recorded = "imagenet" if metadata.get("normalization") == "imagenet" else "auto"
    backbone = metadata.get("backbone", "")
    tensors = read_parameters(path, backbone, expected, layout=NATIVE.name, normalization=recorded)
    check_hash(path, tensors_sha256(tensors), metadata.get("tensors_sha256"))


def verify_embedded(entry: Checkpoint, expected: Shapes) -> None:
    """Check that an embedded checkpoint is undamaged and fits its network."""
    path = weights_folder() / str(entry.file)
    convert(path, entry.backbone, expected, layout=entry.layout)
    check_hash(path, file_sha256(path), entry.sha256)


def check_hash(path: Path, found: str, recorded: str | None) -> None:
    """Raise unless a hash is the one that is recorded of a file or its tensors."""
    if found != recorded:
        raise error(f"{path} must have the recorded sha256 {recorded}", got=found, cure="fetch or convert it again")
