"""Texture synthesis: from noise to the style's Gram matrices, with and without SWAG (*).

As the paper's author describes it to readers: all layers from the input to the deepest, the softmax on the blocks of
the last two stages only (conv3_x and conv4_x in the released code, conv4_x and conv5_x here). In the released code's
units; with the trained ResNet50 also in relative ones.

Run: `python benchmarks/paper/textures.py`.
"""

from experiment import Experiment, parse, run
from methods import Flags, method

BLOCKS = {2: 3, 3: 4, 4: 6, 5: 3}
LAYERS = ["conv1", *(f"conv{stage}_{i}" for stage, blocks in BLOCKS.items() for i in range(1, blocks + 1))]
DEEP = ",".join(layer for layer in LAYERS if layer[4] in "45")


def texture(network: str, units: str = "released", smoothing: str = "raw") -> Flags:
    """Return the flags of a synthesis from noise."""
    alone = {"content_weight": 0, "init": "noise"}
    if network.endswith("ResNet50"):
        weights = {} if units == "relative" else {"style_layer_weights": ",".join("1" for _ in LAYERS)}
        alone |= {"style_layers": ",".join(LAYERS), **weights}
    return method(network, units, smoothing, layers=DEEP, **alone)


EXPERIMENT = Experiment(
    name="textures",
    title="Texture synthesis with and without SWAG",
    methods={
        "p-VGG19": texture("p-VGG19"),
        "r-VGG19": texture("r-VGG19"),
        "p-ResNet50": texture("p-ResNet50"),
        "p-ResNet50*": texture("p-ResNet50", smoothing="SWAG"),
        "p-ResNet50, relative": texture("p-ResNet50", "relative"),
        "p-ResNet50*, relative": texture("p-ResNet50", "relative", "SWAG"),
        "r-ResNet50": texture("r-ResNet50"),
        "r-ResNet50*": texture("r-ResNet50", smoothing="SWAG"),
    },
    pairs="styles",
    references={
        "p-ResNet50*": "p-ResNet50",
        "p-ResNet50*, relative": "p-ResNet50, relative",
        "r-ResNet50*": "r-ResNet50",
    },
)

if __name__ == "__main__":
    run(EXPERIMENT, parse(EXPERIMENT.title))
