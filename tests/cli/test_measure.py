"""`swag-jax measure`: one result, a report, the folder of a batch or a file of pairs; what is wrong is said."""

import json

import numpy as np
import pytest
from reference.weights import linear_weights
from safetensors.numpy import save_file

from swag_jax import backbones, read_image, sample, write_image
from swag_jax.cli import measure as measure_command
from swag_jax.cli import parse
from swag_jax.measure import METRICS, Evaluator
from swag_jax.params import Source

# A network that is quick to compile, at its first activations.
FIRST = ("--backbone", "alexnet", "--weights", "random", "--layers", "relu1", "--content-layer", "relu1")
QUICK = ("--metrics", "ssim,gram")

TINY = (
    *("--size", "32", "--smallest-size", "32", "--steps", "1", "--weights", "random", "--precision", "float32"),
    *("--style-layers", "relu1_1", "--content-layers", "relu1_1", "--quiet", "--no-sheet"),
)


@pytest.fixture(scope="module")
def shown():
    content, style = sample("coffee", size=32)[:24, :32], sample("swirls", size=32)[:24, :32]
    return {"content": content, "style": style, "out": 0.5 * content + 0.5 * style}


@pytest.fixture
def folder(tmp_path, shown):
    for name, image in shown.items():
        write_image(tmp_path / f"{name}.png", image)
    return tmp_path


@pytest.fixture
def measure(command, folder):
    """Run a small `measure`, of content.png, style.png and out.png unless other paths are given."""

    def run(*words, flags=(*QUICK, *FIRST)):
        words = words or tuple(folder / f"{name}.png" for name in ("content", "style", "out"))
        return command("measure", *words, *flags, "--json", folder / "found.json")

    return run


def found(folder):
    return json.loads((folder / "found.json").read_text())


def rows(out):
    return {line.split()[0]: " ".join(line.split()[1:]) for line in out.splitlines() if line and "measured" not in line}


def test_one_result(measure, folder, shown):
    ended = measure()
    assert ended.code == 0, ended.err
    images = {name: read_image(folder / f"{name}.png") for name in shown}
    network = backbones.create("alexnet", until="relu1")
    evaluator = Evaluator(("ssim", "gram"), network=network, style_layers=("relu1",))
    expected = evaluator.compare(images["out"], images["content"], [images["style"]]).values
    report = found(folder)
    (pair,) = report["pairs"]
    places = {"content": str(folder / "content.png"), "styles": [str(folder / "style.png")]}
    assert pair.items() >= {**places, "name": "out", "output": str(folder / "out.png"), "error": None}.items()
    for name, candidates in expected.items():
        assert pair["values"][name] == pytest.approx(candidates, rel=1e-5, abs=1e-9)
        mean = {"mean": pair["values"][name]["output"], "standard_error": None, "count": 1}
        assert report["metrics"][name]["output"] == mean
    assert report["networks"]["network"]["backbone"] == "alexnet"
    assert (report["content_layer"], report["style_layers"], report["warning"]) == ("relu1", ["relu1"], None)
    assert set(report["versions"]) >= {"jax", "swag-jax"}
    ssim = expected["ssim"]
    assert rows(ended.out)["ssim"] == f"higher {ssim['output']:.4g} 1 {ssim['style']:.4g} 1"
    assert "content and style: alexnet, random (not trained)" in ended.err
    assert "measured 1 of 1 images" in ended.err


def test_the_folder_of_a_batch(command, measure, folder):
    for name in ("contents", "styles"):
        (folder / name).mkdir()
    for place in ("contents/coffee", "contents/cat", "styles/dots", "styles/mosaic"):
        write_image(folder / f"{place}.png", sample(place.split("/")[1], size=32))
    (folder / "styles" / "bad.png").write_text("not an image\n" * 20)
    sources = ("--contents", folder / "contents", "--styles", folder / "styles")
    assert command("batch", *sources, "-o", folder / "made", *TINY).code == 3
    (folder / "made").rename(folder / "moved")
    ended = measure(folder / "moved", flags=("--metrics", "ssim", *FIRST))
    assert ended.code == 3
    report = found(folder)
    pairs = {pair["name"]: pair for pair in report["pairs"]}
    assert set(pairs) == {f"{content}_{style}" for content in ("coffee", "cat") for style in ("bad", "dots", "mosaic")}
    assert {pair["backbone"] for pair in pairs.values()} == {"vgg19"}
    assert pairs["cat_dots"]["output"] == str(folder / "moved" / "cat_dots.png")
    assert pairs["cat_bad"]["error"] == "there must be an image to measure, got a pair that `batch` could not make."
    assert pairs["cat_bad"]["values"] == {}
    values = [pair["values"]["ssim"]["output"] for pair in pairs.values() if pair["values"]]
    estimate = report["metrics"]["ssim"]["output"]
    assert estimate["mean"] == pytest.approx(np.mean(values))
    assert estimate["standard_error"] == pytest.approx(np.std(values, ddof=1) / 2)
    assert report["metrics"]["ssim"]["content"] == {"mean": 1.0, "standard_error": 0.0, "count": 4}
    assert "failed: cat_bad: there must be an image" in ended.err
    assert "measured 4 of 6 images" in ended.err
    assert "2 failed" in ended.err


@pytest.fixture
def pairs(folder):
    def write(*lines, suffix=".jsonl"):
        (folder / f"pairs{suffix}").write_text("\n".join(lines), encoding="utf-8")
        return "--pairs", folder / f"pairs{suffix}"

    return write


def line(**keys):
    return json.dumps({"content": "content.png", "style": "style.png", "output": "out.png", **keys})


def test_a_broken_image_among_good_ones(measure, pairs, folder):
    (folder / "broken.png").write_text("not an image\n" * 20)
    ended = measure(*pairs(line(), line(output="broken.png"), line(content="none.png", name="third"), line(name="4th")))
    assert ended.code == 3
    problems = {pair["name"]: pair["error"] for pair in found(folder)["pairs"]}
    assert list(problems) == ["out", "broken", "third", "4th"]
    assert (problems["out"], problems["4th"]) == (None, None)
    assert "must hold an image" in problems["broken"]
    assert "none.png does not exist" in problems["third"]
    assert found(folder)["metrics"]["ssim"]["output"]["count"] == 2
    assert [text for text in ended.err.splitlines() if text.startswith("failed: ")] == [
        f"failed: {name}: {problems[name]}" for name in ("broken", "third")
    ]
    assert rows(ended.out)["ssim"].endswith(" 2")


def test_pairs_of_a_csv_file_with_several_styles(measure, pairs, folder):
    ended = measure(
        *pairs("content,style,output,name", "content.png,style.png; content.png,out.png,both", suffix=".csv")
    )
    assert ended.code == 0, ended.err
    (pair,) = found(folder)["pairs"]
    assert pair["name"] == "both"
    assert pair["styles"] == [str(folder / "style.png"), str(folder / "content.png")]
    # A copy of the style: its SSIM to the content is the mean of that of the style and of the content itself.
    assert pair["values"]["ssim"]["style"] > 0.5


def test_the_network_that_made_the_images_is_warned_of(measure, pairs, folder):
    made = pairs(line(backbone="alexnet"), line(name="other", backbone="vgg19"))
    ended = measure(*made)
    warning = (
        "alexnet made 1 of 2 images itself: content and style in it say little; pass --backbone resnet50"
    )  # fmt: skip
    assert f"warning: {warning}" in ended.err.splitlines()
    assert found(folder)["warning"] == warning
    assert "warning" not in measure(*made, flags=("--metrics", "ssim", *FIRST)).err


def test_the_report_of_a_stylization(measure, folder):
    places = {name: str(folder / f"{name}.png") for name in ("content", "style", "out")}
    report = {"content": places["content"], "styles": [places["style"]], "output": places["out"]}
    (folder / "report.json").write_text(json.dumps({**report, "settings": {"backbone": "alexnet"}}))
    ended = measure(folder / "report.json")
    assert ended.code == 0
    assert "warning: alexnet made 1 of 1 images itself" in ended.err
    assert found(folder)["pairs"][0]["backbone"] == "alexnet"


def test_what_is_not_measured_is_said(measure, folder):
    ended = measure(flags=("--metrics", "ssim,lpips,fid,artfid,identity", *FIRST))
    assert ended.code == 0
    reasons = {
        "lpips": "needs --lpips-weights FILE",
        "identity": "needs a pair whose content is its style",
        "fid": "needs --fid-weights FILE",
        "artfid": "needs --lpips-weights FILE and --fid-weights FILE",
    }
    assert found(folder)["not_measured"] == reasons
    assert set(found(folder)["metrics"]) == {"ssim"}
    assert ended.out.splitlines()[2:] == [f"{name}: not measured: {reason}" for name, reason in reasons.items()]


def test_the_identity_test(measure, folder, shown):
    ended = measure(
        *(folder / f"{name}.png" for name in ("content", "content", "out")), flags=("--metrics", "identity")
    )
    assert ended.code == 0
    images = [read_image(folder / f"{name}.png") for name in ("content", "out")]
    expected = np.sqrt(np.mean((images[0] - images[1]) ** 2))
    assert found(folder)["metrics"]["identity"]["output"]["mean"] == pytest.approx(expected, rel=1e-5)
    assert found(folder)["networks"] == {}


def test_lpips_fid_and_artfid(measure, pairs, folder, monkeypatch):
    """LPIPS from files; in place of the 95 MB of Inception v3, a network that is quick to compile."""
    for name in ("content", "style", "out"):
        write_image(folder / f"{name}.png", sample({"content": "cat", "style": "dots", "out": "embers"}[name], size=40))
    save_file(linear_weights("alexnet", 0), folder / "linear.safetensors")
    seen = []

    def load_inception(path):
        seen.append(path)
        return backbones.create("alexnet", until="relu1"), Source("random", "random", "alexnet")

    monkeypatch.setattr(measure_command, "load_inception", load_inception)
    flags = (
        "--lpips-weights",
        folder / "linear.safetensors",
        "--lpips-trunk",
        "random",
        "--fid-weights",
        "inception.pth",
    )
    swapped = line(output="style.png", style="out.png", name="swapped")
    ended = measure(*pairs(line(), swapped), flags=("--metrics", "artfid", *flags))
    assert ended.code == 0, ended.err
    assert [str(path) for path in seen] == ["inception.pth"]
    metrics = found(folder)["metrics"]
    assert list(metrics) == ["lpips", "fid", "artfid"]
    assert metrics["fid"]["style"]["mean"] == pytest.approx(0, abs=1e-9)
    assert metrics["fid"]["output"]["mean"] == pytest.approx(0, abs=1e-5)  # the same two images, in another order
    assert metrics["fid"]["content"]["mean"] > 1e-3
    assert metrics["lpips"]["content"]["mean"] == pytest.approx(0, abs=1e-9)
    for candidate in ("output", "content", "style"):
        lpips, fid, artfid = (metrics[name][candidate]["mean"] for name in ("lpips", "fid", "artfid"))
        assert artfid == pytest.approx((1 + lpips) * (1 + fid))
    alone = measure(flags=("--metrics", "fid", *flags))
    assert alone.out.splitlines()[1:] == ["fid: not measured: needs at least 2 pairs"]


def test_quiet_prints_nothing(measure, folder):
    ended = measure(flags=(*QUICK, *FIRST, "--quiet"))
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert list(found(folder)["metrics"]) == ["ssim", "gram"]


def test_all_metrics_are_the_default():
    assert parse(["measure", "x"]).metrics == tuple(METRICS)


@pytest.mark.parametrize(
    ("words", "flags", "message"),
    [
        ((), ("--metrics", ""), "there must be at least one metric: choose among ssim, lpips"),
        ((), ("--metrics", "ssmi"), "unknown metric 'ssmi': did you mean ssim"),
        ((), ("--backbone", "vgg91"), "unknown backbone 'vgg91': did you mean vgg19"),
        ((), ("--layers", "conv51"), "unknown layer 'conv51': did you mean conv5_1"),
        ((), ("--content-layer", "relu1_1"), "unknown layer 'relu1_1'"),
        ((), ("--weights", "imagenet"), "resnet50-imagenet is not in the local store: run"),
        ((), ("--lpips-weights", "none.pth"), "no file none.pth"),
        ((), ("--seed", "-1"), "seed must be at least 0 and at most 4.29497e+09, got -1"),
        ((), ("--metrics", "ssim", "--json", "{folder}"), "--json must name a file in an existing, writable folder"),
        ((), ("--metrics", "ssim", "--json", "{folder}/out.png"), "--json must not be one of the files that are read"),
        (("{folder}",), (), "must hold results.jsonl, as `swag-jax batch` writes it, got no records"),
        (("{folder}/out.png",), (), "must be the folder of `swag-jax batch` or the report of"),
        (("{folder}/none.json",), (), "must be the folder of `swag-jax batch` or the report of"),
        (("a.png", "b.png"), (), "there must be the folder or report of results, or CONTENT STYLE OUT, or --pairs."),
        (("a.png", "--pairs", "x.csv"), (), "--pairs must be given alone: leave out the other paths"),
        (("--pairs", "x.csv"), (), "--pairs x.csv must be a readable text file"),
        (("--pairs", "{folder}/no_output.csv"), (), "no_output.csv, line 2: there must be an output: add the column"),
        (("--pairs", "{folder}/odd.csv"), (), "odd.csv, line 2: unknown column or key 'outptu': did you mean output?"),
        (("{folder}/content.png", "{folder}/none.png", "{folder}/out.png"), QUICK, "none.png does not exist"),
        (("{folder}/content.png", "{folder}/style.png", "{folder}/out.png"), ("--stesp", "1"), "unknown flag --stesp"),
    ],
)  # fmt: skip
def test_bad_usage(command, folder, unchecked, words, flags, message):
    (folder / "no_output.csv").write_text("content,style\na,b\n")
    (folder / "odd.csv").write_text("content,style,outptu\na,b,c\n")
    before = sorted(folder.iterdir())
    words = words or ("{folder}/content.png", "{folder}/style.png", "{folder}/out.png")
    assert message in command("measure", *(str(word).format(folder=folder) for word in (*words, *flags))).problem
    assert sorted(folder.iterdir()) == before


def test_records_of_another_program(measure, folder):
    (folder / "results.jsonl").write_text(json.dumps({"name": "x", "output": "y"}) + "\n")
    assert "must be those of `batch`, got {'name': 'x', 'output': 'y'} ('styles')" in measure(folder).err


@pytest.mark.parametrize("damage", [b"\xff\n", b"[" * 100_000 + b"\n", b"3\n", b'{"name": "b", "output": 3}\n'])
def test_damaged_records_are_left_out(measure, folder, damage):
    record = {"name": "out", "content": str(folder / "content.png"), "styles": [str(folder / "style.png")]}
    record |= {"output": "out.png", "status": "done"}
    (folder / "results.jsonl").write_bytes(damage + json.dumps(record).encode() + b"\n")
    assert measure(folder, flags=("--metrics", "ssim")).code == 0
    assert [pair["name"] for pair in json.loads((folder / "found.json").read_text())["pairs"]] == ["out"]


@pytest.mark.parametrize(
    "content", [b"\xff", b"[" * 100_000, b"3", b"[]", b'{"output": 3}', b'{"output": "a\\u0000b"}']
)
def test_a_damaged_report_is_one_line(measure, folder, content):
    (folder / "report.json").write_bytes(content)
    assert "must be the folder of `swag-jax batch` or the report" in measure(folder / "report.json").problem


@pytest.mark.parametrize("content", [b"\xff", b"[" * 100_000, b"3", b'{"a":'])
def test_damaged_pairs_are_one_line(measure, folder, content):
    (folder / "pairs.jsonl").write_bytes(content)
    assert "pairs.jsonl" in measure("--pairs", folder / "pairs.jsonl").problem
