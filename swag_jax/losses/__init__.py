"""Losses of one image: content, style, total variation, what weighs them, and what generators are trained by."""

from swag_jax.losses import adaattn as adaattn
from swag_jax.losses import adain as adain
from swag_jax.losses import sanet as sanet
from swag_jax.losses.adaattn import AdaAttNObjective as AdaAttNObjective
from swag_jax.losses.adain import AdaINObjective as AdaINObjective
from swag_jax.losses.objective import Objective as Objective
from swag_jax.losses.objective import Targets as Targets
from swag_jax.losses.objective import content_targets as content_targets
from swag_jax.losses.objective import evaluate as evaluate
from swag_jax.losses.objective import style_targets as style_targets
from swag_jax.losses.sanet import SANetObjective as SANetObjective
from swag_jax.losses.variation import total_variation as total_variation
