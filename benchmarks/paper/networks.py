"""Figure 6 of the paper: ResNet, WideResNet and Inception with SWAG's smoothing (*) and without it.

The paper does not say which Inception it shows: here are GoogLeNet and Inception v3.

Run: `python benchmarks/paper/networks.py`.
"""

from experiment import Experiment, parse, run

NETWORKS = {
    "p-VGG19": ("vgg19", "embedded"),
    "p-ResNet50": ("resnet50", "embedded"),
    "r-ResNet50": ("resnet50", "random"),
    "r-WideResNet50-2": ("wide-resnet50", "random"),
    "r-GoogLeNet": ("googlenet", "random"),
    "r-Inception v3": ("inception-v3", "random"),
}
"""The suffix of the presets' names and the weights, by label; only the first two have embedded weights."""

EXPERIMENT = Experiment(
    name="networks",
    title="Other networks with and without SWAG",
    methods={
        f"{label}{star}": {"preset": f"{kind}-{preset}", "weights": weights}
        for label, (preset, weights) in NETWORKS.items()
        for kind, star in {"gatys": "", "swag": "*"}.items()
    },
    references={f"{label}*": label for label in NETWORKS},
)

if __name__ == "__main__":
    run(EXPERIMENT, parse(EXPERIMENT.title))
