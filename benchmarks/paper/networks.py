"""Figure 6 of the paper: ResNet and WideResNet with SWAG's smoothing (*) and without it; its Inception is not here yet.

python benchmarks/paper/networks.py
"""

from experiment import Experiment, parse, run

EXPERIMENT = Experiment(
    name="networks",
    title="Other networks with and without SWAG",
    methods={
        "p-ResNet50": {"preset": "gatys-resnet50", "weights": "embedded"},
        "p-ResNet50*": {"preset": "swag-resnet50", "weights": "embedded"},
        **{
            f"r-{label}{star}": {"preset": f"{kind}-{preset}", "weights": "random"}
            for label, preset in {"ResNet50": "resnet50", "WideResNet50-2": "wide-resnet50"}.items()
            for kind, star in {"gatys": "", "swag": "*"}.items()
        },
    },
)
"""Trained weights are at hand for ResNet50 only."""

if __name__ == "__main__":
    run(EXPERIMENT, parse(EXPERIMENT.title))
