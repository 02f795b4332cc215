"""Stylization by Adam in PyTorch, as fast as reasonably possible: the other side of the speed benchmarks.

It minimizes the `relative` loss of `swag_jax.losses.Objective`: with F the activations of a layer and
G = F F^T / (H W) its Gram matrix,

    content_weight ||F - F_c||^2 / ||F_c - mean(F_c)||^2
    + style_weight mean_l ||G - G_s||^2 / ||G_s - mean(G_s)||^2
    + tv_weight (mean of squared differences down + the same across)

Several pairs are one batch: the sum of their losses is minimized. Since Adam works entry by entry, each has the same
result as alone.

Reasons for its speed: weights without gradients, batch normalizations folded into the convolutions, targets
computed once, channels-last memory, ReLUs and additions in place, fused Adam, gradients set to `None`, no
value fetched from the device inside the loop. In bfloat16 the frozen weights are cast once, which autocast
would repeat every step.

    python benchmarks/torch_baseline.py --backbone vgg19 --size 256
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import stylize_inputs
import torch  # pyright: ignore[reportMissingImports]
import torch_networks as networks
from safetensors.numpy import load_file
from stylize_job import CONTENT_LAYER, DECAYS, LEARNING_RATE, PRECISIONS, Job, iteration_flops
from torch import Tensor  # pyright: ignore[reportMissingImports]


def gram(features: Tensor) -> Tensor:
    """Return F F^T / (H W) in float32, `batch channels channels`; `features` are in channels-last memory."""
    pairs, channels = features.shape[:2]
    flat = features.permute(0, 2, 3, 1).reshape(pairs, -1, channels)
    products = (flat[0].T @ flat[0])[None] if pairs == 1 else flat.mT @ flat
    return products.float() / flat.shape[1]


def squares(difference: Tensor) -> Tensor:
    """Return the sum of squares of each image of a batch."""
    return difference.square().flatten(1).sum(1)


def spread(target: Tensor) -> Tensor:
    """Return ||t - mean(t)||^2 of each image of a batch."""
    return squares(target - target.flatten(1).mean(1).view(-1, *[1] * (target.ndim - 1)))


def total_variation(image: Tensor) -> Tensor:
    """Return the mean squared difference of neighbors of each image of a batch, down plus across."""
    down, across = image[:, :, 1:] - image[:, :, :-1], image[:, :, :, 1:] - image[:, :, :, :-1]
    return down.square().flatten(1).mean(1) + across.square().flatten(1).mean(1)


def set_precision(precision: str) -> None:
    """Allow TF32 products unless full float32 is required; without effect on a CPU."""
    allow = precision != "float32"
    torch.backends.cuda.matmul.allow_tf32 = allow
    torch.backends.cudnn.allow_tf32 = allow
    torch.backends.cudnn.benchmark = True


class Loss:
    """The relative losses of one job as a function of its images, `batch 3 height width` in [0, 1]."""

    def __init__(self, job: Job, content: Tensor, style: Tensor):
        self.job = job
        self.dtype = torch.bfloat16 if job.precision == "bfloat16" else torch.float32
        network = networks.build(job.backbone, **({"inplace": True} if job.backbone == "vgg19" else {}))
        network = networks.fold_batch_norms(networks.load(network, load_file(job.weights)))
        # The type stubs do not know this argument by its name alone.
        network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.network = network.to(job.device, self.dtype)
        self.mean, self.deviation = (
            torch.tensor(values, device=job.device).view(1, 3, 1, 1) for values in (networks.MEAN, networks.DEVIATION)
        )
        with torch.no_grad():
            self.content = self.features(content, (job.content_layer,))[job.content_layer].float()
            self.grams = {name: gram(f) for name, f in self.features(style, job.style_layers).items()}
            self.content_unit = spread(self.content)
            self.gram_units = {name: spread(target) for name, target in self.grams.items()}

    def features(self, image: Tensor, layers: tuple[str, ...]) -> dict[str, Tensor]:
        """Normalize and run the network."""
        return self.network(((image - self.mean) / self.deviation).to(self.dtype), layers)

    def __call__(self, image: Tensor) -> Tensor:
        """Return the weighted sum of the terms of each image."""
        job = self.job
        found = self.features(image, (job.content_layer, *job.style_layers))
        content = squares(found[job.content_layer].float() - self.content) / self.content_unit
        style = torch.stack([squares(gram(found[n]) - t) / self.gram_units[n] for n, t in self.grams.items()]).mean(0)
        total = job.content_weight * content + job.style_weight * style
        return total + job.tv_weight * total_variation(image)


class TorchSide:
    """The PyTorch side of the benchmark, see `stylize_job.Side`."""

    def __init__(self, job: Job):
        set_precision(job.precision)
        self.job = job
        with np.load(job.images) as images:
            content, style = (self._images(images[name][: job.pairs]) for name in ("content", "style"))
        loss = Loss(job, content, style)
        self.loss: Callable[[Tensor], Tensor] = loss
        if job.compiler:
            # `torch.compile` is typed as a decorator of functions.
            self.loss = torch.compile(loss.__call__, mode=job.compiler)
        self.image = content.clone(memory_format=torch.channels_last).requires_grad_()
        self.solver = torch.optim.Adam([self.image], lr=LEARNING_RATE, betas=DECAYS, fused=True)
        self.content = content
        self.iterate()
        self._restart()

    def _images(self, images: np.ndarray) -> Tensor:
        image = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        return image.to(self.job.device).contiguous(memory_format=torch.channels_last)

    def _restart(self) -> None:
        with torch.no_grad():
            self.image.copy_(self.content)
        self.solver.state.clear()

    def _synchronize(self) -> float:
        if self.job.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def _update(self) -> None:
        self.solver.step()
        with torch.no_grad():
            self.image.clamp_(0, 1)

    def iterate(self) -> tuple[float, float]:
        """Take the job's steps; return the loss before the first and before the last of them."""
        first = last = torch.zeros(self.job.pairs)
        for step in range(self.job.iterations):
            self.solver.zero_grad(set_to_none=True)
            last = self.loss(self.image)
            last.sum().backward()
            self._update()
            # A compiled loss may reuse its output's memory in the next call.
            first = last.detach().clone() if step == 0 else first
        return first.mean().item(), last.mean().item()

    def split(self, repeats: int) -> dict[str, list[float]]:
        """Measure `forward`, `backward` and `update` of the whole batch in seconds, each `repeats` times."""
        seconds: dict[str, list[float]] = {"forward": [], "backward": [], "update": []}
        for _ in range(repeats):
            self.solver.zero_grad(set_to_none=True)
            marks = [self._synchronize()]
            loss = self.loss(self.image).sum()
            marks.append(self._synchronize())
            loss.backward()
            marks.append(self._synchronize())
            self._update()
            marks.append(self._synchronize())
            for name, begin, end in zip(seconds, marks, marks[1:], strict=False):
                seconds[name].append(end - begin)
        return seconds

    def device_peak_bytes(self) -> int | None:
        """Return the peak memory of tensors on the GPU."""
        return torch.cuda.max_memory_allocated() if self.job.device == "cuda" else None

    def matrix_rate(self, side: int, repeats: int) -> float:
        """Return the best rate, in FLOP/s, of a square matrix product at the job's precision."""
        dtype = torch.bfloat16 if self.job.precision == "bfloat16" else torch.float32
        a, b = torch.randn(2, side, side, device=self.job.device, dtype=dtype)
        best = float("inf")
        for _ in range(repeats + 1):
            begin = self._synchronize()
            torch.mm(a, b)
            best = min(best, self._synchronize() - begin)
        return 2 * side**3 / best

    def describe(self) -> dict[str, str]:
        """Return device and versions."""
        name = torch.cuda.get_device_name() if self.job.device == "cuda" else "cpu"
        return {"torch": torch.__version__, "device": name, "threads": str(torch.get_num_threads())}


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds per iteration of stylization by Adam in PyTorch.")
    parser.add_argument("--backbone", default="vgg19", choices=sorted(CONTENT_LAYER))
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--precision", default="float32", choices=PRECISIONS)
    parser.add_argument("--compile", default="", metavar="MODE", help="a mode of torch.compile; default: eager")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--iterations", type=int, default=5, help="iterations per round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        weights, images = stylize_inputs.write(Path(folder), options.backbone, options.size)
        job = Job(
            options.backbone,
            options.size,
            options.precision,
            weights,
            images,
            compiler=options.compile,
            device=options.device,
            iterations=options.iterations,
        )
        side = TorchSide(job)
    rounds, losses = [], []
    for _ in range(options.rounds):
        begin = time.perf_counter()
        losses.append(side.iterate())
        rounds.append((time.perf_counter() - begin) / options.iterations)
    split = {name: round(float(np.median(values)), 5) for name, values in side.split(5).items()}
    median, rate = np.median(rounds), iteration_flops(job) / np.median(rounds) / 1e9
    print(f"median {median:.4f} s, least {min(rounds):.4f} s per iteration; {split}")
    print(f"{rate:.1f} GFLOP/s; loss {losses[0][0]:.6g} to {losses[-1][1]:.6g}")


if __name__ == "__main__":
    main()
