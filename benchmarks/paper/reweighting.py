"""How much of SWAG is re-weighting: smoothed losses compared with raw ones whose layers have the weights of smoothing.

A factor alpha on a layer multiplies its Gram loss by alpha^4 and its content loss by alpha^2. So the released code's
alpha = 0.001 must make exactly the image of raw activations with these weights: `alpha` and `alpha as weights`. A
softmax changes more than weights. The part that weights can do is `re-weighted`: raw losses, with each layer weighted
so that its gradient at the image has, on average, the same length as after the softmax. Both in relative units, where
the layers count alike at first, and in the released code's, where a layer counts by the fourth power of its
activations.

Run: `python benchmarks/paper/reweighting.py`.
"""

import functools
import sys
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from architectures import RELEASED
from experiment import Experiment, Flags, Pair, chosen_pairs, parse, run

import swag_jax as swag
from swag_jax import optimize
from swag_jax.backbones.zoo import entry

ALPHA = 1e-3
"""Of peiwang062/swag, resnet_swag.py, applied to layer3 and layer4."""

SCALED: Flags = {"preset": "swag-resnet50-released"}
AS_WEIGHTS: Flags = {
    **SCALED,
    "smoothing": "none",
    "style-layer-weights": f"1,1,1,{ALPHA**4},{ALPHA**4}",
    "content-weight": ALPHA**2,
}


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


def reweighted(network: str, weights: str, pairs: list[Pair], size: int, *, released: bool = False) -> Flags:
    """Return the flags of raw losses, with the weights of a softmax on the last two style layers.

    Args:
        pairs: Gradients are averaged over them.
        released: Whether to use the released code's units.

    Returns:
        The flags; none if a raw gradient is zero or not finite in float32, since then no weights fit.
    """
    deep = entry(network).style_layers[-2:]
    own = swag.presets.swag_resnet50.replace(backbone=network, weights=weights)
    objective = own.objective.replace(normalization="released" if released else own.objective.normalization)
    smoothed, raw = (
        own.replace(objective=objective.replace(smoothing=smoothing))
        for smoothing in (objective.smoothing.replace(layers=deep), swag.Smoothing.none())
    )
    ratios = []
    for pair in pairs:
        images = [swag.read_image(path, size=size) for path in (pair.content, pair.style)]
        above, below = (gradient_lengths(settings, *images) for settings in (smoothed, raw))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios.append([np.log(above[name]) - np.log(below[name]) for name in above if name != "variation"])
    content, *layers = np.exp(np.mean(ratios, axis=0))
    if not np.isfinite([content, *layers]).all():
        print(f"left out: {network}, re-weighted: its raw gradients are zero or not finite in float32", file=sys.stderr)
        return {}
    # In relative units weights sum to one: each of five style layers has a fifth.
    whole = 1 if released else len(layers)
    shares = ",".join(f"{weight / whole:.4g}" for weight in layers)
    chosen = {"content-weight": float(f"{content:.4g}"), "style-layer-weights": shares}
    base: Flags = {"preset": "gatys-resnet50", "backbone": network, "weights": weights}
    layers = ",".join(deep)  # those of the preset are ResNet50's
    return {**base, "smoothing-layers": layers, **(RELEASED if released else {}), **chosen}


def methods(pairs: list[Pair], size: int) -> dict[str, Flags]:
    """Return all methods, with the trained (p-) and with a random (r-) network."""
    found = dict[str, Flags]()
    for letter, weights in {"p": "embedded", "r": "random"}.items():
        own: Flags = {"weights": weights}
        found[f"{letter}: raw"] = {"preset": "gatys-resnet50", **own}
        found[f"{letter}: SWAG"] = {"preset": "swag-resnet50", **own}
        found[f"{letter}: re-weighted"] = reweighted("resnet50", weights, pairs, size)
        found[f"{letter}: raw, released units"] = {"preset": "gatys-resnet50", **own, **RELEASED}
        found[f"{letter}: SWAG, released units"] = {"preset": "swag-resnet50", **own, **RELEASED}
        found[f"{letter}: re-weighted, released units"] = reweighted("resnet50", weights, pairs, size, released=True)
        found[f"{letter}: alpha"] = {**SCALED, **own}
        found[f"{letter}: alpha as weights"] = {**AS_WEIGHTS, **own}
    return {label: flags for label, flags in found.items() if flags}


def compared(labels: Iterable[str]) -> dict[str, str]:
    """Return the reference of each method: raw losses for SWAG, SWAG for re-weighting, alpha for weights."""
    others = {": SWAG": ": raw", ": re-weighted": ": SWAG", ": alpha as weights": ": alpha"}
    return {label: label.replace(old, new) for label in labels for old, new in others.items() if old in label}


def main() -> None:
    """Find the weights first, then stylize."""
    title = "SWAG and plain ResNet50, re-weighted"
    arguments = parse(title)
    pairs = chosen_pairs(arguments, "reweighting")
    found = methods(pairs, arguments.size)
    run(Experiment("reweighting", title, found, references=compared(found)), arguments)


if __name__ == "__main__":
    main()
