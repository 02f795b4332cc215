"""Flags from settings: names, types, defaults and help of `stylize` come from the dataclasses and their docstrings."""

import argparse
import dataclasses
import inspect
import re
import types
import typing
from pathlib import Path
from typing import Any, NoReturn

from swag_jax._checks import check_name, near, one_line
from swag_jax.losses import Objective
from swag_jax.optimize import StylizeSettings
from swag_jax.optimize.settings import INITS
from swag_jax.presets import OF_BACKBONE, PRESETS, of_backbone
from swag_jax.smoothing import Smoothing

RENAMED = {"kind": "smoothing", "scale": "smoothing_scale", "layers": "smoothing_layers", "strength": "alpha"}
"""StylizeSettings whose flag has another name than the attribute: the smoothing's, and a generator's strength."""

HIDDEN = {"objective", "smoothing", "init"}
"""Attributes without a flag of their own: two hold other settings, `--init` also takes an image's path."""

_DEFAULT_BACKBONE = StylizeSettings().backbone


class Parser(argparse.ArgumentParser):
    """An argument parser that takes no abbreviations and no flag twice; its errors are one line, with near names."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, allow_abbrev=False, **options)
        self._given: dict[str, str] = {}

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        """Return the value of a flag or of the words without one; argparse asks once each time that it meets one."""
        if action.option_strings:
            flag = action.option_strings[0]
            if (before := self._given.get(action.dest)) is not None:
                same = before == flag
                self.error(f"{flag} is given twice: give it once" if same else f"{before} and {flag}: give one of them")
            self._given[action.dest] = flag
        return super()._get_values(action, arg_strings)  # pyright: ignore[reportAttributeAccessIssue]

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Parse; an unknown flag is an error here, where the flags that look like it are known."""
        self._given = {}
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(self._explain(unknown))
        return namespace, unknown

    def _explain(self, unknown: list[str]) -> str:
        flags = [word.partition("=")[0] for word in unknown if word.startswith("--")]
        if not flags:
            return f"unexpected {' '.join(unknown)}: name all images together, before the flags"
        known = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
        # An abbreviation is closest to what it abbreviates, whatever its length.
        close = [flag for flag in known if flag.startswith(flags[0])] or known
        return f"unknown flag {flags[0]}: {near(flags[0], close)}"

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with code 2."""
        self.exit(2, f"{self.prog}: error: {one_line(message)} (see {self.prog} --help)\n")


def add_keep_colors(parser: argparse.ArgumentParser) -> None:
    """Add the short form of `--colors luminance`."""
    parser.add_argument(
        "--keep-colors",
        action="store_const",
        const="luminance",
        dest="setting_colors",
        help="Keep the content's colors: short for --colors luminance",
    )


def add_init(parser: argparse.ArgumentParser) -> None:
    """Add the flag that says where to start."""
    words = ", ".join(INITS)
    text = f"Where to start: {words}, or an image's path (default: {StylizeSettings().init})"
    parser.add_argument("--init", metavar="INIT", help=text)


def chosen_init(
    init: str | None, settings: StylizeSettings, *, folder: Path = Path()
) -> tuple[StylizeSettings, Path | None]:
    """Return the settings with the given start in them, and the path of the starting image if it is one.

    Args:
        init: What `--init` was given.
        settings: All other settings.
        folder: What a path is relative to.

    Raises:
        UserError: If it is a word that is unknown; an image that is missing is told when it is read.
    """
    if init is None:
        return settings, None
    if init in INITS or not (Path(init).suffix or (folder / init).exists()):
        return settings.replace(init=check_name(init, INITS, what="init")), None
    return settings, folder / init


def add_settings(parser: argparse.ArgumentParser, **defaults: object) -> None:
    """Add a flag for every attribute of `StylizeSettings`, `Objective` and `Smoothing`; unset ones stay `None`.

    Args:
        parser: Where to add them.
        **defaults: Defaults of this command that differ from the presets'.
    """
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help=f"Named settings to start from: {', '.join(PRESETS)} (default: the backbone's, {_default_preset()})",
    )
    for owner, title in ((StylizeSettings, "settings"), (Objective, "losses"), (Smoothing, "smoothing")):
        group = parser.add_argument_group(title)
        documented, hints = attribute_help(owner), typing.get_type_hints(owner)
        for field in dataclasses.fields(owner):
            if field.name not in HIDDEN:
                shown = str(defaults[field.name]) if field.name in defaults else default_text(owner, field.name)
                _add_flag(group, field.name, hints[field.name], f"{documented[field.name]} (default: {shown})")
    parser.set_defaults(**{f"setting_{name}": value for name, value in defaults.items()})


def add_attributes(
    parser: argparse.ArgumentParser, value: Any, *, title: str | None = None, prefix: str = "setting"
) -> None:
    """Add a flag for every attribute of a frozen dataclass but those that hold others; unset ones stay `None`.

    Args:
        parser: Where to add them; an attribute whose flag is there already is left out.
        value: Its attributes are the defaults.
        title: Of the group of flags, if they are one.
        prefix: Of the names under which `chosen_attributes` finds them.
    """
    group = parser.add_argument_group(title) if title else parser
    documented, hints = attribute_help(type(value)), typing.get_type_hints(type(value))
    known = {action.dest for action in parser._actions}
    for field in dataclasses.fields(value):
        present, dest = getattr(value, field.name), f"{prefix}_{field.name}"
        if dataclasses.is_dataclass(present) or field.name == "taps" or dest in known:
            continue
        text = f"{documented[field.name]} (default: {_shown(present)})"
        if isinstance(present, bool):
            flag = f"--{RENAMED.get(field.name, field.name).replace('_', '-')}"
            group.add_argument(flag, dest=dest, action=argparse.BooleanOptionalAction, help=text)
        else:
            _add_flag(group, field.name, hints[field.name], text, prefix=prefix)


def _shown(value: Any) -> str:
    shown = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return {"": "none given", "None": "all"}.get(shown, shown)


def chosen_attributes(arguments: argparse.Namespace, *, prefix: str = "setting") -> dict[str, Any]:
    """Return the flags of `add_attributes` that were given, by the names of their attributes.

    Args:
        arguments: What was parsed.
        prefix: As they were added with.
    """
    start = f"{prefix}_"
    found = {name.removeprefix(start): value for name, value in vars(arguments).items() if name.startswith(start)}
    return {name: value for name, value in found.items() if value is not None}


def _add_flag(group: Any, name: str, hint: Any, text: str, *, prefix: str = "setting") -> None:
    convert, metavar = _converter(hint)
    group.add_argument(
        f"--{RENAMED.get(name, name).replace('_', '-')}",
        dest=f"{prefix}_{name}",
        type=convert,
        metavar=metavar,
        help=text.replace("%", "%%").replace("`", ""),
    )


def _default_preset() -> str:
    return OF_BACKBONE[_DEFAULT_BACKBONE]


def default_text(owner: type, name: str) -> str:
    """Say what a setting is where its flag is not given, as the command line starts from a preset.

    Example:
        >>> default_text(StylizeSettings, "size"), default_text(Smoothing, "kind")
        ('512', 'by preset; gatys-vgg19: none')
    """
    values = {preset: getattr(_part(settings, owner), name) for preset, settings in PRESETS.items()}
    value = values[_default_preset()]
    shown = _shown(value)
    same = name == "backbone" or all(other == value for other in values.values())
    return shown if same else f"by preset; {_default_preset()}: {shown}"


def _part(settings: StylizeSettings, owner: type) -> Any:
    """Return the value of class `owner` among the settings and what is inside them."""
    return next(v for v in (settings, settings.objective, settings.objective.smoothing) if isinstance(v, owner))


def _converter(hint: Any) -> tuple[Any, str]:
    """Return what turns a flag's text into a value of the annotated type, and its name in the help."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if float in options and len(options) > 1:
        return number_or(*(name for option in options for name in typing.get_args(option))), "T"
    kind = next(option for option in options if option is not type(None))
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        return listed(item), "A,B" if item is str else "X,Y"
    if kind in (int, float):
        return kind, "N" if kind is int else "X"
    return str, "NAME"


def number_or(*names: str) -> Any:
    """Return what turns a flag's text into a number, or one of the names."""

    def number(text: str) -> float | str:
        return text if text in names else float(text)

    number.__name__ = f"number or {' or '.join(names)}"
    return number


def listed(item: Any) -> Any:
    """Return what turns a flag's comma-separated text into a tuple of items."""

    def values(text: str) -> tuple:
        return tuple(item(part.strip()) for part in text.split(",") if part.strip())

    values.__name__ = "comma-separated names" if item is str else "comma-separated numbers"
    return values


def attribute_help(owner: type) -> dict[str, str]:
    """Return the text of each attribute in the `Attributes:` section of a class's docstring."""
    section = (inspect.getdoc(owner) or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", section, flags=re.MULTILINE)
    return {name: " ".join(text.split()).rstrip(".") for name, text in entries}


def chosen_settings(arguments: argparse.Namespace) -> StylizeSettings:
    """Return the preset's settings with the given flags over them.

    Without `--preset`, the backbone's own settings are the start. A preset under another `--backbone` reads that
    backbone's default layers.

    Raises:
        UserError: If a name is unknown or a value out of range.
    """
    given = chosen_attributes(arguments)
    start = of_backbone(given.get("backbone", _DEFAULT_BACKBONE))
    if arguments.preset:
        start = PRESETS[check_name(arguments.preset, PRESETS, what="preset")]
    return with_flags(start, given)


def with_flags(settings: Any, given: dict[str, Any]) -> Any:
    """Return settings with the values that are theirs, or of settings inside them; take those out of `given`.

    Where two parts have the same attribute, such as AdaAttN's similarity, the objective's is meant.
    """
    fields = dataclasses.fields(settings)
    changes = {field.name: given.pop(field.name) for field in fields if field.name in given}
    for field in reversed(fields):  # the objective before a generator's config
        if dataclasses.is_dataclass(part := getattr(settings, field.name)):
            changes[field.name] = with_flags(part, given)
    return dataclasses.replace(settings, **changes)
