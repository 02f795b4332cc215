"""Convolutional networks that are read at their named activations."""

from swag_jax.backbones._layers import KERNELS as KERNELS
from swag_jax.backbones._layers import PRECISIONS as PRECISIONS
from swag_jax.backbones._layers import Kernels as Kernels
from swag_jax.backbones._layers import Norms as Norms
from swag_jax.backbones._layers import Operations as Operations
from swag_jax.backbones._layers import Precision as Precision
from swag_jax.backbones._network import Backbone as Backbone
from swag_jax.backbones.alexnet import AlexNet as AlexNet
from swag_jax.backbones.rescale import unit_mean as unit_mean
from swag_jax.backbones.resnet import Architecture as Architecture
from swag_jax.backbones.resnet import ResNet as ResNet
from swag_jax.backbones.vgg import PADDINGS as PADDINGS
from swag_jax.backbones.vgg import POOLINGS as POOLINGS
from swag_jax.backbones.vgg import VGG16 as VGG16
from swag_jax.backbones.vgg import VGG19 as VGG19
from swag_jax.backbones.zoo import NAMES as NAMES
from swag_jax.backbones.zoo import Entry as Entry
from swag_jax.backbones.zoo import create as create
from swag_jax.backbones.zoo import entry as entry
from swag_jax.backbones.zoo import flat_parameters as flat_parameters
from swag_jax.backbones.zoo import layer_names as layer_names
from swag_jax.backbones.zoo import load as load
from swag_jax.backbones.zoo import parameter_shapes as parameter_shapes
from swag_jax.backbones.zoo import reached_layers as reached_layers
from swag_jax.backbones.zoo import with_parameters as with_parameters
