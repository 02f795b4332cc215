"""AdaIN: the content's features take the style's mean and deviation, and a decoder paints them.

Huang and Belongie, ICCV 2017. Losses, section 6, are written for one image.
"""

from dataclasses import dataclass

import jax
from flax import nnx
from jax import lax

from swag_jax import statistics
from swag_jax._settings import Settings, converted
from swag_jax._types import Key, LayerFeatures, Scalar
from swag_jax.backbones import Compute
from swag_jax.backbones.zoo import entry
from swag_jax.features import LayerSpec
from swag_jax.generators._layers import (
    VGG_TAPS,
    BatchFeatures,
    BatchMask,
    BatchMoments,
    KnownMoments,
    check_taps,
    fitted,
    normalized,
)
from swag_jax.generators.decoder import Decoder
from swag_jax.generators.layouts import ADAIN_DECODER
from swag_jax.generators.method import Generator, Method, Published, Recipe, Transferred, of_pairs, small_recipe
from swag_jax.losses._terms import FEATURES, MOMENTS, Family, Normalization, check_objective, evaluate_families
from swag_jax.losses.objective import Terms
from swag_jax.params.layouts import Layout, table
from swag_jax.smoothing import Smoothing, as_smoothing


@dataclass(frozen=True)
class AdaINConfig:
    """What an AdaIN generator is made of.

    Attributes:
        taps: The one layer it reads; the papers' is VGG19's relu4_1.
    """

    taps: tuple[LayerSpec, ...] = VGG_TAPS[3:4]

    def __post_init__(self):
        check_taps(self.taps, 1)


class AdaIN(Generator):
    """The AdaIN generator: 3,505,219 parameters after relu4_1."""

    config: AdaINConfig
    needs_own = False

    def __init__(self, config: AdaINConfig, *, compute: Compute | None = None, rngs: nnx.Rngs):
        super().__init__(config, compute=compute)
        (tap,) = config.taps
        self.decoder = Decoder(tap.channels, tap.stride, compute=self.compute, rngs=rngs)

    def read(self, style: BatchFeatures, *, key: Key | None = None, region: BatchMask | None = None) -> BatchMoments:
        """Return each channel's mean and deviation; nothing is drawn by the key."""
        (layer,) = self.layers
        return jax.vmap(lambda x, r: statistics.moments(x, region=r))(style[layer], fitted(region, style[layer]))

    def transfer(self, content: BatchFeatures, kept: BatchMoments, *, known: KnownMoments | None = None) -> Transferred:
        """Give the content the style's moments."""
        (layer,) = self.layers
        mean, deviation = (x[:, None, None] for x in kept)
        normed = normalized(content[layer], known=None if known is None else known[layer])
        return (deviation * normed + mean,)

    def unstyled(self, content: BatchFeatures, own: object, *, known: KnownMoments | None = None) -> Transferred:
        """Return the content's features, as in the paper: its own moments make the same of them."""
        (layer,) = self.layers
        return (content[layer],)


class AdaINObjective(Settings):
    """What is minimized.

    Attributes:
        content_layer: The layer that is transferred, and compared with its target.
        style_layers: Layers whose moments are compared with the style's.
        content_weight: Weight of the content loss; 0 leaves it out.
        style_weight: Weight of every style layer; 0 leaves it out.
        normalization: averaged over channels (naoto0804/pytorch-AdaIN); summed (the authors' code, whose content loss
            is averaged too); or relative (our choice: weights mean the same for every network and smoothing).
        smoothing: What is done to the activations before they are compared, or its kind by name.
    """

    content_layer: str = "relu4_1"
    style_layers: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
    content_weight: float = 1.0
    style_weight: float = 10.0
    normalization: Normalization = "averaged"
    smoothing: Smoothing = converted(default=Smoothing(), converter=as_smoothing)

    def __post_init__(self):
        super().__post_init__()
        check_objective(self, "content_weight", "style_weight")

    @property
    def layers(self) -> tuple[str, ...]:
        """All layers that are read."""
        return tuple(dict.fromkeys((*self.style_layers, self.content_layer)))

    def for_backbone(self, name: str) -> "AdaINObjective":
        """Return the objective with the zoo's default layers of backbone `name`, all but the deepest."""
        layers = entry(name).style_layers[:-1]
        return self.replace(content_layer=layers[-1], style_layers=layers)


def evaluate(
    output: LayerFeatures, content: LayerFeatures, style: LayerFeatures, *, objective: AdaINObjective
) -> tuple[Scalar, Terms]:
    r"""Return the total loss of a stylized image and its weighted terms by name, which sum to the total.

    .. math:: \alpha \, d(F^4, \mathrm{AdaIN}(F_c^4, F_s^4)) + \beta \sum_l m(F^l, F_s^l)

    with d the squared distance of features and m that of moments (`swag_jax.losses.moments`). No gradient flows into
    the target.

    Args:
        output: Activations of the stylized image by layer, as `content` and `style` are of these.

    Returns:
        The total, and the terms `content/...` and `style/...`, all float32.
    """
    o, layer = objective, objective.content_layer
    targets = {layer: lax.stop_gradient(statistics.adain(content[layer], style[layer]))}
    return evaluate_families(
        o.smoothing,
        Family("content", FEATURES[o.normalization], o.content_weight, (layer,), output, targets),
        Family("style", MOMENTS[o.normalization], o.style_weight, o.style_layers, output, style),
    )


METHOD = Method(
    "adain",
    AdaINConfig,
    AdaIN,
    AdaINObjective,
    of_pairs(lambda *features, objective, key: evaluate(*features, objective=objective)),
    recipes={
        "adain": Recipe(
            AdaINConfig(),
            AdaINObjective(),
            "naoto0804/pytorch-AdaIN, train.py: weights 1 and 10, Adam 1e-4 / (1 + 5e-5 t), batch 8, 160,000 steps, "
            "512 squashed, crop 256, no flip",
            {"squash": True, "decay": 5e-5},
        ),
        # The authors' decoder.t7 was trained with weight 0.1.
        "adain-released": Recipe(
            AdaINConfig(),
            AdaINObjective(style_weight=1e-2, normalization="summed"),
            "xunhuang1995/AdaIN-style, train.lua: as adain, with summed moments at weight 0.01, its default, which "
            "keeps more content, and aspect ratios kept",
            {"decay": 5e-5},
            hardware="one Pascal Titan X, 10 GB: half a day for decent results, a week to convergence (its issue 5)",
        ),
        "adain-small": small_recipe(
            AdaINConfig(VGG_TAPS[2:3]),
            AdaINObjective("relu3_1", ("relu1_1", "relu2_1", "relu3_1"), style_weight=1.0, normalization="relative"),
            "our choice, by what an hour brings: a block less than the paper's, small crops, relative losses",
            {"squash": True, "decay": 5e-5, "steps": 8000},
        ),
    },
    published={"adain": Published(AdaINConfig(), ("decoder",), Layout("adain", table(ADAIN_DECODER).get))},
    read_layers=lambda objective: (objective.content_layer,),
)
