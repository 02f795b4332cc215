"""Record reference values of the networks and the losses with PyTorch in float64.

Writes one `.npz` per network and variant, and `losses.npz`, beside this file. Layer arrays are channels-last:
`height width channels`, flattened in that order. PyTorch is needed here only; the tests read the files.

    python tests/reference/make_reference.py [CASE ...]

One network file holds: `backbone`, `pooling`, `padding`, `layers` (names), `shapes`, `norms` (L2 over the
whole layer), `values` (the entries at `sample_positions(size, values.shape[1])`), `image_shape` and
`image_seed` (of `reference_image`), `weights_seed` and `fingerprint` (of `random_weights`),
`objective_layers` with `objective`, the sum of their mean squared activations, and its gradient at the image
in [0, 1]: `gradient_norm` and `gradient_values`.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "benchmarks")]

import torch_networks as networks  # noqa: E402  # pyright: ignore[reportMissingImports]

from reference import torch_losses as losses  # noqa: E402
from reference.weights import fingerprint, random_weights, reference_image, sample_positions  # noqa: E402

WEIGHTS_SEED = 7
IMAGE_SEED = 11
# The layers whose mean squared activations make the scalar that the gradient is taken of.
OBJECTIVE_LAYERS = {
    "vgg19": ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu4_2", "relu5_1"),
    "resnet50": ("conv1", "conv2_3", "conv3_4", "conv4_6", "conv5_3"),
    "wide_resnet50_2": ("conv1", "conv2_3", "conv3_4", "conv4_6", "conv5_3"),
    "vgg16": ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"),
    "alexnet": ("relu1", "relu2", "relu3", "relu4", "relu5"),
}


@dataclass(frozen=True)
class Case:
    """One network file: which network, with which options, on which picture, how many entries a layer."""

    backbone: str
    height: int
    width: int
    pooling: str = "max"
    padding: str = "zeros"
    samples: int = 512

    def options(self) -> dict[str, object]:
        return {"pooling": self.pooling, "padding": self.padding} if self.backbone == "vgg19" else {}


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
    "vgg16_odd": Case("vgg16", 67, 93, samples=256),
    "alexnet_odd": Case("alexnet", 67, 93, samples=256),
}


def channels_last(tensor: Tensor) -> np.ndarray:
    return tensor.detach()[0].permute(1, 2, 0).contiguous().numpy()


def sample(array: np.ndarray, count: int) -> np.ndarray:
    return array.reshape(-1)[sample_positions(array.size, count)].astype(np.float32)


def measure(case: Case) -> dict[str, np.ndarray]:
    """Run one case and collect what its file holds."""
    weights = random_weights(case.backbone, WEIGHTS_SEED)
    network = networks.load(networks.build(case.backbone, **case.options()), weights).double()
    image = reference_image(case.height, case.width, IMAGE_SEED).astype(np.float64)
    leaf = torch.from_numpy(image.transpose(2, 0, 1).copy()[None]).requires_grad_()
    found = network(networks.normalize(leaf))
    chosen = OBJECTIVE_LAYERS[case.backbone]
    objective = torch.stack([found[name].square().mean() for name in chosen]).sum()
    gradient = channels_last(torch.autograd.grad(objective, leaf)[0])
    arrays = {name: channels_last(value) for name, value in found.items()}
    return {
        "backbone": np.array(case.backbone),
        "pooling": np.array(case.pooling),
        "padding": np.array(case.padding),
        "layers": np.array(list(arrays)),
        "shapes": np.array([array.shape for array in arrays.values()], np.int32),
        "norms": np.array([np.linalg.norm(array) for array in arrays.values()]),
        "values": np.stack([sample(array, case.samples) for array in arrays.values()]),
        "image_shape": np.array(image.shape, np.int32),
        "image_seed": np.array(IMAGE_SEED),
        "weights_seed": np.array(WEIGHTS_SEED),
        "fingerprint": np.array(fingerprint(weights)),
        "objective_layers": np.array(chosen),
        "objective": np.array(objective.item()),
        "gradient_norm": np.array(np.linalg.norm(gradient)),
        "gradient_values": sample(gradient, case.samples),
    }


def main(names: list[str]) -> None:
    for name in names or [*CASES, "losses"]:
        arrays = losses.measure() if name == "losses" else measure(CASES[name])
        path = HERE / f"{name}.npz"
        np.savez_compressed(path, **arrays)  # pyright: ignore[reportArgumentType]
        print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
