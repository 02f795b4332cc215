"""Flags of masks, which stylizations and generators share."""

from dataclasses import dataclass
from pathlib import Path

from swag_jax.cli._flags import flag
from swag_jax.cli._outputs import labeled


@dataclass(frozen=True, kw_only=True)
class MaskFlags:
    """Where styles go, and what of them is used."""

    content_masks: tuple[Path, ...] = flag("Where each style goes: white is all", ())
    style_masks: tuple[Path, ...] = flag("The part of each style to use: white", ())

    def mask_files(self) -> list[tuple[str, Path]]:
        """Return all masks with the names of their flags."""
        return [*labeled("--content-masks", self.content_masks), *labeled("--style-masks", self.style_masks)]
