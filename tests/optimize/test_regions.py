"""Styles in regions of the image: masks of the content, masks of the styles, and a scale for each style."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swag_jax import Objective, StylizeSettings, UserError, backbones, sample, stylize
from swag_jax.losses import evaluate
from swag_jax.optimize import Adam, Pair, make_targets, solve, stylize_stream

CONTENT, SWIRLS, EMBERS = (sample(name, size=48) for name in ("cat", "swirls", "embers"))
HEIGHT, WIDTH = CONTENT.shape[:2]
LEFT = np.zeros((HEIGHT, WIDTH), np.float32)
LEFT[:, : WIDTH // 2] = 1
OBJECTIVE = Objective(content_layers=("relu1_1",), style_layers=("relu1_1", "relu2_1"), style_weight=60.0)
FAST = StylizeSettings(size=48, smallest_size=24, steps=4, objective=OBJECTIVE)


def run(styles, **options):
    return stylize(CONTENT, styles, settings=options.pop("settings", FAST), **options)


SOFTMAX = OBJECTIVE.replace(smoothing="softmax", normalization="released", style_weight=1e20)


@pytest.mark.parametrize("objective", [OBJECTIVE, SOFTMAX], ids=["relative", "softmax, released"])
def test_a_white_mask_is_no_mask(objective):
    white, settings = np.ones((HEIGHT, WIDTH), np.float32), FAST.replace(objective=objective)
    plain = run(SWIRLS, settings=settings)
    for masks in ({"content_masks": [white]}, {"style_masks": [np.ones((5, 9))]}):
        masked = run(SWIRLS, settings=settings, **masks)
        np.testing.assert_allclose(masked.history["total"], plain.history["total"], rtol=1e-4)
        np.testing.assert_allclose(masked.image, plain.image, atol=1e-3)


@pytest.fixture(scope="module")
def network():
    return backbones.load("vgg19", weights="embedded", layers=OBJECTIVE.layers, frozen=True)[0]


def test_each_region_has_the_gradient_of_its_own_style(network):
    """Without a content term, pixels far inside a region do not know the other style."""
    objective = OBJECTIVE.replace(content_weight=0.0, style_layers=("relu1_1",))
    masks = jnp.stack([LEFT, 1 - LEFT])

    def gradient(*styles):
        targets = make_targets(network, jnp.asarray(CONTENT), styles, objective=objective, regions=masks)
        return jax.grad(lambda image: evaluate(network, image, targets, objective=objective)[0])(jnp.asarray(CONTENT))

    swirls, embers = jnp.asarray(SWIRLS), jnp.asarray(EMBERS)
    both, other = gradient(swirls, embers), gradient(swirls, swirls)
    np.testing.assert_array_equal(both[:, : WIDTH // 2 - 2], other[:, : WIDTH // 2 - 2])
    assert np.abs(both - other)[:, WIDTH // 2 + 2 :].max() > 0


def test_a_region_is_left_alone_where_no_style_goes(network):
    objective = OBJECTIVE.replace(content_weight=0.0, style_layers=("relu1_1",))
    image, _ = solve(
        network, jnp.asarray(CONTENT), [jnp.asarray(EMBERS)], objective=objective, solver=Adam(), steps=5,
        regions=jnp.asarray(LEFT[None]),
    )  # fmt: skip
    np.testing.assert_array_equal(image[:, WIDTH // 2 + 2 :], CONTENT[:, WIDTH // 2 + 2 :])
    assert np.abs(image - CONTENT)[:, : WIDTH // 2].max() > 0.05


def test_a_style_mask_is_the_part_of_the_style():
    """The same as a style that consists of this part alone, apart from a layer's view across the edge."""
    rows = min(len(SWIRLS), len(EMBERS))
    halves = np.concatenate([SWIRLS[:rows], EMBERS[:rows]], axis=1)
    mask = np.arange(halves.shape[1]) < SWIRLS.shape[1]
    mask = np.broadcast_to(mask, halves.shape[:2])
    settings = FAST.replace(smallest_size=48, steps=8, objective=OBJECTIVE.replace(style_layers=("relu1_1",)))
    wide = settings.replace(style_scale=max(halves.shape[:2]) / 48)
    part = run(halves, settings=wide, style_masks=[mask]).image
    np.testing.assert_allclose(part.mean((0, 1)), run(SWIRLS[:rows], settings=settings).image.mean((0, 1)), atol=0.01)
    assert np.abs(part.mean((0, 1)) - run(halves, settings=wide).image.mean((0, 1))).max() > 0.02


def test_batches_of_masked_and_plain_pairs_equal_singles():
    styles, masks = (SWIRLS, EMBERS), (LEFT, 1 - LEFT)
    pairs = [
        Pair(CONTENT, styles, FAST, content_masks=masks),
        Pair(CONTENT, styles, FAST),
        Pair(CONTENT, styles, FAST, content_masks=masks[::-1], style_masks=(np.eye(9), np.ones((3, 3)))),
        Pair(CONTENT, styles, FAST, content_masks=masks, style_masks=(np.eye(9), np.ones((3, 3)))),
    ]
    found = {outcome.index: outcome.result.image for outcome in stylize_stream(pairs)}
    for index, pair in enumerate(pairs):
        alone = run(styles, content_masks=pair.content_masks, style_masks=pair.style_masks)
        np.testing.assert_allclose(found[index], alone.image, atol=1e-3)
    assert np.abs(found[0] - found[3]).max() > 0.01


def test_a_scale_for_each_style():
    one, two = (run([SWIRLS, EMBERS], settings=FAST.replace(style_scale=s)).image for s in (0.5, (0.5, 0.5)))
    np.testing.assert_array_equal(one, two)
    assert np.abs(run([SWIRLS, EMBERS], settings=FAST.replace(style_scale=(0.5, 2.0))).image - two).max() > 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"content_masks": [LEFT]}, r"there must be one content mask per style image \(2\), got 1\."),
        ({"style_masks": [LEFT] * 3}, r"there must be one style mask per style image \(2\), got 3\."),
        ({"settings": FAST.replace(style_scale=(1, 1, 1))}, r"one style scale per style image \(2\), got 3\."),
        ({"content_masks": [LEFT, 0 * LEFT]}, "a content mask must leave a part of its image, got 0 everywhere"),
        ({"style_masks": [LEFT, CONTENT]}, r"the style mask must have shape \(height, width\), got \(\d+, \d+, 3\)"),
    ],
)
def test_what_masks_must_be(options, message):
    with pytest.raises(UserError, match=message):
        run([SWIRLS, EMBERS], **options)


def test_a_bad_mask_fails_its_pair_alone():
    def broken():
        raise OSError("gone")

    pairs = [Pair(CONTENT, SWIRLS, FAST, content_masks=(broken,)), Pair(CONTENT, SWIRLS, FAST)]
    found = sorted(stylize_stream(pairs), key=lambda outcome: outcome.index)
    assert str(found[0].error) == "the content mask must be readable, got OSError: gone."
    assert found[1].error is None
