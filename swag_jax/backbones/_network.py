"""What every network offers: named activations up to the deepest one asked for, and nothing deeper."""

import abc
from collections.abc import Iterable
from typing import Any

from flax import nnx

from swag_jax._checks import check_name, error
from swag_jax._types import Activations, Images
from swag_jax.backbones._layers import Compute, Convolution


class Backbone(nnx.Module):
    """A convolutional network read at its named activations.

    It is a pytree: pass it to `jax.jit` as an argument. Constants, as in a closure, compile ten times slower.

    Attributes:
        layers: The names of all activations it holds, shallow to deep: down to `until`, the deepest that is built.
        strides: The spacing in image pixels between neighboring positions of each activation.
        normalization: How images in [0, 1] become its input, see `swag_jax.images.normalize`.
        compute: Precision and kernels.
    """

    layers: tuple[str, ...]
    strides: tuple[int, ...]
    normalization: str
    compute: Compute

    def __init__(
        self,
        layers: tuple[str, ...],
        strides: Iterable[int],
        *,
        until: str | None = None,
        normalization: str = "imagenet",
        compute: Compute | None = None,
    ):
        self.layers = cut(layers, until)
        self.strides = tuple(strides)[: len(self.layers)]
        self.normalization, self.compute = normalization, compute or Compute()

    def __call__(self, images: Images, *, until: str | None = None) -> dict[str, Activations]:
        """Return every named activation of normalized images, shallow to deep, up to `until`; by default, all."""
        x: Any = images.astype(self.compute.dtype)
        activations = {}
        for name in cut(self.layers, until):
            x = self._apply(name, x)
            activations[name] = self._read(x)
        return activations

    @abc.abstractmethod
    def _apply(self, name: str, x: Any) -> Any:
        """Return what layer `name` passes on, from what it is given: activations, with what later layers need."""

    def _read(self, x: Any) -> Activations:
        return x

    def frozen(self) -> "Backbone":
        """Return an equal network for parameters that will not change.

        Batch norms are folded into the convolutions, and kernels are prepared, once instead of at every step. Pure:
        works under `jax.jit`.
        """
        return _frozen(self, self.compute)

    def check_layers(self, layers: Iterable[str]) -> tuple[str, ...]:
        """Return `layers` in the network's order; raise with near names if one is unknown, or none is given."""
        asked = set(layers)
        if not asked:
            raise error("at least one layer must be given", cure=f"choose among {', '.join(self.layers)}")
        for layer in asked:
            check_name(layer, self.layers, what="layer")
        return tuple(layer for layer in self.layers if layer in asked)

    def deepest(self, layers: Iterable[str]) -> str:
        """Return the deepest of `layers`."""
        return self.check_layers(layers)[-1]

    def minimum_size(self, layers: Iterable[str]) -> int:
        """Return the smallest image side, in pixels, that gives the deepest of `layers` a whole position."""
        return self.strides[self.layers.index(self.deepest(layers))]


def _frozen(module: Any, compute: Compute) -> Any:
    # The copy shares the arrays, but not the modules that are exchanged in it.
    copy = nnx.merge(*nnx.split(module))
    for name, child in vars(module).items():
        if isinstance(child, Convolution):
            setattr(copy, name, child.frozen(compute))
        elif isinstance(child, nnx.Module):
            setattr(copy, name, _frozen(child, compute))
    return copy


def cut(layers: tuple[str, ...], until: str | None) -> tuple[str, ...]:
    if until is None:
        return layers
    return layers[: layers.index(check_name(until, layers, what="layer")) + 1]
