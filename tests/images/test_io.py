"""Every image is made here: exact pixels after reading, every bad file, writing that is all or nothing."""

import contextlib
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageCms

from swag_jax._checks import UserError
from swag_jax.images import _decode, read_alpha, read_image, write_image
from swag_jax.images.io import check_output

HEIGHT, WIDTH = 20, 30
LOSSLESS = ("png", "tif", "tiff", "webp")
STEP = 1 / 255


def colorful(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Random bytes: no two orientations, channels or pixels of it are alike."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def smooth(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A ramp along both sides, which lossy formats keep well."""
    rows, columns = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return np.stack([rows, columns, (rows + columns) / 2], axis=-1).astype(np.float32)


def save(path: Path, image: Pillow.Image, **options) -> Path:
    image.save(path, **({"lossless": True, "exact": True} if path.suffix == ".webp" else {}), **options)
    return path


def saved(path: Path, array: np.ndarray, **options) -> Path:
    return save(path, Pillow.fromarray(array), **options)


def rejected(call: Callable, *arguments, **options) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments, **options)
    return str(caught.value)


# Reading: modes


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_reads_exact_colors(tmp_path, suffix):
    image = read_image(saved(tmp_path / f"a.{suffix}", colorful()))
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, colorful() / np.float32(255))


def test_reads_jpeg(tmp_path):
    saved(tmp_path / "a.jpg", np.uint8(smooth() * 255 + 0.5), quality=95, subsampling=0)
    np.testing.assert_allclose(read_image(tmp_path / "a.jpg"), smooth(), atol=4 * STEP)


def test_the_content_decides_not_the_suffix(tmp_path):
    saved(tmp_path / "a.png", colorful()).rename(tmp_path / "a.jpg")
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), colorful() / np.float32(255))


@pytest.mark.parametrize("suffix", ["png", "tif", "gif", "bmp"])
def test_gray(tmp_path, suffix):
    gray = colorful()[..., 0]
    expected = np.repeat(gray[..., None] / np.float32(255), 3, axis=-1)
    np.testing.assert_array_equal(read_image(saved(tmp_path / f"a.{suffix}", gray)), expected)


def test_one_bit(tmp_path):
    bits = colorful()[..., 0] > 127
    image = read_image(saved(tmp_path / "a.png", bits))
    np.testing.assert_array_equal(image, np.repeat(bits[..., None], 3, axis=-1).astype(np.float32))


def palette_image() -> tuple[Pillow.Image, np.ndarray]:
    indices = (np.arange(HEIGHT * WIDTH) % 3).reshape(HEIGHT, WIDTH).astype(np.uint8)
    image = Pillow.fromarray(indices)
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 51])
    return image, indices


@pytest.mark.parametrize("suffix", ["png", "tif", "gif"])
def test_palette(tmp_path, suffix):
    image, indices = palette_image()
    path = save(tmp_path / f"a.{suffix}", image)
    np.testing.assert_array_equal(read_image(path), np.float32([[1, 0, 0], [0, 1, 0], [0, 0, 0.2]])[indices])
    assert read_alpha(path) is None


@pytest.mark.parametrize(("transparency", "opacities"), [(b"\x00\x33\xff", (0, 0.2, 1)), (1, (1, 0, 1))])
def test_palette_with_transparency(tmp_path, transparency, opacities):
    image, indices = palette_image()
    path = save(tmp_path / "a.png", image, transparency=transparency)
    alpha = np.float32(opacities)[indices]
    np.testing.assert_array_equal(read_alpha(path), alpha)
    color = np.float32([[1, 0, 0], [0, 1, 0], [0, 0, 0.2]])[indices]
    expected = color * alpha[..., None] + 1 - alpha[..., None]
    np.testing.assert_allclose(read_image(path), expected, atol=1e-6)


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_alpha_lies_over_white(tmp_path, suffix):
    opacity = np.linspace(0, 255, HEIGHT * WIDTH).astype(np.uint8).reshape(HEIGHT, WIDTH, 1)
    path = saved(tmp_path / f"a.{suffix}", np.concatenate([colorful(), opacity], axis=-1))
    alpha = opacity / np.float32(255)
    np.testing.assert_array_equal(read_alpha(path), alpha[..., 0])
    np.testing.assert_allclose(read_image(path), colorful() / 255 * alpha + 1 - alpha, atol=1e-6)


def test_gray_with_alpha(tmp_path):
    path = save(tmp_path / "a.png", Pillow.new("LA", (WIDTH, HEIGHT), (0, 51)))
    np.testing.assert_allclose(read_image(path), np.full((HEIGHT, WIDTH, 3), 0.8, np.float32), atol=1e-6)
    np.testing.assert_array_equal(read_alpha(path), np.full((HEIGHT, WIDTH), 0.2, np.float32))


def test_a_color_declared_transparent(tmp_path):
    array = colorful()
    array[0, 0] = 10, 20, 30
    path = saved(tmp_path / "a.png", array, transparency=(10, 20, 30))
    expected = np.ones((HEIGHT, WIDTH), np.float32)
    expected[0, 0] = 0
    np.testing.assert_array_equal(read_alpha(path), expected)
    np.testing.assert_array_equal(read_image(path)[0, 0], np.ones(3))


def test_fully_opaque_alpha_is_none(tmp_path):
    assert read_alpha(save(tmp_path / "a.png", Pillow.new("RGBA", (WIDTH, HEIGHT)))) is not None
    assert read_alpha(save(tmp_path / "b.png", Pillow.new("RGBA", (WIDTH, HEIGHT), (1, 2, 3, 255)))) is None
    assert read_alpha(saved(tmp_path / "c.png", colorful())) is None


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_without_profile(tmp_path, suffix):
    stored = Pillow.new("CMYK", (WIDTH, HEIGHT), (255, 0, 0, 0))
    image = read_image(save(tmp_path / f"a.{suffix}", stored))
    np.testing.assert_allclose(image, np.broadcast_to(np.float32([0, 1, 1]), image.shape), atol=2 * STEP)


# Reading: more than 8 bits


def deep() -> np.ndarray:
    return np.linspace(0, 65535, HEIGHT * WIDTH).astype(np.uint16).reshape(HEIGHT, WIDTH)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_gray_keeps_its_precision(tmp_path, suffix):
    image = read_image(saved(tmp_path / f"a.{suffix}", deep()))
    np.testing.assert_allclose(image[..., 1], deep() / 65535, atol=1e-7)


def test_sixteen_bit_big_endian(tmp_path):
    path = tmp_path / "a.tif"
    Pillow.fromarray(deep().astype(">u2")).save(path)
    np.testing.assert_allclose(read_image(path)[..., 0], deep() / 65535, atol=1e-7)


def test_sixteen_bit_gray_declared_transparent(tmp_path):
    path = saved(tmp_path / "a.png", deep(), transparency=65535)
    np.testing.assert_array_equal(read_alpha(path), (deep() != 65535).astype(np.float32))


def test_inverted_sixteen_bit_tiff(tmp_path):
    path = saved(tmp_path / "a.tif", deep(), tiffinfo={262: 0})
    np.testing.assert_allclose(read_image(path)[..., 0], 1 - deep() / 65535, atol=1e-6)


@pytest.mark.parametrize("white", [255, 65535, 2**31 - 1])
def test_thirty_two_bit_integers(tmp_path, white):
    values = np.linspace(0, white, HEIGHT * WIDTH).astype(np.int32).reshape(HEIGHT, WIDTH)
    image = read_image(saved(tmp_path / "a.tif", values))
    np.testing.assert_allclose(image[..., 2], values / white, atol=1e-6)


def test_thirty_two_bit_unsigned_integers(tmp_path):
    values = np.linspace(0, 2**32 - 1, HEIGHT * WIDTH).astype(np.uint32).reshape(HEIGHT, WIDTH)
    path = saved(tmp_path / "a.tif", values.view(np.int32))
    signed, unsigned = (struct.pack("<HHIH", 339, 3, 1, sample_format) for sample_format in (2, 1))
    assert signed in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(signed, unsigned))
    np.testing.assert_allclose(read_image(path)[..., 0], values / (2**32 - 1), atol=1e-6)


@pytest.mark.parametrize("white", [1, 255, 65535, 1e6])
def test_floating_point(tmp_path, white):
    values = np.linspace(0, white, HEIGHT * WIDTH).astype(np.float32).reshape(HEIGHT, WIDTH)
    image = read_image(saved(tmp_path / "a.tif", values))
    np.testing.assert_allclose(image[..., 0], values / white, atol=1e-6)


def test_floating_point_out_of_range_is_clipped(tmp_path):
    values = np.linspace(-0.5, 1.5, HEIGHT * WIDTH).astype(np.float32).reshape(HEIGHT, WIDTH)
    image = read_image(saved(tmp_path / "a.tif", values))
    np.testing.assert_allclose(image[..., 0], np.clip(values, 0, 1), atol=1e-6)


def test_floating_point_that_is_not_finite_is_refused(tmp_path):
    path = saved(tmp_path / "a.tif", np.full((HEIGHT, WIDTH), np.nan, np.float32))
    assert "not finite" in rejected(read_image, path)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_first_frame_of_an_animation(tmp_path, suffix):
    first, second = Pillow.new("RGB", (WIDTH, HEIGHT), (255, 0, 0)), Pillow.new("RGB", (WIDTH, HEIGHT))
    path = save(tmp_path / f"a.{suffix}", first, save_all=True, append_images=[second])
    with Pillow.open(path) as opened:
        assert opened.n_frames == 2
    image = read_image(path)
    np.testing.assert_array_equal(image, np.broadcast_to(np.float32([1, 0, 0]), image.shape))


# Reading: orientation

UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored, 1),
}


def exif(orientation: int) -> Pillow.Exif:
    tags = Pillow.Exif()
    tags[0x0112] = orientation
    return tags


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_orientation(tmp_path, orientation, suffix):
    opacity = colorful()[..., :1]
    stored = np.concatenate([colorful(), opacity], axis=-1)
    path = saved(tmp_path / f"a.{suffix}", stored, exif=exif(orientation))
    upright = UPRIGHT[orientation](stored) / np.float32(255)
    color, alpha = upright[..., :3], upright[..., 3:]
    np.testing.assert_array_equal(read_alpha(path), alpha[..., 0])
    np.testing.assert_allclose(read_image(path), color * alpha + 1 - alpha, atol=1e-6)
    assert _decode.header_shape(path) == upright.shape[:2]


def test_a_header_that_tells_no_shape(tmp_path):
    """Of a file that is damaged, missing, or a folder: reading it will say so."""
    (tmp_path / "a.png").write_bytes(b"no image")
    assert [_decode.header_shape(path) for path in (tmp_path / "a.png", tmp_path / "b.png", tmp_path)] == [None] * 3


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_orientation_of_jpeg(tmp_path, orientation):
    stored = np.uint8(smooth() * 255 + 0.5)
    path = saved(tmp_path / "a.jpg", stored, exif=exif(orientation), quality=95, subsampling=0)
    np.testing.assert_allclose(read_image(path), UPRIGHT[orientation](smooth()), atol=4 * STEP)


@pytest.mark.parametrize("tags", [b"Exif\x00\x00no tags at all", b"Exif\x00\x00II*\x00\xff\xff\xff\xff"])
def test_broken_exif_is_ignored(tmp_path, tags):
    saved(tmp_path / "a.png", colorful(), exif=tags)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), colorful() / np.float32(255))


def test_unknown_orientation_is_ignored(tmp_path):
    saved(tmp_path / "a.png", colorful(), exif=exif(9))
    assert read_image(tmp_path / "a.png").shape == (HEIGHT, WIDTH, 3)


# Reading: color profiles


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def swapped_profile() -> bytes:
    """An RGB profile whose red primary is blue, and whose blue is red."""
    return srgb_profile().replace(b"rXYZ", b"....").replace(b"bXYZ", b"rXYZ").replace(b"....", b"bXYZ")


def fixed(*numbers: float) -> bytes:
    """ICC.1:2022, 4.6: s15Fixed16Number."""
    return struct.pack(f">{len(numbers)}i", *(round(number * 65536) for number in numbers))


def profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """ICC.1:2022, 7: header, tag table and tag data of a version 2 profile."""
    table, data = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += struct.pack(">4sII", name, 132 + 12 * len(tags) + len(data), len(content))
        data += content
    size = 128 + len(table) + len(data)
    header = struct.pack(">I4sI4s4s4s12x4s28x", size, b"    ", 0x02400000, kind, space, connection, b"acsp")
    return header + fixed(0.9642, 1, 0.8249) + bytes(48) + table + data


def linear_gray_profile() -> bytes:
    """Gray that is proportional to light."""
    white = b"XYZ " + bytes(4) + fixed(0.9642, 1, 0.8249)
    curve = b"curv" + bytes(4) + struct.pack(">I", 0)
    return profile(b"mntr", b"GRAY", b"XYZ ", {b"wtpt": white, b"kTRC": curve})


def cyan_only_profile() -> bytes:
    """CMYK in which cyan ink is black and no other ink leaves a trace."""
    ramp = bytes(range(256))
    nodes = b"".join(bytes([0 if cyan else 255, 128, 128]) * 8 for cyan in range(2))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    return profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table + 4 * ramp + nodes + 3 * ramp})


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_the_srgb_profile_changes_nothing(tmp_path, suffix):
    path = saved(tmp_path / f"a.{suffix}", colorful(), icc_profile=srgb_profile())
    np.testing.assert_array_equal(read_image(path), colorful() / np.float32(255))


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_a_profile_is_converted(tmp_path, suffix):
    path = saved(tmp_path / f"a.{suffix}", colorful(), icc_profile=swapped_profile())
    np.testing.assert_allclose(read_image(path), colorful()[..., ::-1] / np.float32(255), atol=1.01 * STEP)


def test_a_profile_leaves_the_opacity_alone(tmp_path):
    stored = np.concatenate([colorful(), colorful()[..., :1]], axis=-1)
    path = saved(tmp_path / "a.png", stored, icc_profile=swapped_profile())
    np.testing.assert_array_equal(read_alpha(path), stored[..., 3] / np.float32(255))


def test_a_profile_with_a_palette(tmp_path):
    image, indices = palette_image()
    path = save(tmp_path / "a.png", image, icc_profile=swapped_profile())
    expected = np.float32([[0, 0, 1], [0, 1, 0], [0.2, 0, 0]])[indices]
    np.testing.assert_allclose(read_image(path), expected, atol=1.01 * STEP)


@pytest.mark.parametrize("gray", [np.uint8(128), np.uint16(128 * 257)])
def test_a_gray_profile(tmp_path, gray):
    path = saved(tmp_path / "a.png", np.full((HEIGHT, WIDTH), gray), icc_profile=linear_gray_profile())
    light = 128 / 255
    expected = 1.055 * light ** (1 / 2.4) - 0.055  # IEC 61966-2-1
    np.testing.assert_allclose(read_image(path), expected, atol=1.01 * STEP)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_gray_with_an_rgb_profile(tmp_path, depth):
    gray = colorful()[..., 0].astype(depth) * depth(257 if depth is np.uint16 else 1)
    image = read_image(saved(tmp_path / "a.png", gray, icc_profile=srgb_profile()))
    np.testing.assert_allclose(image[..., 0], colorful()[..., 0] / 255, atol=1e-6)


@pytest.mark.parametrize(("ink", "expected"), [((255, 0, 0, 0), 0), ((0, 255, 255, 0), 1)])
@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_with_a_profile(tmp_path, suffix, ink, expected):
    stored = Pillow.new("CMYK", (WIDTH, HEIGHT), ink)
    image = read_image(save(tmp_path / f"a.{suffix}", stored, icc_profile=cyan_only_profile()))
    np.testing.assert_allclose(image, expected, atol=2 * STEP)


def test_lab(tmp_path):
    image = read_image(save(tmp_path / "a.tif", Pillow.new("LAB", (WIDTH, HEIGHT), (255, 128, 128))))
    np.testing.assert_allclose(image, 1, atol=2 * STEP)


@pytest.mark.parametrize(
    "broken",
    [b"no profile", srgb_profile()[:200], b"\x00" * 300, linear_gray_profile(), cyan_only_profile()],
    ids=["text", "truncated", "zeros", "of gray", "of CMYK"],
)
def test_a_profile_that_does_not_fit_is_ignored(tmp_path, broken):
    path = saved(tmp_path / "a.png", colorful(), icc_profile=broken)
    np.testing.assert_array_equal(read_image(path), colorful() / np.float32(255))


# Reading: size


@pytest.mark.parametrize(("size", "shape"), [(24, (16, 24)), (30, (20, 30)), (60, (40, 60)), (100, (67, 100))])
def test_size_is_the_longer_side(tmp_path, size, shape):
    stored = np.concatenate([colorful(), colorful()[..., :1]], axis=-1)
    path = saved(tmp_path / "a.png", stored)
    assert read_image(path, size=size).shape == (*shape, 3)
    assert read_alpha(path, size=size).shape == shape
    assert 0 <= read_image(path, size=size).min() <= read_image(path, size=size).max() <= 1


def test_size_counts_after_turning(tmp_path):
    path = saved(tmp_path / "a.png", colorful(), exif=exif(6))
    assert read_image(path, size=60).shape == (60, 40, 3)


def test_size_too_small(tmp_path):
    path = saved(tmp_path / "a.png", colorful())
    assert rejected(read_image, path, size=8) == "size must be at least 16, got 8."


def test_size_that_leaves_too_little(tmp_path):
    path = saved(tmp_path / "a.png", colorful(20, 400))
    message = rejected(read_image, path, size=200)
    assert message.endswith("got 200 x 10 at size 200: pass size 320 or more.")
    assert read_image(path, size=320).shape == (16, 320, 3)


def test_size_too_large(tmp_path):
    assert "178,956,970" in rejected(read_image, saved(tmp_path / "a.png", colorful()), size=10**6)


# Reading: bad files


def test_missing_file_names_its_neighbors(tmp_path):
    saved(tmp_path / "bridge.png", colorful())
    (tmp_path / "bridge.txt").write_text("no image")
    message = rejected(read_image, tmp_path / "bridg.png")
    assert message == f"{tmp_path / 'bridg.png'} does not exist; did you mean bridge.png?"


def test_missing_file_in_a_large_folder_stays_short(tmp_path):
    for index in range(40):
        (tmp_path / f"image{index}.png").touch()
    assert len(rejected(read_image, tmp_path / "zzz.jpg")) < len(str(tmp_path)) + 150


def test_missing_file_without_neighbors(tmp_path):
    assert "no image at all" in rejected(read_image, tmp_path / "a.png")


def test_missing_folder(tmp_path):
    assert f"no folder {tmp_path / 'b'}" in rejected(read_image, tmp_path / "b" / "a.png")


def test_folder(tmp_path):
    assert rejected(read_image, tmp_path).endswith("got a folder: name one file in it.")


def test_not_a_regular_file():
    assert "a device or pipe" in rejected(read_image, "/dev/null")


@pytest.mark.parametrize("path", ["a" * 300 + ".png", "a\0.png", ""])
def test_impossible_path(path):
    rejected(read_image, path)


def test_text_renamed(tmp_path):
    (tmp_path / "a.jpg").write_text("This is no image, whatever its name says. " * 10)
    message = rejected(read_image, tmp_path / "a.jpg")
    assert "a.jpg must hold an image, got content of no known format" in message
    assert "PNG, JPEG" in message


def test_empty_file(tmp_path):
    (tmp_path / "a.jpg").touch()
    assert "0 bytes" in rejected(read_image, tmp_path / "a.jpg")


def test_unreadable_format(tmp_path):
    Pillow.fromarray(colorful()).save(tmp_path / "a.eps")
    assert "content of another kind (PostScript)" in rejected(read_image, tmp_path / "a.eps")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "gif"])
def test_truncation_anywhere_is_refused_or_harmless(tmp_path, suffix):
    whole = saved(tmp_path / f"a.{suffix}", colorful())
    content, expected = whole.read_bytes(), read_image(whole)
    for length in range(1, len(content) - 16, max(1, len(content) // 40)):
        whole.write_bytes(content[:length])
        try:
            image = read_image(whole)
        except UserError:
            continue
        np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_half_a_file_is_refused(tmp_path, suffix):
    path = saved(tmp_path / f"a.{suffix}", colorful(64, 64))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    message = rejected(read_image, path)
    assert f"a.{suffix} must be a whole, undamaged image" in message
    assert "truncated" in message
    assert message.endswith("copy or export the file again.")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "gif"])
def test_damage_anywhere_never_ends_in_another_error(tmp_path, suffix):
    path = saved(tmp_path / f"a.{suffix}", colorful(), icc_profile=srgb_profile(), exif=exif(6))
    content, random = path.read_bytes(), np.random.default_rng(1)
    for _ in range(40):
        damaged = bytearray(content)
        for place in random.integers(0, min(len(content), 900), 4):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged)
        for read in (read_image, read_alpha):
            with contextlib.suppress(UserError):
                read(path)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (15, 200), (200, 15), (1, 20000)])
def test_too_small(tmp_path, height, width):
    message = rejected(read_image, saved(tmp_path / "a.png", colorful(height, width)))
    assert f"at least 16 px, got {width} x {height} (width x height)" in message


def test_smallest(tmp_path):
    assert read_image(saved(tmp_path / "a.png", colorful(16, 16))).shape == (16, 16, 3)


def png_header(width: int, height: int) -> bytes:
    """A PNG that declares a size and holds no pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [13_378, 20_000, 2**31 - 1])
def test_a_bomb_is_refused_by_its_header(tmp_path, side):
    (tmp_path / "a.png").write_bytes(png_header(side, side))
    message = rejected(read_image, tmp_path / "a.png")
    assert "a.png: an image may have at most 178,956,970 pixels" in message


def test_below_the_limit_no_warning_escapes(tmp_path):
    (tmp_path / "a.png").write_bytes(png_header(13_000, 13_000))
    assert "undamaged" in rejected(read_image, tmp_path / "a.png")


def test_permission_denied(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.png", colorful())

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(_decode.Pillow, "open", denied)
    assert "a.png must be readable, got permission denied" in rejected(read_image, path)
    monkeypatch.setattr(Path, "is_dir", denied)
    assert "a.png must be readable, got permission denied" in rejected(read_image, path)


# Writing


@pytest.mark.parametrize("suffix", ["png", "tif", "tiff", "PNG"])
def test_lossless_there_and_back(tmp_path, suffix):
    image = colorful() / np.float32(255)
    write_image(tmp_path / f"a.{suffix}", image)
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{suffix}"), image)
    assert [entry.name for entry in tmp_path.iterdir()] == [f"a.{suffix}"]


@pytest.mark.parametrize(("suffix", "format"), [("jpg", "JPEG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
def test_lossy_there_and_back(tmp_path, suffix, format):  # noqa: A002
    write_image(tmp_path / f"a.{suffix}", smooth())
    np.testing.assert_allclose(read_image(tmp_path / f"a.{suffix}"), smooth(), atol=8 * STEP)
    with Pillow.open(tmp_path / f"a.{suffix}") as image:
        assert image.format == format


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_alpha_there_and_back(tmp_path, suffix):
    alpha = smooth()[..., 0]
    write_image(tmp_path / f"a.{suffix}", smooth(), alpha=jnp.asarray(alpha))
    np.testing.assert_allclose(read_alpha(tmp_path / f"a.{suffix}"), alpha, atol=0.51 * STEP)


def test_rounds_and_clips(tmp_path):
    values = np.zeros((16, 16, 3), np.float32)
    values[0, :8, 0] = [-1, 0.49 / 255, 0.51 / 255, 0.5, 127.4 / 255, 254.4 / 255, 254.6 / 255, 2]
    write_image(tmp_path / "a.png", values)
    stored = np.asarray(Pillow.open(tmp_path / "a.png"))
    np.testing.assert_array_equal(stored[0, :8, 0], [0, 0, 1, 128, 127, 254, 255, 255])


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_writes_device_arrays(tmp_path, dtype):
    write_image(tmp_path / "a.png", jnp.full((16, 16, 3), 0.25, dtype))
    np.testing.assert_array_equal(np.asarray(Pillow.open(tmp_path / "a.png")), 64)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_embeds_srgb_and_repeats_to_the_byte(tmp_path, suffix, monkeypatch):
    write_image(tmp_path / f"a.{suffix}", smooth())
    with Pillow.open(tmp_path / f"a.{suffix}") as image:
        embedded = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
    assert "sRGB" in ImageCms.getProfileDescription(embedded)
    later = srgb_profile()[:24] + struct.pack(">6H", 2001, 2, 3, 4, 5, 6) + srgb_profile()[36:]
    monkeypatch.setattr(ImageCms.ImageCmsProfile, "tobytes", lambda _: later)
    write_image(tmp_path / f"b.{suffix}", smooth())
    assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_quality_changes_the_file_size(tmp_path, suffix):
    for quality in (20, 95):
        write_image(tmp_path / f"{quality}.{suffix}", colorful() / np.float32(255), quality=quality)
    assert (tmp_path / f"20.{suffix}").stat().st_size < (tmp_path / f"95.{suffix}").stat().st_size


@pytest.mark.parametrize("quality", [0, 101])
def test_quality_out_of_range(tmp_path, quality):
    assert "quality must be" in rejected(write_image, tmp_path / "a.jpg", smooth(), quality=quality)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_refuses_what_is_not_finite(tmp_path, bad):
    image = smooth()
    image[3, 4, 0] = bad
    message = rejected(write_image, tmp_path / "a.png", image)
    assert message == "an image to write must be finite, got 1 of 1800 values that are NaN or infinite."
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("image", "alpha", "part"),
    [
        (colorful(), None, "floating-point values in [0, 1], got uint8"),
        (smooth()[..., 0], None, "shape (height, width, 3), got (20, 30)"),
        (smooth()[None], None, "shape (height, width, 3), got (1, 20, 30, 3)"),
        (smooth()[:0], None, "shape (height, width, 3), got (0, 30, 3)"),
        (smooth(), smooth()[:5, :, 0], "shape (20, 30), got (5, 30)"),
        (smooth(), colorful()[..., 0], "an alpha to write must have floating-point"),
    ],
)
def test_refuses_arrays_that_are_no_image(tmp_path, image, alpha, part):
    assert part in rejected(write_image, tmp_path / "a.png", image, alpha=alpha)


def outputs(call: Callable) -> Callable:
    """Both ways to meet a bad output path: the check beforehand and the writing itself."""
    return call if call is check_output else lambda path: write_image(path, smooth())


@pytest.mark.parametrize("call", [check_output, write_image])
def test_bad_outputs(tmp_path, call, monkeypatch):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    attempt = outputs(call)
    assert "must be a file to write, got a folder" in rejected(attempt, tmp_path / "folder.png")
    assert f"create {tmp_path / 'b'}" in rejected(attempt, tmp_path / "b" / "a.png")
    assert "must be a folder, got a file" in rejected(attempt, tmp_path / "file" / "a.png")
    for name in ("a.gif", "a", "a.pgn"):
        message = rejected(attempt, tmp_path / name)
        assert f"must end in one of .png, .jpg, .jpeg, .webp, .tif, .tiff, got '{name}'" in message
    monkeypatch.setattr("os.access", lambda *_: False)
    assert "must be writable, got permission denied" in rejected(attempt, tmp_path / "a.png")


def test_good_outputs(tmp_path):
    for name in ("a.png", "a.JPG", "a.jpeg", "a.webp", "a.tif", "a.tiff"):
        check_output(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", ["jpg", "jpeg"])
def test_jpeg_holds_no_alpha(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    for message in (
        rejected(check_output, path, alpha=True),
        rejected(write_image, path, smooth(), alpha=smooth()[..., 0]),
    ):
        assert message.endswith("write one of .png, .webp, .tif, .tiff.")


@pytest.mark.parametrize("name", ["a" * 300 + ".png", "a\0.png"])
def test_impossible_output(tmp_path, name):
    rejected(write_image, tmp_path / name, smooth())
    assert not list(tmp_path.iterdir())


def test_sides_beyond_the_format(tmp_path):
    message = rejected(write_image, tmp_path / "a.webp", np.zeros((1, 16384, 3), np.float32))
    assert "a.webp could not be written" in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("failure", "surfaces"),
    [(OSError(28, "No space left on device"), UserError), (KeyboardInterrupt(), KeyboardInterrupt)],
)
def test_a_failing_save_keeps_the_old_file(tmp_path, monkeypatch, failure, surfaces):
    path = tmp_path / "a.png"
    path.write_bytes(b"the old file")

    def failing(_, file, **__):
        file.write(b"half a pict")
        raise failure

    monkeypatch.setattr(Pillow.Image, "save", failing)
    with pytest.raises(surfaces):
        write_image(path, smooth())
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]
    assert path.read_bytes() == b"the old file"


def test_a_failing_replacement_leaves_nothing(tmp_path, monkeypatch):
    def failing(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", failing)
    assert "Permission denied" in rejected(write_image, tmp_path / "a.png", smooth())
    assert not list(tmp_path.iterdir())


def test_a_new_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").touch()
    write_image(tmp_path / "a.png", smooth())
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "usual").stat().st_mode
