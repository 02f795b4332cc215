"""What a run over many pairs compiles and computes once: programs, networks on every device, targets."""

import functools
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from swag_jax import devices
from swag_jax._programs import KEPT, Latest, Program, compiled
from swag_jax._types import AnyImage, Image
from swag_jax.losses import Targets, content_targets, style_targets
from swag_jax.optimize.once import Once
from swag_jax.optimize.preparation import make_targets, take_steps
from swag_jax.optimize.pyramid import Scale
from swag_jax.optimize.reader import PreparedPair
from swag_jax.optimize.solvers import Solver

REMEMBERED = 2**30
"""Bytes of targets, and of networks, that are remembered for other pairs that need them. Our choice."""

TARGETS_KEPT = 64
"""Programs of targets that are kept; each is of one shape and scale, for any content that meets a style of it."""

_ANY = 2**30
"""Programs of one size: as many as its scales, batches and objectives need."""


class Programs:
    """The programs of one run, each compiled when it is first asked for; kept are those of the last `KEPT` sizes.

    Attributes:
        mapping: How batches are mapped over the devices.
        seconds: Seconds spent on compiling.
        compiled: Programs compiled so far, those that are not kept any more included.
        kept: Programs by the sizes that they are for.
    """

    def __init__(self, *, mapping: devices.Mapping):
        self.mapping: devices.Mapping = mapping
        self.seconds, self.compiled = 0.0, 0
        self.kept: Latest[Latest[Program]] = Latest(most=KEPT)
        self._of_targets: Latest[Program] = Latest(most=TARGETS_KEPT)
        self._of_size: Latest[Program] = Latest(most=_ANY)
        self._networks, self._targets = Once(capacity=REMEMBERED), Once(capacity=REMEMBERED)

    def network(self, work: PreparedPair) -> Any:
        """Return the network of a pair, on every device."""
        return self._networks.get(work.loaded.key, lambda: devices.replicate(work.loaded.network))

    def chunk(self, work: PreparedPair, scale: Scale, *, steps: int, size: int) -> Program:
        """Return the program that takes steps at one scale; what is asked for until the next one has the same sizes.

        Args:
            work: Any pair of the bucket.
            scale: One of its scales.
            steps: How many steps to take.
            size: Pairs per device.

        Returns:
            Network, targets and state to state and history; the state's memory is given up.
        """
        objective, solver = work.objective, work.solver
        shapes = tuple((each.height, each.width) for each in work.scales)
        self._of_size = self.kept.get(shapes, lambda: Latest(most=_ANY))
        image = jax.ShapeDtypeStruct((scale.height, scale.width, 3), jnp.float32)

        def make() -> Program:
            mixed = functools.partial(make_targets, objective=objective, blend=[1.0])
            targets = jax.eval_shape(lambda n, p: mixed(n, p, [p]), work.loaded.network, image)
            state = jax.eval_shape(functools.partial(solver.init, terms=objective.terms), image)
            chunk = functools.partial(take_steps, objective=objective, solver=solver, steps=steps)
            program = devices.map_batch(chunk, shared=["network"], donated=["state"], mapping=self.mapping)
            return compiled(program, self.network(work), *devices.abstract_batch((targets, state), size=size))

        return self._get((work.loaded.structure, objective, solver, image.shape, steps, size), make, self._of_size)

    def start(self, images: Any, *, solver: Solver, terms: tuple[str, ...]) -> Any:
        """Return the solver's states before the first step, `devices size ...` like the images."""
        return self._call("start", functools.partial(_initialized, solver=solver, terms=terms), images, solver, terms)

    def carry(self, state: Any, scale: Scale, *, solver: Solver) -> Any:
        """Return the states carried to another scale."""

        def resized(state: Any) -> Any:
            return solver.resized(state, scale.height, scale.width)

        return self._call("carry", resized, state, solver, scale.height, scale.width)

    def images(self, state: Any, *, solver: Solver) -> Any:
        """Return the images of the states."""
        return self._call("images", solver.image, state, solver)

    def targets(self, work: PreparedPair, place: int) -> Targets:
        """Return the targets of a pair at one of its scales, in host memory.

        Those of a content, a style or a mixture of styles that several pairs have in common are computed once.
        """
        made, blend = (work.loaded.key, work.objective), work.pair.settings.blend
        content, styles = work.contents[place], work.styles[place]
        shapes = tuple(style.shape for style in styles)

        def of_content() -> Any:
            compute = functools.partial(content_targets, objective=work.objective)
            return self._target("content", work, (content.shape,), compute, jnp.asarray(content))

        def of_styles() -> Any:
            compute = functools.partial(_style_targets, objective=work.objective)
            weights = jnp.asarray(blend or [1.0] * len(styles), jnp.float32)
            return self._target("style", work, shapes, compute, [jnp.asarray(s) for s in styles], weights)

        return Targets(
            content=self._targets.get((made, "content", work.content_key, content.shape), of_content),
            style=self._targets.get((made, "style", work.style_key, shapes, blend), of_styles),
        )

    def _target(
        self, what: str, work: PreparedPair, shapes: tuple, function: Callable[..., Any], *arguments: Any
    ) -> Any:
        key, network = (what, work.loaded.structure, work.objective, shapes), work.loaded.network
        program = self._get(key, lambda: compiled(jax.jit(function), network, *arguments), self._of_targets)
        return jax.device_get(program(network, *arguments))

    def _call(self, what: str, function: Callable[..., Any], argument: Any, *also: Hashable) -> Any:
        """Apply a function of one problem to all problems of a batch."""
        leaves, structure = jax.tree.flatten(argument)
        shapes = tuple(leaf.shape for leaf in leaves)
        program = devices.map_batch(function, mapping=self.mapping)
        return self._get((what, structure, shapes, *also), lambda: compiled(program, argument), self._of_size)(argument)

    def _get(self, key: Hashable, make: Callable[[], Program], kept: Latest[Program]) -> Program:
        def timed() -> Program:
            began = time.perf_counter()
            program = make()
            self.seconds += time.perf_counter() - began
            self.compiled += 1
            return program

        return kept.get(key, timed)


def _initialized(image: Image, *, solver: Solver, terms: tuple[str, ...]) -> Any:
    return solver.init(image, terms)


def _style_targets(network: Any, images: Sequence[AnyImage], blend: Any, *, objective: Any) -> Any:
    return style_targets(network, images, objective=objective, blend=blend)
