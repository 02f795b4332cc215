"""LPIPS equals PyTorch's on converted weights, and its files are checked."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference.weights import linear_weights, random_weights, reference_image
from safetensors.numpy import save_file

from swag_jax import UserError
from swag_jax.measure import load_lpips, lpips

GOLDEN = np.load(Path(__file__).parents[1] / "reference" / "measure.npz")
SEED = 7
IMAGES = [jnp.asarray(reference_image(35, 45, seed)) for seed in (11, 12)]


def of_a_saved_module(weights):
    """Other entries of `lpips.LPIPS(...).state_dict()`: the linear weights again, its trunk, its scaling."""
    again = {key.replace("lin", "lins.", 1): value for key, value in weights.items()}
    trunk = {"net.slice1.0.weight": np.zeros((64, 3, 11, 11), np.float32)}
    return {**weights, **again, **trunk, "scaling_layer.shift": np.zeros((1, 3, 1, 1), np.float32)}


@pytest.fixture(scope="module", params=["alexnet", "vgg16"])
def measure(request, tmp_path_factory):
    """LPIPS read from files in the published layouts, with its reference value."""
    folder = tmp_path_factory.mktemp(request.param)
    linear = linear_weights(request.param, SEED)
    save_file(of_a_saved_module(linear) if request.param == "alexnet" else linear, folder / "linear.safetensors")
    save_file(random_weights(request.param, SEED), folder / "trunk.safetensors")
    found, source = load_lpips(folder / "linear.safetensors", trunk=str(folder / "trunk.safetensors"))
    assert (source.kind, source.backbone) == ("file", request.param)
    return found, float(GOLDEN[f"lpips_{request.param}"])


@jax.jit
def distances(found, images, reference):
    return jax.vmap(found, in_axes=(0, None))(images, reference)


def test_equals_pytorch(measure):
    found, expected = measure
    distance = jax.jit(lambda found, image, reference: found(image, reference))
    assert float(distance(found, *IMAGES)) == pytest.approx(expected, rel=1e-5)
    assert float(distance(found, *reversed(IMAGES))) == pytest.approx(expected, rel=1e-5)


def test_laws(measure):
    found, expected = measure
    first, second = IMAGES
    noise = jax.random.normal(jax.random.key(0), first.shape)
    images = jnp.stack([first, second, *(jnp.clip(first + s * noise, 0, 1) for s in (0.02, 0.05, 0.1))])
    batch = distances(found, images, first)
    assert float(batch[0]) == pytest.approx(0, abs=1e-9)
    assert float(batch[1]) == pytest.approx(expected, rel=1e-4)
    assert bool((jnp.diff(batch[2:]) > 0).all())


def test_too_small_a_image(measure):
    found, _ = measure
    smallest = 31 if found.trunk.layers[-1] == "relu5" else 16
    image = jax.ShapeDtypeStruct((smallest, smallest, 3), jnp.float32)
    assert [x.shape[:2] for x in jax.eval_shape(found.read, image).values()][-1] == (1, 1)
    with pytest.raises(UserError, match=f"must be at least {smallest} px for LPIPS, got {smallest - 1} x 40"):
        found.read(jnp.ones((smallest - 1, 40, 3)))


def test_by_hand():
    """Unit vectors at right angles differ by 1 in both channels, equal directions in none; zero stays zero."""
    one = {"a": jnp.array([[[2.0, 0.0], [3.0, 4.0]]]), "b": jnp.array([[[0.0]]])}
    other = {"a": jnp.array([[[0.0, 7.0], [6.0, 8.0]]]), "b": jnp.array([[[5.0]]])}
    weights = {"a": jnp.array([0.1, 0.3]), "b": jnp.array([0.5])}
    assert float(lpips(one, other, weights)) == pytest.approx(0.4 / 2 + 0.5, rel=1e-6)


def test_what_is_not_lpips_is_refused(tmp_path):
    save_file({"fc.weight": np.zeros((2, 2), np.float32)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=r"must hold LPIPS's linear weights .*, got keys such as fc\.weight: pass"):
        load_lpips(tmp_path / "x.safetensors")
    weights = linear_weights("alexnet", SEED)
    weights["lin2.model.1.weight"][0, 5] = np.nan
    save_file(weights, tmp_path / "nan.safetensors")
    with pytest.raises(UserError, match=r"lin2\.model\.1\.weight holds 1 NaN or infinite values"):
        load_lpips(tmp_path / "nan.safetensors")
    save_file(linear_weights("alexnet", SEED), tmp_path / "sound.safetensors")
    with pytest.raises(UserError, match=r"no file .*none\.pth"):
        load_lpips(tmp_path / "none.pth")
