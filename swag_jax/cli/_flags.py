"""Flags from settings: names, types, defaults and help of `stylize` come from the dataclasses and their docstrings."""

import argparse
import dataclasses
import inspect
import re
import types
import typing
from typing import Any, NoReturn

from swag_jax._checks import check_name
from swag_jax.backbones import NAMES
from swag_jax.losses import Objective
from swag_jax.optimize import Settings
from swag_jax.presets import OF_BACKBONE, PRESETS
from swag_jax.smoothing import Smoothing

_RENAMED = {"kind": "smoothing", "scale": "smoothing_scale", "layers": "smoothing_layers"}
"""Settings whose flag has another name than the attribute; all are the smoothing's."""

_HIDDEN = {"objective", "smoothing", "colors", "init"}
"""Attributes without a flag of their own: two hold other settings, two have flags that take more than a name."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with code 2."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every attribute of `Settings`, `Objective` and `Smoothing`; unset ones stay `None`."""
    parser.add_argument(
        "--preset", metavar="NAME", help=f"named settings to start from: {', '.join(PRESETS)} (default: by backbone)"
    )
    for owner, title in ((Settings, "settings"), (Objective, "losses"), (Smoothing, "smoothing")):
        group = parser.add_argument_group(title)
        documented, hints = attribute_help(owner), typing.get_type_hints(owner)
        for field in dataclasses.fields(owner):
            if field.name not in _HIDDEN:
                _add_flag(group, field, hints[field.name], documented[field.name])


def _add_flag(group, field: dataclasses.Field, hint: Any, text: str) -> None:
    flag = _RENAMED.get(field.name, field.name)
    convert, metavar = _converter(hint)
    default = _shown(field.default)
    group.add_argument(
        f"--{flag.replace('_', '-')}",
        dest=f"setting_{field.name}",
        type=convert,
        metavar=metavar,
        help=f"{text} (default: {default})".replace("%", "%%"),
    )


def _shown(default: object) -> str:
    if default in ((), None):
        return "by backbone or preset" if default == () else "all"
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _converter(hint: Any):
    """Return what turns a flag's text into a value of the annotated type, and its name in the help."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if float in options and len(options) > 1:
        return _number_or_name, "T"
    kind = next(option for option in options if option is not type(None))
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        return _listed(item), "A,B" if item is str else "X,Y"
    if kind in (int, float):
        return kind, "N" if kind is int else "X"
    return str, "NAME"


def _number_or_name(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _listed(item: type):
    def values(text: str) -> tuple:
        return tuple(item(part) for part in text.split(",") if part)

    values.__name__ = f"comma-separated {item.__name__}"
    return values


def attribute_help(owner: type) -> dict[str, str]:
    """Return the text of each attribute in the `Attributes:` section of a class's docstring."""
    section = (inspect.getdoc(owner) or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", section, flags=re.MULTILINE)
    return {name: " ".join(text.split()).rstrip(".") for name, text in entries}


def chosen_settings(arguments: argparse.Namespace) -> Settings:
    """Return the preset's settings with the given flags over them.

    Without `--preset`, the backbone's own preset is the start. A preset under another `--backbone` reads that
    backbone's default layers.

    Raises:
        UserError: If a name is unknown or a value out of range.
    """
    given = {
        name.removeprefix("setting_"): value
        for name, value in vars(arguments).items()
        if name.startswith("setting_") and value is not None
    }
    backbone = check_name(given.get("backbone", "vgg19"), NAMES, what="backbone")
    preset = check_name(arguments.preset or OF_BACKBONE[backbone], PRESETS, what="preset")
    return PRESETS[preset].replace(**given)
