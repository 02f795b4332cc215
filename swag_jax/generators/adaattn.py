"""AdaAttN: every content position takes mean and deviation of the style positions that it attends to.

Liu et al., ICCV 2021, as Huage001/AdaAttN lays it out; `AdaAttNConfig.video` is its `inference_frame.py`. Losses are
written for one image.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import jax
from flax import nnx
from jax import lax

from swag_jax._checks import check_name, check_range, error
from swag_jax._settings import Settings, converted
from swag_jax._types import Activations, AnyFeatures, Key, LayerFeatures, Scalar
from swag_jax.attention import SIMILARITIES, Similarity, StyleKeys, adaattn, at_deepest, keep, key_features, restyle
from swag_jax.backbones import Compute
from swag_jax.backbones.zoo import entry
from swag_jax.features import LayerSpec
from swag_jax.generators._fusion import Fusion
from swag_jax.generators._layers import VGG_TAPS, BatchFeatures, BatchMask, Conv, KnownMoments, check_taps, fitted
from swag_jax.generators.decoder import Decoder
from swag_jax.generators.layouts import DECODER, attention
from swag_jax.generators.method import Generator, Method, Published, Recipe, Transferred, of_pairs, small_recipe
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
from swag_jax.params.layouts import Layout, table
from swag_jax.smoothing import Smoothing, as_smoothing

_VGG_LAYERS = tuple(tap.layer for tap in VGG_TAPS)

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
        """The taps that have attention, shallow to deep."""
        return self.taps[-1 - self.fused - self.skip :]

    def compared(self, tap: LayerSpec) -> tuple[LayerSpec, ...]:
        """Return the taps by which the positions of `tap` are compared."""
        return self.taps[: self.taps.index(tap) + 1] if self.shallow else (tap,)

    @classmethod
    def video(cls) -> "AdaAttNConfig":
        """Return the configuration of the released video model: relu3_1 alone, compared by cosines."""
        return cls(taps=VGG_TAPS[:3], fused=False, skip=False, similarity="cosine")


class AdaptiveAttention(nnx.Module):
    """1x1 convolutions of values of `channels`, and of queries and keys of the `width` of all layers compared by."""

    def __init__(self, channels: int, width: int, *, rngs: nnx.Rngs):
        self.query = Conv(width, width, size=1, deviation=_DEVIATION, rngs=rngs)
        self.key = Conv(width, width, size=1, deviation=_DEVIATION, rngs=rngs)
        self.value = Conv(channels, channels, size=1, deviation=_DEVIATION, rngs=rngs)


class AdaAttN(Generator):
    """The AdaAttN generator: attention of 9,066,752 and 468,096 parameters (the skip's), a decoder of 4,095,043."""

    config: AdaAttNConfig

    def __init__(self, config: AdaAttNConfig, *, compute: Compute | None = None, rngs: nnx.Rngs):
        super().__init__(config, compute=compute)
        for tap in config.attended:
            width = sum(compared.channels for compared in config.compared(tap))
            setattr(self, tap.layer, AdaptiveAttention(tap.channels, width, rngs=rngs))
        *skips, start = config.attended[:-1] if config.fused else config.attended
        if config.fused:
            self.merge = Fusion(start, config.attended[-1], deviation=_DEVIATION, rngs=rngs)
        self.decoder = Decoder(
            start.channels,
            start.stride,
            whole=not config.fused,
            skip=skips[0] if skips else None,
            deviation=_DEVIATION,
            compute=self.compute,
            rngs=rngs,
        )

    def read(
        self, style: BatchFeatures, *, key: Key | None = None, region: BatchMask | None = None
    ) -> dict[str, StyleKeys]:
        """Return keys and values by attended layer."""
        return {tap.layer: self._read(tap, style, key, region) for tap in self.config.attended}

    def _read(self, tap: LayerSpec, style: BatchFeatures, key: Key | None, region: BatchMask | None) -> StyleKeys:
        config, attention, layers = self.config, getattr(self, tap.layer), self._compared(tap)
        samples = config.skip_samples if config.skip and tap == config.attended[0] else config.samples
        keys = jax.vmap(lambda f: key_features(f, layers=layers))({layer: style[layer] for layer in layers})
        keys, values = attention.key(keys, self.compute), attention.value(style[tap.layer], self.compute)
        used = fitted(region, style[tap.layer])
        return jax.vmap(lambda k, v, r: keep(k, v, key=key, samples=samples, region=r))(keys, values, used)

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
            region: The part of each content image that attends to the style's region only; default: all of it.
        """
        attended = self.config.attended
        found = [self.attend(tap, content, kept[tap.layer], known=known, region=region) for tap in attended]
        skips = tuple(found.pop(0) for _ in range(self.config.skip))
        first = self.merge(found[0], found[1], self.compute) if self.config.fused else found[0]
        return (first, *skips)

    def attend(
        self,
        tap: LayerSpec,
        content: BatchFeatures,
        kept: StyleKeys,
        *,
        known: KnownMoments | None = None,
        region: BatchMask | None = None,
    ) -> Activations:
        """Return the content's features of one layer with statistics of the style; see `transfer`."""
        layers, similarity = self._compared(tap), self.config.similarity
        moments = None if known is None else {layer: known[f"{tap.layer}/{layer}"] for layer in layers}
        asked = {layer: content[layer] for layer in layers}
        queries = jax.vmap(lambda f, known: key_features(f, layers=layers, known=known))(asked, moments)
        queries = getattr(self, tap.layer).query(queries, self.compute)

        # A layer's own statistics restyle it; those of the others only compare positions. Attention's logits and
        # weights are float32 in full precision whatever `compute` says.
        def one(content, queries, kept, region, known):
            return restyle(content, queries, kept, similarity=similarity, region=region, known=known)

        own = None if moments is None else moments[tap.layer]
        return jax.vmap(one)(content[tap.layer], queries, kept, fitted(region, content[tap.layer]), own)

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
        smoothing: What is done to the activations before they are compared, or its kind by name; attention sees them
            as they are.
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
        layers: The layers by which positions are compared; the last one is the one returned, in float32.
        key: Draws the style positions that are kept; needed if there are more than `samples`.
        samples: The most style positions to attend to; `None` keeps all.
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
        output: Activations of the stylized image by layer, as `content` and `style` are of these.
        key: Draws the style positions that the local loss keeps, the generator's own; needed if there are more than
            `objective.samples`.

    Returns:
        The total, and the terms `global/...`, `local/...` and `content/...`, all float32.
    """
    o, distance = objective, FEATURES[objective.normalization]
    attention = {"key": key, "samples": o.samples, "similarity": o.similarity}
    local = o.local_layers if o.local_weight else ()
    targets = {layer: local_target(content, style, layers=o.compared(layer), **attention) for layer in local}
    return evaluate_families(
        o.smoothing,
        Family("global", MOMENTS[o.normalization], o.global_weight, o.global_layers, output, style),
        Family("local", distance, o.local_weight, local, output, targets),
        Family("content", of_normalized(distance), o.content_weight, o.content_layers, output, content),
    )


def _decoder_names(prefix: str) -> dict[str, str]:
    return {f"{prefix}.{place}": ours for place, ours in zip((1, 4, 7, 10, 14, 17, 21, 24), DECODER[1:], strict=True)}


# Ours by those of the published files.
_NAMES = {
    "decoder_layer_1.1": "decoder.conv4_1",
    **_decoder_names("decoder_layer_2"),
    **attention("attn_adain_4_1.", "relu4_1"),
    **attention("attn_adain_5_1.", "relu5_1"),
    "merge_conv": "merge.conv",
    **attention("", "relu3_1"),
}

_VIDEO_NAMES = {**_decoder_names("decoder"), **attention("", "relu3_1")}

METHOD = Method(
    "adaattn",
    AdaAttNConfig,
    AdaAttN,
    AdaAttNObjective,
    of_pairs(evaluate),
    recipes={
        "adaattn": Recipe(
            AdaAttNConfig(),
            AdaAttNObjective(),
            "Huage001/AdaAttN: weights 10 and 3, Adam 2e-4 for two epochs of COCO, then times 0.3 for each of three "
            "more, batch 8, 512 squashed, crop 256, flips; the paper's step size may be 1e-4",
            {"squash": True, "flip": True, "steps": 5 * 82783 // 8, "learning_rate": 2e-4, "drops": (0.4, 0.6, 0.8)},
            hardware="one Tesla P40: less than a day (its issue 9)",
        ),
        "adaattn-small": small_recipe(
            AdaAttNConfig(VGG_TAPS[:4]),
            AdaAttNObjective(
                _VGG_LAYERS[:4], *[_VGG_LAYERS[1:4]] * 3, global_weight=3.0, local_weight=5.0, normalization="relative"
            ),
            "our choice, as adain-small: a block less than the paper's",
            {"squash": True, "flip": True, "steps": 3600, "drops": (0.85, 0.95)},
        ),
    },
    published={
        "adaattn": Published(
            AdaAttNConfig(), ("decoder", "transformer", "adaattn_3"), Layout("adaattn", table(_NAMES).get)
        ),
        "adaattn-video": Published(
            AdaAttNConfig.video(), ("decoder", "transformer"), Layout("adaattn-video", table(_VIDEO_NAMES).get)
        ),
    },
    read_layers=lambda objective: objective.compared_layers,
    fit=lambda config, objective: replace(config, shallow=objective.shallow, similarity=objective.similarity),
)
