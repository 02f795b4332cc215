"""The robustness table: networks x smoothings x metrics, mean and standard error over the pairs.

For each network, random (r-) or trained (p-): raw losses, the paper's softmax, SWAG's, its factor, and raw losses
re-weighted like SWAG's (`reweighting.py`). Trained networks also in relative units, where a factor plays no part.

Run: `python benchmarks/paper/robustness.py`.
"""

from experiment import Experiment, Pair, chosen_pairs, parse, run
from methods import Flags, method
from reweighting import compared, reweighted

TRAINED = ("p-VGG19", "p-ResNet50", "p-EfficientNet")
RANDOM = ("r-VGG19", "r-ResNet50", "r-WideResNet50-2", "r-GoogLeNet", "r-Inception v3")


def methods(network: str, pairs: list[Pair], size: int) -> dict[str, Flags]:
    """Return the methods of one network by label."""
    found = {
        "raw": method(network),
        "SWAG": method(network, smoothing="SWAG"),
        "re-weighted": reweighted(network, "released", pairs, size),
    }
    if network in TRAINED:
        found["softmax"] = method(network, smoothing="softmax")
        found["factor"] = method(network, smoothing="factor")
    made = {f"{network}, released: {kind}": flags for kind, flags in found.items()}
    if network in TRAINED:
        made[f"{network}, relative: raw"] = method(network, "relative")
        made[f"{network}, relative: SWAG"] = method(network, "relative", "SWAG")
        made[f"{network}, relative: re-weighted"] = reweighted(network, "relative", pairs, size)
    return {label: flags for label, flags in made.items() if flags}


def main() -> None:
    """Stylize, measure, and print the table."""
    title = "Robustness: networks and smoothings by every metric"
    arguments = parse(title, rows=1, networks=(*TRAINED, *RANDOM))
    pairs = chosen_pairs(arguments)
    found = {
        label: flags
        for network in arguments.networks
        for label, flags in methods(network, pairs, arguments.size).items()
    }
    run(Experiment("robustness", title, found, references=compared(found)), arguments)


if __name__ == "__main__":
    main()
