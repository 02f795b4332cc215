"""What an AdaAttN generator is trained by: Liu et al., ICCV 2021.

Everything is written for one image; `jax.vmap` makes the batch, over which losses are averaged.
"""

from jax import lax

from swag_jax._checks import check_name, check_range
from swag_jax._settings import Settings, converted
from swag_jax._types import AnyFeatures, Key, LayerFeatures, Scalar
from swag_jax.attention import Similarity, adaattn, key_features
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

__all__ = ["AdaAttNObjective", "evaluate"]

_VGG_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


class AdaAttNObjective(Settings):
    """What is minimized; layers and weights are those of Huage001/AdaAttN.

    Attributes:
        compared_layers: Layers by which positions are compared, shallow to deep, those of the local loss among them.
        global_layers: Layers whose moments are compared with the style's.
        local_layers: Layers compared with what attention without parameters makes of them.
        content_layers: Layers whose normalized features are compared with the content's.
        global_weight: Weight of every global layer; 0 leaves them out.
        local_weight: Weight of every local layer; 0 leaves them out.
        content_weight: Weight of every content layer; 0 leaves them out. The authors use it for an ablation only.
        shallow: Whether positions are compared by all layers down to their own, or by their own alone.
        similarity: How they are compared: softmax, or cosine.
        samples: The most style positions that are attended to; others are left out at random.
        normalization: averaged over entries and channels, as published; summed over the channels of moments; or
            relative (our choice: weights mean the same for every network and smoothing).
        smoothing: What is done to the activations before they are compared, or its kind by name;
            attention sees them as they are.
    """

    compared_layers: tuple[str, ...] = _VGG_LAYERS
    global_layers: tuple[str, ...] = _VGG_LAYERS[1:]
    local_layers: tuple[str, ...] = _VGG_LAYERS[1:]
    content_layers: tuple[str, ...] = _VGG_LAYERS[1:]
    global_weight: float = 10.0
    local_weight: float = 3.0
    content_weight: float = 0.0
    shallow: bool = True
    similarity: Similarity = "softmax"
    samples: int = 64 * 64
    normalization: Normalization = "averaged"
    smoothing: Smoothing = converted(default=Smoothing(), converter=as_smoothing)

    def __post_init__(self):
        super().__post_init__()
        check_objective(self, "global_weight", "local_weight", "content_weight")
        check_range(self.samples, what="samples", low=1)
        for layer in self.local_layers:
            check_name(layer, self.compared_layers, what="compared layer")

    @property
    def layers(self) -> tuple[str, ...]:
        """All layers that are read."""
        local = self.compared_layers if self.local_weight else ()
        return tuple(dict.fromkeys((*local, *self.global_layers, *self.content_layers)))

    def compared(self, layer: str) -> tuple[str, ...]:
        """Return the layers by which the positions of `layer` are compared."""
        return self.compared_layers[: self.compared_layers.index(layer) + 1] if self.shallow else (layer,)

    def for_backbone(self, name: str) -> "AdaAttNObjective":
        """Return the objective with the zoo's default layers of backbone `name`, all but the first for the losses."""
        layers = entry(name).style_layers
        rest = layers[1:]
        return self.replace(compared_layers=layers, global_layers=rest, local_layers=rest, content_layers=rest)


def local_target(
    content: LayerFeatures,
    style: LayerFeatures,
    *,
    layers: tuple[str, ...],
    key: Key | None = None,
    samples: int | None = None,
    similarity: Similarity = "softmax",
) -> AnyFeatures:
    r"""Return :math:`S \circ \mathrm{Norm}(F_c) + M` of attention without parameters; no gradient flows through it.

    Args:
        content: Activations of the content image by layer.
        style: Of the style image.
        layers: The layers by which positions are compared; the last one is the one returned.
        key: Draws the style positions that are kept; needed where there are more than `samples`.
        samples: The most style positions to attend to; `None` keeps all.
        similarity: How positions are compared.

    Returns:
        float32 features of the content's last layer's shape.
    """
    queries, keys = key_features(content, layers=layers), key_features(style, layers=layers)
    own = layers[-1]
    target = adaattn(content[own], queries, keys, style[own], key=key, samples=samples, similarity=similarity)
    return lax.stop_gradient(target)


def evaluate(
    output: LayerFeatures,
    content: LayerFeatures,
    style: LayerFeatures,
    *,
    objective: AdaAttNObjective,
    key: Key | None = None,
) -> tuple[Scalar, Terms]:
    r"""Return the total loss of a stylized image and its weighted terms by name, which sum to the total.

    .. math:: \lambda_g \sum_l m(F^l, F_s^l) + \lambda_l \sum_l d(F^l, \mathrm{AdaAttN}^*(F_c^l, F_s^l))
        + \lambda_c \sum_l d(\mathrm{Norm}(F^l), \mathrm{Norm}(F_c^l))

    with d the squared distance, m that of moments (`swag_jax.losses.moments`) and AdaAttN* attention without
    parameters (`local_target`).

    Args:
        output: Activations of the stylized image by layer.
        content: Of the content image.
        style: Of the style image.
        objective: Layers, weights, normalization, smoothing.
        key: Draws the style positions that the local loss keeps, the generator's own; needed where there are more than
            `objective.samples`.

    Returns:
        The total, and the terms `global/...`, `local/...` and `content/...`, all float32.

    Raises:
        UserError: If a key is needed and not given.
    """
    o, smoothing = objective, objective.smoothing
    distance, of_moments = FEATURES[o.normalization], MOMENTS[o.normalization]
    attention = {"key": key, "samples": o.samples, "similarity": o.similarity}
    local = o.local_layers if o.local_weight else ()
    targets = {layer: local_target(content, style, layers=o.compared(layer), **attention) for layer in local}
    return evaluate_families(
        [
            Family("global", of_moments, o.global_weight, o.global_layers, output, style, smoothing),
            Family("local", distance, o.local_weight, local, output, targets, smoothing),
            Family("content", of_normalized(distance), o.content_weight, o.content_layers, output, content, smoothing),
        ]
    )
