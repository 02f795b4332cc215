"""Whether a run fits into the device's memory, and which image size would.

What a chunk of steps takes is what its compiled program says. A program compiled for a small image tells what a large
one will take, before anything large is computed, allocated or compiled.
"""

import contextlib
import math

import jax
import psutil
from jax.stages import Compiled

from swag_jax._programs import Program
from swag_jax._scheduler import OutOfMemoryError, memory_explained
from swag_jax.optimize.pyramid import Scale

HEADROOM = 0.95
"""Share of the free memory that a run may ask for; the rest is left to the allocator's fragmentation."""

ANALYZED_SIZE = 512
"""Longer side of the image that is analyzed in place of a larger one. Scaled up from 512 to 1024 pixels, what
`gatys_vgg19` needs is overestimated by 0.4 %, what `swag_resnet50` needs by 7 %, since its Gram matrices do not grow;
from 128 pixels it would be 12 % and 140 %."""


def needed_bytes(program: Program) -> int:
    """Return how much memory a program takes on the device, its inputs and outputs included; 0 if it says nothing."""
    analysis = program.memory_analysis() if isinstance(program, Compiled) else None
    if analysis is None:
        return 0
    return (
        analysis.temp_size_in_bytes
        + analysis.argument_size_in_bytes
        + analysis.output_size_in_bytes
        - analysis.alias_size_in_bytes
    )


def free_bytes() -> int:
    """Return how much memory is free on the device: what its allocator may still take, or the host's."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in statistics:
        return statistics["bytes_limit"] - statistics.get("bytes_in_use", 0)
    return psutil.virtual_memory().available


def sharing() -> int:
    """Return how many devices of this process live on the memory that `free_bytes` tells: all, or only one."""
    return 1 if "bytes_limit" in (jax.local_devices()[0].memory_stats() or {}) else jax.local_device_count()


def check_fits(program: Program, scale: Scale, *, fixed: int, analyzed: Scale | None = None, sharing: int = 1) -> None:
    """Raise an error, with the size that would fit, if a run at `scale` needs more than the device has free.

    The program is that of a chunk of steps, compiled for `analyzed` (default: `scale`), which `sharing` devices run on
    the same memory.
    """
    # All but `fixed`, the bytes of the network's weights, is proportional to the pixels.
    growth = 1.0 if analyzed is None else scale.pixels / analyzed.pixels
    growing = max(needed_bytes(program) - fixed, 0) * growth
    free = HEADROOM * free_bytes() / sharing
    if fixed + growing > free:
        rule = f"a run must fit into memory, got {_gib(fixed + growing)} needed at size {scale.size}"
        fitting = scale.size * math.sqrt(max(free - fixed, 0) / growing) if growing else 0
        raise OutOfMemoryError(f"{rule} and {_gib(free)} free: {_cure(fitting)}.")


def check_host(needed: float, scale: Scale) -> None:
    """Raise an error if the host has no room for the image, gradient and state of a run in tiles."""
    free = HEADROOM * psutil.virtual_memory().available
    if needed > free:
        rule = f"image and state must fit into the host's memory, got {_gib(needed)} needed at size {scale.size}"
        size = int(scale.size * math.sqrt(free / needed)) // 16 * 16
        cure = f"pass --size {size} or less, or --solver adam, which keeps three images instead of L-BFGS's dozens"
        raise OutOfMemoryError(f"{rule} and {_gib(free)} free: {cure}.")


def largest_batch(one: int, many: int, *, size: int, free: float) -> int:
    """Return the largest batch whose needs, measured for two sizes of it, fit; at least 1.

    needed(n) = one + (n - 1) (many - one) / (size - 1), with `one` and `many` the bytes that 1 and `size` pairs take.

    Example:
        >>> largest_batch(30, 60, size=4, free=HEADROOM ** -1 * 95)
        7
    """
    more = max((many - one) / (size - 1), 1)
    return max(1, 1 + int((HEADROOM * free - one) // more))


def explained(size: int) -> contextlib.AbstractContextManager[None]:
    """Turn the failure of an allocation into an `OutOfMemoryError` that names half as many pixels."""
    rule = f"a run must fit into memory, which was used up at size {size}"
    return memory_explained(rule, cure=_cure(size / math.sqrt(2)))


def _cure(fitting: float) -> str:
    size = int(fitting) // 16 * 16
    return f"pass --size {size} or less, or --precision bfloat16" if size else "free some memory first"


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"
