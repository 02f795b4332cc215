r"""Attention of content positions over style positions: means and deviations without the full matrix.

With queries q of the content and keys k and values v of the style,

.. math:: A_{ij} = \frac{\exp(q_i \cdot k_j)}{\sum_l \exp(q_i \cdot k_l)}, \quad
    M = A V, \quad S = \sqrt{\max(A V^2 - M^2, 0)}

(AdaAttN's equations; SANet uses M alone). Logits are not scaled, so they are large: everything is computed in
float32 at full precision. At 512 pixels and relu3_1, A has 16,384 x 16,384 entries, a gigabyte. Only `chunk` rows of
it exist at a time, in the gradient too, so that memory grows with the number of positions and not with its square.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from swag_jax._checks import check_name, check_range, error
from swag_jax._numerics import root, widen
from swag_jax._pytree import pytree_dataclass
from swag_jax._types import AnyFeatures, ChannelMoments, Features, Key, LayerFeatures, Mask, StyleFeatures
from swag_jax.images.resize import nearest
from swag_jax.statistics import instance_norm

Similarity: TypeAlias = Literal["softmax", "cosine"]

SIMILARITIES: tuple[Similarity, ...] = ("softmax", "cosine")

Masks: TypeAlias = tuple[Mask, Bool[Array, "style_rows style_columns"]]
"""A region of the content and one of the style. Positions inside the first attend only to the second; all others attend
to everything. A style region without any position restricts nothing."""

Queries: TypeAlias = Float[Array, "queries width"]
Keys: TypeAlias = Float[Array, "keys width"]
Values: TypeAlias = Float[Array, "keys channels"]
Means: TypeAlias = Float[Array, "queries channels"]
Allowed: TypeAlias = tuple[Bool[Array, " queries"], Bool[Array, " keys"]]

CHUNK = 256
"""Rows of A at a time: of the fastest sizes, the smallest (`benchmarks/speed_attention.py`)."""

_BLOCKED = -1e15  # the logit of positions that are not attended to: `user_specify_demo.py` of Huage001/AdaAttN

# Added to norms and to the sum of weights: `AttnAdaINCos` in `inference_frame.py` of Huage001/AdaAttN.
_COSINE_EPSILON = 1e-5


def weighted_mean(
    queries: Queries,
    keys: Keys,
    values: Values,
    *,
    similarity: Similarity = "softmax",
    allowed: Allowed | None = None,
    chunk: int = CHUNK,
) -> Means:
    r"""Return :math:`M_i = \sum_j A_{ij} v_j` in float32, one row per query.

    `softmax` weighs by the softmax of :math:`q_i \cdot k_j`; `cosine`, AdaAttN's video variant, by
    :math:`\max(\cos(q_i, k_j) + 1, 0)`. A cosine is at least -1, so the maximum never acts and the sum over j is
    linear in :math:`q_i`: it is computed once for all queries, and no row of A is ever made.

    Args:
        allowed: The queries inside the content's region and the keys inside the style's, see `Masks`.
        chunk: Queries at a time; `cosine` ignores it.

    Example:
        >>> weighted_mean(jnp.zeros((1, 2)), jnp.ones((2, 2)), jnp.array([[1.0], [3.0]])).tolist()
        [[2.0]]
    """
    check_name(similarity, SIMILARITIES, what="similarity")
    check_range(chunk, what="chunk", low=1)
    queries, keys, values = widen(queries), widen(keys), widen(values)
    if allowed is not None:
        inside, attended = allowed
        allowed = inside, attended | ~attended.any()  # an empty region restricts nothing
    if similarity == "cosine":
        return _cosine_mean(queries, keys, values, allowed)
    return _softmax_mean(queries, keys, values, allowed, chunk)


def weighted_moments(
    queries: Queries,
    keys: Keys,
    values: Values,
    *,
    similarity: Similarity = "softmax",
    allowed: Allowed | None = None,
    chunk: int = CHUNK,
) -> tuple[Means, Means]:
    r"""Return the attention-weighted mean :math:`M = A V` and deviation :math:`S = \sqrt{\max(A V^2 - M^2, 0)}`.

    Both are float32, one row per query. The deviation has gradient 0 where it is 0, as in PyTorch.

    Example:
        >>> mean, deviation = weighted_moments(jnp.zeros((1, 2)), jnp.ones((2, 2)), jnp.array([[1.0], [3.0]]))
        >>> mean.tolist(), deviation.tolist()
        ([[2.0]], [[1.0]])
    """
    values = widen(values)
    # One pass of attention gives the means of values and squares.
    both = jnp.concatenate([values, values**2], 1)
    means = weighted_mean(queries, keys, both, similarity=similarity, allowed=allowed, chunk=chunk)
    mean, square = jnp.split(means, 2, axis=1)
    return mean, root(square - mean**2)


def adaattn(
    content: Features,
    queries: Float[Array, "rows columns width"],
    keys: Float[Array, "style_rows style_columns width"],
    values: StyleFeatures,
    *,
    key: Key | None = None,
    samples: int | None = None,
    similarity: Similarity = "softmax",
    masks: Masks | None = None,
    chunk: int = CHUNK,
) -> Features:
    r"""Return :math:`S \circ \mathrm{Norm}(F_c) + M`: the content's features with statistics of the style by position.

    Both the generator's layer and the local feature loss of AdaAttN are this function; the loss has no convolutions
    before queries, keys and values.

    Args:
        content: :math:`F_c`, `height width channels`; queries have as many positions.
        keys: Of the style image, of any size, as wide as the queries.
        values: With the positions of the keys and the channels of `content`.
        key: Draws the style positions that are kept; required if there are more than `samples`.
        samples: The most style positions to attend to; others are left out at random. `None` keeps all.
        masks: Regions of content and style, at the sizes of `content` and `keys`.
    """
    inside, region = masks or (None, None)
    kept = keep(keys, values, key=key, samples=samples, region=region)
    return restyle(content, queries, kept, similarity=similarity, region=inside, chunk=chunk)


@pytree_dataclass
@dataclass(frozen=True)
class StyleKeys:
    """Keys and values of a style image, one row per position; `allowed` are those inside the style's region, if any."""

    keys: Keys
    values: Values
    allowed: Bool[Array, " keys"] | None


def keep(
    keys: Float[Array, "style_rows style_columns width"],
    values: StyleFeatures,
    *,
    key: Key | None = None,
    samples: int | None = None,
    region: Bool[Array, "style_rows style_columns"] | None = None,
) -> StyleKeys:
    """Return the style's positions inside `region`, at most `samples` of them, drawn by `key`; see `adaattn`."""
    found = StyleKeys(_flat(keys), _flat(values), None if region is None else region.ravel())
    if samples is None or len(found.keys) <= samples:
        return found
    if key is None:
        rule = f"a key must be given if the style has more than {samples} positions to attend to"
        raise error(
            rule, got=f"none for {len(found.keys)}", cure="pass key=jax.random.key(0), or a smaller style image"
        )
    chosen = jax.random.permutation(key, len(found.keys))[:samples]
    return jax.tree.map(lambda x: x[chosen], found)


def restyle(
    content: Features,
    queries: Float[Array, "rows columns width"],
    kept: StyleKeys,
    *,
    similarity: Similarity = "softmax",
    region: Mask | None = None,
    known: ChannelMoments | None = None,
    chunk: int = CHUNK,
) -> Features:
    """Return what `adaattn` returns, for a style already read by `keep`.

    Only inside `region` of the content the style's region is attended to; `known` are the content's moments.
    """
    flat, allowed = _flat(queries), None
    if kept.allowed is not None:
        allowed = jnp.ones(len(flat), bool) if region is None else region.ravel(), kept.allowed
    mean, deviation = weighted_moments(
        flat, kept.keys, kept.values, similarity=similarity, allowed=allowed, chunk=chunk
    )
    return deviation.reshape(content.shape) * instance_norm(content, known=known) + mean.reshape(content.shape)


def key_features(
    features: LayerFeatures, *, layers: tuple[str, ...], known: Mapping[str, ChannelMoments] | None = None
) -> AnyFeatures:
    r"""Return the features by which AdaAttN compares positions: normalized layers, at the size of the deepest.

    .. math:: \mathrm{Norm}(D(F^1)) \oplus \dots \oplus \mathrm{Norm}(D(F^{x-1})) \oplus \mathrm{Norm}(F^x)

    D picks the nearest sample, as the released code does; the paper resizes bilinearly. Layers go from shallow to deep,
    the last one being :math:`F^x`; `known` are their moments at that size.
    """
    sampled = at_deepest(features, layers=layers)
    return jnp.concatenate(
        [instance_norm(x, known=None if known is None else known[n]) for n, x in sampled.items()], -1
    )


def at_deepest(features: LayerFeatures, *, layers: tuple[str, ...]) -> dict[str, AnyFeatures]:
    """Return the layers at the size of the last of them, by the nearest sample."""
    rows, columns, _ = features[layers[-1]].shape
    return {layer: nearest(features[layer], rows, columns) for layer in layers}


def _flat(features: AnyFeatures) -> Float[Array, "positions channels"]:
    return features.reshape(-1, features.shape[-1])


# --- Softmax


def _multiply(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


@functools.partial(jax.custom_jvp, nondiff_argnums=(4,))
def _softmax_mean(queries, keys, values, allowed, chunk) -> Means:
    return _softmax(queries, keys, values, allowed, chunk)[0]


def _softmax(queries, keys, values, allowed, chunk) -> tuple[Means, Float[Array, " positions"]]:
    """Return the means, and the logarithms of the sums of exp(logits) over each row."""
    inside, attended = allowed or (None, None)

    def rows(part):
        queries, inside = part
        logits = _logits(queries, inside, keys, attended)
        top = logits.max(1, keepdims=True)  # subtracted, so that exp does not overflow
        weights = jnp.exp(logits - top)
        total = weights.sum(1, keepdims=True)
        return _multiply(weights, values) / total, (top + jnp.log(total))[:, 0]

    return _by_chunks(rows, (queries, inside), chunk)


@_softmax_mean.defjvp
def _softmax_tangent(chunk, primals, tangents):
    """With the logits L = Q K^T: M' = A V' + (A o L') V - (A . L') M, where A . L' is the sum over each row.

    Its adjoint at V is A^T G, and at the logits A o (G V^T - (G . M)). A is computed chunk by chunk from its rows'
    totals, and again for the adjoint, so that no chunk of it is kept.
    """
    queries, keys, values, allowed = primals
    of_queries, of_keys, of_values, _ = tangents
    inside, attended = allowed or (None, None)
    means, log_totals = _softmax(queries, keys, values, allowed, chunk)

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def rows(part):
        queries, inside, of_queries, means, log_totals = part
        weights = jnp.exp(_logits(queries, inside, keys, attended) - log_totals[:, None])
        slopes = weights * (_multiply(of_queries, keys.T) + _multiply(queries, of_keys.T))
        return _multiply(slopes, values) - slopes.sum(1, keepdims=True) * means + _multiply(weights, of_values)

    return means, _by_chunks(rows, (queries, inside, of_queries, means, log_totals), chunk)


def _logits(queries, inside, keys, attended) -> Float[Array, "rows keys"]:
    logits = _multiply(queries, keys.T)
    return logits if inside is None else jnp.where(inside[:, None] & ~attended[None], _BLOCKED, logits)


def _by_chunks(function, parts, chunk: int):
    """Map a function over the leading axis of all parts, `chunk` rows at a time; the last is padded with zeros."""
    count = parts[0].shape[0]
    chunk = min(chunk, count)
    filled = -(-count // chunk) * chunk

    def split(x):
        edges = [(0, filled - count), *[(0, 0)] * (x.ndim - 1)]
        return jnp.pad(x, edges).reshape(-1, chunk, *x.shape[1:])

    rows = lax.map(function, jax.tree.map(split, parts))  # one chunk after another: no more memory than for one
    return jax.tree.map(lambda x: x.reshape(filled, *x.shape[2:])[:count], rows)


# --- Cosine


def _cosine_mean(queries: Queries, keys: Keys, values: Values, allowed: Allowed | None) -> Means:
    # Sum (1 + q . k) (v, 1) over the keys, then divide: with unit vectors, all queries share two sums over keys.
    queries, keys = _unit(queries), _unit(keys)
    counted = jnp.concatenate([values, jnp.ones_like(values[:, :1])], 1)  # the last column sums the weights

    def sums(counted):
        return counted.sum(0)[None] + _multiply(queries, _multiply(keys.T, counted))

    found = sums(counted)
    if allowed is not None:
        inside, attended = allowed
        found = jnp.where(inside[:, None], sums(jnp.where(attended[:, None], counted, 0.0)), found)
    return found[:, :-1] / (found[:, -1:] + _COSINE_EPSILON)


def _unit(vectors: Float[Array, "positions width"]) -> Float[Array, "positions width"]:
    return vectors / (root((vectors**2).sum(1, keepdims=True)) + _COSINE_EPSILON)
