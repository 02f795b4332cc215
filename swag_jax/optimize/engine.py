"""The loop of every stylization: pairs of one problem solved together, scale by scale and chunk by chunk.

A single image is a batch of one, without axes, on JAX's default device. Batches are solved by `jax.vmap` on each
device, side by side on all of them (`devices.map_batch`). Nothing is summed over pairs, so that each comes out as it
would alone.
"""

import functools
import time
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from swag_jax import devices
from swag_jax._checks import UserError
from swag_jax._programs import KEPT, Latest, Program, Recent, compiled
from swag_jax._types import AnyHostImage, AnyImage, AnyMask, HostImage, Image, Masks
from swag_jax.backbones import Backbone
from swag_jax.images import resize, transfer_luminance
from swag_jax.losses import Objective, Regions, Targets, content_targets, evaluate, style_targets
from swag_jax.losses.objective import Target
from swag_jax.optimize import memory
from swag_jax.optimize.pairs import REMEMBERED, PreparedPair, Problem
from swag_jax.optimize.pyramid import Scale
from swag_jax.optimize.result import NonFiniteLossError, Result
from swag_jax.optimize.solvers import Evaluate, History, Solver, State, run
from swag_jax.optimize.state_file import StateFile
from swag_jax.params import Source

STEPS_BETWEEN_CALLBACKS = {"cpu": 5, "gpu": 20, "tpu": 20}
"""Steps of one compiled chunk: long enough that dispatch costs nothing, short enough for a live display."""

STYLES_KEPT = 64
"""Programs of style targets that a run keeps; each is for one scale and one set of style shapes."""


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
    regions: Masks | None = None,
    style_masks: Sequence[AnyMask | None] = (),
) -> Targets:
    """Return everything the objective needs of the content and the style images, by layer. Pure.

    Args:
        content: At the size that is optimized.
        styles: Of any sizes.
        blend: A non-negative weight per style image; `None`: equal weights.
        regions: Where each style goes, of the content's size; `None`: they are mixed everywhere.
        style_masks: What counts of each style, of its size; `None`, or none at all: all of it.
    """
    weights = jnp.ones(len(styles), jnp.float32) if blend is None else jnp.asarray(blend, jnp.float32)
    apart = regions is not None
    return Targets(
        content=content_targets(network, content, objective=objective),
        style=style_targets(network, styles, objective=objective, blend=weights, masks=style_masks, apart=apart),
        regions=None if regions is None else Regions(regions, weights / weights.sum()),
    )


def take_steps(
    network: Backbone, targets: Targets, state: State, *, objective: Objective, solver: Solver, steps: int
) -> tuple[State, History]:
    """Take a chunk of steps. Pure."""
    return run(objective_with_gradient(network, targets, objective), solver, state, steps=steps)


_chunk = Recent(take_steps, static_argnames=("objective", "solver", "steps"), donate_argnames=("state",))
_targets = Recent(make_targets, static_argnames=("objective",))
_content_targets = Recent(content_targets, static_argnames=("objective",))
_style_targets = Recent(style_targets, static_argnames=("objective", "apart"))
_initialized = Recent(lambda image, *, solver, terms: solver.init(image, terms), static_argnames=("solver", "terms"))
_resized = Recent(
    lambda state, *, solver, height, width: solver.resized(state, height, width),
    static_argnames=("solver", "height", "width"),
)
_image = Recent(lambda state, *, solver: solver.image(state), static_argnames=("solver",))


class Programs:
    """What a run compiles and computes once: programs, networks on every device, targets.

    Kept are the programs of the last `KEPT` sizes. Those of single images are shared with other runs in the process.
    """

    def __init__(self, *, mapping: devices.Mapping | None):
        self.mapping: devices.Mapping | None = mapping  # `None`: one pair on the default device, without axes
        self.seconds, self.compiled = 0.0, 0  # of compiling, and programs, including those no longer kept
        self._of_sizes: Latest[Latest[Program]] = Latest(most=KEPT)
        self._of_styles: Latest[Program] = Latest(most=STYLES_KEPT)
        self._networks: Latest[Any] = Latest(capacity=REMEMBERED)
        self._targets: Latest[Any] = Latest(capacity=REMEMBERED)

    def network(self, problem: Problem) -> Backbone:
        """Return the network of a problem, on every device."""
        if self.mapping is None:
            return problem.loaded.network
        return self._networks.get(problem.loaded.key, lambda: devices.replicate(problem.loaded.network))

    def longest(self, scale: Scale) -> int:
        """Return the most steps of a chunk at a scale."""
        return scale.steps

    def chunk(self, problem: Problem, scale: Scale, *, steps: int, size: int) -> Program:
        """Return the program that takes `steps` at one scale with `size` pairs per device.

        It takes network, targets and state to state and history; the state's memory is given up.
        """
        objective, solver, network = problem.objective, problem.solver, problem.loaded.network
        image = jax.ShapeDtypeStruct((scale.height, scale.width, 3), jnp.float32)

        def make() -> Program:
            # Shapes and types alone are needed: nothing is computed before memory is checked.
            key, (blend, regions) = _recent_key(problem), _abstract_regions(problem, scale)
            images = [image] * blend.shape[0]
            targets = _targets.of(key).eval_shape(
                network, image, images, objective=objective, blend=blend, regions=regions
            )
            state = self.shapes(problem, scale)
            options = {"objective": objective, "solver": solver, "steps": steps}
            if self.mapping is None:
                return compiled(_chunk.of(key), network, targets, state, **options)
            mapped = devices.map_batch(
                functools.partial(take_steps, **options), shared=["network"], donated=["state"], mapping=self.mapping
            )
            return compiled(mapped, self.network(problem), *devices.abstract_batch((targets, state), size=size))

        key = (problem.loaded.structure, objective, solver, image.shape, problem.regions, steps, size)
        return self._get(self._of_size(problem), key, make)

    def shapes(self, problem: Problem, scale: Scale) -> Any:
        """Return the shapes of a state at a scale."""
        image = jax.ShapeDtypeStruct((scale.height, scale.width, 3), jnp.float32)
        return _initialized.of(_recent_key(problem)).eval_shape(
            image, solver=problem.solver, terms=problem.objective.terms
        )

    def placed(self, state: Any, scale: Scale) -> Any:
        """Return the host arrays of a single image's state where its steps are taken."""
        return jax.tree.map(jnp.asarray, state)

    def start(self, problem: Problem, images: Any) -> Any:
        """Return the solver's states before the first step."""
        return self._call(_initialized, problem, images, terms=problem.objective.terms)

    def carry(self, problem: Problem, state: Any, scale: Scale) -> Any:
        """Return the states carried to another scale."""
        return self._call(_resized, problem, state, height=scale.height, width=scale.width)

    def images(self, problem: Problem, state: Any) -> Any:
        """Return the images of the states."""
        return self._call(_image, problem, state)

    def targets(self, pair: PreparedPair, place: int) -> Targets:
        """Return the targets of a pair at one of its scales; in a batch, in host memory."""
        problem, content, styles = pair.problem, pair.contents[place], pair.styles[place]
        shapes, made = tuple(style.shape for style in styles), (problem.loaded.key, problem.objective)
        apart = bool(problem.regions)

        def of_content() -> Any:
            function = _content_targets.of(_recent_key(problem))
            return self._compute(function, self._of_size(problem), problem, jnp.asarray(content))

        if self.mapping is None:
            content_targets, style_targets = of_content(), self.style_targets(pair, place)
        else:
            # What several pairs have in common is computed once.
            keys = (*made, pair.content_key, content.shape), (*made, pair.style_key, shapes, pair.settings.blend, apart)
            content_targets = self._targets.get(keys[0], lambda: jax.device_get(of_content()))
            style_targets = self._targets.get(keys[1], lambda: jax.device_get(self.style_targets(pair, place)))
        if not apart:
            return Targets(content_targets, style_targets)
        blend = blend_of(pair)
        regions = Regions(jnp.asarray(pair.regions[place]), blend / blend.sum())
        return Targets(content_targets, style_targets, regions if self.mapping is None else jax.device_get(regions))

    def style_targets(self, pair: PreparedPair, place: int) -> dict[str, Target]:
        """Return the style targets of a pair at one of its scales."""
        problem, styles = pair.problem, pair.styles[place]
        blend, shapes = blend_of(pair), tuple(style.shape for style in styles)
        function = _style_targets.of((_recent_key(problem), shapes))
        images, masks = jax.tree.map(jnp.asarray, ([*styles], [*pair.style_masks[place]]))
        static = {"apart": bool(problem.regions)}
        return self._compute(function, self._of_styles, problem, images, static, blend=blend, masks=masks)

    def put(self, trees: Sequence[Any], *, size: int) -> Any:
        """Return what pairs have each, on the devices; those missing from a full batch are copies of the last."""
        if self.mapping is None:
            return jax.tree.map(jnp.asarray, trees[0])
        return devices.split(jax.tree.map(lambda *leaves: np.stack(leaves), *devices.pad(trees, size=size)))

    def fetch(self, tree: Any, *, length: int) -> Any:
        """Return results as host arrays, `length ...`."""
        if self.mapping is None:
            return jax.tree.map(lambda x: np.asarray(x)[None], jax.device_get(tree))
        return devices.gather(tree, length=length)

    def _compute(
        self,
        function: Any,
        kept: Latest[Program],
        problem: Problem,
        images: Any,
        static: Mapping[str, Hashable] = MappingProxyType({}),
        **options: Any,
    ) -> Any:
        """Apply a function of a network and of images of one pair."""
        network, static = problem.loaded.network, {"objective": problem.objective, **static}
        if self.mapping is None:
            return function(network, images, **static, **options)
        leaves, structure = jax.tree.flatten((images, options))
        make = functools.partial(compiled, function, network, images, **static, **options)
        key = ("targets", problem.loaded.structure, *static.values(), structure, *(leaf.shape for leaf in leaves))
        return self._get(kept, key, make)(network, images, **options)

    def _call(self, recent: Recent, problem: Problem, argument: Any, **options: Any) -> Any:
        """Apply a solver's function of one pair to all of a batch."""
        options["solver"] = problem.solver
        if self.mapping is None:
            return recent.of(_recent_key(problem))(argument, **options)
        mapped = devices.map_batch(functools.partial(recent.function, **options), mapping=self.mapping)
        leaves, structure = jax.tree.flatten(argument)
        key = (recent, structure, tuple(leaf.shape for leaf in leaves), *options.values())
        return self._get(self._of_size(problem), key, lambda: compiled(mapped, argument))(argument)

    def _of_size(self, problem: Problem) -> Latest[Program]:
        return self._of_sizes.get(problem.shapes, Latest)

    def _get(self, kept: Latest[Program], key: Hashable, make: Callable[[], Program]) -> Program:
        def timed() -> Program:
            began = time.perf_counter()
            program = make()
            self.seconds += time.perf_counter() - began
            self.compiled += 1
            return program

        return kept.get(key, timed)


def blend_of(pair: PreparedPair) -> Float[Array, " styles"]:
    """Return the weight of each style of a pair."""
    return jnp.asarray(pair.settings.blend or [1.0] * len(pair.styles[0]), jnp.float32)


def _abstract_regions(problem: Problem, scale: Scale) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct | None]:
    """Return the shapes of the blend and of the regions, if there are any."""
    number = problem.regions
    regions = jax.ShapeDtypeStruct((number, scale.height, scale.width), jnp.float32) if number else None
    return jax.ShapeDtypeStruct((number or 1,), jnp.float32), regions


def _recent_key(problem: Problem) -> Hashable:
    # What single images have in common whose programs are kept, and dropped, together.
    return problem.objective, problem.solver, problem.shapes


def chunk_length(remaining: int, *, every: int | None = None, step: int = 0) -> int:
    """Return the steps of the next chunk, which ends at a multiple of `every` steps of all scales if that is given."""
    if every:
        return min(remaining, every - step % every)
    return min(remaining, STEPS_BETWEEN_CALLBACKS.get(jax.default_backend(), 20))


def check_memory(programs: Programs, problem: Problem, *, every: int | None) -> None:
    """Raise an `OutOfMemoryError` before any long work if the finest scale of a single image will not fit."""
    finest = problem.scales[-1]
    if finest.size > memory.ANALYZED_SIZE:
        program, analyzed = analyzed_chunk(programs, problem, every=every)
        memory.check_fits(program, finest, analyzed=analyzed, fixed=weight_bytes(problem))


def analyzed_chunk(programs: Programs, problem: Problem, *, every: int | None) -> tuple[Program, Scale]:
    """Return a small program that tells what a large one takes, and its scale."""
    # One of the scales is analyzed if there is one of about that size, since it will be compiled anyway; else a square.
    most = memory.ANALYZED_SIZE
    near = [scale for scale in problem.scales if 0.75 * most <= scale.size <= most]
    analyzed = near[-1] if near else Scale(most, most, most, problem.scales[-1].steps)
    steps = chunk_length(analyzed.steps, every=every)
    return programs.chunk(problem, analyzed, steps=steps, size=1), analyzed


def weight_bytes(problem: Problem) -> int:
    """Return how much memory the network's weights take."""
    return sum(array.nbytes for array in jax.tree.leaves(problem.loaded.network))


@dataclass
class Run:
    """Pairs of one problem, solved together."""

    programs: Programs
    pairs: Sequence[PreparedPair]  # at most `size` for every device
    tell: Callable[["Run", int, float], bool]  # called after each chunk with its steps and seconds; whether to stop
    size: int = 1  # pairs per device
    every: int | None = None  # a chunk ends at every multiple of this many steps
    histories: list[dict[str, np.ndarray]] = field(default_factory=list)  # losses and terms by chunk, `pairs steps`
    failures: dict[int, UserError] = field(default_factory=dict)  # by place in `pairs`
    steps: list[int] = field(default_factory=list)  # done at each scale that was begun
    seconds: dict[str, float] = field(default_factory=lambda: {"compile": 0.0, "optimize": 0.0})  # of all pairs
    stopped: bool = False  # by `tell`, before the last step
    file: StateFile | None = None  # of a single image's state
    _state: Any = field(init=False, default=None)

    def solve(self) -> list[Result | UserError]:
        """Work through the scales; return what became of each pair, or raise an `OutOfMemoryError`."""
        self._resume()
        for place, scale in enumerate(self.problem.scales):
            if not self._over and self.steps[place : place + 1] != [scale.steps]:
                with memory.explained(scale.size):
                    self._solve_scale(place)
        with memory.explained(self.scale.size):
            images = self.images()
        return [self.failures.get(place) or self._result(place, image) for place, image in enumerate(images)]

    @property
    def problem(self) -> Problem:
        """What the pairs have in common."""
        return self.pairs[0].problem

    @property
    def scale(self) -> Scale:
        """The present scale."""
        return self.problem.scales[len(self.steps) - 1]

    @property
    def step(self) -> int:
        """Steps done at all scales."""
        return sum(self.steps)

    def images(self) -> list[AnyHostImage]:
        """Fetch the images so far: at the present scale; at the end, those of the results."""
        images = self.programs.fetch(self.programs.images(self.problem, self._state), length=len(self.pairs))
        return [self._finished(pair, image) for pair, image in zip(self.pairs, images, strict=True)]

    @property
    def _over(self) -> bool:
        return self.stopped or len(self.failures) == len(self.pairs)

    def _resume(self) -> None:
        """Take up the state of an earlier process, if there is one."""
        programs, problem = self.programs, self.problem
        found = self.file and self.file.read(
            lambda record: programs.shapes(problem, problem.scales[len(record["steps"]) - 1])
        )
        if found:
            state, self.histories, record = found
            self.steps, self.seconds = record["steps"], record["seconds"]
            self._state = programs.placed(state, self.scale)

    def _keep(self) -> None:
        # A short run that is stopped leaves no file.
        is_long = self.file is not None and sum(self.seconds.values()) >= self.file.seconds
        if self.file is not None and (self.file.due() or (self.stopped and is_long)):
            try:
                self.file.write(self._state, self.histories, {"steps": self.steps, "seconds": self.seconds})
            except UserError as problem:  # a full disk must not end a run of hours
                warnings.warn(f"the run's state is not kept: {problem}", stacklevel=2)

    def _solve_scale(self, place: int) -> None:
        began = time.perf_counter()
        programs, problem, size, scale = self.programs, self.problem, self.size, self.problem.scales[place]
        program = programs.chunk(problem, scale, steps=self._length(scale.steps), size=size)
        sharing = 1 if programs.mapping is None else memory.sharing()
        memory.check_fits(program, scale, fixed=weight_bytes(problem), sharing=sharing)
        targets = programs.put([programs.targets(pair, place) for pair in self.pairs], size=size)
        if place < len(self.steps):
            pass  # resumed
        elif self._state is None:
            self._state = programs.start(problem, programs.put([pair.start() for pair in self.pairs], size=size))
        else:
            self._state = programs.carry(problem, self._state, scale)
        self.steps += [0] * (place == len(self.steps))
        self.seconds["compile"] += time.perf_counter() - began
        while self.steps[-1] < scale.steps and not self._over:
            self._take_chunk(scale, targets)

    def _take_chunk(self, scale: Scale, targets: Any) -> None:
        before, length = time.perf_counter(), self._length(scale.steps - self.steps[-1])
        program = self.programs.chunk(self.problem, scale, steps=length, size=self.size)
        network = self.programs.network(self.problem)
        began = time.perf_counter()
        self._state, history = program(network, targets, self._state)
        self._record(self.programs.fetch(history, length=len(self.pairs)))
        took = time.perf_counter() - began  # fetching the history waits for the steps
        self.seconds["compile"] += began - before
        self.seconds["optimize"] += took
        self.steps[-1] += length
        if not self._over:
            # After the last step there is nothing to stop.
            self.stopped = self.tell(self, length, took) and self.step < sum(s.steps for s in self.problem.scales)
            self._keep()

    def _length(self, remaining: int) -> int:
        most = self.programs.longest(self.scale if self.steps else self.problem.scales[0])
        return min(chunk_length(remaining, every=self.every, step=self.step), most)

    def _record(self, history: dict[str, np.ndarray]) -> None:
        self.histories.append(history)
        for place, pair in enumerate(self.pairs):
            own = {name: values[place] for name, values in history.items()}
            failure = find_failure(own, before=self.step, source=pair.problem.loaded.source)
            if failure is not None:
                self.failures.setdefault(place, failure)

    def _finished(self, pair: PreparedPair, image: HostImage) -> AnyHostImage:
        """Return an image at its own aspect ratio, with the content's colors if the settings say so."""
        if self.scale == self.problem.scales[-1]:
            image = resize(image, *pair.shape)
        if pair.settings.colors != "luminance":
            return image
        content = resize(pair.contents[len(self.steps) - 1], *image.shape[:2])
        return np.asarray(transfer_luminance(jnp.asarray(content), jnp.asarray(image)))

    def _result(self, place: int, image: AnyHostImage) -> Result:
        pair = self.pairs[place]
        return Result(
            image=image,
            history={name: np.concatenate([h[name][place] for h in self.histories]) for name in self.histories[0]},
            sizes=self.problem.shapes[: len(self.steps)],
            steps=tuple(self.steps),
            status="stopped" if self.stopped else "done",
            settings=pair.settings,
            source=pair.problem.loaded.source,
            seconds={"load": pair.seconds, **{k: value / len(self.pairs) for k, value in self.seconds.items()}},
        )


def find_failure(history: dict[str, np.ndarray], *, before: int, source: Source) -> NonFiniteLossError | None:
    """Return the error of the first step of a chunk whose loss or gradient was not finite, if there is one."""
    totals = history["total"]
    if np.isfinite(totals).all():
        return None
    first = int(np.flatnonzero(~np.isfinite(totals))[0])
    bad = [name for name, values in history.items() if name != "total" and not np.isfinite(values[first])]
    # If every term is finite, the gradient was not: `as_failed`.
    name, value = (bad[0], history[bad[0]][first]) if bad else ("gradient", totals[first])
    return NonFiniteLossError(step=before + first + 1, term=name, value=float(value), source=source)
