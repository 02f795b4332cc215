"""A run goes on as if nothing had happened, and becomes a checkpoint that style transfer reads."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pictures
import pytest
import recipe as r
import train

from swag_jax._checks import UserError

RECIPE = r.Recipe(
    "vgg19", epochs=1, batch=8, learning_rate=0.02, sizes=((1.0, 32),), precision="float32", until="relu2_1"
)


def run(folder, data, recipe=RECIPE, **options):
    splits = (pictures.read(data, split) for split in ("train", "val"))
    return train.Run(recipe, folder, *splits, report=1, validated=4, say=lambda line: None, **options)


def lines_of(made):
    lines = []
    made.say = lines.append
    made.go()
    return lines


def parameters(folder, step):
    with ocp.CheckpointManager((folder / "checkpoints").absolute()) as manager:
        assert manager.latest_step() == step
        return manager.restore(step, args=ocp.args.StandardRestore())


@pytest.fixture(scope="module")
def unbroken(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    found = run(folder, data).go()
    return folder, found


def test_a_run_reports_and_validates(unbroken):
    folder, found = unbroken
    entries = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    steps = [entry for entry in entries if "loss" in entry]
    assert [entry["step"] for entry in steps] == [1, 2, 3, 4]
    assert {entry["size"] for entry in steps} == {32}
    assert entries[-1] == found
    assert found["validated"] == 8
    assert 0 <= found["top1"] <= 1


def test_an_interrupted_run_ends_with_the_same_parameters(unbroken, data, tmp_path):
    stopping = run(tmp_path, data)
    stopping.say = lambda line: setattr(stopping, "stopped", "step 1/" in line)  # step 2 is the last
    stopping.go()
    assert "going on from step 2" in lines_of(run(tmp_path, data))
    expected, found = parameters(unbroken[0], 4), parameters(tmp_path, 4)
    assert jax.tree.structure(expected) == jax.tree.structure(found)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_finished_run_stays_as_it_is(unbroken, data):
    before = parameters(unbroken[0], 4)
    assert run(unbroken[0], data).go() == {}
    jax.tree.map(np.testing.assert_array_equal, parameters(unbroken[0], 4), before)


def test_another_recipe_is_refused(unbroken, data):
    other = dataclasses.replace(RECIPE, learning_rate=0.5)
    with pytest.raises(UserError, match=r"must hold a run of this recipe.*'learning_rate': \(0.02, 0.5\)"):
        run(unbroken[0], data, other).go()


def test_a_loss_that_is_not_finite_stops_the_run(data, tmp_path):
    wild = run(tmp_path, data, dataclasses.replace(RECIPE, learning_rate=1e30), keep=1)
    with pytest.raises(train.NonFiniteLossError, match="must stay finite; one was not between steps"):
        wild.go()
    with ocp.CheckpointManager((tmp_path / "checkpoints").absolute()) as manager:
        kept = manager.restore(manager.latest_step(), args=ocp.args.StandardRestore())
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(kept["parameters"]))


def test_no_steps_are_refused(data, tmp_path):
    with pytest.raises(UserError, match=r"at least one step, got 0\.01 epochs of 32 pictures in batches of 8"):
        run(tmp_path, data, dataclasses.replace(RECIPE, epochs=0.01))


def test_accuracy_counts_right_answers(data):
    validation = pictures.read(data, "val")
    state = r.initial_state(RECIPE, 1, validation.pixels)
    state["averages"]["parameters"]["head"]["bias"] = jnp.zeros(r.CLASSES).at[1].set(1e6)
    assert train.top1(RECIPE, state["averages"], validation, count=8) == 0.5
    half = dataclasses.replace(validation, labels=np.ones_like(validation.labels))
    assert train.top1(RECIPE, state["averages"], half, count=8) == 1.0


def test_command_line(data, tmp_path, capsys):
    assert train.main(["vgg19", "--data", str(tmp_path), "-o", str(tmp_path / "run")]) == 2
    assert "must hold pictures in train/CLASS/" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    given = train.parser().parse_args(["resnet50", "--data", "d", "-o", "o", "--epochs", "0.5", "--seed", "3"])
    assert (given.epochs, given.seed, "batch" in given) == (0.5, 3, False)
    precise = train.parser().parse_args(["vgg19", "--data", "d", "-o", "o", "--precision", "float32"])
    assert precise.precision == "float32"
    with pytest.raises(SystemExit, match="2"):
        train.parser().parse_args(["vgg19", "--data", "d", "-o", "o", "--precision", "float8"])


def test_both_splits_must_have_the_same_classes(data, tmp_path):
    train_split, validation = (pictures.read(data, split) for split in ("train", "val"))
    other = dataclasses.replace(validation, classes=("across",))
    with pytest.raises(UserError, match="must hold the same classes, at most 200, got 2 and 1, 1 of them in one only"):
        train.Run(RECIPE, tmp_path, train_split, other)
    many = tuple(map(str, range(201)))
    splits = (dataclasses.replace(split, classes=many) for split in (train_split, validation))
    with pytest.raises(UserError, match="got 201 and 201, 0 of them"):
        train.Run(RECIPE, tmp_path, *splits)
