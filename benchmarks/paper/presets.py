"""What a user gets: the package's own presets, as they are, at equal steps; and VGG19 in the time that `fast` takes.

Run: `python benchmarks/paper/presets.py`.
"""

from experiment import Experiment, parse, run
from methods import Flags

NAMES = ("gatys-vgg19", "swag-vgg19", "gatys-resnet50", "swag-resnet50", "fast")

FAST_SHARE = 6
"""Steps of `fast` in the time of one of `gatys-vgg19`, by `benchmarks/README.md`."""


def experiment(steps: int) -> Experiment:
    """Return the experiment; every preset has the given steps, and the last method a share of them."""
    methods = dict[str, Flags]((name, {"preset": name}) for name in NAMES)
    methods["gatys-vgg19 in the time of fast"] = {"preset": "gatys-vgg19", "steps": max(1, round(steps / FAST_SHARE))}
    references = {
        "fast": "gatys-vgg19 in the time of fast",
        "swag-vgg19": "gatys-vgg19",
        "swag-resnet50": "gatys-resnet50",
    }
    return Experiment("presets", "The presets, and VGG19 in the time of the fast one", methods, references=references)


if __name__ == "__main__":
    arguments = parse("The package's presets")
    run(experiment(arguments.steps), arguments)
