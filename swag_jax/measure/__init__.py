"""Measures of stylized pictures: how much content they keep, and how near they come to the style."""

from swag_jax.measure.frechet import Moments as Moments
from swag_jax.measure.frechet import artfid as artfid
from swag_jax.measure.frechet import frechet_distance as frechet_distance
from swag_jax.measure.identity import identity_distance as identity_distance
from swag_jax.measure.identity import rms_difference as rms_difference
from swag_jax.measure.perceptual import LPIPS as LPIPS
from swag_jax.measure.perceptual import load_lpips as load_lpips
from swag_jax.measure.perceptual import lpips as lpips
from swag_jax.measure.structure import cfsd as cfsd
from swag_jax.measure.structure import content_distance as content_distance
from swag_jax.measure.structure import ssim as ssim
from swag_jax.measure.style import color_distance as color_distance
from swag_jax.measure.style import gram_distance as gram_distance
from swag_jax.measure.style import moment_distance as moment_distance
from swag_jax.measure.style import sliced_wasserstein as sliced_wasserstein
