"""Texture synthesis: from noise to the style's Gram matrices, with and without SWAG (*).

As the paper's author describes it to readers: all layers from the input to the deepest, the softmax on the blocks of
the last two stages only (conv3_x and conv4_x in the released code, conv4_x and conv5_x here).

Run: `python benchmarks/paper/textures.py`.
"""

from experiment import Experiment, Flags, parse, run

BLOCKS = {2: 3, 3: 4, 4: 6, 5: 3}
LAYERS = ["conv1", *(f"conv{stage}_{i}" for stage, blocks in BLOCKS.items() for i in range(1, blocks + 1))]
DEEP = [layer for layer in LAYERS if layer[4] in "45"]

ALONE: Flags = {"content-weight": 0, "tv-weight": 0, "init": "noise"}
PLAIN: Flags = {**ALONE, "preset": "gatys-resnet50", "style-layers": ",".join(LAYERS)}
SMOOTHED: Flags = {**PLAIN, "preset": "swag-resnet50", "smoothing-layers": ",".join(DEEP)}

EXPERIMENT = Experiment(
    name="textures",
    title="Texture synthesis with and without SWAG",
    methods={
        "p-VGG19": {**ALONE, "preset": "gatys-vgg19", "weights": "embedded"},
        "r-VGG19": {**ALONE, "preset": "gatys-vgg19", "weights": "random"},
        "p-ResNet50": {**PLAIN, "weights": "embedded"},
        "p-ResNet50*": {**SMOOTHED, "weights": "embedded"},
        "r-ResNet50": {**PLAIN, "weights": "random"},
        "r-ResNet50*": {**SMOOTHED, "weights": "random"},
    },
    pairs="styles",
    references={"p-ResNet50*": "p-ResNet50", "r-ResNet50*": "r-ResNet50"},
)

if __name__ == "__main__":
    run(EXPERIMENT, parse(EXPERIMENT.title))
