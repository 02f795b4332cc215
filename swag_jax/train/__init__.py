"""Training of generators: the generator is the parameter."""

from swag_jax.train.data import SkippedFiles as SkippedFiles
from swag_jax.train.data import batches as batches
from swag_jax.train.loop import Cadence as Cadence
from swag_jax.train.loop import NonFiniteStepError as NonFiniteStepError
from swag_jax.train.loop import TrainProgress as TrainProgress
from swag_jax.train.loop import TrainResult as TrainResult
from swag_jax.train.loop import train_generator as train_generator
from swag_jax.train.settings import TrainSettings as TrainSettings
from swag_jax.train.settings import recipe as recipe
from swag_jax.train.state import initial_state as initial_state
from swag_jax.train.state import load_encoder as load_encoder
from swag_jax.train.step import make_step as make_step
