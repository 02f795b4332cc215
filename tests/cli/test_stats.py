"""`swag-jax stats`: the table, the JSON and the plot, which networks and images they are of, and what fails."""

import json
import shutil
import sys

import jax
import pytest
from words import over

from swag_jax import measure, plots, read_image, sample
from swag_jax.cli import parse, stats
from swag_jax.cli._networks import read_specs
from swag_jax.images import CONTENTS, STYLES
from swag_jax.measure.activations import MEASURES
from swag_jax.params.manifest import weights_folder
from swag_jax.smoothing import Smoothing

SMALL = ("--networks", "vgg19", "--layers", "relu1_1", "--size", "32", "--temperature", "1")


@pytest.fixture
def folder(images):
    return images


@pytest.fixture
def run(command, folder, tmp_path):
    """Run a small `stats` on content.png and other.png; flags given here win over the small ones."""

    def run(*flags, images=None):
        images = [folder / "content.png", folder / "other.png"] if images is None else images
        return command("stats", "--images", *images, *over(("--json", tmp_path / "out.json", *SMALL), flags))

    return run


@pytest.fixture
def written(tmp_path):
    """Read the JSON file."""
    return lambda: json.loads((tmp_path / "out.json").read_text())


def test_the_numbers_are_the_librarys(run, written, folder):
    images = [folder / "content.png", "coffee"]
    ended = run("--seed", 3, "--layers", "relu1_1,relu2_1", "--temperature", "1,auto", "--size", 40, images=images)
    assert ended.code == 0, ended.err
    shown = {"content.png": read_image(folder / "content.png", size=40), "coffee": sample("coffee", size=40)}
    expected = measure.activation_statistics(shown, ["vgg19"], layers=("relu1_1", "relu2_1"), seed=3)
    report = written()
    assert report["networks"] == expected.as_dict()["networks"]
    assert list(report["networks"]["vgg19"]["stages"]) == ["0", "1"]
    stage = report["networks"]["vgg19"]["stages"]["1"]
    assert {"max", "entropy", "gram_max", "gram_entropy"} < set(stage)
    assert list(stage["smoothed"]) == ["softmax T=1", "softmax T=auto"]
    assert report["images"] == [
        {"name": "content.png", "height": 30, "width": 40},
        {"name": "coffee", "height": 30, "width": 40},
    ]
    assert report["failures"] == []


def test_the_report_tells_how_it_came_about(run, written):
    assert run("--smoothing", "channel-softmax,scale", "--temperature", "0.5", "--batch-size", "4").code == 0
    report = written()
    assert report["settings"] == {
        "networks": ["vgg19"],
        "weights": ["random"],
        "layers": ["relu1_1"],
        "size": 32,
        "smoothings": ["channel-softmax T=0.5", "scale 0.001"],
        "seed": 0,
    }
    assert report["versions"]["swag-jax"]
    assert report["device"] == {"platform": "cpu", "kind": jax.devices()[0].device_kind, "count": 8}
    assert report["seconds"] > 0
    assert set(report) == {
        "networks", "images", "failures", "settings", "finished", "seconds", "device", "versions",
    }  # fmt: skip


def test_the_table(run, written):
    ended = run()
    lines = ended.out.splitlines()
    assert lines[0] == "means over 2 images"
    assert lines[2] == "vgg19: random (not trained)"
    heads = "stage layer max entropy peak gram max gram entropy gram peak"
    assert " ".join(lines[3].split()) == heads
    stage = written()["networks"]["vgg19"]["stages"]["0"]
    cells = lines[4].split()
    assert cells[:2] == ["0", "relu1_1"]
    assert [float(cell) for cell in cells[2:]] == pytest.approx([stage[name] for name in MEASURES], rel=5e-3)
    assert [line for line in lines if "T=" in line] == ["vgg19, softmax T=1: random (not trained)"]
    assert max(map(len, lines)) <= 80
    assert ended.err.splitlines()[-1].startswith("measured 1 networks on 2 images in 0:")


def test_quiet(run, written):
    ended = run("--quiet")
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert written()["networks"]


def test_samples_and_folders(command, images, tmp_path, written):
    """By default all samples; a folder, a file and a sample may be mixed."""
    assert list(map(str, parse(["stats"]).images)) == [*CONTENTS, *STYLES]
    folder, file = tmp_path / "folder", images / "content.png"
    folder.mkdir()
    shutil.copy(file, folder / "content.png")
    (folder / "notes.txt").touch()
    ended = command("stats", "--images", folder, file, "coffee", "--json", tmp_path / "out.json", *SMALL)
    assert ended.code == 0, ended.err
    names = [image["name"] for image in written()["images"]]
    assert names == [str(folder / "content.png"), str(file), "coffee"]


def test_several_weights_are_told_apart(run, written, tmp_path):
    """The embedded checkpoint by its word and as a file; random weights beside both."""
    file = tmp_path / "mine.safetensors"
    shutil.copy(weights_folder() / "vgg19-caffe.safetensors", file)
    ended = run("--weights", f"random,embedded,vgg19={file}")
    assert ended.code == 0, ended.err
    networks = written()["networks"]
    assert list(networks) == ["vgg19/random", "vgg19/embedded", "vgg19/mine.safetensors"]
    assert networks["vgg19/embedded"]["stages"] == networks["vgg19/mine.safetensors"]["stages"]
    assert networks["vgg19/random"]["stages"] != networks["vgg19/embedded"]["stages"]
    assert networks["vgg19/embedded"]["weights"].startswith("vgg19-caffe (in the package")
    assert written()["settings"]["weights"] == ["random", "embedded", "mine.safetensors"]


def test_switched_networks(run, written):
    """Each by the name that was given; trained weights are of none, and the star is the plain network's."""
    small = ":channels=2:depths=1-1-1-1"
    networks = f"resnet50{small},resnet50{small}:residual=false:downsampling=pool"
    flags = ("--networks", networks, "--layers", "stages", "--smoothing", "none", "--size", "64")
    ended = run(*flags, "--weights", "random,embedded", images=["coffee"])
    assert ended.code == 3
    assert f"left out: resnet50{small}/embedded: resnet50-caffe is of another architecture, got channels=2" in ended.err
    plain, switched = written()["networks"].values()
    assert list(written()["networks"]) == [f"{network}/random" for network in networks.split(",")]
    assert plain["options"] == {"channels": 2, "depths": [1, 1, 1, 1]}
    assert switched["options"] == {**plain["options"], "residual": False, "downsampling": "pool"}
    assert [stage["layer"] for stage in switched["stages"].values()] == ["conv1", *(f"conv{n}_1" for n in (2, 3, 4, 5))]
    options = {"channels": 2, "depths": (1, 1, 1, 1), "residual": False, "downsampling": "pool"}
    by_hand = measure.NetworkSpec("by hand", "resnet50", options=tuple(options.items()))
    expected = measure.activation_statistics({"coffee": sample("coffee", size=64)}, [by_hand], smoothings=())
    assert switched["stages"] == expected.as_dict()["networks"]["by hand"]["stages"]


def test_the_star_of_switched_networks():
    specs = read_specs(["resnet50", "resnet50:residual=false"], ["random"])
    assert stats._starred(parse(["stats"]), specs, [Smoothing("softmax")]) == ["resnet50"]
    command = parse(["stats", "--starred", "resnet50:residual=false"])
    assert stats._starred(command, specs, []) == ["resnet50:residual=false"]


def test_weights_that_some_networks_do_not_have(run, written):
    flags = ("--networks", "wide_resnet50_2,resnet50", "--layers", "conv1", "--smoothing", "none")
    ended = run(*flags, "--weights", "random,embedded")
    assert ended.code == 3
    reason = "no checkpoint of wide_resnet50_2 comes with the package: pass --weights imagenet or random."
    assert f"left out: wide_resnet50_2/embedded: {reason}" in ended.err
    assert list(written()["networks"]) == ["wide_resnet50_2/random", "resnet50/random", "resnet50/embedded"]
    assert written()["failures"] == [{"name": "wide_resnet50_2/embedded", "error": reason}]
    both = run("--networks", "vgg19,resnet50", "--weights", "imagenet").problem
    assert both.startswith("swag-jax: there must be a network with weights: vgg19-imagenet is not in the local store")


def test_a_broken_image_is_named_and_the_others_are_measured(run, written, folder):
    (folder / "poem.png").write_text("Whose woods these are")
    ended = run(images=[folder / "content.png", folder / "poem.png", folder / "gone.png"])
    assert ended.code == 3
    assert [image["name"] for image in written()["images"]] == ["content.png"]
    assert [failure["name"] for failure in written()["failures"]] == ["poem.png", "gone.png"]
    assert "failed: poem.png:" in ended.err
    assert "poem.png must hold an image" in written()["failures"][0]["error"]
    assert ", 2 failed, wrote " in ended.err.splitlines()[-1]


def test_the_plot(run, folder, tmp_path, monkeypatch):
    """ResNet50 is starred unless others are named, or nothing was smoothed; --peaks adds panels."""
    shown = []
    draw = plots.activation_statistics
    monkeypatch.setattr(plots, "activation_statistics", lambda *a, **o: shown.append(o) or draw(*a, **o))
    plot, one = ("--plot", tmp_path / "plot.png"), [folder / "content.png"]
    resnet = ("--networks", "resnet50", "--layers", "conv1")
    assert run(*plot, *resnet, "--smoothing", "scale", images=one).code == 0
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert run(*plot, *resnet, "--smoothing", "none", images=one).code == 0
    assert run(*plot, images=one).code == 0
    assert run(*plot, "--starred", "vgg19", "--peaks", images=one).code == 0
    assert [(options["starred"], options["peaks"]) for options in shown] == [
        (["resnet50"], False),
        ([], False),
        ([], False),
        (["vgg19"], True),
    ]


def test_numbers_need_no_matplotlib(run, written, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run().code == 0
    assert written()["networks"]
    (tmp_path / "out.json").unlink()
    line = run("--plot", tmp_path / "plot.png").problem
    assert line == "swag-jax: matplotlib must be installed for plots: run `pip install 'swag-jax[plots]'`."
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--networks", "vgg18"), "unknown network 'vgg18': did you mean vgg19"),
        (
            ("--networks", "vgg19:residual=false"),
            "only a residual network has switches, got vgg19:residual=false:",
        ),
        (("--networks", "resnet50:residul=false"), "unknown switch of resnet50 'residul': did you mean residual?"),
        (("--networks", "resnet50:residual"), "switches must be SWITCH=VALUE, each once, got resnet50:residual"),
        (("--networks", "resnet50:width=8:width=9"), "must be SWITCH=VALUE, each once, got resnet50:width=8:width=9"),
        (("--networks", "resnet50:residual=no"), "residual must be true or false, got 'no': write residual=false."),
        (("--networks", "resnet50:width=-8"), "width must be a whole number, got '-8': write width=64, or others."),
        (("--networks", "resnet50:depths=3-4"), "depths must be 4 whole numbers with - between them, got '3-4': write"),
        (("--networks", "resnet50:kernel_size=4"), "kernel size must be 1, 3, 5 or 7, got 4."),
        (("--networks", "resnet50:stem=5x5"), "unknown stem '5x5': known: 7x7, 3x3"),
        (
            ("--networks", "resnet50:width=8", "--weights", "resnet50=x"),
            "the weights resnet50=x are for a network",
        ),
        (("--networks", ""), "there must be at least one network, and weights"),
        (("--weights", ","), "there must be at least one network, and weights"),
        (("--layers", "relu1_1,relu21"), "unknown layer 'relu21': did you mean relu2_1"),
        (("--layers", "stages,relu2_1"), "unknown layer 'stages'"),
        (("--weights", "rndom"), "unknown weights 'rndom': did you mean random"),
        (("--weights", "resnet50=x.pth"), "the weights resnet50=x.pth are for a network that is not measured"),
        (("--weights", "random,random"), "the weights of a network must differ in name, got vgg19/random twice"),
        (("--networks", "vgg19,resnet50", "--weights", "resnet50=x.pth"), "vgg19 must have weights, got none"),
        (("--weights", "embedded,nothere.pth"), "no file nothere.pth"),
        (("--smoothing", "soft"), "unknown smoothing 'soft': did you mean softmax"),
        (("--temperature", "0"), "temperature must be greater than 0, got 0"),
        (("--temperature", "warm"), "argument --temperature: invalid comma-separated numbers value: 'warm'"),
        (("--size", "0"), "size must be at least 1, got 0"),
        (("--size", "8"), "size must be at least 16, got 8"),
        (("--batch-size", "0"), "batch size must be at least 1, got 0"),
        (("--starred", "resnet5"), "unknown network 'resnet5': known: vgg19"),
        (("--plot", "out.jpg"), "the name of a plot must end in one of .png, .svg, .pdf, got 'out.jpg'"),
        (("--json", "none/out.json"), "--json must name a file in an existing, writable folder, got none/out.json"),
        (("--json", "same.png", "--plot", "same.png"), "--plot and --json must be two files, got same.png"),
        (("--json", "images/content.png"), "--json must not be one of the files that are read (--images)"),
    ],
)
def test_bad_input_writes_nothing(run, unchecked, folder, tmp_path, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    before = (folder / "content.png").read_bytes()
    assert message in run(*flags).problem
    assert not (tmp_path / "out.json").exists()
    assert (folder / "content.png").read_bytes() == before


def test_folders_without_images(run, tmp_path):
    (tmp_path / "bare").mkdir()
    assert "--images must hold images" in run(images=[tmp_path / "bare"]).problem
    assert "there must be an image that can be measured" in run(images=[tmp_path / "none.png"]).problem
