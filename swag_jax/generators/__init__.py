"""Networks that stylize in one pass: Johnson's, AdaIN, SANet and AdaAttN."""

from swag_jax.generators._layers import Generator as Generator
from swag_jax.generators.adaattn import AdaAttNConfig as AdaAttNConfig
from swag_jax.generators.adain import AdaINConfig as AdaINConfig
from swag_jax.generators.checkpoint import convert_generator as convert_generator
from swag_jax.generators.checkpoint import load_generator as load_generator
from swag_jax.generators.checkpoint import save_generator as save_generator
from swag_jax.generators.johnson import JohnsonConfig as JohnsonConfig
from swag_jax.generators.kinds import create as create
from swag_jax.generators.sanet import SANetConfig as SANetConfig
from swag_jax.params.tree import flat_parameters as flat_parameters
