"""Checkpoints of a run: Orbax writes them during training, and the last few are kept.

A killed process leaves whole or ignored ones, since Orbax names a checkpoint when all of it is written. Later damage,
by a bad disk or a copy that was cut off, is found by a hash over all that is restored; then the sound one before it is
taken, and the damaged one is moved away.
"""

import contextlib
import gc
import json
import logging
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from swag_jax import devices
from swag_jax._checks import error
from swag_jax.params.convert import tensors_sha256
from swag_jax.train.state import State

DAMAGED = "damaged"
"""The folder, next to that of the checkpoints, for damaged ones."""

_HASH = "sha256"
"""Key of the hash, next to the place among the batches; checkpoints of 0.1.0 have none."""

_LEFT_BEHIND = 0.3
"""Seconds in which abandoned reads have ended; spent on damaged checkpoints only."""


class Checkpoints:
    """The checkpoints of one run, of which the last `keep` are kept; a context that ends when all are written."""

    def __init__(self, folder: Path, *, keep: int):
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=True)
        self._folder = folder.absolute()
        if folder.exists() and not folder.is_dir():
            raise error(f"{folder} must be a folder", got="something else", cure="choose another -o")
        try:
            with _silent():
                self._manager = ocp.CheckpointManager(self._folder, options=options)
        except OSError as problem:
            rule = f"{folder} must be a folder that can be read and written"
            raise error(rule, got=problem, cure="choose another -o") from problem

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        with self._writing():
            self._manager.close()

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps of the checkpoints that are kept, the last at the end."""
        return tuple(sorted(self._manager.all_steps()))

    def save(self, state: State, data: Mapping[str, int]) -> None:
        """Begin to write a checkpoint, unless there is one of this step; `data` is the place among the batches."""
        step = int(state["step"])
        if step in self.steps:
            return
        # The next step reuses the state's memory on the devices.
        copied = jax.tree.map(lambda x: np.array(x, copy=True), state)
        noted = {**data, _HASH: _hash(_flat(copied), data)}
        args = ocp.args.Composite(state=ocp.args.StandardSave(copied), data=ocp.args.JsonSave(noted))
        with self._writing():
            self._manager.save(step, args=args, force=True)

    def restore(self, like: State, data: Mapping[str, int]) -> tuple[State, dict[str, int], list[str]] | None:
        """Return the last sound checkpoint's state and place among the batches; `None` if there are no checkpoints.

        Later ones, which are damaged, are moved to `DAMAGED`, and there is a line for each. If all are damaged, or the
        state is that of another generator than `like`, this is an error, and nothing is touched.
        """
        damage: dict[int, str] = {}
        for step in reversed(self.steps):
            found = self._read(step, data)
            # Processes must resume from the same step, whatever each could read.
            damaged = devices.any_process(isinstance(found, str))
            if not damaged and not isinstance(found, str):
                arrays, place = found
                state = _as(like, arrays, self._folder / str(step))
                return state, place, self._put_aside(damage, step)
            damage[step] = found if isinstance(found, str) else "another process cannot read it"
        if not damage:
            return None
        shown = "; ".join(f"step {step}: {problem}" for step, problem in damage.items())
        cure = "bring back a copy of one, or start in another folder, perhaps with --init and a generator of this one"
        raise error(f"{self._folder} must hold a checkpoint that is sound", got=shown, cure=cure)

    def wait(self) -> None:
        """Return when all that was begun is written."""
        with self._writing():
            self._manager.wait_until_finished()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        # What goes wrong, now or with an earlier checkpoint, is one clear error.
        try:
            yield
        except (OSError, RuntimeError, ValueError) as problem:
            brief = str(problem).partition("\n")[0]
            rule = f"cannot write a checkpoint in {self._folder}: {brief}"
            raise error(rule, cure="make room, and run the same command again") from problem

    def _read(self, step: int, data: Mapping[str, int]) -> tuple[dict[str, np.ndarray], dict[str, int]] | str:
        # Its arrays by name and its place among the batches, or what is wrong with it.
        # Without a state to be like: Orbax would fit what it finds to it, in part.
        args = ocp.args.Composite(state=ocp.args.StandardRestore(), data=ocp.args.JsonRestore())
        try:
            with _silent():
                found = self._manager.restore(step, args=args)
            arrays, noted = _flat(found["state"]), dict(found["data"])
            wanted = noted.pop(_HASH, None)
            if noted.keys() != data.keys() or int(arrays["step"]) != step:
                return "its parts do not go together"
            if wanted is not None and wanted != _hash(arrays, noted):
                return "what it holds is not what was written"
        except MemoryError:
            raise
        # Each reader below Orbax has its own errors for damaged files.
        except Exception as problem:
            return f"it cannot be read ({type(problem).__name__})"
        return arrays, noted

    def _put_aside(self, damage: Mapping[int, str], sound: int) -> list[str]:
        """Move damaged checkpoints out of the way of later ones, and return a line for each."""
        lines = []
        for step, problem in damage.items():
            target = _free(self._folder.parent / DAMAGED / str(step))
            if devices.process_index() == 0:
                try:
                    target.parent.mkdir(exist_ok=True)
                    (self._folder / str(step)).rename(target)
                except OSError as failure:
                    raise error(f"cannot move the damaged checkpoint of step {step}: {failure}") from failure
            line = f"the checkpoint of step {step} is damaged: {problem}; it is kept as {target}"
            lines.append(f"{line}, and the run resumes from step {sound}")
        if damage:
            devices.wait_for_all(name="damaged checkpoints are put aside")
            self._manager.reload()
        return lines


def _flat(state: Any) -> dict[str, np.ndarray]:
    """Return the arrays of a state by the way to each; the same for a tuple's and a list's, a field's and a key's."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves}


def _hash(arrays: Mapping[str, np.ndarray], data: Mapping[str, int]) -> str:
    place = np.frombuffer(json.dumps(dict(data), sort_keys=True).encode(), np.uint8)
    return tensors_sha256({**arrays, "data": place})


def _as(like: State, arrays: Mapping[str, np.ndarray], path: Path) -> State:
    """Return arrays in the form of a state."""
    expected = _flat(like)
    shapes = {name: (array.shape, array.dtype) for name, array in expected.items()}
    found = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    if found != shapes:
        name = next(name for name in sorted(found | shapes) if found.get(name) != shapes.get(name))
        shown = f"{name} {_described(found.get(name))} there and {_described(shapes.get(name))} here"
        cure = "choose another -o, or the flags it began with"
        raise error(f"{path} must be a checkpoint of such a generator", got=shown, cure=cure)
    return jax.tree.unflatten(jax.tree.structure(like), [arrays[name] for name in expected])


def _described(array: tuple[tuple[int, ...], np.dtype] | None) -> str:
    return "missing" if array is None else f"{array[1]}{list(array[0])}"


def _free(path: Path) -> Path:
    """Return a path that does not exist yet: this one, or with a number."""
    others = (path.with_name(f"{path.name}-{number}") for number in range(2, 1_000_000))
    return path if not path.exists() else next(other for other in others if not other.exists())


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep Orbax from printing what is wrong with a file, which is said in one line.

    It logs some of it, and if one array cannot be read, it abandons the reads of others, which find their event loop
    closed, or are never awaited.
    """
    logger, hook = logging.getLogger("absl"), sys.unraisablehook
    level = logger.level

    def heard(unraisable: Any) -> None:
        if not (isinstance(unraisable.exc_value, RuntimeError) and "loop is closed" in str(unraisable.exc_value)):
            hook(unraisable)

    logger.setLevel(logging.CRITICAL)
    sys.unraisablehook = heard
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                yield
            except Exception:
                time.sleep(_LEFT_BEHIND)
                gc.collect()
                raise
    finally:
        sys.unraisablehook = hook
        logger.setLevel(level)
