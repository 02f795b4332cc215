"""Images of any size: loss and gradient tile by tile, equal to those of the whole to rounding.

Every step passes over the tiles twice (`swag_jax.losses.parts`): once for the sums that the loss is made of, once for
the gradient, in windows so wide that nothing beyond can reach the tile (`reach`). Images, gradients and the solver's
state stay in host memory; the devices share the tiles, one on each at a time, and hold nothing else but the network.
Scales that are no larger than a tile are solved whole.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from swag_jax import devices
from swag_jax._checks import error
from swag_jax._programs import Program
from swag_jax._tiles import Grid, Tile, each, grid, inside
from swag_jax._types import AnyHostImage, Gram, HostImage, Scalar
from swag_jax.backbones import Backbone
from swag_jax.features import extract
from swag_jax.losses import Objective
from swag_jax.losses.objective import Target, Terms, fitted_mask
from swag_jax.losses.part_targets import Pass, find_content, find_extents, find_temperatures
from swag_jax.losses.parts import (
    GLOBAL_AXES,
    AllSums,
    PartTargets,
    gram_of_sums,
    loss_of_sums,
    own_positions,
    part_sums,
    style_sums,
    together,
)
from swag_jax.optimize import memory
from swag_jax.optimize.engine import Programs, analyzed_chunk, blend_of, weight_bytes
from swag_jax.optimize.pairs import PreparedPair, Problem
from swag_jax.optimize.pyramid import Scale
from swag_jax.optimize.solvers import Solver
from swag_jax.smoothing import Smoothing

_DOUBLINGS = 6
"""Tries of `reach`, the last with strips of about 1,000 strides."""


def reach(network: Backbone, layers: Sequence[str]) -> int:
    """Return how many pixels, at most, lie between the first pixel of a position and one that its features read.

    Raises:
        UserError: If they read the whole image.
    """
    stride = _stride(network, layers)
    program = jax.jit(functools.partial(extract, layers=tuple(layers)))
    for side in (8 * stride * 2**i for i in range(_DOUBLINGS)):
        # Sums over NaN are NaN.
        strip = np.full((2 * stride, 2 * side + stride, 3), 0.5, np.float32)
        strip[:, side : side + stride] = np.nan
        far = 0
        for layer, features in program(network, jnp.asarray(strip)).items():
            columns = np.flatnonzero(np.isnan(np.asarray(features, np.float32)).any((0, 2)))
            pixels = network.strides[network.layers.index(layer)] * columns
            far = max(far, side - int(pixels.min()), int(pixels.max()) - side)
        if far < side - stride:
            return far
    raise error("activations must depend on near pixels only to be computed in tiles", cure="leave out --tile")


def _stride(network: Backbone, layers: Sequence[str]) -> int:
    return max(network.strides[network.layers.index(layer)] for layer in layers)


class Passes:
    """Passes over the tiles of images of one size, shared by all devices.

    Attributes:
        network: On every device.
        shapes: Of the whole image's features by layer, and of the `image`.
    """

    def __init__(self, network: Any, layers: Sequence[str], shape: tuple[int, int], *, side: int, halo: int):
        self.network, self._layers = network, tuple(layers)
        self.grid: Grid = grid(*shape, side=side, halo=halo, stride=_stride(network, layers))
        self.shapes = {"image": (*shape, 3), **self._features(shape)}
        self._windows = self._features(self.grid.window)
        self._programs: dict[Any, Program] = {}

    def _features(self, shape: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        image = jax.ShapeDtypeStruct((*shape, 3), jnp.float32)
        found = jax.eval_shape(functools.partial(extract, layers=self._layers), self.network, image)
        return {layer: features.shape for layer, features in found.items()}

    def run(
        self,
        function: Callable[..., Any],
        shared: Any,
        *images: HostImage,
        masks: Mapping[str, np.ndarray] | None = None,
    ) -> Iterator[tuple[Tile, Any]]:
        """Yield each tile with what a function of (network, shared, windows, inner, masks) makes of it.

        Args:
            function: Or a `functools.partial` of one with hashable options, compiled once.
            masks: By layer, `styles rows columns` of the whole image.
        """

        def arguments(tile: Tile) -> tuple[Any, ...]:
            windows = tuple(self.grid.cut(image, tile) for image in images)
            own = {layer: self._cut(layer, mask, tile) for layer, mask in (masks or {}).items()}
            return ((windows, inside(tile), own),)

        key = getattr(function, "func", function), *getattr(function, "keywords", {}).items()
        if key not in self._programs:
            self._programs[key] = devices.map_batch(_named(function), shared=["network", "shared"])
        yield from each(self._programs[key], (self.network, devices.replicate(shared)), self.grid.tiles, arguments)

    def results(self, image: HostImage) -> Pass:
        """Return `run` of one image, without the tiles."""
        return lambda function, shared: (found for _, found in self.run(function, shared, image))

    def masks(self, masks: Sequence[np.ndarray | None]) -> dict[str, np.ndarray]:
        """Return how much each mask, `height width`, counts at each layer's positions; `None` is one everywhere."""
        ones = np.ones(self.shapes["image"][:2], np.float32)
        whole = [ones if mask is None else mask for mask in masks]
        return {
            layer: np.stack(
                [np.asarray(fitted_mask(jnp.asarray(mask), jnp.zeros(self.shapes[layer]))) for mask in whole]
            )
            for layer in self._layers
        }

    def _cut(self, layer: str, mask: np.ndarray, tile: Tile) -> np.ndarray:
        stride = self.network.strides[self.network.layers.index(layer)]
        rows, columns = (
            slice(s.window // stride, s.window // stride + n) for s, n in zip(tile, self._windows[layer], strict=False)
        )
        return mask[:, rows, columns]


def _named(function: Callable[..., Any]) -> Callable[..., Any]:
    # `devices.map_batch` reads the names of the arguments. What is mapped is one of them: `jax.pmap` (0.10) takes
    # arguments for arrays if there are as many arrays in all of them together.
    return lambda network, shared, part: function(network, shared, *part)


@dataclass(frozen=True, eq=False)
class TiledTargets:
    """What an image is compared with, tile by tile, in host memory."""

    passes: Passes
    parts: PartTargets
    content: AnyHostImage
    masks: dict[str, np.ndarray] | None  # where each style goes, by style layer

    def evaluate(self, image: HostImage, objective: Objective) -> tuple[tuple[Scalar, Terms], HostImage]:
        """Return ((loss, terms), gradient) of an image, as `engine.objective_with_gradient` does."""
        passes, parts, masks, shapes = self.passes, self.parts, self.masks, self.passes.shapes
        # Only a softmax over positions must see the content before the gradient's pass.
        early = objective.content_weight and any(
            objective.smoothing.at(layer).kind in GLOBAL_AXES for layer in objective.content_layers
        )
        of_part = functools.partial(sums_of_part, objective=objective)
        seen = (image, self.content) if early else (image,)
        sums = functools.reduce(together, (found for _, found in passes.run(of_part, parts, *seen, masks=masks)))
        sums = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), sums)
        cotangents = jax.grad(lambda sums: loss_of_sums(sums, parts, shapes, objective=objective)[0])(sums)
        peaks = {name: found.peak for name, found in sums.items() if name != "variation"}
        gradient, distances = _zeros(image.shape), dict[str, float]()
        of_part = functools.partial(gradient_of_part, objective=objective)
        for tile, (own, found) in passes.run(of_part, (parts, peaks, cotangents), image, self.content, masks=masks):
            window = passes.grid.cut(gradient, tile)
            window += own
            distances = {name: distances.get(name, 0.0) + float(value) for name, value in found.items()}
        sums |= {name: replace(sums[name], distance=jnp.float32(value)) for name, value in distances.items()}
        return loss_of_sums(sums, parts, shapes, objective=objective), gradient


def sums_of_part(network, targets, windows, inner, masks, *, objective: Objective) -> AllSums:
    """Return the sums of one tile, given its window, and the content's if that must be seen. Pure."""
    image, content = windows if len(windows) == 2 else (*windows, None)
    return part_sums(network, targets, image, content, inner, masks, objective=objective)


def gradient_of_part(network, shared, windows, inner, masks, *, objective: Objective) -> Any:
    """Return what one tile adds to its window's gradient, and its distances from the content. Pure.

    Args:
        shared: Targets, peaks by term, and the loss's derivatives by the sums.
        windows: Of the image and of the content.
    """
    targets, peaks, cotangents = shared
    image, content = windows

    def sums(image):
        found = part_sums(network, targets, image, content, inner, masks, objective=objective, peaks=peaks)
        distances = {name: x.distance for name, x in found.items() if name != "variation" and x.distance is not None}
        return found, distances

    _, pull, distances = jax.vjp(sums, image, has_aux=True)
    (gradient,) = pull(cotangents)
    return gradient, distances


class TiledPrograms(Programs):
    """What a run of one image computes, in tiles of a side if a scale is larger."""

    def __init__(self, side: int):
        super().__init__(mapping=None)
        self.side = side
        self._networks_everywhere: dict[Any, Any] = {}
        self._advance = jax.jit(_advanced, static_argnames="solver", donate_argnames="state")

    def is_tiled(self, scale: Scale) -> bool:
        """Tell whether a scale is solved in tiles."""
        return scale.size > self.side

    def longest(self, scale: Scale) -> int:
        """Return 1 in tiles, where a step takes long."""
        return 1 if self.is_tiled(scale) else super().longest(scale)

    def chunk(self, problem: Problem, scale: Scale, *, steps: int, size: int) -> Program:
        """Return what takes `steps` at one scale."""
        if not self.is_tiled(scale):
            return super().chunk(problem, scale, steps=steps, size=size)
        return functools.partial(self._take_steps, problem.objective, problem.solver, steps)

    def _take_steps(
        self, objective: Objective, solver: Solver, steps: int, network: Backbone, targets: TiledTargets, state: Any
    ) -> tuple[Any, dict[str, np.ndarray]]:
        losses: list[dict[str, float]] = []
        for _ in range(steps):
            # Not compiled: Adam's point is the state's image itself, which a program would copy.
            found = targets.evaluate(np.asarray(solver.point(state)), objective)
            state = self._advance(state, _on_host(found), solver=solver)
            losses.append({"total": float(state.loss), **{name: float(value) for name, value in state.terms.items()}})
        return state, {name: np.array([each[name] for each in losses], np.float32) for name in losses[0]}

    def put(self, trees: Sequence[Any], *, size: int) -> Any:
        """Leave what tiles are compared with in host memory."""
        return trees[0] if isinstance(trees[0], TiledTargets) else super().put(trees, size=size)

    def placed(self, state: Any, scale: Scale) -> Any:
        """Return the arrays of a state where its steps are taken."""
        return _on_host(state) if self.is_tiled(scale) else super().placed(state, scale)

    def start(self, problem: Problem, images: Any) -> Any:
        """Return the solver's state before the first step."""
        return super().start(problem, _on_host(images) if self.is_tiled(problem.scales[0]) else images)

    def carry(self, problem: Problem, state: Any, scale: Scale) -> Any:
        """Return the state carried to another scale."""
        return super().carry(problem, _on_host(state) if self.is_tiled(scale) else state, scale)

    def targets(self, pair: PreparedPair, place: int) -> Any:
        """Return the targets of one of a pair's scales."""
        problem, scale = pair.problem, pair.problem.scales[place]
        if not self.is_tiled(scale):
            return super().targets(pair, place)
        objective, network = problem.objective, self._everywhere(problem)
        halo = reach(problem.loaded.network, objective.layers)
        passes = Passes(network, objective.layers, (scale.height, scale.width), side=self.side, halo=halo)
        content, relative = pair.contents[place], objective.normalization == "relative"
        layers = objective.content_layers if objective.content_weight else ()
        smoothings = {layer: objective.smoothing.at(layer) for layer in layers}
        of_content = (
            find_content(passes.results(content), smoothings, passes.shapes, relative=relative) if layers else {}
        )
        parts = PartTargets(of_content, self._tiled_style_targets(pair, place, halo))
        if not problem.regions or not objective.style_weight:
            return TiledTargets(passes, parts, content, None)
        blend = blend_of(pair)
        masks = {
            layer: mask for layer, mask in passes.masks(pair.regions[place]).items() if layer in objective.style_layers
        }
        weights = {layer: jnp.asarray(mask.sum((1, 2))) for layer, mask in masks.items()}
        return TiledTargets(passes, replace(parts, shares=blend / blend.sum(), weights=weights), content, masks)

    def _everywhere(self, problem: Problem) -> Any:
        key = problem.loaded.key
        if key not in self._networks_everywhere:
            self._networks_everywhere = {key: devices.replicate(problem.loaded.network)}
        return self._networks_everywhere[key]

    def _tiled_style_targets(self, pair: PreparedPair, place: int, halo: int) -> dict[str, Target]:
        objective, styles, masks = pair.problem.objective, pair.styles[place], pair.style_masks[place]
        if not objective.style_weight:
            return {}
        if max(max(style.shape) for style in styles) <= self.side:
            return self.style_targets(pair, place)
        smoothings = {layer: objective.smoothing.at(layer) for layer in objective.style_layers}
        network, found = self._everywhere(pair.problem), []
        every = [
            Passes(network, objective.style_layers, style.shape[:2], side=self.side, halo=halo) for style in styles
        ]
        for passes, style in zip(every, styles, strict=True):
            results = passes.results(style)
            found.append(find_temperatures(results, smoothings, find_extents(results, smoothings)))
        blend = np.asarray(blend_of(pair), np.float64)
        shares = blend / blend.sum()
        temperatures = {
            layer: jnp.float32(np.exp(shares @ np.log([float(each[layer]) for each in found]))) for layer in smoothings
        }
        grams = [
            find_grams(passes, style, mask, temperatures, smoothings)
            for passes, style, mask in zip(every, styles, masks or [None] * len(styles), strict=True)
        ]
        weights, apart = jnp.asarray(shares, jnp.float32), bool(pair.problem.regions)
        stacked = {layer: jnp.stack([each[layer] for each in grams]) for layer in smoothings}
        return {
            layer: Target(x if apart else jnp.tensordot(weights, x, axes=1), temperatures[layer])
            for layer, x in stacked.items()
        }


SIDES = (2048, 1024, 512, 256)
"""Sides that are tried if none is asked for. Our choice."""


def fitting_side(programs: Programs, problem: Problem, *, every: int | None) -> int | None:
    """Return the largest of `SIDES` whose windows fit into the device's memory; `None` if none does."""
    program, analyzed = analyzed_chunk(programs, problem, every=every)
    fixed, halo = weight_bytes(problem), reach(problem.loaded.network, problem.objective.layers)
    growing = max(memory.needed_bytes(program) - fixed, 0) / analyzed.pixels
    free = memory.HEADROOM * memory.free_bytes() / memory.sharing()
    fitting = (
        side for side in SIDES if side < problem.scales[-1].size and fixed + growing * (side + 2 * halo) ** 2 <= free
    )
    return next(fitting, None)


def check_host_memory(problem: Problem) -> None:
    """Raise an `OutOfMemoryError` if the host has no room for the state of an image that is solved in tiles."""
    finest = problem.scales[-1]
    image = jax.ShapeDtypeStruct((finest.height, finest.width, 3), jnp.float32)
    state = jax.eval_shape(functools.partial(problem.solver.init, terms=problem.objective.terms), image)
    arrays = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state)) / math.prod(image.shape) + 2
    memory.check_host(arrays * math.prod(image.shape) * 4, finest)


def find_grams(
    passes: Passes, style: HostImage, mask: np.ndarray | None, temperatures: Any, smoothings: Mapping[str, Smoothing]
) -> dict[str, Gram]:
    """Return the Gram matrix of a style, or of what a mask leaves of it, at every layer."""
    masks = None if mask is None else passes.masks([mask])
    options = tuple(smoothings.items())
    parts = passes.run(functools.partial(_style_sums, smoothings=options), temperatures, style, masks=masks)
    sums: Any = functools.reduce(together, (found for _, found in parts))
    found = {}
    for layer, smoothing in smoothings.items():
        weights = None if masks is None else jnp.asarray(masks[layer].sum((1, 2)))
        own = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), sums[layer])
        gram = gram_of_sums(own, smoothing, passes.shapes[layer], weights)
        found[layer] = gram if masks is None else gram[0]
    return found


def _style_sums(
    network, temperatures, windows, inner, masks, *, smoothings: tuple[tuple[str, Smoothing], ...]
) -> AllSums:
    (window,), of_layer = windows, dict(smoothings)
    return {
        layer: style_sums(
            features, own_positions(network, layer, features, inner), temperatures[layer], of_layer[layer],
            masks=masks.get(layer),
        )
        for layer, features in extract(network, window, layers=of_layer).items()
    }  # fmt: skip


def _advanced(state: Any, found: Any, *, solver: Solver) -> Any:
    return solver.step(lambda _: found, state)


def _zeros(shape: tuple[int, ...]) -> np.ndarray:
    # JAX shares an array with the host's memory, instead of copying it, if it begins at a multiple of 64 bytes.
    room = np.zeros(math.prod(shape) + 16, np.float32)
    first = -room.ctypes.data // room.itemsize % 16
    return room[first : first + math.prod(shape)].reshape(shape)


def _on_host(tree: Any) -> Any:
    """Return arrays on the CPU, whatever the default device is."""
    try:
        host = jax.local_devices(backend="cpu")[0]
    except RuntimeError as problem:
        rule = "JAX must have its CPU backend to solve in tiles, whose state is in host memory"
        raise error(rule, cure='use JAX_PLATFORMS="cuda,cpu", or unset it') from problem
    return jax.device_put(tree, host)
