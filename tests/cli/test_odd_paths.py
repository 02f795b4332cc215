"""Pipes, devices, and links that lead nowhere or to themselves: one line, at once, wherever a path is asked for."""

import os

import numpy as np
import pytest

from swag_jax import generators, write_image

ODD = {"pipe": "pipe", "zero": "device", "loop": "leads to itself", "gone": "a link to nowhere"}

SMALL = ("--weights", "random", "--size", 32, "--steps", 1)
COMMANDS = {
    "content": ("stylize", "{odd}.png", "style.png", "-o", "o.png", *SMALL),
    "style": ("stylize", "style.png", "style.png", "{odd}.png", "-o", "o.png", *SMALL),
    "init": ("stylize", "style.png", "style.png", "-o", "o.png", "--init", "{odd}.png", *SMALL),
    "weights": ("stylize", "style.png", "style.png", "-o", "o.png", "--weights", "{odd}.png", *SMALL[2:]),
    "checkpoint": ("apply", "{odd}.png", "style.png", "-o", "o.png"),
    "image": ("apply", "johnson.safetensors", "{odd}.png", "-o", "o.png"),
    "mask": ("apply", "johnson.safetensors", "style.png", "-o", "o.png", "--content-masks", "{odd}.png"),
    "result": ("measure", "style.png", "style.png", "{odd}.png", "--metrics", "ssim"),
    "contents": ("batch", "--contents", "{odd}.png", "--styles", "styles", "-o", "out", *SMALL),
    "training": ("train", "johnson", "--contents", "{odd}.png", "--styles", "style.png", "-o", "run"),
    "statistics": ("stats", "--images", "{odd}.png", "--networks", "vgg19", "--layers", "relu1_1"),
}
WRITTEN = {
    "stylize": ("stylize", "style.png", "style.png", "-o", "{odd}.png", *SMALL),
    "report": ("stylize", "style.png", "style.png", "-o", "o.png", "--report", "{odd}.png", *SMALL),
    "json": ("measure", "style.png", "style.png", "style.png", "--json", "{odd}.png", "--metrics", "ssim"),
    "plot": ("stats", "--images", "style.png", "--networks", "vgg19", "--plot", "{odd}.png"),
    "export": ("apply", "johnson.safetensors", "style.png", "-o", "o.png", "--export", "{odd}.png"),
}
FOLDERS = {
    "batch": ("batch", "--contents", "styles", "--styles", "styles", "-o", "loop.png", *SMALL),
    "apply": ("apply", "johnson.safetensors", "styles", "-o", "loop.png"),
    "demo": ("demo", "-o", "loop.png", "--weights", "random"),
    "pairs": ("batch", "--pairs", "pipe.csv", "-o", "out", *SMALL),
    "endless pairs": ("batch", "--pairs", "zero.jsonl", "-o", "out", *SMALL),
    "endless report": ("measure", "zero.json"),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.png")
    os.mkfifo("pipe.csv")
    links = {"zero.png": "/dev/zero", "zero.jsonl": "/dev/zero", "zero.json": "/dev/zero"}
    links |= {"loop.png": "loop.png", "gone.png": "nowhere.png"}
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    (tmp_path / "styles").mkdir()
    for name in ("style.png", "styles/one.png"):
        write_image(name, np.full((32, 32, 3), 0.5, np.float32))
    johnson = generators.create(generators.JohnsonConfig(channels=2, blocks=1))
    generators.save_generator("johnson.safetensors", johnson)
    return tmp_path


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("place", COMMANDS)
def test_what_cannot_be_read(command, folder, unchecked, place, odd):
    before = names(folder)
    problem = command(*(str(word).format(odd=odd) for word in COMMANDS[place])).problem
    if place not in ("contents", "training", "image") or odd in ("gone", "loop"):
        assert ODD[odd] in problem or (place == "image" and "image that can be measured" in problem)
    assert names(folder) == before


@pytest.mark.parametrize("odd", ["pipe", "zero", "loop"])
@pytest.mark.parametrize("place", WRITTEN)
def test_what_cannot_be_written(command, folder, unchecked, place, odd):
    before = names(folder)
    problem = command(*(str(word).format(odd=odd) for word in WRITTEN[place])).problem
    assert "must be a file to write" in problem
    assert names(folder) == before


@pytest.mark.parametrize("place", FOLDERS)
def test_folders_and_lists(command, folder, unchecked, place):
    before = names(folder)
    assert command(*FOLDERS[place]).problem
    assert names(folder) == before
