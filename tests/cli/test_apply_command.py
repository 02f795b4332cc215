"""`swag-jax apply`: one image, folders that go on where they stopped, and what is refused."""

import shutil
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image
from words import records, save

from swag_jax import generators, params, read_image, sample, write_image
from swag_jax._programs import KEPT
from swag_jax.apply import ApplySettings, Content, Style, drivers, load_artifact, load_stylizer, repaint
from swag_jax.features import LayerSpec
from swag_jax.generators.checkpoint import encoder_notes
from swag_jax.generators.registry import parameter_shapes, with_parameters
from swag_jax.images import read_alpha
from swag_jax.images.video import Frame, open_video, write_segment


def filled(path, config):
    """Write a generator with small random weights that reads VGG19 with random ones."""
    random, arrays = np.random.default_rng(7), {}
    for name, shape in parameter_shapes(config).items():
        scale = np.prod(shape[:3]) ** -0.5 if len(shape) == 4 else 0.2
        arrays[name] = np.asarray(random.normal(scale=scale, size=shape), np.float32)
    notes = encoder_notes(params.resolve("vgg19", weights="random"))
    generators.save_generator(path, with_parameters(config, arrays), notes=notes)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    config = generators.AdaINConfig((LayerSpec("relu1_1", 64, 1),))
    return filled(tmp_path_factory.mktemp("trained") / "adain.safetensors", config)


@pytest.fixture(scope="module")
def shown():
    """Two contents of one shape, one of another, and two styles."""
    coffee = sample("coffee", size=40)
    return {
        "contents": {"one": coffee, "two": coffee[::-1], "cat": sample("cat", size=32)[:, :24]},
        "styles": {"dots": sample("dots", size=32), "mosaic": sample("mosaic", size=24)},
    }


@pytest.fixture
def folders(tmp_path, shown):
    return save(shown, tmp_path)


def test_one_image_with_everything(command, checkpoint, folders):
    content, style = folders / "contents/one.png", folders / "styles/dots.png"
    height, width = read_image(content).shape[:2]
    mask, half = np.zeros((height, width, 3), np.float32), np.zeros((32, 32, 3), np.float32)
    mask[:, :20], half[:16] = 1, 1
    write_image(folders / "mask.png", mask)
    write_image(folders / "half.png", half)
    flags = ("--alpha", 0.8, "--style-size", 24, "--keep-colors", "--tile", 16)
    masks = ("--content-masks", folders / "mask.png", "--style-masks", folders / "half.png")
    ended = command("apply", checkpoint, content, style, "-o", folders / "out.png", *flags, *masks)
    assert ended.code == 0, ended.err
    assert "wrote" in ended.err
    stylizer = load_stylizer(checkpoint)
    settings = ApplySettings(strength=0.8, style_size=24, colors="luminance")
    pair = Content(read_image(content), (mask[..., 0],)), [Style(read_image(style), half[..., 0])]
    expected = repaint(stylizer, *pair, settings=settings)
    np.testing.assert_allclose(read_image(folders / "out.png"), expected, rtol=0, atol=1.01 / 255)


def test_transparency_is_kept(command, checkpoint, folders, images):
    style = folders / "styles/dots.png"
    for output in ("out.png", "out.jpg"):
        ended = command("apply", checkpoint, images / "glass.png", style, "-o", folders / output, "--style-size", 24)
        assert (ended.code, ended.out) == (0, ""), ended.err
    assert read_alpha(folders / "out.png")[:, :30].max() == 0
    assert read_alpha(folders / "out.jpg") is None


def test_several_styles_are_mixed_and_exported(command, checkpoint, folders):
    content, styles = folders / "contents/one.png", [folders / f"styles/{n}.png" for n in ("dots", "mosaic")]
    flags = ("--blend", "1,3", "--style-size", 24, "--quiet", "--export", folders / "made.swag")
    ended = command("apply", checkpoint, content, *styles, "-o", folders / "out.png", *flags)
    assert (ended.code, ended.err) == (0, "")
    artifact = load_artifact(folders / "made.swag")
    found = artifact(read_image(content)[None], [read_image(s, size=24) for s in styles], blend=(1, 3))[0]
    np.testing.assert_allclose(read_image(folders / "out.png"), found, rtol=0, atol=1.01 / 255)


def test_a_folder_goes_on_where_it_stopped(command, checkpoint, folders):
    """Every content in every style; one that is damaged fails alone, and only what has changed is done again."""
    (folders / "contents" / "broken.png").write_bytes(b"no image")
    words = ("apply", checkpoint, folders / "contents", folders / "styles", "-o", folders / "out", "--style-size", 24)
    ended = command(*words)
    assert ended.code == 3, ended.err
    assert "6 of 8 images" in ended.err
    found = records(folders / "out")
    names = [f"{c}_{s}" for s in ("dots", "mosaic") for c in ("broken", "cat", "one", "two")]
    assert list(found) == names
    assert [n for n in names if found[n]["status"] == "failed"] == ["broken_dots", "broken_mosaic"]
    assert found["broken_dots"]["error"]
    alone = repaint(
        load_stylizer(checkpoint),
        read_image(folders / "contents/two.png"),
        [read_image(folders / "styles/mosaic.png")],
        settings=ApplySettings(style_size=24),
    )
    np.testing.assert_allclose(read_image(folders / "out/two_mosaic.png"), alone, rtol=0, atol=1.01 / 255)

    times = {path.name: path.stat().st_mtime_ns for path in (folders / "out").glob("*.png")}
    (folders / "out" / "cat_dots.png").unlink()
    shutil.copy(folders / "contents" / "one.png", folders / "contents" / "two.png")
    assert command(*words).code == 3
    again = {path.name for path in (folders / "out").glob("*.png") if path.stat().st_mtime_ns != times.get(path.name)}
    assert again == {"cat_dots.png", "two_dots.png", "two_mosaic.png"}
    shutil.copy(folders / "contents" / "cat.png", folders / "contents" / "broken.png")
    assert command(*words, "--retry-failed").code == 0


def test_a_style_that_is_damaged_fails_its_own_images(command, checkpoint, folders):
    (folders / "styles" / "dots.png").write_bytes(b"no image")
    content = folders / "contents" / "cat.png"
    ended = command("apply", checkpoint, content, folders / "styles", "-o", folders / "out", "--style-size", 24)
    assert ended.code == 3, ended.err
    assert {n: r["status"] for n, r in records(folders / "out").items()} == {"cat_dots": "failed", "cat_mosaic": "done"}


def test_a_result_that_is_no_longer_what_was_written_is_made_again(command, checkpoint, folders):
    words = ("apply", checkpoint, folders / "contents", folders / "styles/dots.png", "-o", folders / "out")
    assert command(*words).code == 0
    out = folders / "out"
    written = {path: path.read_bytes() for path in out.glob("*.png")}
    (out / "one.png").write_bytes(b"")
    (out / "two.png").write_bytes(written[out / "cat.png"])
    assert command(*words).code == 0
    assert {path: path.read_bytes() for path in out.glob("*.png")} == written


def test_a_folder_of_many_sizes_takes_a_handful_of_programs(command, checkpoint, folders, monkeypatch):
    """Each image as with a program of its own, and a resumed run pads as the first one did."""
    compiled, paint = [], drivers.paint
    monkeypatch.setattr(drivers, "paint", lambda *x, **more: compiled.append(x[2].shape) or paint(*x, **more))
    wide = sample("coffee", size=40)
    (folders / "many").mkdir()
    for side in range(20, 30):
        write_image(folders / f"many/{side}.png", wide[:side, : 2 * side - 20])
    words = ("apply", checkpoint, folders / "many", folders / "styles/dots.png", "--style-size", 24)
    assert command(*words, "-o", folders / "out").code == 0
    assert len(compiled) == KEPT
    assert command(*words, "-o", folders / "exact", "--programs", 0).code == 0
    assert len(compiled) == KEPT + 10
    written = {path.name: path.read_bytes() for path in (folders / "out").glob("*.png")}
    assert len(written) == 10
    for name in written:
        found, expected = (read_image(folders / folder / name) for folder in ("out", "exact"))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1.01 / 255)
    for name in ("21.png", "28.png"):
        (folders / "out" / name).unlink()
    assert command(*words, "-o", folders / "out").code == 0
    assert {path.name: path.read_bytes() for path in (folders / "out").glob("*.png")} == written


def test_transparent_masks_equal_painted_ones(command, checkpoint, folders):
    """White where it counts: transparent elsewhere, or black, by opacity alone or as a palette, is the same."""
    content, styles = folders / "contents/one.png", [folders / "styles/dots.png", folders / "styles/mosaic.png"]
    height, width = read_image(content).shape[:2]
    left = np.zeros((height, width), np.uint8)
    left[:, : width // 2] = 255
    for side, mask in {"left": left, "right": 255 - left}.items():
        white = np.full_like(mask, 255)
        Image.fromarray(mask).save(folders / f"gray_{side}.png")
        Image.merge("LA", [Image.fromarray(white), Image.fromarray(mask)]).save(folders / f"la_{side}.png")
        Image.merge("RGBA", [Image.fromarray(x) for x in (white, white, white, mask)]).save(
            folders / f"rgba_{side}.png"
        )
        palette = Image.new("P", (width, height))
        palette.putdata((mask // 255).ravel().tolist())
        palette.putpalette([255] * 6)
        palette.save(folders / f"palette_{side}.png", transparency=b"\0\xff")
    images = {}
    for kind in ("gray", "la", "rgba", "palette"):
        masks = ("--content-masks", *(folders / f"{kind}_{side}.png" for side in ("left", "right")))
        output = folders / f"{kind}.png"
        ended = command("apply", checkpoint, content, *styles, "-o", output, "--style-size", 24, *masks)
        assert ended.code == 0, ended.err
        images[kind] = read_image(output)
    for kind in ("la", "rgba", "palette"):
        np.testing.assert_array_equal(images[kind], images["gray"])
    assert command("apply", checkpoint, content, *styles, "-o", folders / "no.png", "--style-size", 24).code == 0
    assert not np.array_equal(read_image(folders / "no.png"), images["gray"])


def test_frames_keep_their_names(command, folders, tmp_path):
    johnson = filled(tmp_path / "johnson.safetensors", generators.JohnsonConfig(channels=2, blocks=1))
    frames = folders / "frames"
    frames.mkdir()
    for number in range(3):
        shutil.copy(folders / "contents" / "cat.png", frames / f"{number:04d}.png")
    assert command("apply", johnson, frames, "-o", folders / "out", "--format", "jpg").code == 0
    assert list(records(folders / "out")) == ["0000", "0001", "0002"]
    first, *others = [read_image(folders / f"out/{number:04d}.jpg") for number in range(3)]
    for other in others:
        np.testing.assert_array_equal(first, other)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("contents/one.png", "-o", "out.png"), "the generator needs a style image"),
        (("contents/one.png", "styles/dots.png", "-o", "out.gif"), "out.gif"),
        (("contents/one.png", "styles/dots.png", "-o", "styles/dots.png"), "files that are read (STYLE)"),
        (("contents/none.png", "styles/dots.png", "-o", "out.png"), "none.png"),
        (("contents/one.png", "styles/dots.png", "-o", "out.png", "--alpha", "2"), "strength must be at least 0"),
        (("contents/one.png", "styles/dots.png", "-o", "out.png", "--alfa", "1"), "did you mean --alpha"),
        (("contents", "styles", "styles/dots.png", "-o", "out"), "a folder of styles must be given alone"),
        (("contents", "styles/dots.png", "-o", "contents"), "must not be a folder that is read"),
        (("contents", "styles/none.png", "-o", "out"), "none.png"),
        (("contents", "styles", "-o", "out", "--style-masks", "contents/one.png"), "masks are for single styles"),
        (("contents", "styles/dots.png", "-o", "out", "--export", "a.swag"), "--export is for one image"),
        (("contents", "styles/dots.png", "-o", "out", "--report", "a.json"), "--report is for one image"),
        (
            *(("contents/one.png", "styles/dots.png", "-o", "out.png", "--style-masks", *["contents/one.png"] * 2),),
            "one style mask per style (1)",
        ),
    ],
)
def test_bad_input_is_one_line(words, message, command, checkpoint, folders, monkeypatch):
    monkeypatch.chdir(folders)
    assert message in command("apply", checkpoint, *words).problem
    assert not (folders / "out.png").exists()


@pytest.fixture
def clip(tmp_path):
    """Three frames without sound."""
    frames = [Frame(sample("coffee", size=32)[:, ::step], 40 * i) for i, step in enumerate((1, -1, 1))]
    path = tmp_path / "clip.mp4"
    write_segment(path, frames, suffix=".mp4", time_base=Fraction(1, 1000), rate=Fraction(25))
    return path


def test_a_video(command, checkpoint, folders, clip):
    style, output = folders / "styles/dots.png", folders / "out.mp4"
    ended = command("apply", checkpoint, clip, style, "-o", output, "--style-size", 24)
    assert ended.code == 0, ended.err
    assert f"wrote {output}: 3 frames in" in ended.err
    assert open_video(output).frames == 3
    assert not output.with_name("out.mp4.parts").exists()


@pytest.mark.parametrize(
    ("output", "flags", "rule"),
    [
        ("out.png", (), "a video must be one of .mp4, .mov, .m4v, .mkv, .webm, got out.png"),
        ("out.mp4", ("--export", "made.swag"), "--export is for one image, got a video"),
        ("out.mp4", ("--report", "made.json"), "--report is for one image, got a video"),
        ("clip.mp4", (), "-o"),
        ("none/out.mp4", (), "-o must name a file in an existing, writable folder"),
    ],
)
def test_what_is_refused_of_a_video(command, checkpoint, folders, clip, output, flags, rule):
    before = clip.read_bytes()
    ended = command("apply", checkpoint, clip, folders / "styles/dots.png", "-o", folders / output, *flags)
    assert ended.code == 2
    assert rule in ended.err
    assert clip.read_bytes() == before
    assert not (folders / "out.mp4.parts").exists()
