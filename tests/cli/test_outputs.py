"""No command writes over what it reads, nor two things into one file, however the paths are spelled."""

import json
import os
import shutil

import numpy as np
import pytest

from swag_jax import write_image

STYLIZE = ("stylize", "mine.png", "style.png", "--weights", "random", "--size", 64, "--steps", 4)
BATCH = ("batch", "--pairs", "pairs.jsonl", "-o", ".", "--weights", "random", "--size", 32)
APPLY = ("apply", "adain.safetensors", "mine.png", "style.png")
TRAIN = ("train", "johnson", "--contents", "contents", "--weights", "random", "--steps", 2, "--crop", 32, "--size", 32)
MEASURE = ("measure", "mine.png", "style.png", "out.png")
STATS = ("stats", "--images", "mine.png", "style.png", "--networks", "vgg19")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What commands read, each under several names; checkpoints are not opened before outputs are checked."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "contents").mkdir()
    write_image("mine.png", np.full((64, 48, 3), 0.5, np.float32))
    write_image("style.png", np.full((48, 64, 3), 0.25, np.float32))
    for name in ("out.png", "start.png", "mask.png", "out-00001.png", "a_b.png", "contents/one.png"):
        shutil.copy("mine.png", name)
    (tmp_path / "run").mkdir()
    for name in ("adain.safetensors", "run/generator.safetensors", "net.safetensors"):
        (tmp_path / name).write_bytes(b"a checkpoint")
    (tmp_path / "link.png").symlink_to("mine.png")
    (tmp_path / "ahead.png").symlink_to("new.json")
    os.link("mine.png", "hard.png")
    return tmp_path


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


REFUSED = [
    ((*STYLIZE, "-o", "mine.png"), "-o", "CONTENT"),
    ((*STYLIZE, "-o", "sub/../style.png"), "-o", "STYLE"),
    ((*STYLIZE, "-o", "link.png"), "-o", "CONTENT"),
    ((*STYLIZE, "-o", "hard.png"), "-o", "CONTENT"),
    ((*STYLIZE, "-o", "start.png", "--init", "./start.png"), "-o", "--init"),
    ((*STYLIZE, "-o", "o.png", "--report", "mine.png"), "--report", "CONTENT"),
    ((*STYLIZE, "-o", "o.png", "--report", "sub/../style.png"), "--report", "STYLE"),
    ((*STYLIZE, "-o", "o.png", "--report", "hard.png"), "--report", "CONTENT"),
    ((*STYLIZE, "-o", "o.png", "--report", "sub/../o.png"), "--report", "-o"),
    ((*STYLIZE, "-o", "ahead.png", "--report", "new.json"), "--report", "-o"),
    ((*STYLIZE, "-o", "o.png", "--report", "start.png", "--init", "start.png"), "--report", "--init"),
    (("stylize", "out-00001.png", "style.png", *STYLIZE[3:], "-o", "out.png", "--every", 1), "--every", "CONTENT"),
    ((*STYLIZE, "-o", "o.png", "--every", 2, "--report", "o-00002.png"), "--every", "--report"),
    ((*STYLIZE[:3], "-o", "o.png", "--weights", "net.safetensors", "--report", "net.safetensors"), "--report", "--wei"),
    ((*BATCH, "--init", "fine.png"), "the result fine", "the start of fine"),
    ((*BATCH, "--format", "jpg"), "the result fine", "a style of fine"),
    ((*BATCH,), "the result mine", "the content of mine"),
    ((*BATCH[:2], "results.jsonl", *BATCH[3:]), "results.jsonl", "--pairs"),
    ((*APPLY, "-o", "mine.png"), "-o", "CONTENT"),
    ((*APPLY, "-o", "o.png", "--export", "adain.safetensors"), "--export", "GENERATOR"),
    (
        ("apply", "run", "mine.png", "style.png", "-o", "o.png", "--export", "run/generator.safetensors"),
        "--export",
        "GEN",
    ),
    ((*APPLY, "-o", "o.png", "--export", "style.png"), "--export", "STYLE"),
    ((*APPLY, "-o", "o.png", "--export", "sub/../o.png"), "--export", "-o"),
    ((*APPLY, "style.png", "-o", "mask.png", "--content-masks", "mask.png", "mask.png"), "-o", "--content-masks"),
    ((*APPLY, "-o", "mask.png", "--style-masks", "mask.png"), "-o", "--style-masks"),
    (
        ("apply", "adain.safetensors", "contents", "style.png", "-o", "sub", "--style-masks", "sub/one.png"),
        "the re",
        "--st",
    ),
    ((*TRAIN, "--styles", "style.png", "-o", "run", "--init", "run/generator.safetensors"), "the run's gen", "init"),
    ((*TRAIN, "--styles", "run/samples/one.png", "-o", "run"), "the run's one.png", "the styles"),
    ((*MEASURE, "--json", "mine.png"), "--json", "an image of out"),
    ((*MEASURE, "--json", "sub/../out.png"), "--json", "an image of out"),
    (("measure", "--pairs", "measured.jsonl", "--json", "measured.jsonl"), "--json", "--pairs"),
    ((*MEASURE, "--lpips-weights", "net.safetensors", "--json", "net.safetensors"), "--json", "--lpips-weights"),
    ((*MEASURE, "--weights", "net.safetensors", "--json", "./net.safetensors"), "--json", "--weights"),
    ((*STATS, "--json", "link.png"), "--json", "--images"),
    ((*STATS, "--plot", "mine.png"), "--plot", "--images"),
    ((*STATS, "--json", "a.svg", "--plot", "sub/../a.svg"), "--plot", "--json"),
    (("weights", "convert", "net.safetensors", "--backbone", "vgg19", "-o", "sub/../net.safetensors"), "-o", "FILE"),
    (
        ("weights", "convert", "adain.safetensors", "--generator", "adain", "-o", "adain.safetensors"),
        "-o",
        "FILE",
    ),
    (("demo", "-o", ".", "--weights", "sheet.png", "--size", 64), "the sheet", "--weights"),
]


@pytest.mark.parametrize(("words", "output", "other"), REFUSED)
def test_nothing_that_is_read_is_replaced(command, folder, words, output, other):
    if words[0] == "batch":
        lines = {
            "the result fine": {"content": "mine.png", "style": "fine.jpg", "name": "fine"},
            "the result mine": {"content": "mine.png", "style": "style.png", "name": "mine"},
        }
        line = lines.get(output, {"content": "mine.png", "style": "style.png", "name": "x"})
        (folder / words[2]).write_text(json.dumps(line))
        for name in ("fine.jpg", "fine.png"):
            shutil.copy("mine.png", name)
    elif words[0] == "measure":
        line = {"content": "mine.png", "style": "style.png", "output": "out.png"}
        (folder / "measured.jsonl").write_text(json.dumps(line))
    elif words[0] == "train":
        (folder / "run" / "samples").mkdir()
        shutil.copy("style.png", "run/samples/one.png")
    elif words[0] == "apply":
        shutil.copy("mine.png", "sub/one.png")
    elif words[0] == "demo":
        shutil.copy("net.safetensors", "sheet.png")
    before = contents(folder)
    problem = command(*words).problem
    assert problem.startswith(f"swag-jax: {output}")
    assert f"({other}" in problem or f" and {other} must be two files" in problem
    assert contents(folder) == before
