"""The robustness table: networks x smoothings x metrics, mean and standard error over the pairs.

For each network, random (r-) or trained (p-), the same objective with raw activations, after each softmax, and raw
but re-weighted like the softmax (`reweighting.py`), all in relative units; and in the released code's units, where a
scale is a weight: raw, scaled, after the softmax and re-weighted. The last two stages are smoothed, in VGG19 the last
two blocks.

Run: `python benchmarks/paper/robustness.py`.
"""

from collections.abc import Collection

from architectures import RELEASED
from experiment import Experiment, Flags, Pair, chosen_pairs, parse, run
from reweighting import reweighted

from swag_jax.backbones.zoo import entry

NETWORKS = {
    "p-VGG19": ("vgg19", "embedded"),
    "r-VGG19": ("vgg19", "random"),
    "p-ResNet50": ("resnet50", "embedded"),
    "r-ResNet50": ("resnet50", "random"),
    "r-WideResNet50-2": ("wide_resnet50_2", "random"),
    "r-GoogLeNet": ("googlenet", "random"),
    "r-Inception v3": ("inception_v3", "random"),
}


def methods(network: str, weights: str, pairs: list[Pair], size: int) -> dict[str, Flags]:
    """Return the flags of every smoothing for one network."""
    deep = ",".join(entry(network).style_layers[-2:])
    base: Flags = {"preset": "swag-resnet50", "backbone": network, "weights": weights, "smoothing-layers": deep}
    return {
        "none": {**base, "smoothing": "none"},
        "softmax": {**base, "smoothing": "softmax"},
        "channel-softmax": {**base, "smoothing": "channel-softmax"},
        "spatial-softmax": {**base, "smoothing": "spatial-softmax"},
        "re-weighted": reweighted(network, weights, pairs, size),
        "none, released units": {**base, **RELEASED, "smoothing": "none"},
        "scale, released units": {**base, **RELEASED, "smoothing": "scale"},
        "softmax, released units": {**base, **RELEASED, "smoothing": "softmax"},
        "re-weighted, released units": reweighted(network, weights, pairs, size, released=True),
    }


def compared(labels: Collection[str]) -> dict[str, str]:
    """Return the reference of each method: the softmax for re-weighting, raw activations for the rest."""
    found = {}
    for label in labels:
        network, _, kind = label.partition(": ")
        kind, comma, units = kind.partition(", ")
        other = {"none": None, "re-weighted": "softmax"}.get(kind, "none")
        if other is not None:
            found[label] = f"{network}: {other}{comma}{units}"
    return found


def main() -> None:
    """Stylize, measure, and print the table."""
    title = "Robustness: networks and smoothings by every metric"
    arguments = parse(title, size=96, steps=40, pairs=8, rows=2, networks=tuple(NETWORKS))
    pairs = chosen_pairs(arguments, "robustness")
    found = {
        f"{label}: {smoothing}": flags
        for label in arguments.networks
        for smoothing, flags in methods(*NETWORKS[label], pairs, arguments.size).items()
        if flags
    }
    run(Experiment("robustness", title, found, references=compared(found)), arguments)


if __name__ == "__main__":
    main()
