"""The images of folders, and their names."""

from collections.abc import Sequence
from pathlib import Path

from swag_jax._checks import error
from swag_jax._files import what_is_missing
from swag_jax.images._decode import SUFFIXES, left_out


def images_in(folder: Path, what: str) -> list[Path]:
    """Return the images of a folder by name; without any, the error calls it `what`."""
    if not folder.is_dir():
        got = what_is_missing(folder) or folder
        raise error(f"{what} must be a folder of images", got=got, cure="pass an existing folder")
    try:
        entries = sorted(folder.iterdir())
    except OSError as problem:
        raise error(f"{what} must be a folder that can be read", got=f"{folder}: {problem.strerror}") from problem
    found = [p for p in entries if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and not p.is_dir()]
    if not found:
        got = f"none in {folder}"
        raise error(f"{what} must hold images ({', '.join(SUFFIXES)})", got=got, cure=left_out(folder))
    return found


def left_out_of(*folders: Path | None, deep: bool = False) -> list[str]:
    """Return a line for each of the folders in which some files are no images."""
    found = (left_out(folder, deep=deep) for folder in dict.fromkeys(folders) if folder is not None and folder.is_dir())
    return [line for line in found if line is not None]


def named(paths: Sequence[Path]) -> dict[str, Path]:
    """Name images by their stems; those that share one by stem and suffix."""
    stems = [path.stem.lower() for path in paths]
    return {p.stem if stems.count(p.stem.lower()) == 1 else f"{p.stem}-{p.suffix[1:]}": p for p in paths}
