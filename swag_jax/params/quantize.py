"""8-bit checkpoints: a kernel as whole numbers times one step per output channel, or as places in a table of values.

In a file, the kernel `X` is a tensor of int8 and its steps are the float32 tensor `X.step`; or it is a tensor of uint8
and its 256 values are the float32 tensor `X.table`. Readers of checkpoints see one floating-point tensor `X`. A file of
either form has a quarter of the float32 one's size.
"""

from collections.abc import Mapping

import numpy as np

from swag_jax._checks import error
from swag_jax.params.tree import Tensors

_STEP, _TABLE = ".step", ".table"

_COMPANIONS = {"int8": _STEP, "uint8": _TABLE}
"""What follows a key of such numbers in the key of what decodes them."""

_LARGEST = 127
"""Of 8 bits, -128 is left out: the range is symmetric, so a kernel's sign can be turned."""

_CLIPS = tuple(percent / 100 for percent in range(100, 69, -2))
"""Shares of a channel's largest weight that become 127, in the order in which equal errors are decided: our choice."""

_STEP_BITS = 17
"""Significant bits of a step: with the 7 of a whole number they are float32's 24, so that products are exact."""

_KERNEL_AXES = 4

_TABLE_LENGTH = 256


def quantize(tensors: Mapping[str, np.ndarray], *, channel_axis: int = 0) -> Tensors:
    r"""Return the tensors with every convolution kernel in 8 bits.

    .. math:: w_o \approx s_o q_o, \quad q_o \in \{-127, \dots, 127\}, \quad s_o = c_o \max |w_o| / 127

    For each output channel o, c is the one of 1, 0.98, ..., 0.7 with the least squared error; what lies beyond
    127 steps is cut off there. A step has 17 significant bits, so that the product is exact in float32, and what
    `dequantize` gives is quantized to the same numbers again.

    Args:
        tensors: Arrays by a checkpoint's own keys. Those with four axes are kernels.
        channel_axis: The axis of a kernel's output channels: 0 in PyTorch's order, 3 in ours.

    Returns:
        For each kernel an int8 array of its shape under its own key, and float32 steps, of length 1 along the other
        axes, under its key + `.step`; all other tensors in float32. Steps are positive, also of a channel of zeros.

    Raises:
        UserError: If a tensor holds a number that is not finite in float32, or is 8-bit already.

    References:
        Krishnamoorthi, arXiv 1806.08342, section 2: symmetric quantizers, one per output channel.

    Example:
        >>> kernel = np.float32([[0.5, -0.25]]).reshape(1, 2, 1, 1)
        >>> {key: value.ravel().tolist() for key, value in quantize({"k": kernel / 64 * 127}).items()}
        {'k': [127, -64], 'k.step': [0.0078125]}
    """
    quantized: Tensors = {}
    for key, value in tensors.items():
        if key + _STEP in tensors:
            raise error("tensors must not be 8-bit already", got=f"{key}{_STEP}", cure="dequantize them first")
        values = _as_floats(key, value)
        if values.ndim == _KERNEL_AXES:
            step = _best_step(values, tuple(axis for axis in range(_KERNEL_AXES) if axis != channel_axis))
            quantized |= {key: _whole(values / step).astype(np.int8), key + _STEP: step}
        else:
            quantized[key] = values
    return quantized


def tabulate(index: np.ndarray, table: np.ndarray, key: str) -> Tensors:
    """Return the two tensors that stand for `table[index]` in a file.

    Args:
        index: Places in the table, uint8, in the kernel's shape.
        table: 256 values, float32.
        key: The kernel's key.

    Example:
        >>> table = np.linspace(-1, 1, 256, dtype=np.float32)
        >>> dequantize(tabulate(np.uint8([[0, 255]]), table, "k"))["k"].tolist()
        [[-1.0, 1.0]]
    """
    return {key: index, key + _TABLE: table}


def dequantize(tensors: Mapping[str, np.ndarray]) -> Tensors:
    """Return the tensors with every 8-bit one as the numbers it stands for: the inverse of `quantize`.

    Args:
        tensors: Arrays by key, as `quantize` or `tabulate` return them; 8-bit ones may have any number of axes, and
            steps any shape with the same number of axes that broadcasts to theirs.

    Returns:
        float32 arrays by key, without the steps and tables.

    Raises:
        UserError: If an 8-bit tensor has no steps or table, or they have another shape or are not finite.

    Example:
        >>> dequantize({"k": np.int8([[127, -64]]), "k.step": np.float32([[0.5]])})["k"].tolist()
        [[63.5, -32.0]]
    """
    decoded, misfits = decode(tensors)
    misfits += [
        f"{key} holds {value.dtype} numbers without its {key}{_COMPANIONS[value.dtype.name]}"
        for key, value in decoded.items()
        if value.dtype.name in _COMPANIONS
    ]
    if misfits:
        raise error("; ".join(misfits), cure="pass what quantize returned")
    return {key: value.astype(np.float32) for key, value in decoded.items()}


def decode(tensors: Mapping[str, np.ndarray]) -> tuple[Tensors, list[str]]:
    """Decode each 8-bit tensor that has its steps or its table, in float32, and list the ones that cannot be used.

    Returns:
        All tensors but steps, tables and those that cannot be decoded; and a line for each of the last.
    """
    companions = companion_keys({key: value.dtype.name for key, value in tensors.items()})
    decoded = {key: value for key, value in tensors.items() if key not in companions.values()}
    misfits = []
    for key, companion in companions.items():
        codes = decoded.pop(key)
        # Numbers beyond float32 become infinite here, and are for the caller to find.
        with np.errstate(over="ignore"):
            values = tensors[companion].astype(np.float32)
            stepped = codes.dtype == np.int8
            if wrong := _step_misfit(companion, values, codes.shape) if stepped else _table_misfit(companion, values):
                misfits.append(wrong)
            else:
                decoded[key] = codes * values if stepped else values[codes]
    return decoded, misfits


def companion_keys(types: Mapping[str, str]) -> dict[str, str]:
    """Return the key of its steps or its table for each 8-bit tensor that has one.

    Args:
        types: The type of every tensor's numbers by key, as NumPy calls it.

    Example:
        >>> companion_keys({"a": "int8", "a.step": "float32", "b": "int8", "c.step": "float32"})
        {'a': 'a.step'}
    """
    expected = {key: key + _COMPANIONS[kind] for key, kind in types.items() if kind in _COMPANIONS}
    return {key: companion for key, companion in expected.items() if companion in types}


def _as_floats(key: str, value: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        floats = value.astype(np.float32)
    if bad := np.count_nonzero(~np.isfinite(floats)):
        raise error(f"{key} must hold finite numbers", got=f"{bad} NaN or infinite values")
    return floats


def _best_step(kernel: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Return the step with the least squared error over `axes`, whose length is then 1."""
    largest = np.abs(kernel).max(axes, keepdims=True, initial=0)
    steps = np.stack([_short(clip * largest / _LARGEST) for clip in _CLIPS])
    errors = np.stack([clip * _error(kernel / step, axes) for clip, step in zip(_CLIPS, steps, strict=True)])
    return np.take_along_axis(steps, errors.argmin(0)[None], 0)[0]


def _short(step: np.ndarray) -> np.ndarray:
    """Round down to `_STEP_BITS` significant bits; up to the smallest normal number, which serves zeros too."""
    mantissa, exponent = np.frexp(step)
    short = np.ldexp(np.floor(np.ldexp(mantissa, _STEP_BITS)), exponent - _STEP_BITS)
    return np.maximum(short, np.finfo(np.float32).tiny)


def _error(scaled: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Return the Euclidean rounding error over `axes`, in steps, whose squares cannot overflow."""
    return np.sqrt(np.square(scaled - _whole(scaled)).sum(axes, keepdims=True))


def _whole(scaled: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(scaled), -_LARGEST, _LARGEST)


def _step_misfit(key: str, step: np.ndarray, shape: tuple[int, ...]) -> str | None:
    """Say what is wrong with the steps of a tensor of `shape`; `None` if nothing is."""
    if step.ndim != len(shape) or any(length not in (1, full) for length, full in zip(step.shape, shape, strict=True)):
        return f"{key} has shape {step.shape}, expected 1 or the length of {shape} along every axis"
    if bad := np.count_nonzero(~(np.isfinite(step) & (step > 0))):
        return f"{key} holds {bad} values that are not finite and positive"
    return None


def _table_misfit(key: str, table: np.ndarray) -> str | None:
    """Say what is wrong with a table of values; `None` if nothing is."""
    if table.shape != (_TABLE_LENGTH,):
        return f"{key} has shape {table.shape}, expected ({_TABLE_LENGTH},)"
    if bad := np.count_nonzero(~np.isfinite(table)):
        return f"{key} holds {bad} values that are not finite"
    return None
