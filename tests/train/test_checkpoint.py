"""Checkpoints that were damaged behind the back of their run: the last sound one is taken, and the others are kept."""

import json
import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from swag_jax._checks import UserError
from swag_jax.train.checkpoint import DAMAGED, Checkpoints

PLACE = {"next_index": 0}


def state(step, width=40):
    parameters = {"a.kernel": np.linspace(0, step, 30 * width, dtype=np.float32).reshape(30, width), "b": np.ones(3)}
    parameters = {name: array.astype(np.float32) for name, array in parameters.items()}
    parts = {"parameters": parameters, "optimizer": optax.adam(1e-3).init(parameters)}
    parts |= {"step": np.array(step, np.int32), "key": np.array([0, 1], np.uint32)}
    return jax.tree.map(np.asarray, parts)


def write(folder):
    with Checkpoints(folder, keep=3) as checkpoints:
        for step in (3, 6):
            checkpoints.save(state(step), {"next_index": 10 * step})
    return folder


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The checkpoints of steps 3 and 6."""
    return write(tmp_path_factory.mktemp("run") / "checkpoints")


@pytest.fixture
def copy(sound, tmp_path):
    return Path(shutil.copytree(sound, tmp_path / "checkpoints"))


def restore(folder, like=None):
    with Checkpoints(folder, keep=3) as checkpoints:
        return checkpoints.restore(state(0) if like is None else like, PLACE)


def assert_step(found, step):
    restored, place, damage = found
    expected = state(step)
    assert jax.tree.structure(restored) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, restored, expected)
    assert place == {"next_index": 10 * step}
    return damage


def largest(folder):
    return max((p for p in (folder / "state").rglob("*") if p.parent.name == "d"), key=lambda p: p.stat().st_size)


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def renamed_key(folder):
    """A hash whose name is damaged must not pass for none."""
    noted = json.loads((folder / "data" / "metadata").read_text())
    (folder / "data" / "metadata").write_text(json.dumps({**noted, "sha257": noted.pop("sha256")}))


def other_place(folder):
    noted = json.loads((folder / "data" / "metadata").read_text())
    (folder / "data" / "metadata").write_text(json.dumps({**noted, "next_index": 61}))


DAMAGE = {
    "largest file cut": lambda folder: largest(folder).write_bytes(largest(folder).read_bytes()[:100]),
    "largest file missing": lambda folder: largest(folder).unlink(),
    "largest file empty": lambda folder: largest(folder).write_bytes(b""),
    "no state": lambda folder: shutil.rmtree(folder / "state"),
    "no data": lambda folder: shutil.rmtree(folder / "data"),
    "data empty": lambda folder: (folder / "data" / "metadata").write_bytes(b""),
    "data no object": lambda folder: (folder / "data" / "metadata").write_bytes(b"[3]"),
    "data without hash's name": renamed_key,
    "data of another place": other_place,
    "garbage in _METADATA": lambda folder: (folder / "state" / "_METADATA").write_bytes(b"\xff garbage"),
    "nested _METADATA": lambda folder: (folder / "state" / "_METADATA").write_bytes(b"[" * 100_000),
    "no _METADATA": lambda folder: (folder / "state" / "_METADATA").unlink(),
    "an empty folder": empty,
    "all files empty": lambda folder: [path.write_bytes(b"") for path in folder.rglob("*") if path.is_file()],
    "another step's": lambda folder: (shutil.rmtree(folder), shutil.copytree(folder.parent / "3", folder)),
}


def test_the_last_one_is_taken_where_all_are_sound(copy):
    assert assert_step(restore(copy), 6) == []
    assert not (copy.parent / DAMAGED).exists()


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_the_sound_one_before_a_damaged_one_is_taken(copy, damage, capfd):
    damage(copy / "6")
    (line,) = assert_step(restore(copy), 3)
    assert "step 6 is damaged" in line
    assert "resumes from step 3" in line
    assert "\n" not in line
    assert sorted(path.name for path in copy.iterdir()) == ["3"]
    assert [path.name for path in (copy.parent / DAMAGED).iterdir()] == ["6"]
    assert capfd.readouterr().err == ""


def test_the_step_of_a_damaged_one_is_written_again(copy):
    for again in ("6", "6-2"):
        empty(copy / "6")
        with Checkpoints(copy, keep=3) as checkpoints:
            assert_step(checkpoints.restore(state(0), PLACE), 3)
            checkpoints.save(state(6), {"next_index": 60})
        assert (copy.parent / DAMAGED / again).exists()
    assert assert_step(restore(copy), 6) == []


@pytest.mark.parametrize("damage", ["largest file cut", "no data", "an empty folder", "all files empty"])
def test_none_is_touched_where_none_is_sound(copy, damage):
    for step in ("3", "6"):
        DAMAGE[damage](copy / step)
    before = sorted(path.relative_to(copy.parent) for path in copy.rglob("*"))
    with pytest.raises(UserError, match=r"a checkpoint that is sound, got step 6: .*; step 3: .*: .*another folder"):
        restore(copy)
    assert sorted(path.relative_to(copy.parent) for path in copy.rglob("*")) == before
    assert not (copy.parent / DAMAGED).exists()


def test_no_flipped_bit_is_resumed(sound, tmp_path):
    """Wherever a bit flips, what is restored is what was written at one of the steps."""
    rng, fell_back = np.random.default_rng(0), 0
    files = [path.relative_to(sound) for path in (sound / "6").rglob("*") if path.is_file()]
    sizes = np.array([(sound / path).stat().st_size for path in files], float)
    for number in range(24):
        folder = tmp_path / str(number) / "checkpoints"
        shutil.copytree(sound, folder)
        # Half of the flips where the most bytes are, half in any file.
        path = folder / files[rng.choice(len(files), p=sizes / sizes.sum() if number % 2 else None)]
        data = bytearray(path.read_bytes())
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        path.write_bytes(data)
        found = restore(folder)
        fell_back += len(assert_step(found, int(found[0]["step"])))
        shutil.rmtree(tmp_path / str(number))
    assert 6 <= fell_back < 24


def test_checkpoints_without_a_hash_are_read(tmp_path):
    """As version 0.1.0 wrote them."""
    folder = tmp_path / "checkpoints"
    with ocp.CheckpointManager(folder, options=ocp.CheckpointManagerOptions(max_to_keep=3)) as manager:
        args = ocp.args.Composite(state=ocp.args.StandardSave(state(3)), data=ocp.args.JsonSave({"next_index": 30}))
        manager.save(3, args=args)
    assert assert_step(restore(folder), 3) == []


def test_another_generator_s_checkpoint_is_refused(copy):
    with pytest.raises(UserError, match=r"of such a generator, got .*\[30, 40\] there and float32\[30, 50\] here"):
        restore(copy, state(0, width=50))
    other = state(0)
    other["parameters"]["c"] = other["parameters"].pop("b")
    with pytest.raises(UserError, match=r"got parameters/b .* there and missing here"):
        restore(copy, other)
    assert sorted(path.name for path in copy.iterdir()) == ["3", "6"]


@pytest.mark.parametrize("where", ["save", "wait_until_finished", "close"])
def test_a_checkpoint_that_cannot_be_written_is_one_error(tmp_path, monkeypatch, where):
    """As on a full disk, which Orbax tells of when it is used next."""

    def full(*_, **__):
        raise ValueError("RESOURCE_EXHAUSTED: no space left\nin many\nlines")

    def write():
        with Checkpoints(tmp_path / "checkpoints", keep=3) as checkpoints:
            monkeypatch.setattr(checkpoints._manager, where, full)
            checkpoints.save(state(3), PLACE)
            checkpoints.wait()

    with pytest.raises(UserError, match=r"cannot write a checkpoint in .*: RESOURCE_EXHAUSTED: no space left: make"):
        write()


def test_no_checkpoints(tmp_path):
    assert restore(tmp_path / "checkpoints") is None


def test_a_file_in_the_folder_s_place(tmp_path):
    (tmp_path / "checkpoints").write_text("taken")
    with pytest.raises(UserError, match="must be a folder"):
        restore(tmp_path / "checkpoints")


def test_what_hears_of_other_failures_is_left_alone(copy):
    hook = sys.unraisablehook
    DAMAGE["largest file cut"](copy / "6")
    restore(copy)
    assert sys.unraisablehook is hook
