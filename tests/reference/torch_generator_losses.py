"""The losses that AdaIN, SANet and AdaAttN are trained by, in float64 PyTorch, on small random features.

`measure` returns what `generator_losses.npz` holds: the inputs, `{role}.{layer}` for the roles `output`, `content`,
`style`, and `same_content`, `same_style` (features of what is made of an image in its own style), and the images
`image.{role}`, all `height width channels`; and of each recipe the terms `{recipe}.{term}`, unweighted sums over their
layers, `{recipe}.total` with the published weights, and its gradients `{recipe}.gradient.{layer}` at the output.
"""

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from reference.torch_generators import adain as transferred
from reference.torch_generators import attended, keys, mean_std, normalize

SEED = 3
LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
CHANNELS = (3, 4, 5, 6, 7)
# Odd sizes, as pools that keep odd edges leave them; the style has others.
CONTENT_SIZES = ((13, 9), (7, 5), (4, 3), (3, 2), (2, 2))
STYLE_SIZES = ((11, 10), (6, 5), (3, 3), (2, 3), (2, 2))
ROLES = {
    "output": CONTENT_SIZES,
    "content": CONTENT_SIZES,
    "style": STYLE_SIZES,
    "same_content": CONTENT_SIZES,
    "same_style": STYLE_SIZES,
}
IMAGE_SIZES = {"content": (13, 9), "style": (11, 10), "same_content": (13, 9), "same_style": (11, 10)}

mse = functional.mse_loss


def _draw() -> dict[str, np.ndarray]:
    """Rectified noise with an offset and a spread for each channel: moments that differ."""
    generator, found = np.random.default_rng(SEED), {}
    for role, sizes in ROLES.items():
        for layer, size, channels in zip(LAYERS, sizes, CHANNELS, strict=True):
            scale, shift = generator.uniform(0.5, 2, channels), generator.uniform(0, 1, channels)
            noise = np.maximum(scale * generator.standard_normal((*size, channels)) + shift, 0)
            found[f"{role}.{layer}"] = noise.astype(np.float32)
    for role, size in IMAGE_SIZES.items():
        found[f"image.{role}"] = generator.uniform(size=(*size, 3)).astype(np.float32)
    return found


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(np.float64).transpose(2, 0, 1).copy()[None])


def averaged(features: Tensor, style: Tensor) -> Tensor:
    """Style loss of one layer: mean squared difference of means, and of unbiased deviations."""
    (mean, std), (style_mean, style_std) = mean_std(features), mean_std(style)
    return mse(mean, style_mean) + mse(std, style_std)


def summed(features: Tensor, style: Tensor) -> Tensor:
    """The authors' of AdaIN: summed over channels; biased, 1e-6 in the image's deviation alone."""
    mean, style_mean = features.flatten(2).mean(2), style.flatten(2).mean(2)
    std = (features.flatten(2).var(2, unbiased=False) + 1e-6).sqrt()
    style_std = style.flatten(2).var(2, unbiased=False).sqrt()
    return (mean - style_mean).square().sum() + (std - style_std).square().sum()


def local_target(content: list[Tensor], style: list[Tensor], index: int) -> Tensor:
    """Attention without convolutions, from the normalized layers down to `index`."""
    queries, style_keys = keys(content, index).flatten(2).transpose(1, 2), keys(style, index).flatten(2)
    return attended(torch.softmax(queries @ style_keys, -1), style[index], content[index])


def _sum(terms: list[Tensor]) -> Tensor:
    return torch.stack(terms).sum()


def _adain(f: dict[str, list[Tensor]], _: dict[str, Tensor]) -> dict[str, Tensor]:
    content = mse(f["output"][3], transferred(f["content"][3], f["style"][3]))
    means = _sum([averaged(x, s) for x, s in zip(f["output"][:4], f["style"][:4], strict=True)])
    sums = _sum([summed(x, s) for x, s in zip(f["output"][:4], f["style"][:4], strict=True)])
    return {"content": content, "averaged": means, "summed": sums}


def _sanet(f: dict[str, list[Tensor]], images: dict[str, Tensor]) -> dict[str, Tensor]:
    content = _sum([mse(normalize(f["output"][i]), normalize(f["content"][i])) for i in (3, 4)])
    style = _sum([averaged(x, s) for x, s in zip(f["output"], f["style"], strict=True)])
    pairs = (("content", "same_content"), ("style", "same_style"))
    pixels = _sum([mse(images[same], images[role]) for role, same in pairs])
    layers = _sum([mse(x, y) for role, same in pairs for x, y in zip(f[same], f[role], strict=True)])
    return {"content": content, "style": style, "pixels": pixels, "identity": layers}


def _adaattn(f: dict[str, list[Tensor]], _: dict[str, Tensor]) -> dict[str, Tensor]:
    style = _sum([averaged(f["output"][i], f["style"][i]) for i in range(1, 5)])
    local = _sum([mse(f["output"][i], local_target(f["content"], f["style"], i).detach()) for i in range(1, 5)])
    content = _sum([mse(normalize(f["output"][i]), normalize(f["content"][i])) for i in range(1, 5)])
    return {"global": style, "local": local, "content": content}


# The published weights: naoto0804/pytorch-AdaIN, xunhuang1995/AdaIN-style, GlebSBrykin/SANET, Huage001/AdaAttN; the
# last with a content loss, which it has for an ablation.
RECIPES = {
    "adain_port": (_adain, {"content": 1, "averaged": 10}),
    "adain_released": (_adain, {"content": 1, "summed": 0.01}),
    "sanet": (_sanet, {"content": 1, "style": 3, "pixels": 50, "identity": 1}),
    "adaattn": (_adaattn, {"global": 10, "local": 3}),
    "adaattn_ablation": (_adaattn, {"global": 10, "local": 3, "content": 2}),
}


def measure() -> dict[str, np.ndarray]:
    """Run every recipe in float64."""
    arrays = _draw()
    images = {role: _tensor(arrays[f"image.{role}"]) for role in IMAGE_SIZES}
    found: dict[str, np.ndarray] = dict(arrays)
    for name, (recipe, weights) in RECIPES.items():
        features = {role: [_tensor(arrays[f"{role}.{layer}"]) for layer in LAYERS] for role in ROLES}
        for leaf in features["output"]:
            leaf.requires_grad_()
        terms = recipe(features, images)
        total = _sum([weight * terms[term] for term, weight in weights.items()])
        found |= {f"{name}.{term}": terms[term].detach().numpy() for term in weights}
        found[f"{name}.total"] = total.detach().numpy()
        gradients = torch.autograd.grad(total, features["output"], allow_unused=True)
        for layer, gradient in zip(LAYERS, gradients, strict=True):
            if gradient is not None:
                found[f"{name}.gradient.{layer}"] = gradient[0].permute(1, 2, 0).numpy().astype(np.float32)
    return found
