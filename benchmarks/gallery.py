"""Make the pictures of the README: a strip and a sheet of smoothings, from drawn or given pictures.

    python benchmarks/gallery.py strip
    python benchmarks/gallery.py smoothings --size 512 --steps 120 --content photo.jpg --style painting.jpg

Everything goes through the public API; the record of every run (settings, weights, losses, seconds) is written beside
the pictures as JSON.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import jax

import swag_jax as swag

RESULTS = Path(__file__).resolve().parent / "results"

COLUMNS = {
    "VGG19": swag.presets.gatys_vgg19,
    "VGG19 softmax": swag.presets.swag_vgg19,
    "ResNet50": swag.presets.gatys_resnet50,
    "ResNet50 softmax": swag.presets.swag_resnet50,
    "softmax, all layers": swag.presets.swag_resnet50.replace(layers=None),
    "channel softmax": swag.presets.swag_resnet50.replace(kind="channel-softmax"),
    "spatial softmax": swag.presets.swag_resnet50.replace(kind="spatial-softmax"),
    "scale 0.001": swag.presets.swag_resnet50.replace(kind="scale"),
    "softmax, T = 1": swag.presets.swag_resnet50.replace(temperature=1.0, layers=None),
}
"""What the sheet of smoothings compares: networks plain and smoothed, all in relative units with the same weights."""


def picture(name: str, size: int) -> Any:
    """Return a drawn picture by its name, or the picture of a file."""
    known = (*swag.images.CONTENTS, *swag.images.STYLES)
    return swag.sample(name, size=size) if name in known else swag.read_image(name, size=size)


def run(content: Any, style: Any, settings: swag.Settings, record: list[dict[str, object]], label: str) -> Any:
    """Stylize once, say how it went, and add to the record."""
    began = time.perf_counter()
    result = swag.stylize(content, style, settings=settings)
    last = {name: float(values[-1]) for name, values in result.history.items()}
    seconds = time.perf_counter() - began
    print(f"{label}: {seconds:.0f} s, {result.source.describe()}, {last}", flush=True)
    record.append({"label": label, "seconds": seconds, "weights": result.source.describe(), "losses": last})
    return result.image


def strip(arguments: argparse.Namespace, record: list[dict[str, object]]) -> Any:
    """Content, style and result side by side."""
    content, style = (picture(name, arguments.size) for name in (arguments.content, arguments.style))
    settings = swag.presets.gatys_vgg19.replace(size=arguments.size, steps=arguments.steps)
    result = run(content, style, settings, record, "VGG19")
    return swag.images.sheet([[content, style, result]], gap=8)


def smoothings(arguments: argparse.Namespace, record: list[dict[str, object]]) -> Any:
    """One pair through every network and smoothing of `COLUMNS`."""
    content, style = (picture(name, arguments.size) for name in (arguments.content, arguments.style))
    cells, labels = [content, style], ["content", "style"]
    for label, settings in COLUMNS.items():
        settings = settings.replace(size=arguments.size, steps=arguments.steps, weights=arguments.weights)
        cells.append(run(content, style, settings, record, label))
        labels.append(label)
    half = -(-len(cells) // 2)
    return swag.images.sheet([cells[:half], cells[half:]], captions=[labels[:half], labels[half:]])


def main() -> None:
    """Make one picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("strip", "smoothings"))
    parser.add_argument("--content", default="harbor", help="a drawn picture's name, or a file")
    parser.add_argument("--style", default="swirls", help="likewise")
    parser.add_argument("--size", type=int, default=384)
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--weights", default="auto")
    parser.add_argument("-o", "--output", type=Path, help="default: benchmarks/results/WHAT.png")
    arguments = parser.parse_args()
    record: list[dict[str, object]] = []
    output = arguments.output or RESULTS / f"{arguments.what}.png"
    image = {"strip": strip, "smoothings": smoothings}[arguments.what](arguments, record)
    swag.write_image(output, image)
    device = jax.devices()[0].device_kind
    options = {name: str(value) for name, value in vars(arguments).items() if name != "output"}
    text = json.dumps({"options": options, "device": device, "jax": jax.__version__, "runs": record}, indent=1)
    output.with_suffix(".json").write_text(text + "\n")


if __name__ == "__main__":
    main()
