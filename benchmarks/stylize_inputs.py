"""Pictures and weights of the speed benchmarks: drawn from seeds, so that nothing has to be downloaded."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
from safetensors.numpy import save_file

WEIGHTS = Path(__file__).resolve().parents[1] / "tests" / "reference" / "weights.py"
CONTENT_SEED, STYLE_SEED, WEIGHTS_SEED = 1, 2, 0


def _reference() -> ModuleType:
    """Import the tests' seeded weights and pictures from where they lie."""
    spec = importlib.util.spec_from_file_location("reference_weights", WEIGHTS)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(WEIGHTS)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(folder: Path, backbone: str, size: int) -> tuple[str, str]:
    """Write weights and pictures of one job; return the paths of both."""
    reference = _reference()
    weights, pictures = folder / f"{backbone}.safetensors", folder / f"{size}.npz"
    if not weights.exists():
        save_file(reference.random_weights(backbone, WEIGHTS_SEED), weights)
    content, style = (reference.reference_image(size, size, seed) for seed in (CONTENT_SEED, STYLE_SEED))
    # Contrast inverted and colors turned: random weights see little else that tells two pictures apart.
    np.savez(pictures, content=content, style=np.ascontiguousarray(1.0 - style[..., ::-1]) ** 2)
    return str(weights), str(pictures)
