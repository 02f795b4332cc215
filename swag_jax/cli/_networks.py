"""The networks that `swag-jax stats` measures, from the words of its flags: names, switches, weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from swag_jax import backbones
from swag_jax._checks import UserError, check_name, error, one_line
from swag_jax.backbones import NAMES, Architecture, zoo
from swag_jax.backbones.resnet import SWITCHES
from swag_jax.measure import NetworkSpec

# Weights that some networks do not have; such a network is left out with a note, and the others are measured.
_NOT_EVERYWHERE = ("imagenet", "embedded")

_TRUTHS = {"true": True, "false": False}


def read_specs(networks: Sequence[str], weights: Sequence[str]) -> list[NetworkSpec]:
    """Return every network with all weights that are meant for it.

    `weights` are what `backbones.load` takes or, for one network alone, `NETWORK=PATH`.
    """
    options = {entry: read_network(entry)[1] for entry in dict.fromkeys(networks)}
    if not options or not weights:
        raise error("there must be at least one network, and weights")
    for words in weights:
        owner, _ = _split(words)
        if owner is not None and owner not in options:
            rule = f"the weights {words} are for a network that is not measured"
            raise error(rule, cure=f"add {owner} to --networks")
    return [spec for entry, own in options.items() for spec in _specs_of(entry, own, weights)]


def _split(words: str) -> tuple[str | None, str]:
    """Return the network that weights are for, `None` for all, and the weights."""
    owner, equals, path = words.partition("=")
    return (owner, path) if equals and owner in NAMES else (None, words)


def _specs_of(entry: str, options: dict[str, Any], weights: Sequence[str]) -> list[NetworkSpec]:
    chosen = [own for owner, own in map(_split, weights) if owner in (None, entry)]
    if not chosen:
        raise error(f"{entry} must have weights", got="none", cure="add random to --weights")
    names = [entry if len(weights) == 1 else f"{entry}/{Path(own).name}" for own in chosen]
    if len(set(names)) < len(names):
        twice = max(names, key=names.count)
        raise error("the weights of a network must differ in name", got=f"{twice} twice", cure="rename a file")
    backbone, switches = entry.partition(":")[0], tuple(options.items())
    return [NetworkSpec(name, backbone, own, switches) for name, own in zip(names, chosen, strict=True)]


def available(specs: Sequence[NetworkSpec]) -> tuple[list[NetworkSpec], dict[str, str]]:
    """Return the networks whose weights are here, and what is wrong with the others."""
    found, missing = list[NetworkSpec](), dict[str, str]()
    for spec in specs:
        try:
            zoo.resolve(spec.backbone, weights=spec.weights, **dict(spec.options))
            found.append(spec)
        except UserError as problem:
            if spec.weights not in _NOT_EVERYWHERE or len(specs) == 1:
                raise
            missing[spec.name] = one_line(problem)
    if not found:
        raise UserError(f"there must be a network with weights: {'; '.join(missing.values())}")
    return found, missing


def read_network(entry: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the switches of a network, given as `NAME` or, if it is residual, `NAME:SWITCH=VALUE:...`.

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
    backbones.layer_names(name, **switches)  # refuses what no `Architecture` has
    return name, switches


def _read_value(switch: str, text: str) -> bool | int | str | tuple[int, ...]:
    """Return the value of a switch, which has its default's type."""
    default = getattr(Architecture(), switch)
    if isinstance(default, str):
        return text
    if isinstance(default, bool):
        if text not in _TRUTHS:
            cure = f"write {switch}={str(not default).lower()}"
            raise error(f"{switch} must be true or false", got=repr(text), cure=cure)
        return _TRUTHS[text]
    return _read_numbers(switch, text, default)


def _read_numbers(switch: str, text: str, default: int | tuple[int, ...] | None) -> int | tuple[int, ...]:
    # The width is that of the channels by default.
    shown = default if isinstance(default, tuple) else (default or Architecture().channels,)
    numbers, several = text.split("-"), len(shown) > 1
    if len(numbers) != len(shown) or not all(number.isdecimal() for number in numbers):
        rule = f"{len(shown)} whole numbers with - between them" if several else "a whole number"
        cure = f"write {switch}={'-'.join(map(str, shown))}, or others"
        raise error(f"{switch} must be {rule}", got=repr(text), cure=cure)
    return tuple(map(int, numbers)) if several else int(text)
