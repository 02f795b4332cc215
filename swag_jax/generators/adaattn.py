"""AdaAttN: every content position takes mean and deviation of the style positions that it attends to.

Liu et al., ICCV 2021, as Huage001/AdaAttN lays it out; `AdaAttNConfig.video` is its `inference_frame.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import jax
from flax import nnx

from swag_jax._checks import check_name, check_range, error
from swag_jax._types import Activations, Images, Key
from swag_jax.attention import SIMILARITIES, Similarity, StyleKeys, at_deepest, keep, key_features, restyle
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
)
from swag_jax.generators._merge import Merge
from swag_jax.generators.decoder import Decoder

BatchMasks: TypeAlias = tuple[BatchMask, BatchMask]
"""`Masks` of a batch of images, at any size."""

_DEVIATION = 0.02
"""Of the initial kernels: `init_weights` of Huage001/AdaAttN."""


@dataclass(frozen=True)
class AdaAttNConfig:
    """What an AdaAttN generator is made of.

    Attributes:
        taps: The layers it reads, shallow to deep; the paper's are VGG19's relu1_1 to relu5_1.
        fused: Whether the two deepest layers have attention and are fused; otherwise the deepest alone has.
        skip: Whether the layer before these two has attention too and enters the decoder.
        shallow: Whether positions are compared by all layers down to their own, or by their own alone.
        similarity: How they are compared: softmax, or cosine.
        samples: The most style positions that are attended to; others are left out at random.
        skip_samples: The same for the layer of the skip.
    """

    taps: tuple[LayerSpec, ...] = VGG_TAPS
    fused: bool = True
    skip: bool = True
    shallow: bool = True
    similarity: Similarity = "softmax"
    samples: int = 256 * 256
    skip_samples: int = 64 * 64

    def __post_init__(self):
        check_name(self.similarity, SIMILARITIES, what="similarity")
        for name in ("samples", "skip_samples"):
            check_range(getattr(self, name), what=name.replace("_", " "), low=1)
        if self.skip and not self.fused:
            raise error("a skip needs the two deepest layers fused", cure="set skip=False, or fused=True")
        check_taps(self.taps, 1 + self.fused + self.skip, or_more=True)

    @property
    def attended(self) -> tuple[LayerSpec, ...]:
        """The taps with attention of their own, shallow to deep."""
        return self.taps[-1 - self.fused - self.skip :]

    def compared(self, tap: LayerSpec) -> tuple[LayerSpec, ...]:
        """Return the taps by which the positions of `tap` are compared."""
        return self.taps[: self.taps.index(tap) + 1] if self.shallow else (tap,)

    @classmethod
    def video(cls) -> "AdaAttNConfig":
        """Return the configuration of the released video model: relu3_1 alone, compared by cosines."""
        return cls(taps=VGG_TAPS[:3], fused=False, skip=False, similarity="cosine")


class AdaptiveAttention(nnx.Module):
    """AdaAttN's attention behind 1x1 convolutions of queries, keys and values.

    Args:
        channels: Of the layer.
        width: Channels of all layers that its positions are compared by.
        rngs: Randomness for the initialization.
    """

    def __init__(self, channels: int, width: int, *, rngs: nnx.Rngs):
        self.query = Conv(width, width, size=1, deviation=_DEVIATION, rngs=rngs)
        self.key = Conv(width, width, size=1, deviation=_DEVIATION, rngs=rngs)
        self.value = Conv(channels, channels, size=1, deviation=_DEVIATION, rngs=rngs)

    def read(
        self,
        style: BatchFeatures,
        compute: Compute,
        *,
        layers: tuple[str, ...],
        key: Key | None,
        samples: int,
        region: BatchMask | None,
    ) -> StyleKeys:
        """Return keys and values of every style image at the last of `layers`, compared by all of them."""
        keys = jax.vmap(lambda f: key_features(f, layers=layers))({layer: style[layer] for layer in layers})
        keys, values = self.key(keys, compute), self.value(style[layers[-1]], compute)
        region = None if region is None else fitted(region, style[layers[-1]])
        return jax.vmap(lambda k, v, r: keep(k, v, key=key, samples=samples, region=r))(keys, values, region)

    def __call__(
        self,
        content: BatchFeatures,
        kept: StyleKeys,
        compute: Compute,
        *,
        layers: tuple[str, ...],
        similarity: Similarity,
        region: BatchMask | None,
        known: Mapping[str, BatchMoments] | None,
    ) -> Activations:
        """Return the last of `layers` of the content, with statistics of the style; compared by all of `layers`."""
        own = layers[-1]
        asked = {layer: content[layer] for layer in layers}
        queries = jax.vmap(lambda f, known: key_features(f, layers=layers, known=known))(asked, known)

        def one(content, queries, kept, region, known):
            return restyle(content, queries, kept, similarity=similarity, region=region, known=known)

        region = None if region is None else fitted(region, content[own])
        of_own = None if known is None else known[own]
        return jax.vmap(one)(content[own], self.query(queries, compute), kept, region, of_own)


class AdaAttN(EncoderGenerator):
    """The AdaAttN generator: attention of 9,066,752 and 468,096 parameters (the skip's), a decoder of 4,095,043.

    Args:
        config: What it is made of.
        compute: Precision and kernels; attention's logits and weights are float32 in full precision anyway.
        rngs: Randomness for the initialization.
    """

    config: AdaAttNConfig

    def __init__(self, config: AdaAttNConfig, *, compute: Compute | None = None, rngs: nnx.Rngs):
        super().__init__(config, compute=compute)
        for tap in config.attended:
            width = sum(compared.channels for compared in config.compared(tap))
            setattr(self, tap.layer, AdaptiveAttention(tap.channels, width, rngs=rngs))
        *skips, start = config.attended[:-1] if config.fused else config.attended
        if config.fused:
            self.merge = Merge(start, config.attended[-1], deviation=_DEVIATION, rngs=rngs)
        self.decoder = Decoder(
            start.channels,
            start.stride,
            whole=not config.fused,
            skip=skips[0] if skips else None,
            deviation=_DEVIATION,
            compute=self.compute,
            rngs=rngs,
        )

    def __call__(
        self,
        content: BatchFeatures,
        style: BatchFeatures,
        *,
        size: Size,
        key: Key | None = None,
        masks: BatchMasks | None = None,
    ) -> Images:
        """Return stylized images.

        Args:
            content: Activations of the content images.
            style: Activations of as many style images.
            size: Height and width of the images wanted: the content images' own.
            key: Draws the style positions that are kept, the same for the whole batch; needed where a style has more
                than the configured samples.
            masks: Regions of the content and the style images, at any size: inside the content's, only the style's
                is attended to, elsewhere everything is.

        Raises:
            UserError: If a key is needed and not given.
        """
        contents, styles = masks or (None, None)
        kept = self.read(style, key=key, region=styles)
        return self.decode(self.transfer(content, kept, region=contents), size=size)

    def read(
        self, style: BatchFeatures, *, key: Key | None = None, region: BatchMask | None = None
    ) -> dict[str, StyleKeys]:
        """Return keys and values by attended layer."""
        return {tap.layer: self._read(tap, style, key, region) for tap in self.config.attended}

    def transfer(
        self,
        content: BatchFeatures,
        kept: Mapping[str, StyleKeys],
        *,
        known: KnownMoments | None = None,
        region: BatchMask | None = None,
    ) -> Transferred:
        """Attend at every attended layer, and fuse the two deepest.

        Args:
            content: Activations of the content images.
            kept: What `read` returned.
            region: Where in each content image only the style's region is attended to; default: everywhere.
        """
        found = [self._attend(tap, content, kept[tap.layer], known, region) for tap in self.config.attended]
        skips = tuple(found.pop(0) for _ in range(self.config.skip))
        first = self.merge(found[0], found[1], self.compute) if self.config.fused else found[0]
        return (first, *skips)

    def attend(
        self,
        tap: LayerSpec,
        content: BatchFeatures,
        style: BatchFeatures,
        *,
        key: Key | None = None,
        masks: BatchMasks | None = None,
    ) -> Activations:
        """Return the content's features of one layer with statistics of the style; arguments as of a call."""
        contents, styles = masks or (None, None)
        return self._attend(tap, content, self._read(tap, style, key, styles), None, contents)

    def normed(self, content: BatchFeatures, known: KnownMoments) -> dict[str, Activations]:
        """Return, for every attended layer, the layers that it is compared by at its size, as `attended/compared`."""
        found = {}
        for tap in self.config.attended:
            layers = self._compared(tap)
            sampled = jax.vmap(lambda f, layers=layers: at_deepest(f, layers=layers))({n: content[n] for n in layers})
            found |= {f"{tap.layer}/{layer}": x for layer, x in sampled.items()}
        return {name: x for name, x in found.items() if name not in known}

    def _compared(self, tap: LayerSpec) -> tuple[str, ...]:
        return tuple(compared.layer for compared in self.config.compared(tap))

    def _read(self, tap: LayerSpec, style: BatchFeatures, key: Key | None, region: BatchMask | None) -> StyleKeys:
        config = self.config
        is_skip = config.skip and tap == config.attended[0]
        attention: AdaptiveAttention = getattr(self, tap.layer)
        samples = config.skip_samples if is_skip else config.samples
        return attention.read(style, self.compute, layers=self._compared(tap), key=key, samples=samples, region=region)

    def _attend(
        self,
        tap: LayerSpec,
        content: BatchFeatures,
        kept: StyleKeys,
        known: KnownMoments | None,
        region: BatchMask | None,
    ) -> Activations:
        attention: AdaptiveAttention = getattr(self, tap.layer)
        layers = self._compared(tap)
        return attention(
            content,
            kept,
            self.compute,
            layers=layers,
            similarity=self.config.similarity,
            region=region,
            known=None if known is None else {layer: known[f"{tap.layer}/{layer}"] for layer in layers},
        )
