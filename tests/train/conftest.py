"""Folders of images, and settings so small that a step takes no time."""

import numpy as np
import pytest

from swag_jax import generators, losses, write_image
from swag_jax.images import resize
from swag_jax.train import TrainSettings

SMALL = {"weights": "random", "batch_size": 8, "size": 18, "crop": 16, "steps": 4, "precision": "float32"}
SHALLOW = ("relu1_1", "relu1_2")


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Twelve contents, of two shapes and one in a folder of its own, and three styles."""
    root = tmp_path_factory.mktemp("images")
    for name in ("contents/more", "styles"):
        (root / name).mkdir(parents=True)
    rng = np.random.default_rng(0)

    def draw(path, height, width):
        write_image(path, resize(rng.random((6, 6, 3), np.float32), height, width))

    for i in range(12):
        draw(root / "contents" / ("more" if i == 11 else "") / f"{i:02d}.png", 40, (40, 52)[i % 2])
    for i in range(3):
        draw(root / "styles" / f"{i}.png", 48, 40)
    return root


@pytest.fixture(scope="session")
def small():
    """TrainSettings by kind of generator."""
    johnson = losses.Objective(content_layers=SHALLOW[1:], style_layers=SHALLOW)
    adain = generators.AdaINObjective(content_layer="relu1_2", style_layers=SHALLOW)
    sanet = generators.SANetObjective(content_layers=SHALLOW, style_layers=SHALLOW, identity_layers=SHALLOW)
    last = SHALLOW[1:]
    adaattn = generators.AdaAttNObjective(
        compared_layers=SHALLOW, global_layers=last, local_layers=last, content_layers=last, samples=100
    )
    return {
        "johnson": TrainSettings(generators.JohnsonConfig(channels=2, blocks=1), johnson, **SMALL),
        "adain": TrainSettings(generators.AdaINConfig(), adain, **SMALL),
        "sanet": TrainSettings(generators.SANetConfig(), sanet, **SMALL),
        "adaattn": TrainSettings(generators.AdaAttNConfig(skip=False, samples=100), adaattn, **SMALL),
    }
