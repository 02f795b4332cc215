"""The scripts in `weights/` import one another by their plain names, as a script's neighbors do."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "weights"))


def draw(rng, label, size=64):
    """A picture whose class shows: a gradient along the rows or along the columns, with noise."""
    ramp = np.linspace(0, 255, size)[:, None, None]
    picture = (ramp if label else ramp.transpose(1, 0, 2)) + rng.normal(0, 20, (size, size, 3))
    return np.clip(picture, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """An image folder of two classes: 32 training and 8 validation pictures."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 4)):
        for label, name in enumerate(("across", "down")):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(draw(rng, label)).save(folder / split / name / f"{i:02d}.png")
    return folder
