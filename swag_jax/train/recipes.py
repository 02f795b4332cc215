"""The published recipes, each with its source, and what it needs; and two small ones of our own, for a processor.

Where a paper and its public code differ, the code is followed and said so. Data of the published ones: MS-COCO
train2014 (82,783 images) for contents, WikiArt (Kaggle's Painter by Numbers) for styles; Johnson's needs one style.
Their encoder, but for Johnson's, is the normalized VGG19 of AdaIN's release (`swag-jax weights convert`). With other
weights activations have other scales: `normalization="relative"` (our choice) keeps the losses' weights meaningful.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from swag_jax._checks import check_name
from swag_jax.generators import AdaAttNConfig, AdaINConfig, JohnsonConfig, SANetConfig
from swag_jax.generators._layers import VGG_TAPS
from swag_jax.losses import AdaAttNObjective, AdaINObjective, SANetObjective
from swag_jax.losses import adain as adain_losses
from swag_jax.losses import johnson as johnson_losses
from swag_jax.train.settings import TrainSettings

ENCODER = "vgg19-normalized-adain"
"""The encoder that AdaIN, SANet and AdaAttN were published with, by its name in the store."""


@dataclass(frozen=True)
class Recipe:
    """One way to train a generator.

    Attributes:
        settings: What is done.
        source: Where the numbers come from, and which of them are our choice.
        hardware: What it ran on, and for how long, as far as that is published.
        name: What `--recipe` calls it; empty for the default of its kind.
        contents: What its contents are.
        styles: What its styles are.
        weights: The encoder's weights, by their name in the store or their kind.
    """

    settings: TrainSettings
    source: str
    hardware: str = "not published"
    name: str = ""
    contents: str = "COCO"
    styles: str = "WIKIART"
    weights: str = ENCODER

    @property
    def command(self) -> str:
        """How it is run.

        Example:
            >>> adain.command
            'swag-jax train adain --contents COCO --styles WIKIART -o RUN --weights vgg19-normalized-adain'
        """
        images = f"--contents {self.contents} --styles {self.styles}"
        given = f" --recipe {self.name}" if self.name else ""
        return f"swag-jax train {self.settings.kind} {images} -o RUN{given} --weights {self.weights}"


adain = Recipe(
    TrainSettings(AdaINConfig(), adain_losses.PORT, squash=True, decay=5e-5),
    "naoto0804/pytorch-AdaIN, train.py: Adam 1e-4 / (1 + 5e-5 t), batch 8, 160,000 steps, 512 squashed, crop 256, "
    "no flip",
)

adain_released = Recipe(
    TrainSettings(AdaINConfig(), adain_losses.RELEASED, decay=5e-5),
    "xunhuang1995/AdaIN-style, train.lua: as adain, with summed moments at weight 0.01 and aspect ratios kept",
    "one Pascal Titan X, 10 GB: half a day for decent results, a week to convergence (its issue 5)",
    name="adain-released",
)

sanet = Recipe(
    TrainSettings(SANetConfig(), SANetObjective(), squash=True, decay=5e-5, batch_size=5),
    "GlebSBrykin/SANET, train.py: weights 1, 3, 50 and 1, Adam as AdaIN's, batch 5, 160,000 steps; the paper's printed "
    "weights are not known to us",
)

adaattn = Recipe(
    TrainSettings(
        AdaAttNConfig(),
        AdaAttNObjective(),
        squash=True,
        flip=True,
        steps=5 * 82783 // 8,
        learning_rate=2e-4,
        drops=(0.4, 0.6, 0.8),
    ),
    "Huage001/AdaAttN: weights 10 and 3, Adam 2e-4 for two epochs of COCO, then times 0.3 for each of three more, "
    "batch 8, 512 squashed, crop 256, flips; the paper's step size may be 1e-4",
    "one Tesla P40: less than a day (its issue 9)",
)

johnson = Recipe(
    TrainSettings(
        JohnsonConfig(),
        johnson_losses.PORT,
        batch_size=4,
        size=256,
        steps=2 * 82783 // 4,
        learning_rate=1e-3,
    ),
    "pytorch/examples, fast_neural_style: Adam 1e-3, batch 4, two epochs of COCO at 256; our choices: VGG19 for VGG16, "
    "and the style's longer side at 512",
    styles="STYLE.jpg",
    weights="imagenet",
)

_small: dict[str, Any] = {
    "padding": "reflect",
    "init": "kaiming",
    "batch_size": 4,
    "size": 80,
    "crop": 64,
    "learning_rate": 3e-4,
    "precision": "bfloat16",
}
_processor = {
    "hardware": "one processor core with bfloat16 products: about an hour",
    "contents": "PHOTOS",
    "styles": "PAINTINGS",
    "weights": "embedded",
}

adain_small = Recipe(
    adain.settings.replace(
        config=AdaINConfig(VGG_TAPS[2:3]),
        objective=AdaINObjective(
            content_layer="relu3_1",
            style_layers=("relu1_1", "relu2_1", "relu3_1"),
            style_weight=1.0,
            normalization="relative",
        ),
        steps=8000,
        **_small,
    ),
    "our choice, by looking at what an hour brings: a block less than the paper's, small crops, relative losses",
    name="adain-small",
    **_processor,
)

adaattn_small = Recipe(
    adaattn.settings.replace(
        config=AdaAttNConfig(VGG_TAPS[:4]),
        objective=AdaAttNObjective(
            compared_layers=("relu1_1", "relu2_1", "relu3_1", "relu4_1"),
            global_layers=("relu2_1", "relu3_1", "relu4_1"),
            local_layers=("relu2_1", "relu3_1", "relu4_1"),
            content_layers=("relu2_1", "relu3_1", "relu4_1"),
            global_weight=3.0,
            local_weight=5.0,
            normalization="relative",
        ),
        steps=3600,
        drops=(0.85, 0.95),
        **_small,
    ),
    "our choice, likewise: a block less than the paper's",
    name="adaattn-small",
    **_processor,
)

RECIPES: Mapping[str, Recipe] = {
    "adain": adain,
    "adain-released": adain_released,
    "adain-small": adain_small,
    "sanet": sanet,
    "adaattn": adaattn,
    "adaattn-small": adaattn_small,
    "johnson": johnson,
}
"""Every recipe by its name; that of a kind of generator is its default."""


def recipe(name: str) -> Recipe:
    """Return a recipe.

    Args:
        name: One of `RECIPES`.

    Raises:
        UserError: If there is none, with near names.
    """
    return RECIPES[check_name(name, RECIPES, what="recipe")]
