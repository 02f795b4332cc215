"""Every smoothing, several temperatures, and the paper's units, with the trained and a random ResNet50.

Run: `python benchmarks/paper/smoothings.py`.
"""

from collections.abc import Iterator

from experiment import Experiment, parse, run
from methods import PAPER_SOFTMAX_WEIGHT, Flags, all_layers, method


def smoothings(network: str) -> Iterator[tuple[str, Flags]]:
    """Yield a label and flags for each smoothing; on the last two stages, if not all layers are named."""
    letter, every = network[0], all_layers(network)
    yield f"{letter}: raw", method(network)
    yield f"{letter}: softmax", method(network, smoothing="softmax")
    yield f"{letter}: softmax, all layers", method(network, smoothing="softmax", layers=every)
    for temperature in (0.3, 1, 10, "auto"):
        yield f"{letter}: channels, T={temperature}", method(network, smoothing="SWAG", temperature=temperature)
    yield f"{letter}: spatial softmax", method(network, smoothing="spatial softmax")
    yield f"{letter}: factor", method(network, smoothing="factor")
    yield f"{letter}: raw, paper's units", method(network, "paper")
    as_printed = method(network, "paper", "softmax", layers=every, style_weight=PAPER_SOFTMAX_WEIGHT)
    yield f"{letter}: softmax, all layers, paper's units", as_printed


EXPERIMENT = Experiment(
    name="smoothings",
    title="Every smoothing and temperature through ResNet50",
    methods={**dict(smoothings("p-ResNet50")), **dict(smoothings("r-ResNet50"))},
    references={
        label: f"{label[0]}: raw"
        for network in ("p-ResNet50", "r-ResNet50")
        for label, _ in smoothings(network)
        if not label.endswith(("raw", "units"))
    },
)

if __name__ == "__main__":
    run(EXPERIMENT, parse(EXPERIMENT.title))
