"""Networks that stylize in one pass: Johnson's, AdaIN, SANet, AdaAttN, each with losses and recipes in one file."""

from swag_jax.generators.adaattn import AdaAttNConfig as AdaAttNConfig
from swag_jax.generators.adaattn import AdaAttNObjective as AdaAttNObjective
from swag_jax.generators.adain import AdaINConfig as AdaINConfig
from swag_jax.generators.adain import AdaINObjective as AdaINObjective
from swag_jax.generators.checkpoint import convert_generator as convert_generator
from swag_jax.generators.checkpoint import load_generator as load_generator
from swag_jax.generators.checkpoint import save_generator as save_generator
from swag_jax.generators.johnson import JohnsonConfig as JohnsonConfig
from swag_jax.generators.method import Generator as Generator
from swag_jax.generators.method import Method as Method
from swag_jax.generators.method import Recipe as Recipe
from swag_jax.generators.registry import METHODS as METHODS
from swag_jax.generators.registry import create as create
from swag_jax.generators.sanet import SANetConfig as SANetConfig
from swag_jax.generators.sanet import SANetObjective as SANetObjective
