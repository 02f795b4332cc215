"""SANet: attention brings re-weighted style features to every content position, at two layers.

Park and Lee, CVPR 2019, as GlebSBrykin/SANET lays it out; the authors' own code is not public. Losses, section 3.3, are
written for one image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from swag_jax._pytree import pytree_dataclass
from swag_jax._settings import Settings, converted
from swag_jax._types import Activations, AnyImage, Images, Key, LayerFeatures, Scalar
from swag_jax.attention import Means, Queries, StyleKeys, keep, weighted_mean
from swag_jax.backbones import Backbone, Compute
from swag_jax.backbones.zoo import entry
from swag_jax.features import LayerSpec
from swag_jax.generators._fusion import Fusion
from swag_jax.generators._layers import (
    VGG_TAPS,
    BatchFeatures,
    BatchMask,
    BatchMoments,
    Conv,
    KnownMoments,
    check_taps,
    fitted,
    normalized,
)
from swag_jax.generators.decoder import Decoder
from swag_jax.generators.layouts import ADAIN_DECODER, attention
from swag_jax.generators.method import BatchLosses, Generator, Method, Published, Recipe, Transferred, encode
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
    r"""One SANet: :math:`F_c + W_o \, (A \, h(F_s))`, A from f(Norm(F_c)) and g(Norm(F_s)), all 1x1 convolutions."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        self.query, self.key, self.value, self.output = (Conv(channels, channels, size=1, rngs=rngs) for _ in range(4))

    def read(self, style: Activations, compute: Compute, *, region: BatchMask | None) -> StyleKeys:
        """Return keys and values of every style image."""
        keys, values = self.key(normalized(style), compute), self.value(style, compute)
        return jax.vmap(lambda k, v, r: keep(k, v, region=r))(keys, values, fitted(region, style))

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


class SANet(Generator):
    """The SANet generator: 4,461,056 parameters of attention, and AdaIN's decoder."""

    config: SANetConfig

    def __init__(self, config: SANetConfig, *, compute: Compute | None = None, rngs: nnx.Rngs):
        super().__init__(config, compute=compute)
        for tap in config.taps:
            setattr(self, tap.layer, StyleAttention(tap.channels, rngs=rngs))
        shallow, deep = config.taps
        self.merge = Fusion(shallow, deep, rngs=rngs)
        self.decoder = Decoder(shallow.channels, shallow.stride, compute=self.compute, rngs=rngs)

    def read(
        self, style: BatchFeatures, *, key: Key | None = None, region: BatchMask | None = None
    ) -> dict[str, StyleKeys]:
        """Return keys and values of all positions by layer; nothing is drawn by the key."""
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


class SANetObjective(Settings):
    """What is minimized; the weights are those of GlebSBrykin/SANET, the paper's are not known to us.

    Attributes:
        content_layers: Layers whose normalized features are compared with the content's.
        style_layers: Layers whose moments are compared with the style's.
        identity_layers: Layers whose features are compared if content and style are one image.
        content_weight: Weight of every content layer; 0 leaves them out.
        style_weight: Weight of every style layer; 0 leaves them out.
        pixel_weight: Weight of the pixels if content and style are one image; 0 leaves them out.
        identity_weight: Weight of every identity layer; 0 leaves them out.
        normalization: averaged over entries and channels, as published; summed over the channels of moments; or
            relative (our choice: weights mean the same for every network and smoothing).
        smoothing: What is done to the activations before they are compared, or its kind by name.
    """

    content_layers: tuple[str, ...] = ("relu4_1", "relu5_1")
    style_layers: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
    identity_layers: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
    content_weight: float = 1.0
    style_weight: float = 3.0
    pixel_weight: float = 50.0
    identity_weight: float = 1.0
    normalization: Normalization = "averaged"
    smoothing: Smoothing = converted(default=Smoothing(), converter=as_smoothing)

    def __post_init__(self):
        super().__post_init__()
        check_objective(self, "content_weight", "style_weight", "pixel_weight", "identity_weight")

    @property
    def layers(self) -> tuple[str, ...]:
        """All layers that are read."""
        return tuple(dict.fromkeys((*self.style_layers, *self.content_layers, *self.identity_layers)))

    def for_backbone(self, name: str) -> "SANetObjective":
        """Return the objective with the zoo's default layers of backbone `name`."""
        layers = entry(name).style_layers
        return self.replace(content_layers=layers[-2:], style_layers=layers, identity_layers=layers)


@pytree_dataclass
@dataclass(frozen=True)
class Identity:
    """An image that was its own style, and the result, with activations of both by layer."""

    image: AnyImage
    found: AnyImage
    features: LayerFeatures
    found_features: LayerFeatures


def evaluate(
    output: LayerFeatures,
    content: LayerFeatures,
    style: LayerFeatures,
    identities: Sequence[Identity],
    *,
    objective: SANetObjective,
) -> tuple[Scalar, Terms]:
    r"""Return the total loss of a stylized image and its weighted terms by name, which sum to the total.

    .. math:: \lambda_c \sum_l d(\mathrm{Norm}(F^l), \mathrm{Norm}(F_c^l)) + \lambda_s \sum_l m(F^l, F_s^l)
        + \lambda_1 \sum_I d(I', I) + \lambda_2 \sum_I \sum_l d(F_{I'}^l, F_I^l)

    with d the squared distance, m that of moments (`swag_jax.losses.moments`), and I' the result of the image I in its
    own style, for the content and for the style.

    Args:
        output: Activations of the stylized image by layer, as `content` and `style` are of these.
        identities: The content image in its own style, and the style image in its own.

    Returns:
        The total, and the terms `content/...`, `style/...`, `identity/pixels` and `identity/...`, all float32.
    """
    o, distance = objective, FEATURES[objective.normalization]
    families = [
        Family("content", of_normalized(distance), o.content_weight, o.content_layers, output, content),
        Family("style", MOMENTS[o.normalization], o.style_weight, o.style_layers, output, style),
    ]
    for i in identities:
        found, wanted = {"pixels": i.found}, {"pixels": i.image}
        families += [
            Family("identity", distance, o.pixel_weight, ("pixels",), found, wanted, smoothed=False),
            Family("identity", distance, o.identity_weight, o.identity_layers, i.found_features, i.features),
        ]
    return evaluate_families(o.smoothing, *families)


def _loss(
    generator: Generator, encoder: Backbone, contents: Images, styles: Images, *, objective: SANetObjective, key: Key
) -> BatchLosses:
    # Content in style, content in content, style in style are painted as one batch.
    both = jnp.concatenate([contents, styles])
    seen = encode(encoder, both, layers=tuple(dict.fromkeys((*objective.layers, *generator.layers))))
    number, images = len(contents), jnp.concatenate([contents, both])
    first = {layer: jnp.concatenate([x[:number], x]) for layer, x in seen.items()}
    second = {layer: jnp.concatenate([x[number:], x]) for layer, x in seen.items()}
    found = generator(first, second, size=(contents.shape[1], contents.shape[2]), key=key)
    features = encode(encoder, found, layers=objective.layers)

    def one(image, found, first, second, features):
        """Take what is `3 ...` of one pair."""
        contents, styles, outputs = (
            [{layer: x[i] for layer, x in f.items()} for i in range(3)] for f in (first, second, features)
        )
        identities = [Identity(image[i], found[i], contents[i], outputs[i]) for i in (1, 2)]
        return evaluate(outputs[0], contents[0], styles[0], identities, objective=objective)

    thirds = jax.tree.map(lambda x: x.reshape(3, -1, *x.shape[1:]), (images, found, first, second, features))
    return jax.vmap(one, in_axes=1)(*thirds)


# Ours by those of the published decoder and transformer.
_NAMES = {
    **ADAIN_DECODER,
    **attention("sanet4_1.", "relu4_1"),
    "sanet4_1.out_conv": "relu4_1.output",
    **attention("sanet5_1.", "relu5_1"),
    "sanet5_1.out_conv": "relu5_1.output",
    "merge_conv": "merge.conv",
}

METHOD = Method(
    "sanet",
    SANetConfig,
    SANet,
    SANetObjective,
    _loss,
    recipes={
        "sanet": Recipe(
            SANetConfig(),
            SANetObjective(),
            "GlebSBrykin/SANET, train.py: weights 1, 3, 50 and 1, Adam as AdaIN's, batch 5, 160,000 steps; the paper's "
            "printed weights are not known to us",
            {"squash": True, "decay": 5e-5, "batch_size": 5},
        )
    },
    published={"sanet": Published(SANetConfig(), ("decoder", "transformer"), Layout("sanet", table(_NAMES).get))},
    read_layers=lambda objective: objective.content_layers,
)
