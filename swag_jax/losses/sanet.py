"""What a SANet generator is trained by: Park and Lee, CVPR 2019, section 3.3.

Everything is written for one image; `jax.vmap` makes the batch, over which losses are averaged.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from swag_jax._pytree import pytree_dataclass
from swag_jax._settings import Settings, converted
from swag_jax._types import AnyImage, LayerFeatures, Scalar
from swag_jax.backbones.zoo import entry
from swag_jax.losses._terms import (
    FEATURES,
    MOMENTS,
    Family,
    Normalization,
    check_objective,
    evaluate_families,
    of_normalized,
)
from swag_jax.losses.objective import Terms
from swag_jax.smoothing import Smoothing, as_smoothing

__all__ = ["Identity", "SANetObjective", "evaluate"]


class SANetObjective(Settings):
    """What is minimized; the weights are those of GlebSBrykin/SANET, the paper's are not known to us.

    Attributes:
        content_layers: Layers whose normalized features are compared with the content's.
        style_layers: Layers whose moments are compared with the style's.
        identity_layers: Layers whose features are compared where content and style are one image.
        content_weight: Weight of every content layer; 0 leaves them out.
        style_weight: Weight of every style layer; 0 leaves them out.
        pixel_weight: Weight of the pixels where content and style are one image; 0 leaves them out.
        identity_weight: Weight of every identity layer; 0 leaves them out.
        normalization: averaged over entries and channels, as published; summed over the channels of moments; or
            relative (our choice: weights mean the same for every network and smoothing).
        smoothing: What is done to the activations before they are compared, or its kind by name.
    """

    content_layers: tuple[str, ...] = ("relu4_1", "relu5_1")
    style_layers: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
    identity_layers: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
    content_weight: float = 1.0
    style_weight: float = 3.0
    pixel_weight: float = 50.0
    identity_weight: float = 1.0
    normalization: Normalization = "averaged"
    smoothing: Smoothing = converted(default=Smoothing(), converter=as_smoothing)

    def __post_init__(self):
        super().__post_init__()
        check_objective(self, "content_weight", "style_weight", "pixel_weight", "identity_weight")

    @property
    def layers(self) -> tuple[str, ...]:
        """All layers that are read."""
        return tuple(dict.fromkeys((*self.style_layers, *self.content_layers, *self.identity_layers)))

    def for_backbone(self, name: str) -> "SANetObjective":
        """Return the objective with the zoo's default layers of backbone `name`."""
        layers = entry(name).style_layers
        return self.replace(content_layers=layers[-2:], style_layers=layers, identity_layers=layers)


@pytree_dataclass
@dataclass(frozen=True)
class Identity:
    """An image that was its own style, and what the generator made of it.

    Attributes:
        image: The image.
        found: What was made of it.
        features: The image's activations by layer.
        found_features: Those of what was made of it.
    """

    image: AnyImage
    found: AnyImage
    features: LayerFeatures
    found_features: LayerFeatures


def evaluate(
    output: LayerFeatures,
    content: LayerFeatures,
    style: LayerFeatures,
    identities: Sequence[Identity],
    *,
    objective: SANetObjective,
) -> tuple[Scalar, Terms]:
    r"""Return the total loss of a stylized image and its weighted terms by name, which sum to the total.

    .. math:: \lambda_c \sum_l d(\mathrm{Norm}(F^l), \mathrm{Norm}(F_c^l)) + \lambda_s \sum_l m(F^l, F_s^l)
        + \lambda_1 \sum_I d(I', I) + \lambda_2 \sum_I \sum_l d(F_{I'}^l, F_I^l)

    with d the squared distance, m that of moments (`swag_jax.losses.moments`), and I' what is made of the image I in
    its own style, for the content and for the style.

    Args:
        output: Activations of the stylized image by layer.
        content: Of the content image.
        style: Of the style image.
        identities: The content image in its own style, and the style image in its own.
        objective: Layers, weights, normalization, smoothing.

    Returns:
        The total, and the terms `content/...`, `style/...`, `identity/pixels` and `identity/...`, all float32.
    """
    o, smoothing = objective, objective.smoothing
    distance, of_moments = FEATURES[o.normalization], MOMENTS[o.normalization]
    families = [
        Family("content", of_normalized(distance), o.content_weight, o.content_layers, output, content, smoothing),
        Family("style", of_moments, o.style_weight, o.style_layers, output, style, smoothing),
    ]
    for i in identities:
        pixels = {"pixels": i.found}, {"pixels": i.image}
        families += [
            Family("identity", distance, o.pixel_weight, ("pixels",), *pixels, Smoothing()),
            Family("identity", distance, o.identity_weight, o.identity_layers, i.found_features, i.features, smoothing),
        ]
    return evaluate_families(families)
