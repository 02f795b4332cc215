"""A file is written whole or not at all."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from swag_jax import UserError
from swag_jax._files import (
    check_apart,
    check_target,
    place,
    read_json_lines,
    replacing,
    sweep,
    tells_of_no_room,
    what_is_missing,
    write_whole,
)


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


@pytest.mark.parametrize("kind", ["pipe", "loop", "device", "link to a device"])
def test_only_files_are_replaced(tmp_path, kind):
    path = tmp_path / "out.txt"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/null")
    else:
        path.symlink_to({"loop": "out.txt", "link to a device": "/dev/null"}[kind])
    for attempt in (lambda: write_whole(path, b"new"), lambda: check_target(path, what="the list")):
        with pytest.raises(UserError, match=r"must be a file to write, got a (device or pipe|link that leads)"):
            attempt()
    assert Path("/dev/null").is_char_device()
    assert kind != "pipe" or path.is_fifo()


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_and_its_file_is_replaced(tmp_path, exists):
    (tmp_path / "far").mkdir()
    target, link, second = tmp_path / "far" / "out.txt", tmp_path / "link.txt", tmp_path / "second.txt"
    if exists:
        target.write_text("old")
    link.symlink_to("far/out.txt")
    second.symlink_to("link.txt")
    write_whole(second, b"new")
    assert (link.is_symlink(), second.is_symlink(), target.is_symlink()) == (True, True, False)
    assert target.read_text() == "new"
    assert names(tmp_path) == ["far", "link.txt", "second.txt"]
    assert names(tmp_path / "far") == ["out.txt"]


def test_what_killed_runs_left_is_removed_and_nothing_else(tmp_path):
    ours, users = ".0123456789abcdef.part", ["film.part", ".0123456789abcdef.part.txt", ".notes.part"]
    for name in (ours, *users):
        (tmp_path / name).write_text("half")
    (tmp_path / ".aaaaaaaaaaaaaaaa.part").mkdir()
    (tmp_path / ".bbbbbbbbbbbbbbbb.part").symlink_to("film.part")
    kept = sorted([*users, ".aaaaaaaaaaaaaaaa.part", ".bbbbbbbbbbbbbbbb.part"])
    write_whole(tmp_path / "first.txt", b"new")
    assert names(tmp_path) == sorted([*kept, "first.txt"])
    (tmp_path / ours).write_text("half")
    check_apart([("the list", tmp_path / "list.txt")])
    assert names(tmp_path) == sorted([*kept, "first.txt"])


WRITING = """
import sys
from pathlib import Path
from swag_jax._files import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print(temporary.name, flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("killed", [True, False])
def test_another_process_keeps_what_it_writes_until_it_is_killed(tmp_path, killed):
    path = tmp_path / "out.txt"
    command = [sys.executable, "-c", WRITING, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        name = writer.stdout.readline().strip()
        sweep(tmp_path)
        assert names(tmp_path) == [name]
        if killed:
            writer.kill()
        else:
            writer.communicate("go on\n")
    sweep(tmp_path)
    assert names(tmp_path) == ([] if killed else ["out.txt"])


def test_a_file_that_was_swept_away_while_it_was_made_is_made_again(tmp_path, monkeypatch):
    opened, made = os.open, []

    def raced(path, *options):
        handle = opened(path, *options)
        if str(path).endswith(".part"):
            made.append(path)
            if len(made) == 1:
                Path(path).unlink()
        return handle

    monkeypatch.setattr(os, "open", raced)
    write_whole(tmp_path / "out.txt", b"new")
    assert (tmp_path / "out.txt").read_bytes() == b"new"


def test_too_little_kept_is_no_file(tmp_path, monkeypatch):
    path = tmp_path / "out.txt"
    path.write_text("old")
    monkeypatch.setattr(Path, "write_bytes", lambda self, data: self.open("wb").close())
    with pytest.raises(UserError, match=r"^cannot write .*out\.txt: only 0 of 3 bytes .*: make room on the disk\.$"):
        write_whole(path, b"new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["out.txt"]


def test_text_is_appended_whole_or_not_at_all(tmp_path):
    script = """
import resource, sys
from pathlib import Path
from swag_jax._files import append
path = Path(sys.argv[1])
append(path, "one\\n")
resource.setrlimit(resource.RLIMIT_FSIZE, (6, 6))
try:
    append(path, "second\\n")
except Exception as problem:
    print(type(problem).__name__, problem)
append(path, "2\\n")
"""
    path = tmp_path / "lines.txt"
    ran = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith(f"UserError cannot write {path}: ")
    assert path.read_text() == "one\n2\n"


def test_a_disk_without_room_is_known_through_any_library():
    inner = OSError(errno.ENOSPC, "wherever")
    outer = RuntimeError("a checkpoint failed")
    outer.__cause__ = inner
    assert tells_of_no_room(inner)
    assert tells_of_no_room(outer)
    assert tells_of_no_room(ValueError(f"UNKNOWN: {os.strerror(errno.EFBIG)} [source locations]"))
    assert not tells_of_no_room(ValueError("another"))
    assert not tells_of_no_room(OSError(errno.EACCES, "denied"))


def spellings(folder):
    """Ways to write one file's path."""
    (folder / "sub").mkdir()
    (folder / "mine.png").write_text("mine")
    (folder / "link.png").symlink_to("mine.png")
    (folder / "chain.png").symlink_to("link.png")
    os.link(folder / "mine.png", folder / "hard.png")
    (folder / "way").symlink_to(folder, target_is_directory=True)
    return [
        *("mine.png", "./mine.png", "sub/../mine.png", "link.png", "chain.png", "hard.png", "way/mine.png"),
        str(folder / "mine.png"),
    ]


def test_what_is_read_is_not_written_however_it_is_spelled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ways = spellings(tmp_path)
    for written in ways:
        for read in ways:
            with pytest.raises(UserError, match=r"^-o must not be one of the files that are read \(the style\), got "):
                check_apart([("-o", Path(written))], [("the content", None), ("the style", Path(read))])
    check_apart([("-o", Path("other.png")), ("--report", Path("sub/mine.png"))], [("the style", Path("mine.png"))])


def test_nothing_is_written_twice_however_it_is_spelled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ways = [Path(way) for way in spellings(tmp_path)]
    (tmp_path / "ahead.png").symlink_to("new.png")
    new = [Path(way) for way in ("new.png", "sub/../new.png", "way/new.png", "ahead.png")]
    for group in (ways, new):
        assert len({place(path) for path in group}) == 1
        for second in group:
            with pytest.raises(UserError, match=r"^--report and -o must be two files, got "):
                check_apart([("-o", group[0]), ("--report", second)])
    assert len({place(Path(name)) for name in ("mine.png", "new.png", "sub/new.png", "NEW.png", "a\0b")}) == 5


def test_links_that_lead_nowhere_are_called_so(tmp_path):
    links = {"dangling": "nowhere", "chain": "dangling", "loop": "loop", "ring": "gnir", "gnir": "ring"}
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    told = {name: what_is_missing(tmp_path / name) for name in (*links, "none", "none/none", "x" * 300)}
    loop = "a link that leads to itself"
    assert told == {
        "dangling": "a link to nowhere, which does not exist",
        "chain": "a link to dangling, which does not exist",
        **dict.fromkeys(("loop", "ring", "gnir"), loop),
        **dict.fromkeys(("none", "none/none", "x" * 300)),
    }
