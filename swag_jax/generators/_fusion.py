"""How SANet and AdaAttN fuse two layers."""

from flax import nnx

from swag_jax._types import Activations
from swag_jax.backbones import Compute
from swag_jax.features import LayerSpec
from swag_jax.generators._layers import Conv, enlarge


class Fusion(nnx.Module):
    """A 3x3 convolution of the sum of a shallow layer and the enlarged deep one, without activation."""

    def __init__(self, shallow: LayerSpec, deep: LayerSpec, *, deviation: float | None = None, rngs: nnx.Rngs):
        self.ratio = deep.stride // shallow.stride
        self.conv = Conv(shallow.channels, shallow.channels, deviation=deviation, rngs=rngs)
        # If the two differ in channels, as ResNets' do, a 1x1 convolution fits the deep one first: our generalization
        # of VGG19's layers, which do not. So is any ratio of strides but 2.
        self.fits = deep.channels == shallow.channels
        if not self.fits:
            self.project = Conv(deep.channels, shallow.channels, size=1, deviation=deviation, rngs=rngs)

    def __call__(self, shallow: Activations, deep: Activations, compute: Compute) -> Activations:
        if not self.fits:
            deep = self.project(deep, compute)
        deep = enlarge(deep, self.ratio, rows=shallow.shape[1], columns=shallow.shape[2])
        return self.conv(shallow + deep, compute)
