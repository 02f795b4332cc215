"""`swag-jax demo`: stylizes pictures that the package draws itself, and lays them out on one sheet."""

import argparse
import time
from pathlib import Path

from swag_jax._checks import error
from swag_jax._types import HostImage
from swag_jax.cli._display import Display, clock
from swag_jax.cli._flags import add_settings, chosen_settings
from swag_jax.cli.stylize import announce
from swag_jax.images import sample, sheet, write_image
from swag_jax.optimize import Settings, stylize

CONTENTS = ("harbor", "mountains")
STYLES = ("swirls", "woodcut", "mosaic")

SIZE = 192
STEPS = 60
"""Size and steps that finish all six pictures in under 90 seconds on two CPU cores, see `benchmarks/README.md`."""


def add_parser(commands) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "demo",
        help="stylize pictures that the package draws itself",
        description="Stylize drawn pictures with drawn styles and write a before/after sheet. Needs no files and no "
        f"network. Defaults differ from stylize: --size {SIZE} --steps {STEPS}.",
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("swag-demo"), metavar="DIR", help="(default: swag-demo)"
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    add_settings(parser)
    parser.set_defaults(run=run, setting_size=SIZE, setting_steps=STEPS)


def run(arguments: argparse.Namespace) -> int:
    """Stylize every pair, then write the sheet."""
    settings, folder = chosen_settings(arguments), arguments.output
    _make_folder(folder)
    began = time.perf_counter()
    contents = {name: sample(name, size=settings.size) for name in CONTENTS}
    styles = {name: sample(name, size=settings.size) for name in STYLES}
    results = {}
    for content in CONTENTS:
        for style in STYLES:
            image = _stylized(
                contents[content], styles[style], settings, f"{content} × {style}", arguments.quiet, not results
            )
            results[content, style] = image
            write_image(folder / f"{content}_{style}.png", image)
    write_image(folder / "sheet.png", _sheet(contents, styles, results))
    with Display("demo", quiet=arguments.quiet) as display:
        display.say(f"wrote {folder / 'sheet.png'} and {len(results)} pictures in {clock(time.perf_counter() - began)}")
    return 0


def _stylized(
    content: HostImage, style: HostImage, settings: Settings, title: str, quiet: bool, first: bool
) -> HostImage:
    with Display(title, quiet=quiet) as display:
        if first:
            announce(display, settings)
        return stylize(content, style, settings=settings, callback=display).image


def _sheet(
    contents: dict[str, HostImage], styles: dict[str, HostImage], results: dict[tuple[str, str], HostImage]
) -> HostImage:
    """Contents down the side, styles along the top, results in the cells."""
    rows = [[None, *styles.values()]]
    rows += [[content, *(results[name, style] for style in styles)] for name, content in contents.items()]
    captions = [["", *styles], *([name, *("" for _ in styles)] for name in contents)]
    return sheet(rows, captions=captions)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise error(f"cannot make the folder {folder}: {problem.strerror}", cure="choose another -o") from problem
