"""AdaIN: the content's features take the style's mean and deviation, and a decoder paints them.

Huang and Belongie, ICCV 2017.
"""

from dataclasses import dataclass

import jax
from flax import nnx

from swag_jax import statistics
from swag_jax._types import Activations, Images, Key, Scalar
from swag_jax.backbones import Compute
from swag_jax.features import LayerSpec
from swag_jax.generators._layers import (
    VGG_TAPS,
    BatchFeatures,
    BatchMask,
    BatchMoments,
    EncoderGenerator,
    KnownMoments,
    Size,
    Transferred,
    check_taps,
    fitted,
    normalized,
)
from swag_jax.generators.decoder import Decoder


@dataclass(frozen=True)
class AdaINConfig:
    """What an AdaIN generator is made of.

    Attributes:
        taps: The one layer it reads; the papers' is VGG19's relu4_1.
    """

    taps: tuple[LayerSpec, ...] = VGG_TAPS[3:4]

    def __post_init__(self):
        check_taps(self.taps, 1)


class AdaIN(EncoderGenerator):
    """The AdaIN generator: 3,505,219 parameters behind relu4_1.

    Args:
        config: What it is made of.
        compute: Precision and kernels.
        rngs: Randomness for the initialization.
    """

    config: AdaINConfig

    def __init__(self, config: AdaINConfig, *, compute: Compute | None = None, rngs: nnx.Rngs):
        super().__init__(config, compute=compute)
        (tap,) = config.taps
        self.decoder = Decoder(tap.channels, tap.stride, compute=self.compute, rngs=rngs)

    def __call__(
        self, content: BatchFeatures, style: BatchFeatures, *, size: Size, strength: float | Scalar = 1.0
    ) -> Images:
        r"""Return :math:`\mathrm{Dec}(\alpha \, \mathrm{AdaIN}(F_c, F_s) + (1 - \alpha) F_c)`.

        Args:
            content: Activations of the content images.
            style: Activations of as many style images.
            size: Height and width of the images wanted: the content images' own.
            strength: :math:`\alpha`: 1 (as in training) is all style, 0 the content reconstructed.
        """
        transferred = self.transfer(content, self.read(style))
        mixed = [
            strength * a + (1 - strength) * b for a, b in zip(transferred, self.unstyled(content, None), strict=True)
        ]
        return self.decode(tuple(mixed), size=size)

    def read(self, style: BatchFeatures, *, key: Key | None = None, region: BatchMask | None = None) -> BatchMoments:
        """Return each channel's mean and deviation; nothing is drawn by a key."""
        del key
        (layer,) = self.layers
        region = None if region is None else fitted(region, style[layer])
        return jax.vmap(lambda x, r: statistics.moments(x, region=r))(style[layer], region)

    def transfer(self, content: BatchFeatures, kept: BatchMoments, *, known: KnownMoments | None = None) -> Transferred:
        """Give the content the style's moments."""
        (layer,) = self.layers
        mean, deviation = (x[:, None, None] for x in kept)
        normed = normalized(content[layer], known=None if known is None else known[layer])
        return (deviation * normed + mean,)

    def unstyled(self, content: BatchFeatures, own: object, *, known: KnownMoments | None = None) -> Transferred:
        """Return the content's features, which is what its own moments make of them."""
        del own, known
        (layer,) = self.layers
        return (content[layer],)

    def normed(self, content: BatchFeatures, known: KnownMoments) -> dict[str, Activations]:
        """Return the one layer."""
        return {layer: content[layer] for layer in self.layers if layer not in known}
