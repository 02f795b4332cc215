"""Training of generators: the generator is the parameter."""

from swag_jax.train.loop import Cadence as Cadence
from swag_jax.train.loop import NonFiniteStepError as NonFiniteStepError
from swag_jax.train.loop import TrainProgress as TrainProgress
from swag_jax.train.loop import TrainResult as TrainResult
from swag_jax.train.loop import train_generator as train_generator
from swag_jax.train.settings import TrainSettings as TrainSettings
from swag_jax.train.settings import recipe as recipe
