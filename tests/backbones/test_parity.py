"""Every layer and the gradient at the image equal PyTorch's, on weights converted from torchvision's layout or our own.

`tests/reference/make_reference.py` made the reference values in float64.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference.weights import SWITCHES, fingerprint, random_weights, reference_image, sample_positions
from safetensors.numpy import save_file

from swag_jax import backbones, params
from swag_jax.backbones.zoo import parameter_shapes
from swag_jax.features import extract
from swag_jax.params.tree import with_parameters

FOLDER = Path(__file__).parents[1] / "reference"
REFERENCES = sorted(path for path in FOLDER.glob("*.npz") if "backbone" in np.load(path))

FORWARD = ("vgg19", "vgg19_replicate", "resnet50", "wide_resnet50_2_odd", "resnet50_v1", "no_resnet50", "pseudo_vgg")
FORWARD += ("inception_v3", "vgg16_odd", "vgg19_caffe_average")
"""Without the gradient: each has the operations of another, whose gradient is compared."""


def options_of(reference):
    """The network's own arguments."""
    if str(reference["backbone"]).startswith("vgg"):
        return {key: str(reference[key]) for key in ("pooling", "padding")}
    recorded = json.loads(str(reference["options"])) if "options" in reference else {}
    return {key: tuple(value) if isinstance(value, list) else value for key, value in recorded.items()}


def converted(backbone, folder, reference, options):
    """Weights by our names, through a checkpoint file; torchvision has no networks but its own."""
    switches = {} if backbone in ("vgg19", "vgg16", "inception_v3") else options
    weights = random_weights(backbone, int(reference["weights_seed"]), **switches)
    assert fingerprint(weights) == pytest.approx(float(reference["fingerprint"]), rel=1e-9)
    save_file(weights, folder / "weights.safetensors")
    layout = "native" if switches or backbone in SWITCHES else "torchvision"
    shapes = parameter_shapes(backbone, **options)
    return params.convert(folder / "weights.safetensors", backbone, shapes, layout=layout).tensors


def loaded(reference, folder):
    """The network of a reference, with an embedded checkpoint or with random weights."""
    backbone, options = str(reference["backbone"]), options_of(reference)
    if name := str(reference["embedded"]) if "embedded" in reference else "":
        layers = (str(reference["layers"][-1]),)
        network, source = backbones.load(backbone, weights=name, layers=layers, **options)
        assert source.name == name
        return network
    skeleton = jax.eval_shape(lambda: backbones.create(backbone, **options))
    return with_parameters(skeleton, converted(backbone, folder, reference, options))


@pytest.mark.parametrize("path", REFERENCES, ids=lambda path: path.stem)
def test_every_layer_and_the_gradient(path, tmp_path):
    reference = np.load(path)
    network = loaded(reference, tmp_path)
    image = jnp.asarray(reference_image(*reference["image_shape"][:2].tolist(), int(reference["image_seed"])))

    def energy(network, image):
        features = extract(network, image, layers=network.layers)
        return sum((features[layer] ** 2).mean() for layer in reference["objective_layers"].tolist()), features

    if path.stem in FORWARD:
        value, found = jax.jit(energy)(network, image)
    else:
        (value, found), gradient = jax.jit(jax.value_and_grad(energy, 1, has_aux=True))(network, image)
        close(gradient, reference["gradient_norm"], reference["gradient_values"])
    assert network.layers == tuple(reference["layers"])
    for i, layer in enumerate(network.layers):
        assert found[layer].shape == tuple(reference["shapes"][i])
        close(found[layer], reference["norms"][i], reference["values"][i])
    assert float(value) == pytest.approx(float(reference["objective"]), rel=1e-4)


def close(array, norm, values):
    """Check a relative error of 1e-4: of the whole norm, and of the sampled entries as a vector."""
    array = np.asarray(array, np.float64)
    assert np.linalg.norm(array) == pytest.approx(float(norm), rel=1e-4)
    sampled = array.ravel()[sample_positions(array.size, len(values))]
    assert np.linalg.norm(sampled - values) <= 1e-4 * np.linalg.norm(values)
