"""A disk without room: every writer refuses, keeps what was there, and leaves nothing half written."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from swag_jax import generators, read_image, write_image

LIMIT = 1500
"""Bytes of a file, at most, in the process below: less than any image or checkpoint, more than a record."""

SCRIPT = f"""
import json, resource, sys
from pathlib import Path
import numpy as np
from swag_jax import UserError, generators, plots, write_image
from swag_jax._files import replacing
from swag_jax.cli import main

folder, noise = Path(sys.argv[1]), np.random.default_rng(0).random((96, 96, 3), np.float32)
johnson = generators.create(generators.JohnsonConfig(channels=2, blocks=1))
figure, _ = plots.figure(1, 1)


def text(path):
    with replacing(path) as temporary:
        temporary.write_text("x" * 5000)


images = [f"out.{{suffix}}" for suffix in ("png", "jpg", "jpeg", "webp", "tif", "tiff")]
writers = dict.fromkeys(images, lambda path: write_image(path, noise))
writers |= {{f"plot.{{suffix}}": lambda path: plots.write(path, figure) for suffix in ("png", "svg", "pdf")}}
writers |= {{"johnson.safetensors": lambda path: generators.save_generator(path, johnson), "report.json": text}}
for name in writers:
    (folder / name).write_bytes(b"before")
resource.setrlimit(resource.RLIMIT_FSIZE, ({LIMIT}, {LIMIT}))
found = {{}}
for name, write in writers.items():
    try:
        write(folder / name)
        found[name] = None
    except UserError as problem:
        found[name] = str(problem)
print(json.dumps(found))
words = ["apply", sys.argv[2], sys.argv[3], "-o", sys.argv[4], "--format", "jpg", "--quiet"]
sys.exit(main(words))
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """What the writers said, the folders, and the process."""
    folder = tmp_path_factory.mktemp("full")
    written, contents, johnson = folder / "written", folder / "contents", folder / "johnson.safetensors"
    written.mkdir()
    contents.mkdir()
    write_image(contents / "one.png", np.random.default_rng(1).random((64, 64, 3), np.float32))
    generators.save_generator(johnson, generators.create(generators.JohnsonConfig(channels=2, blocks=1)))
    words = [sys.executable, "-c", SCRIPT, written, johnson, contents, folder / "out"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    ended = subprocess.run([str(word) for word in words], capture_output=True, text=True, env=environment, check=False)
    return folder, ended


def test_every_writer_refuses_and_keeps_what_was_there(ran):
    folder, ended = ran
    found = json.loads(ended.stdout.splitlines()[0])
    assert len(found) == 11
    for name, problem in found.items():
        path = folder / "written" / name
        assert problem == f"cannot write {path}: File too large: make room on the disk."
        assert path.read_bytes() == b"before"
    assert sorted(path.name for path in (folder / "written").iterdir()) == sorted(found)
    assert "tiff" not in ended.stderr.lower()


def test_a_command_fails_and_does_it_again_when_there_is_room(ran, command):
    folder, ended = ran
    assert ended.returncode == 3, ended.stderr
    (record,) = map(json.loads, (folder / "out" / "results.jsonl").read_text().splitlines())
    assert record["status"] == "failed"
    assert "make room on the disk" in record["error"]
    assert [path.name for path in (folder / "out").iterdir()] == ["results.jsonl"]
    words = ("apply", folder / "johnson.safetensors", folder / "contents", "-o", folder / "out", "--format", "jpg")
    assert command(*words, "--retry-failed").code == 0
    assert read_image(folder / "out" / "one.jpg").shape == (64, 64, 3)
