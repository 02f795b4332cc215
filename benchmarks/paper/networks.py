"""Figure 6 of the paper: ResNet, WideResNet and Inception with SWAG's smoothing (*) and without it.

Which Inception the paper shows is not published: here are GoogLeNet and Inception v3.

Run: `python benchmarks/paper/networks.py`.
"""

from experiment import Experiment, parse, run

RANDOM = {
    "ResNet50": "resnet50",
    "WideResNet50-2": "wide-resnet50",
    "GoogLeNet": "googlenet",
    "Inception v3": "inception-v3",
}
"""The end of the presets' names, by label."""

EXPERIMENT = Experiment(
    name="networks",
    title="Other networks with and without SWAG",
    methods={
        "p-ResNet50": {"preset": "gatys-resnet50", "weights": "embedded"},
        "p-ResNet50*": {"preset": "swag-resnet50", "weights": "embedded"},
        **{
            f"r-{label}{star}": {"preset": f"{kind}-{preset}", "weights": "random"}
            for label, preset in RANDOM.items()
            for kind, star in {"gatys": "", "swag": "*"}.items()
        },
    },
)
"""Trained weights are at hand for ResNet50 only."""

if __name__ == "__main__":
    run(EXPERIMENT, parse(EXPERIMENT.title))
