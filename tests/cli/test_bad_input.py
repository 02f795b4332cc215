"""Whatever is wrong with the input: exit code 2, one line that says what and how to mend it, and nothing written."""

import re
import struct
import zlib

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from swag_jax.backbones.zoo import parameter_shapes
from swag_jax.optimize import memory

BEFORE = b"what stood here before"


@pytest.fixture
def refused(stylize, unchecked, tmp_path):
    """Run `stylize` on bad input over an existing file; return the one line it prints."""

    def run(*flags, **inputs):
        output = inputs.setdefault("output", tmp_path / "kept.png")
        in_place = output.parent.is_dir() and not output.exists()
        if in_place:
            output.write_bytes(BEFORE)
        files = _files(tmp_path)
        problem = stylize(*flags, **inputs).problem
        assert problem.startswith("swag-jax")
        assert _files(tmp_path) == files
        if in_place:
            assert output.read_bytes() == BEFORE
            output.unlink()
        return problem

    return run


def _files(folder):
    return sorted(path for path in folder.rglob("*") if "home" not in path.parts)


def _bomb():
    """A PNG of 60000 x 60000 pixels by its header, and of nothing else."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.fixture
def bad(images, drawn, tmp_path):
    """A folder of what is no usable image."""
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "text.jpg").write_text("not an image\n" * 50)
    (folder / "empty.png").touch()
    (folder / "bomb.png").write_bytes(_bomb())
    (folder / "folder").mkdir()
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    Image.new("RGB", (20000, 1)).save(folder / "line.png")
    image = Image.fromarray((drawn["content"] * 255).astype(np.uint8))
    image.save(folder / "cut.jpg")
    whole = (folder / "cut.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    return folder


PICTURES = [
    ("cut.png", r"cut\.png does not exist; did you mean cut\.jpg or .*\?"),
    ("folder", r"folder must be an image file, got a folder: name one file in it\."),
    ("text.jpg", r"text\.jpg must hold an image, got content of no known format: name an image file .*"),
    ("cut.jpg", r"cut\.jpg must be a whole, undamaged image, got a decoding failure .*: copy or export .*"),
    ("empty.png", r"empty\.png must hold an image, got an empty file \(0 bytes\): copy it again\."),
    ("dot.png", r"dot\.png: both sides must be at least 16 px, got 1 x 1 .*: choose a larger .*"),
    ("line.png", r"line\.png: both sides must be at least 16 px, got 20000 x 1 .*: choose .*"),
    ("bomb.png", r"bomb\.png: an image may have at most 178,956,970 pixels, got .*: shrink the image first\."),
]


@pytest.mark.parametrize(("name", "message"), PICTURES)
def test_bad_image_as_content_style_and_init(refused, bad, images, name, message):
    message = rf"swag-jax: {re.escape(str(bad))}/{message}"
    assert re.fullmatch(message, refused(content=bad / name))
    assert re.fullmatch(message, refused(styles=[images / "style.png", bad / name]))
    assert re.fullmatch(message, refused("--init", bad / name))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("none/out.png", "the folder of {path} must exist, got no such folder: create {parent}."),
        ("folder.png", "{path} must be a file to write, got a folder: name a file in it."),
        ("out.bmp", "the name of an output image must end in one of .png, .jpg, .jpeg, .webp, .tif, .tiff, got"),
        ("out", "the name of an output image must end in one of"),
        ("file/out.png", "the folder of {path} must be a folder, got a file"),
        (
            "images/content.png",
            "-o must not be one of the files that are read (CONTENT), got {path}: choose",
        ),
        ("images/../images/style.png", "-o must not be one of the files that are read (STYLE)"),
    ],
)
def test_unwritable_output(stylize, tmp_path, output, message):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("a file")
    path = tmp_path / output
    files = _files(tmp_path)
    problem = stylize(output=path).problem
    assert problem.startswith(f"swag-jax: {message.format(path=path, parent=path.parent)}")
    assert _files(tmp_path) == files


@pytest.mark.parametrize("report", ["none/r.json", ".", "kept.png", "images/../kept.png"])
def test_unwritable_report(refused, tmp_path, report):
    assert "--report " in refused("--report", tmp_path / report)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--style-layers", "relu41"), "unknown layer 'relu41': did you mean relu4_1"),
        (("--content-layers", "conv9"), "unknown layer 'conv9'"),
        (("--smoothing", "softmax", "--smoothing-layers", "relu41"), "unknown layer 'relu41'"),
        (("--weights", "imagnet"), "unknown weights 'imagnet': did you mean imagenet"),
        (("--weights", "imagenet"), "vgg19-imagenet is not in the local store: run `swag-jax weights fetch vgg19-im"),
        (("--weights", "no/such.pth"), "no/such.pth"),
        (
            ("--backbone", "wide_resnet50_2", "--weights", "embedded"),
            "no checkpoint of wide_resnet50_2 comes with the package",
        ),
        (("--backbone", "resnet50", "--pooling", "max"), "pooling can only be chosen for a VGG"),
        (("--backbone", "resnet50", "--padding", "reflect"), "padding can only be chosen for a VGG"),
        (("--every", 0), "--every must be at least 1, got 0"),
        (("--blend", "1,2"), "there must be one blend weight per style image (1), got 2"),
        (("--blend", "-1"), "a blend weight must be at least 0, got -1.0"),
        (("--solver", "lbfgs", "--memory", 0), "L-BFGS memory must be at least 1, got 0"),
        (("--solver", "adam", "--learning-rate", 0), "learning rate must be greater than 0, got 0.0"),
        (("--scale-ratio", 1), "scale ratio must be at least 1.1, got 1.0"),
        (("--style-scale", 100), "style scale must be at least 0.05 and at most 20, got 100.0"),
        (("--style-layer-weights", "1,1e9"), "a style layer weight must be at least 0 and at most 1e+08"),
        (("--content-weight", 0, "--style-weight", 0), "the content or the style weight must be greater than 0"),
        (("--init", "nois"), "nois"),
    ],
)
def test_bad_flag(refused, flags, message):
    assert message in refused(*flags)


def test_size_below_the_networks_minimum_names_the_size_that_works(refused, stylize):
    deep = ("--style-layers", "relu4_1", "--steps", 1)
    problem = refused("--size", 8, *deep)
    found = re.search(r"the shorter side must be at least 8 pixels .*, got 6x8: pass --size (\d+) or more", problem)
    assert stylize("--size", found[1], *deep).code == 0


@pytest.fixture
def checkpoint(tmp_path):
    """Write a VGG19 down to relu1_2 whose bias of conv1_2 is changed."""
    shapes = parameter_shapes("vgg19", until="relu1_2")
    places = {"conv1_1": 0, "conv1_2": 2}

    def write(change):
        rng, tensors = np.random.default_rng(0), {}
        for name, shape in shapes.items():
            layer, _, kind = name.partition(".")
            values = rng.normal(0, 0.1, shape).astype(np.float32)
            values = values.transpose(3, 2, 0, 1).copy() if kind == "kernel" else values
            tensors[f"features.{places[layer]}.{'weight' if kind == 'kernel' else 'bias'}"] = values
        tensors["features.2.bias"] = change(tensors["features.2.bias"])
        save_file(tensors, tmp_path / "mine.safetensors")
        return tmp_path / "mine.safetensors"

    return write


def test_sound_weights_of_ones_own(stylize, checkpoint):
    assert stylize("--weights", checkpoint(lambda bias: bias), "--quiet").code == 0


def test_nan_weights(refused, checkpoint):
    problem = refused("--weights", checkpoint(lambda bias: bias * np.nan))
    assert re.search(r"mine\.safetensors.*(finite|NaN)|(finite|NaN).*mine\.safetensors", problem), problem


def test_overflowing_weights_name_step_and_term(refused, checkpoint):
    problem = refused("--weights", checkpoint(lambda bias: bias + 1e38))
    assert re.search(r"the term style/relu1_2 must be finite, got (inf|nan) at step 1: check the weights", problem)
    assert "mine.safetensors" in problem


@pytest.mark.parametrize("flags", [(), ("--smallest-size", 30000)])
def test_out_of_memory_is_refused_before_any_work(refused, monkeypatch, flags):
    monkeypatch.setattr("swag_jax.optimize.pairs.resize", None)
    problem = refused("--size", 30000, "--tile", 0, *flags)
    found = re.search(r"a run must fit into memory, got (\d+)\.\d GiB needed at size 30000 and .* GiB free", problem)
    assert int(found[1]) > 500
    assert re.search(r"pass --size \d+ or less, or --precision bfloat16\.$", problem)


def test_the_size_named_fits(refused, stylize, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 60 * 2**20)
    monkeypatch.setattr(memory, "ANALYZED_SIZE", 64)
    found = re.search(
        r"needed at size 400 and 0\.1 GiB free: pass --size (\d+) or less", refused("--size", 400, "--tile", 0)
    )
    size = int(found[1])
    assert 64 <= size < 400
    assert stylize("--size", size, "--steps", 2, "--tile", 0).code == 0
    assert "must fit into memory" in refused("--size", round(1.2 * size), "--tile", 0)


@pytest.mark.parametrize(
    "failure", [jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes."), MemoryError()]
)
def test_memory_used_up_at_run_time(refused, monkeypatch, failure):
    def fail(*_):
        raise failure

    monkeypatch.setattr(jax, "device_get", fail)
    problem = refused("--size", 64)
    assert "a run must fit into memory, which was used up at size 64: pass --size 32 or less, or" in problem


def test_other_failures_of_the_runtime_are_not_hidden(stylize, monkeypatch):
    def fail(*_):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(jax, "device_get", fail)
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        stylize()


def test_as_a_process(process, images, tmp_path):
    words = ("stylize", images / "none.png", images / "style.png", "-o", tmp_path / "out.png")
    assert "none.png does not exist" in process(*words).problem
    assert not (tmp_path / "out.png").exists()


def test_a_failing_write_keeps_the_file(stylize, monkeypatch, tmp_path):
    output = tmp_path / "out.png"
    output.write_bytes(BEFORE)

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    ended = stylize(output=output)
    assert ended.code == 2
    assert "No space left on device" in ended.err.splitlines()[-1]
    assert output.read_bytes() == BEFORE
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["out.png"]
