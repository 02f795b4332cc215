"""Figure 2 of the paper: images made with one Gram-matrix loss in each architecture, random (r-) and trained (p-).

Twice: in the units and weights of the released code, where a layer counts by the fourth power of its activations, and
in relative units, where all layers count alike. SWAG's losses are marked by an asterisk, as in the paper.

Run: `python benchmarks/paper/architectures.py`.
"""

from collections.abc import Iterator

from experiment import Experiment, Flags, parse, run

RELEASED: Flags = {
    "normalization": "released",
    "style-weight": 1e17,
    "style-layer-weights": "1,1,1,1,1",
    "tv-weight": 0,
}
"""Content weight 1, and 1e17 for the style at each of five layers: peiwang062/swag, resnet_swag.py."""

NETWORKS = {
    "p-VGG19": ("vgg19", "embedded"),
    "r-VGG19": ("vgg19", "random"),
    "p-ResNet50": ("resnet50", "embedded"),
    "r-ResNet50": ("resnet50", "random"),
    "r-NoResNet50": ("no_resnet50", "random"),
    "r-pseudo-VGG": ("pseudo_vgg", "random"),
    "r-pseudo-ResVGG": ("pseudo_resvgg", "random"),
    "r-pre-ReLU": ("preact_resnet50", "random"),
}
"""Those of the paper, in its order."""

SMOOTHED = ("p-ResNet50", "r-ResNet50", "r-pseudo-ResVGG")


def methods(units: Flags) -> Iterator[tuple[str, Flags]]:
    """Yield a label and flags for every network, plain and then smoothed."""
    for label, (network, weights) in NETWORKS.items():
        preset = "gatys-vgg19" if network == "vgg19" else "gatys-resnet50"
        yield label, {"preset": preset, "backbone": network, "weights": weights, **units}
    for label in SMOOTHED:
        network, weights = NETWORKS[label]
        yield f"{label}*", {"preset": "swag-resnet50", "backbone": network, "weights": weights, **units}


STARRED = {f"{label}*": label for label in SMOOTHED}

EXPERIMENTS = (
    Experiment(
        "architectures", "Architectures in the released code's units", dict(methods(RELEASED)), references=STARRED
    ),
    Experiment("architectures_relative", "Architectures in relative units", dict(methods({})), references=STARRED),
)

if __name__ == "__main__":
    arguments = parse("Gram-matrix stylization through random and trained architectures")
    for experiment in EXPERIMENTS:
        run(experiment, arguments)
