"""Whether a compiled program fits into the device's memory, and which picture size would."""

import math

import jax
import psutil
from jax.stages import Compiled

from swag_jax.optimize.result import OutOfMemoryError

HEADROOM = 0.95
"""Share of the free memory that a run may ask for; the rest is left to the allocator's fragmentation."""


def needed_bytes(compiled: Compiled) -> int:
    """Return how much memory a compiled program takes on the device, its inputs and outputs included."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        return 0
    return (
        analysis.temp_size_in_bytes
        + analysis.argument_size_in_bytes
        + analysis.output_size_in_bytes
        - analysis.alias_size_in_bytes
    )


def free_bytes(device: jax.Device) -> int:
    """Return how much memory of `device` is free: what the allocator may still take, or the host's."""
    statistics = device.memory_stats() or {}
    if "bytes_limit" in statistics:
        return statistics["bytes_limit"] - statistics.get("bytes_in_use", 0)
    return psutil.virtual_memory().available


def check_fits(compiled: Compiled, *, size: int, device: jax.Device) -> None:
    """Raise if a run at picture size `size` needs more memory than `device` has free.

    Raises:
        OutOfMemoryError: Naming what it needs, what is free, and the size that would fit.
    """
    needed, free = needed_bytes(compiled), int(HEADROOM * free_bytes(device))
    if needed > free:
        raise out_of_memory(size=size, needed=needed, free=free)


def out_of_memory(*, size: int, needed: int, free: int) -> OutOfMemoryError:
    """Compose the error; memory grows with the number of pixels, so the size with its square root."""
    fitting = int(size * math.sqrt(free / needed)) // 16 * 16
    return OutOfMemoryError(
        f"a run must fit into memory, got {needed / 2**30:.1f} GiB needed at size {size} and {free / 2**30:.1f} GiB "
        f"free: pass --size {fitting} or less, or --precision bfloat16."
    )
