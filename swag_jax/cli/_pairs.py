"""Which pairs `swag-jax batch` makes: every combination of two folders, one by one, or the lines of a file."""

import csv
import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from swag_jax._checks import UserError, error, near
from swag_jax._files import read_text
from swag_jax.cli._flags import Parser, add_flags, build
from swag_jax.cli._folder import Task, unique
from swag_jax.cli._images import images_in, named
from swag_jax.cli._settings import MaskedPairFlags, PairFlags
from swag_jax.optimize import StylizeSettings

Made = TypeVar("Made")
Row = Mapping[str, Any]

_OWN_KEYS = ("name", "content", "style", "content-masks", "style-masks")
_SHEET = re.compile(r"sheet(-\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Masks:
    """The files of a pair's masks: one for each style, or none."""

    content: tuple[Path, ...] = ()
    style: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Job(Task):
    """One pair to be made, its settings, the image that it starts from, if one was given, and masks."""

    settings: StylizeSettings
    init: Path | None
    masks: Masks


def from_folders(contents: Path, styles: Path, given: MaskedPairFlags, *, zipped: bool = False) -> list[Job]:
    """Return every combination of the images of two folders, or, `zipped`, the first with the first and so on."""
    settings, init = given.chosen_start()
    first, second = named(images_in(contents, "--contents")), named(images_in(styles, "--styles"))
    if zipped and len(first) != len(second):
        rule = "with --zip, there must be as many contents as styles"
        raise error(rule, got=f"{len(first)} and {len(second)}", cure="leave out --zip for every combination")
    pairs = zip(first.items(), second.items(), strict=True) if zipped else product(first.items(), second.items())
    masks = Masks(given.content_masks, given.style_masks)
    return _checked(Job(f"{a}_{b}", c, (s,), settings, init, masks) for (a, c), (b, s) in pairs)


def from_file(path: Path, given: MaskedPairFlags) -> list[Job]:
    """Return the pairs of a file: `content`, `style`, perhaps `name`, and options named like the flags."""
    return _checked(each_row(path, lambda row: _job(row, path.parent, given)))


def each_row(path: Path, make: Callable[[Row], Made]) -> list[Made]:
    """Make something of every line of a pairs file; errors say which line it was.

    A CSV file has a header; several styles stand in one cell, separated by semicolons, and an empty cell is not given.
    A JSON line holds one object; `style` may be a list. Paths are relative to the file's folder.
    """
    readers = {".csv": _csv_rows, ".jsonl": _json_rows}
    if path.suffix.lower() not in readers:
        raise error("--pairs must end in .csv or .jsonl", got=path, cure="name it after what it holds")
    try:
        text = read_text(path, encoding="utf-8-sig")
    except (OSError, ValueError) as problem:
        raise error(f"--pairs {path} must be a readable text file", got=problem) from problem
    made, line = list[Made](), 1
    try:
        for line, row in readers[path.suffix.lower()](text):  # noqa: B007, an error tells the line
            made.append(make(row()))
    except UserError as problem:
        raise UserError(f"{path}, line {line}: {problem}") from problem
    except csv.Error as problem:
        raise error(f"--pairs {path} must be a table", got=problem, cure="give every pair a line") from problem
    if not made:
        raise error("--pairs must hold at least one pair", got=f"none in {path}")
    return made


# Rows are yielded unread, so that an error in one is told with its line.


def _csv_rows(text: str) -> Iterator[tuple[int, Callable[[], Row]]]:
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    _unrepeated((name.strip(), None) for name in reader.fieldnames or ())
    for row in reader:
        yield reader.line_num, functools.partial(_csv_row, row, columns=len(reader.fieldnames or ()))


def _csv_row(row: Mapping[Any, Any], *, columns: int) -> Row:
    if None in row or None in row.values():
        rule = f"a line must have one cell for each of the {columns} columns"
        raise error(rule, cure="quote cells with commas")
    return {name.strip(): value.strip() for name, value in row.items() if value.strip()}


def _json_rows(text: str) -> Iterator[tuple[int, Callable[[], Row]]]:
    for line, content in enumerate(text.splitlines(), start=1):
        if content.strip():
            yield line, functools.partial(_json_row, content)


def _json_row(content: str) -> Row:
    try:
        row = json.loads(content, object_pairs_hook=_unrepeated)
    except UserError:
        raise
    except (ValueError, RecursionError) as problem:
        raise error("a line must be a JSON object", got=problem) from problem
    if not isinstance(row, dict):
        raise error("a line must be a JSON object", got=type(row).__name__)
    return {name: value for name, value in row.items() if value is not None}


def _unrepeated(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return a dictionary; raise if a column or key is there twice, also by the two ways of writing one."""
    found, spelled = dict[str, Any](), set[str]()
    for name, value in pairs:
        if (own := name.replace("_", "-")) in spelled:
            raise error("a column or key must be there once", got=f"{own!r} twice", cure="leave one out")
        spelled.add(own)
        found[name] = value
    return found


class _RowParser(Parser):
    """The settings' flags without a command: what is wrong with them is an error of their line."""

    def error(self, message: str) -> NoReturn:
        """Raise."""
        raise UserError(f"{message}.")


def _job(row: Row, folder: Path, given: MaskedPairFlags) -> Job:
    content, styles = paths_of(row, folder)
    name = str(row.get("name") or "_".join(path.stem for path in (content, *styles)))
    if name in (".", "..") or any(sign in name for sign in "/\\\0"):
        raise error("a name must be usable as a file's name", got=repr(name), cure="leave out / and \\")
    row = {key.replace("_", "-"): value for key, value in row.items()}
    masks = Masks(
        _paths(row.get("content-masks", ""), folder) or given.content_masks,
        _paths(row.get("style-masks", ""), folder) or given.style_masks,
    )
    return Job(name, content, styles, *_settings(row, folder, given), masks)


def paths_of(row: Row, folder: Path) -> tuple[Path, tuple[Path, ...]]:
    """Return the content and the styles of a line."""
    for key in ("content", "style"):
        if not row.get(key):
            raise error(f"there must be a {key}", cure=f"add the column or key `{key}`")
    return folder / str(row["content"]), _paths(row["style"], folder)


def _paths(value: Any, folder: Path) -> tuple[Path, ...]:
    """Return the paths of a list, or of a cell with semicolons between them."""
    values = value if isinstance(value, list) else [part.strip() for part in str(value).split(";")]
    return tuple(folder / str(each) for each in values if each)


def _settings(row: Row, folder: Path, given: PairFlags) -> tuple[StylizeSettings, Path | None]:
    """Return the command's settings, and where it starts, with those of a line over them."""
    own = build(PairFlags, _row_parser().parse_args(list(_words(row))))
    preset, settings = own.preset or given.preset, {**given.settings, **own.settings}
    both = PairFlags(preset=preset, settings=settings, init=own.init or given.init)
    return both.chosen_start(folder if own.init else Path())


def _words(row: Row) -> Iterator[str]:
    """Yield the options of a line as the command line would have them."""
    known = [flag[2:] for flag in _row_parser().flags]
    for name, value in row.items():
        own = name.replace("_", "-")
        if own in known:
            yield f"--{own}={','.join(map(str, value)) if isinstance(value, list) else value}"
        elif own not in _OWN_KEYS:
            raise UserError(f"unknown option {own!r}: {near(own, [*_OWN_KEYS, *known])}")


@functools.cache
def _row_parser() -> Parser:
    parser = _RowParser(prog="--pairs", add_help=False)
    add_flags(parser, PairFlags)
    return parser


def _checked(jobs: Iterable[Job]) -> list[Job]:
    """Raise unless all names differ, and from the contact sheet's."""
    found = unique(jobs, cure="rename a file, or give a `name`")
    for job in found:
        if _SHEET.fullmatch(job.name):
            raise error("no pair may have the name of the contact sheet", got=repr(job.name), cure="choose another")
    return found
