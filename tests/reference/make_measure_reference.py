"""Record LPIPS and CFSD of seeded inputs with PyTorch in float64, in `measure.npz`.

The networks and the distances are written as the released code has them: `lpips/lpips.py` of
richzhang/PerceptualSimilarity (version 0.1) and `PatchSimi` in evaluation/image_metrics.py of jiwoogit/StyleID.

    python tests/reference/make_measure_reference.py

The file holds `lpips_alexnet` and `lpips_vgg16`, the distance of `reference_image(*SHAPE, seed)` for the seeds
`IMAGE_SEEDS`, on `random_weights(trunk, WEIGHTS_SEED)` and `linear_weights(trunk, WEIGHTS_SEED)`; and `features`,
`target` (`height width channels`) with their `cfsd`.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "benchmarks")]

import torch_networks as networks  # noqa: E402  # pyright: ignore[reportMissingImports]

from reference.weights import linear_weights, random_weights, reference_image  # noqa: E402

WEIGHTS_SEED = 7
IMAGE_SEEDS = (11, 12)
SHAPE = (35, 45)
FEATURES_SHAPE = (9, 11, 6)
LAYERS = {
    "alexnet": ("relu1", "relu2", "relu3", "relu4", "relu5"),
    "vgg16": ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"),
}


class ScalingLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.shift) / self.scale


class LinearLayer(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.model = nn.Sequential(nn.Dropout(), nn.Conv2d(channels, 1, 1, bias=False))


def normalize(x: Tensor) -> Tensor:
    return x / (torch.sqrt((x**2).sum(1, keepdim=True)) + 1e-10)


class Lpips(nn.Module):
    def __init__(self, trunk: str, linear: dict[str, np.ndarray]):
        super().__init__()
        self.layers = LAYERS[trunk]
        self.scaling_layer = ScalingLayer()
        self.net = networks.load(networks.build(trunk), random_weights(trunk, WEIGHTS_SEED))
        for i in range(len(self.layers)):
            self.add_module(f"lin{i}", LinearLayer(linear[f"lin{i}.model.1.weight"].shape[1]))
        missing, unexpected = self.load_state_dict({k: torch.from_numpy(v) for k, v in linear.items()}, strict=False)
        assert not unexpected
        assert all(key.startswith(("net.", "scaling_layer.")) for key in missing)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Of two images in [-1, 1]."""
        features = [self.net(self.scaling_layer(x), self.layers) for x in (first, second)]
        total = torch.zeros((), dtype=first.dtype)
        for i, layer in enumerate(self.layers):
            difference = (normalize(features[0][layer]) - normalize(features[1][layer])) ** 2
            total = total + self.get_submodule(f"lin{i}").model(difference).mean((2, 3)).squeeze()
        return total


def lpips(trunk: str) -> np.ndarray:
    images = [
        torch.from_numpy(reference_image(*SHAPE, seed).astype(np.float64).transpose(2, 0, 1).copy()[None])
        for seed in IMAGE_SEEDS
    ]
    network = Lpips(trunk, linear_weights(trunk, WEIGHTS_SEED)).double().eval()
    with torch.no_grad():
        return network(*(2 * x - 1 for x in images)).numpy()


def patch_similarity(features: Tensor) -> Tensor:
    rows = features.reshape(-1, features.shape[-1]).div(features.shape[-1])
    return rows @ rows.T


def cfsd() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(WEIGHTS_SEED)
    features, target = np.maximum(2.0 * generator.standard_normal((2, *FEATURES_SHAPE)), 0.0).astype(np.float32)
    found, wanted = (patch_similarity(torch.from_numpy(x).double()) for x in (features, target))
    # `batchmean` of the released code divides by its batch of one image: a sum over places.
    value = functional.kl_div(found.log_softmax(-1), wanted.softmax(-1), reduction="sum")
    return {"features": features, "target": target, "cfsd": value.numpy()}


def main() -> None:
    arrays = {f"lpips_{trunk}": lpips(trunk) for trunk in LAYERS} | cfsd()
    path = HERE / "measure.npz"
    np.savez_compressed(path, **arrays)  # pyright: ignore[reportArgumentType]
    print(f"{path.name}: {path.stat().st_size} bytes", {k: float(v) for k, v in arrays.items() if v.ndim == 0})


if __name__ == "__main__":
    main()
