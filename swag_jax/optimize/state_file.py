"""The state of a run of one image in a file, from which the same run is resumed after a kill."""

import contextlib
import hashlib
import json
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from swag_jax._checks import error
from swag_jax._files import replacing
from swag_jax.optimize.pairs import Pair, PreparedPair, identity

SECONDS = 300.0
"""Between two writings. Our choice: at 64 megapixels one takes some seconds."""


@dataclass
class StateFile:
    """Where a run keeps its state.

    Attributes:
        run: What tells the run from others.
        seconds: Between two writings.
    """

    path: Path
    run: str
    seconds: float = SECONDS
    _written: float = field(init=False, default_factory=time.monotonic)

    def due(self) -> bool:
        """Tell whether it is time to write."""
        return time.monotonic() - self._written >= self.seconds

    def write(self, state: Any, histories: list[dict[str, np.ndarray]], record: dict[str, Any]) -> None:
        """Write a state, the losses of every step, and a record that JSON can say; whole or not at all."""
        arrays = {f"state/{i}": leaf for i, leaf in enumerate(jax.device_get(jax.tree.leaves(state)))}
        for name in histories[0] if histories else ():
            arrays[f"losses/{name}"] = np.concatenate([history[name] for history in histories], -1)
        self._written = time.monotonic()  # also if it fails, so that the next try waits
        described = np.frombuffer(json.dumps({"run": self.run, **record}).encode(), np.uint8)
        with replacing(self.path) as temporary, temporary.open("wb") as file:
            np.savez(file, description=described, **arrays)

    def read(self, like: Any) -> tuple[Any, list[dict[str, np.ndarray]], dict[str, Any]] | None:
        """Return what `write` was given, as host arrays; `None` if there is no file.

        Args:
            like: A function of the record to the shapes of a state.

        Raises:
            UserError: If the file is of another run, or damaged.
        """
        if not self.path.exists():
            return None
        cure = f"remove {self.path} to begin anew"
        try:
            with self.path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                record = json.loads(bytes(file["description"]))
                if record.pop("run", None) != self.run:
                    raise error(f"{self.path} must be of the same run", got="other images or settings", cure=cure)
                leaves, structure = jax.tree.flatten(like(record))
                state = [file[f"state/{i}"] for i in range(len(leaves))]
                names = [name.removeprefix("losses/") for name in file.files if name.startswith("losses/")]
                losses = {name: file[f"losses/{name}"] for name in names}
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as problem:
            raise error(f"{self.path} must hold the state of a run", got=f"damage ({problem})", cure=cure) from problem
        fits = all(a.shape == b.shape and a.dtype == b.dtype for a, b in zip(state, leaves, strict=True))
        if not fits:
            raise error(f"{self.path} must hold the state of this run", got="arrays of other shapes", cure=cure)
        return jax.tree.unflatten(structure, state), [losses] if losses else [], record

    def remove(self) -> None:
        """Remove the file of a run that is done, if there is one."""
        with contextlib.suppress(OSError):  # the image counts; what stays is a state of the same run
            self.path.unlink()


def run_key(pair: Pair, prepared: PreparedPair) -> str:
    """Return what tells a run of one image from others: images, masks, settings, weights and key."""
    sources = [pair.content, *_listed(pair.styles), *pair.content_masks, *pair.style_masks]
    sources += [] if pair.init is None else [pair.init]
    drawn = None if pair.key is None else np.asarray(jax.random.key_data(pair.key)).tolist()
    facts = [[identity(source) for source in sources], pair.settings, prepared.problem.loaded.source.sha256, drawn]
    return hashlib.blake2b(repr(facts).encode()).hexdigest()


def _listed(styles: Any) -> list[Any]:
    return list(styles) if isinstance(styles, list | tuple) else [styles]
