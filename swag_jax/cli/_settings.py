"""Flags that several commands share: settings of a stylization, where it starts, and processes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swag_jax import devices
from swag_jax._checks import check_name
from swag_jax.cli._flags import Changes, changed, changes, flag, shown_value
from swag_jax.cli._masks import MaskFlags
from swag_jax.optimize import StylizeSettings
from swag_jax.optimize.settings import INITS
from swag_jax.presets import PRESETS, of_backbone

_DEFAULT = next(iter(PRESETS))


def default_text(owner: Any, name: str) -> str:
    """Say what a setting is if its flag is not given: what the default preset has, and whether others differ."""
    values = {preset: getattr(_part(settings, type(owner)), name) for preset, settings in PRESETS.items()}
    shown = shown_value(values[_DEFAULT])
    same = name == "backbone" or len(set(values.values())) == 1
    return shown if same else f"by preset; {_DEFAULT}: {shown}"


def _part(settings: StylizeSettings, owner: type) -> Any:
    """Return the value of class `owner` among the settings and what is inside them."""
    return next(v for v in (settings, settings.objective, settings.objective.smoothing) if isinstance(v, owner))


@dataclass(frozen=True, kw_only=True)
class SettingsFlags:
    """Settings of a stylization: a preset, and what was given over it."""

    preset: str | None = flag(
        "Named settings to start from; by default the backbone's first preset", None, metavar="NAME", names=PRESETS
    )
    settings: Changes = changes(StylizeSettings(), shown=default_text, without={"init"})

    def chosen(self) -> StylizeSettings:
        """Return all settings; a preset under another `--backbone` reads that backbone's default layers."""
        backbone = self.settings.get("backbone", StylizeSettings().backbone)
        start = PRESETS[self.preset] if self.preset else of_backbone(backbone)
        return changed(start, self.settings)


@dataclass(frozen=True, kw_only=True)
class PairFlags(SettingsFlags):
    """Settings of a stylization, and where it starts."""

    init: str | None = flag(
        "Where to start: content, statistics, noise, or an image's path; by default the preset's, content",
        None,
        metavar="INIT",
    )

    def chosen_start(self, folder: Path = Path()) -> tuple[StylizeSettings, Path | None]:
        """Return the settings, and the path of the starting image if there is one; it need not exist."""
        settings = self.chosen()
        if self.init is None:
            return settings, None
        # A word is the name of a start unless it has a suffix or there is such a file.
        if self.init in INITS or not (Path(self.init).suffix or (folder / self.init).exists()):
            return changed(settings, {"init": check_name(self.init, INITS, what="init")}), None
        return settings, folder / self.init


@dataclass(frozen=True, kw_only=True)
class MaskedPairFlags(PairFlags, MaskFlags):
    """Settings of a stylization, where it starts, and masks."""


@dataclass(frozen=True, kw_only=True)
class ProcessFlags:
    """Several processes that share the work."""

    coordinator: str | None = flag("Address of process 0, if there are several", None, metavar="HOST:PORT")
    processes: int | None = flag("How many processes there are", None)
    process: int | None = flag("The number of this one, from 0", None)

    def join(self) -> bool:
        """Join the processes; tell whether there are several. Call this before anything else uses JAX."""
        return devices.initialize(coordinator=self.coordinator, processes=self.processes, process=self.process)
