"""Pairs made ready: networks loaded, images read and resized to every scale; what they share is made once."""

import hashlib
import math
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from swag_jax import params
from swag_jax._checks import check_name, error
from swag_jax._programs import Latest
from swag_jax._types import AnyHostImage, AnyHostMask, Key
from swag_jax.backbones import Backbone, layer_names, load
from swag_jax.backbones.zoo import padding_option
from swag_jax.images import fitted, match_color, resize
from swag_jax.images._arrays import ImageSource, MaskSource, as_mask, called, host_image
from swag_jax.losses import Objective
from swag_jax.optimize.pyramid import Scale, plan
from swag_jax.optimize.settings import StylizeSettings
from swag_jax.optimize.solvers import Solver

REMEMBERED = 2**30
"""Bytes of images, and of networks, that are kept for the next pair that asks for them."""


@dataclass(frozen=True, eq=False)
class Pair:
    """One image to be made.

    Attributes:
        content: `height width 3` in [0, 1], or a function without arguments that reads it.
        styles: The style image, or several to be mixed, each as `content`.
        key: Randomness of the initial noise; default: from `settings.seed`.
        init: The image to start from, as `content`; default: what `settings.init` says.
        content_masks: Where each style goes: how much it counts at each pixel of the content, `height width` in [0, 1],
            or functions that read it. One for each style; empty: the styles are mixed everywhere.
        style_masks: The part of each style to use, likewise; empty: all of it.
    """

    content: ImageSource
    styles: ImageSource | list[ImageSource] | tuple[ImageSource, ...]
    settings: StylizeSettings
    key: Key | None = None
    name: str = ""
    init: ImageSource | None = None
    content_masks: Sequence[MaskSource] = ()
    style_masks: Sequence[MaskSource] = ()


class Loaded(NamedTuple):
    """A frozen network."""

    network: Backbone
    source: params.Source
    structure: Hashable  # what its programs depend on: not on the seed of random weights
    key: Hashable  # what its weights depend on


@dataclass(frozen=True, eq=False)
class Problem:
    """What pairs of one batch have in common; their styles may differ in size."""

    loaded: Loaded
    objective: Objective
    solver: Solver
    scales: tuple[Scale, ...]  # coarse to fine
    regions: int = 0  # of the image, each with a style; 0: the styles are mixed everywhere

    @property
    def key(self) -> Hashable:
        """What tells it from other problems."""
        return self.loaded.key, self.objective, self.solver, self.scales, self.regions

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Height and width of each scale."""
        return tuple((scale.height, scale.width) for scale in self.scales)

    @property
    def work(self) -> int:
        """Pixels times steps of all scales, to which the time is about proportional."""
        return sum(scale.work for scale in self.scales)


@dataclass(frozen=True, eq=False)
class PreparedPair:
    """A pair made ready."""

    problem: Problem
    settings: StylizeSettings
    shape: tuple[int, int]  # of the result; those of the finest scale, unless shapes are snapped
    contents: Sequence[AnyHostImage]  # at each scale
    styles: Sequence[tuple[AnyHostImage, ...]]  # at each scale
    regions: tuple[tuple[AnyHostMask, ...], ...]  # where each style goes, at each scale
    style_masks: tuple[tuple[AnyHostMask, ...], ...]  # what counts of each style, at each scale
    start: Callable[[], AnyHostImage]  # makes the image of the first scale
    content_key: Hashable  # what tells its content image from others
    style_key: Hashable  # what tells its style images from others
    seconds: float  # that this took, including waiting for images that other pairs read


class Reader:
    """Makes pairs ready, in any thread. Images and networks that several pairs share are read once.

    Args:
        lazy: Whether arrays are not copied, and images are resized when they are needed, and not kept: for one pair of
            images so large that memory counts.
    """

    def __init__(self, *, max_shapes: int | None = None, lazy: bool = False):
        self.lazy = lazy
        self.max_shapes = max_shapes  # see `snapped`; `None`: any number
        self._images: Latest[AnyHostImage] = Latest(capacity=REMEMBERED)
        self._networks: Latest[Any] = Latest(capacity=REMEMBERED)

    def load(self, settings: StylizeSettings) -> Loaded:
        """Return the network that the settings ask for."""
        s, objective = settings, settings.full_objective
        source = self._networks.get((s.backbone, s.weights), lambda: params.resolve(s.backbone, weights=s.weights))
        structure = (s.backbone, s.weights, s.pooling, s.padding, s.precision, objective.layers)
        # A smoothing's layers are checked with the network, so that they belong to what is remembered.
        key = (*structure, objective.smoothing.layers, s.seed if source.kind == "random" else 0)
        return self._networks.get(key, lambda: Loaded(*_load(s), structure, key))

    def prepare(self, pair: Pair, *, check: Callable[[Problem], object] | None = None) -> PreparedPair:
        """Make one pair ready. `check` is called before images are resized, which takes long at large sizes."""
        began = time.perf_counter()
        settings, readers = pair.settings, listed(pair.styles)
        content = self._image(pair.content, "content")
        styles = [self._image(style, "style") for style in readers]
        init = None if pair.init is None else self._image(pair.init, "init")
        regions, style_masks = self._masks(pair.content_masks, "content"), self._masks(pair.style_masks, "style")
        _check_numbers(pair, len(styles))
        loaded, objective = self.load(settings), settings.full_objective
        minimum = loaded.network.minimum_size(objective.layers)
        scales = plan(self._working(content), settings, minimum_size=minimum)
        problem = Problem(loaded, objective, settings.method, scales, len(regions))
        if check is not None:
            paused = time.perf_counter()
            check(problem)
            began += time.perf_counter() - paused

        content_key, style_keys = identity(pair.content), tuple(identity(style) for style in readers)
        style_key = (style_keys, tuple(map(identity, pair.style_masks)))
        if settings.colors == "match":
            reference, style_key = jnp.asarray(content), (*style_key, content_key)
            styles = [np.asarray(match_color(jnp.asarray(style), reference)) for style in styles]
        shapes = [self._style_shapes(style, scales, each, minimum) for style, each in _scaled(styles, settings)]
        at_scales = range(len(scales))
        return PreparedPair(
            problem=problem,
            settings=settings,
            shape=fitted(content.shape[0], content.shape[1], settings.size),
            contents=self._each(lambda shape: self._resized(content, content_key, shape), problem.shapes),
            styles=self._each(
                lambda at: tuple(self._resized(x, (style_key, i), shapes[i][at]) for i, x in enumerate(styles)),
                at_scales,
            ),
            regions=tuple(tuple(resize(mask, *shape) for mask in regions) for shape in problem.shapes),
            style_masks=tuple(tuple(resize(x, *shapes[i][at]) for i, x in enumerate(style_masks)) for at in at_scales),
            start=self._once(lambda: _start(pair, content, styles[0], init, problem.shapes[0])),
            content_key=content_key,
            style_key=style_key,
            seconds=time.perf_counter() - began,
        )

    def _style_shapes(
        self, style: AnyHostImage, scales: Sequence[Scale], style_scale: float, minimum: int
    ) -> list[tuple[int, int]]:
        """Return a style's height and width at each scale."""
        height, width = self._working(style)
        least = math.ceil(minimum * max(height, width) / min(height, width))  # for the deepest layer
        return [fitted(height, width, max(round(scale.size * style_scale), least)) for scale in scales]

    def _working(self, image: AnyHostImage) -> tuple[int, int]:
        """Return the height and width whose aspect ratio an image is worked at."""
        height, width = image.shape[:2]
        return (height, width) if self.max_shapes is None else snapped(height, width, number=self.max_shapes)

    def _image(self, image: ImageSource, what: str) -> AnyHostImage:
        """Return an image, read once."""
        if not callable(image):
            return host_image(image, what, copy=not self.lazy)
        return self._images.get((what, image), lambda: host_image(called(image, what), what))

    def _masks(self, masks: Sequence[MaskSource], what: str) -> list[AnyHostMask]:
        found = [as_mask(called(mask, what, "mask") if callable(mask) else mask, what) for mask in masks]
        for mask in found:
            if not mask.any():
                raise error(
                    f"a {what} mask must leave a part of its image", got="0 everywhere", cure="paint that white"
                )
        return found

    def _each(self, make: Callable[[Any], Any], keys: Sequence[Any]) -> Sequence[Any]:
        return _Made(make, keys) if self.lazy else tuple(map(make, keys))

    def _once(self, make: Callable[[], AnyHostImage]) -> Callable[[], AnyHostImage]:
        if self.lazy:
            return make
        made = make()
        return lambda: made

    def _resized(self, image: AnyHostImage, key: Hashable, shape: tuple[int, int]) -> AnyHostImage:
        if self.lazy:
            return image if image.shape[:2] == shape else resize(image, *shape)
        return self._images.get((key, shape), lambda: resize(image, *shape))


class _Made(Sequence[Any]):
    """Values that are made whenever they are asked for."""

    def __init__(self, make: Callable[[Any], Any], keys: Sequence[Any]):
        self._make, self._keys = make, keys

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, place: Any) -> Any:
        return self._make(self._keys[place])


def _check_numbers(pair: Pair, styles: int) -> None:
    """Raise unless what there is one of for each style has their number."""
    if not styles:
        raise error("there must be at least one style image", got=0)
    for name, found in {
        "blend weight": pair.settings.blend,
        "content mask": pair.content_masks,
        "style mask": pair.style_masks,
        "style scale": pair.settings.style_scale if len(pair.settings.style_scale) > 1 else (),
    }.items():
        if found and len(found) != styles:
            raise error(f"there must be one {name} per style image ({styles})", got=len(found))


def _scaled(styles: Sequence[AnyHostImage], settings: StylizeSettings) -> Iterator[tuple[AnyHostImage, float]]:
    scales = settings.style_scale if len(settings.style_scale) > 1 else settings.style_scale * len(styles)
    return zip(styles, scales, strict=True)


def _load(settings: StylizeSettings) -> tuple[Backbone, params.Source]:
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
        layers=read,
        seed=settings.seed,
        precision=settings.precision,
        frozen=True,
        **options,
    )


def _start(
    pair: Pair, content: AnyHostImage, style: AnyHostImage, init: AnyHostImage | None, shape: tuple[int, int]
) -> AnyHostImage:
    if init is not None or pair.settings.init == "content":
        start = content if init is None else init
        return start if start.shape[:2] == shape else resize(start, *shape)
    key = jax.random.key(pair.settings.seed) if pair.key is None else pair.key
    if pair.settings.init == "noise":
        return np.asarray(jax.random.uniform(key, (*shape, 3), jnp.float32))
    colors = jnp.asarray(style).reshape(-1, 3)
    noise = jax.random.normal(key, (*shape, 3), jnp.float32)
    return np.asarray(jnp.clip(colors.mean(0)[None, None] + colors.std(0)[None, None] * noise, 0, 1))


def listed(style: Any) -> Sequence[Any]:
    """Return one style or several as a sequence."""
    return style if isinstance(style, (list, tuple)) else [style]


def snapped(height: int, width: int, *, number: int) -> tuple[int, int]:
    """Return the shape of the same longer side with the nearest of `number` aspect ratios; 1 is squares only.

    They are 2^(2k/(number - 1) - 1) for k = 0 .. number - 1, from 1:2 to 2:1: of 9, neighbors differ by 19 %.

    Example:
        >>> snapped(300, 400, number=9), snapped(300, 310, number=9), snapped(100, 900, number=9)
        ((283, 400), (310, 310), (450, 900))
    """
    steps, longer = max(number - 1, 1), max(height, width)
    place = round((min(max(math.log2(width / height), -1), 1) + 1) / 2 * steps)
    ratio = 2 ** (2 * place / steps - 1) if number > 1 else 1.0
    return max(1, round(longer / max(ratio, 1))), max(1, round(longer * min(ratio, 1)))


def identity(image: ImageSource) -> Hashable:
    """Return what tells an image from others: the function that reads it, or the values of an array."""
    if callable(image):
        return image
    array = np.asarray(image)
    return array.shape, array.dtype.str, hashlib.blake2b(array.tobytes()).digest()
