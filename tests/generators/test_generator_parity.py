"""Every generator, and the encoder of three of them, equals PyTorch's on weights in the published layouts.

`tests/reference/make_reference.py generators` made the reference values in float64.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference.torch_writer import write_torch
from reference.weights import generator_weights, reference_image, sample_positions, transformer_weights
from safetensors.numpy import save_file

from swag_jax import backbones, generators
from swag_jax.attention import key_features
from swag_jax.features import extract
from swag_jax.generators._layers import VGG_TAPS
from swag_jax.generators.registry import PUBLISHED, parameter_shapes, with_parameters
from swag_jax.statistics import adain

GOLDEN = dict(np.load(Path(__file__).parents[1] / "reference" / "generators.npz"))

SEED = int(GOLDEN["seed"])

LAYERS = tuple(tap.layer for tap in VGG_TAPS)

CONTENT, STYLE, ODD_CONTENT = ((48, 32), 0), ((32, 48), 1), ((37, 45), 0)


def close(case, array):
    """Check a relative error of 1e-4: of the whole norm, and of the sampled entries as a vector."""
    array, values = np.asarray(array, np.float64), GOLDEN[f"{case}.values"]
    assert array.shape == tuple(GOLDEN[f"{case}.shape"])
    assert np.linalg.norm(array) == pytest.approx(float(GOLDEN[f"{case}.norm"]), rel=1e-4)
    sampled = array.ravel()[sample_positions(array.size, len(values))]
    assert np.linalg.norm(sampled - values) <= 1e-4 * np.linalg.norm(values)


def image(size, seed):
    return jnp.asarray(reference_image(*size, seed))


@pytest.fixture(scope="module")
def encode(tmp_path_factory):
    """The activations of an image, computed once."""
    path = tmp_path_factory.mktemp("encoder") / "vgg_normalised.safetensors"
    save_file(generator_weights("encoder", SEED), path)
    network, _ = backbones.load("vgg19", weights=str(path), layers=LAYERS)
    run, known = jax.jit(lambda n, x: extract(n, x, layers=LAYERS)), {}

    def features(size, seed):
        if (size, seed) not in known:
            known[size, seed] = {layer: x[None] for layer, x in run(network, image(size, seed)).items()}
        return known[size, seed]

    return features


def published(kind, *files):
    """A generator with the weights that the files hold in the published layout."""
    foreign = {key: value for name in files for key, value in generator_weights(name, SEED).items()}
    layout = PUBLISHED[kind].layout
    arrays = {layout.rename(key): layout.arrange(value) for key, value in foreign.items()}
    config = PUBLISHED[kind].config
    assert {name: array.shape for name, array in arrays.items()} == parameter_shapes(config)
    return with_parameters(config, arrays)


def test_encoder(encode):
    """At 37 x 45 pixels, where every pool keeps an odd edge."""
    for layer, features in encode(*ODD_CONTENT).items():
        close(f"encoder.{layer}", features[0])


def test_adain(encode):
    """At 37 x 45 pixels, where the published decoder paints 40 x 48: we keep what the content has."""
    generator, content, style = published("adain", "adain"), encode(*ODD_CONTENT), encode(*STYLE)
    close("adain.target", jax.jit(adain)(content["relu4_1"][0], style["relu4_1"][0]))
    run = jax.jit(lambda g, c, s, strength: g(c, s, size=(37, 45), strength=strength))
    close("adain.image", run(generator, content, style, 1.0)[0])
    close("adain.halfway", run(generator, content, style, 0.5)[0])


def test_sanet(encode):
    generator, content, style = published("sanet", "adain", "sanet_transformer"), encode(*CONTENT), encode(*STYLE)

    @jax.jit
    def run(generator, content, style):
        compute, kept = generator.compute, generator.read(style)
        shallow, deep = (
            getattr(generator, layer)(content[layer], kept[layer], compute, residual=True)
            for layer in ("relu4_1", "relu5_1")
        )
        return shallow, generator.merge(shallow, deep, compute), generator(content, style, size=(48, 32))

    for case, found in zip(("relu4_1", "merged", "image"), run(generator, content, style), strict=True):
        close(f"sanet.{case}", found[0])


def test_adaattn(encode):
    files = ("adaattn_decoder", "adaattn_transformer", "adaattn_3")
    generator, content, style = published("adaattn", *files), encode(*CONTENT), encode(*STYLE)

    @jax.jit
    def run(generator, content, style):
        taps, kept = generator.config.attended, generator.read(style)
        skip, shallow, deep = (generator.attend(tap, content, kept[tap.layer]) for tap in taps)
        merged = generator.merge(shallow, deep, generator.compute)
        return skip, merged, generator(content, style, size=(48, 32))

    for case, found in zip(("relu3_1", "merged", "image"), run(generator, content, style), strict=True):
        close(f"adaattn.{case}", found[0])
    keys = jax.jit(lambda f: key_features(f, layers=LAYERS))
    close("adaattn.keys", keys({layer: x[0] for layer, x in content.items()}))


def test_video(encode):
    generator = published("adaattn-video", "video_decoder", "adaattn_3")
    content, style = encode(*CONTENT), encode(*STYLE)
    run = jax.jit(lambda g, c, s: (g.transfer(c, g.read(s))[0], g(c, s, size=(48, 32))))
    for case, found in zip(("relu3_1", "image"), run(generator, content, style), strict=True):
        close(f"video.{case}", found[0])


def test_johnson():
    """Without and with the tangent, at 37 x 45 pixels, where PyTorch's paints 40 x 48."""
    arrays = {}
    for key, value in generator_weights("johnson", SEED).items():
        name = key.replace(".norm.weight", ".scale").replace(".norm.bias", ".bias").replace("weight", "kernel")
        arrays[name.replace("output.conv", "output")] = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value
    for bounded, case in ((False, "image"), (True, "bounded")):
        generator = with_parameters(generators.JohnsonConfig(bounded=bounded), arrays)
        found = jax.jit(lambda g, x: g(x))(generator, image(*ODD_CONTENT)[None])
        close(f"johnson.{case}", found[0])


def test_johnsons_published_network(tmp_path):
    """Converted from a file as pytorch/examples publishes them; theirs takes and gives images in 0..255."""
    source = write_torch(tmp_path / "mosaic.pth", transformer_weights(SEED))
    generators.convert_generator([source], "johnson", tmp_path / "johnson.safetensors")
    generator = generators.load_generator(tmp_path / "johnson.safetensors")
    close("transformer.image", jax.jit(lambda g, x: g(x))(generator, image(*CONTENT)[None])[0])
