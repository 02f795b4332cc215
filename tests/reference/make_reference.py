"""Record reference values of the networks, the losses and the generators with PyTorch in float64.

Writes one `.npz` per network and variant, `losses.npz`, `generators.npz` and `generator_losses.npz`, next to this file.
Layer arrays are channels-last: `height width channels`, flattened in that order. PyTorch is needed here only; the tests
read the files.

    python tests/reference/make_reference.py [CASE ...]

One network file holds: `backbone`, `pooling` and `padding` (of VGG19), `options` (of the others, as JSON), `embedded`
(the name of a checkpoint in `weights/`, or nothing for random weights),
`layers` (names), `shapes`, `norms` (L2 over the whole layer), `values` (the entries at
`sample_positions(size, values.shape[1])`), `image_shape` and `image_seed` (of `reference_image`), `weights_seed`
and `fingerprint` (of `random_weights`), `objective_layers` with `objective`, the sum of their mean squared
activations, and its gradient at the image in [0, 1]: `gradient_norm` and `gradient_values`.
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file
from torch import Tensor

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "benchmarks")]

import torch_networks as networks  # noqa: E402  # pyright: ignore[reportMissingImports]

from reference import torch_families as families  # noqa: E402
from reference import torch_generator_losses as generator_losses  # noqa: E402
from reference import torch_generators as generators  # noqa: E402
from reference import torch_losses as losses  # noqa: E402
from reference.weights import SWITCHES, fingerprint, random_weights, reference_image, sample_positions  # noqa: E402

WEIGHTS_SEED = 7
IMAGE_SEED = 11
# An image without a unit so near to zero that float32 and float64 see it on different sides of a ReLU's kink.
SMOOTH_SEED = 13
# The layers whose mean squared activations make the scalar that the gradient is taken of.
# Of residual networks they are the stem and the end of every stage.
OBJECTIVE_LAYERS = {
    "vgg19": ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu4_2", "relu5_1"),
    "vgg16": ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"),
    "alexnet": ("relu1", "relu2", "relu3", "relu4", "relu5"),
    "googlenet": ("conv1", "conv3", "inception3b", "inception4e", "inception5b"),
    "inception_v3": ("conv2b", "conv4a", "mixed5d", "mixed6e", "mixed7c"),
    "efficientnet-lite0": ("stem", "block1_expand", "block3_expand", "block8_expand", "block10", "block15"),
}
# The switches of the residual family that no named network turns, and some others.
SWITCHED = {
    "block": "basic",
    "kernel_size": 5,
    "depths": (1, 2, 1, 1),
    "batch_norm": False,
    "downsampling": "pool",
    "channels": 8,
    "width": 12,
    "pre_relu": True,
}


@dataclass(frozen=True)
class Case:
    """One network file: which network, with which options, on which image, how many entries a layer."""

    backbone: str
    height: int
    width: int
    pooling: str = "max"
    padding: str = "zeros"
    samples: int = 512
    image_seed: int = IMAGE_SEED
    options: dict[str, Any] = field(default_factory=dict)
    embedded: str = ""

    def build(self) -> tuple[networks.Network, dict[str, np.ndarray]]:
        """Return the network and its weights."""
        if self.embedded:
            return self.build_embedded()
        if self.backbone == "inception_v3":
            weights = random_weights(self.backbone, WEIGHTS_SEED)
            return networks.load(families.InceptionV3(weights, **self.options), weights), weights
        weights = random_weights(self.backbone, WEIGHTS_SEED, **self.options)
        if self.backbone == "vgg19":
            return networks.load(networks.Vgg19(pooling=self.pooling, padding=self.padding), weights), weights
        if self.options or self.backbone in SWITCHES:
            switches = {**SWITCHES.get(self.backbone, {}), **self.options}
            return networks.load(families.Residual(weights, **switches), families.in_torch(weights)), weights
        if self.backbone == "googlenet":
            return networks.load(families.GoogLeNet(weights), weights), weights
        network = families.ResNet18() if self.backbone == "resnet18" else networks.build(self.backbone)
        return networks.load(network, weights), weights

    def build_embedded(self) -> tuple[networks.Network, dict[str, np.ndarray]]:
        """Return the network and the weights of a checkpoint of `weights/`, which this reads on its own."""
        weights = decoded(load_file(HERE.parents[1] / "weights" / f"{self.embedded}.safetensors"))
        if self.backbone == "efficientnet-lite0":
            return networks.load(families.Lite(weights), families.in_torch(weights)), weights
        if self.backbone == "resnet50":
            return networks.load(families.Residual(weights, version="v1"), families.in_torch(weights)), weights
        network = networks.Vgg((*networks.VGG19_BLOCKS[:4], (512,)), pooling=self.pooling)
        names = [name for name in network.names if name.startswith("conv")]
        places = [i for i, module in enumerate(network.features) if isinstance(module, torch.nn.Conv2d)]
        state = {}
        for place, name in zip(places, names, strict=True):
            state[f"features.{place}.weight"] = weights[f"{name}.kernel"].transpose(3, 2, 0, 1).copy()
            state[f"features.{place}.bias"] = weights[f"{name}.bias"]
        return networks.load(network, state), weights


def decoded(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return 8-bit tensors as what they stand for: whole numbers times steps, or places in a table."""
    floats = {}
    for key, value in tensors.items():
        if value.dtype == np.int8:
            floats[key] = value.astype(np.float32) * tensors[f"{key}.step"]
        elif value.dtype == np.uint8:
            floats[key] = tensors[f"{key}.table"][value.astype(int)]
        elif not key.endswith((".step", ".table", ".mean_activation")):
            floats[key] = value
    return floats


CASES = {
    "vgg19": Case("vgg19", 64, 96),
    "vgg19_odd": Case("vgg19", 67, 93, samples=256),
    "vgg19_average": Case("vgg19", 64, 96, pooling="average", samples=256),
    "vgg19_average_replicate": Case("vgg19", 67, 93, pooling="average", padding="replicate", samples=256),
    "vgg19_replicate": Case("vgg19", 64, 96, padding="replicate", samples=256),
    "vgg19_reflect": Case("vgg19", 67, 93, padding="reflect", samples=256),
    "resnet50": Case("resnet50", 64, 96),
    "resnet50_odd": Case("resnet50", 67, 93),
    "wide_resnet50_2_odd": Case("wide_resnet50_2", 67, 93),
    "resnet18": Case("resnet18", 67, 93, samples=64),
    "no_resnet50": Case("no_resnet50", 67, 93, samples=64),
    "pseudo_vgg": Case("pseudo_vgg", 45, 61, samples=64),
    "pseudo_resvgg": Case("pseudo_resvgg", 45, 61, samples=64),
    "preact_resnet50": Case("preact_resnet50", 67, 93, samples=64),
    "resnet50_switched": Case("resnet50", 67, 93, samples=64, image_seed=SMOOTH_SEED, options=SWITCHED),
    "googlenet": Case("googlenet", 67, 93, samples=64),
    "inception_v3": Case("inception_v3", 77, 101, samples=64),
    "inception_v3_fid": Case("inception_v3", 77, 101, samples=64, image_seed=SMOOTH_SEED, options={"variant": "fid"}),
    "vgg16_odd": Case("vgg16", 67, 93, samples=256),
    "alexnet_odd": Case("alexnet", 67, 93, samples=256),
    "resnet50_v1": Case("resnet50", 67, 93, samples=64, options={"version": "v1"}),
    "vgg19_caffe": Case("vgg19", 67, 93, samples=256, embedded="vgg19-caffe"),
    "vgg19_caffe_average": Case("vgg19", 64, 96, pooling="average", samples=256, embedded="vgg19-caffe"),
    "resnet50_caffe": Case("resnet50", 67, 93, samples=256, embedded="resnet50-caffe"),
    "efficientnet_lite0": Case("efficientnet-lite0", 67, 93, samples=64, embedded="efficientnet-lite0-tensorflow"),
}


def channels_last(tensor: Tensor) -> np.ndarray:
    return tensor.detach()[0].permute(1, 2, 0).contiguous().numpy()


def sample(array: np.ndarray, count: int) -> np.ndarray:
    return array.reshape(-1)[sample_positions(array.size, count)].astype(np.float32)


# The mean by channel, blue first, that networks trained with Caffe subtract from values of 0 to 255.
CAFFE_MEAN = (103.939, 116.779, 123.68)


def normalize(case: Case, images: Tensor) -> Tensor:
    """Map images in [0, 1] to what the network was trained on; both Inceptions want [-1, 1]."""
    if case.backbone == "efficientnet-lite0":
        return (255 * images - 127) / 128
    if case.embedded:
        return 255 * images.flip(1) - images.new_tensor(CAFFE_MEAN).view(1, 3, 1, 1)
    return 2 * images - 1 if case.backbone in ("googlenet", "inception_v3") else networks.normalize(images)


def measure(case: Case) -> dict[str, np.ndarray]:
    """Run one case and collect what its file holds."""
    network, weights = case.build()
    network.double()
    image = reference_image(case.height, case.width, case.image_seed).astype(np.float64)
    leaf = torch.from_numpy(image.transpose(2, 0, 1).copy()[None]).requires_grad_()
    found = network(normalize(case, leaf))
    found = {name: value for name, value in found.items() if name != "pool5" or not case.embedded}
    chosen = OBJECTIVE_LAYERS.get(case.backbone) or tuple(
        {name[:5]: name for name in found if name.startswith("conv")}.values()
    )
    objective = torch.stack([found[name].square().mean() for name in chosen]).sum()
    gradient = channels_last(torch.autograd.grad(objective, leaf)[0])
    arrays = {name: channels_last(value) for name, value in found.items()}
    return {
        "backbone": np.array(case.backbone),
        "pooling": np.array(case.pooling),
        "padding": np.array(case.padding),
        "options": np.array(json.dumps(case.options)),
        "embedded": np.array(case.embedded),
        "layers": np.array(list(arrays)),
        "shapes": np.array([array.shape for array in arrays.values()], np.int32),
        "norms": np.array([np.linalg.norm(array) for array in arrays.values()]),
        "values": np.stack([sample(array, case.samples) for array in arrays.values()]),
        "image_shape": np.array(image.shape, np.int32),
        "image_seed": np.array(case.image_seed),
        "weights_seed": np.array(WEIGHTS_SEED),
        "fingerprint": np.array(fingerprint(weights)),
        "objective_layers": np.array(chosen),
        "objective": np.array(objective.item()),
        "gradient_norm": np.array(np.linalg.norm(gradient)),
        "gradient_values": sample(gradient, case.samples),
    }


def main(names: list[str]) -> None:
    others = {"losses": losses, "generators": generators, "generator_losses": generator_losses}
    for name in names or [*CASES, *others]:
        arrays = others[name].measure() if name in others else measure(CASES[name])
        path = HERE / f"{name}.npz"
        np.savez_compressed(path, **arrays)  # pyright: ignore[reportArgumentType]
        print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
