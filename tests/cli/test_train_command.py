"""`swag-jax train`: a generator in one command, and the same command again after anything."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file
from words import over

from swag_jax import devices, load_generator, write_image
from swag_jax.cli._display import fit, steps_line
from swag_jax.cli._exit import ExitCode
from swag_jax.generators import JohnsonConfig
from swag_jax.train import TrainProgress, journal, loop

LAYERS = ("--content-layer", "relu1_2", "--style-layers", "relu1_1,relu1_2")
TINY = ("--weights", "random", "--size", "18", "--crop", "16", "--log", "1", "--sheet", "0", "--precision", "float32")


@pytest.fixture
def folders(tmp_path):
    """Three contents and two styles."""
    rng = np.random.default_rng(0)
    for folder, count in {"contents": 3, "styles": 2}.items():
        (tmp_path / folder).mkdir()
        for i in range(count):
            squares = rng.random((6, 6, 3), np.float32).repeat(6, 0).repeat(6, 1)
            write_image(tmp_path / folder / f"{i}.png", squares)
    return tmp_path


def words(folders, kind="adain", styles="styles", output="out"):
    source = ("--contents", folders / "contents", "--styles", folders / styles)
    layers = LAYERS if kind == "adain" else ()
    return ("train", kind, *source, "-o", folders / output, *TINY, *layers)


@pytest.fixture
def run(command, folders):
    def run(*flags, **places):
        name, kind, *usual = words(folders, **places)
        return command(name, kind, *over([*usual, "--batch-size", "8", "--steps", "2"], flags))

    return run


def test_a_run_says_what_it_does(run, folders):
    ended = run()
    assert (ended.code, ended.out) == (0, "")
    first, second, *_, last = ended.err.splitlines()
    assert first == "encoder: vgg19, random (not trained)"
    assert "weights fetch vgg19-imagenet" in second
    assert last.endswith("generator.safetensors: adain after 2 steps")
    assert "2/2  total " in ended.err
    assert load_generator(folders / "out" / "generator.safetensors").layers == ("relu1_2",)


def test_memory_is_kept_behind_the_first_step(run, monkeypatch):
    """The compiler's, which is free by then, need not be."""
    events, make_step = [], loop.make_step

    def watched(*arguments, **options):
        step = make_step(*arguments, **options)
        return lambda *state: (events.append("step"), step(*state))[1]

    monkeypatch.setattr(loop, "make_step", watched)
    monkeypatch.setattr(devices, "run_inline", lambda: events.append("inline"))
    monkeypatch.setattr(devices, "keep_memory", lambda: events.append("keep"))
    assert run().code == 0
    assert events == ["inline", "step", "keep", "step", "keep"]


def test_quiet(run):
    assert run("--quiet").err == ""


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--learning-rate", "-1"), "learning rate must be greater than 0"),
        (("--batch-size", "3"), "must be a multiple of the number of devices (8), got 3"),
        (("--style-layers", "relu9_9"), "unknown layer 'relu9_9'"),
        (("--encoder", "vgg20"), "unknown backbone 'vgg20'"),
        (("--save", "0"), "save must be at least 1"),
        (("--contents", "nowhere"), "contents must be a folder of images, got nowhere"),
        (("--smoothing", "softmux"), "unknown smoothing 'softmux'"),
        (("--processes", "2"), "coordinator, processes and process belong together"),
        (("--global-weight", "2"), "unknown flag --global-weight"),
        (("--recipe", "sanet"), "unknown recipe 'sanet'"),
    ],
)
def test_bad_input_is_one_line(run, folders, unchecked, flags, message):
    assert message in run(*flags).problem
    assert not (folders / "out").exists()


def test_a_file_in_the_folder_s_place(run, folders):
    (folders / "out").write_text("taken")
    assert "out" in run().problem


def test_other_settings_are_refused(run):
    assert run().code == 0
    assert "got learning_rate 0.0001 there and 0.01 here" in run("--learning-rate", "0.01").problem


def test_a_loss_that_is_not_finite_has_an_exit_code_of_its_own(run):
    ended = run("--learning-rate", "3e38")
    assert ended.code == ExitCode.DIVERGED
    assert ended.err.splitlines()[-1].startswith("swag-jax: losses and updates must be finite, got ")


def test_sigterm_keeps_a_checkpoint_and_the_command_goes_on(run, folders, monkeypatch):
    real = loop.TrainProgress

    def interrupting(step, *values):
        if step == 1:
            signal.raise_signal(signal.SIGTERM)
        return real(step, *values)

    monkeypatch.setattr(loop, "TrainProgress", interrupting)
    ended = run("--steps", "4")
    assert ended.code == 143
    assert "Ctrl-C again to quit without a checkpoint" in ended.err
    assert ended.err.splitlines()[-1] == "stopped at step 2 of 4; the same command resumes"
    monkeypatch.undo()
    assert run("--steps", "4").code == 0
    assert [line["step"] for line in journal.read_journal(folders / "out" / "losses.jsonl")] == [1, 2, 3, 4]


def test_the_line_makes_room():
    losses = {"content/a": 1.0, "style/a": 2.0, "style/b": 3.0, "total": 6.0, "update": 0.1}
    progress = TrainProgress(5, 10, losses, 2.0, 0.25, 2.5, ())
    line = steps_line(progress)
    assert fit(line) == "5/10  total 6  content 1  style 5  2 steps/s  25% waiting for images  0:02 left"
    assert fit(line, 50) == "5/10  total 6  style 5  2 steps/s  0:02 left"
    assert fit(line, 10) == "5/10  0:02 left"


def start(folders, *flags, **places):
    """Begin in a process of its own."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"} | places.pop("environment", {})
    name, kind, *usual = words(folders, **places)
    line = map(str, (name, kind, *over(usual, flags)))
    return subprocess.Popen(
        [sys.executable, "-m", "swag_jax", *line], env=environment, stderr=subprocess.PIPE, text=True
    )


def finish(process):
    _, printed = process.communicate(timeout=300)
    assert process.returncode == 0, printed


def lines(folder):
    """Losses without what depends on the clock."""
    clock = ("steps_per_second", "waiting")
    return [{k: v for k, v in line.items() if k not in clock} for line in journal.read_journal(folder / "losses.jsonl")]


def test_a_killed_run_goes_on_and_ends_with_the_same_bits(folders):
    places = {"kind": "johnson", "styles": "styles/0.png"}
    narrow = ("--channels", "2", "--blocks", "1", "--content-layers", "relu1_2", "--style-layers", "relu1_2")
    narrow += ("--style-layer-weights", "1")
    flags = (*narrow, "--batch-size", "2", "--steps", "24", "--save", "4", "--crop", "32", "--size", "36", "--quiet")
    killed = start(folders, *flags, **places)
    while not (folders / "out" / "checkpoints" / "4").exists() and killed.poll() is None:
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    half = load_file(folders / "out" / "generator.safetensors")
    assert lines(folders / "out")[-1]["step"] < 24
    both = [start(folders, *flags, **places, output=output) for output in ("out", "unbroken")]
    for process in both:
        finish(process)
    found, expected = (load_file(folders / output / "generator.safetensors") for output in ("out", "unbroken"))
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    assert any((half[name] != values).any() for name, values in expected.items())
    assert lines(folders / "out") == lines(folders / "unbroken")
    assert lines(folders / "out")[-1]["total"] < lines(folders / "out")[0]["total"]
    assert load_generator(folders / "out" / "generator.safetensors").config == JohnsonConfig(channels=2, blocks=1)


def test_two_processes_train_one_generator(run, folders):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    flags = ("--batch-size", "8", "--steps", "2", "--save", "1", "--processes", "2")
    flags += ("--coordinator", f"127.0.0.1:{port}")
    two = {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"}

    def train():
        both = [start(folders, *flags, "--process", number, environment=two) for number in range(2)]
        for process in both:
            finish(process)

    train()
    assert run("--save", "1", output="alone").code == 0
    shutil.rmtree(folders / "out" / "checkpoints" / "2")
    train()  # goes on from the first step
    for one, other in zip(lines(folders / "out"), lines(folders / "alone"), strict=True):
        assert one == pytest.approx(other, rel=1e-3)
    generators = [load_file(folders / output / "generator.safetensors") for output in ("out", "alone")]
    for name, values in generators[1].items():
        np.testing.assert_allclose(generators[0][name], values, atol=5e-4)  # two of Adam's steps are 2e-4 at most
    facts = [json.loads((folders / output / "settings.json").read_text()) for output in ("out", "alone")]
    assert [fact.pop("processes") for fact in facts] == [2, 1]
    assert facts[0] == facts[1]
