"""Array types, each with its range, layout and unit stated once.

Every formula of the package takes one image, `height width channels`; `jax.vmap` makes the batch. Only the networks
in `swag_jax.backbones` see a leading batch axis.
"""

from collections.abc import Mapping
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray
from jaxtyping import Key as KeyArray

Image: TypeAlias = Float[Array, "height width 3"]
"""One image: sRGB values in [0, 1], red green blue."""

HostImage: TypeAlias = Float[np.ndarray, "height width 3"]
"""An `Image` in host memory: float32."""

AnyHostImage: TypeAlias = Float[np.ndarray, "_ _ 3"]
"""One of several `HostImage`s, which may differ in size."""

HostAlpha: TypeAlias = Float[np.ndarray, "height width"]
"""The opacity of one image in host memory: float32 in [0, 1], 1 is opaque."""

AnyImage: TypeAlias = Float[Array, "_ _ 3"]
"""One of several `Image`s, which may differ in size."""

Images: TypeAlias = Float[Array, "batch height width 3"]
"""A batch of images, each as `Image`; or the network's normalized input of the same shape."""

Features: TypeAlias = Float[Array, "rows columns channels"]
"""The activations of one layer for one image; rows and columns count positions, not pixels."""

StyleFeatures: TypeAlias = Float[Array, "style_rows style_columns channels"]
"""`Features` of the same layer for an image of another size."""

AnyFeatures: TypeAlias = Float[Array, "_ _ _"]
"""`Features` of one of several layers, which differ in size."""

LayerFeatures: TypeAlias = Mapping[str, AnyFeatures]
"""Activations by layer name."""

Activations: TypeAlias = Float[Array, "batch _ _ _"]
"""A layer's output for a batch: `batch rows columns channels`."""

Kernel: TypeAlias = Float[Array, "_ _ _ _"]
"""A convolution's kernel: `height width channels_in channels_out`."""

Padding: TypeAlias = tuple[tuple[int, int], tuple[int, int]]
"""Rows or columns added (above, below), (left, right)."""

Border: TypeAlias = Literal["zeros", "edge", "reflect"]
"""What surrounds a map: zeros, its edge again, or its reflection, which leaves the edge out."""

Gram: TypeAlias = Float[Array, "channels channels"]
"""A Gram matrix: inner products of channels over positions."""

ChannelMoments: TypeAlias = tuple[Float[Array, " channels"], Float[Array, " channels"]]
"""Mean and standard deviation of each channel over positions."""

Mask: TypeAlias = Bool[Array, "rows columns"]
"""Which positions, or pixels, belong to a region."""

AnyMask: TypeAlias = Float[Array, "_ _"]
"""How much each pixel, or position, of one of several images counts: in [0, 1]."""

AnyHostMask: TypeAlias = Float[np.ndarray, "_ _"]
"""An `AnyMask` in host memory: float32."""

Masks: TypeAlias = Float[Array, "styles height width"]
"""How much each style counts at each pixel of the content, in [0, 1]."""

Scalar: TypeAlias = Float[Array, ""]

Flag: TypeAlias = Bool[Array, ""]

Count: TypeAlias = Int[Array, ""]
"""A whole number on the device."""

Key: TypeAlias = PRNGKeyArray
"""A JAX random key (`jax.random.key`)."""

Keys: TypeAlias = KeyArray[Array, " pairs"]
"""Several random keys in one array (`jax.random.split`)."""
