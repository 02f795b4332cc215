"""Measures of stylized pictures: how much content they keep, and how near they come to the style."""

from swag_jax.measure.frechet import Moments as Moments
from swag_jax.measure.frechet import artfid as artfid
from swag_jax.measure.frechet import frechet_distance as frechet_distance
from swag_jax.measure.identity import identity_distance as identity_distance
from swag_jax.measure.identity import rms_difference as rms_difference
from swag_jax.measure.inception import fid_features as fid_features
from swag_jax.measure.inception import load_inception as load_inception
from swag_jax.measure.judge import CANDIDATES as CANDIDATES
from swag_jax.measure.judge import METRICS as METRICS
from swag_jax.measure.judge import Candidate as Candidate
from swag_jax.measure.judge import Comparison as Comparison
from swag_jax.measure.judge import Judge as Judge
from swag_jax.measure.judge import Metric as Metric
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
from swag_jax.measure.survey import Estimate as Estimate
from swag_jax.measure.survey import Survey as Survey
from swag_jax.measure.survey import estimate as estimate
