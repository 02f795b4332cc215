"""Generators that come with the package: packed into 8 bits, found by name, listed and verified."""

import dataclasses
import hashlib
import json
import re
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pack_generator
import pytest

import swag_jax as swag
from swag_jax import backbones
from swag_jax._checks import UserError
from swag_jax.cli import main
from swag_jax.features import taps
from swag_jax.generators import AdaINConfig, AdaINObjective, JohnsonConfig, create, load_generator, save_generator
from swag_jax.generators.checkpoint import encoder_notes, find_generator
from swag_jax.generators.registry import with_parameters
from swag_jax.params import manifest
from swag_jax.params.manifest import packaged_generators
from swag_jax.params.safetensors_file import read_metadata, safetensors_header
from swag_jax.params.tree import flat_parameters
from swag_jax.train.state import initial_state

README = Path(__file__).parents[2] / "weights" / "README.md"

OBJECTIVE = AdaINObjective(content_layer="relu3_1", style_layers=("relu1_1", "relu3_1"))

FACTS = {"source": "us", "trained_on": "drawings", "license": "CC0-1.0"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An AdaIN run's folder: it reads the embedded VGG19 at relu3_1, and its layers keep the scale of their inputs."""
    encoder, source = backbones.load("vgg19", weights="vgg19-caffe-unit-mean", layers=("relu3_1",), padding="reflect")
    generator, random = create(AdaINConfig(taps(encoder, layers=["relu3_1"]))), np.random.default_rng(0)
    arrays = {}
    for key, value in flat_parameters(generator).items():
        deviation = (2 / np.prod(value.shape[:-1])) ** 0.5 if value.ndim == 4 else 0
        arrays[key] = random.normal(0, deviation, value.shape).astype(np.float32)
    arrays["decoder.conv1_1.kernel"] *= 0.05
    arrays["decoder.conv1_1.bias"] += 0.5
    folder = tmp_path_factory.mktemp("run")
    notes = encoder_notes(source, padding="reflect") | {"step": "7"}
    save_generator(folder / "generator.safetensors", with_parameters(generator.config, arrays), notes=notes)
    return folder


def new_folder(path):
    """Make a weights folder without generators."""
    path.mkdir(exist_ok=True)
    emptied = json.loads((README.parent / "manifest.json").read_text()) | {"generators": []}
    (path / "manifest.json").write_text(json.dumps(emptied))
    text = re.sub(rf"({re.escape(pack_generator.TABLE)})(\|.*\n)+", r"\1", README.read_text())
    (path / "README.md").write_text(text)
    return path


@pytest.fixture(scope="module")
def full_folder(trained, tmp_path_factory):
    """A weights folder with the run's generator, as `adain`."""
    folder = new_folder(tmp_path_factory.mktemp("full"))
    pack_generator.pack(trained, folder, name="adain", size=48, **FACTS)
    return folder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A weights folder without generators, which the package looks into; it finds networks in its own."""
    folder = new_folder(tmp_path / "weights")
    monkeypatch.setattr(manifest, "weights_folder", lambda: folder)
    monkeypatch.setenv("SWAG_JAX_HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return folder


@pytest.fixture
def packed(full_folder, folder):
    """The entry of the run's generator, which is in the folder now."""
    shutil.copytree(full_folder, folder, dirs_exist_ok=True)
    return packaged_generators()["adain"]


@pytest.fixture
def files(folder):
    """A photograph and a painting in the working folder."""
    for name, sample in (("photo", "coffee"), ("painting", "swirls")):
        swag.write_image(f"{name}.png", swag.sample(sample, size=48))
    return "photo.png", "painting.png"


def complaint(capsys, *words):
    """The one line of a refused command."""
    assert main([str(word) for word in words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_packed_generator_is_small_and_knows_all_that_it_needs(packed, trained, folder):
    file = folder / "adain.safetensors"
    assert (packed.method, packed.encoder, packed.license) == ("adain", "vgg19-caffe-unit-mean", "CC0-1.0")
    assert packed.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert file.stat().st_size < 0.45 * (trained / "generator.safetensors").stat().st_size
    before, after = read_metadata(trained / "generator.safetensors"), read_metadata(file)
    assert {key for key in before if before[key] != after[key]} == {"tensors_sha256"}
    kinds = {key: kind for key, (kind, _) in safetensors_header(file).items()}
    assert kinds["decoder.conv3_1.kernel"] == "int8"
    assert kinds["decoder.conv1_1.kernel"] == "float16"
    assert kinds["decoder.conv1_1.bias"] == "float32"


def test_what_8_bits_cost_is_measured_and_small(packed, trained):
    exact, coded = swag.load_stylizer(trained), swag.load_stylizer("adain")
    assert 0 < packed.largest_error <= pack_generator.LARGEST_ERROR
    photo, painting = (swag.sample(name, size=48) for name in ("astronaut", "embers"))
    settings = swag.apply.ApplySettings(style_size=48)
    before, after = (swag.repaint(each, photo, [painting], settings=settings) for each in (exact, coded))
    assert before.std() > 0.05
    assert 0 < np.abs(after - before).max() <= (packed.largest_error + 1e-4) * before.max()


def test_every_packaged_generator_was_measured():
    """Those of the checkout."""
    for entry in packaged_generators().values():
        assert 0 < entry.largest_error <= pack_generator.LARGEST_ERROR
        assert hashlib.sha256(entry.path.read_bytes()).hexdigest() == entry.sha256
        assert (entry.license and entry.source and entry.trained_on) != ""


def test_the_table_and_the_manifest_have_one_row_each(packed, folder):
    other = dataclasses.replace(packed, name="other", encoder=None)
    for entry in (other, dataclasses.replace(packed, license="MIT")):
        pack_generator._enter(entry, folder / "manifest.json")
        pack_generator._tabulate(entry, folder / "README.md", 1_234_567)
    assert (folder / "README.md").read_text().partition(pack_generator.TABLE)[2].splitlines()[:3] == [
        f"| `adain` | adain through `vgg19-caffe-unit-mean` | 1.2 MB | drawings | MIT | {packed.largest_error:.1%} |",
        f"| `other` | adain | 1.2 MB | drawings | CC0-1.0 | {packed.largest_error:.1%} |",
        "",
    ]
    entries = json.loads((folder / "manifest.json").read_text())["generators"]
    assert [(each["name"], each["license"]) for each in entries] == [("adain", "MIT"), ("other", "CC0-1.0")]


@pytest.mark.parametrize("name", ["Adain", "a.b", "../x", ""])
def test_names_that_could_be_paths(name, trained, folder):
    with pytest.raises(UserError, match="must be small letters, digits and -"):
        pack_generator.pack(trained, folder, name=name, **FACTS)


def test_an_encoder_that_is_not_in_the_package(trained, folder):
    encoder, source = backbones.load("vgg19", weights="random", layers=("relu1_1",))
    config = AdaINConfig(taps(encoder, layers=["relu1_1"]))
    save_generator("mine.safetensors", create(config), notes=encoder_notes(source))
    with pytest.raises(UserError, match=r"must be trained through an encoder of the package \(.*\), got random"):
        pack_generator.pack(Path("mine.safetensors"), folder, name="mine", **FACTS)


def test_the_script(folder, capsys, monkeypatch):
    """Of a Johnson generator, which has no encoder; too large an error is refused, and nothing is written."""
    generator = create(JohnsonConfig(channels=32, blocks=1))
    save_generator("mine.safetensors", generator)
    words = ["mine.safetensors", "--name", "wave", "--trained-on", "drawings", "-o", str(folder)]
    monkeypatch.setattr(pack_generator, "SIZE", 32)
    monkeypatch.setattr(pack_generator, "LARGEST_ERROR", 1e-9)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert pack_generator.main(words) == 2
    assert "8 bits may cost 0% of an image of mine.safetensors, got 0." in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    monkeypatch.setattr(pack_generator, "LARGEST_ERROR", 1)
    assert pack_generator.main(words) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("wave.safetensors: sha256 ")
    assert '"weights/wave.safetensors" = "swag_jax/_weights/wave.safetensors"' in printed
    manifest._read.cache_clear()
    assert packaged_generators()["wave"].encoder is None
    assert swag.load_stylizer("wave").encoder is None


def test_apply_takes_a_name(packed, files, capsys):
    assert main(["apply", "adain", *files, "-o", "out.png", "--quiet"]) == 0
    painted = swag.repaint(swag.load_stylizer("adain"), swag.read_image(files[0]), [swag.read_image(files[1])])
    np.testing.assert_allclose(swag.read_image("out.png"), painted, atol=0.6 / 255)


def test_a_folder_of_results_knows_which_generator_made_them(packed, trained, files, capsys):
    Path("photos").mkdir()
    shutil.copy(files[0], "photos")
    words = ["apply", "adain", "photos", files[1], "-o", "out"]
    assert [main(words) for _ in range(2)] == [0, 0]
    made = json.loads(Path("out/results.jsonl").read_text().splitlines()[0])
    shutil.copy(trained / "generator.safetensors", "adain.safetensors")
    assert main(["apply", "adain.safetensors", *words[2:]]) == 0
    again = json.loads(Path("out/results.jsonl").read_text().splitlines()[0])
    assert made["fingerprint"] != again["fingerprint"]


def test_what_lies_at_the_path_counts_first(packed, trained):
    assert find_generator("adain") == packed.path
    Path("adain").mkdir()
    assert find_generator("adain") == packed.path  # an empty folder is no run
    shutil.copy(trained / "generator.safetensors", "adain")
    assert find_generator("adain") == Path("adain/generator.safetensors")
    assert find_generator(trained) == trained / "generator.safetensors"
    assert find_generator("some/adain") == Path("some/adain")


def test_training_goes_on_from_a_name(packed, tmp_path):
    settings = swag.train.recipe("adain-small").replace(
        init="adain", weights="vgg19-caffe-unit-mean", objective=OBJECTIVE, steps=1, batch_size=1, size=32, crop=32
    )
    state = initial_state(settings, load_generator("adain").config)
    for key, value in flat_parameters(load_generator("adain")).items():
        np.testing.assert_array_equal(state["parameters"][key], value)
    with pytest.raises(UserError, match="unknown generator 'kaimng': did you mean kaiming"):
        initial_state(settings.replace(init="kaimng"), load_generator("adain").config)


def test_a_near_miss(packed, files, capsys):
    line = complaint(capsys, "apply", "adian", *files, "-o", "out.png")
    assert line.startswith("swag-jax: unknown generator 'adian': did you mean adain? Or pass a checkpoint's path")
    line = complaint(capsys, "apply", "x", *files, "-o", "out.png")
    assert "unknown generator 'x': known: adain Or pass" in line
    for path in ("adian.safetensors", "runs/adian"):
        assert f"no file {path}" in complaint(capsys, "apply", path, *files, "-o", "out.png")


def test_none_is_here(folder, files, capsys):
    line = complaint(capsys, "apply", "adain", *files, "-o", "out.png")
    assert line.startswith("swag-jax: no generator comes with this installation, so none is called 'adain': pass a ")


def test_one_that_is_listed_but_not_here_does_not_exist(packed, files, capsys):
    packed.path.unlink()
    assert packaged_generators() == {}
    assert "no generator comes with this installation" in complaint(capsys, "apply", "adain", *files, "-o", "out.png")


def test_list_and_verify(packed, folder, capsys):
    assert main(["weights", "list"]) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("adain ")]
    assert row.split() == ["adain", "vgg19", "adain", "generator", "CC0-1.0", "1", "MB", "package"]
    assert main(["weights", "verify", "adain"]) == 0
    assert capsys.readouterr().out == "adain: sound\n"
    whole = packed.path.read_bytes()
    packed.path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert f"must have the recorded sha256 {packed.sha256}" in complaint(capsys, "weights", "verify", "adain")


def test_the_wheel_ships_every_listed_generator():
    shipped = tomllib.loads((README.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    files = shipped["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    listed = json.loads((README.parent / "manifest.json").read_text())["generators"]
    assert [entry["file"] for entry in listed if f"weights/{entry['file']}" not in files] == []
