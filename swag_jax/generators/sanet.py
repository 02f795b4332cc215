"""SANet: attention brings re-weighted style features to every content position, at two layers.

Park and Lee, CVPR 2019, as GlebSBrykin/SANET lays it out; the authors' own code is not public.
"""

from dataclasses import dataclass

import jax
from flax import nnx

from swag_jax._types import Activations, Images
from swag_jax.attention import weighted_mean
from swag_jax.backbones import Operations
from swag_jax.features import Tap
from swag_jax.generators._layers import VGG_TAPS, BatchFeatures, Conv, Generator, Size, check_taps, normalized
from swag_jax.generators._merge import Merge
from swag_jax.generators.decoder import Decoder


@dataclass(frozen=True)
class SANetConfig:
    """What a SANet generator is made of.

    Attributes:
        taps: The two layers it reads, shallow to deep; the paper's are VGG19's relu4_1 and relu5_1.
        residual: Whether attention's result is added to the content's features or takes their place.
    """

    taps: tuple[Tap, ...] = VGG_TAPS[3:]
    residual: bool = True

    def __post_init__(self):
        check_taps(self.taps, 2)


class StyleAttention(nnx.Module):
    r"""One SANet: :math:`F_c + W_o \, (A \, h(F_s))` with A from f(Norm(F_c)) and g(Norm(F_s)), all 1x1 convolutions.

    Args:
        channels: Of the layer.
        rngs: Randomness for the initialization.
    """

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        self.query, self.key, self.value, self.output = (Conv(channels, channels, size=1, rngs=rngs) for _ in range(4))

    def __call__(
        self, content: Activations, style: Activations, operations: Operations, *, residual: bool
    ) -> Activations:
        """Attend to the style from every position of the content."""
        queries = self.query(normalized(content), operations)
        keys = self.key(normalized(style), operations)
        values = self.value(style, operations)
        flat = (x.reshape(len(x), -1, x.shape[-1]) for x in (queries, keys, values))
        means = jax.vmap(weighted_mean)(*flat).reshape(content.shape)
        found = self.output(means, operations)
        return content.astype(found.dtype) + found if residual else found


class SANet(Generator):
    """The SANet generator: 4,461,056 parameters of attention, and AdaIN's decoder.

    Args:
        config: What it is made of.
        operations: Precision and kernels.
        rngs: Randomness for the initialization.
    """

    config: SANetConfig

    def __init__(self, config: SANetConfig, *, operations: Operations | None = None, rngs: nnx.Rngs):
        super().__init__(config, operations=operations)
        for tap in config.taps:
            setattr(self, tap.layer, StyleAttention(tap.channels, rngs=rngs))
        shallow, deep = config.taps
        self.merge = Merge(shallow, deep, rngs=rngs)
        self.decoder = Decoder(shallow.channels, shallow.stride, operations=self.operations, rngs=rngs)

    def __call__(self, content: BatchFeatures, style: BatchFeatures, *, size: Size) -> Images:
        """Return stylized pictures.

        Args:
            content: Activations of the content pictures.
            style: Activations of as many style pictures.
            size: Height and width of the pictures wanted: the content pictures' own.
        """
        shallow, deep = (
            getattr(self, layer)(content[layer], style[layer], self.operations, residual=self.config.residual)
            for layer in self.layers
        )
        return self.decoder(self.merge(shallow, deep, self.operations), size=size)
