"""SANet: attention brings re-weighted style features to every content position, at two layers.

Park and Lee, CVPR 2019, as GlebSBrykin/SANET lays it out; the authors' own code is not public.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from swag_jax._types import Activations, Images, Key
from swag_jax.attention import Means, Queries, StyleKeys, keep, weighted_mean
from swag_jax.backbones import Compute
from swag_jax.features import LayerSpec
from swag_jax.generators._layers import (
    VGG_TAPS,
    BatchFeatures,
    BatchMask,
    BatchMoments,
    Conv,
    EncoderGenerator,
    KnownMoments,
    Size,
    Transferred,
    check_taps,
    fitted,
    normalized,
)
from swag_jax.generators._merge import Merge
from swag_jax.generators.decoder import Decoder


@dataclass(frozen=True)
class SANetConfig:
    """What a SANet generator is made of.

    Attributes:
        taps: The two layers it reads, shallow to deep; the paper's are VGG19's relu4_1 and relu5_1.
        residual: Whether attention's result is added to the content's features or takes their place.
    """

    taps: tuple[LayerSpec, ...] = VGG_TAPS[3:]
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

    def read(self, style: Activations, compute: Compute, *, region: BatchMask | None) -> StyleKeys:
        """Return keys and values of every style image."""
        keys, values = self.key(normalized(style), compute), self.value(style, compute)
        region = None if region is None else fitted(region, style)
        return jax.vmap(lambda k, v, r: keep(k, v, region=r))(keys, values, region)

    def __call__(
        self,
        content: Activations,
        kept: StyleKeys,
        compute: Compute,
        *,
        residual: bool,
        known: BatchMoments | None = None,
    ) -> Activations:
        """Attend to the style from every position of the content."""
        queries = self.query(normalized(content, known=known), compute)
        means = jax.vmap(_attended)(queries.reshape(len(queries), -1, queries.shape[-1]), kept)
        found = self.output(means.reshape(content.shape), compute)
        return content.astype(found.dtype) + found if residual else found


def _attended(queries: Queries, kept: StyleKeys) -> Means:
    allowed = None if kept.allowed is None else (jnp.ones(len(queries), bool), kept.allowed)
    return weighted_mean(queries, kept.keys, kept.values, allowed=allowed)


class SANet(EncoderGenerator):
    """The SANet generator: 4,461,056 parameters of attention, and AdaIN's decoder.

    Args:
        config: What it is made of.
        compute: Precision and kernels.
        rngs: Randomness for the initialization.
    """

    config: SANetConfig

    def __init__(self, config: SANetConfig, *, compute: Compute | None = None, rngs: nnx.Rngs):
        super().__init__(config, compute=compute)
        for tap in config.taps:
            setattr(self, tap.layer, StyleAttention(tap.channels, rngs=rngs))
        shallow, deep = config.taps
        self.merge = Merge(shallow, deep, rngs=rngs)
        self.decoder = Decoder(shallow.channels, shallow.stride, compute=self.compute, rngs=rngs)

    def __call__(self, content: BatchFeatures, style: BatchFeatures, *, size: Size) -> Images:
        """Return stylized images.

        Args:
            content: Activations of the content images.
            style: Activations of as many style images.
            size: Height and width of the images wanted: the content images' own.
        """
        return self.decode(self.transfer(content, self.read(style)), size=size)

    def read(
        self, style: BatchFeatures, *, key: Key | None = None, region: BatchMask | None = None
    ) -> dict[str, StyleKeys]:
        """Return keys and values by layer; all positions are kept, so that nothing is drawn by a key."""
        del key
        return {n: getattr(self, n).read(style[n], self.compute, region=region) for n in self.layers}

    def transfer(
        self, content: BatchFeatures, kept: Mapping[str, StyleKeys], *, known: KnownMoments | None = None
    ) -> Transferred:
        """Attend at both layers, and fuse them."""
        shallow, deep = (
            getattr(self, layer)(
                content[layer],
                kept[layer],
                self.compute,
                residual=self.config.residual,
                known=None if known is None else known[layer],
            )
            for layer in self.layers
        )
        return (self.merge(shallow, deep, self.compute),)

    def normed(self, content: BatchFeatures, known: KnownMoments) -> dict[str, Activations]:
        """Return both layers."""
        return {layer: content[layer] for layer in self.layers if layer not in known}
