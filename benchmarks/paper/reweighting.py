"""How much of SWAG is re-weighting: smoothed losses compared with raw ones whose layers have the weights of smoothing.

A factor alpha on a layer multiplies its Gram loss by alpha^4 and its content loss by alpha^2. So the released code's
alpha = 0.001 must make exactly the image of raw activations with these weights: `factor` and `factor as weights`. A
softmax changes more than weights. The part that weights can do is `re-weighted`: raw losses, with each layer weighted
so that its gradient at the image has, on average, the same length as after the softmax.

Run: `python benchmarks/paper/reweighting.py`.
"""

import functools
import sys
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from experiment import Experiment, Pair, chosen_pairs, parse, run
from methods import NETWORKS, Flags, method

import swag_jax as swag
from swag_jax import optimize
from swag_jax.backbones.zoo import entry
from swag_jax.losses.objective import Normalization

ALPHA = 1e-3
"""Of peiwang062/swag, resnet_swag.py, applied to layer3 and layer4."""

COMPARED: tuple[tuple[str, Normalization], ...] = (
    ("p-ResNet50", "released"),
    ("p-ResNet50", "relative"),
    ("p-VGG19", "released"),
    ("r-ResNet50", "released"),
)


def gradient_lengths(settings: swag.StylizeSettings, content: np.ndarray, style: np.ndarray) -> dict[str, float]:
    """Return the length of the gradient of every term halfway from content to style, where neither loss is zero."""
    objective = settings.full_objective
    network = _loaded(settings.backbone, settings.weights, objective.layers)
    style = np.asarray(swag.images.resize(style, *content.shape[:2]))
    halfway = jnp.asarray((content + style) / 2)
    found = _lengths(network, jnp.asarray(content), jnp.asarray(style), halfway, objective=objective)
    return {name: float(length) for name, length in found.items()}


@functools.lru_cache(maxsize=1)
def _loaded(name: str, weights: str, layers: tuple[str, ...]) -> swag.Backbone:
    return swag.backbones.load(name, weights=weights, layers=layers)[0]


@functools.partial(jax.jit, static_argnames="objective")
def _lengths(network, content, style, image, *, objective):
    targets = optimize.make_targets(network, content, [style], objective=objective)
    _, pullback = jax.vjp(lambda x: swag.losses.evaluate(network, x, targets, objective=objective)[1], image)
    zeros = dict.fromkeys(objective.terms, jnp.float32(0))
    return {name: jnp.linalg.norm(pullback({**zeros, name: jnp.float32(1)})[0]) for name in objective.terms}


def reweighted(network: str, units: Normalization, pairs: list[Pair], size: int) -> Flags:
    """Return the flags of raw losses with the weights of SWAG's softmax on the last two style layers.

    Args:
        network: A label of `methods.NETWORKS`.
        units: From `methods.UNITS`.
        pairs: Gradients are averaged over them.

    Returns:
        The flags; none if a raw gradient is zero or not finite in float32, since then no weights fit.
    """
    backbone, weights = NETWORKS[network]
    raw = method(network, units)
    relative = units == "relative"
    shares = () if relative else (1.0,) * len(entry(backbone).style_layers)
    plain = swag.losses.Objective(
        content_weight=float(raw["content-weight"]),
        style_weight=float(raw["style-weight"]),
        normalization=units,
        style_layer_weights=shares,
    ).for_backbone(backbone)
    softmax = swag.Smoothing.softmax(temperature=1.0, over="channels", layers=entry(backbone).style_layers[-2:])
    settings = swag.StylizeSettings(backbone=backbone, weights=weights)
    objectives = [plain.replace(smoothing=smoothing) for smoothing in (softmax, swag.Smoothing.none())]
    ratios = []
    for pair in pairs:
        images = [swag.read_image(path, size=size) for path in (pair.content, pair.style)]
        above, below = (gradient_lengths(settings.replace(objective=one), *images) for one in objectives)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios.append([np.log(above[name]) - np.log(below[name]) for name in above])
    content, *layers = np.exp(np.mean(ratios, axis=0))
    if not np.isfinite([content, *layers]).all():
        print(f"left out: {network}, re-weighted: its raw gradients are zero or not finite in float32", file=sys.stderr)
        return {}
    # In relative units weights sum to one: each of five style layers has a fifth.
    whole = len(layers) if relative else 1
    shares = ",".join(f"{weight / whole:.3g}" for weight in layers)
    return method(network, units, content_weight=float(f"{content:.3g}"), style_layer_weights=shares)


def methods(pairs: list[Pair], size: int) -> dict[str, Flags]:
    """Return all methods by label: `NETWORK, UNITS: KIND`."""
    found = dict[str, Flags]()
    for network, units in COMPARED:
        found[f"{network}, {units}: raw"] = method(network, units)
        found[f"{network}, {units}: SWAG"] = method(network, units, "SWAG")
        found[f"{network}, {units}: re-weighted"] = reweighted(network, units, pairs, size)
    for network in ("p-ResNet50", "r-ResNet50"):
        group = f"{network}, released"
        as_weights = f"1,1,1,{ALPHA**4:g},{ALPHA**4:g}"
        found[f"{group}: factor"] = method(network, smoothing="factor")
        found[f"{group}: factor as weights"] = method(network, style_layer_weights=as_weights, content_weight=ALPHA**2)
    return {label: flags for label, flags in found.items() if flags}


OTHERS = {"SWAG": "raw", "re-weighted": "SWAG", "factor": "raw", "factor as weights": "factor"}
"""What a kind is compared with, pair by pair."""


def compared(labels: Iterable[str]) -> dict[str, str]:
    """Return the reference of each method `GROUP: KIND`."""
    split = {label: label.rsplit(": ", 1) for label in labels}
    return {label: f"{group}: {OTHERS[kind]}" for label, (group, kind) in split.items() if kind in OTHERS}


def main() -> None:
    """Find the weights first, then stylize."""
    title = "SWAG and plain losses, re-weighted"
    arguments = parse(title, rows=2)
    pairs = chosen_pairs(arguments)
    found = methods(pairs, arguments.size)
    run(Experiment("reweighting", title, found, references=compared(found)), arguments)


if __name__ == "__main__":
    main()
