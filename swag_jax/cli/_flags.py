"""Commands are frozen dataclasses: a field is a flag, its type says what it takes, and the docstring is its help."""

import argparse
import dataclasses
import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, Protocol, TypeAlias, TypeVar

from swag_jax._checks import UserError, check_name, near, one_line

Made = TypeVar("Made")

Changes: TypeAlias = Mapping[str, Any]
"""Settings that were given, by their path: `{"size": 256, "objective.smoothing.kind": "softmax"}`."""

RENAMED = {"kind": "smoothing", "scale": "smoothing_scale", "layers": "smoothing_layers", "strength": "alpha"}
"""Settings whose flag has another name than the attribute: the smoothing's, and a generator's strength."""

_TITLES = {"cadence": "run", "objective": "losses", "config": "generator"}


@typing.runtime_checkable
class Command(Protocol):
    """A frozen dataclass whose docstring is the help of a command."""

    def run(self) -> int:
        """Do the work and return an exit code."""
        ...


@dataclass(frozen=True, kw_only=True)
class Quiet:
    """What most commands have.

    Attributes:
        quiet: Print nothing but errors.
    """

    quiet: bool = False


@dataclass(frozen=True)
class Group:
    """Several commands that share their first word.

    Attributes:
        about: What they do.
        commands: By name.
        metavar: What a name stands for.
    """

    about: str
    commands: Mapping[str, "type[Command] | Group"]
    metavar: str = "COMMAND"


def flag(
    default: Any = MISSING,
    *,
    short: str | None = None,
    metavar: str | None = None,
    names: Iterable[str] = (),
    known: Iterable[str] = (),
) -> Any:
    """Declare a flag whose type does not say all.

    Args:
        default: The value if it is not given; without one, it is required.
        short: A short form.
        metavar: What its value is called in the help.
        names: The only values.
        known: Values that the help lists.
    """
    notes = {"short": short, "metavar": metavar, "names": tuple(names), "known": tuple(known)}
    return dataclasses.field(default=default, metadata=notes)


def word(metavar: str, default: Any = MISSING) -> Any:
    """Declare a value without a flag, or several if its type is a tuple."""
    return dataclasses.field(default=default, metadata={"metavar": metavar, "positional": True})


def changes(start: Any, *, shown: Callable[[Any, str], str] | None = None, without: Iterable[str] = ()) -> Any:
    """Declare a flag for every attribute of settings and of the dataclasses in them; the field is `Changes`."""
    metadata = {"start": start, "shown": shown or _shown_attribute, "without": tuple(without)}
    return dataclasses.field(default_factory=dict, metadata=metadata)


def changed(settings: Made, given: Changes) -> Made:
    """Return settings with what was given, each dataclass in them changed at once.

    Example:
        >>> from swag_jax.presets import gatys_vgg19
        >>> changed(gatys_vgg19, {"size": 64, "objective.smoothing.kind": "softmax"}).objective.smoothing.kind
        'softmax'
    """
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
        # An abbreviation is closest to what it abbreviates, whatever its length.
        close = [flag for flag in self.flags if flag.startswith(flags[0])] or self.flags
        return f"unknown flag {flags[0]}: {near(flags[0], close)}"

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with code 2."""
        self.exit(2, f"{self.prog}: error: {one_line(message)} (see {self.prog} --help)\n")


def add_group(parser: argparse.ArgumentParser, group: Group) -> None:
    """Add all commands of a group."""
    subparsers = parser.add_subparsers(required=True, metavar=group.metavar)
    for name, command in group.commands.items():
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
    """Add the flags of a dataclass, those that it declares itself before the inherited ones."""
    hints, documented = typing.get_type_hints(owner), attribute_help(owner)
    fields = sorted(dataclasses.fields(owner), key=lambda field: field.name not in owner.__annotations__)
    for field in sorted(fields, key=lambda field: "start" in field.metadata):
        notes = field.metadata
        if "start" in notes:
            _add_changes(parser, notes["start"], field.name, shown=notes["shown"], without=notes["without"])
            continue
        words = "positional" in notes
        options = _options(hints[field.name], field.name, notes.get("names", ()), words=words)
        if field.default is True:
            options |= {"action": argparse.BooleanOptionalAction}
        if notes.get("metavar"):
            options["metavar"] = notes["metavar"]
        text = documented[field.name]
        if known := notes.get("known") or (notes.get("metavar") and notes.get("names")):
            text += f"; known: {', '.join(known)}"
        if field.default not in (MISSING, None, ()) and not isinstance(field.default, bool):
            text += f" (default: {shown_value(field.default)})"
        options["help"] = text.replace("%", "%%")
        if words:
            if "nargs" in options and field.default is not MISSING:
                options |= {"nargs": "*", "default": field.default}
            parser.add_argument(field.name, **options)
            continue
        flags = [*filter(None, [notes.get("short")]), f"--{field.name.replace('_', '-')}"]
        parser.add_argument(*flags, dest=field.name, required=field.default is MISSING, **options)


def _add_changes(
    parser: argparse.ArgumentParser, start: Any, path: str, *, shown: Callable[[Any, str], str], without: Iterable[str]
) -> None:
    name = path.rpartition(".")[2]
    group, inner = parser.add_argument_group(_TITLES.get(name, name)), []
    hints, documented = typing.get_type_hints(type(start)), attribute_help(type(start))
    for field in dataclasses.fields(start):
        dest, flags = f"{path}.{field.name}", f"--{RENAMED.get(field.name, field.name).replace('_', '-')}"
        if dataclasses.is_dataclass(getattr(start, field.name)):
            inner.append(field.name)
            continue
        options = _options(hints[field.name], RENAMED.get(field.name, field.name), ())
        if field.name in without or flags in parser._option_string_actions or not options:
            continue
        if options.get("action") == "store_true":
            options |= {"action": argparse.BooleanOptionalAction}
        text = f"{documented[field.name]} (default: {shown(start, field.name)})"
        group.add_argument(flags, dest=dest, help=text.replace("%", "%%"), **options)
        if field.name == "colors":
            text = "Keep the content's colors: short for --colors luminance"
            group.add_argument("--keep-colors", action="store_const", const="luminance", dest=dest, help=text)
    # What an objective and a generator both have, such as AdaAttN's similarity, is the objective's.
    for name in sorted(inner, key=lambda name: name == "config"):
        _add_changes(parser, getattr(start, name), f"{path}.{name}", shown=shown, without=without)


def build(owner: type[Made], namespace: argparse.Namespace) -> Made:
    """Return the dataclass of what was parsed."""
    given, values = vars(namespace), {}
    for field in dataclasses.fields(typing.cast(Any, owner)):
        if "start" in field.metadata:
            start = f"{field.name}."
            values[field.name] = {dest[len(start) :]: value for dest, value in given.items() if dest.startswith(start)}
        elif field.name in given:
            values[field.name] = tuple(found) if isinstance(found := given[field.name], list) else found
    return owner(**values)


def _options(hint: Any, name: str, names: tuple[str, ...], *, words: bool = False) -> dict[str, Any]:
    """Return how argparse reads values of a type, a tuple from several `words`; nothing if no words can say them."""
    if hint is bool:
        return {"action": "store_true"}
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    literals = [option for option in options if typing.get_origin(option) is Literal]
    names += tuple(name for literal in literals for name in typing.get_args(literal))
    kinds = [option for option in options if option is not type(None) and option not in literals]
    kind = kinds[0] if kinds else str
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        inner = _options(item, name, names)
        if inner and not (item is Path or words):
            numbers = inner["metavar"][0] in "XN"
            return {"type": _listed(inner["type"], item), "metavar": "X,Y" if numbers else "A,B"}
        return inner and {**inner, "nargs": "+"}
    if kind is float and names:
        return {"type": _number_or(names), "metavar": f"X|{'|'.join(names)}"}
    if kind is str and names:
        return {"type": _one_of(names, name.replace("_", " ")), "metavar": f"{{{','.join(names)}}}"}
    known = {int: "N", float: "X", str: "NAME", Path: "FILE"}
    return {"type": kind, "metavar": known[kind]} if kind in known else {}


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


def _listed(read: Callable[[str], Any], item: Any) -> Callable[[str], tuple]:
    def values(text: str) -> tuple:
        return tuple(read(part.strip()) for part in text.split(",") if part.strip())

    values.__name__ = "comma-separated names" if item is str else "comma-separated numbers"
    return values


def _shown_attribute(owner: Any, name: str) -> str:
    return shown_value(getattr(owner, name))


def shown_value(value: Any) -> str:
    """Return a default as the help says it."""
    shown = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return {"": "none given", "None": "all"}.get(shown, shown)


@functools.cache
def attribute_help(owner: type) -> dict[str, str]:
    """Return the text of each attribute in the `Attributes:` sections of a class and of those it inherits from."""
    found = {}
    for base in reversed(owner.__mro__):
        section = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")[2]
        entries = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", section, flags=re.MULTILINE)
        found |= {name: " ".join(text.replace("`", "").split()).rstrip(".") for name, text in entries}
    return found
