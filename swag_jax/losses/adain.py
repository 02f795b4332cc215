"""What an AdaIN generator is trained by: Huang and Belongie, ICCV 2017, section 6.

Everything is written for one image; `jax.vmap` makes the batch, over which losses are averaged.
"""

from jax import lax

from swag_jax import statistics
from swag_jax._settings import Settings, converted
from swag_jax._types import LayerFeatures, Scalar
from swag_jax.backbones.zoo import entry
from swag_jax.losses._terms import FEATURES, MOMENTS, Family, Normalization, check_objective, evaluate_families
from swag_jax.losses.objective import Terms
from swag_jax.smoothing import Smoothing, as_smoothing

__all__ = ["AdaINObjective", "evaluate"]


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


PORT = AdaINObjective()
"""naoto0804/pytorch-AdaIN, `train.py`: weights 1 and 10."""

RELEASED = AdaINObjective(style_weight=1e-2, normalization="summed")
"""xunhuang1995/AdaIN-style, `train.lua`: its default, which keeps more content; `decoder.t7` was trained with 0.1."""


def evaluate(
    output: LayerFeatures, content: LayerFeatures, style: LayerFeatures, *, objective: AdaINObjective
) -> tuple[Scalar, Terms]:
    r"""Return the total loss of a stylized image and its weighted terms by name, which sum to the total.

    .. math:: \alpha \, d(F^4, \mathrm{AdaIN}(F_c^4, F_s^4)) + \beta \sum_l m(F^l, F_s^l)

    with d the squared distance of features and m that of moments (`swag_jax.losses.moments`). No gradient flows into
    the target.

    Args:
        output: Activations of the stylized image by layer.
        content: Of the content image.
        style: Of the style image.
        objective: Layers, weights, normalization, smoothing.

    Returns:
        The total, and the terms `content/...` and `style/...`, all float32.
    """
    norm, smoothing, layer = objective.normalization, objective.smoothing, objective.content_layer
    targets = {layer: lax.stop_gradient(statistics.adain(content[layer], style[layer]))}
    return evaluate_families(
        [
            Family("content", FEATURES[norm], objective.content_weight, (layer,), output, targets, smoothing),
            Family("style", MOMENTS[norm], objective.style_weight, objective.style_layers, output, style, smoothing),
        ]
    )
