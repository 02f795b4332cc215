"""Generators painting with PyTorch: one side of `speed_generators.py`, see `stylize_job.Side`.

The modules also make the reference values of the tests; attention uses the whole matrix, as in the published code.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from safetensors.torch import load_file
from stylize_job import Job
from torch import Tensor, nn  # pyright: ignore[reportMissingImports]

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "tests")]

from reference import torch_generators as networks  # noqa: E402  # pyright: ignore[reportMissingImports]
from torch_baseline import set_precision  # noqa: E402

SKIP_SAMPLES = 64 * 64
"""`max_sample` of AdaAttN's `adaattn_3`."""


class SampledAdaAttN(networks.AdaAttN):
    """`adaattn_3`: if there are more style positions than `max_sample`, it attends to a random choice of them."""

    def forward(self, content: Tensor, style: Tensor, content_key: Tensor, style_key: Tensor) -> Tensor:
        """Return the content's features with statistics of the style by position."""
        if style.shape[2] * style.shape[3] > SKIP_SAMPLES:
            chosen = torch.randperm(style.shape[2] * style.shape[3], device=style.device)[:SKIP_SAMPLES]
            style, style_key = (x.flatten(2)[:, :, chosen][..., None] for x in (style, style_key))
        return super().forward(content, style, content_key, style_key)


def modules(kind: str) -> dict[str, nn.Module]:
    """Return the modules of a generator by the name of their weights."""
    if kind == "johnson":
        return {"johnson": networks.johnson()}
    decoders: dict[str, Callable[[], dict[str, nn.Module]]] = {
        "adain": lambda: {"adain": networks.adain_decoder()},
        "sanet": lambda: {"sanet_transformer": networks.SANetTransform(), "adain": networks.adain_decoder()},
        "adaattn": lambda: {
            "adaattn_transformer": networks.AdaAttNTransformer(),
            "adaattn_3": SampledAdaAttN(256, 448),
            "adaattn_decoder": networks.AdaAttNDecoder(),
        },
    }
    return {"encoder": networks.encoder(), **decoders[kind]()}


class TorchGeneratorSide:
    """Encodes content and style, transfers, decodes; a round's "losses" are the mean of the images."""

    def __init__(self, job: Job):
        set_precision(job.precision)
        self.job, self.dtype = job, torch.bfloat16 if job.precision == "bfloat16" else torch.float32
        self.parts = {name: self._loaded(module, name) for name, module in modules(job.backbone).items()}
        with np.load(job.images) as images:
            self.images = [self._images(images[name]) for name in ("content", "style")]
        self.paint = torch.compile(self._paint, mode=job.compiler) if job.compiler else self._paint
        self.iterate()

    def _loaded(self, module: nn.Module, name: str) -> nn.Module:
        module.load_state_dict(load_file(Path(self.job.weights) / f"{name}.safetensors"))
        module = module.to(self.job.device, self.dtype)
        return module.to(memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]

    def _images(self, images: np.ndarray) -> Tensor:
        image = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        return image.to(self.job.device, self.dtype).contiguous(memory_format=torch.channels_last)

    def _encode(self, image: Tensor) -> list[Tensor]:
        """Encode no deeper than the generator reads."""
        encoder = self.parts["encoder"]
        assert isinstance(encoder, nn.Sequential)
        ends = networks.TAPS[:4] if self.job.backbone == "adain" else networks.TAPS
        found, start = [], 0
        for end in ends:
            image = encoder[start:end](image)
            found.append(image)
            start = end
        return found

    def _paint(self, content: Tensor, style: Tensor) -> Tensor:
        kind, parts = self.job.backbone, self.parts
        if kind == "johnson":
            return parts["johnson"](content)
        c, s = self._encode(content), self._encode(style)
        if kind == "adain":
            return parts["adain"](networks.adain(c[3], s[3]))
        if kind == "sanet":
            return parts["adain"](parts["sanet_transformer"](c, s))
        skip = parts["adaattn_3"](c[2], s[2], networks.keys(c, 2), networks.keys(s, 2))
        return parts["adaattn_decoder"](parts["adaattn_transformer"](c, s), skip)

    @torch.inference_mode()
    def iterate(self) -> tuple[float, float]:
        """Paint the batch `iterations` times."""
        found = [self.paint(*self.images).float().mean() for _ in range(self.job.iterations)]
        return found[0].item(), found[-1].item()

    def device_peak_bytes(self) -> int | None:
        """Return the peak memory of tensors on the GPU."""
        return torch.cuda.max_memory_allocated() if self.job.device == "cuda" else None

    def describe(self) -> dict[str, str]:
        """Return device and versions."""
        name = torch.cuda.get_device_name() if self.job.device == "cuda" else "cpu"
        return {"torch": torch.__version__, "device": name, "threads": str(torch.get_num_threads())}
