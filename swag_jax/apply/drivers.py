"""Images from a generator: sizes, colors, masks, tiles, and many at once."""

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from swag_jax import devices
from swag_jax._checks import UserError, check_range, error
from swag_jax._programs import KEPT, Recent
from swag_jax._scheduler import THREADS, memory_explained, schedule
from swag_jax._types import AnyHostImage, AnyImage, HostAlpha, Image, Key, Mask
from swag_jax.apply.buckets import Ends, Shape, can_end, choose, pad_kept
from swag_jax.apply.functional import StyleConditioning, paint, read
from swag_jax.apply.settings import ApplySettings
from swag_jax.apply.stylizer import Stylizer
from swag_jax.apply.tiles import HostMasks, paint_tiled
from swag_jax.images import fitted, match_color, resize, transfer_luminance
from swag_jax.images._arrays import ImageSource, as_mask, called, host_image

LARGEST = {"cpu": 1, "gpu": 8, "tpu": 8}
"""Images per device in one batch. Our choice: on a CPU an image costs the same in every batch."""

WAITING = 64
"""Images that may wait for others of their shape."""


@dataclass(frozen=True, eq=False)
class Content:
    """One image to be painted.

    Attributes:
        image: `height width 3` in [0, 1], or a function without arguments that reads it.
        masks: How much each style counts at each pixel, in [0, 1], one for each style; empty: everywhere.
    """

    image: ImageSource
    masks: tuple[HostAlpha, ...] = ()


@dataclass(frozen=True, eq=False)
class Style:
    """One style image.

    Attributes:
        image: `height width 3` in [0, 1].
        region: The part of it that is used, above 0.5 of a mask; default: all of it.
    """

    image: ArrayLike
    region: HostAlpha | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of one content: its place among the contents, and the result in [0, 1] or what was wrong with it."""

    index: int
    image: AnyHostImage | None
    error: UserError | None


@devices.drives_devices
def repaint(
    stylizer: Stylizer,
    content: ImageSource | Content,
    styles: Sequence[ArrayLike | Style],
    *,
    settings: ApplySettings | None = None,
) -> AnyHostImage:
    """Return one image painted by a generator.

    Args:
        content: The image to repaint; as a `Content`, with masks.
        styles: They are mixed; as `Style`, with regions. An empty list for Johnson's network.

    Returns:
        The result, `height width 3` in [0, 1].

    Raises:
        UserError: If an image, a mask or a setting is bad, or styles and generator do not go together.

    Example:
        >>> from swag_jax import generators
        >>> johnson = generators.create(generators.JohnsonConfig(channels=2, blocks=1))
        >>> repaint(Stylizer(None, johnson), np.zeros((9, 13, 3), np.float32), []).shape
        (9, 13, 3)
    """
    (outcome,) = repaint_many(stylizer, [content], styles, settings=settings)
    if outcome.error is not None:
        raise outcome.error
    assert outcome.image is not None
    return outcome.image


@devices.drives_devices
def repaint_many(
    stylizer: Stylizer,
    contents: Iterable[ImageSource | Content],
    styles: Sequence[ArrayLike | Style],
    *,
    settings: ApplySettings | None = None,
    batch_size: int | None = None,
    programs: int = KEPT,
    shapes: Iterable[Shape] | None = None,
    many_styles: bool = False,
) -> Iterator[Outcome]:
    """Paint many images in one manner, in batches of equal shape, on every device; the style is read once.

    Args:
        contents: The images to repaint, or functions that read them; frames of a video are no different.
        batch_size: Images of one batch at most, over all devices; default: 1 per device on a CPU, else 8.
        programs: How many sizes of images are compiled for, at most. Of more, images are padded and results cut, which
            are the same up to rounding. 0: every size has its program. So it has without `shapes`, and if a generator
            reads contents as styles (SANet and AdaAttN with masks or a strength below 1).
        shapes: Height and width of all images; default: those of a list of arrays.
        many_styles: Whether calls with styles of other sizes follow: SANet and AdaAttN then fill up what they attend
            to, so that these have few programs, too, with the same results up to rounding.

    Returns:
        The outcome of every image, as soon as its batch is done; not in order. An image that cannot be painted
        holds its error and disturbs no other.

    Raises:
        UserError: If a style or a setting is bad, or styles and generator do not go together.
    """
    if batch_size is not None:
        check_range(batch_size, what="batch size", low=1)
    whole = [style if isinstance(style, Style) else Style(style) for style in styles]
    check_range(programs, what="programs", low=0)
    run = _Run(stylizer, whole, settings or ApplySettings(), batch_size, many_styles=many_styles)
    if shapes is None and isinstance(contents, Sequence):
        shapes = filter(None, map(_shape, contents))
    if shapes is not None and programs:
        run.share_programs(shapes, most=programs)
    return run.outcomes(c if isinstance(c, Content) else Content(c) for c in contents)


def style_shape(stylizer: Stylizer, height: int, width: int, *, size: int) -> tuple[int, int]:
    """Return the height and width at which a style image is read: its shorter side never below two strides."""
    longer, shorter = max(height, width), min(height, width)
    return fitted(height, width, max(size or longer, -(-2 * stylizer.stride * longer // shorter)))


@dataclass(frozen=True, eq=False)
class _Ready:
    """A content made ready: resized, reflected beyond its end to multiples of the stride, and padded to its bucket."""

    original: AnyHostImage
    image: AnyHostImage
    masks: HostMasks | None
    own: AnyHostImage | None
    ends: np.ndarray | None

    @property
    def shape(self) -> tuple[int, int]:  # of the result
        return self.original.shape[:2]

    @property
    def arguments(self) -> tuple[AnyHostImage, HostMasks | None, AnyHostImage | None, np.ndarray | None]:
        return self.image, self.masks, self.own, self.ends

    @property
    def bucket(self) -> tuple[Any, ...]:
        # What contents must have in common to be painted in one batch.
        return tuple(None if x is None else x.shape for x in self.arguments)


class _Run:
    """Styles that were read, and the programs that paint in them."""

    def __init__(
        self,
        stylizer: Stylizer,
        styles: Sequence[Style],
        settings: ApplySettings,
        batch_size: int | None,
        *,
        many_styles: bool,
    ):
        _check_styles(stylizer, len(styles), settings)
        self.stylizer, self.settings, self.styles = stylizer, settings, list(styles)
        self.most = batch_size or LARGEST.get(jax.default_backend(), 8) * devices.count()
        self.buckets: dict[Shape, Shape] = {}
        self.many_styles = many_styles
        self.manner = None if settings.colors == "match" else self._manner(self.styles)

    def outcomes(self, contents: Iterable[Content]) -> Iterator[Outcome]:
        found = schedule(
            contents,
            prepare=self._prepare,
            bucket=lambda content: content.bucket,
            # With matched colors, the styles are recolored for every image.
            room=lambda content: 1 if self.manner is None or self.settings.tile_of(*content.shape) else self.most,
            run=self._painted,
            ahead=2 * self.most + THREADS,
            waiting=max(WAITING, self.most),
        )
        for index, _, result in found:
            bad = isinstance(result, UserError)
            yield Outcome(index, None if bad else result, result if bad else None)

    def _prepare(self, content: Content) -> _Ready:
        source = content.image
        image = host_image(called(source, "content") if callable(source) else source, "content")
        number = max(len(self.styles), 1)
        if content.masks and len(content.masks) != number:
            rule = f"there must be one mask per style ({number}), or none"
            raise error(rule, got=len(content.masks), cure="pass as many content masks as styles")
        height, width = fitted(image.shape[0], image.shape[1], self.settings.size or max(image.shape[:2]))
        small = resize(image, height, width)
        checked = [as_mask(mask, "content") for mask in content.masks]
        masks = np.stack([resize(mask, height, width) for mask in checked], -1) if checked else None
        mixed = self.settings.strength < 1 or masks is not None
        own = self._style_sized(image) if mixed and self.stylizer.needs_own else None
        shape = self.stylizer.extended(height, width)
        ends = np.array(shape, np.int32) if own is None and shape in self.buckets else None

        def extended(values: np.ndarray) -> np.ndarray:
            whole = _padded(values, shape, mode="reflect")
            return whole if ends is None else _padded(whole, self.buckets[shape], mode="edge")

        return _Ready(small, extended(small), None if masks is None else extended(masks), own, ends)

    def share_programs(self, shapes: Iterable[Shape], *, most: int) -> None:
        """Pad images to so many sizes at most, as far as they are painted whole."""
        small = [fitted(height, width, self.settings.size or max(height, width)) for height, width in shapes]
        whole = [self.stylizer.extended(*shape) for shape in small if self.settings.tile_of(*shape) is None]
        found = choose(whole, most=most, unit=self.stylizer.stride)
        self.buckets = found if found and can_end(self.stylizer) else {}

    def _style_sized(self, image: AnyHostImage) -> AnyHostImage:
        height, width = image.shape[:2]
        return resize(image, *style_shape(self.stylizer, height, width, size=self.settings.style_size))

    def _manner(self, styles: Sequence[Style]) -> StyleConditioning:
        # The styles are read once for all contents, or once for each if their colors follow it.
        key, kept = jax.random.key(self.settings.seed), []
        for style in styles:
            image = self._style_sized(host_image(style.image, "style"))
            region = None if style.region is None else _region(style.region, *image.shape[:2])
            found = _read.of(image.shape)(self.stylizer, jnp.asarray(image), key=key, region=region)
            kept.append(pad_kept(found) if self.many_styles else found)
        blend = self.settings.blend or (1.0,) * max(len(styles), 1)
        strength = jnp.float32(self.settings.strength)
        return StyleConditioning(tuple(kept), jnp.asarray(blend, jnp.float32), strength)

    def _recolored(self, content: AnyHostImage) -> StyleConditioning:
        reference = jnp.asarray(content)
        images = [jnp.asarray(host_image(style.image, "style")) for style in self.styles]
        matched = [np.asarray(match_color(image, reference)) for image in images]
        return self._manner([replace(s, image=m) for s, m in zip(self.styles, matched, strict=True)])

    def _painted(self, works: Sequence[_Ready]) -> list[AnyHostImage | UserError]:
        height, width = works[0].shape
        rule = f"an image must fit into memory, which was used up at {width} x {height} pixels"
        with memory_explained(rule, cure="pass a smaller size, or paint it in smaller tiles"):
            found = self._paint(works)
        return [self._finished(work, image) for work, image in zip(works, found, strict=True)]

    def _paint(self, works: Sequence[_Ready]) -> Sequence[np.ndarray]:
        manner = self.manner or self._recolored(works[0].original)
        mixed = self.settings.strength < 1 or works[0].masks is not None
        side = self.settings.tile_of(*works[0].shape)
        if side is not None:
            return [self._in_tiles(work, manner, side, mixed) for work in works]
        if len(works) == 1:  # without axes, on JAX's default device
            arguments, program = jax.tree.map(jnp.asarray, works[0].arguments), _paint_single.of(works[0].bucket)
            return [np.asarray(program(self.stylizer, manner, *arguments, mixed=mixed))]
        filled = devices.pad([work.arguments for work in works], size=-(-len(works) // devices.count()))
        batch = jax.tree.map(lambda *x: np.stack(x), *filled)
        program, shared = self._program(mixed, works[0].bucket), devices.replicate((self.stylizer, manner))
        return list(devices.gather(program(*shared, *devices.split(batch)), length=len(works)))

    @functools.lru_cache(maxsize=KEPT)  # noqa: B019
    def _program(self, mixed: bool, _bucket: tuple[Any, ...]) -> Any:
        return devices.map_batch(functools.partial(_paint_one, mixed=mixed), shared=["stylizer", "manner"])

    def _in_tiles(self, work: _Ready, manner: StyleConditioning, side: int, mixed: bool) -> np.ndarray:
        own = work.own
        if own is not None:
            own = _read.of(own.shape)(self.stylizer, jnp.asarray(own), key=own_key())
        return paint_tiled(self.stylizer, manner, work.image, side=side, masks=work.masks, own=own, mixed=mixed)

    def _finished(self, work: _Ready, painted: np.ndarray) -> AnyHostImage | UserError:
        height, width = work.shape
        image = np.clip(painted[:height, :width], 0, 1)
        if not np.isfinite(image).all():
            return error("a painted image must be finite", got="NaN or infinite values", cure="use float32")
        if self.settings.colors == "luminance":
            return np.asarray(transfer_luminance(jnp.asarray(work.original), jnp.asarray(image)))
        return image


def _shape(content: ImageSource | Content) -> Shape | None:
    """Return height and width of a content that is an array."""
    found = getattr(content.image if isinstance(content, Content) else content, "shape", ())
    return (int(found[0]), int(found[1])) if len(found) == 3 and min(found) > 0 else None


def _padded(values: np.ndarray, shape: Shape, *, mode: Literal["reflect", "edge"]) -> np.ndarray:
    edges = [(0, long - short) for long, short in zip(shape, values.shape, strict=False)]
    return np.pad(values, [*edges, (0, 0)], mode=mode)


def _region(mask: HostAlpha, height: int, width: int) -> Mask:
    """Return which pixels of a style are used, at the size at which it is read."""
    region = resize(as_mask(mask, "style"), height, width) > 0.5
    if not region.any():
        raise error("a style mask must leave a part of its style", got="no value above 0.5", cure="paint that white")
    return jnp.asarray(region)


def own_key() -> Key:
    """Return what draws the positions of a content that is read as a style."""
    return jax.random.key(0)


def _paint_one(
    stylizer: Stylizer,
    manner: StyleConditioning,
    content: Image,
    masks: Any,
    own: AnyImage | None,
    ends: Ends | None,
    *,
    mixed: bool,
) -> Image:
    masks = None if masks is None else jnp.moveaxis(masks, -1, 0)
    kept = None if own is None else read(stylizer, own, key=own_key())
    return paint(stylizer, manner, content, masks=masks, own=kept, mixed=mixed, ends=ends)


_read = Recent(read)
_paint_single = Recent(_paint_one, static_argnames="mixed")


def _check_styles(stylizer: Stylizer, number: int, settings: ApplySettings) -> None:
    """Raise unless styles, their weights and the generator go together."""
    if stylizer.reads_styles and not number:
        raise error("the generator needs a style image", got="none", cure="pass one or several")
    if not stylizer.reads_styles and number:
        raise error("the generator has its one style in its weights", got=f"{number} style images", cure="pass none")
    if settings.blend and len(settings.blend) != number:
        raise error(f"there must be one blend weight per style image ({number})", got=len(settings.blend))
    if settings.colors == "match" and not number:
        raise error("colors can only be matched by style images", cure="pass luminance, or style")
