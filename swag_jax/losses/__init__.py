"""Losses of one image: content, style, total variation, and what weighs them."""

from swag_jax.losses.objective import Objective as Objective
from swag_jax.losses.objective import Regions as Regions
from swag_jax.losses.objective import Targets as Targets
from swag_jax.losses.objective import content_targets as content_targets
from swag_jax.losses.objective import evaluate as evaluate
from swag_jax.losses.objective import style_targets as style_targets
from swag_jax.losses.variation import total_variation as total_variation
