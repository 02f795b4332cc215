"""The features of the Fréchet inception distance."""

from pathlib import Path

import jax
from jaxtyping import Array, Float

from swag_jax import params
from swag_jax._numerics import widen
from swag_jax._types import Image
from swag_jax.backbones import Backbone, load
from swag_jax.features import extract
from swag_jax.images._arrays import as_image

FID_LAYER = "mixed7c"
"""The last block of Inception v3, whose mean over positions is TensorFlow's pool_3."""

FID_SIDE = 299
"""Height and width in pixels to which images are stretched: `resize_input` of pytorch-fid's InceptionV3."""


def fid_features(network: Backbone, image: Image, *, side: int = FID_SIDE) -> Float[Array, " channels"]:
    """Return the mean over positions of a network's deepest activations: for Inception v3, its 2048 pooled features.

    Args:
        network: Inception v3 with the weights of FID's definition, down to its last block.
        image: It is stretched to a square of this side in pixels, bilinearly and without antialiasing, as in
            pytorch-fid (`F.interpolate(mode="bilinear", align_corners=False)`).

    Example:
        >>> import jax.numpy as jnp
        >>> from swag_jax import backbones
        >>> network = backbones.create("alexnet", until="relu1")
        >>> fid_features(network, jnp.ones((48, 64, 3)), side=32).shape
        (64,)
    """
    square = jax.image.resize(as_image(image, "measured"), (side, side, 3), "linear", antialias=False)
    (features,) = extract(network, square, layers=network.layers[-1:]).values()
    return widen(features).mean((0, 1))


def load_inception(weights: Path) -> tuple[Backbone, params.Source]:
    """Return Inception v3 for FID, down to its last block, and the source of its weights.

    Args:
        weights: pytorch-fid's `pt_inception-2015-12-05-6726825d.pth`, or other weights in its layout.

    Raises:
        UserError: If the file is missing, damaged or holds something else.
    """
    return load("inception_v3", weights=str(weights), layers=(FID_LAYER,), variant="fid")
