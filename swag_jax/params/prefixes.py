"""What stands in front of every key of a checkpoint, and is no part of its network's own names."""

from collections.abc import Collection, Mapping
from typing import TypeVar

from swag_jax._limits import LEVELS

# Of `nn.DataParallel`, `DistributedDataParallel` and `AveragedModel`, and of `torch.compile`.
_TECHNICAL = {"module", "_orig_mod"}

_COUNTS = ("n_averaged",)  # keys in addition to the network's, of `torch.optim.swa_utils.AveragedModel`

_Value = TypeVar("_Value")


def shared_prefixes(keys: Collection[str]) -> tuple[str, ...]:
    """Return nothing, and each longer prefix that all keys share and that ends in a dot, shortest first.

    Example:
        >>> shared_prefixes(["module.0.weight", "module.0.bias", "n_averaged"])
        ('', 'module.', 'module.0.')
    """
    named = [key for key in keys if key not in _COUNTS]
    if not named:
        return ("",)
    # What the first and the last in order share, all share.
    first, last = min(named), max(named)
    parts = []
    for one, other in zip(first.split(".")[:-1][:LEVELS], last.split(".")[:-1], strict=False):
        if one != other:
            break
        parts.append(f"{one}.")
    return tuple("".join(parts[:count]) for count in range(len(parts) + 1))


def without_prefix(tensors: Mapping[str, _Value], prefix: str) -> dict[str, _Value]:
    """Return what has a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def without_technical(tensors: Mapping[str, _Value]) -> dict[str, _Value]:
    """Return a checkpoint without the names of training tools that all its keys begin with, in any order and number."""
    own = [prefix for prefix in shared_prefixes(tensors) if _TECHNICAL.issuperset(prefix.split(".")[:-1])]
    return without_prefix(tensors, own[-1])
