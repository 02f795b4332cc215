"""Trained generators at work: one image or many, of any size, in several styles, by regions, in tiles."""

from swag_jax.apply.artifact import Artifact as Artifact
from swag_jax.apply.artifact import load_artifact as load_artifact
from swag_jax.apply.artifact import save_artifact as save_artifact
from swag_jax.apply.drivers import Content as Content
from swag_jax.apply.drivers import Outcome as Outcome
from swag_jax.apply.drivers import Style as Style
from swag_jax.apply.drivers import repaint as repaint
from swag_jax.apply.drivers import repaint_many as repaint_many
from swag_jax.apply.settings import ApplySettings as ApplySettings
from swag_jax.apply.stylizer import Stylizer as Stylizer
from swag_jax.apply.stylizer import load_stylizer as load_stylizer
from swag_jax.apply.video import VideoProgress as VideoProgress
from swag_jax.apply.video import VideoResult as VideoResult
from swag_jax.apply.video import repaint_video as repaint_video
