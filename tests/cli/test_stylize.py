import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import swag_jax
from swag_jax import params, read_image
from swag_jax.cli import main, prune
from swag_jax.cli._display import Display, clock, fit, steps_line
from swag_jax.images import read_alpha, resize
from swag_jax.images.color import luminance
from swag_jax.optimize import Progress

TERMS = {"total", "content/relu1_2", "style/relu1_1", "style/relu1_2"}


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [(".png", "PNG"), (".jpg", "JPEG"), (".jpeg", "JPEG"), (".webp", "WEBP"), (".tif", "TIFF"), (".TIFF", "TIFF")],
)
def test_output_has_the_contents_shape_in_every_format(stylize, tmp_path, suffix, kind):
    output = tmp_path / f"out{suffix}"
    assert stylize(output=output).code == 0
    with Image.open(output) as image:
        assert (image.format, image.mode, image.size) == (kind, "RGB", (48, 36))


def test_portrait_and_enlargement(stylize, images, tmp_path):
    assert stylize("--size", 80, content=images / "style.png").code == 0
    assert read_image(tmp_path / "out.png").shape == (*_fitted(images / "style.png", 80), 3)


def _fitted(path, size):
    height, width = read_image(path).shape[:2]
    return swag_jax.images.fitted(height, width, size)


def test_what_is_printed(stylize, tmp_path):
    printed = stylize()
    assert printed.out == ""
    weights, progress, last = printed.err.splitlines()
    assert weights.startswith("weights: vgg19-caffe")
    assert progress.startswith("out.png: 4/4  48x36  total ")
    assert last.startswith(f"wrote {tmp_path / 'out.png'} in ")


def test_quiet_prints_nothing(stylize):
    ended = stylize("--quiet")
    assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_every_writes_images_at_its_multiples(stylize, tmp_path):
    flags = ("--size", 64, "--smallest-size", 32, "--steps", 8, "--every", 3, "--quiet")
    assert stylize(*flags).code == 0
    written = {path.name: read_image(path) for path in tmp_path.glob("*.png")}
    assert sorted(written) == ["out-00003.png", "out-00006.png", "out.png"]
    assert [written[name].shape[1] for name in sorted(written)] == [32, 64, 64]


def test_every_keeps_transparency_and_format(stylize, images, tmp_path):
    assert stylize("--every", 2, content=images / "glass.png", output=tmp_path / "out.webp").code == 0
    assert read_alpha(tmp_path / "out-00002.webp").shape == (36, 48)


def test_report(stylize, images, tmp_path):
    flags = ("--steps", 6, "--seed", 7, "--tv-weight", 0.5, "--keep-colors", "--report", tmp_path / "report.json")
    assert stylize(*flags).code == 0
    report = json.loads((tmp_path / "report.json").read_text())
    places = {"content": str(images / "content.png"), "styles": [str(images / "style.png")]}
    scales = [{"height": 36, "width": 48, "steps": 6}]
    assert report.items() >= {**places, "output": str(tmp_path / "out.png"), "status": "done", "scales": scales}.items()
    assert report["settings"].items() >= {"size": 48, "steps": 6, "seed": 7, "colors": "luminance"}.items()
    assert report["settings"]["objective"]["tv_weight"] == 0.5
    source = params.resolve("vgg19", weights="auto")
    facts = {"name": source.name, "sha256": source.sha256, "description": source.describe()}
    assert report["weights"].items() >= facts.items()
    losses = {name: values for name, values in report["losses"].items() if name != "total"}
    assert losses.keys() == (TERMS | {"variation"}) - {"total"}
    np.testing.assert_allclose(np.sum(list(losses.values()), axis=0), report["losses"]["total"], rtol=1e-5)
    assert min(report["seconds"].values()) > 0
    assert report["device"]["count"] == jax.device_count()
    assert report["versions"]["jax"] == jax.__version__


def test_equal_seeds_equal_images(stylize, tmp_path):
    def bytes_of(*flags):
        assert stylize("--quiet", *flags).code == 0
        return (tmp_path / "out.png").read_bytes()

    noise = bytes_of("--init", "noise", "--seed", 1)
    assert bytes_of("--init", "noise", "--seed", 1) == noise
    assert bytes_of("--init", "noise", "--seed", 2) != noise
    assert bytes_of() == bytes_of("--seed", 2)  # from the content, nothing is drawn


def test_the_command_gives_the_librarys_image(stylize, images, tmp_path):
    stylize("--solver", "adam", "--smoothing", "softmax", "--style-weight", 3)
    start = swag_jax.presets.gatys_vgg19
    layers = {"style_layers": ("relu1_1", "relu1_2"), "content_layers": ("relu1_2",)}
    smoothing = replace(start.objective.smoothing, kind="softmax")
    objective = replace(start.objective, style_weight=3.0, smoothing=smoothing, **layers)
    settings = replace(start, size=48, steps=4, solver="adam", objective=objective)
    content, style = read_image(images / "content.png"), read_image(images / "style.png")
    expected = swag_jax.stylize(content, style, settings=settings).image
    np.testing.assert_allclose(read_image(tmp_path / "out.png"), expected, atol=0.5 / 255 + 1e-6)


def test_two_styles_and_their_blend(stylize, images, tmp_path):
    def losses(*flags, **inputs):
        assert stylize("--report", tmp_path / "r.json", *flags, **inputs).code == 0
        return json.loads((tmp_path / "r.json").read_text())["losses"]["total"]

    both = [images / "style.png", images / "other.png"]
    one, mixed = losses(), losses(styles=both)
    assert losses("--blend", "1,0", styles=both) == pytest.approx(one, rel=1e-4)
    assert losses("--blend", "2,2", styles=both) == mixed
    assert mixed != pytest.approx(one, rel=1e-2)


def test_keep_colors_keeps_the_contents_chroma_under_the_results_luminance(stylize, images, tmp_path):
    stylize(output=tmp_path / "plain.png")
    stylize("--keep-colors", output=tmp_path / "kept.png")
    plain, kept = (read_image(tmp_path / name) for name in ("plain.png", "kept.png"))
    np.testing.assert_allclose(luminance(jnp.asarray(kept)), luminance(jnp.asarray(plain)), atol=3 / 255)
    content = resize(read_image(images / "content.png"), 36, 48)
    expected = swag_jax.images.transfer_luminance(jnp.asarray(content), jnp.asarray(plain))
    np.testing.assert_allclose(kept, expected, atol=3 / 255)
    stylize("--colors", "luminance", output=tmp_path / "same.png")
    assert (tmp_path / "same.png").read_bytes() == (tmp_path / "kept.png").read_bytes()


def test_init_from_a_image(stylize, images, tmp_path):
    def first_loss(*flags):
        assert stylize("--steps", 1, "--report", tmp_path / "r.json", *flags).code == 0
        return json.loads((tmp_path / "r.json").read_text())["losses"]

    assert first_loss("--init", images / "content.png") == first_loss("--init", "content") == first_loss()
    assert first_loss("--init", images / "other.png")["content/relu1_2"][0] > 0


def test_transparency_is_kept_where_the_format_can(stylize, images, tmp_path):
    glass, one = images / "glass.png", ("--steps", 1)
    assert stylize(*one, content=glass).code == 0
    alpha = read_alpha(tmp_path / "out.png")
    assert (alpha[:, :20].max(), alpha[:, 28:].min()) == (0, 1)
    assert stylize(*one, content=glass, output=tmp_path / "out.jpg").code == 0
    assert read_alpha(tmp_path / "out.jpg") is None
    # One step evaluates only: the image is the content over white.
    assert read_image(tmp_path / "out.jpg")[:, :20].min() > 0.9


def test_style_scale_and_precision(stylize, tmp_path):
    def losses(*flags):
        assert stylize("--steps", 1, "--report", tmp_path / "r.json", *flags).code == 0
        return json.loads((tmp_path / "r.json").read_text())["losses"]["total"]

    usual = losses()
    assert losses("--style-scale", 0.5) != pytest.approx(usual, rel=1e-3)
    assert losses("--precision", "float32") == pytest.approx(usual, rel=1e-2)
    assert losses("--precision", "bfloat16") == pytest.approx(usual, rel=0.1)


def test_masks(stylize, images, tmp_path):
    """Each style in its half; the report names the masks, and a mask is not overwritten."""
    halves = [tmp_path / "left.png", tmp_path / "right.png"]
    for half, start in zip(halves, (0, 16), strict=True):
        pixels = np.zeros((24, 32), np.uint8)
        pixels[:, start : start + 16] = 255
        Image.fromarray(pixels).save(half)
    both = [images / "style.png", images / "content.png"]
    report = tmp_path / "r.json"
    ended = stylize("--report", report, "--content-masks", *halves, styles=both)
    assert ended.code == 0, ended.err
    assert json.loads(report.read_text())["content_masks"] == list(map(str, halves))
    assert json.loads(report.read_text())["style_masks"] == []
    plain = read_image(tmp_path / "out.png")
    assert stylize("--content-masks", *halves, "--style-masks", *halves, styles=both).code == 0
    assert np.abs(read_image(tmp_path / "out.png") - plain).max() > 0.01
    ended = stylize("--content-masks", halves[0], styles=both)
    assert ended.code == 2
    assert "there must be one content mask per style image (2), got 1." in ended.err
    before = halves[0].read_bytes()
    assert stylize("--content-masks", *halves, styles=both, output=halves[0]).code == 2
    assert halves[0].read_bytes() == before


@pytest.fixture
def interrupting(monkeypatch):
    """Press Ctrl-C `presses` times at the first progress, or send another signal."""

    def arm(presses, number=signal.SIGINT):
        def show(display, parts, done, total):
            for _ in range(presses):
                if done <= 2:
                    signal.raise_signal(number)
            show.before(display, parts, done, total)

        show.before = Display.show
        monkeypatch.setattr(Display, "show", show)

    return arm


def test_ctrl_c_stops_after_the_chunk_and_keeps_the_image(stylize, interrupting, tmp_path):
    interrupting(1)
    printed = stylize("--steps", 40, "--every", 2, "--report", tmp_path / "r.json")
    assert printed.code == 130
    assert "stopping after these steps" in printed.err
    assert printed.err.rstrip().endswith("stopped at step 2 of 40 (48x36)")
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["status"] == "stopped"
    assert report["scales"] == [{"height": 36, "width": 48, "steps": 2}]
    assert {len(values) for values in report["losses"].values()} == {2}
    assert read_image(tmp_path / "out.png").shape == (36, 48, 3)


def test_second_ctrl_c_quits_without_a_image(stylize, interrupting, tmp_path):
    interrupting(2)
    printed = stylize("--steps", 40, "--every", 2)
    assert printed.code == 130
    assert printed.err.splitlines()[-1] == "swag-jax: interrupted"
    assert not list(tmp_path.glob("*.p*"))


@pytest.mark.parametrize(
    ("presses", "number", "code", "line"),
    [
        (1, signal.SIGINT, 130, "swag-jax: interrupted"),
        (1, signal.SIGTERM, 143, "swag-jax: terminated"),
        (2, signal.SIGTERM, 143, "swag-jax: terminated"),
    ],
)
def test_a_stop_is_one_line_where_nothing_else_is_printed(stylize, interrupting, tmp_path, presses, number, code, line):
    interrupting(presses, number)
    printed = stylize("--steps", 40, "--every", 2, "--quiet")
    assert (printed.code, printed.err, printed.out) == (code, f"{line}\n", "")
    assert (tmp_path / "out.png").exists() == (presses == 1)


def test_tiles_give_the_image_of_the_whole(stylize, tmp_path):
    whole, tiled = (
        stylize("--tile", 0),
        stylize("--tile", 32, "--report", tmp_path / "r.json", output=tmp_path / "t.png"),
    )
    assert whole.code == tiled.code == 0
    assert ", in tiles of 32 px" in tiled.err.splitlines()[-1]
    assert " tiles " not in whole.err
    assert json.loads((tmp_path / "r.json").read_text())["tile"] == 32
    np.testing.assert_allclose(read_image(tmp_path / "t.png"), read_image(tmp_path / "out.png"), atol=1.5 / 255)
    assert "tile must be at least 32, got 8" in stylize("--tile", 8).problem


def test_a_killed_process_is_resumed(process, images, tmp_path):
    words = ("stylize", images / "content.png", images / "style.png", "-o", tmp_path / "out.png", "--tile", 32)
    small = ("--size", 48, "--steps", 60, "--solver", "adam", "--every", 1)
    small += ("--style-layers", "relu1_1,relu1_2", "--content-layers", "relu1_2")
    often = "from swag_jax.optimize.state_file import StateFile; StateFile.due = lambda _: True; "
    code = often + "import sys; from swag_jax.cli import main; sys.exit(main(sys.argv[1:]))"
    running = subprocess.Popen([sys.executable, "-c", code, *map(str, (*words, *small))])
    state = tmp_path / "out.png.state"
    while not state.exists():
        assert running.poll() is None
        time.sleep(0.01)
    running.kill()
    assert running.wait() == -signal.SIGKILL
    assert not (tmp_path / "out.png").exists()
    before = {path.name for path in tmp_path.glob("out-*.png")}
    for path in tmp_path.glob("out-*.png"):
        path.unlink()
    resumed = process(*words, *small)
    assert resumed.code == 0, resumed.err
    assert not state.exists()
    after = {path.name for path in tmp_path.glob("out-*.png")}
    assert "out-00001.png" in before - after  # steps that are done are not taken again
    assert "out-00059.png" in after


def test_a_process_stops_on_sigint(process, images, tmp_path):
    output = tmp_path / "out.png"
    printed = process(
        *("stylize", images / "content.png", images / "style.png", "-o", output, "--report", tmp_path / "r.json"),
        *("--size", 64, "--steps", 100_000, "--every", 5),
        *("--style-layers", "relu1_1,relu1_2", "--content-layers", "relu1_2"),
        stop_at=tmp_path / "out-00005.png",
    )
    assert printed.code == 130, printed.err
    assert " stopped at step " in printed.err.splitlines()[-1]
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["status"] == "stopped"
    assert 5 <= len(report["losses"]["total"]) < 100_000
    assert read_image(output).shape == (48, 64, 3)


def test_compiled_programs_are_kept_for_the_next_process(process, images, tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    words = ("stylize", images / "content.png", images / "style.png", "-o", tmp_path / "out.png", "--quiet")
    small = ("--size", 32, "--steps", 2, "--style-layers", "relu1_1", "--content-layers", "relu1_1")
    assert process(*words, *small, SWAG_JAX_HOME=str(tmp_path / "home")).code == 0
    assert list((tmp_path / "home" / "compiled").iterdir())


def test_the_oldest_compiled_programs_are_removed(tmp_path):
    for age, (name, size) in enumerate({"new": 300, "middle": 300, "old": 300, "oldest": 300}.items()):
        (tmp_path / name).write_bytes(bytes(size))
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    os.utime(tmp_path / "oldest", (2000, 1))  # which was read since
    prune(tmp_path, most=1200)
    assert len(list(tmp_path.iterdir())) == 4
    prune(tmp_path, most=700)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "oldest"]
    prune(tmp_path / "none", most=0)


def test_works_where_nothing_can_be_kept(stylize, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("SWAG_JAX_HOME", str(tmp_path / "file" / "home"))
    ended = stylize("--quiet")
    assert (ended.code, ended.err) == (0, "")


def progress(**changes):
    facts = {
        "step": 120, "steps": 300, "height": 384, "width": 512, "rate": 25.31, "seconds": 9.0, "seconds_left": 75.2,
        "losses": {"total": 1.5, "content/a": 0.5, "style/a": 0.25, "style/b": 0.5, "variation": 0.25},
        "image": lambda: np.zeros((1, 1, 3), np.float32),
    }  # fmt: skip
    return Progress(**{**facts, **changes})


def test_summary_adds_up_families_and_fits_the_width():
    whole = "120/300  512x384  total 1.5  content 0.5  style 0.75  variation 0.25  25.3 steps/s  1:15 left"
    line = steps_line(progress())
    assert fit(line) == fit(line, len(whole)) == whole
    assert fit(line, 58) == "120/300  total 1.5  style 0.75  25.3 steps/s  1:15 left"
    assert fit(line, 5) == "120/300  1:15 left"


def test_no_family_is_named_without_terms():
    assert "content" not in fit(steps_line(progress(losses={"total": 1.0, "style/a": 1.0})))


def test_clock():
    assert [clock(s) for s in (0, 59.6, 3599, 3600, 36_000.4)] == ["0:00", "1:00", "59:59", "1:00:00", "10:00:00"]


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_live_line_stays_on_one_line(monkeypatch, capsys, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with Display("a [red] image with quite a long name.png", quiet=False) as display:
        display.show(steps_line(progress()), 120, 300)
    shown = capsys.readouterr().err
    visible = [_plain(line) for line in shown.replace("\r", "\n").splitlines()]
    assert max(map(len, visible)) <= columns
    assert any(line.startswith("a [red] image with …") and "120/300" in line for line in visible)


def _plain(line):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line)


def test_main_returns_the_code(images):
    assert main(["stylize", str(images / "none.png"), "x.png", "-o", "y.png"]) == 2
