"""A run in its folder: what it writes, how it goes on, and how it ends."""

import json
import shutil
import sys

import jax
import numpy as np
import pytest

from swag_jax import load_generator
from swag_jax._checks import UserError
from swag_jax.params.safetensors_file import read_metadata
from swag_jax.params.tree import flat_parameters
from swag_jax.train import Cadence, NonFiniteStepError, journal, loop, train_generator

EVERY = Cadence(log=1, save=2, sheet=0)
FINE = Cadence(log=1, save=1, sheet=0)


@pytest.fixture
def run(folders, tmp_path, small):
    """Train an AdaIN generator for four steps in `tmp_path/NAME`."""

    def run(name="run", contents=None, styles=None, kind="adain", cadence=EVERY, options=None, **changes):
        contents, styles = contents or folders / "contents", styles or folders / "styles"
        settings = small[kind].replace(**changes)
        return train_generator(settings, contents, styles, tmp_path / name, cadence=cadence, **(options or {}))

    return run


@pytest.fixture(scope="module")
def unbroken(folders, tmp_path_factory, small):
    """The folder and the result of a run, and every progress."""
    folder, seen = tmp_path_factory.mktemp("unbroken"), []
    cadence = Cadence(log=1, save=2, keep=1, sheet=4, shown=2)
    options = {"cadence": cadence, "tensorboard": True, "callback": seen.append}
    result = train_generator(small["adain"], folders / "contents", folders / "styles", folder, **options)
    return folder, result, seen


def losses_of(folder):
    """The lines of a run without what depends on the clock."""
    lines = journal.read_journal(folder / "losses.jsonl")
    return [{k: v for k, v in line.items() if k not in ("steps_per_second", "waiting")} for line in lines]


def assert_same(first, second):
    ours, theirs = flat_parameters(first), flat_parameters(second)
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name])


def test_what_a_run_leaves(unbroken):
    folder, result, seen = unbroken
    assert (result.status, result.step, result.path) == ("done", 4, folder / "generator.safetensors")
    assert_same(load_generator(result.path), result.generator)
    assert [path.name for path in folder.glob("generator-*")] == ["generator-0000004.safetensors"]
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["4"]
    assert [path.name for path in (folder / "samples").iterdir()] == ["step-0000004.png"]
    assert list((folder / "tensorboard").glob("events*"))
    assert [line["step"] for line in losses_of(folder)] == [1, 2, 3, 4]
    assert [progress.step for progress in seen] == [1, 2, 3, 4]
    assert seen[-1].seconds_left == 0
    assert all(0 <= progress.waiting <= 1 and progress.rate > 0 for progress in seen)


def test_a_generator_says_what_it_was_trained_with(unbroken):
    folder, result, _ = unbroken
    notes = read_metadata(folder / "generator.safetensors")
    expected = {"encoder": "random", "encoder_backbone": "vgg19", "encoder_kind": "random", "encoder_seed": "0"}
    assert {name: notes[name] for name in expected} == expected
    assert notes["step"] == "4"
    facts = json.loads((folder / "settings.json").read_text())
    assert json.loads(notes["training"]) == facts
    assert (facts["generator"], facts["steps"], facts["contents"][:9]) == ("adain", 4, "12 images")
    assert result.source.kind == "random"


def test_a_stopped_run_goes_on_as_if_nothing_had_happened(run, unbroken, tmp_path):
    folder, whole, _ = unbroken
    asked = iter([False, False, True])
    stopped = run(options={"interrupted": lambda: next(asked)})
    assert (stopped.status, stopped.step) == ("stopped", 3)
    result = run()
    assert (result.status, result.step) == ("done", 4)
    assert_same(result.generator, whole.generator)
    assert losses_of(tmp_path / "run") == losses_of(folder)
    assert_same(run().generator, whole.generator)  # there is nothing left to do


def test_a_warm_up_comes_first_and_is_resumed(run, tmp_path):
    asked = iter([False, True])
    options = {"interrupted": lambda: next(asked)}
    long = Cadence(log=100, save=100, sheet=0)
    assert run(warmup=3, cadence=long, options=options).step == 2
    resumed, unbroken = run(warmup=3, cadence=long), run("unbroken", warmup=3, cadence=long)
    assert_same(resumed.generator, unbroken.generator)
    terms = {line["step"]: set(line) & {"pixels", "content/relu1_2"} for line in losses_of(tmp_path / "unbroken")}
    assert terms == {1: {"pixels"}, 3: {"pixels"}, 4: {"content/relu1_2"}}


def test_more_steps_go_on_where_the_step_size_does_not_depend_on_them(run, unbroken):
    _, whole, _ = unbroken
    run(steps=2)
    assert_same(run(steps=4).generator, whole.generator)


def test_other_settings_are_refused_by_name(run, small, tmp_path):
    run(steps=2)
    before = (tmp_path / "run" / "settings.json").read_text()
    with pytest.raises(UserError, match=r"a run of these settings, got learning_rate 0.0001 there and 0.01 here;"):
        run(steps=2, learning_rate=1e-2, seed=1)
    with pytest.raises(UserError, match=r"got objective.style_weight 10.0 there and 3.0 here: choose another -o"):
        run(steps=2, objective=small["adain"].objective.replace(style_weight=3.0))
    with pytest.raises(UserError, match=r"got drops .* there and .*; steps 2 there and 4 here"):
        run(steps=4, drops=(0.5,))
    assert (tmp_path / "run" / "settings.json").read_text() == before


def test_a_run_may_start_with_a_checkpoint(run, unbroken, tmp_path):
    _, whole, _ = unbroken
    seen = []
    tuned = run(init=str(whole.path), steps=1, learning_rate=1e-3, options={"callback": seen.append})
    before, after = flat_parameters(whole.generator), flat_parameters(tuned.generator)
    change = max(float(np.abs(after[name] - before[name]).max()) for name in before)
    assert change == pytest.approx(1e-3, rel=1e-2)  # Adam's first step, of a fresh optimizer, is the step size
    assert [progress.step for progress in seen] == [1]
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["init"] != "random"
    with pytest.raises(UserError, match=r"a run of these settings, got init [0-9a-f]{64} there and random here"):
        run(steps=1, learning_rate=1e-3)


def test_a_checkpoint_of_another_generator_is_no_start(run, unbroken, tmp_path):
    _, whole, _ = unbroken
    with pytest.raises(UserError, match=r"must have the parameters of AdaAttNConfig\(.*, got AdaINConfig\(.*: choose"):
        run(kind="adaattn", init=str(whole.path))
    with pytest.raises(UserError, match=r"none\.safetensors"):
        run(init=str(tmp_path / "none.safetensors"))
    assert not (tmp_path / "run").exists()


def test_other_images_are_refused(run, folders):
    run(steps=2)
    with pytest.raises(UserError, match=r"got contents 12 images .* there and 1 images .* here"):
        run(steps=2, contents=folders / "contents" / "more")


@pytest.fixture
def broken_step(monkeypatch):
    """Let the third step report a style loss that is not a number."""
    real = loop.make_step

    def make_step(settings, config, **options):
        advance = real(settings, config, **options)

        def step(encoder, targets, state, batch):
            third = int(state["step"]) == 2
            state, report = advance(encoder, targets, state, batch)
            return state, {**report, "style/relu1_1": jax.numpy.nan, "total": jax.numpy.nan} if third else report

        return step

    monkeypatch.setattr(loop, "make_step", make_step)


def test_a_loss_that_is_not_finite_ends_the_run_behind_the_last_good_checkpoint(run, broken_step, tmp_path):
    message = "finite, got nan for style/relu1_1 at step 3; the checkpoint of step 2 is kept: lower the learning rate"
    with pytest.raises(NonFiniteStepError, match=message) as raised:
        run()
    assert (raised.value.step, raised.value.term) == (3, "style/relu1_1")
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["2"]
    assert read_metadata(tmp_path / "run" / "generator.safetensors")["step"] == "2"
    assert [line["step"] for line in losses_of(tmp_path / "run")] == [1, 2]


def test_an_update_that_is_not_finite_ends_the_run(run):
    with pytest.raises(NonFiniteStepError, match="there is no checkpoint yet"):
        run(learning_rate=3e38, decay=0.0)


def test_damaged_images_are_told_and_left_out(run, folders, tmp_path):
    styles = tmp_path / "styles"
    styles.mkdir()
    (styles / "bad.png").write_text("no image")
    (styles / "good.png").write_bytes((folders / "styles" / "0.png").read_bytes())
    seen = []
    run(steps=2, styles=styles, options={"callback": seen.append})
    told = [line for progress in seen for line in progress.damaged]
    assert len(told) == 1
    assert "bad.png must hold an image" in told[0]


def test_johnson_learns_one_style(run, tmp_path):
    with pytest.raises(UserError, match="a johnson generator learns one style, got 3 images in"):
        run(kind="johnson")
    assert not (tmp_path / "run").exists()


def test_nothing_is_written_where_the_run_cannot_begin(run, tmp_path):
    with pytest.raises(UserError, match="multiple of the number of devices"):
        run(batch_size=3)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("name", "value"), [("log", 0), ("save", 0), ("keep", 0), ("sheet", -1)])
def test_bad_cadence(name, value):
    with pytest.raises(UserError, match=f"{name} must be at least"):
        Cadence(**{name: value})


def test_a_journal_drops_what_comes_later_and_half_lines(tmp_path):
    path = tmp_path / "losses.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    made = journal.Journal(tmp_path, step=2)
    made.write(3, {"total": 0.5})
    made.close()
    assert journal.read_journal(path) == [{"step": 1}, {"step": 2}, {"step": 3, "total": 0.5}]


@pytest.mark.parametrize(
    ("damage", "number"),
    [
        (b"3\n", 1),
        (b'{"a": 1}\n', 1),
        (b'{"step": "2"}\n{"step": true}\n{"step": 2.0}\n', 3),
        (b'{"step": 2, "total": "low"}\n{"step": 2, "total": [1]}\n', 2),
        (b"\xff\n\x00\x00\n", 2),
        (b"[" * 100_000 + b"\n", 1),
    ],
)
def test_a_journal_drops_damaged_lines(tmp_path, damage, number):
    path = tmp_path / "losses.jsonl"
    path.write_bytes(b'{"step": 1, "total": 0.5}\n' + damage + b'{"step": 2, "total": 0.25}\n')
    made = journal.Journal(tmp_path, step=2)
    made.close()
    assert made.damaged == number
    assert journal.read_journal(path) == [{"step": 1, "total": 0.5}, {"step": 2, "total": 0.25}]


@pytest.fixture
def two_steps(unbroken_half, tmp_path):
    """The folder of a run of two of four steps, to be damaged."""
    return shutil.copytree(unbroken_half, tmp_path / "run")


@pytest.fixture(scope="module")
def unbroken_half(folders, tmp_path_factory, small):
    folder = tmp_path_factory.mktemp("half") / "run"
    train_generator(small["adain"].replace(steps=2), folders / "contents", folders / "styles", folder, cadence=FINE)
    return folder


def state_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_damaged_checkpoint_is_trained_again_to_the_same_bits(run, two_steps, unbroken):
    _, whole, _ = unbroken
    shutil.rmtree(two_steps / "checkpoints" / "2" / "state")
    (two_steps / "losses.jsonl").write_bytes(b"\xff\n" + (two_steps / "losses.jsonl").read_bytes())
    seen = []
    result = run(cadence=FINE, options={"notice": seen.append})
    assert_same(result.generator, whole.generator)
    assert ["step 2 is damaged" in line for line in seen] == [True, False]
    assert "1 damaged lines" in seen[1]
    assert [line["step"] for line in losses_of(two_steps)] == [1, 2, 3, 4]
    assert (two_steps / "damaged" / "2").is_dir()


@pytest.mark.parametrize("content", [None, b"", b"\xff garbage", b"[" * 100_000, b"3", b'{"a":'])
def test_damaged_settings_are_those_of_the_generators(run, two_steps, content):
    before = (two_steps / "settings.json").read_bytes()
    if content is None:
        (two_steps / "settings.json").unlink()
    else:
        (two_steps / "settings.json").write_bytes(content)
    with (
        pytest.raises(UserError, match=r"got learning_rate 0\.0001 there and 0\.01 here"),
        pytest.warns(match="settings of the run are those"),
    ):
        run(steps=2, learning_rate=1e-2)
    (two_steps / "generator.safetensors").write_bytes(b"damaged too")
    seen = []
    assert run(steps=2, options={"notice": seen.append}).step == 2
    assert (two_steps / "settings.json").read_bytes() == before
    assert len(seen) == 1
    assert "settings.json" in seen[0]


@pytest.mark.parametrize("content", [None, b"", b"\xff garbage", b"3"])
def test_a_run_whose_settings_are_lost_is_refused(run, two_steps, content):
    (two_steps / "settings.json").unlink()
    if content is not None:
        (two_steps / "settings.json").write_bytes(content)
    for path in two_steps.glob("generator*.safetensors"):
        path.unlink()
    before = state_of(two_steps)
    with pytest.raises(
        UserError, match=r"must hold the settings of the run .*: bring back a copy, or choose another -o"
    ):
        run(steps=2)
    assert state_of(two_steps) == before


@pytest.mark.parametrize(
    "content", [b'{"learning_rate": [1], "a\\u001b[31m": "\\u001b[31m"}', b"{}", b'{"a": {"b": {"c": 1}}}']
)
def test_settings_of_something_else_are_refused_in_one_line(run, two_steps, content):
    (two_steps / "settings.json").write_bytes(content)
    before = state_of(two_steps)
    with pytest.raises(UserError, match=r"must hold a run of these settings, got .*; and [0-9]+ more") as raised:
        run(steps=2)
    assert "\x1b" not in str(raised.value)
    assert state_of(two_steps) == before


@pytest.mark.parametrize("damage", ["all damaged", "all gone"])
def test_a_run_without_a_sound_checkpoint_does_not_begin_anew(run, two_steps, damage):
    for step in list((two_steps / "checkpoints").iterdir()):
        shutil.rmtree(step)
        if damage == "all damaged":
            step.mkdir()
    before = state_of(two_steps)
    with pytest.raises(UserError, match=r"must hold (a checkpoint that is sound|the checkpoints of its generator)"):
        run()
    assert state_of(two_steps) == before


def test_a_run_that_was_killed_at_its_first_checkpoint_begins_anew(run, two_steps):
    for step in list((two_steps / "checkpoints").iterdir()):
        shutil.rmtree(step)
    (two_steps / "checkpoints" / "1.orbax-checkpoint-tmp").mkdir()
    assert run(steps=2, cadence=FINE).step == 2


def test_tensorboard_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UserError, match=r"tensorboardX, got no such package: pip install 'swag-jax\[train\]'"):
        journal.find_event_writer()
