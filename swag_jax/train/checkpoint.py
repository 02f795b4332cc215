"""Checkpoints of a run: Orbax writes them beside the training, and the last few are kept.

The state goes in as a copy in host memory, since the next step takes the memory of the one on the devices. Orbax gives
a checkpoint its name when all of it is written, so that what a killed process leaves is whole or ignored.
"""

from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from swag_jax.train.state import State


class Checkpoints:
    """The checkpoints of one run; a context that ends when all are written.

    Args:
        folder: Where they lie.
        keep: How many of the last are kept.
    """

    def __init__(self, folder: Path, *, keep: int):
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=True)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps of the checkpoints that are kept, the last at the end."""
        return tuple(sorted(self._manager.all_steps()))

    def save(self, state: State, data: Mapping[str, int]) -> None:
        """Begin to write a checkpoint, unless there is one of this step.

        Args:
            state: The state.
            data: Where the sequence of batches stands.
        """
        step = int(state["step"])
        if step in self.steps:
            return
        copied = jax.tree.map(lambda x: np.array(x, copy=True), state)
        args = ocp.args.Composite(state=ocp.args.StandardSave(copied), data=ocp.args.JsonSave(dict(data)))
        self._manager.save(step, args=args, force=True)

    def restore(self, like: State) -> tuple[State, dict[str, int]] | None:
        """Return the last checkpoint's state and place among the batches; `None` if there is none.

        Args:
            like: A state of the same shapes.
        """
        if not self.steps:
            return None
        shapes = jax.tree.map(np.empty_like, like)
        args = ocp.args.Composite(state=ocp.args.StandardRestore(shapes), data=ocp.args.JsonRestore())
        found = self._manager.restore(self.steps[-1], args=args)
        return dict(found["state"]), dict(found["data"])

    def wait(self) -> None:
        """Return when all that was begun is written."""
        self._manager.wait_until_finished()
