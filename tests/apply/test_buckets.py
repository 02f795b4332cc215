"""Images of many sizes in a handful of programs, each as in a program of its own."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from swag_jax._checks import UserError
from swag_jax._programs import Recent
from swag_jax.apply import ApplySettings, Content, Style, Stylizer, drivers, repaint, repaint_many
from swag_jax.apply.buckets import Ending, can_end, choose, pad_kept
from swag_jax.attention import StyleKeys
from swag_jax.backbones import Compute

SMALL = ApplySettings(style_size=16)

SIZES = [(27, 37), (30, 22), (17, 40), (24, 32), (21, 36), (37, 27), (33, 33), (40, 18)]


def contents():
    random = np.random.default_rng(2)
    return [random.random((*size, 3)).astype(np.float32) for size in SIZES]


@pytest.fixture
def compiled(monkeypatch):
    """The shapes that `paint` was traced for: each is a program."""
    monkeypatch.setattr(drivers, "_paint_single", Recent(drivers._paint_one, static_argnames="mixed"))
    found, paint = [], drivers.paint
    monkeypatch.setattr(drivers, "paint", lambda *x, **options: found.append(x[2].shape) or paint(*x, **options))
    return found


@pytest.mark.parametrize("kind", ["johnson", "adain", "sanet", "adaattn"])
def test_many_sizes_take_a_handful_of_programs_and_each_is_as_alone(kind, stylizers, images, compiled):
    stylizer, styles = stylizers[kind], [] if kind == "johnson" else [images[1]]
    found: Any = {o.index: o.image for o in repaint_many(stylizer, contents(), styles, settings=SMALL, programs=2)}
    assert len(compiled) <= 2
    alone = repaint(stylizer, contents()[1], styles, settings=SMALL)
    assert float(alone.std()) > 0.01
    np.testing.assert_allclose(found[1], alone, rtol=0, atol=2e-5)


@pytest.mark.parametrize("border", ["zeros", "edge", "reflect"])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (9, 1), (1, 1)])
def test_a_convolution_ends_with_the_image(border, kernel, stride):
    """A map of 12 x 16 positions, two pixels apart, of which the first 8 x 10 are the image's."""
    random = np.random.default_rng(0)
    x = jnp.asarray(random.normal(size=(2, 12, 16, 3)), jnp.float32)
    weights = jnp.asarray(random.normal(size=(kernel, kernel, 3, 4)), jnp.float32)
    options = {"stride": stride, "padding": ((kernel // 2,) * 2,) * 2, "border": border}
    inner = Ending(size=(24, 32), ends=jnp.array([16, 20]))
    expected = Compute().convolve(x[:, :8, :10], weights, **options)
    found = inner.convolve(x, weights, **options)[:, : expected.shape[1], : expected.shape[2]]
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-5)
    whole = Ending(size=(24, 32), ends=jnp.array([24, 32]))
    np.testing.assert_allclose(
        whole.convolve(x, weights, **options), Compute().convolve(x, weights, **options), rtol=0, atol=5e-5
    )


@pytest.mark.parametrize(("size", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (3, 1, 1)])
def test_a_pool_ends_with_the_image(size, stride, padding):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 12, 16, 3)), jnp.float32)
    options = {"size": size, "stride": stride, "padding": padding}
    expected = Compute().max_pool(x[:, :8, :10], **options)
    found = Ending(size=(24, 32), ends=jnp.array([16, 20])).max_pool(x, **options)
    np.testing.assert_array_equal(found[:, : expected.shape[1], : expected.shape[2]], expected)


def test_masks_and_batches_of_several_sizes(stylizers, images, compiled):
    """14 images on 8 devices: two on each, which end at different places."""
    works = [
        Content(c, (np.linspace(0, 1, c[..., 0].size, dtype=np.float32).reshape(c.shape[:2]),)) for c in contents()
    ]
    settings = ApplySettings(style_size=16, strength=0.7)
    given = [*works, *works[:6]]
    found = repaint_many(stylizers["adain"], given, images[1:2], settings=settings, batch_size=16, programs=1)
    results: Any = {o.index: o.image for o in found}
    assert len(compiled) == 1
    for index in (3, 10):
        alone = repaint(stylizers["adain"], given[index], images[1:2], settings=settings)
        np.testing.assert_allclose(results[index], alone, rtol=0, atol=2e-5)


def test_few_sizes_and_unknown_ones_are_painted_as_they_are(stylizers, compiled):
    """Functions whose images' sizes are not known, an array of no image's shape, and sizes that are few."""
    several = [*contents()[:2], *(lambda c=c: c for c in contents()[2:4]), np.zeros(3, np.float32)]
    found = list(repaint_many(stylizers["johnson"], several, [], settings=SMALL, programs=2))
    assert [o.error is None for o in sorted(found, key=lambda o: o.index)] == [True] * 4 + [False]
    assert sorted(compiled) == sorted((-(-h // 4) * 4, -(-w // 4) * 4, 3) for h, w in SIZES[:4])


def test_sizes_that_add_the_fewest_pixels_are_joined():
    found = choose([(64, 96), (64, 88), (256, 256), (96, 64)], most=3, unit=8)
    assert found == {(64, 96): (64, 96), (64, 88): (64, 96)}
    assert choose([(8, 16), (16, 8)], most=2, unit=8) == {}
    # Wide ones with wide ones: together with the tall they would add twice as many pixels.
    found = choose([(64, 128), (56, 128), (128, 64), (128, 56)], most=2, unit=8)
    assert sorted(set(found.values())) == [(64, 128), (128, 64)]
    # Ten images of one size count ten times.
    found = choose([(64, 64)] * 10 + [(64, 72), (64, 88)], most=2, unit=8)
    assert found == {(64, 72): (64, 88), (64, 88): (64, 88)}


def test_hundreds_of_sizes_are_few_buckets_that_hold_them():
    random = np.random.default_rng(0)
    shapes = [(8 * int(h), 8 * int(w)) for h, w in random.integers(20, 100, (300, 2))]
    found = choose(shapes, most=4, unit=8)
    assert len({found.get(shape, shape) for shape in shapes}) == 4
    assert all(h <= found[h, w][0] and w <= found[h, w][1] for h, w in shapes if (h, w) in found)


def test_buckets_are_no_larger_than_what_is_painted_whole():
    assert choose([(800, 4096), (4096, 800), (808, 4096)], most=1, unit=8) == {
        (800, 4096): (808, 4096),
        (808, 4096): (808, 4096),
    }


def test_a_network_whose_maps_are_uneven_has_no_buckets(stylizers, images, compiled):
    """A convolution without padding: nobody can say at which position an image ends."""
    encoder = nnx.clone(stylizers["adain"].encoder)
    encoder.b.padding = ((0, 0), (0, 0))
    uneven = Stylizer(encoder, stylizers["adain"].generator)
    assert can_end(stylizers["adain"])
    assert not can_end(uneven)
    several = [np.zeros((side, 16, 3), np.float32) for side in (16, 20)]
    assert all(o.error is None for o in repaint_many(uneven, several, images[1:2], settings=SMALL, programs=1))
    assert len(compiled) == 2


def test_a_content_that_is_its_own_style_has_no_bucket(stylizers, images, compiled):
    """Its attention's draws are those of its size."""
    settings = ApplySettings(style_size=16, strength=0.5)
    found = list(repaint_many(stylizers["sanet"], contents()[:2], images[1:2], settings=settings, programs=1))
    assert [o.error for o in found] == [None, None]
    assert len(set(compiled)) == 2


@pytest.mark.parametrize("kind", ["sanet", "adaattn"])
def test_styles_of_several_sizes_take_one_program(kind, stylizers, images, compiled):
    """What is attended to is filled up; a style's region, and the style's own statistics, stay as they are."""
    random, content, settings = np.random.default_rng(6), images[0][:16, :16], ApplySettings(style_size=0)
    region = np.zeros((26, 26), np.float32)
    region[:12] = 1
    styles = [Style(random.random((side, 26, 3)).astype(np.float32), region[:side]) for side in (24, 26)]
    found: Any = [
        next(repaint_many(stylizers[kind], [content], [s], settings=settings, many_styles=True)) for s in styles
    ]
    assert len(compiled) == 1
    alone = repaint(stylizers[kind], content, styles[:1], settings=settings)
    np.testing.assert_allclose(found[0].image, alone, rtol=0, atol=2e-5)


def test_what_is_added_to_a_style_is_not_attended_to():
    def kept(count, allowed):
        return jax.tree.map(lambda x: x[None], StyleKeys(jnp.ones((count, 2)), jnp.ones((count, 3)), allowed))

    found = pad_kept({"a": kept(100, jnp.zeros(100, bool)), "b": jnp.zeros(3)})
    assert found["a"].keys.shape == (1, 108, 2)  # 2^6.75 = 107.6
    assert found["a"].values.shape == (1, 108, 3)
    assert found["a"].allowed.sum() == 100  # an empty region restricts nothing
    assert found["b"].shape == (3,)
    assert pad_kept(kept(4096, None)).keys.shape == (1, 4096, 2)


def test_programs_are_a_number(stylizers):
    with pytest.raises(UserError, match="programs must be at least 0"):
        repaint_many(stylizers["johnson"], [], [], programs=-1)
