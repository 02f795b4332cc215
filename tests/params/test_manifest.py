import json
import re

import pytest

from swag_jax._checks import UserError
from swag_jax.params import checkpoints
from swag_jax.params._files import file_sha256
from swag_jax.params.layouts import LAYOUT_NAMES
from swag_jax.params.manifest import (
    checkpoint,
    checkpoint_of_file,
    default_checkpoint,
    embedded_checkpoint,
    weights_folder,
)

HEX64 = re.compile(r"[0-9a-f]{64}")
HEX40 = re.compile(r"[0-9a-f]{40}")


def test_names_are_unique_and_each_network_has_one_default():
    names = [entry.name for entry in checkpoints()]
    assert len(set(names)) == len(names) == 17
    defaults = {entry.backbone: entry.name for entry in checkpoints() if entry.default}
    residual = ("resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50_2")
    known = ("vgg19", "vgg16", "alexnet", *residual, "googlenet", "inception_v3")
    assert defaults == {name: f"{name}-imagenet" for name in known}
    assert {entry.name for entry in checkpoints() if entry.default} == set(defaults.values())


@pytest.mark.parametrize("entry", checkpoints(), ids=lambda entry: entry.name)
def test_every_entry_is_complete_and_pinned(entry):
    assert entry.layout in LAYOUT_NAMES[1:]
    inceptions = ("googlenet", "inception_v3")
    own = dict.fromkeys(inceptions, "inception") | {"efficientnet-lite0": "lite"}
    fitting = (own[entry.backbone],) if entry.backbone in own else ("imagenet", "none", "caffe")
    assert entry.normalization in fitting
    assert (entry.kind == "embedded") == (entry.normalization in ("caffe", "lite"))
    assert entry.architecture == ({"version": "v1"} if entry.name == "resnet50-caffe" else {})
    assert entry.unit_mean == (entry.name == "vgg19-caffe-unit-mean")
    assert entry.padding in ("zeros", "reflect")
    assert entry.license
    assert entry.terms
    assert entry.pinned_by
    assert entry.sha256 is None or HEX64.fullmatch(entry.sha256)
    if entry.hub is not None:
        assert HEX40.fullmatch(entry.hub.revision)
    if entry.url is not None:
        assert entry.url.endswith(f"-{entry.url_sha256_prefix}.pth")
    if entry.kind == "imagenet":
        assert entry.hub or entry.url
    else:
        assert entry.sha256
        assert entry.hub is entry.url is None


@pytest.mark.parametrize(
    ("backbone", "name"),
    [
        ("vgg19", "vgg19-caffe"),
        ("resnet50", "resnet50-caffe"),
        ("efficientnet-lite0", "efficientnet-lite0-tensorflow"),
    ],
)
def test_the_embedded_checkpoints_are_here_and_undamaged(backbone, name):
    entry = embedded_checkpoint(backbone)
    assert entry is not None
    assert (entry.name, entry.trained_on) == (name, "ImageNet-1k")
    assert file_sha256(weights_folder() / str(entry.file)) == entry.sha256


def test_wide_resnet_has_no_embedded_checkpoint():
    assert embedded_checkpoint("wide_resnet50_2") is None


def test_lookups():
    assert checkpoint("resnet50-imagenet") is default_checkpoint("resnet50")
    assert default_checkpoint("no_resnet50") is None
    with pytest.raises(UserError, match="unknown checkpoint 'vgg19-imagnet': did you mean vgg19-imagenet"):
        checkpoint("vgg19-imagnet")


def test_a_file_is_known_by_its_hash_or_its_published_digits():
    known = checkpoint("resnet50-imagenet")
    assert checkpoint_of_file(str(known.sha256)) is known
    assert checkpoint_of_file("0676ba61" + 56 * "0") is known
    assert checkpoint_of_file(64 * "0") is None


@pytest.mark.parametrize("content", ["", "[]", '{"checkpoints": [{}]}', '{"checkpoints": [{"hub": null}]}'])
def test_a_damaged_manifest(content, tmp_path, monkeypatch):
    (tmp_path / "manifest.json").write_text(content)
    monkeypatch.setattr("swag_jax.params.manifest.weights_folder", lambda: tmp_path)
    with pytest.raises(UserError, match="must be this package's list of checkpoints"):
        checkpoints()


def test_no_unknown_fields():
    entries = json.loads((weights_folder() / "manifest.json").read_text())["checkpoints"]
    assert all(set(entry) == set(entries[0]) for entry in entries)
