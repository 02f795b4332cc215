"""Figure 2 of the paper: what one Gram-matrix loss paints through each architecture, random (r-) and trained (p-).

python benchmarks/paper/architectures.py
"""

from experiment import Experiment, Flags, parse, run

PLAIN: Flags = {"preset": "gatys-resnet50", "weights": "random"}
SMOOTHED: Flags = {"preset": "swag-resnet50", "weights": "random"}

EXPERIMENT = Experiment(
    name="architectures",
    title="Gram-matrix stylization through random and trained architectures",
    methods={
        "p-VGG19": {"preset": "gatys-vgg19", "weights": "embedded"},
        "r-VGG19": {"preset": "gatys-vgg19", "weights": "random"},
        "p-ResNet50": {**PLAIN, "weights": "embedded"},
        "r-ResNet50": PLAIN,
        "r-NoResNet50": {**PLAIN, "backbone": "no_resnet50"},
        "r-pseudo-VGG": {**PLAIN, "backbone": "pseudo_vgg"},
        "r-pseudo-ResVGG": {**PLAIN, "backbone": "pseudo_resvgg"},
        "r-pre-ReLU": {**PLAIN, "backbone": "preact_resnet50"},
        "p-ResNet50*": {**SMOOTHED, "weights": "embedded"},
        "r-ResNet50*": SMOOTHED,
        "r-pseudo-ResVGG*": {**SMOOTHED, "backbone": "pseudo_resvgg"},
    },
)
"""The paper names all but the last; SWAG's losses are marked by an asterisk, as there."""

if __name__ == "__main__":
    run(EXPERIMENT, parse(EXPERIMENT.title))
