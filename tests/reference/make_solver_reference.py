"""Run PyTorch's L-BFGS and Adam on `solver_problem.py` and write the losses they reach to `solver.json`.

PyTorch's L-BFGS runs with its defaults (rate 1, no line search, at most 20 iterations per `step`, tolerances
1e-7 and 1e-9), so every evaluation of loss and gradient is at a new point. Each run reports, after every
number of evaluations in `BUDGETS`, the loss of the latest evaluation (`current`) and the lowest one so far
(`best`). `evaluations` is how many a run made: fewer than the largest budget when the solver stopped by
itself.

    python tests/reference/make_solver_reference.py
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as functional
from torch import Tensor

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from reference import solver_problem as problem  # noqa: E402

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def layers(image: Tensor, weights: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Compute the rectified activations, each `channels height width`."""
    found, x = [], image[None]
    for number, (kernel, bias) in enumerate(weights, start=1):
        x = functional.conv2d(x, kernel, bias, padding=1).relu()
        found.append(x[0])
        if number == problem.POOL_AFTER:
            x = functional.max_pool2d(x, 2)
    return found


def gram(features: Tensor) -> Tensor:
    flat = features.flatten(1)
    return flat @ flat.T / flat.shape[1]


def objective(dtype: torch.dtype, factor: float) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Return the loss as a function of `3 height width`, and the image to start from."""
    weights = [
        (torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()).to(dtype), torch.from_numpy(bias).to(dtype))
        for kernel, bias in problem.weights()
    ]
    content, style = (
        torch.from_numpy(image.transpose(2, 0, 1).copy()).to(dtype) for image in (problem.content(), problem.style())
    )
    kept = layers(content, weights)[problem.CONTENT_LAYER - 1]
    targets = [gram(features) for features in layers(style, weights)]

    def loss(image: Tensor) -> Tensor:
        found = layers(image, weights)
        terms = [functional.mse_loss(gram(f), target) for f, target in zip(found, targets, strict=True)]
        content_term = functional.mse_loss(found[problem.CONTENT_LAYER - 1], kept)
        return factor * (content_term + problem.STYLE_WEIGHT * torch.stack(terms).sum())

    return loss, content


SOLVERS: dict[str, Callable[[Tensor], torch.optim.Optimizer]] = {
    "lbfgs_history_100": lambda image: torch.optim.LBFGS([image], history_size=100),
    "lbfgs_history_10": lambda image: torch.optim.LBFGS([image], history_size=10),
    "adam": lambda image: torch.optim.Adam([image], lr=problem.ADAM_RATE),
}


def evaluations(make: Callable[[Tensor], torch.optim.Optimizer], dtype: torch.dtype, factor: float) -> list[float]:
    """Run one solver and return the loss of each of its evaluations, the first one at the content image."""
    loss, start = objective(dtype, factor)
    image = start.clone().requires_grad_()
    solver = make(image)
    seen: list[float] = []

    def closure() -> float:
        solver.zero_grad()
        value = loss(image)
        value.backward()
        seen.append(value.item())
        return seen[-1]

    # Twice the budget in `step` calls is more than Adam needs, and stops an L-BFGS that no longer moves.
    for _ in range(2 * max(problem.BUDGETS)):
        if len(seen) >= max(problem.BUDGETS):
            break
        solver.step(closure)
    return seen


def report(seen: list[float]) -> dict[str, object]:
    best = {budget: min(seen[:budget]) for budget in problem.BUDGETS}
    current = {budget: seen[:budget][-1] for budget in problem.BUDGETS}
    return {"start": seen[0], "evaluations": len(seen), "best": best, "current": current}


def main() -> None:
    runs = {
        f"{solver}/{scaling}/{name}": report(evaluations(make, dtype, factor))
        for scaling, factor in (("plain", 1.0), ("badly_scaled", problem.BADLY_SCALED))
        for solver, make in SOLVERS.items()
        for name, dtype in DTYPES.items()
    }
    content = {"torch": torch.__version__, "budgets": problem.BUDGETS, "runs": runs}
    (HERE / "solver.json").write_text(json.dumps(content, indent=1) + "\n")
    for name, run in runs.items():
        print(f"{name:40s}", run)


if __name__ == "__main__":
    main()
