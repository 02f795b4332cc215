"""Measurements: of networks (activation statistics) and of stylized images (content kept, style reached)."""

from swag_jax.measure.activations import activation_statistics as activation_statistics
from swag_jax.measure.aggregate import Estimate as Estimate
from swag_jax.measure.aggregate import estimate as estimate
from swag_jax.measure.evaluator import METRICS as METRICS
from swag_jax.measure.evaluator import Comparison as Comparison
from swag_jax.measure.evaluator import Evaluator as Evaluator
from swag_jax.measure.frechet import artfid as artfid
from swag_jax.measure.frechet import frechet_distance as frechet_distance
from swag_jax.measure.inception import fid_features as fid_features
from swag_jax.measure.inception import load_inception as load_inception
from swag_jax.measure.network_spec import NetworkSpec as NetworkSpec
from swag_jax.measure.perceptual import load_lpips as load_lpips
from swag_jax.measure.perceptual import lpips as lpips
from swag_jax.measure.structure import cfsd as cfsd
from swag_jax.measure.structure import content_distance as content_distance
from swag_jax.measure.structure import noise as noise
from swag_jax.measure.structure import ssim as ssim
from swag_jax.measure.style import color_distance as color_distance
from swag_jax.measure.style import gram_distance as gram_distance
from swag_jax.measure.style import moment_distance as moment_distance
from swag_jax.measure.style import sliced_wasserstein as sliced_wasserstein
