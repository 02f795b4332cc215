"""The networks that `swag-jax stats` measures, from the words of its flags: names, switches, weights."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from swag_jax import backbones
from swag_jax._checks import UserError, check_name, error
from swag_jax.backbones import NAMES, Architecture, zoo
from swag_jax.backbones.resnet import SWITCHES
from swag_jax.measure import NetworkSpec

_NOT_EVERYWHERE = ("imagenet", "embedded")
"""Weights that some networks do not have; such a network is left out with a note, and the others are measured."""

_TRUTHS = {"true": True, "false": False}


def read_specs(networks: Sequence[str], weights: Sequence[str]) -> list[NetworkSpec]:
    """Return every network with all weights that are meant for it.

    Args:
        networks: Names in the zoo; after that of a residual network, `:SWITCH=VALUE` for each other switch.
        weights: What `backbones.load` takes; for one network alone, `NETWORK=PATH`.

    Raises:
        UserError: If a network, switch or value is unknown, or weights have no network, or a network no weights.
    """
    options = {entry: read_network(entry)[1] for entry in dict.fromkeys(networks)}
    if not options or not weights:
        raise error("there must be at least one network, and weights")
    for entry in weights:
        owner = entry.partition("=")[0]
        if owner in NAMES and "=" in entry and owner not in options:
            rule = f"the weights {entry} are for a network that is not measured"
            raise error(rule, cure=f"add {owner} to --networks")
    found = {entry: list(_specs_of(entry, own, weights)) for entry, own in options.items()}
    for entry, specs in found.items():
        names = [spec.name for spec in specs]
        for name in names:
            if names.count(name) > 1:
                raise error("the weights of a network must differ in name", got=f"{name} twice", cure="rename a file")
        if not specs:
            raise error(f"{entry} must have weights", got="none", cure="add random to --weights")
    return [spec for specs in found.values() for spec in specs]


def available(specs: Sequence[NetworkSpec]) -> tuple[list[NetworkSpec], dict[str, str]]:
    """Return the networks whose weights are here, and what is wrong with the others.

    Raises:
        UserError: If weights are wrong that were not asked for by a word, or none are here.
    """
    found, missing = list[NetworkSpec](), dict[str, str]()
    for spec in specs:
        try:
            zoo.resolve(spec.backbone, weights=spec.weights, **dict(spec.options))
            found.append(spec)
        except UserError as problem:
            if spec.weights not in _NOT_EVERYWHERE or len(specs) == 1:
                raise
            missing[spec.name] = " ".join(str(problem).split())
    if not found:
        raise UserError(f"there must be a network with weights: {'; '.join(missing.values())}")
    return found, missing


def names_of(spec: NetworkSpec) -> tuple[str, ...]:
    """Return what a network may be called: its name or, without switches, its backbone's."""
    return (spec.name,) if spec.options else (spec.name, spec.backbone)


def _specs_of(entry: str, options: dict[str, Any], weights: Sequence[str]) -> Iterator[NetworkSpec]:
    for words in weights:
        owner, equals, path = words.partition("=")
        own = bool(equals) and owner in NAMES
        if own and owner != entry:
            continue
        chosen = path if own else words
        name = entry if len(weights) == 1 else f"{entry}/{Path(chosen).name}"
        yield NetworkSpec(name, entry.partition(":")[0], chosen, tuple(options.items()))


def read_network(entry: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the switches of a network's entry.

    Args:
        entry: A name in the zoo; after that of a residual network, `:SWITCH=VALUE` for each other switch.

    Raises:
        UserError: If the network, a switch or its value is unknown.

    Example:
        >>> read_network("resnet50:version=v1")
        ('resnet50', {'version': 'v1'})
    """
    name, *words = entry.split(":")
    known = zoo.entry(check_name(name, NAMES, what="network"))
    if words and known.options != SWITCHES:
        residual = ", ".join(each for each in NAMES if zoo.entry(each).options == SWITCHES)
        raise error("only a residual network has switches", got=entry, cure=f"take {residual}")
    switches = dict[str, Any]()
    for switch, equals, value in (word.partition("=") for word in words):
        check_name(switch, SWITCHES, what=f"switch of {name}")
        if not equals or switch in switches:
            raise error("a network's switches must be SWITCH=VALUE, each once", got=entry)
        switches[switch] = _read_value(switch, value)
    backbones.layer_names(name, **switches)
    return name, switches


def _read_value(switch: str, text: str) -> bool | int | str | tuple[int, ...]:
    """Return the value of a switch, which has its default's type; what no `Architecture` has is refused by that."""
    default = getattr(Architecture(), switch)
    if isinstance(default, str):
        return text
    if isinstance(default, bool):
        if text not in _TRUTHS:
            cure = f"write {switch}={str(not default).lower()}"
            raise error(f"{switch} must be true or false", got=repr(text), cure=cure)
        return _TRUTHS[text]
    shown = default if isinstance(default, tuple) else (default or Architecture().channels,)
    numbers = text.split("-")
    if len(numbers) != len(shown) or not all(number.isdecimal() for number in numbers):
        rule = f"{len(shown)} whole numbers with - between them" if len(shown) > 1 else "a whole number"
        cure = f"write {switch}={'-'.join(map(str, shown))}, or others"
        raise error(f"{switch} must be {rule}", got=repr(text), cure=cure)
    return tuple(map(int, numbers)) if len(shown) > 1 else int(text)
