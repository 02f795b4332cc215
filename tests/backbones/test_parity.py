"""Every layer and the gradient at the image equal PyTorch's, on weights converted from torchvision's layout.

`tests/reference/make_reference.py` made the reference values in float64.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference.weights import fingerprint, random_weights, reference_image, sample_positions
from safetensors.numpy import save_file

from swag_jax import backbones, params
from swag_jax.features import extract

REFERENCES = sorted((Path(__file__).parents[1] / "reference").glob("*net*.npz")) + sorted(
    (Path(__file__).parents[1] / "reference").glob("vgg*.npz")
)


def converted(backbone, folder, reference):
    weights = random_weights(backbone, int(reference["weights_seed"]))
    assert fingerprint(weights) == pytest.approx(float(reference["fingerprint"]), rel=1e-9)
    save_file(weights, folder / "weights.safetensors")
    shapes = backbones.parameter_shapes(backbone)
    return params.convert(folder / "weights.safetensors", backbone, shapes, layout="torchvision").tensors


@pytest.mark.parametrize("path", REFERENCES, ids=lambda path: path.stem)
def test_every_layer_and_the_gradient(path, tmp_path):
    reference = np.load(path)
    backbone = str(reference["backbone"])
    options = {key: str(reference[key]) for key in ("pooling", "padding")} if "vgg" in backbone else {}
    skeleton = jax.eval_shape(lambda: backbones.create(backbone, **options))
    network = backbones.with_parameters(skeleton, converted(backbone, tmp_path, reference))
    image = jnp.asarray(reference_image(*reference["image_shape"][:2].tolist(), int(reference["image_seed"])))

    found = jax.jit(lambda n, x: extract(n, x, layers=n.layers))(network, image)
    assert network.layers == tuple(reference["layers"])
    for i, layer in enumerate(network.layers):
        assert found[layer].shape == tuple(reference["shapes"][i])
        close(found[layer], reference["norms"][i], reference["values"][i])

    def energy(network, image):
        features = extract(network, image, layers=reference["objective_layers"].tolist())
        return sum((x**2).mean() for x in features.values())

    value, gradient = jax.jit(jax.value_and_grad(energy, 1))(network, image)
    assert float(value) == pytest.approx(float(reference["objective"]), rel=1e-4)
    close(gradient, reference["gradient_norm"], reference["gradient_values"])


def close(array, norm, values):
    """Check a relative error of 1e-4: of the whole norm, and of the sampled entries as a vector."""
    array = np.asarray(array, np.float64)
    assert np.linalg.norm(array) == pytest.approx(float(norm), rel=1e-4)
    sampled = array.ravel()[sample_positions(array.size, len(values))]
    assert np.linalg.norm(sampled - values) <= 1e-4 * np.linalg.norm(values)
