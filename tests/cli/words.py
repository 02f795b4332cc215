"""What tests of several commands share: words, folders of images, and records."""

import json

import swag_jax as swag
from swag_jax import backbones, generators
from swag_jax.features import taps
from swag_jax.generators.checkpoint import encoder_notes


def over(usual, flags):
    """Return the usual flags, each with one value, but those that are given again; then the given ones."""
    given = {str(word).partition("=")[0] for word in flags}
    kept = [pair for pair in zip(usual[::2], usual[1::2], strict=True) if pair[0] not in given]
    return [word for pair in kept for word in pair] + list(flags)


def save(shown, place):
    """Write images by folder and name; return the place."""
    for folder, images in shown.items():
        (place / folder).mkdir()
        for name, image in images.items():
            swag.write_image(place / folder / f"{name}.png", image)
    return place


def records(folder):
    """Return the records of a folder of results by name."""
    return {r["name"]: r for r in map(json.loads, (folder / "results.jsonl").read_text().splitlines())}


def save_page_inputs(folder, *, size):
    """Save two images, a broken one, and a small generator for the page; return the folder."""
    for name, shown in (("photo", "coffee"), ("painting", "swirls")):
        swag.write_image(folder / f"{name}.png", swag.sample(shown, size=size))
    (folder / "broken.png").write_bytes((folder / "photo.png").read_bytes()[:200])
    encoder, source = backbones.load("vgg19", layers=("relu1_1",))
    generator = generators.create(generators.AdaINConfig(taps(encoder, layers=["relu1_1"])))
    swag.save_generator(folder / "mine.safetensors", generator, notes=encoder_notes(source))
    return folder
