"""Tiles equal the whole image: windows reach as far as pixels depend on each other, and moments are the whole's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swag_jax._tiles import Span, grid, spans
from swag_jax.apply import ApplySettings, Content, Style, functional, repaint, tiles
from swag_jax.apply.functional import StyleConditioning
from swag_jax.apply.tiles import gather_moments, reach
from swag_jax.statistics import moments


def styles_of(kind, images):
    return [] if kind == "johnson" else [images[1]]


def manner(stylizer, kind, images):
    key = jax.random.key(0)
    run = jax.jit(functional.read)
    kept = tuple(run(stylizer, jnp.asarray(s), key=key) for s in styles_of(kind, images))
    return StyleConditioning(kept, jnp.ones(1), jnp.ones(()))


def test_spans_cover_a_length_and_reach_beyond_every_tile_inside():
    found, window = spans(100, side=32, halo=20)
    assert window == 72
    assert [(s.start, s.stop) for s in found] == [(0, 32), (32, 64), (64, 96), (96, 100)]
    for span in found:
        assert span.window == 0 or span.start - span.window >= 20
        assert span.window + window == 100 or span.window + window - span.stop >= 20
    assert spans(30, side=32, halo=20) == ((Span(0, 30, 0),), 30)


def test_tiles_and_windows_begin_at_multiples_of_the_stride():
    found = grid(64, 96, side=17, halo=5, stride=8)
    assert found.window == (24 + 2 * 8, 24 + 2 * 8)
    assert all(n % 8 == 0 for row, column in found.tiles for s in (row, column) for n in (s.start, s.window))
    assert len(found.tiles) == 3 * 4


def test_reach_is_the_sum_of_the_kernels(stylizers, images):
    """AdaIN at stride 4: from pixels through a, b, c to position p, and back through conv3_1 to conv1_1.

    A position of c sees 1 at stride 4, 1 at stride 2 and 1 at stride 1 beyond its pools' pixels: 7 to the left of its
    first pixel and, its window being 4 wide, 7 to the right of its last. The decoder's convolutions: 1 at stride 4, 2
    at stride 2 and 2 at stride 1.
    """
    found = reach(stylizers["adain"], manner(stylizers["adain"], "adain", images))
    encoder, decoder = 4 + 2 + 1, 4 + 2 * 2 + 2 * 1
    assert encoder + decoder <= found <= encoder + decoder + 4


@pytest.mark.parametrize(("kind", "mixed"), [("johnson", True), ("adain", False), ("sanet", True), ("adaattn", True)])
def test_tiles_equal_the_whole(kind, mixed, stylizers, images):
    content, styles, options = Content(images[0]), styles_of(kind, images), {}
    if mixed:
        mask = np.linspace(0, 1, 27 * 37, dtype=np.float32).reshape(27, 37)
        content, options = Content(images[0], (mask,)), {"strength": 0.6}
        region = np.zeros((18, 14), np.float32)
        region[:9] = 1
        styles = [Style(s, region) for s in styles]
    whole, tiled = (
        repaint(stylizers[kind], content, styles, settings=ApplySettings(style_size=20, tile=tile, **options))
        for tile in (0, 8)
    )
    assert float(whole.std()) > 0.01
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=1e-4)


def test_moments_of_all_tiles_are_the_moments_of_the_image(stylizers):
    image = np.random.default_rng(1).random((32, 48, 3)).astype(np.float32)
    stylizer = stylizers["adain"]
    found = gather_moments(stylizer, image, grid(32, 48, side=8, halo=8, stride=4))
    encode = jax.jit(lambda s, x: s.generator.encode(s.encoder, x[None])["c"][0])
    expected = jax.jit(moments)(encode(stylizer, jnp.asarray(image)))
    for a, b in zip(found["c"], expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_moments_are_put_together_exactly():
    """Of 1, 3 and of 7: mean 11 / 3, centered squares 56 / 3 over 2."""
    parts = [(2.0, [2.0], [2.0]), (1.0, [7.0], [0.0])]
    mean, deviation = tiles._together(parts, unbiased=True)
    assert float(mean[0]) == pytest.approx(11 / 3)
    assert float(deviation[0]) == pytest.approx((56 / 3 / 2 + 1e-5) ** 0.5)
