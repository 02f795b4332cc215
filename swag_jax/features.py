"""From a picture to its activations: normalize, then one pass of the network for all losses."""

from collections.abc import Iterable

from swag_jax._types import AnyFeatures, Image
from swag_jax.backbones import Backbone
from swag_jax.images import normalize


def extract(network: Backbone, image: Image, *, layers: Iterable[str]) -> dict[str, AnyFeatures]:
    """Return the activations of one picture at `layers`, computing nothing deeper than the deepest.

    Args:
        network: The network to read.
        image: The picture, `height width 3` in [0, 1].
        layers: Names of the activations wanted.

    Returns:
        `height width channels` activations by layer name, shallow to deep, in the network's precision.

    Raises:
        UserError: If a layer is unknown.

    Example:
        >>> import jax.numpy as jnp
        >>> from swag_jax import backbones
        >>> network = backbones.create("vgg19", until="relu2_1")
        >>> extract(network, jnp.zeros((32, 48, 3)), layers=["relu2_1"])["relu2_1"].shape
        (16, 24, 128)
    """
    wanted = network.check_layers(layers)
    images = normalize(image, network.normalization)[None]
    activations = network(images, until=wanted[-1])
    return {layer: activations[layer][0] for layer in wanted}
