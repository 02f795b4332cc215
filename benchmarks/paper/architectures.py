"""Figure 2 of the paper: one Gram-matrix loss in every architecture, random (r-) or trained (p-); an asterisk is SWAG.

Twice: in the units and weights of the released code, where a layer counts by the fourth power of its activations, and
in relative units, where all layers count alike.

Run: `python benchmarks/paper/architectures.py`.
"""

from experiment import Experiment, parse, run
from methods import method

PLAIN = (
    "p-VGG19",
    "p-ResNet50",
    "p-EfficientNet",
    "r-VGG19",
    "r-ResNet50",
    "r-NoResNet50",
    "r-pseudo-VGG",
    "r-pseudo-ResVGG",
    "r-pre-ReLU",
)
SMOOTHED = ("p-VGG19", "p-ResNet50", "p-EfficientNet", "r-ResNet50", "r-pseudo-ResVGG")
RELATIVE = ("p-VGG19", "p-ResNet50", "p-EfficientNet", "r-ResNet50", "r-NoResNet50")


def figure(name: str, title: str, units: str, plain: tuple[str, ...], smoothed: tuple[str, ...]) -> Experiment:
    """Return the experiment in the given units."""
    made = {label: method(label, units) for label in plain}
    stars = {f"{label}*": method(label, units, "SWAG") for label in smoothed}
    return Experiment(name, title, made | stars, references={f"{label}*": label for label in smoothed})


EXPERIMENTS = (
    figure("architectures", "Architectures in the released code's units", "released", PLAIN, SMOOTHED),
    figure("architectures_relative", "Architectures in relative units", "relative", RELATIVE, RELATIVE[:4]),
)

if __name__ == "__main__":
    arguments = parse("Gram-matrix stylization through random and trained architectures")
    for experiment in EXPERIMENTS:
        run(experiment, arguments)
