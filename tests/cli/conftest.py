"""Runs of the command line: in this process, or in one of its own."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from words import over

from swag_jax import sample, write_image
from swag_jax.cli import main

SHALLOW = ("--style-layers", "relu1_1,relu1_2", "--content-layers", "relu1_2")


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def problem(self):
        """The one line that a refused command prints."""
        assert self.code == 2, self.err
        assert self.out == ""
        assert self.err.endswith("\n")
        assert len(self.err.splitlines()) == 1, self.err
        assert "Traceback" not in self.err
        return self.err.strip()


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch):
    """A store without weights."""
    folder = tmp_path_factory.getbasetemp() / "home"
    monkeypatch.setenv("SWAG_JAX_HOME", str(folder))
    return folder


@pytest.fixture
def command(capsys):
    """Run a command in this process."""

    def run(*words):
        capsys.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as end:
            code = end.code
        printed = capsys.readouterr()
        return Outcome(code, printed.out, printed.err)

    return run


@pytest.fixture
def process(tmp_path):
    """Run a command in a process of its own; with `stop_at`, send Ctrl-C once that file exists."""

    def run(*words, stop_at=None, **environment):
        ended = subprocess.Popen(
            [sys.executable, "-m", "swag_jax", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
        )
        while stop_at is not None and not stop_at.exists() and ended.poll() is None:
            try:
                ended.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        if stop_at is not None:
            ended.send_signal(signal.SIGINT)
        out, err = ended.communicate(timeout=240)
        return Outcome(ended.returncode, out, err)

    return run


@pytest.fixture(scope="session")
def drawn():
    """Images by name: content 48x64 (landscape), style and other of other shapes."""
    return {
        "content": sample("coffee", size=64),
        "style": sample("swirls", size=56)[:, :40],
        "other": sample("mosaic", size=48),
    }


@pytest.fixture
def images(drawn, tmp_path):
    """A folder with content.png, style.png and other.png, and glass.png, which is half transparent."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name, image in drawn.items():
        write_image(folder / f"{name}.png", image)
    alpha = np.ones(drawn["content"].shape[:2], np.float32)
    alpha[:, :32] = 0
    write_image(folder / "glass.png", drawn["content"], alpha=alpha)
    return folder


@pytest.fixture
def stylize(command, images, tmp_path):
    """Run a small `stylize` of content.png in the manner of style.png; flags given here win over the small ones."""

    def run(*flags, content=None, styles=None, output=None):
        content = images / "content.png" if content is None else content
        styles = [images / "style.png"] if styles is None else styles
        output = tmp_path / "out.png" if output is None else output
        small = ("--size", 48, "--steps", 4, "--solver", "adam", *SHALLOW)
        return command("stylize", content, *styles, "-o", output, *over(small, flags))

    return run
