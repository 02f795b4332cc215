"""The robustness table: networks x smoothings x metrics, mean and standard error over the pairs.

For each network, random (r-) or trained (p-), the same objective with its activations raw, behind each softmax, and raw
but re-weighted as the softmax weighs its layers (`reweighting.py`), all in relative units; and in the released code's
units, where a scale is a weight, raw and scaled. The last two stages are smoothed, in VGG19 the last two blocks.

Run: `python benchmarks/paper/robustness.py`.
"""

from architectures import RELEASED
from experiment import Experiment, Flags, Pair, chosen_pairs, parse, run
from reweighting import reweighted

import swag_jax as swag

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
    deep = ",".join(swag.backbones.entry(network).style_layers[-2:])
    base: Flags = {"preset": "swag-resnet50", "backbone": network, "weights": weights, "smoothing-layers": deep}
    return {
        "none": {**base, "smoothing": "none"},
        "softmax": {**base, "smoothing": "softmax"},
        "channel-softmax": {**base, "smoothing": "channel-softmax"},
        "spatial-softmax": {**base, "smoothing": "spatial-softmax"},
        "re-weighted": reweighted(network, weights, pairs, size),
        "none, released units": {**base, **RELEASED, "smoothing": "none"},
        "scale, released units": {**base, **RELEASED, "smoothing": "scale"},
    }


def main() -> None:
    """Paint, measure, and print the table."""
    title = "Robustness: networks and smoothings by every metric"
    arguments = parse(title, pairs=8, rows=2, networks=tuple(NETWORKS))
    pairs = chosen_pairs(arguments, "robustness")
    found = {
        f"{label}: {smoothing}": flags
        for label in arguments.networks
        for smoothing, flags in methods(*NETWORKS[label], pairs, arguments.size).items()
    }
    run(Experiment("robustness", title, found), arguments)


if __name__ == "__main__":
    main()
