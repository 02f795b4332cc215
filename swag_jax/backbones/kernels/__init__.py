"""Convolution and pooling, in the form that is fastest for the device, type and shape at hand."""

from swag_jax.backbones.kernels._choice import KERNELS as KERNELS
from swag_jax.backbones.kernels._choice import NO_PADDING as NO_PADDING
from swag_jax.backbones.kernels._choice import Kernels as Kernels
from swag_jax.backbones.kernels._choice import Prepared as Prepared
from swag_jax.backbones.kernels._choice import convolve as convolve
from swag_jax.backbones.kernels._choice import prepare as prepare
from swag_jax.backbones.kernels._pool import average_pool as average_pool
from swag_jax.backbones.kernels._pool import max_pool as max_pool
