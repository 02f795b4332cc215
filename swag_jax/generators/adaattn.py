"""AdaAttN: every content position takes mean and deviation of the style positions that it attends to.

Liu et al., ICCV 2021, as Huage001/AdaAttN lays it out; `AdaAttNConfig.video` is its `inference_frame.py`.
"""

from dataclasses import dataclass
from typing import TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool

from swag_jax._checks import check_name, check_range, error
from swag_jax._types import Activations, Images, Key
from swag_jax.attention import SIMILARITIES, Similarity, adaattn, key_features
from swag_jax.backbones import Operations
from swag_jax.features import Tap
from swag_jax.generators._layers import VGG_TAPS, BatchFeatures, Conv, Generator, Size, check_taps
from swag_jax.generators._merge import Merge
from swag_jax.generators.decoder import Decoder
from swag_jax.images import nearest

BatchMasks: TypeAlias = tuple[Bool[Array, "batch _ _"], Bool[Array, "batch _ _"]]
"""`Masks` of a batch of pictures, at any size."""

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

    taps: tuple[Tap, ...] = VGG_TAPS
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
    def attended(self) -> tuple[Tap, ...]:
        """The taps with attention of their own, shallow to deep."""
        return self.taps[-1 - self.fused - self.skip :]

    def compared(self, tap: Tap) -> tuple[Tap, ...]:
        """Return the taps by which the positions of `tap` are compared."""
        return self.taps[: self.taps.index(tap) + 1] if self.shallow else (tap,)

    @classmethod
    def video(cls) -> "AdaAttNConfig":
        """Return the configuration of the released video model: relu3_1 alone, compared by cosines."""
        return cls(taps=VGG_TAPS[:3], fused=False, skip=False, similarity="cosine")


class AdaptiveAttention(nnx.Module):
    """`adaattn` behind 1x1 convolutions of queries, keys and values.

    Args:
        channels: Of the layer.
        width: Channels of all layers that its positions are compared by.
        rngs: Randomness for the initialization.
    """

    def __init__(self, channels: int, width: int, *, rngs: nnx.Rngs):
        self.query = Conv(width, width, size=1, deviation=_DEVIATION, rngs=rngs)
        self.key = Conv(width, width, size=1, deviation=_DEVIATION, rngs=rngs)
        self.value = Conv(channels, channels, size=1, deviation=_DEVIATION, rngs=rngs)

    def __call__(
        self,
        content: BatchFeatures,
        style: BatchFeatures,
        operations: Operations,
        *,
        layers: tuple[str, ...],
        key: Key | None,
        samples: int,
        similarity: Similarity,
        masks: BatchMasks | None,
    ) -> Activations:
        """Return the last of `layers` of the content, with statistics of the style; compared by all of `layers`."""
        own = layers[-1]
        content_keys, style_keys = (
            jax.vmap(lambda f: key_features(f, layers=layers))({layer: f[layer] for layer in layers})
            for f in (content, style)
        )

        def one(content, queries, keys, values, masks):
            return adaattn(content, queries, keys, values, key=key, samples=samples, similarity=similarity, masks=masks)

        queries, keys = self.query(content_keys, operations), self.key(style_keys, operations)
        values = self.value(style[own], operations)
        return jax.vmap(one)(content[own], queries, keys, values, _fitted(masks, content[own], style[own]))


class AdaAttN(Generator):
    """The AdaAttN generator: attention of 9,066,752 and 468,096 parameters (the skip's), a decoder of 4,095,043.

    Args:
        config: What it is made of.
        operations: Precision and kernels; attention's logits and weights are float32 in full precision anyway.
        rngs: Randomness for the initialization.
    """

    config: AdaAttNConfig

    def __init__(self, config: AdaAttNConfig, *, operations: Operations | None = None, rngs: nnx.Rngs):
        super().__init__(config, operations=operations)
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
            operations=self.operations,
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
        """Return stylized pictures.

        Args:
            content: Activations of the content pictures.
            style: Activations of as many style pictures.
            size: Height and width of the pictures wanted: the content pictures' own.
            key: Draws the style positions that are kept, the same for the whole batch; needed where a style has more
                than the configured samples.
            masks: Regions of the content and the style pictures, at any size: inside the content's, only the style's
                is attended to, elsewhere everything is.

        Raises:
            UserError: If a key is needed and not given.
        """
        found = [self.attend(tap, content, style, key=key, masks=masks) for tap in self.config.attended]
        skip = found.pop(0) if self.config.skip else None
        features = self.merge(found[0], found[1], self.operations) if self.config.fused else found[0]
        return self.decoder(features, size=size, skip=skip)

    def attend(
        self,
        tap: Tap,
        content: BatchFeatures,
        style: BatchFeatures,
        *,
        key: Key | None = None,
        masks: BatchMasks | None = None,
    ) -> Activations:
        """Return the content's features of one layer with statistics of the style; arguments as of a call."""
        config = self.config
        is_skip = config.skip and tap == config.attended[0]
        attention: AdaptiveAttention = getattr(self, tap.layer)
        return attention(
            content,
            style,
            self.operations,
            layers=tuple(compared.layer for compared in config.compared(tap)),
            key=key,
            samples=config.skip_samples if is_skip else config.samples,
            similarity=config.similarity,
            masks=masks,
        )


def _fitted(masks: BatchMasks | None, content: Activations, style: Activations) -> BatchMasks | None:
    """Resample masks to a layer's positions, as `user_specify_demo.py` does."""
    if masks is None:
        return None

    def fit(mask, features):
        floats = mask.astype(jnp.float32)[..., None]
        return jax.vmap(lambda m: nearest(m, *features.shape[1:3]))(floats)[..., 0] > 0

    return fit(masks[0], content), fit(masks[1], style)
