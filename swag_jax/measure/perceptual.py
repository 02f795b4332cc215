"""LPIPS: how different two images look, by learned weights on the features of a network (Zhang et al. 2018, v0.1).

The weights come from files: the linear ones from the `lpips` package (`weights/v0.1/alex.pth` or `vgg.pth`, with keys
`lin0.model.1.weight` ...), the trunk's from torchvision's AlexNet or VGG16.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Float

from swag_jax import params
from swag_jax._checks import error
from swag_jax._numerics import widen
from swag_jax._pytree import pytree_dataclass
from swag_jax._types import AnyFeatures, Image, LayerFeatures, Scalar
from swag_jax.backbones import Backbone, load
from swag_jax.features import extract
from swag_jax.images._arrays import check_sides
from swag_jax.params.checkpoint_file import read_floats
from swag_jax.params.convert import checkpoint_shapes

LPIPS_LAYERS: Mapping[str, dict[str, int]] = {
    "alexnet": {"relu1": 64, "relu2": 192, "relu3": 384, "relu4": 256, "relu5": 256},
    "vgg16": {"relu1_2": 64, "relu2_2": 128, "relu3_3": 256, "relu4_3": 512, "relu5_3": 512},
}
"""The layers of each trunk and their channels: lpips/pretrained_networks.py of richzhang/PerceptualSimilarity."""

EPSILON = 1e-10
"""Added to norms by `normalize_tensor` of the lpips package."""

LinearWeights: TypeAlias = Mapping[str, Float[Array, " _"]]
"""A weight for each channel, by layer."""


def lpips(features: LayerFeatures, reference: LayerFeatures, weights: LinearWeights) -> Scalar:
    r"""Return the weighted squared distance of features of unit length, averaged over positions, summed over layers.

    .. math:: \sum_l \operatorname{mean}_{ij} \sum_c w^l_c (\hat F^l_{ijc} - \hat G^l_{ijc})^2, \quad
        \hat F_{ij} = F_{ij} / (\|F_{ij}\| + 10^{-10})

    It is 0 for equal features and, with the published weights, about 1 for images that have nothing in common. Zhang et
    al., CVPR 2018, eq. 1; https://github.com/richzhang/PerceptualSimilarity, version 0.1.

    Example:
        >>> one, other = {"relu1": jnp.array([[[3.0, 0.0]]])}, {"relu1": jnp.array([[[0.0, 5.0]]])}
        >>> float(lpips(one, other, {"relu1": jnp.array([0.25, 0.5])}))
        0.75
    """
    distances = [
        (weight * ((_unit(features[layer]) - _unit(reference[layer])) ** 2).mean((0, 1))).sum()
        for layer, weight in weights.items()
    ]
    return jnp.stack(distances).sum()


def _unit(features: AnyFeatures) -> AnyFeatures:
    # Features of unit length at every position.
    wide = widen(features)
    return wide / (jnp.linalg.norm(wide, axis=-1, keepdims=True) + EPSILON)


@pytree_dataclass
@dataclass(frozen=True)
class LPIPS:
    """LPIPS with its weights for each channel, by layer: a function of two images, and a pytree."""

    # The scaling layer of the lpips package computes (2 x - 1 + (.030, .088, .188)) / (.458, .448, .450), which is
    # (x - mean) / std with ImageNet's statistics: the trunk's own normalization.

    trunk: Backbone
    weights: dict[str, Float[Array, " _"]]

    def __call__(self, image: Image, reference: Image) -> Scalar:
        """Return the distance of two images of one shape."""
        return lpips(self.read(image), self.read(reference), self.weights)

    def read(self, image: Image) -> LayerFeatures:
        """Return the features of one image that are compared; it must be large enough for the deepest layer."""
        check_sides(image, self.trunk.minimum_size(self.weights), "LPIPS")
        return extract(self.trunk, image, layers=self.weights)


def load_lpips(weights: Path, *, trunk: str = "imagenet") -> tuple[LPIPS, params.Source]:
    """Return LPIPS, read from files, and the source of the trunk's weights.

    Args:
        weights: The linear weights in the lpips package's layout, `.pth` or `.safetensors`; their shapes determine
            the trunk.
        trunk: The trunk's weights: `imagenet` (from the local store), `random`, or the path of a checkpoint.

    Raises:
        UserError: If a file is missing, damaged or holds something else.
    """
    name = _trunk_of(weights)
    layers = LPIPS_LAYERS[name]
    keys = {layer: f"lin{i}.model.1.weight" for i, layer in enumerate(layers)}
    tensors = read_floats(weights, keys.values())
    network, source = load(name, weights=trunk, layers=tuple(layers))
    return LPIPS(network, {layer: jnp.asarray(tensors[key].reshape(-1)) for layer, key in keys.items()}), source


def _trunk_of(weights: Path) -> str:
    # The channels of the linear layers tell it.
    # A saved `lpips.LPIPS` also holds the same weights as `lins.*`, its trunk, and its scaling constants.
    shapes = checkpoint_shapes(weights)
    found = {key: shape for key, shape in shapes.items() if not re.fullmatch(r"(lins|net|scaling_layer)\..*", key)}
    for name, layers in LPIPS_LAYERS.items():
        if found == {f"lin{i}.model.1.weight": (1, size, 1, 1) for i, size in enumerate(layers.values())}:
            return name
    raise error(
        f"{weights} must hold LPIPS's linear weights for AlexNet or VGG16, lin0.model.1.weight to lin4.model.1.weight",
        got=f"keys such as {', '.join(list(found)[:3]) or 'none'}",
        cure="pass weights/v0.1/alex.pth or vgg.pth of the lpips package",
    )
