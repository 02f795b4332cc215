"""Optimization whose parameter is the image."""

from swag_jax._scheduler import OutOfMemoryError as OutOfMemoryError
from swag_jax.optimize.drivers import solve as solve
from swag_jax.optimize.drivers import stylize as stylize
from swag_jax.optimize.drivers import stylize_batch as stylize_batch
from swag_jax.optimize.drivers import stylize_stream as stylize_stream
from swag_jax.optimize.engine import make_targets as make_targets
from swag_jax.optimize.lbfgs import LBFGS as LBFGS
from swag_jax.optimize.pairs import Pair as Pair
from swag_jax.optimize.result import BatchProgress as BatchProgress
from swag_jax.optimize.result import BatchResult as BatchResult
from swag_jax.optimize.result import NonFiniteLossError as NonFiniteLossError
from swag_jax.optimize.result import Outcome as Outcome
from swag_jax.optimize.result import Progress as Progress
from swag_jax.optimize.result import Result as Result
from swag_jax.optimize.settings import StylizeSettings as StylizeSettings
from swag_jax.optimize.solvers import Adam as Adam
