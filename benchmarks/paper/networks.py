"""Figure 6 of the paper: WideResNet and Inception with SWAG's smoothing (*) and without it.

The paper does not say which Inception it shows: here are GoogLeNet and Inception v3. Their weights are random, as long
as no others were fetched (`swag-jax weights fetch`).

Run: `python benchmarks/paper/networks.py [--weights imagenet]`.
"""

from experiment import Experiment, parse, run
from methods import method

NETWORKS = ("r-WideResNet50-2", "r-GoogLeNet", "r-Inception v3")


def experiment(weights: str) -> Experiment:
    """Return the experiment with random or other weights."""
    names = {label: label if weights == "random" else f"p{label[1:]}" for label in NETWORKS}
    methods = {
        f"{name}{star}": method(label, smoothing=smoothing, weights=weights)
        for label, name in names.items()
        for star, smoothing in {"": "raw", "*": "SWAG"}.items()
    }
    references = {f"{name}*": name for name in names.values()}
    title = f"Other networks with and without SWAG, {weights} weights"
    return Experiment(
        "networks" if weights == "random" else f"networks-{weights}", title, methods, references=references
    )


if __name__ == "__main__":
    arguments = parse("Other networks with and without SWAG", weights=True)
    run(experiment(arguments.weights), arguments)
