"""The same training steps in PyTorch: the other side of `speed_train.py`, see `stylize_job.Side`.

Losses as in the code of naoto0804/pytorch-AdaIN, GlebSBrykin/SANET, Huage001/AdaAttN and pytorch/examples. Reasons for
its speed: a frozen encoder, content and style encoded in one pass without gradients, channels-last memory, fused Adam,
autocast in bfloat16.
"""

import contextlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from generator_torch import SKIP_SAMPLES, modules
from reference import torch_generators as networks  # pyright: ignore[reportMissingImports]
from safetensors.torch import load_file
from stylize_job import Job
from torch import Tensor, nn  # pyright: ignore[reportMissingImports]
from torch.nn.functional import mse_loss  # pyright: ignore[reportMissingImports]
from torch_baseline import set_precision

LEARNING_RATES = {"johnson": 1e-3, "adain": 1e-4, "sanet": 1e-4, "adaattn": 2e-4}
# Ends of the encoder's parts: AdaIN reads relu1_1 to relu4_1, SANet and AdaAttN relu5_1 too; Johnson's losses relu1_2,
# relu2_2, relu3_3 and relu4_3.
ENDS = {
    "johnson": (7, 14, 24, 37),
    "adain": networks.TAPS[:4],
    "sanet": networks.TAPS,
    "adaattn": networks.TAPS,
}


def added(terms: Iterable[Tensor]) -> Tensor:
    """Return the sum of terms."""
    return torch.stack(list(terms)).sum()


def moments_loss(output: Tensor, style: Tensor) -> Tensor:
    """Compare mean and deviation of every channel."""
    pairs = zip(networks.mean_std(output), networks.mean_std(style), strict=True)
    return added(mse_loss(ours, theirs) for ours, theirs in pairs)


def gram(features: Tensor) -> Tensor:
    """Return F F^T / (C H W) of each image of a batch."""
    flat = features.float().flatten(2)
    return flat @ flat.mT / flat[0].numel()


def local_target(content: list[Tensor], style: list[Tensor], index: int) -> Tensor:
    """Return the features of AdaAttN without parameters at one layer."""
    queries, keys, values = (
        networks.keys(content, index),
        networks.keys(style, index).flatten(2),
        style[index].flatten(2),
    )
    if keys.shape[2] > SKIP_SAMPLES:
        chosen = torch.randperm(keys.shape[2], device=keys.device)[:SKIP_SAMPLES]
        keys, values = keys[..., chosen], values[..., chosen]
    weights = torch.softmax(queries.flatten(2).mT @ keys, -1)
    return networks.attended(weights, values, content[index])


class TorchTrainingSide:
    """Takes steps on one batch; a round's losses are those of its first and its last step."""

    def __init__(self, job: Job):
        set_precision(job.precision)
        self.job, self.kind = job, job.backbone
        self.parts = {name: self._loaded(module, name) for name, module in modules(self.kind).items()}
        encoder = self.parts.pop("encoder", None) or self._loaded(networks.encoder(), "encoder")
        assert isinstance(encoder, nn.Sequential)
        self.encoder = encoder.requires_grad_(False)
        with np.load(job.images) as images:
            self.content, self.style = (self._images(images[name]) for name in ("content", "style"))
        self.loss = torch.compile(self._loss, mode=job.compiler) if job.compiler else self._loss
        self._restart()
        self.iterate()
        self._restart()

    def _loaded(self, module: nn.Module, name: str) -> nn.Module:
        module.load_state_dict(load_file(Path(self.job.weights) / f"{name}.safetensors"))
        module = module.to(self.job.device)
        return module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def _images(self, images: np.ndarray) -> Tensor:
        image = torch.from_numpy((255 * images + 0.5).astype(np.uint8).transpose(0, 3, 1, 2).copy())
        return (image.to(self.job.device).float() / 255).contiguous(memory_format=torch.channels_last)

    def _restart(self) -> None:
        for name, part in self.parts.items():
            part.load_state_dict(load_file(Path(self.job.weights) / f"{name}.safetensors"))
        parameters = [p for part in self.parts.values() for p in part.parameters()]
        self.solver = torch.optim.Adam(parameters, lr=LEARNING_RATES[self.kind], fused=True)

    def _encode(self, image: Tensor) -> list[Tensor]:
        found, start = [], 0
        for end in ENDS[self.kind]:
            image = self.encoder[start:end](image)
            found.append(image)
            start = end
        return found

    def _paint(self, content: list[Tensor], style: list[Tensor]) -> Tensor:
        parts = self.parts
        if self.kind == "adain":
            return parts["adain"](networks.adain(content[3], style[3]))
        if self.kind == "sanet":
            return parts["adain"](parts["sanet_transformer"](content, style))
        keys = networks.keys(content, 2), networks.keys(style, 2)
        skip = parts["adaattn_3"](content[2], style[2], *keys)
        return parts["adaattn_decoder"](parts["adaattn_transformer"](content, style), skip)

    def _loss(self, contents: Tensor, styles: Tensor) -> Tensor:
        if self.kind == "johnson":
            return self._johnson(contents, styles)
        with torch.no_grad():
            both = self._encode(torch.cat([contents, styles]))
        content, style = ([x.chunk(2)[i] for x in both] for i in range(2))
        output = self._encode(self._paint(content, style))
        if self.kind == "adain":
            target = networks.adain(content[3], style[3])
            style_loss = added(moments_loss(o, s) for o, s in zip(output, style, strict=True))
            return mse_loss(output[3], target) + 10 * style_loss
        if self.kind == "sanet":
            return self._sanet(contents, styles, content, style, output)
        deep = range(1, 5)
        local = added(mse_loss(output[i], local_target(content, style, i)) for i in deep)
        return 10 * added(moments_loss(output[i], style[i]) for i in deep) + 3 * local

    def _sanet(
        self, contents: Tensor, styles: Tensor, content: list[Tensor], style: list[Tensor], output: list[Tensor]
    ) -> Tensor:
        total = added(mse_loss(networks.normalize(output[i]), networks.normalize(content[i])) for i in (3, 4))
        total = total + 3 * added(moments_loss(o, s) for o, s in zip(output, style, strict=True))
        for image, features in ((contents, content), (styles, style)):
            found = self._paint(features, features)
            same = zip(self._encode(found), features, strict=True)
            total = total + 50 * mse_loss(found, image) + added(mse_loss(a, b) for a, b in same)
        return total

    def _johnson(self, contents: Tensor, styles: Tensor) -> Tensor:
        with torch.no_grad():
            content = self._encode(contents)[1]
            grams = [gram(features) for features in self._encode(styles[:1])]
        output = self._encode(self.parts["johnson"](contents))
        style = added(mse_loss(gram(o), g.expand(len(o), -1, -1)) for o, g in zip(output, grams, strict=True))
        return 1e5 * mse_loss(output[1], content) + 1e10 * style

    def iterate(self) -> tuple[float, float]:
        """Take the job's steps."""
        totals = []
        for _ in range(self.job.iterations):
            half = self.job.precision == "bfloat16"
            with torch.autocast(self.job.device, torch.bfloat16) if half else contextlib.nullcontext():
                loss = self.loss(self.content, self.style)
            self.solver.zero_grad(set_to_none=True)
            loss.backward()
            self.solver.step()
            totals.append(loss.detach())
        return totals[0].item(), totals[-1].item()

    def device_peak_bytes(self) -> int | None:
        """Return the peak memory of tensors on the GPU."""
        return torch.cuda.max_memory_allocated() if self.job.device == "cuda" else None

    def describe(self) -> dict[str, str]:
        """Return device and versions."""
        name = torch.cuda.get_device_name() if self.job.device == "cuda" else "cpu"
        return {"torch": torch.__version__, "device": name, "threads": str(torch.get_num_threads())}
