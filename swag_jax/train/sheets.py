"""Sample sheets: the same pairs of images by a generator in training."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from swag_jax._checks import UserError, error
from swag_jax._types import AnyHostImage
from swag_jax.backbones import Compute
from swag_jax.generators.method import Config
from swag_jax.generators.registry import with_parameters
from swag_jax.images import sheet
from swag_jax.images.crop import read_crop
from swag_jax.train.data import SkippedFiles
from swag_jax.train.settings import TrainSettings

TRIES = 20
"""Images that are tried for a place of the sheet, as long as they are damaged."""


class Samples:
    """The pairs of a sheet: a few contents down the side, a few styles along the top.

    The contents and styles shown are evenly spread over all; damaged ones give way to the next, and are reported.
    """

    def __init__(
        self,
        contents: Sequence[Path],
        styles: Sequence[Path],
        *,
        settings: TrainSettings,
        config: Config,
        shown: int,
        damage: SkippedFiles,
    ):
        self.contents, self.styles = (_spread(images, shown, settings, damage) for images in (contents, styles))
        self._paint = _painter(settings, config)

    def draw(self, encoder: Any, parameters: dict[str, Any]) -> AnyHostImage:
        """Return the sheet by a generator of these parameters, by flat name."""
        contents = jnp.asarray(np.stack(self.contents))
        columns = [np.asarray(self._paint(encoder, parameters, contents, jnp.asarray(s))) for s in self.styles]
        rows = [[None, *self.styles]]
        rows += [[c, *(column[i] for column in columns)] for i, c in enumerate(self.contents)]
        return sheet(rows)


def _painter(settings: TrainSettings, config: Config) -> Callable[..., Any]:
    compute, key = Compute(precision=settings.precision), jax.random.key(settings.seed)

    @jax.jit
    def painted(encoder, parameters, contents, style):
        generator = with_parameters(config, parameters, compute=compute)
        styles = jnp.broadcast_to(style[None], contents.shape) if generator.reads_styles else None
        return jnp.clip(generator.stylize(encoder, contents, styles, key=key), 0, 1)

    return painted


def _spread(images: Sequence[Path], shown: int, settings: TrainSettings, damage: SkippedFiles) -> list[AnyHostImage]:
    found = []
    for start in dict.fromkeys(np.linspace(0, len(images) - 1, shown).astype(int).tolist()):
        crops = (_middle(path, settings, damage) for path in images[start : start + TRIES])
        found += list(itertools.islice((crop for crop in crops if crop is not None), 1))
    if not found:
        raise error(f"images of {images[0].parent} must be readable", got="damaged ones wherever samples are taken")
    return found


def _middle(path: Path, settings: TrainSettings, damage: SkippedFiles) -> AnyHostImage | None:
    try:
        return read_crop(path, size=settings.crop, crop=settings.crop).astype(np.float32) / 255
    except UserError as problem:
        damage.add(path, problem)
        return None
