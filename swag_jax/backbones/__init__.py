"""Convolutional networks that are read at their named activations."""

from swag_jax.backbones._layers import Compute as Compute
from swag_jax.backbones._layers import Precision as Precision
from swag_jax.backbones._network import Backbone as Backbone
from swag_jax.backbones.rescale import unit_mean as unit_mean
from swag_jax.backbones.resnet import Architecture as Architecture
from swag_jax.backbones.zoo import NAMES as NAMES
from swag_jax.backbones.zoo import create as create
from swag_jax.backbones.zoo import layer_names as layer_names
from swag_jax.backbones.zoo import load as load
