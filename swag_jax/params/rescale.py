"""A plain stack of convolutions and ReLUs, rescaled so that its activations are divided channel by channel."""

from collections.abc import Mapping
from typing import Any, TypeVar

from swag_jax.params.tree import depth_of

ArrayT = TypeVar("ArrayT", bound=Any)

MEAN_ACTIVATION = ".mean_activation"
"""What follows a convolution's name in the key of what its activations are to be divided by, in a file of our own."""


def divided(tensors: Mapping[str, ArrayT], divisors: Mapping[str, ArrayT]) -> dict[str, ArrayT]:
    r"""Return a VGG's parameters with every convolution's activations divided by a positive number per channel.

    With :math:`m_j` the divisor of output channel j and :math:`m_i` that of input channel i (1 for colors),

    .. math:: K'_{ij} = \frac{m_i}{m_j} K_{ij}, \quad b'_j = \frac{b_j}{m_j}.

    ReLUs, pools and paddings carry positive factors through, channel by channel. Divisors are by convolution; one
    without keeps its outputs' scale.
    """
    result = dict(tensors)
    before: Any = None  # what the layer above's outputs, this one's inputs, were divided by
    for name in sorted({key.removesuffix(".kernel") for key in tensors if key.endswith(".kernel")}, key=depth_of):
        kernel, bias = f"{name}.kernel", f"{name}.bias"
        if before is not None:
            result[kernel] = result[kernel] * before[None, None, :, None]
        before = divisors.get(name)
        if before is not None:
            result[kernel] = result[kernel] / before[None, None, None]
            result[bias] = result[bias] / before
    return result
