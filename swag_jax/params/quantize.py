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

_COMPANIONS = {"int8": _STEP, "uint8": _TABLE}  # what follows a key of such numbers in the key of what decodes them

_LARGEST = 127  # of 8 bits, -128 is left out: the range is symmetric, so a kernel's sign can be turned

# Shares of a channel's largest weight that become 127, in the order in which equal errors are decided: our choice.
_CLIPS = tuple(percent / 100 for percent in range(100, 69, -2))

# Significant bits of a step: with the 7 of a whole number they are float32's 24, so that products are exact.
_STEP_BITS = 17

_KERNEL_AXES = 4

_TABLE_LENGTH = 256


def quantize(tensors: Mapping[str, np.ndarray], *, channel_axis: int = 0) -> Tensors:
    r"""Return the tensors with every convolution kernel in 8 bits.

    .. math:: w_o \approx s_o q_o, \quad q_o \in \{-127, \dots, 127\}, \quad s_o = c_o \max |w_o| / 127

    For each output channel o, c is the one of 1, 0.98, ..., 0.7 with the least squared error; what lies beyond
    127 steps is cut off there. What `dequantize` gives is quantized to the same numbers again.

    Args:
        tensors: Arrays by a checkpoint's own keys, finite. Those with four axes are kernels.
        channel_axis: The axis of a kernel's output channels: 0 in PyTorch's order, 3 in ours.

    Returns:
        For each kernel an int8 array under its own key and float32 steps, of length 1 along the other axes and positive
        even for zeros, under its key + `.step`; all other tensors in float32.

    References:
        Krishnamoorthi, arXiv 1806.08342, section 2: symmetric quantizers, one per output channel.
    """
    quantized: Tensors = {}
    for key, value in tensors.items():
        if key + _STEP in tensors:
            raise error("tensors must not be 8-bit already", got=f"{key}{_STEP}", cure="dequantize them first")
        values, bad = as_float32(value)
        if bad:
            raise error(f"{key} must hold finite numbers", got=f"{bad} NaN or infinite values")
        if values.ndim == _KERNEL_AXES:
            step = _best_step(values, tuple(axis for axis in range(_KERNEL_AXES) if axis != channel_axis))
            quantized |= {key: _whole(values / step).astype(np.int8), key + _STEP: step}
        else:
            quantized[key] = values
    return quantized


def tabulate(index: np.ndarray, table: np.ndarray, key: str) -> Tensors:
    """Return the two tensors that stand for `table[index]` in a file: uint8 places, and 256 float32 values."""
    return {key: index, key + _TABLE: table}


def dequantize(tensors: Mapping[str, np.ndarray]) -> Tensors:
    """Return the tensors with every 8-bit one as the numbers it stands for: the inverse of `quantize` and `tabulate`.

    8-bit tensors may have any number of axes, and steps any shape with as many axes that broadcasts to theirs.

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
    """Decode each 8-bit tensor that has its steps or its table, and say in one line each which cannot be decoded."""
    companions = companion_keys({key: value.dtype.name for key, value in tensors.items()})
    decoded = {key: value for key, value in tensors.items() if key not in companions.values()}
    misfits = []
    for key, companion in companions.items():
        codes = decoded.pop(key)
        # Numbers beyond float32 become infinite here, and are for the caller to find.
        with np.errstate(over="ignore"):
            values = tensors[companion].astype(np.float32)
            if wrong := _misfit(companion, values, codes):
                misfits.append(wrong)
            else:
                decoded[key] = codes * values if codes.dtype == np.int8 else values[codes]
    return decoded, misfits


def companion_keys(types: Mapping[str, str]) -> dict[str, str]:
    """Return the key of its steps or its table for each 8-bit tensor that has one, from NumPy's name of every type."""
    expected = {key: key + _COMPANIONS[kind] for key, kind in types.items() if kind in _COMPANIONS}
    return {key: companion for key, companion in expected.items() if companion in types}


def as_float32(value: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the numbers in float32, and how many are NaN or infinite, as those beyond float32 become."""
    with np.errstate(over="ignore"):
        floats = value.astype(np.float32)
    return floats, int(np.count_nonzero(~np.isfinite(floats)))


def _best_step(kernel: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Return the step with the least squared error over `axes`, whose length is then 1."""
    largest = np.abs(kernel).max(axes, keepdims=True, initial=0)
    # An error in steps times the share is the error itself, but for a factor that all shares have.
    steps = np.stack([_short(clip * largest / _LARGEST) for clip in _CLIPS])
    errors = np.stack([clip * _error(kernel / step, axes) for clip, step in zip(_CLIPS, steps, strict=True)])
    return np.take_along_axis(steps, errors.argmin(0)[None], 0)[0]


def _short(step: np.ndarray) -> np.ndarray:
    # Down to `_STEP_BITS` significant bits; up to the smallest normal number, which serves zeros too.
    mantissa, exponent = np.frexp(step)
    short = np.ldexp(np.floor(np.ldexp(mantissa, _STEP_BITS)), exponent - _STEP_BITS)
    return np.maximum(short, np.finfo(np.float32).tiny)


def _error(scaled: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    # In steps, whose squares cannot overflow.
    return np.sqrt(np.square(scaled - _whole(scaled)).sum(axes, keepdims=True))


def _whole(scaled: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(scaled), -_LARGEST, _LARGEST)


def _misfit(key: str, values: np.ndarray, codes: np.ndarray) -> str | None:
    """Say what is wrong with the steps or the table of 8-bit codes; `None` if nothing is."""
    if codes.dtype == np.int8:
        pairs = zip(values.shape, codes.shape, strict=False)
        fits = values.ndim == codes.ndim and all(length in (1, full) for length, full in pairs)
        expected, rule = f"1 or the length of {codes.shape} along every axis", "finite and positive"
    else:
        fits, expected, rule = values.shape == (_TABLE_LENGTH,), f"({_TABLE_LENGTH},)", "finite"
    if not fits:
        return f"{key} has shape {values.shape}, expected {expected}"
    usable = np.isfinite(values) & (values > 0 if codes.dtype == np.int8 else True)
    bad = np.count_nonzero(~usable)
    return f"{key} holds {bad} values that are not {rule}" if bad else None
