"""Optimization whose parameter is the picture."""

from swag_jax.optimize.lbfgs import LBFGS as LBFGS
from swag_jax.optimize.preparation import make_targets as make_targets
from swag_jax.optimize.result import NonFiniteLossError as NonFiniteLossError
from swag_jax.optimize.result import OutOfMemoryError as OutOfMemoryError
from swag_jax.optimize.result import Progress as Progress
from swag_jax.optimize.result import Result as Result
from swag_jax.optimize.settings import Settings as Settings
from swag_jax.optimize.single import solve as solve
from swag_jax.optimize.single import stylize as stylize
from swag_jax.optimize.solvers import Adam as Adam
from swag_jax.optimize.solvers import run as run
