"""Networks that stylize in one pass: Johnson's, AdaIN, SANet and AdaAttN."""

from swag_jax.generators._layers import VGG_TAPS as VGG_TAPS
from swag_jax.generators._layers import EncoderGenerator as EncoderGenerator
from swag_jax.generators._layers import Generator as Generator
from swag_jax.generators.adaattn import AdaAttN as AdaAttN
from swag_jax.generators.adaattn import AdaAttNConfig as AdaAttNConfig
from swag_jax.generators.adain import AdaIN as AdaIN
from swag_jax.generators.adain import AdaINConfig as AdaINConfig
from swag_jax.generators.checkpoint import convert_generator as convert_generator
from swag_jax.generators.checkpoint import encoder_notes as encoder_notes
from swag_jax.generators.checkpoint import load_generator as load_generator
from swag_jax.generators.checkpoint import save_generator as save_generator
from swag_jax.generators.decoder import Decoder as Decoder
from swag_jax.generators.johnson import Johnson as Johnson
from swag_jax.generators.johnson import JohnsonConfig as JohnsonConfig
from swag_jax.generators.kinds import KINDS as KINDS
from swag_jax.generators.kinds import Config as Config
from swag_jax.generators.kinds import create as create
from swag_jax.generators.kinds import parameter_shapes as parameter_shapes
from swag_jax.generators.kinds import with_parameters as with_parameters
from swag_jax.generators.layouts import PUBLISHED as PUBLISHED
from swag_jax.generators.sanet import SANet as SANet
from swag_jax.generators.sanet import SANetConfig as SANetConfig
from swag_jax.params.tree import flat_parameters as flat_parameters
