"""One voice for errors: the rule, what arrived, the cure, and near names.

Everything a user can get wrong ends in a `UserError`, whose message is one or two complete sentences. The command line
prints it and exits with code 2; in Python it is an ordinary exception.
"""

import contextlib
import difflib
import math
import numbers
import types
import typing
from collections.abc import Iterable
from typing import Any

_REPORTED = 20  # a report names so many misfits and counts the rest

_NOUNS = {int: "an integer", float: "a number", str: "a string", bool: "True or False", types.NoneType: "None"}


class UserError(ValueError):
    """Bad input or bad usage, explained in full by its message."""


def error(rule: str, *, got: object = None, cure: str | None = None) -> UserError:
    """Compose the one sentence form of every error of this package.

    Example:
        >>> str(error("size must be at least 32", got=8, cure="pass --size 32 or more"))
        'size must be at least 32, got 8: pass --size 32 or more.'
    """
    message = rule if got is None else f"{rule}, got {got}"
    return UserError(f"{message}: {cure}." if cure else f"{message}.")


def misfits_error(rule: str, misfits: list[str]) -> UserError:
    """Compose the error of something that does not fit in several ways: one line each."""
    shown = misfits[:_REPORTED]
    if len(misfits) > _REPORTED:
        shown.append(f"... and {len(misfits) - _REPORTED} more")
    return error("\n  ".join([f"{rule}; misfits: {len(misfits)}", *shown]))


def printable(text: str) -> str:
    r"""Return a text as a terminal may show it: what would move its cursor, color it or hide a part is spelled out.

    Example:
        >>> print(printable("red\x1b[31m.png"), printable("two\nlines"), printable("naïve 絵"))
        red\x1b[31m.png two\nlines naïve 絵
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def one_line(text: object) -> str:
    """Return a message as one line that a terminal may show."""
    return printable(" ".join(str(text).split()))


def near(name: str, known: Iterable[str], *, limit: int = 3) -> str:
    """Name the known names that look like `name`, or all of them when none does."""
    names = list(known)
    lowered = {candidate.lower(): candidate for candidate in names}
    close = difflib.get_close_matches(str(name).lower(), lowered, n=limit, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(lowered[match] for match in close)}?"
    return f"known: {', '.join(names)}"


def check_name(name: str, known: Iterable[str], *, what: str) -> str:
    """Return `name` if it is known; otherwise raise, offering near names. `what` is the noun for the message."""
    names = list(known)
    if name not in names:
        raise UserError(f"unknown {what} {name!r}: {near(name, names)}")
    return name


def check_range(
    value: float, *, what: str, low: float = -math.inf, high: float = math.inf, open_low: bool = False
) -> float:
    """Return `value` if it is finite and lies in `[low, high]` (`(low, high]` with `open_low`)."""
    if math.isfinite(value) and (low < value if open_low else low <= value) and value <= high:
        return value
    least = [f"{'greater than' if open_low else 'at least'} {low:g}"] if low > -math.inf else []
    most = [f"at most {high:g}"] if high < math.inf else []
    raise error(f"{what} must be {' and '.join(least + most) or 'a finite number'}", got=value)


def check_type(value: Any, hint: Any, *, what: str) -> Any:
    """Return `value` as its annotation wants it: lists become tuples, integers pass as floats, NumPy's numbers pass.

    The `hint` is int, float, bool, str, a class, `None`, a `Literal` of names, `tuple[X, ...]`, or a union of them.

    Example:
        >>> check_type([1, 2], tuple[float, ...], what="blend")
        (1.0, 2.0)
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        # The first type of a union that takes the value.
        for option in arguments:
            with contextlib.suppress(UserError):
                return check_type(value, option, what=what)
    elif origin is typing.Literal:
        if isinstance(value, str):
            return check_name(value, arguments, what=what)
    elif origin is tuple:
        if isinstance(value, (list, tuple)):
            return tuple(check_type(item, arguments[0], what=f"each of {what}") for item in value)
    elif hint in (int, float):
        abstract: Any = numbers.Integral if hint is int else numbers.Real
        # A bool is an int to Python, but not here.
        if isinstance(value, abstract) and not isinstance(value, bool):
            with contextlib.suppress(OverflowError):
                return hint(value)
    elif isinstance(value, hint):
        return value
    raise error(f"{what} must be {_noun(hint)}", got=repr(value))


def _noun(hint: Any) -> str:
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        return f"a tuple of {_noun(arguments[0]).split()[-1]}s"
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(arguments)
    return " or ".join(map(_noun, arguments)) or _NOUNS.get(hint) or hint.__name__
