"""Pairs made ready: images decoded and resized to every scale, by threads that work ahead of the solver."""

import hashlib
import math
import time
from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from swag_jax import params
from swag_jax._checks import UserError
from swag_jax._types import AnyHostImage, Key
from swag_jax.backbones import Backbone
from swag_jax.images import fitted, resize
from swag_jax.images._arrays import ImageSource, called, host_image
from swag_jax.losses import Objective
from swag_jax.optimize.once import Once
from swag_jax.optimize.preparation import (
    Images,
    check_blend,
    initial,
    listed,
    load_network,
    recolored,
    style_shape,
)
from swag_jax.optimize.pyramid import Scale, plan
from swag_jax.optimize.settings import StylizeSettings
from swag_jax.optimize.solvers import Solver

THREADS = 4
"""Threads that decode and resize; Pillow and JAX release Python's lock while they work."""

REMEMBERED = 2**30
"""Bytes of decoded images, and of networks, that are remembered for the next pair that asks for them."""


@dataclass(frozen=True, eq=False)
class Pair:
    """One image to be made.

    Attributes:
        content: The content image, `height width 3` in [0, 1], or a function without arguments that reads it.
        styles: The style image, or several to be mixed, each as `content`.
        settings: Network, losses, solver and sizes.
        key: Randomness of the initial noise; default: from `settings.seed`.
        name: What to call it.
        init: The image to start from, as `content`; default: what `settings.init` says.
    """

    content: ImageSource
    styles: ImageSource | list[ImageSource] | tuple[ImageSource, ...]
    settings: StylizeSettings
    key: Key | None = None
    name: str = ""
    init: ImageSource | None = None


@dataclass(frozen=True, eq=False)
class Loaded:
    """A network ready for use.

    Attributes:
        network: The frozen network.
        source: Where its weights came from.
        structure: What its programs depend on: equal networks but for the seed of their weights.
        key: What its weights depend on as well.
    """

    network: Backbone
    source: params.Source
    structure: Hashable
    key: Hashable


@dataclass(frozen=True, eq=False)
class PreparedPair:
    """A pair made ready.

    Attributes:
        index: Its place among the pairs.
        pair: The pair.
        loaded: Its network.
        scales: Its scales, coarse to fine.
        shape: Height and width of the result; those of the finest scale, unless shapes are snapped.
        contents: The content image at each scale.
        styles: The style images at each scale.
        start: Where the first scale starts.
        content_key: What tells its content image from others.
        style_key: What tells its style images from others.
        seconds: Seconds that this took, waiting for images that other pairs read included.
    """

    index: int
    pair: Pair
    loaded: Loaded
    scales: tuple[Scale, ...]
    shape: tuple[int, int]
    contents: tuple[AnyHostImage, ...]
    styles: tuple[tuple[AnyHostImage, ...], ...]
    start: AnyHostImage
    content_key: Hashable
    style_key: Hashable
    seconds: float

    @property
    def objective(self) -> Objective:
        """What is minimized."""
        return self.pair.settings.full_objective

    @property
    def solver(self) -> Solver:
        """The solver as a value."""
        return self.pair.settings.method

    @property
    def bucket(self) -> Hashable:
        """What pairs must have in common to be solved in one batch. Styles may differ in size."""
        return self.loaded.key, self.objective, self.solver, self.scales

    @property
    def pixel_steps(self) -> int:
        """Pixels times steps, to which the time is about proportional."""
        return sum(scale.work for scale in self.scales)


class Reader:
    """Makes pairs ready. Images and networks that several pairs have in common are read once.

    Attributes:
        max_shapes: How many aspect ratios images are worked at, see `snapped`; `None` for any number.
    """

    def __init__(self, *, max_shapes: int | None = None):
        self.max_shapes = max_shapes
        self._images, self._networks = Once(capacity=REMEMBERED), Once(capacity=REMEMBERED)

    def ahead(self, pairs: Iterable[Pair], *, pool: ThreadPoolExecutor, most: int) -> Iterator[tuple[int, Pair, Any]]:
        """Make pairs ready in the threads of a pool, at most `most` ahead of the one that is asked for.

        Args:
            pairs: The pairs.
            pool: The threads.
            most: How many to begin at once.

        Yields:
            The number of each pair in order, the pair, and its `PreparedPair` or the `UserError` that it ended in.
        """
        numbered, begun = enumerate(pairs), deque[tuple[int, Pair, Future]]()
        while True:
            for index, pair in numbered:
                begun.append((index, pair, pool.submit(self._try, index, pair)))
                if len(begun) >= most:
                    break
            if not begun:
                return
            index, pair, future = begun.popleft()
            yield index, pair, future.result()

    def load(self, settings: StylizeSettings) -> Loaded:
        """Return the network that the settings ask for.

        Raises:
            UserError: If a name is unknown, or the weights are missing or damaged.
        """
        source = self._networks.get(
            (settings.backbone, settings.weights), lambda: params.resolve(settings.backbone, weights=settings.weights)
        )
        layers, smoothed = settings.full_objective.layers, settings.objective.smoothing.layers
        structure = (
            settings.backbone,
            settings.weights,
            settings.pooling,
            settings.padding,
            settings.precision,
            layers,
        )
        key = (*structure, smoothed, settings.seed if source.kind == "random" else 0)

        def read() -> Loaded:
            network, found = load_network(settings)
            return Loaded(network, found, structure, key)

        return self._networks.get(key, read)

    def _try(self, index: int, pair: Pair) -> PreparedPair | UserError:
        try:
            return self.prepare(index, pair)
        except UserError as problem:
            return problem

    def prepare(self, index: int, pair: Pair) -> PreparedPair:
        """Make one pair ready.

        Raises:
            UserError: If an image or a setting is bad.
        """
        began = time.perf_counter()
        settings, loaded = pair.settings, self.load(pair.settings)
        minimum = loaded.network.minimum_size(settings.full_objective.layers)
        content = self._image(pair.content, "content")
        styles = tuple(self._image(style, "style") for style in listed(pair.styles))
        init = None if pair.init is None else self._image(pair.init, "init")
        check_blend(settings, Images(content, styles, init))
        images = recolored(Images(content, styles, init), settings)
        scales = plan(self._working(content), settings, minimum_size=minimum)
        content_key, style_keys = identity(pair.content), tuple(identity(s) for s in listed(pair.styles))
        style_key = (style_keys, content_key if settings.colors == "match" else None)
        shapes = [(s.height, s.width) for s in scales]
        style_shapes = [
            tuple(style_shape(self._working(s), scale, settings=settings, minimum_size=minimum) for s in styles)
            for scale in scales
        ]
        key = jax.random.key(settings.seed) if pair.key is None else pair.key
        return PreparedPair(
            index=index,
            pair=pair,
            loaded=loaded,
            scales=scales,
            shape=fitted(content.shape[0], content.shape[1], settings.size),
            contents=tuple(self._resized(content, content_key, shape) for shape in shapes),
            styles=tuple(
                tuple(
                    self._resized(style, (style_key, place), shape)
                    for place, (style, shape) in enumerate(zip(images.styles, chosen, strict=True))
                )
                for chosen in style_shapes
            ),
            start=np.asarray(initial(images, scales[0], key, settings=settings)),
            content_key=content_key,
            style_key=style_key,
            seconds=time.perf_counter() - began,
        )

    def _working(self, image: AnyHostImage) -> tuple[int, int]:
        """Return the height and width whose aspect ratio an image is worked at."""
        height, width = image.shape[:2]
        return (height, width) if self.max_shapes is None else snapped(height, width, number=self.max_shapes)

    def _image(self, image: ImageSource, what: str) -> AnyHostImage:
        """Return an image, read once."""
        if not callable(image):
            return host_image(image, what)
        return self._images.get((what, image), lambda: host_image(called(image, what), what))

    def _resized(self, image: AnyHostImage, key: Hashable, shape: tuple[int, int]) -> AnyHostImage:
        return self._images.get((key, shape), lambda: resize(image, *shape))


def snapped(height: int, width: int, *, number: int) -> tuple[int, int]:
    """Return the shape of the same longer side with the nearest of a few aspect ratios.

    They are 2^(2k/(number - 1) - 1) for k = 0 .. number - 1, from 1:2 to 2:1: of 9, neighbors differ by 19 %.

    Args:
        height: Height in pixels.
        width: Width in pixels.
        number: How many aspect ratios there are; 1 is squares only.

    Example:
        >>> snapped(300, 400, number=9), snapped(300, 310, number=9), snapped(100, 900, number=9)
        ((283, 400), (310, 310), (450, 900))
    """
    steps, longer = max(number - 1, 1), max(height, width)
    place = round((min(max(math.log2(width / height), -1), 1) + 1) / 2 * steps)
    ratio = 2 ** (2 * place / steps - 1) if number > 1 else 1.0
    return max(1, round(longer / max(ratio, 1))), max(1, round(longer * min(ratio, 1)))


def identity(image: ImageSource) -> Hashable:
    """Return what tells an image from others: a reader itself, the values of an array."""
    if callable(image):
        return image
    array = np.asarray(image)
    return array.shape, array.dtype.str, hashlib.blake2b(array.tobytes()).digest()
