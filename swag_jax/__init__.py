"""Neural style transfer in JAX and Flax, with SWAG's activation smoothing.

>>> import swag_jax as swag
>>> content, style = swag.sample("coffee", size=64), swag.sample("swirls", size=64)
>>> result = swag.stylize(content, style, settings=swag.presets.gatys_vgg19.replace(size=64, steps=2))
>>> result.image.shape
(48, 64, 3)
"""

from typing import TYPE_CHECKING

from swag_jax import _signals as _signals  # first: a signal may come while the others are imported

if TYPE_CHECKING:  # imported when they are first used
    from swag_jax import apply as apply
    from swag_jax import backbones as backbones
    from swag_jax import devices as devices
    from swag_jax import generators as generators
    from swag_jax import images as images
    from swag_jax import losses as losses
    from swag_jax import measure as measure
    from swag_jax import params as params
    from swag_jax import presets as presets
    from swag_jax import train as train
    from swag_jax._checks import UserError as UserError
    from swag_jax._versions import __version__ as __version__
    from swag_jax.apply import load_stylizer as load_stylizer
    from swag_jax.apply import repaint as repaint
    from swag_jax.apply import repaint_many as repaint_many
    from swag_jax.backbones import Backbone as Backbone
    from swag_jax.features import extract as extract
    from swag_jax.features import taps as taps
    from swag_jax.generators import load_generator as load_generator
    from swag_jax.generators import save_generator as save_generator
    from swag_jax.images import read_image as read_image
    from swag_jax.images import sample as sample
    from swag_jax.images import write_image as write_image
    from swag_jax.losses import Objective as Objective
    from swag_jax.losses import evaluate as evaluate
    from swag_jax.optimize import LBFGS as LBFGS
    from swag_jax.optimize import Adam as Adam
    from swag_jax.optimize import NonFiniteLossError as NonFiniteLossError
    from swag_jax.optimize import OutOfMemoryError as OutOfMemoryError
    from swag_jax.optimize import Result as Result
    from swag_jax.optimize import StylizeSettings as StylizeSettings
    from swag_jax.optimize import make_targets as make_targets
    from swag_jax.optimize import solve as solve
    from swag_jax.optimize import stylize as stylize
    from swag_jax.optimize import stylize_batch as stylize_batch
    from swag_jax.optimize import stylize_stream as stylize_stream
    from swag_jax.smoothing import Smoothing as Smoothing
    from swag_jax.smoothing import auto_temperature as auto_temperature
    from swag_jax.smoothing import smooth as smooth
    from swag_jax.statistics import gram as gram
else:
    from swag_jax._lazy import page

    __getattr__, __dir__ = page(__name__)
