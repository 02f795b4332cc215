r"""Peaks and entropies of activations and Gram matrices, stage by stage, averaged over images.

The protocol of the SWAG paper's figure of activation statistics: the last layer of each stage of a network, raw and
after a smoothing. Of the activations F of a layer, and of their Gram matrix G, it measures

* `max`: the largest entry;
* `entropy`: :math:`H_n = -\frac{1}{\log N} \sum_i p_i \log p_i` with p the softmax over all N entries, in [0, 1];
* `peak`: the largest entry over the root mean square.

Maximum and entropy follow the scale of the activations. `peak`, our addition, does not.
"""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from swag_jax._checks import UserError, check_name, check_range, error
from swag_jax._scheduler import THREADS, OutOfMemoryError, memory_explained, schedule
from swag_jax._types import AnyHostImage, Features, Image, Images
from swag_jax.backbones import Backbone
from swag_jax.features import extract
from swag_jax.images._arrays import ImageSource, called, host_image
from swag_jax.measure.network_spec import CHOICES, Choice, LoadedNetwork, NetworkSpec, load_network
from swag_jax.params import Source
from swag_jax.smoothing import Smoothing, find_temperature, smooth, softmax
from swag_jax.statistics import gram, normalized_entropy, peak

MEASURES = ("max", "entropy", "peak", "gram_max", "gram_entropy", "gram_peak")
"""What is measured of each layer, in this order."""
# The paper names maximum and normalized entropy (eqs. 5 to 8); p, the Gram matrix as a mean over positions, and stored
# batch-norm statistics are our reading of it, under which random networks show the trends that it reports.

RAW = "none"
"""The label of activations that are not smoothed."""

SMOOTHINGS = (Smoothing("softmax", temperature=1.0), Smoothing("softmax", temperature="auto"))
"""The paper's smoothing (eq. 11), and ours."""

PIXELS_AT_ONCE = 2**18
"""Pixels of the images that one call of a program takes, at least one image. Our choice: VGG19, the hungriest
network, takes 1.0 GiB for them."""

IMAGES_WAITING = 64
"""Images that wait for others of their shape, at most. Our choice: 200 MB at 512 pixels."""


@dataclass(frozen=True)
class MeasuredImage:
    """The name, height and width in pixels of an image that was measured."""

    name: str
    height: int
    width: int


@dataclass(frozen=True)
class NetworkStatistics:
    """The statistics of one network."""

    spec: NetworkSpec
    source: Source
    # The last layer of each, from stage 0, the stem, on; of weights that end inside a stage, the last of its default
    # style layers that they reach.
    stages: Mapping[int, str]
    smoothings: tuple[str, ...]  # labels, `none` first
    values: Mapping[str, Float[np.ndarray, "images smoothings measures"]]  # by layer, shallow to deep

    def mean(self, layer: str, measure: str, *, smoothing: str = RAW) -> float:
        """Return one of `MEASURES` of a layer under a smoothing, by its label, averaged over the images."""
        return float(self._column(layer, measure, smoothing).mean())

    def deviation(self, layer: str, measure: str, *, smoothing: str = RAW) -> float:
        """Return the standard deviation of a measure over the images; 0 for a single one."""
        return float(self._column(layer, measure, smoothing).std())

    def line(self, measure: str, *, smoothing: str = RAW) -> dict[int, float]:
        """Return a measure by stage, averaged over the images."""
        return {stage: self.mean(layer, measure, smoothing=smoothing) for stage, layer in self.stages.items()}

    def as_dict(self, layer: str) -> dict[str, Any]:
        """Return a layer's raw means, their `deviation`, and both of each smoothing in `smoothed`."""

        def numbers(kind: str) -> dict[str, Any]:
            means = {measure: self.mean(layer, measure, smoothing=kind) for measure in MEASURES}
            return {**means, "deviation": {m: self.deviation(layer, m, smoothing=kind) for m in MEASURES}}

        smoothed = {kind: numbers(kind) for kind in self.smoothings if kind != RAW}
        return {"layer": layer, **numbers(RAW), "smoothed": smoothed}

    def _column(self, layer: str, measure: str, smoothing: str) -> Float[np.ndarray, " images"]:
        check_name(layer, self.values, what="layer")
        kind = self.smoothings.index(check_name(smoothing, self.smoothings, what="smoothing"))
        return self.values[layer][:, kind, MEASURES.index(check_name(measure, MEASURES, what="measure"))]


@dataclass(frozen=True)
class ActivationStatistics:
    """The statistics of all networks over the same images."""

    networks: Mapping[str, NetworkStatistics]  # by the names of the specs, in their order
    images: tuple[MeasuredImage, ...]  # that all networks were measured on, in their order
    failures: Mapping[str, str]  # what was wrong with the others, by name
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers for a JSON file: `{"networks": {name: {"stages": {stage: {"max": ..., ...}}}}}`.

        Stages are in order. If more layers were measured, all of them are in `layers`, next to `stages`.
        """
        found = {}
        for name, network in self.networks.items():
            by_layer = {layer: network.as_dict(layer) for layer in network.values}
            found[name] = {
                "backbone": network.spec.backbone,
                "options": dict(network.spec.options),
                "weights": network.source.describe(),
                "stages": {str(stage): by_layer[layer] for stage, layer in network.stages.items()},
            }
            if len(by_layer) > len(network.stages):
                found[name]["layers"] = by_layer
        return {
            "networks": found,
            "images": [vars(image) for image in self.images],
            "failures": [{"name": name, "error": problem} for name, problem in self.failures.items()],
        }


@dataclass(frozen=True)
class StatisticsProgress:
    """The state of a measurement between two calls of a network."""

    network: str  # that has just measured a few images
    images: int  # that all networks have measured, or that failed
    total: int
    failed: int
    seconds: float  # since the networks were loaded
    seconds_left: float  # expected from the rate so far


_Measured: TypeAlias = tuple[MeasuredImage, dict[str, dict[str, np.ndarray]]]
"""An image, and its numbers by network and layer."""

StatisticsCallback: TypeAlias = Callable[[StatisticsProgress], object]
"""Called whenever a network has measured some images."""


def label(smoothing: Smoothing) -> str:
    """Return the name that a smoothing's values go by.

    Example:
        >>> [label(smoothing) for smoothing in (Smoothing(), *SMOOTHINGS, Smoothing("scale"))]
        ['none', 'softmax T=1', 'softmax T=auto', 'scale 0.001']
    """
    if smoothing.kind == "scale":
        return f"{smoothing.kind} {smoothing.scale:g}"
    temperature = smoothing.temperature
    shown = temperature if isinstance(temperature, str) else format(temperature, "g")
    return smoothing.kind if smoothing.axes is None else f"{smoothing.kind} T={shown}"


def layer_statistics(features: Features, smoothing: Smoothing) -> Float[Array, " measures"]:
    """Return the `MEASURES` of one layer's features after a smoothing. Pure.

    Args:
        features: `height width channels`.
        smoothing: If it is `auto`, it finds its temperature on these features.

    Example:
        >>> one_hot = jnp.zeros((2, 2, 1)).at[0, 0, 0].set(4.0)
        >>> [round(float(x), 2) for x in layer_statistics(one_hot, Smoothing())][:4]
        [4.0, 0.19, 2.0, 4.0]
    """
    if smoothing.axes is None:
        values = smooth(features, smoothing)
    else:
        # As the paper writes it (eq. 11), a softmax sums to one here. Entropies after it are near one whatever the
        # network, so small are its entries; `peak` is that of the losses' entries, which have a mean of one.
        values = softmax(features, axes=smoothing.axes, temperature=find_temperature(features, smoothing))
    of = ((x.max(), normalized_entropy(jax.nn.softmax(x.ravel())), peak(x)) for x in (values, gram(values)))
    return jnp.stack([number for numbers in of for number in numbers])


@functools.partial(jax.jit, static_argnames=("layers", "smoothings"))
def _program(
    network: Backbone, images: Images, *, layers: tuple[str, ...], smoothings: tuple[Smoothing, ...]
) -> dict[str, Float[Array, "images smoothings measures"]]:
    def one(image: Image) -> dict[str, Any]:
        features = extract(network, image, layers=layers)
        return {
            layer: jnp.stack([layer_statistics(found, smoothing.at(layer)) for smoothing in smoothings])
            for layer, found in features.items()
        }

    return jax.vmap(one)(images)


def activation_statistics(
    images: Mapping[str, ImageSource],
    networks: Sequence[str | NetworkSpec],
    *,
    layers: Choice = "stages",
    smoothings: Sequence[Smoothing] = SMOOTHINGS,
    seed: int = 0,
    batch_size: int | None = None,
    callback: StatisticsCallback | None = None,
) -> ActivationStatistics:
    """Return the statistics of networks on images.

    Args:
        images: By name: images, `height width 3` in [0, 1], of any sizes, or functions without arguments that read them
            when their turn comes.
        networks: One given by its zoo name alone has random weights.
        layers: `stages` (the last layer of each), `all`, or layers by name, which every network must have.
        smoothings: Measure after each of these as well.
        seed: Of random weights.
        batch_size: Images of one shape that are measured at once, at most; default: by their pixels.
        callback: Called with a `StatisticsProgress` whenever a network has measured some images.

    Returns:
        The numbers of every image. One that cannot be measured by all networks is listed in `failures` and is part
        of no average.

    Raises:
        UserError: If a name is unknown, weights are missing or damaged, or no image can be measured.

    Example:
        >>> found = activation_statistics({"flat": jnp.full((16, 16, 3), 0.5)}, ["vgg19"], layers=("relu1_1",))
        >>> found.networks["vgg19"].stages, 0 < found.networks["vgg19"].mean("relu1_1", "max") < 2
        ({0: 'relu1_1'}, True)
    """
    if batch_size is not None:
        check_range(batch_size, what="batch size", low=1)
    if not layers:
        raise error("at least one layer must be given", cure=f"or {' or '.join(CHOICES)}")
    began = time.perf_counter()
    specs = [NetworkSpec(each, each) if isinstance(each, str) else each for each in networks]
    names = [spec.name for spec in specs]
    if not names or len(set(names)) < len(names):
        raise error("there must be networks, each with its own name", got=", ".join(names) or "none")
    kinds = {label(smoothing): smoothing for smoothing in (Smoothing(), *smoothings)}
    loaded = [load_network(spec, layers, seed=seed) for spec in specs]
    run = _Run(loaded, tuple(kinds.values()), total=len(images), batch_size=batch_size, callback=callback)
    measured = run.measure(images)
    found = {each.spec.name: _statistics(each, tuple(kinds), [values for _, values in measured]) for each in loaded}
    seen = tuple(image for image, _ in measured)
    return ActivationStatistics(found, seen, run.failures, time.perf_counter() - began)


def _statistics(
    network: LoadedNetwork, kinds: tuple[str, ...], values: Sequence[Mapping[str, Any]]
) -> NetworkStatistics:
    own = [each[network.spec.name] for each in values]
    by_layer = {layer: np.stack([each[layer] for each in own]).astype(np.float64) for layer in network.layers}
    return NetworkStatistics(network.spec, network.source, network.stages, kinds, by_layer)


class _Run:
    """One measurement: what was found so far, and what failed."""

    def __init__(
        self,
        networks: Sequence[LoadedNetwork],
        smoothings: tuple[Smoothing, ...],
        *,
        total: int,
        batch_size: int | None,
        callback: StatisticsCallback | None,
    ):
        self.networks, self.smoothings, self.total, self.callback = networks, smoothings, total, callback
        self.batch_size = batch_size
        self.failures: dict[str, str] = {}
        self._sizes: dict[tuple[int, int], int] = {}  # of the first batch of a shape, to which others are filled up
        self._found: dict[int, _Measured] = {}
        self._least = max((each.network.minimum_size(each.layers), each.spec.name) for each in networks)
        self._began = time.perf_counter()

    def measure(self, images: Mapping[str, ImageSource]) -> list[_Measured]:
        found = schedule(
            images.items(),
            prepare=self._read,
            bucket=lambda named: named[1].shape[:2],
            room=self._room,
            run=self._measure,
            ahead=THREADS,
            waiting=IMAGES_WAITING,
        )
        for index, (name, _), result in found:
            if isinstance(result, UserError):
                self.failures[name] = " ".join(str(result).split())
            else:
                self._found[index] = result
        if not self._found:
            problems = "; ".join(self.failures.values()) or "none was given."
            raise UserError(f"there must be an image that can be measured: {problems}")
        return [self._found[index] for index in sorted(self._found)]

    def _read(self, named: tuple[str, ImageSource]) -> tuple[str, AnyHostImage]:
        name, source = named
        image = host_image(called(source, name) if callable(source) else source, name)
        least, network = self._least
        if min(image.shape[:2]) < least:
            rule = f"the shorter side of {name} must be at least {least} px for {network}"
            raise error(rule, got=f"{image.shape[1]} x {image.shape[0]}", cure="take it at a larger size")
        return name, image

    def _room(self, named: tuple[str, AnyHostImage]) -> int:
        # As many as the first time, so that a shape has one program.
        height, width = named[1].shape[:2]
        return self._sizes.get((height, width), self.batch_size or max(1, PIXELS_AT_ONCE // (height * width)))

    def _measure(self, batch: Sequence[tuple[str, AnyHostImage]]) -> list[_Measured | UserError]:
        # The last image fills a batch up.
        images = [image for _, image in batch]
        height, width = shape = images[0].shape[:2]
        size = self._sizes.setdefault(shape, len(batch))
        filled = jnp.stack(images + images[-1:] * (size - len(batch)))
        values = {}
        for place, network in enumerate(self.networks):
            name = network.spec.name
            try:
                rule = f"images must fit into memory with {name}, got {size} of {width} x {height}"
                with memory_explained(rule, cure="take smaller images"):
                    found = _program(network.network, filled, layers=network.layers, smoothings=self.smoothings)
                    values[name] = jax.device_get(found)
            except OutOfMemoryError:
                del self._sizes[shape]
                raise
            self._tell(name, calls=len(batch) * (place + 1))
        return [
            self._checked(name, shape, {n: {layer: x[place] for layer, x in v.items()} for n, v in values.items()})
            for place, (name, _) in enumerate(batch)
        ]

    def _checked(self, name: str, shape: tuple[int, int], values: dict[str, Any]) -> _Measured | UserError:
        for network in self.networks:
            for layer in network.layers:
                if not np.isfinite(values[network.spec.name][layer]).all():
                    got = f"others at {layer} of {network.spec.name}"
                    return error(f"the activations of {name} must be finite", got=got, cure="check its weights")
        return MeasuredImage(name, *shape), values

    def _tell(self, network: str, *, calls: int) -> None:
        # Progress is counted in calls of a network on an image, of which each image takes one for every network.
        if self.callback is None:
            return
        calls += (len(self._found) + len(self.failures)) * len(self.networks)
        seconds, total = time.perf_counter() - self._began, self.total * len(self.networks)
        left, ended = seconds / calls * (total - calls), calls // len(self.networks)
        self.callback(StatisticsProgress(network, ended, self.total, len(self.failures), seconds, left))
