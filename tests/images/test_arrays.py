"""Images and masks that arrive as arrays: taken, or refused by what they are, with the cure."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from swag_jax import UserError, solve, write_image
from swag_jax.images._arrays import as_image, as_mask, host_image
from swag_jax.measure import color_distance, ssim
from swag_jax.measure.identity import rms_difference

GOOD = np.random.default_rng(0).random((16, 24, 3)).astype(np.float32)
BROKEN = np.where(GOOD > 0.9, np.nan, GOOD)

TAKEN = {
    "float16": GOOD.astype(np.float16),
    "float32": GOOD,
    "float64": GOOD.astype(np.float64),
    "bfloat16": jnp.asarray(GOOD, jnp.bfloat16),
    "jax": jnp.asarray(GOOD),
    "lists": GOOD.tolist(),
}

REFUSED = {
    "uint8": (np.uint8(GOOD * 255), "uint8: divide by 255."),
    "uint16": (np.uint16(GOOD * 65535), "uint16: divide by 65535."),
    "bool": (GOOD > 0.5, "bool: convert it to float32"),
    "complex": (GOOD * 1j, "complex64: convert it to float32"),
    "channels first": (np.moveaxis(GOOD, -1, 0), "(3, 16, 24): move the channels to the end: np.moveaxis"),
    "gray": (GOOD[..., 0], "(16, 24): repeat the gray values"),
    "gray, one channel": (GOOD[..., :1], "(16, 24, 1): repeat the gray values"),
    "with opacity": (GOOD[..., [0, 1, 2, 0]], "(16, 24, 4): leave out the fourth channel"),
    "batch": (GOOD[None], "(1, 16, 24, 3): pass the images of a batch one by one"),
    "empty": (GOOD[:0], "(0, 24, 3)."),
    "number": (0.5, "()."),
    "PIL": (Image.fromarray(np.uint8(GOOD * 255)), 'a PIL image of mode RGB: pass np.asarray(image.convert("RGB")'),
    "text": ("x.png", "the path 'x.png': read it with swag_jax.read_image."),
    "path": (Path("x.png"), "x.png'): read it with swag_jax.read_image."),
    "nothing": (None, "NoneType: pass a NumPy or JAX array."),
    "ragged": ([[1.0], [1.0, 2.0]], "list ("),
    "NaN": (BROKEN, f"{np.isnan(BROKEN).sum()} of 1152 values that are NaN or infinite."),
    "NaN, bfloat16": (jnp.asarray(BROKEN, jnp.bfloat16), f"{np.isnan(BROKEN).sum()} of 1152 values"),
    "infinite": (np.where(GOOD > 0.9, np.inf, GOOD), "of 1152 values that are NaN or infinite."),
    "bytes as floats": (GOOD * 255, "]: divide by 255."),
    "16 bits as floats": (GOOD * 65535, "]: divide by 65535."),
}


def message(call, *arguments):
    with pytest.raises(UserError) as caught:
        call(*arguments)
    return str(caught.value)


@pytest.mark.parametrize("kind", TAKEN)
def test_floats_of_any_precision_are_taken(kind, tmp_path, unchecked):
    host = host_image(TAKEN[kind], "content")
    assert host.dtype == np.float32
    np.testing.assert_allclose(host, GOOD, atol=2**-8 if "16" in kind else 1e-7)
    image = as_image(TAKEN[kind], "content")
    assert (isinstance(image, jax.Array), image.dtype) == (True, jnp.float32)
    np.testing.assert_array_equal(image, host)
    write_image(tmp_path / "out.png", TAKEN[kind])
    assert float(rms_difference(TAKEN[kind], image)) == 0


@pytest.mark.parametrize("kind", REFUSED)
def test_others_are_refused_by_what_they_are(kind, tmp_path, unchecked):
    value, part = REFUSED[kind]
    calls = [
        lambda x: host_image(x, "content"),
        lambda x: as_image(x, "content"),
        lambda x: write_image(tmp_path / "out.png", x),
        lambda x: ssim(x, GOOD),
        lambda x: rms_difference(GOOD, x),
        lambda x: color_distance(jax.random.key(0), x, GOOD),
        lambda x: solve(Frozen(), x, [GOOD], objective=None, solver=None, steps=1),
        lambda x: solve(Frozen(), GOOD, [GOOD, x], objective=None, solver=None, steps=1),
    ]
    for call in calls:
        assert part in message(call, value)
    assert not (tmp_path / "out.png").exists()


class Frozen:
    """What `solve` asks of a network before it looks at the images."""

    def frozen(self):
        return self


def test_a_range_of_its_own_is_told(tmp_path, unchecked):
    signed = GOOD * 2 - 1
    for call in (host_image, as_image):
        assert "map [-1, 1] by (x + 1) / 2" in message(call, signed, "content")
    assert "clip it" in message(host_image, GOOD + 0.01, "content")
    np.testing.assert_array_equal(as_image(GOOD + 0.4, "content"), GOOD + 0.4)  # as computing may give it


def test_values_are_not_looked_at_under_jit_nor_where_that_is_not_wanted(unchecked):
    assert jax.jit(lambda x: as_image(x, "content"))(jnp.full((4, 4, 3), 255.0)).shape == (4, 4, 3)
    assert as_image(jnp.full((4, 4, 3), jnp.nan), "content", values=False).shape == (4, 4, 3)
    assert "uint8: divide by 255" in message(jax.jit(lambda x: as_image(x, "content")), np.uint8(GOOD * 255))


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (GOOD[..., 0], GOOD[..., 0]),
        (GOOD[..., 0] > 0.5, np.float32(GOOD[..., 0] > 0.5)),
        (jnp.asarray(GOOD[..., 0]), GOOD[..., 0]),
        (np.uint8(GOOD[..., 0] * 255), "uint8: divide by 255."),
        (GOOD[..., 0] * 255, "]: divide by 255."),
        (GOOD[..., :1], "(16, 24, 1): take one channel of it."),
        (GOOD, "(16, 24, 3): take one channel of it."),
        (BROKEN[..., 0], "values that are NaN or infinite."),
        ("mask.png", "the path 'mask.png': read it"),
    ],
)
def test_masks(mask, expected, unchecked):
    if isinstance(expected, str):
        assert expected in message(as_mask, mask, "content")
    else:
        np.testing.assert_array_equal(as_mask(mask, "content"), expected)
