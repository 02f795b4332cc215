"""Weights: known checkpoints, the local store, and conversion of foreign files into our names and layout."""

from swag_jax.params.convert import convert as convert
from swag_jax.params.fetch import fetch as fetch
from swag_jax.params.manifest import checkpoints as checkpoints
from swag_jax.params.resolve import Source as Source
from swag_jax.params.resolve import resolve as resolve
