"""`swag-jax batch`: many pairs in one command, and the same command again after anything."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import jax
import numpy as np
import pytest
from words import over, records, save

import swag_jax
from swag_jax import devices, read_image, sample, write_image
from swag_jax.cli import batch as batch_command
from swag_jax.cli import main
from swag_jax.cli._display import Display, count_line, fit
from swag_jax.cli._folder import Folder, Task, read_records
from swag_jax.images import read_alpha
from swag_jax.optimize import engine

CAT = sample("cat", size=53)[:, :40]
"""A square, which no sample of a content is."""

TINY = (
    *("--size", "32", "--smallest-size", "32", "--steps", "2", "--weights", "random", "--precision", "float32"),
    *("--style-layers", "relu1_1", "--content-layers", "relu1_1", "--tv-weight", "0", "--solver", "adam"),
)


@pytest.fixture(scope="module")
def shown():
    return {
        "contents": {"coffee": sample("coffee", size=48), "cat": CAT},
        "styles": {name: sample(name, size=40) for name in ("dots", "mosaic", "swirls")},
    }


@pytest.fixture
def folders(tmp_path, shown):
    """Two contents of two shapes and three styles."""
    return save(shown, tmp_path)


@pytest.fixture
def run(command, folders):
    """Run a small `batch` into the folder `out`."""

    def run(*flags, source=None, output="out"):
        source = ("--contents", folders / "contents", "--styles", folders / "styles") if source is None else source
        return command("batch", *source, "-o", folders / output, *over(TINY, flags))

    return run


@pytest.fixture(scope="module")
def made(shown, tmp_path_factory):
    """The folder of a small `batch` that has ended."""
    folder = tmp_path_factory.mktemp("made")
    save(shown, folder)
    words = ("batch", "--contents", folder / "contents", "--styles", folder / "styles", "-o", folder / "out", *TINY)
    assert main([*map(str, words), "--quiet"]) == 0
    return folder / "out"


@pytest.fixture
def finished(made, folders):
    """The same in the folder `out` of the test."""
    return shutil.copytree(made, folders / "out")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


ALL = [f"{content}_{style}" for content in ("cat", "coffee") for style in ("dots", "mosaic", "swirls")]


def test_every_combination_of_two_folders(run, folders):
    ended = run()
    assert (ended.code, ended.out) == (0, ""), ended.err
    out = folders / "out"
    assert names(out) == sorted([*(f"{name}.png" for name in ALL), "results.jsonl", "sheet.png"])
    found = records(out)
    assert list(found) == ALL
    record = found["cat_dots"]
    facts = {
        "content": str(folders / "contents" / "cat.png"),
        "styles": [str(folders / "styles" / "dots.png")],
        "output": str(out / "cat_dots.png"),
        "backbone": "vgg19",
        "status": "done",
        "error": None,
    }
    assert record.items() >= facts.items()
    assert set(record["losses"]) == {"total", "content/relu1_1", "style/relu1_1"}
    assert record["seconds"] > 0
    assert record["last_tenth"] == 0  # of two steps
    assert "weights: random (not trained)" in ended.err
    assert f"6 of 6 images in {out}, in 0:" in ended.err


def test_the_commands_images_are_the_librarys(run, folders):
    assert run("--quiet").code == 0
    start, layers = swag_jax.presets.gatys_vgg19, ("relu1_1",)
    objective = replace(start.objective, style_layers=layers, content_layers=layers, tv_weight=0.0)
    small = {"size": 32, "smallest_size": 32, "steps": 2, "weights": "random", "precision": "float32"}
    settings = replace(start, objective=objective, solver="adam", **small)
    content, style = (read_image(folders / name) for name in ("contents/cat.png", "styles/swirls.png"))
    expected = swag_jax.stylize(content, style, settings=settings).image
    np.testing.assert_allclose(read_image(folders / "out" / "cat_swirls.png"), expected, atol=0.5 / 255 + 1e-5)


def test_quiet_prints_nothing(run):
    ended = run("--quiet")
    assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_zip_and_format(run, folders):
    (folders / "styles" / "swirls.png").unlink()
    assert run("--zip", "--format", "jpg", "--no-sheet").code == 0
    assert names(folders / "out") == ["cat_dots.jpg", "coffee_mosaic.jpg", "results.jsonl"]


def test_the_sheet_has_a_row_per_content_or_pair(run, folders, finished, monkeypatch):
    monkeypatch.setattr(batch_command, "CELL", 32)
    assert run().code == 0
    grid = read_image(folders / "out" / "sheet.png")
    monkeypatch.setattr(batch_command, "ROWS", 2)
    assert run("--zip", source=one_to_one(folders), output="pairs").code == 0
    assert names(folders / "pairs")[-2:] == ["results.jsonl", "sheet.png"]
    assert grid.shape != read_image(folders / "pairs" / "sheet.png").shape
    (folders / "out" / "sheet.png").unlink()
    assert run().code == 0  # nothing left to do but the sheet, now in parts of one content each
    assert [name for name in names(folders / "out") if "sheet" in name] == ["sheet-1.png", "sheet-2.png"]


def one_to_one(folders):
    (folders / "styles" / "swirls.png").unlink()
    return "--contents", folders / "contents", "--styles", folders / "styles"


def test_transparency_is_kept(run, folders):
    alpha = np.ones((40, 40), np.float32)
    alpha[:, :20] = 0
    write_image(folders / "contents" / "cat.png", CAT, alpha=alpha)
    assert run().code == 0
    assert read_alpha(folders / "out" / "cat_dots.png").min() == 0
    assert read_alpha(folders / "out" / "coffee_dots.png") is None


def test_equal_stems_keep_their_suffix(run, folders):
    write_image(folders / "contents" / "cat.jpg", CAT)
    assert run("--no-sheet").code == 0
    assert {"cat-png_dots", "cat-jpg_dots", "coffee_dots"} <= set(records(folders / "out"))


def test_nothing_is_done_twice(run, folders, finished, monkeypatch):
    before = {name: (folders / "out" / name).stat().st_mtime_ns for name in names(folders / "out") if "_" in name}
    solved = count_solved(monkeypatch)
    ended = run()
    assert (ended.code, solved) == (0, [])
    assert ended.err.startswith("6 of 6 images in ")
    assert {name: (folders / "out" / name).stat().st_mtime_ns for name in before} == before


def count_solved(monkeypatch):
    solved, original = [], batch_command.stylize_stream

    def stream(*arguments, **options):
        for outcome in original(*arguments, **options):
            if outcome.result is not None:
                solved.append(outcome.index)
            yield outcome

    monkeypatch.setattr(batch_command, "stylize_stream", stream)
    return solved


@pytest.mark.parametrize("change", ["output", "settings", "content", "line", "cut"])
def test_what_has_changed_is_done_again(run, folders, finished, monkeypatch, change):
    out, flags = finished, ()
    lines = (out / "results.jsonl").read_text().splitlines(keepends=True)
    if change == "output":
        (out / "cat_dots.png").unlink()
    elif change == "settings":
        flags = ("--steps", "1")
    elif change == "content":
        write_image(folders / "contents" / "cat.png", CAT[::-1])
    elif change == "line":
        (out / "results.jsonl").write_text("".join(lines[1:]))
    else:  # killed while a line was written
        (out / "results.jsonl").write_text("".join([*lines[:-1], lines[-1][:30]]))
    solved = count_solved(monkeypatch)
    assert run(*flags).code == 0
    assert len(solved) == {"output": 1, "settings": 6, "content": 3, "line": 1, "cut": 1}[change]
    assert list(records(out)) == ALL
    assert {record["status"] for record in records(out).values()} == {"done"}


def test_an_output_that_is_no_longer_what_was_written_is_made_again(run, finished, monkeypatch):
    """Records of version 0.1.0 have neither size nor hash: a whole image is trusted then."""
    out = finished
    written = {name: (out / f"{name}.png").read_bytes() for name in ALL}
    (out / "cat_dots.png").write_bytes(b"")
    (out / "cat_mosaic.png").write_bytes(written["cat_mosaic"][:-20])
    (out / "cat_swirls.png").write_bytes(written["cat_dots"])
    (out / "coffee_dots.png").write_bytes(written["coffee_dots"][:-1] + b"x")
    (out / "coffee_swirls.png").write_bytes(written["coffee_swirls"][: len(written["coffee_swirls"]) // 2])
    kept = records(out)
    for name in ("coffee_mosaic", "coffee_swirls"):
        del kept[name]["bytes"], kept[name]["sha256"]
    (out / "results.jsonl").write_text("".join(json.dumps(record) + "\n" for record in kept.values()))
    solved = count_solved(monkeypatch)
    assert run("--no-sheet").code == 0
    assert len(solved) == 5
    assert {name: (out / f"{name}.png").read_bytes() for name in ALL} == written


def test_what_is_no_regular_file_fails_alone(run, folders):
    """None of them is waited for or read without end; folders and other files are no images."""
    contents = folders / "contents"
    os.mkfifo(contents / "pipe.png")
    (contents / "zero.jpg").symlink_to("/dev/zero")
    (contents / "loop.png").symlink_to("loop.png")
    (contents / "nowhere.png").symlink_to("gone.png")
    (contents / "folder.png").mkdir()
    for name in ("a.heic", "b.HEIC", "notes.txt"):
        (contents / name).write_bytes(b"\0\0\0\x18ftypheic")
    ended = run("--zip", "--no-sheet", source=("--contents", contents, "--styles", six_styles(folders)))
    assert ended.code == 3
    assert "left out of" in ended.err
    assert "3 files that are no images (2 .heic: export as JPEG; 1 .txt)" in ended.err
    found = {record["content"].rpartition("/")[2]: record for record in records(folders / "out").values()}
    assert {name: record["status"] for name, record in found.items()} == {
        "cat.png": "done",
        "coffee.png": "done",
        "loop.png": "failed",
        "nowhere.png": "failed",
        "pipe.png": "failed",
        "zero.jpg": "failed",
    }
    assert "a link to gone.png, which does not exist" in found["nowhere.png"]["error"]
    assert "a link that leads to itself" in found["loop.png"]["error"]


def six_styles(folders):
    for name in "abc":
        shutil.copy(folders / "styles" / "dots.png", folders / "styles" / f"{name}.png")
    return folders / "styles"


def test_a_bad_image_is_reported_and_the_rest_goes_on(run, folders, monkeypatch):
    (folders / "contents" / "bad.jpg").write_text("not an image\n" * 20)
    ended = run()
    assert ended.code == 3
    assert [name for name in names(folders / "out") if "_" in name] == [f"{name}.png" for name in ALL]
    assert "sheet.png" in names(folders / "out")
    found = records(folders / "out")
    assert [name for name, record in found.items() if record["status"] == "failed"] == [
        "bad_dots", "bad_mosaic", "bad_swirls",
    ]  # fmt: skip
    assert "must hold an image" in found["bad_dots"]["error"]
    assert found["bad_dots"]["output"] is None
    assert sum(line.startswith("failed: bad_") for line in ended.err.splitlines()) == 3
    assert "6 of 9 images" in ended.err
    assert "3 failed (see results.jsonl)" in ended.err

    solved = count_solved(monkeypatch)
    assert run().code == 3
    assert run("--retry-failed").code == 3
    assert solved == []
    write_image(folders / "contents" / "bad.jpg", sample("coffee", size=48))
    assert run().code == 0
    assert len(solved) == 3


def test_a_run_whose_records_cannot_be_written_ends_early(run, folders, monkeypatch):
    def full(self, record):
        raise swag_jax.UserError("cannot write results.jsonl: No space left on device: make room and run again.")

    monkeypatch.setattr(Folder, "add", full)
    solved = count_solved(monkeypatch)
    ended = run("--batch-size", "1", "--quiet")
    assert ended.code == 2
    assert ended.err == "swag-jax: cannot write results.jsonl: No space left on device: make room and run again.\n"
    assert len(solved) < len(ALL)


def test_a_image_that_cannot_be_written_is_a_failure(run, folders):
    (folders / "out" / "cat_dots.png").mkdir(parents=True)
    assert run().code == 3
    assert "must be a file to write, got a folder" in records(folders / "out")["cat_dots"]["error"]


@pytest.fixture
def pairs(folders):
    """Write a file of pairs, beside the folders."""

    def write(text, suffix=".csv"):
        (folders / f"pairs{suffix}").write_text(text, encoding="utf-8")
        return ("--pairs", folders / f"pairs{suffix}")

    return write


def test_pairs_of_a_csv_file(run, pairs, folders):
    source = pairs(
        "content, style, name, steps, style-weight, seed, init\n"
        "contents/cat.png, styles/dots.png, first, 1, 2.5, , \n"
        "\n"
        'contents/coffee.png, styles/dots.png; styles/mosaic.png, , , , 4, noise\n'
    )  # fmt: skip
    assert run("--steps", "3", source=source).code == 0
    found = records(folders / "out")
    assert list(found) == ["first", "coffee_dots_mosaic"]
    assert found["coffee_dots_mosaic"]["styles"] == [str(folders / "styles" / f"{n}.png") for n in ("dots", "mosaic")]
    assert read_image(folders / "out" / "first.png").shape == (32, 32, 3)


def test_pairs_start_from_images(run, pairs, folders, monkeypatch):
    """Of a line, relative to its file; of the flag, for the lines that name none; anew when the image changes."""
    inits = {"own": "styles/swirls.png", "content": "content", "flag": "", "none": "styles/no.png"}
    lines = [f"contents/cat.png,styles/dots.png,{name},{init}" for name, init in inits.items()]
    source, first = pairs("\n".join(["content,style,name,init", *lines])), folders / "first.png"
    write_image(first, sample("mosaic", size=40))
    flags = ("--init", first, "--keep-colors")
    assert run(*flags, source=source).code == 3
    found = records(folders / "out")
    start = {name: record["losses"].get("content/relu1_1") for name, record in found.items()}
    assert len(set(start.values())) == 4
    assert "no.png does not exist" in found["none"]["error"]
    write_image(first, sample("swirls", size=40))
    solved = count_solved(monkeypatch)
    assert run(*flags, source=source).code == 3
    assert len(solved) == 1
    np.testing.assert_array_equal(read_image(folders / "out" / "flag.png"), read_image(folders / "out" / "own.png"))


def test_pairs_of_a_json_file_have_their_own_settings(run, pairs, folders):
    lines = [
        {"content": "contents/cat.png", "style": "styles/dots.png"},
        {"content": "contents/cat.png", "style": ["styles/dots.png", "styles/mosaic.png"], "blend": [1, 2]},
        {"content": "contents/cat.png", "style": "styles/dots.png", "name": "lbfgs", "solver": "lbfgs", "size": 40},
        {"content": "contents/cat.png", "style": "styles/none.png", "name": None, "smoothing": "softmax"},
    ]
    assert run(source=pairs("\n".join(map(json.dumps, lines)), ".jsonl")).code == 3
    found = records(folders / "out")
    assert list(found) == ["cat_dots", "cat_dots_mosaic", "lbfgs", "cat_none"]
    assert "none.png does not exist; did you mean dots.png?" in found["cat_none"]["error"]
    assert read_image(folders / "out" / "lbfgs.png").shape == (40, 40, 3)
    assert "sheet.png" in names(folders / "out")


@pytest.mark.parametrize(
    ("text", "suffix", "message"),
    [
        ("content,style,stpes\na,b,3\n", ".csv", "pairs.csv, line 2: unknown option 'stpes': did you mean steps"),
        ("content,style,steps\na,b,3\na,b,x\n", ".csv", "line 3: argument --steps: invalid int value: 'x'."),
        ("content,style,steps\na,b,0\n", ".csv", "line 2: steps must be at least 1, got 0."),
        (
            "content,style,solver\na,b,lbfsg\n",
            ".csv",
            "argument --solver: unknown solver 'lbfsg': did you mean lbfgs",
        ),
        ("content,style,init\na,b,cotnent\n", ".csv", "line 2: unknown init 'cotnent': did you mean content?"),
        ("content\na\n", ".csv", "line 2: there must be a style: add the column or key `style`."),
        ("content,style\na\n", ".csv", "line 2: a line must have one cell for each of the 2 columns"),
        ("content,style\na,b,c\n", ".csv", "line 2: a line must have one cell for each of the 2 columns"),
        ("content,style,name\na,b,x/y\n", ".csv", "line 2: a name must be usable as a file's name, got 'x/y'"),
        ("content,style,name\na,b,Sheet-2\n", ".csv", "no pair may have the name of the contact sheet, got 'Sheet-2'"),
        ("content,style\na,b\na.png,b.png\n", ".csv", "every result must have its own name, got a + b and a.png"),
        ("content,style\n", ".csv", "--pairs must hold at least one pair, got none in"),
        ('{"content": "a"\n', ".jsonl", "line 1: a line must be a JSON object, got Expecting"),
        ('\n["a", "b"]\n', ".jsonl", "line 2: a line must be a JSON object, got list."),
        ("content,style\na,b\n", ".txt", "--pairs must end in .csv or .jsonl, got"),
    ],
)
def test_bad_pairs_are_refused_with_their_line(run, pairs, folders, unchecked, text, suffix, message):
    assert message in run(source=pairs(text, suffix)).problem
    assert not (folders / "out").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--contents", "{c}"), "there must be --contents and --styles, or --pairs."),
        (("--contents", "{c}", "--styles", "{s}", "--pairs", "x.csv"), "--pairs must be given alone: leave out"),
        (("--contents", "{c}", "--styles", "{none}"), "--styles must be a folder of images, got"),
        (("--contents", "{c}", "--styles", "{empty}"), "--styles must hold images (.png, .jpg"),
        (("--contents", "{c}", "--styles", "{s}", "--zip"), "as many contents as styles, got 2 and 3: leave out --zip"),
        (("--contents", "{c}", "--styles", "{s}", "--batch-size", "0"), "--batch-size must be at least 1, got 0."),
        (("--contents", "{c}", "--styles", "{s}", "--init", "nois"), "unknown init 'nois': did you mean noise?"),
        (("--contents", "{c}", "--styles", "{s}", "--init", "nois.png"), "nois.png must exist"),
        (("--contents", "{c}", "--styles", "{s}", "--max-shapes", "0"), "--max-shapes must be at least 1, got 0."),
        (
            ("--contents", "{c}", "--styles", "{s}", "--format", "gif"),
            "unknown format 'gif': known: png, jpg",
        ),
        (("--contents", "{c}", "--styles", "{s}", "--stesp", "2"), "unknown flag --stesp: did you mean --steps"),
        (("--contents", "{c}", "--styles", "{s}", "--content-layers", "relu9_9"), "unknown layer 'relu9_9'"),
        (("--contents", "{c}", "--styles", "{s}", "--weights", "none.pth"), "none.pth"),
        (("--contents", "{c}", "--styles", "{s}", "--processes", "2"), "coordinator, processes and process belong"),
        (("--contents", "{out}", "--styles", "{s}"), "the output must not be a folder that is read"),
        (("--pairs", "none.csv"), "--pairs none.csv must be a readable text file, got"),
    ],
)
def test_bad_usage(run, folders, unchecked, flags, message):
    (folders / "empty").mkdir()
    places = {"c": "contents", "s": "styles", "none": "none", "empty": "empty", "out": "contents"}
    words = [word.format(**{key: folders / name for key, name in places.items()}) for word in flags]
    output = "contents" if "{out}" in flags else "out"
    before = names(folders)
    assert message in run(*words, source=(), output=output).problem
    assert names(folders) == before


def test_names_that_meet_are_refused(run, folders):
    shutil.copy(folders / "contents" / "cat.png", folders / "contents" / "cat_dots.png")
    write_image(folders / "styles" / "dots_dots.png", sample("dots", size=40))
    problem = run().problem
    assert "cat.png + dots_dots.png and cat_dots.png + dots.png, both 'cat_dots_dots'" in problem


def test_ctrl_c_keeps_what_is_done_and_the_command_goes_on(run, folders, monkeypatch):
    def show(display, parts, done, total):
        if done:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Display, "show", show)
    monkeypatch.setitem(engine.STEPS_BETWEEN_CALLBACKS, "cpu", 1)
    ended = run()
    assert ended.code == 130
    assert "stopping after these steps; Ctrl-C again to quit at once; what is done is kept" in ended.err
    assert ended.err.rstrip().endswith("; stopped: the same command resumes from here")
    assert len([name for name in names(folders / "out") if name.endswith(".png")]) == 3
    monkeypatch.undo()
    assert run().code == 0
    assert len(records(folders / "out")) == 6


def environment(**changes):
    return {**os.environ, "JAX_PLATFORMS": "cpu", **changes}


def start(folders, output, *flags, **changes):
    source = ("--contents", folders / "contents", "--styles", folders / "styles")
    words = map(str, ("batch", *source, "-o", folders / output, *over(TINY, flags)))
    return subprocess.Popen(
        [sys.executable, "-m", "swag_jax", *words], env=environment(**changes), stderr=subprocess.PIPE, text=True
    )


def images(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*_*.png")}


def test_a_killed_run_goes_on_and_ends_like_an_unbroken_one(folders):
    flags = ("--steps", "200", "--batch-size", "1", "--quiet")
    killed, lines = start(folders, "out", *flags), 0
    while lines < 2 and killed.poll() is None:
        time.sleep(0.005)
        path = folders / "out" / "results.jsonl"
        lines = path.read_text().count("\n") if path.exists() else 0
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    half = images(folders / "out")
    assert 2 <= len(half) < 6
    for output in ("out", "unbroken"):
        ended = start(folders, output, *flags)
        _, printed = ended.communicate(timeout=240)
        assert (ended.returncode, printed) == (0, "")
    assert names(folders / "out") == names(folders / "unbroken")
    assert images(folders / "out") == images(folders / "unbroken") != half
    assert list(records(folders / "out")) == list(records(folders / "unbroken")) == ALL


def test_two_processes_share_the_pairs(run, folders):
    (folders / "contents" / "bad.jpg").write_text("not an image\n" * 20)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    flags = ("--coordinator", f"127.0.0.1:{port}", "--processes", "2")
    two = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    both = [start(folders, "out", *flags, "--process", number, XLA_FLAGS=two) for number in range(2)]
    printed = [process.communicate(timeout=240)[1] for process in both]
    assert [process.returncode for process in both] == [3, 3], printed
    assert run(output="alone").code == 3
    assert names(folders / "out") == names(folders / "alone")
    for name in images(folders / "alone"):
        difference = read_image(folders / "out" / name) - read_image(folders / "alone" / name)
        assert np.abs(difference).max() <= 1.01 / 255
    facts = [
        {name: (r["status"], r["fingerprint"]) for name, r in records(folders / output).items()}
        for output in ("out", "alone")
    ]
    assert facts[0] == facts[1]
    assert list(facts[0]) == list(facts[1])
    assert "6 of 9 images" in printed[0]


def test_records_of_other_pairs_stay(run, folders, finished):
    (folders / "styles" / "dots.png").unlink()
    assert run().code == 0
    assert list(records(folders / "out"))[-2:] == ["cat_dots", "coffee_dots"]
    assert len(records(folders / "out")) == 6


def opened(path, tasks=(), **options):
    folder = Folder(path, tasks, suffix="png")
    folder.open(lambda task: {}, **options)
    return folder


def test_records_of_several_processes_are_merged(tmp_path):
    tasks = [Task(f"pair{process}", tmp_path, ()) for process in (1, 0)]
    for process in range(2):
        folder = opened(tmp_path, tasks, process=process)
        folder.add({"name": f"pair{process}", "status": "done"})
    assert names(tmp_path) == ["results-0.jsonl", "results-1.jsonl"]
    folder.merge()
    assert names(tmp_path) == ["results.jsonl"]
    assert list(records(tmp_path)) == ["pair1", "pair0"]


SOUND = {"name": "a", "content": "c.png", "styles": ["s.png"], "output": "a.png", "status": "done", "fingerprint": "f"}


@pytest.mark.parametrize(
    "damage",
    [
        b"\xff",
        b'{"name": "b\xff"}',
        b"[" * 100_000,
        b'{"name":' * 100_000,
        b'{"name": "b"',
        b"3",
        b"null",
        b'"name"',
        b'["name"]',
        b"{}",
        b'{"name": 3}',
        b'{"name": ["b"]}',
        b'{"name": null}',
        b'{"name": "b\\u0000"}',
        b'{"name": "b", "status": 3}',
        b'{"name": "b", "output": {"a": 1}}',
        b'{"name": "b", "styles": "s.png"}',
        b'{"name": "b", "styles": [3]}',
        b'{"name": "b", "fingerprint": []}',
        bytes(100),
        b"9" * 5000,
    ],
    ids=lambda damage: repr(damage[:25]),
)
def test_damaged_records_are_left_out(tmp_path, damage):
    other = {**SOUND, "name": "z"}
    lines = [json.dumps(SOUND).encode(), damage, json.dumps(other).encode(), b""]
    (tmp_path / "results.jsonl").write_bytes(b"\n".join(lines))
    assert [record["name"] for record in read_records(tmp_path)] == ["a", "z"]
    assert opened(tmp_path).records == {"a": SOUND, "z": other}
    assert records(tmp_path) == {"a": SOUND, "z": other}


def test_a_record_of_0_1_0_is_read(tmp_path):
    record = {**SOUND, "error": None, "backbone": "vgg19", "losses": {"total": 0.5}, "seconds": 1.5}
    (tmp_path / "results.jsonl").write_text(json.dumps(record) + "\n")
    assert opened(tmp_path).records == {"a": record}


def test_a_run_with_damaged_records_does_what_they_were_of(run, folders, finished):
    path = folders / "out" / "results.jsonl"
    first, *others = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([b"\xff", first, b"[" * 100_000 + b"\n", *others]))
    before = {name: (folders / "out" / name).stat().st_mtime_ns for name in names(folders / "out")}
    again = run()
    assert again.code == 0
    after = {name: (folders / "out" / name).stat().st_mtime_ns for name in names(folders / "out")}
    done = json.loads(first)["name"]
    assert {n for n in after if after[n] != before[n]} == {f"{done}.png", "results.jsonl", "sheet.png"}
    assert set(records(folders / "out")) == set(ALL)


def test_summary():
    line = count_line(6, 48, "pairs", failed=1, rate="35.2 pairs·steps/s", seconds_left=200.0)
    assert fit(line) == "6/48 pairs  1 failed  35.2 pairs·steps/s  3:20 left"
    assert fit(line, 40) == "6/48 pairs  1 failed  3:20 left"
    assert fit(count_line(5, None, "pairs", seconds_left=None)) == "5 pairs"


def test_all_devices_are_used(run, monkeypatch):
    seen, original = [], devices.replicate
    monkeypatch.setattr(devices, "replicate", lambda tree: seen.append(original(tree)) or seen[-1])
    assert run().code == 0
    assert jax.tree.leaves(seen)
    assert all(len(array.devices()) == jax.device_count() for array in jax.tree.leaves(seen))


def test_masks_of_all_pairs_and_of_one(run, folders):
    """A changed mask makes its pairs again, and only them; a bad one fails only its pair."""
    for name, columns in {"left": slice(0, 16), "right": slice(16, 32)}.items():
        pixels = np.zeros((24, 32), np.float32)
        pixels[:, columns] = 1
        write_image(folders / f"{name}.png", np.repeat(pixels[..., None], 3, -1))
    lines = [
        {"name": "plain", "content": "contents/cat.png", "style": "styles/dots.png"},
        {"name": "left", "content": "contents/cat.png", "style": "styles/dots.png", "content-masks": "left.png"},
        {
            "name": "both",
            "content": "contents/cat.png",
            "style": ["styles/dots.png", "styles/mosaic.png"],
            "content_masks": ["left.png", "right.png"],
            "style-masks": "left.png; right.png",
        },
        {"name": "bad", "content": "contents/cat.png", "style": "styles/dots.png", "style-masks": "missing.png"},
    ]
    pairs = folders / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(line) + "\n" for line in lines))
    ended = run("--steps", "4", source=("--pairs", pairs))
    assert ended.code == 3
    assert "failed: bad:" in ended.err
    found = {path.stem: path.read_bytes() for path in (folders / "out").glob("*.png") if path.stem != "sheet"}
    assert set(found) == {"plain", "left", "both"}
    assert len(set(found.values())) == 3
    (folders / "left.png").write_bytes((folders / "right.png").read_bytes())
    ended = run("--steps", "4", source=("--pairs", pairs))
    assert {name for name, was in found.items() if (folders / "out" / f"{name}.png").read_bytes() != was} == {
        "left", "both",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("totals", "expected"),
    [
        ([5.0], 0),
        ([5.0, 6.0], 0),
        ([16.0, *[3.0] * 8, 2.0, 1.0], 1 / 4),
        ([1.0] * 30, 0),
        ([1.0, 0.0], 0),
        ([2.0, *[1.0] * 7, 0.0, 1.0], 0),
    ],
)
def test_the_share_of_the_last_tenth(totals, expected):
    assert batch_command._last_tenth(np.array(totals, np.float32)) == pytest.approx(expected, abs=1e-6)
