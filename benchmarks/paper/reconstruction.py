"""Content reconstruction: from noise back to the image with the same activations, with and without SWAG (*).

The layer and the softmax are those that the paper's author gives in an answer to readers: the last block of the third
stage, conv3_5 in the released code, conv4_6 here. With one layer, units do not matter.

Run: `python benchmarks/paper/reconstruction.py`.
"""

from experiment import Experiment, parse, run
from methods import method

ALONE = {"style_weight": 0, "content_weight": 1, "init": "noise"}
RESNET = {**ALONE, "content_layers": "conv4_6"}

EXPERIMENT = Experiment(
    name="reconstruction",
    title="Content reconstruction with and without SWAG",
    methods={
        "p-VGG19": method("p-VGG19", "relative", **ALONE),
        "r-VGG19": method("r-VGG19", "relative", **ALONE),
        "p-ResNet50": method("p-ResNet50", "relative", **RESNET),
        "p-ResNet50*": method("p-ResNet50", "relative", "SWAG", layers="conv4_6", **RESNET),
        "r-ResNet50": method("r-ResNet50", "relative", **RESNET),
        "r-ResNet50*": method("r-ResNet50", "relative", "SWAG", layers="conv4_6", **RESNET),
    },
    pairs="contents",
    references={"p-ResNet50*": "p-ResNet50", "r-ResNet50*": "r-ResNet50"},
)

if __name__ == "__main__":
    run(EXPERIMENT, parse(EXPERIMENT.title))
