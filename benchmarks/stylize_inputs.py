"""Images and weights of the speed benchmarks, drawn from seeds, so that nothing has to be downloaded."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
from safetensors.numpy import save_file

WEIGHTS = Path(__file__).resolve().parents[1] / "tests" / "reference" / "weights.py"
WEIGHTS_SEED = 0


def _reference() -> ModuleType:
    """Import the tests' seeded weights and images."""
    spec = importlib.util.spec_from_file_location("reference_weights", WEIGHTS)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(WEIGHTS)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(folder: Path, backbone: str, size: int, *, pairs: int = 1) -> tuple[str, str]:
    """Write weights and the images of that many pairs; return both paths."""
    reference = _reference()
    weights, images = folder / f"{backbone}.safetensors", folder / f"{size}_{pairs}.npz"
    if not weights.exists():
        save_file(reference.random_weights(backbone, WEIGHTS_SEED), weights)
    drawn = [reference.reference_image(size, size, seed) for seed in range(1, 2 * pairs + 1)]
    content, style = np.stack(drawn[::2]), np.stack(drawn[1::2])
    # Contrast inverted and colors changed: random weights hardly react to anything else.
    np.savez(images, content=content, style=np.ascontiguousarray(1.0 - style[..., ::-1]) ** 2)
    return str(weights), str(images)
