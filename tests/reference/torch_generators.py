"""AdaIN, SANet, AdaAttN and Johnson's network in PyTorch, with the keys of their published checkpoints.

Written from `vgg_normalised`, `decoder`, `transformer` and `adaattn_3` as naoto0804/pytorch-AdaIN, GlebSBrykin/SANET
and Huage001/AdaAttN save them; Johnson's follows the layer table of pytorch/examples. Tensors are `batch channels
height width`. `measure` returns what `generators.npz` holds: `seed` of `generator_weights`, and of each case's tensors
`{case}.{tensor}.shape`, `.norm` (L2) and `.values` (entries at `sample_positions`), `height width channels`.
"""

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from reference.weights import generator_weights, reference_image, sample_positions, transformer_weights

WEIGHTS_SEED = 13
SAMPLES = 256
# Modules before the end of each part of the 53-module encoder: relu1_1, relu2_1, relu3_1, relu4_1, relu5_1.
TAPS = (4, 11, 18, 31, 44)
LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
# Heights and widths of content and style: no multiples of 16 where the published code takes such.
Sizes = tuple[tuple[int, int], tuple[int, int]]
ODD: Sizes = ((37, 45), (32, 48))
EVEN: Sizes = ((48, 32), (32, 48))


def mean_std(features: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the root of the unbiased variance plus 1e-5, over positions."""
    flat = features.flatten(2)
    return flat.mean(2)[..., None, None], (flat.var(2) + 1e-5).sqrt()[..., None, None]


def normalize(features: Tensor) -> Tensor:
    mean, std = mean_std(features)
    return (features - mean) / std


def adain(content: Tensor, style: Tensor) -> Tensor:
    mean, std = mean_std(style)
    return normalize(content) * std + mean


def _convolutions(plan: str) -> list[nn.Module]:
    """Modules from words: `64-128` a reflecting convolution and a ReLU, `up` and `pool`."""
    found: list[nn.Module] = []
    for word in plan.split():
        if word == "up":
            found.append(nn.Upsample(scale_factor=2, mode="nearest"))
        elif word == "pool":
            found.append(nn.MaxPool2d(2, 2, ceil_mode=True))
        else:
            inputs, outputs = map(int, word.split("-"))
            found += [nn.ReflectionPad2d(1), nn.Conv2d(inputs, outputs, 3), nn.ReLU()]
    return found


def encoder() -> nn.Sequential:
    """`vgg_normalised.pth`."""
    plan = (
        "3-64 64-64 pool 64-128 128-128 pool 128-256 256-256 256-256 256-256 pool "
        "256-512 512-512 512-512 512-512 pool 512-512 512-512 512-512 512-512"
    )
    return nn.Sequential(nn.Conv2d(3, 3, 1), *_convolutions(plan))


def encode(network: nn.Sequential, image: Tensor) -> list[Tensor]:
    found, start = [], 0
    for end in TAPS:
        image = network[start:end](image)
        found.append(image)
        start = end
    return found


def adain_decoder() -> nn.Sequential:
    """`decoder.pth`; the last convolution has no ReLU."""
    plan = "512-256 up 256-256 256-256 256-256 256-128 up 128-128 128-64 up 64-64 64-3"
    return nn.Sequential(*_convolutions(plan)[:-1])


class Attention(nn.Module):
    """What SANet and AdaAttN have in common: f, g and h."""

    def __init__(self, channels: int, width: int | None = None):
        super().__init__()
        width = width or channels
        self.f, self.g, self.h = (
            nn.Conv2d(width, width, 1),
            nn.Conv2d(width, width, 1),
            nn.Conv2d(channels, channels, 1),
        )

    def weights(self, content: Tensor, style: Tensor) -> Tensor:
        """A: `batch content_positions style_positions`."""
        return torch.softmax(self.f(content).flatten(2).transpose(1, 2) @ self.g(style).flatten(2), -1)


class SANet(Attention):
    def __init__(self, channels: int):
        super().__init__(channels)
        self.out_conv = nn.Conv2d(channels, channels, 1)

    def forward(self, content: Tensor, style: Tensor) -> Tensor:
        weights = self.weights(normalize(content), normalize(style))
        found = self.h(style).flatten(2) @ weights.transpose(1, 2)
        return self.out_conv(found.reshape(content.shape)) + content


class SANetTransform(nn.Module):
    """`transformer_iter_N.pth` of GlebSBrykin/SANET."""

    def __init__(self):
        super().__init__()
        self.sanet4_1, self.sanet5_1 = SANet(512), SANet(512)
        self.merge_conv = nn.Conv2d(512, 512, 3)

    def forward(self, content: list[Tensor], style: list[Tensor]) -> Tensor:
        shallow, deep = self.sanet4_1(content[3], style[3]), self.sanet5_1(content[4], style[4])
        return merge(self.merge_conv, shallow, deep)


def merge(convolution: nn.Conv2d, shallow: Tensor, deep: Tensor) -> Tensor:
    total = shallow + functional.interpolate(deep, scale_factor=2, mode="nearest")
    return convolution(functional.pad(total, (1, 1, 1, 1), mode="reflect"))


def keys(features: list[Tensor], index: int) -> Tensor:
    """Normalized layers, shallow to deep, at the size of the deepest."""
    size = features[index].shape[2:]
    return torch.cat([normalize(functional.interpolate(f, size)) for f in features[: index + 1]], 1)


def attended(weights: Tensor, values: Tensor, content: Tensor) -> Tensor:
    """S o Norm(F_c) + M."""
    flat = values.flatten(2).transpose(1, 2)
    mean = weights @ flat
    std = torch.sqrt(torch.relu(weights @ flat**2 - mean**2))
    mean, std = (x.transpose(1, 2).reshape(content.shape) for x in (mean, std))
    return std * normalize(content) + mean


class AdaAttN(Attention):
    def forward(self, content: Tensor, style: Tensor, content_key: Tensor, style_key: Tensor) -> Tensor:
        return attended(self.weights(content_key, style_key), self.h(style), content)


class AdaAttNCosine(AdaAttN):
    """Of the video model."""

    def weights(self, content: Tensor, style: Tensor) -> Tensor:
        f, g = self.f(content).flatten(2).transpose(1, 2), self.g(style).flatten(2)
        cosines = f @ g / (f.norm(dim=2, keepdim=True) + 1e-5) / (g.norm(dim=1, keepdim=True) + 1e-5)
        weights = torch.relu(cosines + 1)
        return weights / (weights.sum(-1, keepdim=True) + 1e-5)


class AdaAttNTransformer(nn.Module):
    """`latest_net_transformer.pth` of Huage001/AdaAttN."""

    def __init__(self):
        super().__init__()
        self.attn_adain_4_1, self.attn_adain_5_1 = AdaAttN(512, 960), AdaAttN(512, 1472)
        self.merge_conv = nn.Conv2d(512, 512, 3)

    def forward(self, content: list[Tensor], style: list[Tensor]) -> Tensor:
        shallow, deep = (
            module(content[i], style[i], keys(content, i), keys(style, i))
            for module, i in ((self.attn_adain_4_1, 3), (self.attn_adain_5_1, 4))
        )
        return merge(self.merge_conv, shallow, deep)


class AdaAttNDecoder(nn.Module):
    """`latest_net_decoder.pth` of Huage001/AdaAttN."""

    def __init__(self):
        super().__init__()
        self.decoder_layer_1 = nn.Sequential(*_convolutions("512-256 up"))
        plan = "512-256 256-256 256-256 256-128 up 128-128 128-64 up 64-64 64-3"
        self.decoder_layer_2 = nn.Sequential(*_convolutions(plan)[:-1])

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        return self.decoder_layer_2(torch.cat([self.decoder_layer_1(features), skip], 1))


class VideoDecoder(nn.Module):
    """`latest_net_decoder.pth` of the video model."""

    def __init__(self):
        super().__init__()
        plan = "256-256 256-256 256-256 256-128 up 128-128 128-64 up 64-64 64-3"
        self.decoder = nn.Sequential(*_convolutions(plan)[:-1])


def johnson() -> nn.Module:
    """`TransformerNet` without its scale of 255."""

    def layer(inputs: int, outputs: int, size: int, stride: int, *, up: bool = False) -> OrderedDict[str, nn.Module]:
        enlarge = {"up": nn.Upsample(scale_factor=2, mode="nearest")} if up else {}
        convolution = nn.Conv2d(inputs, outputs, size, stride)
        return OrderedDict(**enlarge, pad=nn.ReflectionPad2d(size // 2), conv=convolution)

    def normed(*arguments: int, up: bool = False) -> nn.Sequential:
        norm = nn.InstanceNorm2d(arguments[1], affine=True)
        return nn.Sequential(OrderedDict(**layer(*arguments, up=up), norm=norm))

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = normed(128, 128, 3, 1), normed(128, 128, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.conv2(torch.relu(self.conv1(x)))

    steps: OrderedDict[str, nn.Module] = OrderedDict()
    downs = {"down1": normed(3, 32, 9, 1), "down2": normed(32, 64, 3, 2), "down3": normed(64, 128, 3, 2)}
    ups = {"up1": normed(128, 64, 3, 1, up=True), "up2": normed(64, 32, 3, 1, up=True)}
    for name, module in [*downs.items(), *((f"block{i}", Block()) for i in range(1, 6)), *ups.items()]:
        steps[name] = module
        if not name.startswith("block"):
            steps[f"{name}_relu"] = nn.ReLU()
    return nn.Sequential(OrderedDict(**steps, output=nn.Sequential(layer(32, 3, 9, 1))))


class TransformerNet(nn.Module):
    """`TransformerNet` of pytorch/examples, by its layer table and its keys; images are in 0..255."""

    def __init__(self):
        super().__init__()
        plan = {"conv1": (3, 32, 9, 1), "conv2": (32, 64, 3, 2), "conv3": (64, 128, 3, 2)}
        plan |= {"deconv1": (128, 64, 3, 1), "deconv2": (64, 32, 3, 1), "deconv3": (32, 3, 9, 1)}
        for name, (inputs, outputs, size, stride) in plan.items():
            setattr(self, name, nn.ModuleDict({"conv2d": nn.Conv2d(inputs, outputs, size, stride)}))
        for i, channels in enumerate((32, 64, 128, 64, 32), 1):
            setattr(self, f"in{i}", nn.InstanceNorm2d(channels, affine=True))
        for i in range(1, 6):
            convolutions = {f"conv{j}": nn.ModuleDict({"conv2d": nn.Conv2d(128, 128, 3)}) for j in (1, 2)}
            norms = {f"in{j}": nn.InstanceNorm2d(128, affine=True) for j in (1, 2)}
            setattr(self, f"res{i}", nn.ModuleDict({**convolutions, **norms}))

    def forward(self, x: Tensor) -> Tensor:
        def convolved(layer, x: Tensor) -> Tensor:
            pad = layer["conv2d"].kernel_size[0] // 2
            return layer["conv2d"](functional.pad(x, (pad, pad, pad, pad), mode="reflect"))

        for i in (1, 2, 3):
            x = torch.relu(getattr(self, f"in{i}")(convolved(getattr(self, f"conv{i}"), x)))
        for i in range(1, 6):
            block = getattr(self, f"res{i}")
            inner = torch.relu(block["in1"](convolved(block["conv1"], x)))
            x = x + block["in2"](convolved(block["conv2"], inner))
        for i in (1, 2):
            doubled = functional.interpolate(x, scale_factor=2, mode="nearest")
            x = torch.relu(getattr(self, f"in{i + 3}")(convolved(getattr(self, f"deconv{i}"), doubled)))
        return convolved(self.deconv3, x)


def loaded(module: nn.Module, name: str) -> nn.Module:
    """Fill a module with the weights that the tests draw too."""
    weights = {key: torch.from_numpy(value) for key, value in generator_weights(name, WEIGHTS_SEED).items()}
    module.load_state_dict(weights)
    return module.double().eval()


def image(size: tuple[int, int], seed: int) -> Tensor:
    return torch.from_numpy(reference_image(*size, seed).astype(np.float64).transpose(2, 0, 1).copy()[None])


def features(
    network: nn.Sequential, sizes: tuple[tuple[int, int], tuple[int, int]]
) -> tuple[list[Tensor], list[Tensor]]:
    content, style = (encode(network, image(size, seed)) for seed, size in enumerate(sizes))
    return content, style


def sampled(found: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Shape, norm and sampled entries of every tensor, `height width channels`."""
    arrays: dict[str, np.ndarray] = {}
    for name, value in found.items():
        array = value.detach()[0].permute(1, 2, 0).contiguous().numpy()
        arrays[f"{name}.shape"] = np.array(array.shape, np.int32)
        arrays[f"{name}.norm"] = np.array(np.linalg.norm(array))
        entries = array.reshape(-1)[sample_positions(array.size, min(SAMPLES, array.size))]
        arrays[f"{name}.values"] = entries.astype(np.float32)
    return arrays


def _encoder(network: nn.Sequential) -> dict[str, Tensor]:
    return dict(zip(LAYERS, encode(network, image(ODD[0], 0)), strict=True))


def _adain(network: nn.Sequential) -> dict[str, Tensor]:
    content, style = features(network, ODD)
    decoder = loaded(adain_decoder(), "adain")
    target = adain(content[3], style[3])
    halfway = decoder(0.5 * target + 0.5 * content[3])
    height, width = ODD[0]  # of the 40 x 48 pixels painted
    return {"target": target, "image": decoder(target)[..., :height, :width], "halfway": halfway[..., :height, :width]}


def _sanet(network: nn.Sequential) -> dict[str, Tensor]:
    content, style = features(network, EVEN)
    transform, decoder = loaded(SANetTransform(), "sanet_transformer"), loaded(adain_decoder(), "adain")
    assert isinstance(transform, SANetTransform)
    merged = transform(content, style)
    return {"relu4_1": transform.sanet4_1(content[3], style[3]), "merged": merged, "image": decoder(merged)}


def _adaattn(network: nn.Sequential) -> dict[str, Tensor]:
    content, style = features(network, EVEN)
    transformer = loaded(AdaAttNTransformer(), "adaattn_transformer")
    decoder, attention = loaded(AdaAttNDecoder(), "adaattn_decoder"), loaded(AdaAttN(256, 448), "adaattn_3")
    skip = attention(content[2], style[2], keys(content, 2), keys(style, 2))
    merged = transformer(content, style)
    return {"relu3_1": skip, "merged": merged, "image": decoder(merged, skip), "keys": keys(content, 4)}


def _video(network: nn.Sequential) -> dict[str, Tensor]:
    content, style = features(network, EVEN)
    attention = loaded(AdaAttNCosine(256, 448), "adaattn_3")
    decoder = loaded(VideoDecoder(), "video_decoder")
    assert isinstance(decoder, VideoDecoder)
    found = attention(content[2], style[2], keys(content, 2), keys(style, 2))
    return {"relu3_1": found, "image": decoder.decoder(found)}


def _johnson(_: nn.Sequential) -> dict[str, Tensor]:
    painted = loaded(johnson(), "johnson")(image(ODD[0], 0))[..., : ODD[0][0], : ODD[0][1]]
    return {"image": painted, "bounded": 0.5 + 0.5 * torch.tanh(painted)}


def _transformer(_: nn.Sequential) -> dict[str, Tensor]:
    network = TransformerNet()
    weights = {key: torch.from_numpy(value) for key, value in transformer_weights(WEIGHTS_SEED).items()}
    network.load_state_dict({key: value for key, value in weights.items() if "running" not in key})
    return {"image": network.double().eval()(255 * image(EVEN[0], 0)) / 255}


CASES: dict[str, Callable[[nn.Sequential], dict[str, Tensor]]] = {
    "encoder": _encoder,
    "adain": _adain,
    "sanet": _sanet,
    "adaattn": _adaattn,
    "video": _video,
    "johnson": _johnson,
    "transformer": _transformer,
}


def measure() -> dict[str, np.ndarray]:
    """Run every case in float64."""
    network = loaded(encoder(), "encoder")
    assert isinstance(network, nn.Sequential)
    arrays = {"seed": np.array(WEIGHTS_SEED)}
    with torch.no_grad():
        for name, case in CASES.items():
            arrays |= {f"{name}.{key}": value for key, value in sampled(case(network)).items()}
    return arrays
