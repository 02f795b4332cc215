"""A file is written whole or not at all."""

import pytest

from swag_jax import UserError
from swag_jax._files import check_target, read_json_lines, replacing


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_new_file_replaces_the_old_one(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == path.parent
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["out.txt"]


def test_missing_folders_are_made(tmp_path):
    path = tmp_path / "a" / "b" / "out.txt"
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


def write_half(path, failure):
    with replacing(path) as temporary:
        temporary.write_text("half")
        raise failure


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_failure_keeps_the_old_file_and_leaves_nothing(tmp_path, failure):
    path = tmp_path / "out.txt"
    path.write_text("old")
    with pytest.raises(failure):
        write_half(path, failure)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["out.txt"]


def test_a_failure_before_anything_is_written_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), replacing(tmp_path / "out.txt"):
        raise RuntimeError
    assert names(tmp_path) == []


def test_two_writers_do_not_meet(tmp_path):
    path = tmp_path / "out.txt"
    with replacing(path) as first, replacing(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # the outer one ends last
    assert names(tmp_path) == ["out.txt"]


def check_unwritable(path, message):
    with pytest.raises(UserError, match=message) as caught, replacing(path) as temporary:
        temporary.write_text("new")
    assert str(caught.value).startswith(f"cannot write {path}: ")
    assert str(caught.value).endswith(": choose a folder you may write to.")


def test_a_folder_in_the_way_is_explained(tmp_path):
    (tmp_path / "out.txt").mkdir()
    check_unwritable(tmp_path / "out.txt", "Is a directory")
    assert names(tmp_path) == ["out.txt"]


def test_a_file_as_the_folder_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    check_unwritable(tmp_path / "file" / "out.txt", "File exists|Not a directory")


def test_a_name_that_is_too_long_is_explained(tmp_path):
    check_unwritable(tmp_path / ("x" * 300), "File name too long")
    assert names(tmp_path) == []


def test_a_nul_character_is_explained(tmp_path):
    with pytest.raises(UserError, match="a file's name must not contain a NUL character"), replacing(tmp_path / "a\0b"):
        pass


@pytest.mark.parametrize("place", [".", "none/out.txt", "file/out.txt"])
def test_targets_that_cannot_be_written(tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^the list must name a file in an existing, writable folder, got "):
        check_target(tmp_path / place, what="the list")


def test_targets_that_can(tmp_path):
    (tmp_path / "old.txt").touch()
    for name in ("old.txt", "new.txt"):
        check_target(tmp_path / name, what="the list")
    assert names(tmp_path) == ["old.txt"]


@pytest.mark.parametrize(
    ("content", "objects", "damaged"),
    [
        (b"", [], 0),
        (b'{"a": 1}\n', [{"a": 1}], 0),
        (b'{"a": 1}\r\n\r\n{"b": 2}', [{"a": 1}, {"b": 2}], 0),
        (b'{"a": 1}\n{"b": 2', [{"a": 1}], 0),
        (b'{"a": 1}\n{"b": 2\n{"c": 3}\n', [{"a": 1}, {"c": 3}], 1),
        (b'\xff\xfe\n{"a": "\xff"}\n{"b": "\xc3\xa4"}\n', [{"b": "ä"}], 2),
        (b"[" * 100_000 + b'\n{"a": 1}\n', [{"a": 1}], 1),
        (b'{"a":' * 100_000 + b'\n{"a": 1}\n', [{"a": 1}], 1),
        (b'3\n"a"\nnull\n[1]\ntrue\n{"a": 1}\n', [{"a": 1}], 5),
        (b"9" * 5000 + b'\n{"a": 1}\n', [{"a": 1}], 1),
        (bytes(4096) + b'\n{"a": 1}\n', [{"a": 1}], 1),
    ],
    ids=lambda value: str(value)[:20],
)
def test_lines_of_json_from_any_bytes(tmp_path, content, objects, damaged):
    (tmp_path / "lines.jsonl").write_bytes(content)
    assert read_json_lines(tmp_path / "lines.jsonl") == (objects, damaged)


def test_lines_of_no_file(tmp_path):
    assert read_json_lines(tmp_path / "none.jsonl") == ([], 0)
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(UserError, match=r"folder.jsonl must be a file"):
        read_json_lines(tmp_path / "folder.jsonl")
