"""One image by optimization: the pure solve of one scale, and the coarse-to-fine driver around it."""

import itertools
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from swag_jax import devices
from swag_jax._programs import Program, Recent, compiled
from swag_jax._types import AnyImage, HostImage, Image, Key
from swag_jax.backbones import Backbone
from swag_jax.images import resize
from swag_jax.images._arrays import as_image, host_image
from swag_jax.losses import Objective, Targets
from swag_jax.optimize import memory
from swag_jax.optimize.preparation import (
    Images,
    check_blend,
    chunk_length,
    find_failure,
    finished,
    initial,
    listed,
    load_network,
    make_targets,
    objective_with_gradient,
    recolored,
    style_shape,
    take_steps,
)
from swag_jax.optimize.pyramid import Scale, plan
from swag_jax.optimize.result import Progress, Result
from swag_jax.optimize.settings import StylizeSettings
from swag_jax.optimize.solvers import History, Solver, State, run
from swag_jax.params import Source

Callback: TypeAlias = Callable[[Progress], object]
"""Called between chunks of steps; returning True stops the run."""


def solve(
    network: Backbone,
    content: Image,
    styles: Sequence[AnyImage],
    *,
    objective: Objective,
    solver: Solver,
    steps: int,
    init: Image | None = None,
) -> tuple[Image, History]:
    """Stylize one image at one scale, as a pure function to be jitted, vmapped or sharded.

    Args:
        content: `height width 3` in [0, 1].
        styles: One or more style images, of any sizes, mixed equally.
        objective: What is minimized.
        solver: `LBFGS()` or `Adam()`.
        steps: Steps, each one evaluation of loss and gradient.
        init: Where to start; default: the content.

    Returns:
        The image in [0, 1], and the loss (`total`) and every weighted term by step.

    Raises:
        UserError: If an array is no image: by its shape and type and, outside of `jax.jit`, by its values.

    Example:
        >>> import jax
        >>> from swag_jax import backbones
        >>> network = backbones.create("vgg19", until="relu1_1")
        >>> objective = Objective(content_layers=("relu1_1",), style_layers=("relu1_1",))
        >>> batch = jax.random.uniform(jax.random.key(0), (2, 32, 32, 3))
        >>> def one(content, style):
        ...     return solve(network, content, [style], objective=objective, solver=StylizeSettings().method, steps=2)
        >>> images, history = jax.vmap(one)(batch, batch[::-1])
        >>> images.shape, history["total"].shape
        ((2, 32, 32, 3), (2, 2))
    """
    network = network.frozen()
    content, styles = as_image(content, "content"), [as_image(style, "style") for style in styles]
    init = content if init is None else as_image(init, "init")
    targets = make_targets(network, content, styles, objective=objective, blend=jnp.ones(len(styles), jnp.float32))
    evaluation = objective_with_gradient(network, targets, objective)
    state = solver.init(init, objective.terms)
    state, history = run(evaluation, solver, state, steps=steps)
    return solver.image(state), history


@devices.drives_devices
def stylize(
    content: ArrayLike,
    style: ArrayLike | Sequence[ArrayLike],
    *,
    settings: StylizeSettings | None = None,
    key: Key | None = None,
    init: ArrayLike | None = None,
    callback: Callback | None = None,
    every: int | None = None,
) -> Result:
    """Paint `content` in the manner of `style` by optimizing an image, coarse to fine.

    Args:
        content: The content image, `height width 3` in [0, 1].
        style: The style image, or several to be mixed; any sizes.
        settings: Network, losses, solver and sizes; see `swag_jax.presets`.
        key: Randomness of the initial noise; default: from `settings.seed`.
        init: An image to start from, instead of what `settings.init` says.
        callback: Called with a `Progress` between chunks of steps; returning True stops the run.
        every: Call `callback` at every multiple of this many steps, and at the end of each scale; default: after
            every 5 steps on the CPU, 20 elsewhere.

    Returns:
        The image at the content's aspect ratio with `settings.size` as its longer side, and the run's record.

    Raises:
        UserError: If an input or a setting is bad.
        NonFiniteLossError: If a loss is not finite, naming step and term.
        OutOfMemoryError: If the device's memory does not hold the run, naming the size that would fit.

    Example:
        >>> import numpy as np
        >>> content, style = np.random.default_rng(0).random((2, 32, 48, 3))
        >>> result = stylize(content, style, settings=StylizeSettings(size=48, steps=4))
        >>> result.image.shape
        (32, 48, 3)
    """
    settings = settings or StylizeSettings()
    started = time.perf_counter()
    images = Images(
        content=host_image(content, "content"),
        styles=tuple(host_image(s, "style") for s in listed(style)),
        init=None if init is None else host_image(init, "init"),
    )
    check_blend(settings, images)
    network, source = load_network(settings)
    minimum = network.minimum_size(settings.full_objective.layers)
    scales = plan(images.content.shape[:2], settings, minimum_size=minimum)
    job = _Job(settings, network, source, recolored(images, settings), scales, callback, every)
    job.seconds["load"] = time.perf_counter() - started
    return job.run(jax.random.key(settings.seed) if key is None else key)


@dataclass
class _Job:
    """One run of `stylize`: what it works on, and what it has recorded so far."""

    settings: StylizeSettings
    network: Backbone
    source: Source
    images: Images
    scales: tuple[Scale, ...]
    callback: Callback | None
    every: int | None
    history: list[dict[str, np.ndarray]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"compile": 0.0, "optimize": 0.0})
    programs: dict[tuple[Scale, int], Program] = field(default_factory=dict)
    step: int = 0
    stopped: bool = False

    def run(self, key: Key) -> Result:
        """Work through the scales."""
        self._check_memory()
        state = None
        for scale in self.scales:
            with memory.explained(scale.size):
                state = self._run_scale(scale, state, key)
            if self.stopped:
                break
        assert state is not None  # plan() never returns an empty tuple
        return self._result(self._image(state))

    @property
    def _size(self) -> Hashable:
        """What runs have in common that share their programs."""
        settings, shapes = self.settings, tuple((s.height, s.width) for s in self.scales)
        return settings.backbone, settings.precision, settings.full_objective, settings.method, shapes

    @property
    def _sizes(self) -> Hashable:
        """The same for programs that see the style images."""
        return self._size, tuple(style.shape for style in self.images.styles), self.settings.style_scale

    def _image(self, state: State) -> HostImage:
        return np.asarray(_image.of(self._size)(state, solver=self.settings.method))

    def _run_scale(self, scale: Scale, previous: State | None, key: Key) -> State:
        remaining = scale.steps
        self._program(scale, self._chunk_length(remaining))
        began = time.perf_counter()
        targets = self._targets(scale)
        state: Any = self._start(scale, key) if previous is None else self._carry(previous, scale)
        self.seconds["compile"] += time.perf_counter() - began
        while remaining and not self.stopped:
            length = self._chunk_length(remaining)
            program = self._program(scale, length)
            began = time.perf_counter()
            state, history = program(self.network, targets, state)
            self._record(jax.device_get(history))
            took = time.perf_counter() - began
            self.seconds["optimize"] += took
            remaining -= length
            self._report(state, scale, remaining, length / took)
        return state

    def _chunk_length(self, remaining: int) -> int:
        """Return the steps to the next callback, which falls on every multiple of `every` if that is given."""
        if self.every:
            return min(remaining, self.every - self.step % self.every)
        return chunk_length(remaining)

    def _targets(self, scale: Scale) -> Targets:
        settings = self.settings
        content = jnp.asarray(resize(self.images.content, scale.height, scale.width))
        styles = [jnp.asarray(resize(s, *self._style_shape(s, scale))) for s in self.images.styles]
        blend = jnp.asarray(settings.blend or [1.0] * len(styles), jnp.float32)
        return _targets.of(self._sizes)(self.network, content, styles, objective=settings.full_objective, blend=blend)

    def _style_shape(self, style: HostImage, scale: Scale) -> tuple[int, int]:
        minimum = self.network.minimum_size(self.settings.full_objective.layers)
        return style_shape(style.shape[:2], scale, settings=self.settings, minimum_size=minimum)

    def _start(self, scale: Scale, key: Key) -> State:
        settings = self.settings
        image = initial(self.images, scale, key, settings=settings)
        return _initialized.of(self._size)(image, solver=settings.method, terms=settings.full_objective.terms)

    def _carry(self, state: State, scale: Scale) -> State:
        return _resized.of(self._size)(state, solver=self.settings.method, height=scale.height, width=scale.width)

    def _check_memory(self) -> None:
        """Raise before any long work if the finest scale will not fit."""
        finest = self.scales[-1]
        if finest.size > memory.ANALYZED_SIZE:
            analyzed = memory.analyzed_scale(self.scales)
            program = self._program(analyzed, self._chunk_length(analyzed.steps))
            memory.check_fits(program, finest, analyzed=analyzed, fixed=self._weight_bytes)

    @property
    def _weight_bytes(self) -> int:
        return sum(array.nbytes for array in jax.tree.leaves(self.network))

    def _program(self, scale: Scale, length: int) -> Program:
        """Return the compiled program of a chunk of steps; it is compiled once, before its arrays exist."""
        if (scale, length) not in self.programs:
            began = time.perf_counter()
            program = self._compile(scale, length)
            self.seconds["compile"] += time.perf_counter() - began
            memory.check_fits(program, scale, fixed=self._weight_bytes)
            self.programs[scale, length] = program
        return self.programs[scale, length]

    def _compile(self, scale: Scale, length: int) -> Program:
        objective, solver = self.settings.full_objective, self.settings.method
        image, *styles = (
            jax.ShapeDtypeStruct((*shape, 3), jnp.float32)
            for shape in [(scale.height, scale.width), *(self._style_shape(s, scale) for s in self.images.styles)]
        )
        blend = jax.ShapeDtypeStruct((len(styles),), jnp.float32)
        targets = _targets.of(self._sizes).eval_shape(self.network, image, styles, objective=objective, blend=blend)
        state = _initialized.of(self._size).eval_shape(image, solver=solver, terms=objective.terms)
        chunk = _chunk.of(self._size)
        return compiled(chunk, self.network, targets, state, objective=objective, solver=solver, steps=length)

    def _record(self, history: dict[str, np.ndarray]) -> None:
        self.history.append(history)
        failure = find_failure(history, before=self.step, source=self.source)
        if failure is not None:
            raise failure
        self.step += len(history["total"])

    def _report(self, state: State, scale: Scale, remaining: int, rate: float) -> None:
        if self.callback is None:
            return
        ahead = sum(s.work for s in self.scales[self.scales.index(scale) + 1 :])
        pixels = scale.height * scale.width
        progress = Progress(
            step=self.step,
            steps=self.settings.steps,
            height=scale.height,
            width=scale.width,
            losses={name: float(values[-1]) for name, values in self.history[-1].items()},
            rate=rate,
            seconds=self.seconds["compile"] + self.seconds["optimize"],
            seconds_left=(remaining * pixels + ahead) / (rate * pixels),
            image=lambda: self._finished(self._image(state)),
        )
        self.stopped = self.callback(progress) is True and self.step < self.settings.steps

    def _taken(self) -> list[tuple[Scale, int]]:
        """Return the scales that were begun, with the steps taken at each; fewer than planned after a stop."""
        before = itertools.accumulate((s.steps for s in self.scales), initial=0)
        pairs = [(s, min(s.steps, self.step - b)) for s, b in zip(self.scales, before, strict=False)]
        return [(s, steps) for s, steps in pairs if steps > 0]

    def _result(self, image: HostImage) -> Result:
        names = self.history[0]
        return Result(
            image=self._finished(image),
            history={name: np.concatenate([chunk[name] for chunk in self.history]) for name in names},
            sizes=tuple((s.height, s.width) for s, _ in self._taken()),
            steps=tuple(steps for _, steps in self._taken()),
            status="stopped" if self.stopped else "done",
            settings=self.settings,
            source=self.source,
            seconds=dict(self.seconds),
        )

    def _finished(self, image: HostImage) -> HostImage:
        return finished(image, self.images.content, settings=self.settings)


def _initialize(image: Image, *, solver: Solver, terms: tuple[str, ...]) -> State:
    return solver.init(image, terms)


def _resize(state: State, *, solver: Solver, height: int, width: int) -> State:
    return solver.resized(state, height, width)


def _image_of(state: State, *, solver: Solver) -> Image:
    return solver.image(state)


_chunk = Recent(take_steps, static_argnames=("objective", "solver", "steps"), donate_argnames=("state",))
_targets = Recent(make_targets, static_argnames=("objective",))
_initialized = Recent(_initialize, static_argnames=("solver", "terms"))
_resized = Recent(_resize, static_argnames=("solver", "height", "width"))
_image = Recent(_image_of, static_argnames=("solver",))
