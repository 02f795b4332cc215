"""Array types, each with its range, layout and unit stated once.

Every formula of the package is written for one image in `height width channels` order; `jax.vmap` makes the
batch. Only the networks in `swag_jax.backbones` see a leading batch axis.
"""

from collections.abc import Mapping
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray
from jaxtyping import Key as KeyArray

Image: TypeAlias = Float[Array, "height width 3"]
"""One image: sRGB values in [0, 1], red green blue."""

HostImage: TypeAlias = Float[np.ndarray, "height width 3"]
"""One image in host memory: float32 sRGB values in [0, 1], red green blue."""

AnyHostImage: TypeAlias = Float[np.ndarray, "_ _ 3"]
"""One of several images in host memory that may differ in size; otherwise as `HostImage`."""

HostAlpha: TypeAlias = Float[np.ndarray, "height width"]
"""The opacity of one image in host memory: float32 in [0, 1], 1 is opaque."""

AnyImage: TypeAlias = Float[Array, "_ _ 3"]
"""One of several images that may differ in size; otherwise as `Image`."""

Images: TypeAlias = Float[Array, "batch height width 3"]
"""A batch of images, each as `Image`; or the network's normalized input of the same shape."""

Features: TypeAlias = Float[Array, "rows columns channels"]
"""The activations of one layer for one image; rows and columns count positions, not pixels."""

StyleFeatures: TypeAlias = Float[Array, "style_rows style_columns channels"]
"""Activations of the same layer for an image of another size; otherwise as `Features`."""

AnyFeatures: TypeAlias = Float[Array, "_ _ _"]
"""One of several layers' activations, which differ in size; otherwise as `Features`."""

LayerFeatures: TypeAlias = Mapping[str, AnyFeatures]
"""Activations by layer name."""

Activations: TypeAlias = Float[Array, "batch _ _ _"]
"""What a network's layer gives for a batch: `batch rows columns channels`."""

Kernel: TypeAlias = Float[Array, "_ _ _ _"]
"""A convolution's kernel: `height width channels_in channels_out`."""

Padding: TypeAlias = tuple[tuple[int, int], tuple[int, int]]
"""Rows or columns added (above, below), (left, right)."""

Border: TypeAlias = Literal["zeros", "edge", "reflect"]
"""What lies beyond the edges of a map: zeros, its own edge again, or its reflection, which leaves the edge out."""

Gram: TypeAlias = Float[Array, "channels channels"]
"""A Gram matrix: inner products of channels over positions."""

ChannelMoments: TypeAlias = tuple[Float[Array, " channels"], Float[Array, " channels"]]
"""Mean and standard deviation of each channel over positions."""

Mask: TypeAlias = Bool[Array, "rows columns"]
"""Which positions, or pixels, belong to a region."""

Scalar: TypeAlias = Float[Array, ""]
"""A single number on the device."""

Flag: TypeAlias = Bool[Array, ""]
"""True or false on the device."""

Count: TypeAlias = Int[Array, ""]
"""A whole number on the device."""

Key: TypeAlias = PRNGKeyArray
"""A JAX random key (`jax.random.key`)."""

Keys: TypeAlias = KeyArray[Array, " pairs"]
"""Several random keys in one array (`jax.random.split`)."""
