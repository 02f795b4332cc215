"""Every smoothing and several temperatures, with a random and the trained ResNet50.

Run: `python benchmarks/paper/smoothings.py`.
"""

from collections.abc import Iterator

from experiment import Experiment, Flags, parse, run


def smoothings(weights: str) -> Iterator[tuple[str, Flags]]:
    """Yield a label and flags for each smoothing; all but the first two smooth the last two stages."""
    base: Flags = {"preset": "swag-resnet50", "weights": weights}
    letter = {"random": "r", "embedded": "p"}[weights]
    yield f"{letter}: none", {**base, "smoothing": "none"}
    yield f"{letter}: softmax, all layers", {**base, "smoothing-layers": "conv1,conv2_3,conv3_4,conv4_6,conv5_3"}
    for temperature in ("auto", 0.3, 1, 10):
        yield f"{letter}: softmax, T={temperature}", {**base, "temperature": temperature}
    for kind in ("channel-softmax", "spatial-softmax"):
        yield f"{letter}: {kind}", {**base, "smoothing": kind}
        yield f"{letter}: {kind}, T=1", {**base, "smoothing": kind, "temperature": 1}
    yield f"{letter}: scale", {**base, "smoothing": "scale"}


EXPERIMENT = Experiment(
    name="smoothings",
    title="Every smoothing and temperature through ResNet50",
    methods={**dict(smoothings("embedded")), **dict(smoothings("random"))},
)

if __name__ == "__main__":
    run(EXPERIMENT, parse(EXPERIMENT.title))
