"""Files of other formats are called by their names, those of a folder are counted, and libtiff prints nothing."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, features

from swag_jax import UserError, read_image, write_image
from swag_jax.images import read_mask
from swag_jax.images._decode import left_out

GRAY = np.full((24, 32, 3), 0.5, np.float32)


def iso(brand, *compatible):
    size = 16 + 4 * len(compatible)
    return size.to_bytes(4) + b"ftyp" + brand + bytes(4) + b"".join(compatible) + bytes(40)


OTHERS = {
    "IMG_1.HEIC": (iso(b"heic", b"mif1"), "content of another kind (HEIC): export it as JPEG"),
    "renamed.jpg": (iso(b"mif1", b"heic"), "content of another kind (HEIC): export it as JPEG"),
    "clip.mov": (iso(b"qt  "), "content of another kind (video): export its frames as PNG"),
    "clip.webm": (b"\x1aE\xdf\xa3" + bytes(40), "content of another kind (video)"),
    "raw.cr3": (iso(b"crx ", b"isom"), "content of another kind (Canon raw)"),
    "new.jxl": (b"\xff\x0a" + bytes(40), "content of another kind (JPEG XL)"),
    "box.jxl": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40), "content of another kind (JPEG XL)"),
    "old.jp2": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40), "content of another kind (JPEG 2000)"),
    "layers.psd": (b"8BPS\0\1" + bytes(40), "content of another kind (Photoshop)"),
    "scan.pdf": (b"%PDF-1.7\n", "content of another kind (PDF)"),
    "drawing.svg": (b'<svg xmlns="x"></svg>', "content of another kind (SVG)"),
    "photo.jpg": (b"<!doctype html><html></html>", "content of another kind (web page): download the image itself"),
    "pointer.png": (b"version https://git-lfs.github.com/spec/v1\n", "content of another kind (Git LFS pointer)"),
    "text.png": (b"just some words " * 4, "content of no known format"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_formats_have_names(tmp_path, name):
    data, part = OTHERS[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError) as caught:
        read_image(tmp_path / name)
    assert f"{name} must hold an image, got {part}" in str(caught.value)


def test_avif_is_read_where_pillow_can_and_named_elsewhere(tmp_path):
    path = tmp_path / "photo.avif"
    if "avif" in features.modules and features.check("avif"):
        Image.fromarray(np.full((24, 32, 3), 128, np.uint8)).save(path)
        np.testing.assert_allclose(read_image(path), 128 / 255, atol=0.01)
    else:
        path.write_bytes(iso(b"avif", b"mif1"))
        with pytest.raises(UserError, match=r"content of another kind \(AVIF\): export it as JPEG or PNG"):
            read_image(path)


def test_what_is_no_image_in_a_folder_is_counted(tmp_path):
    assert left_out(tmp_path) is None
    for name in ("a.png", "b.AVIF", ".hidden.txt", "sub"):
        (tmp_path / name).touch() if name != "sub" else (tmp_path / name).mkdir()
    assert left_out(tmp_path) is None
    (tmp_path / "notes.txt").touch()
    assert left_out(tmp_path) == f"left out of {tmp_path}: 1 file that is no image (1 .txt)"
    for name in ("a.heic", "b.HEIC", "c.dng", "README", "sub/d.txt", "sub/e.x", "sub/f.y", "sub/g.z"):
        (tmp_path / name).touch()
    flat, deep = left_out(tmp_path), left_out(tmp_path, deep=True)
    assert ": 5 files that are no images (2 .heic: export as JPEG; " in flat
    assert "1 .dng: export as JPEG" in flat
    assert "1 without a suffix" in flat
    assert ": 9 files that are no images (" in deep
    assert "2 other suffixes)" in deep


def test_a_mask_is_luminance_times_opacity(tmp_path):
    alpha = np.linspace(0, 1, 32, dtype=np.float32)[None].repeat(24, 0)
    write_image(tmp_path / "mask.png", GRAY, alpha=alpha)
    np.testing.assert_allclose(read_mask(tmp_path / "mask.png"), (128 / 255) * np.round(alpha * 255) / 255, atol=1e-6)
    write_image(tmp_path / "opaque.png", GRAY)
    np.testing.assert_allclose(read_mask(tmp_path / "opaque.png", size=24), 128 / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "target", "part"),
    [
        ("dangling.png", "nowhere.png", "got a link to nowhere.png, which does not exist"),
        ("loop.png", "loop.png", "got a link that leads to itself"),
        ("zero.png", "/dev/zero", "must be a regular file, got a device or pipe"),
    ],
)
def test_links_that_lead_to_no_image(tmp_path, name, target, part):
    (tmp_path / name).symlink_to(target)
    with pytest.raises(UserError) as caught:
        read_image(tmp_path / name)
    assert part in str(caught.value)
    assert "did you mean" not in str(caught.value)


SCRIPT = """
import sys
from pathlib import Path
from swag_jax import UserError, read_image
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        read_image(path)
    except UserError:
        print("refused")
"""


def test_broken_tiff_files_print_nothing(tmp_path):
    """Cut, and with each of their bytes set to others, which libtiff used to comment on standard error."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).save(
        tmp_path / "whole.tif", compression="tiff_adobe_deflate"
    )
    whole = (tmp_path / "whole.tif").read_bytes()
    places = range(8, len(whole), max(len(whole) // 60, 1))
    for place in places:
        (tmp_path / f"cut{place}.tif").write_bytes(whole[:place])
        (tmp_path / f"changed{place}.tif").write_bytes(whole[:place] + b"\xff\xee\xdd\xcc" + whole[place + 4 :])
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert ended.stdout.count("refused") >= len(places) - 1
    assert ended.stderr == ""
