"""What tests of several commands share: words, folders of images, and records."""

import json

from swag_jax import write_image


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
            write_image(place / folder / f"{name}.png", image)
    return place


def records(folder):
    """Return the records of a folder of results by name."""
    return {r["name"]: r for r in map(json.loads, (folder / "results.jsonl").read_text().splitlines())}
