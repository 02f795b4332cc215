"""Measurements: the activation statistics of the SWAG paper."""

from swag_jax.measure.activations import ActivationStatistics as ActivationStatistics
from swag_jax.measure.activations import MeasuredPicture as MeasuredPicture
from swag_jax.measure.activations import NetworkStatistics as NetworkStatistics
from swag_jax.measure.activations import StatisticsProgress as StatisticsProgress
from swag_jax.measure.activations import Subject as Subject
from swag_jax.measure.activations import activation_statistics as activation_statistics
from swag_jax.measure.activations import layer_statistics as layer_statistics
