"""Content reconstruction: from noise back to the image with the same activations, with and without SWAG (*).

The layer and the softmax are those that the paper's author gives in an answer to readers: the last block of the third
stage, conv3_5 in the released code, conv4_6 here.

Run: `python benchmarks/paper/reconstruction.py`.
"""

from experiment import Experiment, Flags, parse, run

ALONE: Flags = {"style-weight": 0, "tv-weight": 0, "init": "noise"}
PLAIN: Flags = {**ALONE, "preset": "gatys-resnet50", "content-layers": "conv4_6", "style-layers": "conv4_6"}
SMOOTHED: Flags = {**PLAIN, "preset": "swag-resnet50", "smoothing-layers": "conv4_6"}

EXPERIMENT = Experiment(
    name="reconstruction",
    title="Content reconstruction with and without SWAG",
    methods={
        "p-VGG19": {**ALONE, "preset": "gatys-vgg19", "weights": "embedded"},
        "r-VGG19": {**ALONE, "preset": "gatys-vgg19", "weights": "random"},
        "p-ResNet50": {**PLAIN, "weights": "embedded"},
        "p-ResNet50*": {**SMOOTHED, "weights": "embedded"},
        "r-ResNet50": {**PLAIN, "weights": "random"},
        "r-ResNet50*": {**SMOOTHED, "weights": "random"},
        "r-ResNet50*, T=1": {**SMOOTHED, "weights": "random", "temperature": 1},
    },
    pairs="contents",
    references={"p-ResNet50*": "p-ResNet50", "r-ResNet50*": "r-ResNet50"},
)

if __name__ == "__main__":
    run(EXPERIMENT, parse(EXPERIMENT.title, steps=100))
