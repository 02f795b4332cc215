"""A run becomes a file in 8 bits that the package reads like any other."""

import json

import export
import jax
import jax.numpy as jnp
import numpy as np
import pictures
import pytest
import train
from test_train import RECIPE

from swag_jax import backbones
from swag_jax.images import normalize


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    splits = (pictures.read(data, split) for split in ("train", "val"))
    train.Run(RECIPE, folder, *splits, say=lambda line: None).go()
    return folder


def test_the_file_is_the_trained_network_without_batch_norms(finished, data, tmp_path, capsys):
    file = tmp_path / "mine.safetensors"
    assert export.main([str(finished), "--data", str(data), "-o", str(file)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["step"] == 4
    assert report["bytes"] == file.stat().st_size
    assert list(report["feature_errors"]) == ["conv1_1", "relu1_1", "conv1_2", "relu1_2", "pool1", "conv2_1", "relu2_1"]
    assert all(0 < error < 0.02 for error in report["feature_errors"].values())

    recipe, classifier, _ = export.read_run(finished)
    assert recipe == RECIPE
    read, source = backbones.load("vgg19", weights=str(file), layers=("relu2_1",))
    assert (source.normalization, source.padding, source.deepest_layer) == ("imagenet", "zeros", "conv2_1")
    x = normalize(jax.random.uniform(jax.random.key(0), (2, 32, 32, 3)), "imagenet")
    found, trained = read(x), classifier.backbone(x)
    for layer in ("relu1_1", "relu1_2", "relu2_1"):
        assert float(jnp.linalg.norm(found[layer] - trained[layer]) / jnp.linalg.norm(trained[layer])) < 0.02


def test_folding_batch_norms_changes_nothing(finished):
    _, classifier, _ = export.read_run(finished)
    x = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))
    for layer, value in export.folded(classifier.backbone)(x).items():
        expected = classifier.backbone(x)[layer]
        np.testing.assert_allclose(value, expected, atol=1e-5 * float(jnp.abs(expected).max()))


def test_rescaled_and_cut_off(finished, data, tmp_path):
    file = tmp_path / "unit.safetensors"
    export.export(finished, data, file, until="relu1_2", unit_mean=True)
    network, _ = backbones.load("vgg19", weights=str(file), layers=("relu1_2",))
    assert network.layers[-1] == "relu1_2"
    validation = pictures.read(data, "val").pixels  # all eight: fewer than the export measures on
    means = network(normalize(jnp.asarray(validation, jnp.float32) / 255, "imagenet"))["relu1_2"].mean((0, 1, 2))
    live = np.asarray(means) > 0.01
    assert live.mean() > 0.8
    np.testing.assert_allclose(np.asarray(means)[live], 1, atol=0.1)  # what 8 bits leave of it


def test_what_is_not_a_run(data, tmp_path, capsys):
    assert export.main([str(tmp_path), "--data", str(data), "-o", str(tmp_path / "x.safetensors")]) == 2
    assert "must hold a run of weights/train.py, got no recipe.json in it" in capsys.readouterr().err
    (tmp_path / "recipe.json").write_text(
        json.dumps({"network": "vgg19", "epochs": 1, "batch": 8, "learning_rate": 1, "sizes": [[1, 32]]})
    )
    assert export.main([str(tmp_path), "--data", str(data), "-o", str(tmp_path / "x.safetensors")]) == 2
    assert "must hold a checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "x.safetensors").exists()
