"""What all settings share: they are frozen and hashable, check the type of every attribute, and have `replace`."""

import dataclasses
import functools
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, dataclass_transform

from swag_jax._checks import UserError, check_type, error, near

P = ParamSpec("P")
Given = TypeVar("Given")
Value = TypeVar("Value")


class _Replace:
    """The type of `replace`: a type checker sees the parameters of the class itself."""

    def __get__(self, instance: Any, owner: Callable[P, Value]) -> Callable[P, Value]: ...


def converted(*, default: Value, converter: Callable[[Given], Value]) -> Value:
    """Return an attribute that also takes what `converter` turns into its type."""
    return dataclasses.field(default=default, metadata={"converter": converter})


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, converted))
class Settings:
    """Base of settings: subclasses are frozen dataclasses. An unknown name or a wrong type is a `UserError`."""

    def __init_subclass__(cls):
        dataclasses.dataclass(frozen=True)(cls)
        # Types are checked below, after conversion; nothing else must check them before.
        cls.__init__.__annotations__.clear()

    # A type checker sees the parameters of each class, which at run time are any.
    if TYPE_CHECKING:
        replace = _Replace()
    else:

        def __new__(cls, *_, **given):
            for name in given.keys() - _hints(cls).keys():
                raise _unknown_error(cls, name, given)
            return object.__new__(cls)

        def replace(self, **changes):
            """Return a copy with attributes changed: `settings.replace(part=settings.part.replace(...))`."""
            return dataclasses.replace(self, **changes)

    def __post_init__(self):
        for field in dataclasses.fields(typing.cast("Any", self)):
            value = getattr(self, field.name)
            if convert := field.metadata.get("converter"):
                value = convert(value)
            value = check_type(value, _hints(type(self))[field.name], what=field.name.replace("_", " "))
            object.__setattr__(self, field.name, value)


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _unknown_error(cls: type, name: str, given: Mapping[str, Any]) -> UserError:
    inner = dict(_inner(cls, "settings", given))
    if name in inner:
        return error(f"{name} is not an attribute of {cls.__name__} itself", cure=f"pass {inner[name]}")
    return UserError(f"unknown setting {name!r}: {near(name, sorted({*_hints(cls), *inner}))}")


def _inner(cls: type, path: str, given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each attribute of the settings inside `cls`, as given or annotated, with the argument that changes it."""
    for name, hint in _hints(cls).items():
        value = given.get(name)
        for part in (type(value),) if isinstance(value, Settings) else typing.get_args(hint) or (hint,):
            if isinstance(part, type) and issubclass(part, Settings):
                start = f"{name}={path}.{name}.replace"
                yield from ((own, f"{start}({own}=...)") for own in _hints(part))
                yield from ((own, f"{start}({change})") for own, change in _inner(part, f"{path}.{name}", {}))
