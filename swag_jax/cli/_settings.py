"""Flags that several commands share: settings of a stylization, where it starts, and processes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swag_jax._checks import check_name
from swag_jax.cli._flags import Changes, changed, changes, flag, shown_value
from swag_jax.optimize import StylizeSettings
from swag_jax.optimize.settings import INITS
from swag_jax.presets import OF_BACKBONE, PRESETS, of_backbone

_BACKBONE = StylizeSettings().backbone


def default_text(owner: Any, name: str) -> str:
    """Say what a setting is if its flag is not given: what the default preset has, and whether others differ.

    Example:
        >>> default_text(StylizeSettings(), "size"), default_text(StylizeSettings().objective.smoothing, "kind")
        ('512', 'by preset; gatys-vgg19: none')
    """
    values = {preset: getattr(_part(settings, type(owner)), name) for preset, settings in PRESETS.items()}
    value = values[OF_BACKBONE[_BACKBONE]]
    same = name == "backbone" or all(other == value for other in values.values())
    return shown_value(value) if same else f"by preset; {OF_BACKBONE[_BACKBONE]}: {shown_value(value)}"


def _part(settings: StylizeSettings, owner: type) -> Any:
    """Return the value of class `owner` among the settings and what is inside them."""
    return next(v for v in (settings, settings.objective, settings.objective.smoothing) if isinstance(v, owner))


@dataclass(frozen=True, kw_only=True)
class SettingsFlags:
    """Settings of a stylization.

    Attributes:
        preset: Named settings to start from; by default the backbone's first preset.
        settings: What was given over the preset.
    """

    preset: str | None = flag(None, metavar="NAME", names=PRESETS)
    settings: Changes = changes(StylizeSettings(), shown=default_text, without={"init"})

    def chosen(self) -> StylizeSettings:
        """Return the preset's settings with the given flags over them.

        A preset under another `--backbone` reads that backbone's default layers.

        Raises:
            UserError: If a name is unknown or a value out of range.
        """
        start = PRESETS[self.preset] if self.preset else of_backbone(self.settings.get("backbone", _BACKBONE))
        return changed(start, self.settings)


@dataclass(frozen=True, kw_only=True)
class PairFlags(SettingsFlags):
    """Settings of a stylization, and where it starts.

    Attributes:
        init: Where to start: content, statistics, noise, or an image's path; by default the preset's, content.
    """

    init: str | None = flag(None, metavar="INIT")

    def chosen_start(self, folder: Path = Path()) -> tuple[StylizeSettings, Path | None]:
        """Return the settings, and the path of the starting image if there is one.

        Raises:
            UserError: If a name is unknown or a value out of range; a missing image is told when it is read.
        """
        settings = self.chosen()
        if self.init is None:
            return settings, None
        if self.init in INITS or not (Path(self.init).suffix or (folder / self.init).exists()):
            return changed(settings, {"init": check_name(self.init, INITS, what="init")}), None
        return settings, folder / self.init


@dataclass(frozen=True, kw_only=True)
class ProcessFlags:
    """Several processes that share the work.

    Attributes:
        coordinator: Address of process 0, if there are several.
        processes: How many processes there are.
        process: The number of this one, from 0.
    """

    coordinator: str | None = flag(None, metavar="HOST:PORT")
    processes: int | None = None
    process: int | None = None
