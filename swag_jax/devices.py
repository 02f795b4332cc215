"""Work on every device: the one place where device mapping is spelled.

Data-parallel programs are written for one device and mapped over all of them by `jax.pmap`: state is replicated,
a batch is split along its first axis, and `mean` averages over the devices inside the program.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax import lax

from swag_jax._checks import error

Tree = TypeVar("Tree")

AXIS = "devices"
"""Name of the mapped axis."""


def count() -> int:
    """Return the number of devices of this process."""
    return jax.local_device_count()


def parallel(
    step: Callable[..., Any],
    *,
    split: tuple[int, ...],
    arguments: int,
    donated: tuple[int, ...] = (),
) -> Callable[..., Any]:
    """Return a program mapped over the devices, whose results are those of the first.

    What `step` returns must therefore be the same on each device, as behind `mean`.

    Args:
        step: A pure function; it may call `mean` and `index`.
        split: Places of the arguments that come with a leading axis over devices (see `shares`); the others go to
            every device as they are.
        arguments: How many arguments `step` takes.
        donated: Places of the arguments whose memory the results may take.

    Example:
        >>> import numpy as np
        >>> average = parallel(lambda x: mean(x.mean()), split=(0,), arguments=1)
        >>> float(average(shares(np.arange(8.0 * count()).reshape(-1, 1)))) == (8 * count() - 1) / 2
        True
    """
    places = tuple(0 if place in split else None for place in range(arguments))
    return jax.pmap(step, axis_name=AXIS, in_axes=places, out_axes=None, donate_argnums=donated)


def shares(batch: np.ndarray) -> np.ndarray:
    """Return a batch with its first axis split into one share for each device: `devices share ...`.

    Args:
        batch: `batch ...`, where the batch is a multiple of the number of devices.

    Raises:
        UserError: If it is not.

    Example:
        >>> shares(np.zeros((2 * count(), 3))).shape == (count(), 2, 3)
        True
    """
    if len(batch) % count():
        raise error(
            "a batch must be a multiple of the number of devices",
            got=f"a batch of {len(batch)} on {count()} devices",
        )
    return batch.reshape(count(), -1, *batch.shape[1:])


def mean(tree: Tree) -> Tree:
    """Return the average over the devices, inside a program mapped by `parallel`.

    Args:
        tree: Arrays, one of each on every device.
    """
    return lax.pmean(tree, AXIS)


def index() -> jax.Array:
    """Return the number of this device, inside a program mapped by `parallel`."""
    return lax.axis_index(AXIS)
