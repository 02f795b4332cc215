"""One image and many: sizes, strength, blends, masks, colors; one that fails disturbs no other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swag_jax import devices
from swag_jax._checks import UserError
from swag_jax.apply import ApplySettings, Content, Style, functional, repaint, repaint_many
from swag_jax.apply.drivers import style_shape
from swag_jax.images import match_color, resize, transfer_luminance

SMALL = ApplySettings(style_size=16)


def close(a, b, atol=1e-5):
    np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def styles_of(kind, images):
    return [] if kind == "johnson" else images[1:2]


def test_results_have_the_contents_size_or_the_one_asked_for(stylizers, images):
    for size, shape in ((0, (27, 37, 3)), (20, (15, 20, 3))):
        settings = ApplySettings(style_size=16, size=size)
        found = repaint(stylizers["adain"], images[0], images[1:2], settings=settings)
        assert (found.shape, found.dtype) == (shape, np.float32)
        assert 0 <= found.min() < found.max() <= 1


@pytest.mark.parametrize("kind", ["johnson", "adaattn"])
def test_many_are_each_as_alone_and_a_bad_one_disturbs_none(kind, stylizers, images):
    def broken():
        raise OSError("no such file")

    contents = [images[0], images[0][::-1], images[2], broken, np.flip(images[0], 1), np.full((4, 4, 3), 2.0)]
    styles = styles_of(kind, images)
    found = {o.index: o for o in repaint_many(stylizers[kind], contents, styles, settings=SMALL)}
    assert sorted(found) == list(range(6))
    for index in (0, 1, 4):
        alone = repaint(stylizers[kind], contents[index], styles, settings=SMALL)
        close(found[index].image, alone)
    assert found[2].image.shape == (12, 21, 3)
    assert "must be readable, got OSError: no such file" in str(found[3].error)
    assert "must lie in [0, 1]" in str(found[5].error)


def test_equal_frames_give_equal_images(stylizers, images):
    """Positions that attention keeps are drawn once."""
    style = np.random.default_rng(5).random((24, 24, 3)).astype(np.float32)
    settings = ApplySettings(style_size=24)
    found = list(repaint_many(stylizers["adaattn"], [images[0]] * 3, [style], settings=settings, batch_size=1))
    for outcome in found[1:]:
        np.testing.assert_array_equal(outcome.image, found[0].image)
    other = repaint(stylizers["adaattn"], images[0], [style], settings=ApplySettings(style_size=24, seed=1))
    assert not np.allclose(other, found[0].image, atol=1e-4)


def unstyled(stylizer, content):
    """What the definition says: features as they are for AdaIN, else the content in its own style."""
    high, wide = stylizer.extended(*content.shape[:2])
    missing = [(0, high - content.shape[0]), (0, wide - content.shape[1]), (0, 0)]

    @jax.jit
    def run(stylizer, whole, small):
        own = functional.read(stylizer, small, key=jax.random.key(0))
        plain = stylizer.generator.unstyled(stylizer.generator.encode(stylizer.encoder, whole[None]), own)
        return stylizer.generator.decode(plain, size=(high, wide))[0]

    small = resize(content, *style_shape(stylizer, *content.shape[:2], size=16))
    painted = run(stylizer, jnp.asarray(np.pad(content, missing, mode="reflect")), jnp.asarray(small))
    return np.clip(painted[: content.shape[0], : content.shape[1]], 0, 1)


@pytest.mark.parametrize("name", ["adain", "sanet", "adaattn"])
def test_strength_zero_is_the_content_unstyled(name, stylizers, images):
    content = images[0][:16]
    found = repaint(stylizers[name], content, images[1:2], settings=ApplySettings(style_size=16, strength=0))
    close(found, unstyled(stylizers[name], content))


def test_johnsons_strength_mixes_pixels(stylizers, images):
    full, half = (repaint(stylizers["johnson"], images[0], [], settings=ApplySettings(strength=s)) for s in (1, 0.25))
    close(half, 0.25 * full + 0.75 * images[0])


@pytest.mark.parametrize("name", ["adain", "adaattn"])
def test_blends_are_of_features_and_a_weight_of_zero_leaves_a_style_out(name, stylizers, images):
    stylizer, content, styles = stylizers[name], images[0], images[1:]
    one = repaint(stylizer, content, styles[:1], settings=SMALL)
    close(repaint(stylizer, content, styles, settings=ApplySettings(style_size=16, blend=(2.0, 0.0))), one)
    close(repaint(stylizer, content, [styles[0]] * 2, settings=SMALL), one)
    assert not np.allclose(repaint(stylizer, content, styles, settings=SMALL), one, atol=1e-3)


def test_adain_blends_moments(stylizers, images):
    """Equal weights: the mean of the styles' moments, worked out by hand."""
    stylizer, content = stylizers["adain"], images[0][:16, :24]

    @jax.jit
    def run(stylizer, content, styles):
        kept = [functional.read(stylizer, style) for style in styles]
        mean = jax.tree.map(lambda a, b: (3 * a + b) / 4, *kept)
        generator = stylizer.generator
        encoded = generator.encode(stylizer.encoder, content[None])
        return generator.decode(generator.transfer(encoded, mean), size=(16, 24))[0]

    expected = run(stylizer, jnp.asarray(content), [jnp.asarray(s) for s in images[1:]])
    settings = ApplySettings(style_size=0, blend=(3.0, 1.0))
    close(repaint(stylizer, content, images[1:], settings=settings), np.clip(expected, 0, 1))


def test_masks_put_styles_side_by_side(stylizers, images):
    """Wide enough that the far columns see one style's side only; moments of the content are of all of it."""
    stylizer, styles = stylizers["adain"], images[1:]
    content = np.random.default_rng(3).random((16, 96, 3)).astype(np.float32)
    left = np.zeros((16, 96), np.float32)
    left[:, :48] = 1
    both = repaint(stylizer, Content(content, (left, 1 - left)), styles, settings=SMALL)
    first, second = (repaint(stylizer, content, [style], settings=SMALL) for style in styles)
    close(both[:, :24], first[:, :24])
    close(both[:, -24:], second[:, -24:])
    outside = repaint(stylizer, Content(content, (left,)), styles[:1], settings=SMALL)
    close(outside[:, :24], first[:, :24])
    plain = repaint(stylizer, content, styles[:1], settings=ApplySettings(style_size=16, strength=0))
    close(outside[:, -24:], plain[:, -24:])


@pytest.mark.parametrize("name", ["adain", "sanet", "adaattn"])
def test_a_style_region_is_all_that_is_used(name, stylizers, images):
    """What lies outside may change; pixels near the region's edge are seen by positions inside, so it is kept off."""
    stylizer, content = stylizers[name], images[0]
    region = np.zeros((32, 32), np.float32)
    region[:12] = 1
    style = np.random.default_rng(4).random((32, 32, 3)).astype(np.float32)
    other = style.copy()
    other[24:] = style[24:][:, ::-1]  # the same colors elsewhere: norms over the style's keys stay nearly as they are
    settings = ApplySettings(style_size=32)
    free = [repaint(stylizer, content, [s], settings=settings) for s in (style, other)]
    bound = [repaint(stylizer, content, [Style(s, region)], settings=settings) for s in (style, other)]
    if name == "adain":
        close(*bound)
    assert np.abs(bound[0] - free[0]).max() > 1e-3
    assert np.abs(bound[0] - bound[1]).mean() < np.abs(free[0] - free[1]).mean()


def test_a_region_that_leaves_nothing_is_refused(stylizers, images):
    empty = Style(images[1], np.zeros(images[1].shape[:2], np.float32))
    for name in ("adain", "sanet"):
        with pytest.raises(UserError, match=r"must leave a part of its style, got no value above 0\.5"):
            repaint(stylizers[name], images[0], [empty], settings=SMALL)


def test_colors_are_the_contents_or_given_to_the_style(stylizers, images):
    stylizer, content = stylizers["adain"], images[0]
    plain = repaint(stylizer, content, images[1:2], settings=SMALL)
    kept = repaint(stylizer, content, images[1:2], settings=ApplySettings(style_size=16, colors="luminance"))
    close(kept, transfer_luminance(jnp.asarray(content), jnp.asarray(plain)))
    matched = np.asarray(match_color(jnp.asarray(images[1]), jnp.asarray(content)))
    found = repaint(stylizer, content, images[1:2], settings=ApplySettings(style_size=16, colors="match"))
    close(found, repaint(stylizer, content, [matched], settings=SMALL))


def used_up(*_, **__):
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")


def test_a_batch_that_does_not_fit_into_memory_is_halved(stylizers, images, monkeypatch):
    monkeypatch.setattr(devices, "gather", used_up)  # the results of a batch, not of a single image
    found = list(repaint_many(stylizers["johnson"], [images[0]] * 3, [], settings=SMALL))
    assert [(o.index, o.error) for o in found] == [(0, None), (1, None), (2, None)]
    alone = repaint(stylizers["johnson"], images[0], [], settings=SMALL)
    for outcome in found:
        np.testing.assert_array_equal(outcome.image, alone)


def test_an_image_that_does_not_fit_into_memory_fails_alone(stylizers, images, monkeypatch):
    monkeypatch.setattr("swag_jax.apply.drivers.paint_tiled", used_up)
    large = np.tile(images[0], (2, 1, 1))
    settings = ApplySettings(style_size=16, tile=40)
    found = list(repaint_many(stylizers["johnson"], [images[0], large, images[2]], [], settings=settings))
    assert sorted(o.index for o in found if o.error is None) == [0, 2]
    (problem,) = (o.error for o in found if o.error is not None)
    assert "must fit into memory, which was used up at 37 x 54 pixels: pass a smaller size, or paint" in str(problem)


@pytest.mark.parametrize(
    ("name", "arguments", "options", "message"),
    [
        ("adain", [], {}, "needs a style image"),
        ("johnson", [1], {}, "has its one style in its weights, got 1 style"),
        ("adain", [1, 2], {"blend": (1.0,)}, r"one blend weight per style image \(2\), got 1"),
        ("johnson", [], {"colors": "match"}, "colors can only be matched by style images"),
    ],
)
def test_styles_and_settings_must_go_together(name, arguments, options, message, stylizers, images):
    with pytest.raises(UserError, match=message):
        repaint(stylizers[name], images[0], [images[i] for i in arguments], settings=ApplySettings(**options))


def test_masks_must_be_as_many_as_styles(stylizers, images):
    mask = np.ones((4, 4), np.float32)
    with pytest.raises(UserError, match=r"one mask per style \(1\), or none, got 2"):
        repaint(stylizers["adain"], Content(images[0], (mask, mask)), images[1:2])
    with pytest.raises(UserError, match="batch size must be at least 1"):
        repaint_many(stylizers["adain"], images[:1], images[1:2], batch_size=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 1.5}, "strength must be at least 0 and at most 1"),
        ({"tile": -1}, "tile must be at least 0"),
        ({"blend": (0.0, 0.0)}, "sum of the blend weights must be greater than 0"),
        ({"blend": (-1.0, 2.0)}, "a blend weight must be at least 0"),
        ({"colors": "both"}, "unknown colors 'both'"),
    ],
)
def test_bad_settings(options, message, unchecked):
    with pytest.raises(UserError, match=message):
        ApplySettings(**options)


def test_large_images_are_painted_in_tiles():
    settings = ApplySettings()
    assert settings.tile_of(2048, 2048) is None
    assert settings.tile_of(2048, 2049) == 1024
    assert ApplySettings(tile=300).tile_of(200, 301) == 300
