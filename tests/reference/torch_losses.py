"""The losses of the paper and of the released code, in float64 PyTorch, on small random features.

`measure` returns what `losses.npz` holds. Features are `height width channels` for two layers, called
`shallow` and `deep`: the current image's `image_*`, the content's `content_*`, the style's `style_*`. All
values of one layer are computed from `F`, its `channels x positions` form (D channels, M positions):

* `gram_positions_*` F F^T / M, `gram_released_*` F F^T / (D M), `gram_sum_*` F F^T (paper, eq. 1);
* `smooth_{name}_*`: the smoothings of `image_*`;
* `loss_{loss}_{smoothing}` for every loss and smoothing, and `gradient_{loss}_{smoothing}_*` at `image_*`.
  The losses add up both layers, content losses included;
* `variation_*`: total variations of `image`, with `gradient_variation_*`.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

SEED = 5
SHAPES = {"shallow": (6, 5, 4), "deep": (3, 4, 7)}
PICTURE_SHAPE = (7, 9, 3)
# Layer weights w_l: unequal, so that a test sees them.
LAYER_WEIGHTS = {"shallow": 1.0, "deep": 0.5}
# The factor alpha of the released code (`resnet_swag.py` of peiwang062/swag).
SCALE = 0.001
# A temperature other than 1, so that a test sees it.
TEMPERATURE = 2.5
# Features of a rectified layer with a few peaks: the softmaxes must differ visibly from uniform.
FEATURE_SCALE = 1.5


def flat(features: Tensor) -> Tensor:
    """Reshape `height width channels` to the paper's `channels x positions`."""
    return features.reshape(-1, features.shape[-1]).T


def gram(features: Tensor) -> Tensor:
    """Paper, eq. 1: inner products of channels over positions."""
    return flat(features) @ flat(features).T


def gram_positions(features: Tensor) -> Tensor:
    return gram(features) / flat(features).shape[1]


def gram_released(features: Tensor) -> Tensor:
    """Released code: divided by batch, channels and positions."""
    return gram(features) / features.numel()


def softmax_all(features: Tensor, temperature: float = 1.0) -> Tensor:
    """Paper, eq. 11, and `softmax3d` of the released code: over all entries."""
    return torch.softmax(features.reshape(-1) / temperature, 0).reshape(features.shape)


def softmax_channels(features: Tensor, temperature: float = 1.0) -> Tensor:
    """`Softmax2d` of the released code: over the channels of each position."""
    chw = (features / temperature).permute(2, 0, 1)[None]
    return torch.nn.Softmax2d()(chw)[0].permute(1, 2, 0)


def softmax_space(features: Tensor, temperature: float = 1.0) -> Tensor:
    """Over the positions of each channel."""
    return torch.softmax(flat(features) / temperature, 1).T.reshape(features.shape)


SMOOTHINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda features: features,
    "softmax": softmax_all,
    "softmax_temperature": lambda features: softmax_all(features, TEMPERATURE),
    "channel_softmax": softmax_channels,
    "channel_softmax_temperature": lambda features: softmax_channels(features, TEMPERATURE),
    "spatial_softmax": softmax_space,
    "spatial_softmax_temperature": lambda features: softmax_space(features, TEMPERATURE),
    "scale": lambda features: SCALE * features,
}


def content_paper(features: Tensor, target: Tensor) -> Tensor:
    """Paper, eq. 3: 1/2 ||F - F_c||^2."""
    return 0.5 * (features - target).square().sum()


def content_released(features: Tensor, target: Tensor) -> Tensor:
    """Released code: mean squared difference."""
    return functional.mse_loss(features, target)


def style_paper(features: Tensor, target: Tensor) -> Tensor:
    """Paper, eq. 4: ||F F^T - F_s F_s^T||^2 / (4 D^2 M^2)."""
    return (gram(features) - gram(target)).square().sum() / (4 * features.numel() ** 2)


def style_released(features: Tensor, target: Tensor) -> Tensor:
    """Released code: mean squared difference of Gram matrices divided by D M."""
    return functional.mse_loss(gram_released(features), gram_released(target))


def _relative(value: Tensor, target: Tensor) -> Tensor:
    return (value - target).square().sum() / (target - target.mean()).square().sum()


def content_relative(features: Tensor, target: Tensor) -> Tensor:
    """||F - F_c||^2 / ||F_c - mean(F_c)||^2."""
    return _relative(features, target)


def style_relative(features: Tensor, target: Tensor) -> Tensor:
    """||G - G_s||^2 / ||G_s - mean(G_s)||^2 with G = F F^T / M."""
    return _relative(gram_positions(features), gram_positions(target))


LOSSES = {
    "content_paper": content_paper,
    "content_released": content_released,
    "content_relative": content_relative,
    "style_paper": style_paper,
    "style_released": style_released,
    "style_relative": style_relative,
}


def _differences(image: Tensor) -> tuple[Tensor, Tensor]:
    return image[1:] - image[:-1], image[:, 1:] - image[:, :-1]


def variation_squared_padded(image: Tensor) -> Tensor:
    """`TVLoss` of crowsonkb/style-transfer-pytorch: mean over all entries, replicated border."""
    down, right = (difference.square().sum() for difference in _differences(image))
    return (down + right) / image.numel()


VARIATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "absolute_sum": lambda image: sum((d.abs().sum() for d in _differences(image)), torch.zeros(())),
    "absolute_mean": lambda image: sum((d.abs().mean() for d in _differences(image)), torch.zeros(())),
    "squared_sum": lambda image: sum((d.square().sum() for d in _differences(image)), torch.zeros(())),
    "squared_mean": lambda image: sum((d.square().mean() for d in _differences(image)), torch.zeros(())),
    "squared_padded": variation_squared_padded,
}


def _inputs() -> dict[str, Tensor]:
    generator = np.random.default_rng(SEED)
    arrays = {
        f"{role}_{layer}": np.maximum(FEATURE_SCALE * generator.standard_normal(shape), 0.0)
        for role in ("image", "content", "style")
        for layer, shape in SHAPES.items()
    }
    arrays["image"] = generator.uniform(size=PICTURE_SHAPE)
    # Rounded to float32, so that a float32 reader starts from the same numbers.
    return {name: torch.from_numpy(array.astype(np.float32)).double() for name, array in arrays.items()}


def _loss_values(inputs: dict[str, Tensor], loss: str, smoothing: str) -> dict[str, Tensor]:
    role, smooth = loss.split("_")[0], SMOOTHINGS[smoothing]
    leaves = {layer: inputs[f"image_{layer}"].clone().requires_grad_() for layer in SHAPES}
    total = torch.zeros((), dtype=torch.float64)
    for layer, leaf in leaves.items():
        target = smooth(inputs[f"{role}_{layer}"])
        total = total + LAYER_WEIGHTS[layer] * LOSSES[loss](smooth(leaf), target)
    gradients = torch.autograd.grad(total, list(leaves.values()))
    found = {f"loss_{loss}_{smoothing}": total}
    for layer, gradient in zip(leaves, gradients, strict=True):
        found[f"gradient_{loss}_{smoothing}_{layer}"] = gradient
    return found


def _variation_values(image: Tensor) -> dict[str, Tensor]:
    found = {}
    for name, function in VARIATIONS.items():
        leaf = image.clone().requires_grad_()
        found[f"variation_{name}"] = function(leaf)
        found[f"gradient_variation_{name}"] = torch.autograd.grad(found[f"variation_{name}"], leaf)[0]
    return found


def measure() -> dict[str, np.ndarray]:
    """Compute every array of `losses.npz`; gradients are float32, everything else float64."""
    inputs = _inputs()
    found = dict(inputs)
    for layer in SHAPES:
        features = inputs[f"image_{layer}"]
        found[f"gram_sum_{layer}"] = gram(features)
        found[f"gram_positions_{layer}"] = gram_positions(features)
        found[f"gram_released_{layer}"] = gram_released(features)
        for name, smooth in SMOOTHINGS.items():
            found[f"smooth_{name}_{layer}"] = smooth(features)
        found[f"weight_{layer}"] = torch.tensor(LAYER_WEIGHTS[layer], dtype=torch.float64)
    for loss in LOSSES:
        for smoothing in SMOOTHINGS:
            found |= _loss_values(inputs, loss, smoothing)
    found |= _variation_values(inputs["image"])
    found["temperature"] = torch.tensor(TEMPERATURE, dtype=torch.float64)
    found["scale"] = torch.tensor(SCALE, dtype=torch.float64)
    arrays = {name: value.detach().numpy() for name, value in found.items()}
    # Inputs are float32 numbers, and float32 gradients suffice for a float32 reader.
    narrow = ("image_", "content_", "style_", "image", "gradient_")
    return {key: a.astype(np.float32) if key.startswith(narrow) else a for key, a in arrays.items()}
