"""`swag-jax demo`: stylizes pictures that the package draws itself, and lays them out on one sheet."""

import argparse
import time
from pathlib import Path
from typing import Any

from swag_jax import devices
from swag_jax._files import make_folder
from swag_jax._types import AnyHostImage
from swag_jax.cli._display import Display, clock
from swag_jax.cli._flags import add_settings, chosen_settings
from swag_jax.cli._outputs import check_outputs
from swag_jax.cli.stylize import describe_weights
from swag_jax.images import sample, sheet, write_image
from swag_jax.optimize import stylize

CONTENTS = ("harbor", "mountains")
STYLES = ("swirls", "woodcut", "mosaic")

SIZE = 192
STEPS = 50
"""Size and steps that finish all six pictures in under 90 seconds on two CPU cores, see `benchmarks/README.md`."""


def add_parser(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "demo",
        help="stylize pictures that the package draws itself",
        usage="swag-jax demo [-o DIR] [flags]",
        description="Stylize drawn pictures with drawn styles and write a before/after sheet. Needs no files and no "
        "network.",
    )
    folder = Path("swag-demo")
    parser.add_argument(
        "-o", "--output", type=Path, default=folder, metavar="DIR", help=f"Folder to write to (default: {folder})"
    )
    parser.add_argument("--quiet", action="store_true", help="Print nothing but errors")
    add_settings(parser, size=SIZE, steps=STEPS)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Stylize every pair, then write the sheet."""
    settings, folder, began = chosen_settings(arguments), arguments.output, time.perf_counter()
    contents = {name: sample(name, size=settings.size) for name in CONTENTS}
    styles = {name: sample(name, size=settings.size) for name in STYLES}
    outputs = {f"{content}_{style}": folder / f"{content}_{style}.png" for content in CONTENTS for style in STYLES}
    sheet_path = folder / "sheet.png"
    check_outputs([*outputs.items(), ("the sheet", sheet_path)], [], weights=[settings.weights])
    opening = describe_weights(settings)
    make_folder(folder)
    devices.keep_memory()
    results = {}
    for content, style in ((content, style) for content in CONTENTS for style in STYLES):
        with Display(f"{content} + {style}", quiet=arguments.quiet, opening=opening) as display:
            image = stylize(contents[content], styles[style], settings=settings, callback=display).image
        write_image(outputs[f"{content}_{style}"], image)
        results[content, style], opening = image, []
    write_image(sheet_path, _sheet(contents, styles, results))
    seconds = clock(time.perf_counter() - began)
    Display("demo", quiet=arguments.quiet).say(f"wrote {sheet_path} and {len(results)} pictures in {seconds}")
    return 0


def _sheet(
    contents: dict[str, AnyHostImage], styles: dict[str, AnyHostImage], results: dict[tuple[str, str], AnyHostImage]
) -> AnyHostImage:
    """Contents down the side, styles along the top, results in the cells."""
    rows = [[None, *styles.values()]]
    rows += [[content, *(results[name, style] for style in styles)] for name, content in contents.items()]
    return sheet(rows, row_labels=["", *contents], column_labels=["", *styles])
