"""What every driver shares: the network, the images at each scale, one chunk of steps, how it fails."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from swag_jax._checks import check_name, error
from swag_jax._types import AnyHostImage, AnyImage, HostImage, Image, Key
from swag_jax.backbones import Backbone, layer_names, load
from swag_jax.backbones.zoo import padding_option
from swag_jax.images import fitted, match_color, resize, transfer_luminance
from swag_jax.losses import Objective, Targets, content_targets, evaluate, style_targets
from swag_jax.optimize.pyramid import Scale
from swag_jax.optimize.result import NonFiniteLossError
from swag_jax.optimize.settings import StylizeSettings
from swag_jax.optimize.solvers import Evaluate, History, Solver, State, run
from swag_jax.params import Source

STEPS_BETWEEN_CALLBACKS = {"cpu": 5, "gpu": 20, "tpu": 20}
"""Steps of one compiled chunk: long enough that dispatch costs nothing, short enough for a live display."""


def chunk_length(remaining: int) -> int:
    """Return the steps of the next compiled chunk, of those that remain at a scale."""
    return min(remaining, STEPS_BETWEEN_CALLBACKS.get(jax.default_backend(), 20))


def objective_with_gradient(network: Backbone, targets: Targets, objective: Objective) -> Evaluate:
    """Return image -> ((loss, terms), gradient), as solvers want it."""
    return jax.value_and_grad(lambda image: evaluate(network, image, targets, objective=objective), has_aux=True)


def make_targets(
    network: Backbone,
    content: Image,
    styles: Sequence[AnyImage],
    *,
    objective: Objective,
    blend: ArrayLike | Sequence[float] | None = None,
) -> Targets:
    """Compute everything the objective needs of the content and the style images. Pure.

    Args:
        content: The content image at the size that is optimized.
        styles: One or more style images, of any sizes.
        objective: Layers and smoothing.
        blend: A non-negative weight per style image; `None`: equal weights.

    Returns:
        The targets by layer.
    """
    weights = jnp.ones(len(styles)) if blend is None else jnp.asarray(blend, jnp.float32)
    return Targets(
        content=content_targets(network, content, objective=objective),
        style=style_targets(network, styles, objective=objective, blend=weights),
    )


def take_steps(
    network: Backbone,
    targets: Targets,
    state: State,
    *,
    objective: Objective,
    solver: Solver,
    steps: int,
) -> tuple[State, History]:
    """Take a chunk of steps, as a pure function to be jitted, vmapped or mapped over devices."""
    return run(objective_with_gradient(network, targets, objective), solver, state, steps=steps)


@dataclass(frozen=True)
class Images:
    """The images of a run at their own sizes, in host memory."""

    content: AnyHostImage
    styles: tuple[AnyHostImage, ...]
    init: AnyHostImage | None


def style_shape(
    shape: tuple[int, int], scale: Scale, *, settings: StylizeSettings, minimum_size: int
) -> tuple[int, int]:
    """Return the height and width at `scale` of a style of a shape: never too small for the deepest layer."""
    height, width = shape
    least = math.ceil(minimum_size * max(height, width) / min(height, width))
    return fitted(height, width, max(round(scale.size * settings.style_scale), least))


def initial(images: Images, scale: Scale, key: Key, *, settings: StylizeSettings) -> Image:
    """Return the image that the first scale starts from."""
    shape = (scale.height, scale.width)
    if images.init is not None:
        return jnp.asarray(resize(images.init, *shape))
    if settings.init == "content":
        return jnp.asarray(resize(images.content, *shape))
    if settings.init == "noise":
        return jax.random.uniform(key, (*shape, 3), jnp.float32)
    colors = jnp.asarray(images.styles[0]).reshape(-1, 3)
    noise = jax.random.normal(key, (*shape, 3), jnp.float32)
    return jnp.clip(colors.mean(0)[None, None] + colors.std(0)[None, None] * noise, 0, 1)


def finished(image: HostImage, content: AnyHostImage, *, settings: StylizeSettings) -> HostImage:
    """Give the image the content's colors where that is asked for."""
    if settings.colors != "luminance":
        return image
    small = resize(content, *image.shape[:2])
    return np.asarray(transfer_luminance(jnp.asarray(small), jnp.asarray(image)))


def find_failure(history: dict[str, np.ndarray], *, before: int, source: Source) -> NonFiniteLossError | None:
    """Return the error of the first step whose loss or gradient was not finite, if there is one.

    Args:
        history: The loss and every term of a chunk of steps.
        before: Steps taken before the chunk.
        source: The network's weights.
    """
    totals = history["total"]
    if np.isfinite(totals).all():
        return None
    first = int(np.flatnonzero(~np.isfinite(totals))[0])
    bad = [name for name, values in history.items() if name != "total" and not np.isfinite(values[first])]
    name = bad[0] if bad else "gradient"
    value = float(history[bad[0] if bad else "total"][first])
    return NonFiniteLossError(step=before + first + 1, term=name, value=value, source=source)


def load_network(settings: StylizeSettings) -> tuple[Backbone, Source]:
    """Return the frozen network that the settings ask for, and where its weights came from.

    Raises:
        UserError: If a name is unknown, or the weights are missing or damaged.
    """
    smoothed, read = settings.objective.smoothing.layers or (), settings.full_objective.layers
    for layer in set(smoothed) - set(read):
        # A layer that is not read may still be one of the network's, as in presets under other layers.
        check_name(layer, layer_names(settings.backbone), what="layer")
    options: dict[str, object] = {}
    if settings.backbone in ("vgg19", "vgg16"):
        options["pooling"] = "average" if settings.pooling == "auto" else settings.pooling
    elif settings.pooling != "auto":
        raise error("pooling can only be chosen for a VGG", got=settings.backbone, cure="leave it out")
    options |= padding_option(settings.backbone, settings.padding)
    return load(
        settings.backbone,
        weights=settings.weights,
        layers=settings.full_objective.layers,
        seed=settings.seed,
        precision=settings.precision,
        frozen=True,
        **options,
    )


def recolored(images: Images, settings: StylizeSettings) -> Images:
    """Give the styles the content's colors where that is asked for."""
    if settings.colors != "match":
        return images
    content = jnp.asarray(images.content)
    styles = tuple(np.asarray(match_color(jnp.asarray(s), content)) for s in images.styles)
    return Images(images.content, styles, images.init)


def listed(style: Any) -> Sequence[Any]:
    """Return one style or several as a sequence."""
    return style if isinstance(style, (list, tuple)) else [style]


def check_blend(settings: StylizeSettings, images: Images) -> None:
    """Raise unless there are styles, and a weight for each where any are given."""
    if not images.styles:
        raise error("there must be at least one style image", got=0)
    if settings.blend and len(settings.blend) != len(images.styles):
        rule = f"there must be one blend weight per style image ({len(images.styles)})"
        raise error(rule, got=len(settings.blend))
