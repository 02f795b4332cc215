"""The published recipes, each with its source, and what it needs.

Where a paper and its public code differ, the code is followed and said so. Data of all: MS-COCO train2014 (82,783
pictures) for contents, WikiArt (Kaggle's Painter by Numbers) for styles; Johnson's needs one style. The encoder of
AdaIN, SANet and AdaAttN is the normalized VGG19 of AdaIN's release (`swag-jax weights convert`): with other weights,
activations have other scales, and `normalization="relative"` (our choice) keeps the losses' weights meaningful.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from swag_jax._checks import check_name
from swag_jax.generators import AdaAttNConfig, AdaINConfig, JohnsonConfig, SANetConfig
from swag_jax.losses import AdaAttNObjective, SANetObjective
from swag_jax.losses import adain as adain_losses
from swag_jax.losses import johnson as johnson_losses
from swag_jax.train.settings import Settings

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
    """

    settings: Settings
    source: str
    hardware: str = "not published"
    name: str = ""

    @property
    def command(self) -> str:
        """How it is run.

        Example:
            >>> adain.command
            'swag-jax train adain --contents COCO --styles WIKIART -o RUN --weights vgg19-normalized-adain'
        """
        kind, given = self.settings.kind, ""
        if self.name:
            given = f" --recipe {self.name}"
        if kind == "johnson":
            return f"swag-jax train johnson --contents COCO --styles STYLE.jpg -o RUN{given} --weights imagenet"
        return f"swag-jax train {kind} --contents COCO --styles WIKIART -o RUN{given} --weights {ENCODER}"


adain = Recipe(
    Settings(AdaINConfig(), adain_losses.PORT, squash=True, decay=5e-5),
    "naoto0804/pytorch-AdaIN, train.py: Adam 1e-4 / (1 + 5e-5 t), batch 8, 160,000 steps, 512 squashed, crop 256, "
    "no flip",
)

adain_released = Recipe(
    Settings(AdaINConfig(), adain_losses.RELEASED, decay=5e-5),
    "xunhuang1995/AdaIN-style, train.lua: as adain, with summed moments at weight 0.01 and aspect ratios kept",
    "one Pascal Titan X, 10 GB: half a day for decent results, a week to convergence (its issue 5)",
    name="adain-released",
)

sanet = Recipe(
    Settings(SANetConfig(), SANetObjective(), squash=True, decay=5e-5, batch_size=5),
    "GlebSBrykin/SANET, train.py: weights 1, 3, 50 and 1, Adam as AdaIN's, batch 5, 160,000 steps; the paper's printed "
    "weights are not known to us",
)

adaattn = Recipe(
    Settings(
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
    Settings(
        JohnsonConfig(),
        johnson_losses.PORT,
        batch_size=4,
        size=256,
        steps=2 * 82783 // 4,
        learning_rate=1e-3,
    ),
    "pytorch/examples, fast_neural_style: Adam 1e-3, batch 4, two epochs of COCO at 256; our choices: VGG19 for VGG16, "
    "and the style's longer side at 512",
)

RECIPES: Mapping[str, Recipe] = {
    "adain": adain,
    "adain-released": adain_released,
    "sanet": sanet,
    "adaattn": adaattn,
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
