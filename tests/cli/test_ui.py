"""`swag-jax ui`: the page's functions against a server on this machine, and how the command starts and ends."""

import asyncio
import contextlib
import gc
import inspect
import json
import os
import signal
import socket
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from words import save_page_inputs

import swag_jax as swag
from swag_jax import generators
from swag_jax.cli.apply import Apply
from swag_jax.cli.stylize import Stylize
from swag_jax.presets import PRESETS

PRESET = "gatys-vgg19"

pytestmark = [
    # Of gradio and what it brings.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True, scope="module")
def imported():
    """Import gradio here, which takes seconds: not in every process that collects these tests."""
    global _page, gradio, gradio_client
    import gradio
    import gradio_client

    from swag_jax.cli import _page


@pytest.fixture(autouse=True, scope="module")
def closed_loops(imported):
    """Close the event loops that gradio leaves open, whose warnings would come in other tests."""
    yield
    for loop in [each for each in gc.get_objects() if isinstance(each, asyncio.BaseEventLoop)]:
        if not loop.is_running():
            loop.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_page_inputs(tmp_path_factory.mktemp("ui"), size=96)


@pytest.fixture(scope="module")
def address(imported, folder):
    results = folder / "results"
    results.mkdir()
    # With type checks around it, gradio does not see that it yields.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_page.Page, "run", inspect.unwrap(_page.Page.run))
        yield from served(folder, results)


def served(folder, results):
    with _page.serve([str(folder / "mine.safetensors")], results, host="127.0.0.1", port=0) as address:
        yield address


@pytest.fixture(autouse=True)
def shallow(monkeypatch):
    """Let the first preset be one that compiles quickly."""
    objective = swag.Objective(style_layers=("relu1_1",), content_layers=("relu1_1",))
    monkeypatch.setitem(PRESETS, PRESET, PRESETS[PRESET].replace(objective=objective, solver="adam"))


@pytest.fixture
def client(address, tmp_path):
    return gradio_client.Client(address, download_files=str(tmp_path), verbose=False)


def submit(client, folder, method=PRESET, *, photo="photo.png", size=64, steps=6):
    files = [None if name is None else gradio_client.handle_file(folder / name) for name in (photo, "painting.png")]
    return client.submit(*files, method, size, steps, 1.0, False, api_name="/stylize")


def named(outputs):
    return dict(zip(("result", "status", "image", "record"), outputs, strict=True))  # the client leaves buttons out


def last(job):
    return named(job.result(timeout=120))


def test_an_image_develops_and_is_saved_with_its_settings(client, folder, monkeypatch):
    monkeypatch.setattr(_page, "SECONDS_BETWEEN_IMAGES", 0.0)
    job = submit(client, folder, steps=12)
    final = last(job)
    seen = [named(each)["status"] for each in job.outputs()]
    assert any("starting" in line for line in seen)
    assert any("/12 · " in line and "<progress" in line for line in seen)
    assert "12 steps in 0:" in final["status"]
    assert "64x48" in final["status"]
    assert swag.read_image(saved(final["image"])).shape == (48, 64, 3)
    record = json.loads(Path(saved(final["record"])).read_text())
    assert (record["status"], record["settings"]["size"], record["settings"]["steps"]) == ("done", 64, 12)
    before, after = ({swag.read_image(path).shape for path in final["result"]}, final["result"])
    assert before == {(48, 64, 3)}
    assert len(after) == 2


def saved(update):
    """The file that a button saves."""
    value = update["value"] if isinstance(update, dict) and "value" in update else update
    return value["path"] if isinstance(value, dict) else value


def test_a_generator_paints_as_the_command_does(client, folder, command, tmp_path):
    generator = str(folder / "mine.safetensors")
    final = last(submit(client, folder, generator))
    assert "painted in 0:" in final["status"]
    words = (
        folder / "photo.png",
        folder / "painting.png",
        "-o",
        tmp_path / "out.png",
        "--report",
        tmp_path / "out.json",
    )
    assert command("apply", generator, *words, "--size", 64, "--quiet").code == 0
    np.testing.assert_array_equal(swag.read_image(saved(final["image"])), swag.read_image(tmp_path / "out.png"))
    mine, theirs = (json.loads(Path(path).read_text()) for path in (saved(final["record"]), tmp_path / "out.json"))
    same = ("generator", "settings", "size", "versions", "device")
    assert [mine[key] for key in same] == [theirs[key] for key in same]
    assert mine["generator"]["encoder"] == "vgg19-caffe"
    assert mine["size"] == {"height": 48, "width": 64}


@pytest.mark.parametrize(
    ("photo", "message"),
    [
        ("broken.png", ">broken.png must be a whole, undamaged image"),
        (None, "there must be a photograph, got none: drop one on its field."),
    ],
)
def test_bad_input_is_told_on_the_page(photo, message, client, folder):
    final = last(submit(client, folder, photo=photo))
    assert 'class="problem" role="alert"' in final["status"]
    assert message in final["status"]
    assert str(folder) not in final["status"]


def test_cancel_keeps_what_there_is(client, folder):
    job = submit(client, folder, steps=1000)
    while not any("<progress" in str(each) and "/1000" in str(each) for each in job.outputs()):
        assert not job.done()
        time.sleep(0.05)
    client.predict(api_name="/cancel")
    final = last(job)
    assert "cancelled after" in final["status"]
    record = json.loads(Path(saved(final["record"])).read_text())
    assert record["status"] == "stopped"
    assert swag.read_image(saved(final["image"])).shape == (48, 64, 3)


def test_a_method_that_is_not_offered_is_refused(client, folder):
    with pytest.raises(Exception, match="not in the list of choices"):
        submit(client, folder, str(folder / "photo.png")).result(timeout=60)


def test_the_page_loads_nothing_from_elsewhere(address):
    with urllib.request.urlopen(address, timeout=20) as page:
        policy = page.headers["content-security-policy"]
    assert policy.split()[:2] == ["default-src", "'self'"]
    assert "http" not in policy


def test_the_page_makes_the_commands_of_the_command_line(tmp_path):
    page = _page.Page(tmp_path)
    photo, painting = tmp_path / "a.jpg", tmp_path / "b.jpg"
    made = page.command(photo, painting, "swag-resnet50", {"size": 256, "steps": 9, "colors": "luminance"})
    assert isinstance(made, Stylize)
    assert made.chosen() == swag.presets.swag_resnet50.replace(size=256, steps=9, colors="luminance")
    assert (made.output.name, made.report.name) == ("a_b.png", "a_b.json")
    other = page.command(photo, painting, "adain", {"size": 256, "strength": 0.5})
    assert isinstance(other, Apply)
    assert other.output.parent != made.output.parent


def test_what_goes_wrong_inside_is_told_too(tmp_path, capsys, monkeypatch):
    page, nobody = _page.Page(tmp_path), gradio.Request()
    page.parts = {name: name for name in ("status", "go", "stop")}
    monkeypatch.setattr(page, "command", lambda *_: 1 / 0)
    (shown,) = page.run("a.png", "b.png", PRESET, 64, 6, 1.0, False, nobody)
    assert "a failure inside the program; its terminal shows more" in shown["status"]
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_text_on_the_page_is_text():
    assert "<b>" not in _page.status("no file <b>x</b>", problem=True)


def test_the_command_serves_until_ctrl_c(command):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    seen = []

    def visit():
        while not seen:
            with contextlib.suppress(OSError):
                seen.append(urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=20).status)
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    visitor = threading.Thread(target=visit, daemon=True)
    visitor.start()
    ended = command("ui", "--port", port)
    visitor.join()
    assert (ended.code, seen) == (130, [200])
    assert f"open http://127.0.0.1:{port} in a browser; Ctrl-C ends it" in ended.err


def test_without_gradio(command, monkeypatch):
    monkeypatch.setattr("swag_jax.cli.ui.find_spec", lambda name: None)
    problem = command("ui").problem
    assert problem.endswith("needs the package gradio, which is not installed: run pip install 'swag-jax[ui]'.")


def test_a_port_that_is_taken_and_generators_that_cannot_be_used(command, address, folder, tmp_path):
    port = address.rpartition(":")[2]
    assert f"an address with a free port {port}, got " in command("ui", "--port", port).problem
    assert "--port must be at least 0 and at most 65535" in command("ui", "--port", 99999).problem
    assert "no file" in command("ui", tmp_path / "none.safetensors").problem
    swag.save_generator(tmp_path / "j.safetensors", generators.create(generators.JohnsonConfig(channels=2, blocks=1)))
    assert "the page is for generators that read a painting" in command("ui", tmp_path / "j.safetensors").problem
