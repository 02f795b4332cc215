"""Ctrl-C and SIGTERM: one line and one exit code, whenever they come."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import swag_jax
from swag_jax import _signals
from swag_jax.cli import main

BOTH = [(signal.SIGINT, 130, "swag-jax: interrupted"), (signal.SIGTERM, 143, "swag-jax: terminated")]
SOURCE = Path(swag_jax.__file__).parent

LOAD = f"""
import importlib.util, os, signal, sys, threading, time, weakref
spec = importlib.util.spec_from_file_location("signals", {str(SOURCE / "_signals.py")!r})
signals = importlib.util.module_from_spec(spec)
spec.loader.exec_module(signals)
send = lambda: os.kill(os.getpid(), int(sys.argv[1]))
def run(body):
    signals.end_at_once()
    try:
        with signals.interruptible():
            body()
    except signals.Interrupted as ending:
        signals.tell(ending.number)
        return ending.code
"""

MOMENTS = {
    "at work": """
sys.exit(run(lambda: (send(), time.sleep(60))))
""",
    "before the work": """
signals.end_at_once()
send()
time.sleep(60)
""",
    "a second time, while the first is cleaned up": """
def body():
    try:
        send()
        time.sleep(60)
    finally:
        send()
        time.sleep(60)
run(body)
""",
    "a second time, while threads end": """
def body():
    threading.Thread(target=lambda: (time.sleep(0.3), send(), time.sleep(60))).start()
    send()
    time.sleep(60)
sys.exit(run(body))
""",
    "after the work, while threads end": """
threading.Thread(target=lambda: (time.sleep(0.3), send(), time.sleep(60))).start()
sys.exit(run(lambda: None))
""",
    "where nothing can be raised": """
class Thing:
    pass
def body():
    thing = Thing()
    gone = weakref.ref(thing, lambda _: (send(), time.sleep(0.1)))
    del thing
    time.sleep(2)
sys.exit(run(body))
""",
    "twice where the first is a request": """
def body():
    with signals.asked_first(lambda: None) as asked:
        send()
        assert asked
        send()
        time.sleep(60)
sys.exit(run(body))
""",
}


@pytest.mark.parametrize(("number", "code", "line"), BOTH)
@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_one_line_at_any_moment(moment, number, code, line):
    words = [sys.executable, "-c", LOAD + moment, str(int(number))]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=200, check=False)
    assert (ended.returncode, ended.stderr, ended.stdout) == (code, f"{line}\n", "")


@pytest.mark.parametrize("start", ["module", "script"])
@pytest.mark.parametrize(("number", "code", "line"), BOTH)
def test_one_line_while_the_program_starts(tmp_path, start, number, code, line):
    """Something that it imports takes its time."""
    (tmp_path / "jax.py").write_text("import time\nprint('here', flush=True)\ntime.sleep(60)\n")
    (tmp_path / "swag-jax").write_text("from swag_jax.__main__ import main\nmain()\n")
    words = ["-m", "swag_jax"] if start == "module" else [str(tmp_path / "swag-jax")]
    path = os.pathsep.join([str(tmp_path), str(SOURCE.parent)])
    process = subprocess.Popen(
        [sys.executable, *words, "demo"],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=200)
    assert (process.returncode, err) == (code, f"{line}\n")


def test_the_program_ends_without_taking_everything_apart(tmp_path):
    """What was registered to be done at the end is done, and what was printed is written."""
    (tmp_path / "swag-jax").write_text(
        """
import atexit, sys
from swag_jax import _signals
class Thing:
    def __del__(self): print("taken apart", flush=True)
thing = Thing()
atexit.register(print, "at exit")
_signals.ended(3)
print("at work")
sys.exit(3)
"""
    )
    words = [sys.executable, str(tmp_path / "swag-jax")]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE.parent)}
    ended = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "at work\nat exit\n", "")


def test_other_programs_keep_their_handlers(monkeypatch):
    for words, own in ((["x/train.py"], False), (["-m"], True), (["bin/swag-jax"], True), ([""], False)):
        monkeypatch.setattr(sys, "argv", words)
        monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "swag_jax"])
        assert _signals.is_program() == own
    monkeypatch.setattr(sys, "argv", ["-m"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "pytest"])
    assert not _signals.is_program()


@pytest.mark.parametrize(("number", "code", "line"), BOTH)
@pytest.mark.parametrize(
    "words",
    [
        ("demo", "-o", "out"),
        ("stats", "--images", "coffee"),
        ("measure", "a.png", "b.png", "c.png"),
        ("weights", "verify"),
    ],
    ids=lambda words: words[0],
)
def test_commands_that_keep_nothing(monkeypatch, tmp_path, capsys, words, number, code, line):
    """They end alike, wherever they are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("swag_jax.devices.run_inline", lambda: signal.raise_signal(number))
    before = [signal.getsignal(each) for each, *_ in BOTH]
    assert main(words) == code
    assert capsys.readouterr().err == f"{line}\n"
    assert [signal.getsignal(each) for each, *_ in BOTH] == before
