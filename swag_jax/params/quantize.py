"""8-bit checkpoints: each convolution kernel as whole numbers times one step per output channel.

In a file, the kernel `X` is a tensor of int8 and its steps are the float32 tensor `X.step`. Readers of checkpoints
see one floating-point tensor `X`. A file of this form has a quarter of the float32 one's size.
"""

from collections.abc import Collection, Iterable, Mapping

import numpy as np

from swag_jax._checks import error
from swag_jax.params.layouts import Tensors

_SUFFIX = ".step"

_LARGEST = 127
"""Of 8 bits, -128 is left out: the range is symmetric, so a kernel's sign can be turned."""

_CLIPS = tuple(percent / 100 for percent in range(100, 69, -2))
"""Shares of a channel's largest weight that become 127, in the order in which equal errors are decided: our choice."""

_STEP_BITS = 17
"""Significant bits of a step: with the 7 of a whole number they are float32's 24, so that products are exact."""

_KERNEL_AXES = 4


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
        if key + _SUFFIX in tensors:
            raise error("tensors must not be 8-bit already", got=f"{key}{_SUFFIX}", cure="dequantize them first")
        values = _as_floats(key, value)
        if values.ndim == _KERNEL_AXES:
            step = _best_step(values, tuple(axis for axis in range(_KERNEL_AXES) if axis != channel_axis))
            quantized |= {key: _whole(values / step).astype(np.int8), key + _SUFFIX: step}
        else:
            quantized[key] = values
    return quantized


def dequantize(tensors: Mapping[str, np.ndarray]) -> Tensors:
    """Return the tensors with every 8-bit one multiplied by its steps: the inverse of `quantize`.

    Args:
        tensors: Arrays by key, as `quantize` returns them; 8-bit ones may have any number of axes, and steps any
            shape with the same number of axes that broadcasts to theirs.

    Returns:
        float32 arrays by key, without the steps.

    Raises:
        UserError: If a tensor of int8 has no steps, or they have another shape or are not finite and positive.

    Example:
        >>> dequantize({"k": np.int8([[127, -64]]), "k.step": np.float32([[0.5]])})["k"].tolist()
        [[63.5, -32.0]]
    """
    multiplied, misfits = multiply_steps(tensors)
    misfits += [f"{key} holds int8 numbers without a step" for key, value in multiplied.items() if _is_int8(value)]
    if misfits:
        raise error("; ".join(misfits), cure="pass what quantize returned")
    return {key: value.astype(np.float32) for key, value in multiplied.items()}


def multiply_steps(tensors: Mapping[str, np.ndarray]) -> tuple[Tensors, list[str]]:
    """Multiply each 8-bit tensor that has steps by them, in float32, and list the steps that cannot be used.

    Returns:
        All tensors but the steps and those whose steps cannot be used; and a line for each of these.
    """
    steps = step_keys((key for key, value in tensors.items() if _is_int8(value)), tensors)
    multiplied = {key: value for key, value in tensors.items() if key not in steps.values()}
    misfits = []
    for key, step_key in steps.items():
        # Numbers beyond float32 become infinite here, and are for the caller to find.
        with np.errstate(over="ignore"):
            step = tensors[step_key].astype(np.float32)
            if misfit := _step_misfit(step_key, step, multiplied[key].shape):
                misfits.append(misfit)
                del multiplied[key]
            else:
                multiplied[key] = multiplied[key] * step
    return multiplied, misfits


def step_keys(int8_keys: Iterable[str], keys: Collection[str]) -> dict[str, str]:
    """Return the key of its steps for each tensor of int8 that has them among `keys`.

    Example:
        >>> step_keys(["a", "b"], ["a", "a.step", "b", "c.step"])
        {'a': 'a.step'}
    """
    return {key: key + _SUFFIX for key in int8_keys if key + _SUFFIX in keys}


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


def _is_int8(value: np.ndarray) -> bool:
    return value.dtype == np.int8


def _step_misfit(key: str, step: np.ndarray, shape: tuple[int, ...]) -> str | None:
    """Say what is wrong with the steps of a tensor of `shape`; `None` where nothing is."""
    if step.ndim != len(shape) or any(length not in (1, full) for length, full in zip(step.shape, shape, strict=True)):
        return f"{key} has shape {step.shape}, expected 1 or the length of {shape} along every axis"
    if bad := np.count_nonzero(~(np.isfinite(step) & (step > 0))):
        return f"{key} holds {bad} values that are not finite and positive"
    return None
