import jax.numpy as jnp
import numpy as np
import pytest
from reference.weights import generator_weights, transformer_weights
from safetensors.numpy import save_file

import swag_jax
from swag_jax import backbones, generators, params
from swag_jax._checks import UserError
from swag_jax.cli import parse, weights
from swag_jax.images.crop import read_crop
from swag_jax.params.manifest import checkpoint
from swag_jax.params.resolve import load
from swag_jax.params.safetensors_file import read_safetensors, write_safetensors
from swag_jax.params.tree import flat_parameters

EXPECTED = {
    "conv1_1.kernel": (3, 3, 3, 2),
    "conv1_1.bias": (2,),
    "conv1_2.kernel": (3, 3, 2, 2),
    "conv1_2.bias": (2,),
}


def run(*words):
    return parse(["weights", *map(str, words)]).run()


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("SWAG_JAX_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "weights"


@pytest.fixture
def small(monkeypatch):
    """A VGG19 of two small convolutions."""
    monkeypatch.setattr("swag_jax.cli.weights.parameter_shapes", lambda name: EXPECTED)


@pytest.fixture
def file(tmp_path):
    """A checkpoint of it in torchvision's layout."""
    rng = np.random.default_rng(0)
    shapes = {"0.weight": (2, 3, 3, 3), "0.bias": (2,), "2.weight": (2, 2, 3, 3), "2.bias": (2,)}
    tensors = {f"features.{key}": rng.random(shape, np.float32) for key, shape in shapes.items()}
    save_file(tensors, tmp_path / "mine.safetensors")
    return tmp_path / "mine.safetensors"


def test_list_shows_every_known_checkpoint_uncut(capsys):
    assert run("list") == 0
    printed = capsys.readouterr().out
    rows = {words[0]: words[1:] for line in printed.splitlines() if (words := line.split())}
    assert set(rows) >= {entry.name for entry in params.checkpoints()}
    assert rows["vgg19-caffe"] == ["vgg19", "embedded", "CC-BY-4.0", "13", "MB", "package"]
    assert rows["resnet50-caffe"] == ["resnet50", "embedded", "MIT", "25", "MB", "package"]
    assert rows["efficientnet-lite0-tensorflow"][:3] == ["efficientnet-lite0", "embedded", "Apache-2.0"]
    assert rows["resnet50-imagenet"] == [
        "resnet50",
        "imagenet",
        "BSD-3-Clause",
        *["not", "here;", "fetch", "it"],
    ]


def test_list_names_networks_without_a_checkpoint(capsys):
    run("list")
    printed = capsys.readouterr().out
    (line,) = (line for line in printed.splitlines() if line.startswith("no checkpoint known"))
    named = line.partition(": ")[2].split(", ")
    assert named == ["no_resnet50", "pseudo_vgg", "pseudo_resvgg", "preact_resnet50"]


def test_list_shows_what_was_converted(small, file, capsys):
    run("convert", file, "--backbone", "vgg19")
    capsys.readouterr()
    run("list")
    assert "mine                           vgg19               converted" in capsys.readouterr().out


def test_convert_into_the_store(small, file, store, capsys):
    assert run("convert", file, "--backbone", "vgg19") == 0
    path = store / "mine.safetensors"
    assert capsys.readouterr().out == (
        f"{path}: vgg19 down to conv1_2, torchvision layout, normalization imagenet, padding zeros\n"
    )
    assert load(params.resolve("vgg19", weights="mine"), EXPECTED)["conv1_1.kernel"].shape == (3, 3, 3, 2)


def test_convert_to_a_file(small, file, store, tmp_path):
    out = tmp_path / "new" / "out.safetensors"
    assert run("convert", file, "--backbone", "vgg19", "--layout", "torchvision", "-o", out) == 0
    assert [path.name for path in out.parent.iterdir()] == ["out.safetensors"]
    assert not store.exists()


def test_convert_for_caffes_input(small, file, store, capsys):
    assert run("convert", file, "--backbone", "vgg19", "--input", "caffe") == 0
    assert "normalization caffe (asked for), padding zeros" in capsys.readouterr().out
    assert params.resolve("vgg19", weights="mine").normalization == "caffe"


def test_convert_keeps_the_input_of_a_published_file(small, file, store, tmp_path, monkeypatch):
    monkeypatch.setattr("swag_jax.cli.weights.checkpoint_of_file", lambda sha256: checkpoint("vgg19-imagenet"))
    with pytest.raises(UserError, match=r"the input of vgg19-imagenet.* must stay imagenet .*: pass -o OUT"):
        run("convert", file, "--backbone", "vgg19", "--input", "caffe")
    assert not store.exists()
    assert run("convert", file, "--backbone", "vgg19", "--input", "caffe", "-o", tmp_path / "new.safetensors") == 0


@pytest.mark.parametrize(
    "metadata",
    [
        *({"normalization": "evil"}, {"normalization": ""}, {"padding": "evil"}, {"padding": ""}),
        *({"architecture": '{"evil": 1}'}, {"architecture": '{"version": "v1"}'}),
    ],
)
def test_convert_refuses_what_no_network_can_be_set_up_by(metadata, small, store, tmp_path):
    path, tensors = tmp_path / "ours.safetensors", {n: np.zeros(s, np.float32) for n, s in EXPECTED.items()}
    for out in ((), ("-o", tmp_path / "out.safetensors")):
        save_file(tensors, path, metadata)
        with pytest.raises(UserError, match="must say how its network is set up, got what cannot be used"):
            run("convert", path, "--backbone", "vgg19", *out)
    assert not store.exists()
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(
    "architecture",
    ['{"version": "v9"}', '{"version": []}', '{"depths": [1, 1]}', '{"channels": "4"}', '{"until": "conv1"}'],
)
def test_convert_refuses_what_no_residual_network_can_be_set_up_by(architecture, tmp_path):
    facts = {"padding": "zeros", "architecture": architecture}
    with pytest.raises(UserError, match="must say how its network is set up, got what cannot be used"):
        weights._check_setup("resnet50", facts, tmp_path / "mine.safetensors")


def test_convert_takes_no_published_name_for_another_file(small, file):
    renamed = file.rename(file.with_name("vgg19-imagenet.safetensors"))
    with pytest.raises(UserError, match="is not the published vgg19-imagenet"):
        run("convert", renamed, "--backbone", "vgg19")


def test_convert_gives_a_published_file_its_name(small, file, store, monkeypatch):
    monkeypatch.setattr("swag_jax.cli.weights.checkpoint_of_file", lambda sha256: checkpoint("vgg19-imagenet"))
    assert run("convert", file, "--backbone", "vgg19") == 0
    assert [path.name for path in store.iterdir()] == ["vgg19-imagenet.safetensors"]
    assert params.resolve("vgg19", weights="imagenet").path == store / "vgg19-imagenet.safetensors"


@pytest.fixture
def beginning(tmp_path):
    """The first two layers of a random VGG19, as a file of our own."""
    network = backbones.create("vgg19", until="relu1_2")
    arrays = {name: np.asarray(array) for name, array in flat_parameters(network).items()}
    path = tmp_path / "beginning.safetensors"
    write_safetensors(path, arrays, {"backbone": "vgg19", "normalization": "caffe"})
    return path


def test_convert_rescales_a_vgg_to_unit_mean(beginning, store, tmp_path, capsys):
    crops = tmp_path / "crops"
    crops.mkdir()
    for name in swag_jax.images.CONTENTS:
        swag_jax.write_image(crops / f"{name}.png", swag_jax.sample(name, size=300)[:225, :225])
    assert run("convert", beginning, "--backbone", "vgg19", "--unit-mean", "--images", crops) == 0
    path = store / "beginning-unit-mean.safetensors"
    assert capsys.readouterr().out.startswith(f"{path}: vgg19 down to conv1_2, native layout, normalization caffe")
    network, _ = backbones.load("vgg19", weights="beginning-unit-mean", layers=("relu1_2",))
    images = [read_crop(file, size=224, crop=224) for file in sorted(crops.iterdir())]
    found = network(swag_jax.images.normalize.normalize(jnp.stack(images).astype(jnp.float32) / 255, "caffe"))
    for layer in ("relu1_1", "relu1_2"):
        np.testing.assert_allclose(found[layer].mean((0, 1, 2)), 1, rtol=1e-3)


def test_convert_writes_over_none_of_the_photographs(beginning, tmp_path):
    photograph = tmp_path / "photograph.png"
    swag_jax.write_image(photograph, swag_jax.sample("cat", size=300))
    before = photograph.read_bytes()
    options = ("--backbone", "vgg19", "--unit-mean", "--images", tmp_path, "-o", tmp_path / "." / "photograph.png")
    with pytest.raises(UserError, match=r"-o must not be one of the files that are read \(--images\), got .*photo"):
        run("convert", beginning, *options)
    assert photograph.read_bytes() == before


def test_convert_rescales_on_the_packages_photographs(beginning, store):
    assert run("convert", beginning, "--backbone", "vgg19", "--unit-mean") == 0
    rescaled = read_safetensors(store / "beginning-unit-mean.safetensors")
    plain = read_safetensors(beginning)
    ratio = plain["conv1_1.kernel"] / rescaled["conv1_1.kernel"]
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:1, :1, :1], ratio.shape), rtol=1e-4)
    assert ratio.min() > 0.01
    assert np.abs(np.log(ratio)).mean() > 0.5


def test_convert_records_the_version_of_a_resnet(tmp_path, store):
    small = {"depths": (1, 1, 1, 1), "channels": 4}
    arrays = flat_parameters(backbones.create("resnet50", **small))
    path = tmp_path / "mine.safetensors"
    write_safetensors(path, {name: np.asarray(array) for name, array in arrays.items()}, {})
    assert run("convert", path, "--backbone", "resnet50:version=v1:depths=1-1-1-1:channels=4") == 0
    network, source = backbones.load("resnet50", weights="mine", layers=("conv5_1",))
    assert network.architecture == backbones.Architecture(version="v1", **small)
    assert source.architecture == {"version": "v1", **small}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--backbone", "vgg19", "--images", "x"), "--images is for --unit-mean: add --unit-mean"),
        (("--backbone", "resnet50", "--unit-mean"), "only a VGG can be rescaled, got resnet50"),
        (("--backbone", "vgg19:version=v1"), "only a residual network has switches"),
        (("--backbone", "vgg91"), "unknown network 'vgg91': did you mean vgg19"),
        (("--backbone", "resnet50"), "looks like a checkpoint of vgg16 or vgg19"),
        (("--backbone", "vgg19"), r"conv1_1\.kernel has shape \(3, 3, 3, 2\), expected \(3, 3, 3, 64\)"),
    ],
)
def test_convert_of_bad_input_writes_nothing(words, message, file, store):
    with pytest.raises(UserError, match=message):
        run("convert", file, *words)
    assert not store.exists()


def test_verify_everything_here(capsys):
    assert run("verify") == 0
    names = ("vgg19-caffe", "vgg19-caffe-unit-mean", "resnet50-caffe", "efficientnet-lite0-tensorflow")
    assert capsys.readouterr().out == "".join(f"{name}: sound\n" for name in names)


def test_verify_reports_every_failure_and_goes_on(small, file, store, capsys):
    run("convert", file, "--backbone", "vgg19")
    (store / "broken.safetensors").write_bytes(b"garbage")
    capsys.readouterr()
    assert run("verify", "broken", "mine") == 3
    printed = capsys.readouterr()
    assert printed.out == "mine: sound\n"
    assert "must be a complete safetensors file" in printed.err


def test_verify_of_one_damaged_file_is_an_error(store):
    store.mkdir(parents=True)
    (store / "broken.safetensors").write_bytes(b"garbage")
    with pytest.raises(UserError, match="must be a complete safetensors file"):
        run("verify", "broken")
    with pytest.raises(UserError, match="unknown checkpoint here 'nothing'"):
        run("verify", "nothing")


@pytest.fixture
def fetched(monkeypatch, tmp_path):
    """Names that were fetched; `resnet50-imagenet-v2` is out of reach."""
    names = []

    def fetch(entry, *, expected, progress):
        names.append(entry.name)
        if entry.name == "resnet50-imagenet-v2":
            raise UserError("cannot fetch it.")
        assert expected["conv1.kernel"] == (7, 7, 3, 64)
        return tmp_path / entry.name

    monkeypatch.setattr("swag_jax.params.fetch", fetch)
    return names


def test_fetch_by_name_and_by_network(fetched, tmp_path, capsys):
    assert run("fetch", "resnet50", "wide_resnet50_2-imagenet") == 0
    assert fetched == ["resnet50-imagenet", "wide_resnet50_2-imagenet"]
    assert capsys.readouterr().out.splitlines()[0] == f"resnet50-imagenet: {tmp_path / 'resnet50-imagenet'}"


def test_fetch_goes_on_after_a_failure(fetched, capsys):
    assert run("fetch", "resnet50-imagenet-v2", "resnet50") == 3
    assert fetched == ["resnet50-imagenet-v2", "resnet50-imagenet"]
    assert capsys.readouterr().err == "cannot fetch it.\n"
    with pytest.raises(UserError, match="cannot fetch it"):
        run("fetch", "resnet50-imagenet-v2")


def test_fetch_of_what_is_here_or_cannot_be_fetched(fetched, capsys):
    assert run("fetch", "vgg19-caffe") == 0
    assert "vgg19-caffe: already here" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"vgg19-normalized-adain cannot be fetched: get vgg_normalised\.pth"):
        run("fetch", "resnet50", "vgg19-normalized-adain")
    with pytest.raises(UserError, match=r"no checkpoint of no_resnet50 is known: use --weights random, or `swag"):
        run("fetch", "resnet50", "no_resnet50")
    with pytest.raises(UserError, match="unknown checkpoint 'vgg13'"):
        run("fetch", "resnet50", "vgg13")
    assert fetched == []


@pytest.fixture
def decoder(tmp_path):
    """AdaIN's published decoder, in its own layout."""
    save_file(generator_weights("adain", 0), tmp_path / "decoder.pth")
    return tmp_path / "decoder.pth"


def test_convert_a_generator(decoder, tmp_path, capsys):
    out = tmp_path / "adain.safetensors"
    assert run("convert", decoder, "--generator", "adain", "-o", out) == 0
    assert capsys.readouterr().out == f"{out}: adain generator, reads relu4_1\n"
    assert generators.load_generator(out).layers == ("relu4_1",)


def test_convert_johnsons_network(tmp_path, capsys):
    save_file(transformer_weights(0), tmp_path / "mosaic.safetensors")
    assert run("convert", tmp_path / "mosaic.safetensors", "--generator", "johnson", "-o", tmp_path / "out.x") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out.x'}: johnson generator, reads images\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--generator", "adain"), "a generator needs a file to be written to: pass -o OUT.safetensors"),
        (("--generator", "adain", "--layout", "native", "-o", "out"), "--layout is for networks"),
        (("--generator", "adain", "--input", "caffe", "-o", "out"), "--input is for networks"),
        (("--generator", "sanet", "-o", "out"), r"published sanet generator .*missing merge\."),
        (("second.pth", "--backbone", "vgg19"), "a network must be in one file, got 2"),
        ((), "there must be a --backbone or a --generator"),
        (("--backbone", "vgg19", "--generator", "adain"), "--backbone and --generator exclude each other: leave"),
    ],
)
def test_convert_of_a_bad_generator_writes_nothing(words, message, decoder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"(?s){message}"):
        run("convert", decoder, *words)
    assert [path.name for path in tmp_path.iterdir()] == ["decoder.pth"]
