"""`swag-jax demo`: stylizes the photographs that come with the package, and lays the results out on one sheet."""

import functools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from swag_jax import devices
from swag_jax._files import make_folder
from swag_jax._types import AnyHostImage
from swag_jax.cli._display import Display, clock, steps_line
from swag_jax.cli._exit import ExitCode
from swag_jax.cli._flags import Changes, Quiet, changes, flag
from swag_jax.cli._outputs import check_outputs
from swag_jax.cli._settings import SettingsFlags, default_text
from swag_jax.cli.stylize import settings_lines
from swag_jax.images import sample, sheet, write_image
from swag_jax.optimize import Progress, StylizeSettings, stylize

# Two styles of each content, and every sample at least once.
STYLES = {"astronaut": ("swirls", "mosaic"), "cat": ("embers", "woodcut"), "coffee": ("dots", "swirls")}
PAIRS = tuple((content, style) for content, styles in STYLES.items() for style in styles)

# What finishes all six images in under 100 seconds on two CPU cores; VGG19 takes twice as long.
PRESET, SIZE, STEPS = "swag-resnet50", 256, 60


def _shown(owner: Any, name: str) -> str:
    return {"size": str(SIZE), "steps": str(STEPS)}.get(name) or default_text(owner, name)


@dataclass(frozen=True, kw_only=True)
class Demo(SettingsFlags, Quiet):
    """Stylize photographs that come with the package.

    Write six images in the manner of drawn styles, and a before/after sheet. Needs no files and no network.
    """

    usage: ClassVar[str] = "swag-jax demo [-o DIR] [flags]"

    output: Path = flag("Folder to write to", Path("swag-demo"), short="-o", metavar="DIR")
    settings: Changes = changes(StylizeSettings(), shown=_shown, without={"init"})

    def run(self) -> ExitCode:
        """Stylize every pair, then write the sheet."""
        preset = self.preset or (None if "backbone" in self.settings else PRESET)
        flags = SettingsFlags(preset=preset, settings={"size": SIZE, "steps": STEPS, **self.settings})
        settings, folder, began = flags.chosen(), self.output, time.perf_counter()
        shown = {name: sample(name, size=settings.size) for name in {name for pair in PAIRS for name in pair}}
        outputs = {pair: folder / f"{'_'.join(pair)}.png" for pair in PAIRS}
        sheet_path = folder / "sheet.png"
        written = [("_".join(pair), path) for pair, path in outputs.items()]
        check_outputs([*written, ("the sheet", sheet_path)], [], weights=[settings.weights])
        opening = settings_lines(settings)
        make_folder(folder)
        devices.keep_memory()
        results = {}
        for content, style in PAIRS:
            with Display(f"{content} + {style}", quiet=self.quiet, opening=opening) as display:
                callback = functools.partial(_show, display)
                image = stylize(shown[content], shown[style], settings=settings, callback=callback).image
            write_image(outputs[content, style], image)
            results[content, style], opening = image, []
        write_image(sheet_path, _sheet(shown, results))
        seconds = clock(time.perf_counter() - began)
        Display("demo", quiet=self.quiet).say(f"wrote {sheet_path} and {len(results)} images in {seconds}")
        return ExitCode.DONE


def _show(display: Display, progress: Progress) -> None:
    display.show(steps_line(progress), progress.step, progress.steps)


def _sheet(shown: dict[str, AnyHostImage], results: dict[tuple[str, str], AnyHostImage]) -> AnyHostImage:
    """Return a row for each content: the content, then each of its styles, with the result to the right."""
    rows, captions = [], []
    for content, styles in STYLES.items():
        rows.append([shown[content], *(image for style in styles for image in (shown[style], results[content, style]))])
        captions.append([content, *(name for style in styles for name in (style, f"{content} + {style}"))])
    height, width, _ = shown[next(iter(STYLES))].shape
    return sheet(rows, captions=captions, cell=(height, width))
