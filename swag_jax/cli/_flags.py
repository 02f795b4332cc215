"""Commands are frozen dataclasses, and so are settings: a field is a flag, and its type says what it takes."""

import argparse
import dataclasses
import functools
import importlib
import inspect
import itertools
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, Protocol, TypeAlias, TypeVar

from swag_jax._checks import UserError, check_name, near, one_line

Made = TypeVar("Made")
Names: TypeAlias = Iterable[str]

# Settings that were given, by their path: `{"size": 256, "objective.smoothing.kind": "softmax"}`.
Changes: TypeAlias = Mapping[str, Any]

# Settings whose flag has another name than the attribute: the smoothing's, and a generator's strength.
RENAMED = {"kind": "smoothing", "scale": "smoothing_scale", "layers": "smoothing_layers", "strength": "alpha"}

_TITLES = {"cadence": "run", "objective": "losses", "config": "generator"}
_NOTES = {"help": "", "short": "", "metavar": "", "names": (), "known": (), "positional": False}
_METAVARS = {int: "N", float: "X", str: "NAME", Path: "FILE"}


@typing.runtime_checkable
class Command(Protocol):
    """A frozen dataclass whose docstring is the help of a command."""

    def run(self) -> int:
        """Do the work and return an exit code."""
        ...


@dataclass(frozen=True)
class Group:
    """Several commands that share their first word, by name, and what they do.

    Attributes:
        commands: Commands and groups, or `module:attribute` of one that is imported when it is asked for.
    """

    about: str
    commands: Mapping[str, "type[Command] | Group | str"]
    metavar: str = "COMMAND"

    def command(self, name: str) -> "type[Command] | Group":
        """Return a command, or the group of that name."""
        found = self.commands[name]
        if isinstance(found, str):
            module, _, attribute = found.partition(":")
            found = getattr(importlib.import_module(module), attribute)
        return found


def flag(
    text: str = "",
    default: Any = MISSING,
    *,
    short: str = "",
    metavar: str = "",
    names: Names = (),
    known: Names = (),
) -> Any:
    """Declare a flag: its help, its default, its only values (`names`), or values that the help lists (`known`)."""
    notes = {"help": text, "short": short, "metavar": metavar, "names": tuple(names), "known": tuple(known)}
    return dataclasses.field(default=default, metadata=notes)


def word(metavar: str, text: str = "", default: Any = MISSING) -> Any:
    """Declare a value without a flag, or several if its type is a tuple."""
    return dataclasses.field(default=default, metadata={"help": text, "metavar": metavar, "positional": True})


def changes(start: Any, *, shown: Callable[[Any, str], str] | None = None, without: Names = ()) -> Any:
    """Declare a flag for every attribute of settings and of the dataclasses in them; the field is `Changes`."""
    shown = shown or (lambda owner, name: shown_value(getattr(owner, name)))
    return dataclasses.field(default_factory=dict, metadata={"start": start, "shown": shown, "without": set(without)})


@dataclass(frozen=True, kw_only=True)
class Quiet:
    """What most commands have."""

    quiet: bool = flag("Print nothing but errors", False)


def changed(settings: Made, given: Changes) -> Made:
    """Return settings with what was given, each dataclass in them changed at once."""
    # All at once: some values are checked against each other.
    own: dict[str, Any] = {path: value for path, value in given.items() if "." not in path}
    for name in dict.fromkeys(path.partition(".")[0] for path in given if "." in path):
        inner = {path.partition(".")[2]: value for path, value in given.items() if path.startswith(f"{name}.")}
        own[name] = changed(getattr(settings, name), inner)
    return dataclasses.replace(typing.cast(Any, settings), **own)


class Parser(argparse.ArgumentParser):
    """An argument parser that takes no abbreviations and no flag twice; its errors are one line, with near names."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, allow_abbrev=False, argument_default=argparse.SUPPRESS, **options)
        self._given: dict[str, str] = {}

    @property
    def flags(self) -> list[str]:
        """The long forms of all flags."""
        return [text for action in self._actions for text in action.option_strings if text.startswith("--")]

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        # argparse asks for the value of a flag once each time that it meets one.
        if action.option_strings:
            flag = action.option_strings[0]
            if (before := self._given.get(action.dest)) is not None:
                same = before == flag
                self.error(f"{flag} is given twice: give it once" if same else f"{before} and {flag}: give one of them")
            self._given[action.dest] = flag
        return super()._get_values(action, arg_strings)  # pyright: ignore[reportAttributeAccessIssue]

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Parse; an unknown flag is an error here already: the parser knows the flags that look like it."""
        self._given = {}
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(self._explain(unknown))
        return namespace, unknown

    def _explain(self, unknown: list[str]) -> str:
        flags = [word.partition("=")[0] for word in unknown if word.startswith("--")]
        if not flags:
            return f"unexpected {' '.join(unknown)}: put all images together, before the flags"
        # An abbreviation is closest to what it abbreviates, whatever its length.
        close = [flag for flag in self.flags if flag.startswith(flags[0])] or self.flags
        return f"unknown flag {flags[0]}: {near(flags[0], close)}"

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with code 2."""
        self.exit(2, f"{self.prog}: error: {one_line(message)} (see {self.prog} --help)\n")


def add_group(parser: argparse.ArgumentParser, group: Group, *, only: str | None = None) -> None:
    """Add all commands of a group, or only one."""
    subparsers = parser.add_subparsers(required=True, metavar=group.metavar)
    for name in group.commands if only is None else [only]:
        command = group.command(name)
        if isinstance(command, Group):
            add_group(subparsers.add_parser(name, help=command.about, description=command.about), command)
            continue
        description = description_of(command)
        about = description.partition("\n")[0].rstrip(".")
        usage, epilog = getattr(command, "usage", None), getattr(command, "epilog", None)
        own = subparsers.add_parser(name, help=about, description=description, usage=usage, epilog=epilog)
        own.set_defaults(command=command)
        add_flags(own, command)


def description_of(command: type) -> str:
    """Return a command's docstring without its attributes."""
    return inspect.cleandoc(command.__doc__ or "").partition("\nAttributes:\n")[0].strip()


def add_flags(parser: argparse.ArgumentParser, owner: type) -> None:
    """Add the flags of a dataclass: those that it declares itself, the inherited ones, and those of settings."""
    hints, documented = typing.get_type_hints(owner), attribute_help(owner)
    found = dataclasses.fields(owner)
    for field in sorted(found, key=lambda each: ("start" in each.metadata, each.name not in owner.__annotations__)):
        if "start" in field.metadata:
            _add_changes(parser, field.metadata["start"], field.name, field.metadata)
        else:
            text = field.metadata.get("help") or documented[field.name]
            _add_flag(parser, field, hints[field.name], text)


def _add_flag(parser: argparse.ArgumentParser, field: dataclasses.Field, hint: Any, text: str) -> None:
    notes, required = _NOTES | dict(field.metadata), field.default is MISSING
    options = _options(hint, field.name, notes["names"], words=notes["positional"])
    options |= {"action": argparse.BooleanOptionalAction} if field.default is True else {}
    options |= {"metavar": notes["metavar"]} if notes["metavar"] else {}
    # Names are listed if they do not stand in the metavar's place.
    if known := notes["known"] or (notes["metavar"] and notes["names"]):
        text += f"; known: {', '.join(known)}"
    if not (field.default in (MISSING, None, ()) or isinstance(field.default, bool)):
        text += f" (default: {shown_value(field.default)})"
    options["help"] = text.replace("%", "%%")
    if notes["positional"]:
        optional = {} if required else {"nargs": "*", "default": field.default}
        parser.add_argument(field.name, **options | optional)
    else:
        flags = [*filter(None, [notes["short"]]), f"--{field.name.replace('_', '-')}"]
        parser.add_argument(*flags, dest=field.name, required=required, **options)


def _add_changes(parser: argparse.ArgumentParser, start: Any, path: str, notes: Mapping[str, Any]) -> None:
    title = path.rpartition(".")[2]
    group, inner = parser.add_argument_group(_TITLES.get(title, title)), []
    hints, documented = typing.get_type_hints(type(start)), attribute_help(type(start))
    for name in (field.name for field in dataclasses.fields(start)):
        if dataclasses.is_dataclass(getattr(start, name)):
            inner.append(name)
            continue
        shown, dest = RENAMED.get(name, name), f"{path}.{name}"
        long, options = f"--{shown.replace('_', '-')}", _options(hints[name], shown, ())
        if name in notes["without"] or long in parser._option_string_actions or not options:
            continue
        if hints[name] is bool:
            options["action"] = argparse.BooleanOptionalAction
        text = f"{documented[name]} (default: {notes['shown'](start, name)})"
        group.add_argument(long, dest=dest, help=text.replace("%", "%%"), **options)
        if name == "colors":
            text = "Keep the content's colors: short for --colors luminance"
            group.add_argument("--keep-colors", action="store_const", const="luminance", dest=dest, help=text)
    # What an objective and a generator both have, such as AdaAttN's similarity, is the objective's.
    for name in sorted(inner, key=lambda name: name == "config"):
        _add_changes(parser, getattr(start, name), f"{path}.{name}", notes)


def build(owner: type[Made], namespace: argparse.Namespace) -> Made:
    """Return the dataclass of what was parsed."""
    given, values = vars(namespace), {}
    for field in dataclasses.fields(typing.cast(Any, owner)):
        if "start" in field.metadata:
            path = f"{field.name}."
            values[field.name] = {dest.removeprefix(path): v for dest, v in given.items() if dest.startswith(path)}
        elif field.name in given:
            values[field.name] = tuple(found) if isinstance(found := given[field.name], list) else found
    return owner(**values)


def _options(hint: Any, name: str, names: tuple[str, ...], *, words: bool = False) -> dict[str, Any]:
    """Return how argparse reads values of a type, a tuple from several `words`; nothing if no words can say them."""
    if hint is bool:
        return {"action": "store_true"}
    kind, literals = _parts(hint)
    names += literals
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        return _several(item, _options(item, name, names), words=words)
    if kind is float and names:
        return {"type": _number_or(names), "metavar": f"X|{'|'.join(names)}"}
    if kind is str and names:
        return {"type": _one_of(names, name.replace("_", " ")), "metavar": f"{{{','.join(names)}}}"}
    return {"type": kind, "metavar": _METAVARS[kind]} if kind in _METAVARS else {}


def _parts(hint: Any) -> tuple[Any, tuple[str, ...]]:
    """Return the type of a value that may be absent or a name, and those names; only names are of type `str`."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    literals = [option for option in options if typing.get_origin(option) is Literal]
    kinds = [option for option in options if option is not types.NoneType and option not in literals]
    return next(iter(kinds), str), tuple(itertools.chain.from_iterable(map(typing.get_args, literals)))


# The names of these functions are in argparse's messages: "invalid number or auto value: 'warm'".


def _one_of(names: tuple[str, ...], what: str) -> Callable[[str], str]:
    def name(text: str) -> str:
        try:
            return check_name(text, names, what=what)
        except UserError as problem:
            raise argparse.ArgumentTypeError(str(problem)) from problem

    return name


def _number_or(names: tuple[str, ...]) -> Callable[[str], float | str]:
    def number(text: str) -> float | str:
        return text if text in names else float(text)

    number.__name__ = f"number or {' or '.join(names)}"
    return number


def _several(item: Any, options: dict[str, Any], *, words: bool) -> dict[str, Any]:
    """Return how argparse reads a tuple: paths and words are separate arguments, other items have commas between."""

    def values(text: str) -> tuple:
        return tuple(options["type"](part.strip()) for part in text.split(",") if part.strip())

    if not options or item is Path or words:
        return options and {**options, "nargs": "+"}
    values.__name__ = "comma-separated names" if item is str else "comma-separated numbers"
    return {"type": values, "metavar": "X,Y" if options["metavar"][0] in "XN" else "A,B"}


def shown_value(value: Any) -> str:
    """Return a default as the help says it."""
    shown = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return {"": "none given", "None": "all"}.get(shown, shown)


@functools.cache
def attribute_help(owner: type) -> dict[str, str]:
    """Return the texts of the `Attributes:` sections of a class and of those it inherits from."""
    found = {}
    for base in reversed(owner.__mro__):
        section = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")[2]
        entries = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", section, flags=re.MULTILINE)
        found |= {name: " ".join(text.replace("`", "").split()).rstrip(".") for name, text in entries}
    return found
