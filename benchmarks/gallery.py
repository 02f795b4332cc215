"""Make the README's first image: a content, a style and the results of two presets, side by side.

Run: `python benchmarks/gallery.py [--content photo.jpg --style painting.jpg --size 512]`.

The settings, weights, losses and seconds are written next to it as JSON. The sheets that compare networks and
smoothings are made by the scripts in `paper/`.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import jax

import swag_jax as swag
from swag_jax._files import replacing
from swag_jax.images.io import check_output

PRESETS = ("swag-resnet50", "gatys-vgg19")

RESULTS = Path(__file__).resolve().parent / "results"


def read_source(name: str, size: int) -> Any:
    """Return a sample by its name, or the image of a file."""
    known = (*swag.images.CONTENTS, *swag.images.STYLES)
    return swag.sample(name, size=size) if name in known else swag.read_image(name, size=size)


def strip(arguments: argparse.Namespace) -> tuple[Any, list[dict[str, Any]]]:
    """Stylize, and return the four images side by side with a record of each result."""
    content, style = (read_source(name, arguments.size) for name in (arguments.content, arguments.style))
    images, records = [content, style], []
    for name in PRESETS:
        changes = {"size": arguments.size, **({"steps": arguments.steps} if arguments.steps else {})}
        began = time.perf_counter()
        result = swag.stylize(content, style, settings=swag.presets.PRESETS[name].replace(**changes))
        images.append(result.image)
        losses = {term: float(values[-1]) for term, values in result.history.items()}
        seconds = time.perf_counter() - began
        records.append({"preset": name, "weights": result.source.describe(), "seconds": seconds, "losses": losses})
    return swag.images.sheet([images], gap=8), records


def parse() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Return the parser and the parsed options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--content", default="coffee", help="a sample's name, or a file (default: coffee)")
    parser.add_argument("--style", default="swirls", help="likewise (default: swirls)")
    parser.add_argument("--size", type=int, default=384, help="longer side in pixels (default: 384)")
    parser.add_argument("--steps", type=int, help="default: the presets' own")
    help_output = "default: benchmarks/results/strip.png"
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / "strip.png", help=help_output)
    return parser, parser.parse_args()


def main() -> None:
    """Make the image."""
    parser, arguments = parse()
    try:
        check_output(arguments.output)
        image, records = strip(arguments)
        swag.write_image(arguments.output, image)
    except swag.UserError as problem:
        parser.error(str(problem))
    options = {name: str(value) for name, value in vars(arguments).items() if name != "output"}
    about = {"options": options, "device": jax.devices()[0].device_kind, "jax": jax.__version__, "results": records}
    with replacing(arguments.output.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
