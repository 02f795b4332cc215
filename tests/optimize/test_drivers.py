"""`stylize` and `solve`: one image by optimization."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swag_jax import backbones, images
from swag_jax._checks import UserError
from swag_jax._programs import KEPT, Latest
from swag_jax.backbones import create
from swag_jax.images import resize, sample
from swag_jax.images.color import luminance
from swag_jax.losses import Objective
from swag_jax.optimize import (
    LBFGS,
    Adam,
    NonFiniteLossError,
    OutOfMemoryError,
    StylizeSettings,
    engine,
    memory,
    solve,
    stylize,
)
from swag_jax.params.tree import flat_parameters, with_parameters

CONTENT = sample("coffee", size=64)
STYLE = sample("swirls", size=64)

OBJECTIVE = Objective(content_layers=("relu2_1",), style_layers=("relu1_1", "relu2_1"), style_weight=60.0)
SHALLOW = OBJECTIVE.replace(content_layers=("relu1_1",), style_layers=("relu1_1",))

FAST = StylizeSettings(size=48, smallest_size=24, steps=8, weights="random", objective=OBJECTIVE)


@pytest.fixture(autouse=True)
def empty_store(monkeypatch, tmp_path):
    monkeypatch.setenv("SWAG_JAX_HOME", str(tmp_path / "store"))


def run(settings=FAST, content=CONTENT, style=STYLE, **options):
    return stylize(content, style, settings=settings, **options)


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_result(solver):
    result = run(FAST.replace(solver=solver))
    assert result.image.shape == (36, 48, 3)
    assert result.image.dtype == np.float32
    assert result.image.min() >= 0
    assert result.image.max() <= 1
    assert result.sizes == ((18, 24), (36, 48))
    assert result.steps == (4, 4)
    assert result.status == "done"
    assert result.source.kind == "random"
    assert set(result.history) == {"total", "content/relu2_1", "style/relu1_1", "style/relu2_1"}
    assert all(values.shape == (8,) for values in result.history.values())
    parts = sum(values for name, values in result.history.items() if name != "total")
    np.testing.assert_allclose(result.history["total"], parts, rtol=1e-5)
    assert result.history["total"][3] < result.history["total"][0]
    assert set(result.seconds) == {"load", "compile", "optimize"}


def test_equal_settings_give_equal_images():
    settings = FAST.replace(objective=SHALLOW)
    np.testing.assert_array_equal(run(settings).image, run(settings).image)


def test_one_scale_equals_the_pure_solve():
    settings = FAST.replace(size=32, smallest_size=32, steps=6)
    network = create("vgg19", until="relu2_1", pooling="average")
    content, style = (jnp.asarray(resize(p, *images.fitted(*p.shape[:2], 32))) for p in (CONTENT, STYLE))
    image, history = jax.jit(
        lambda n, c, s: solve(n, c, [s], objective=settings.full_objective, solver=settings.method, steps=6)
    )(network, content, style)
    result = run(settings)
    np.testing.assert_allclose(result.image, image, atol=2e-4)
    np.testing.assert_allclose(result.history["total"], history["total"], rtol=1e-3)


@pytest.mark.parametrize("solver", [LBFGS(), Adam()], ids=["lbfgs", "adam"])
def test_solve_under_vmap_equals_singles(solver):
    network = create("vgg19", until="relu1_1")
    contents, styles = jax.random.uniform(jax.random.key(0), (2, 3, 20, 24, 3))

    def one(network, content, style):
        return solve(network, content, [style], objective=SHALLOW, solver=solver, steps=5)[0]

    batch = jax.jit(jax.vmap(one, in_axes=(None, 0, 0)))(network, contents, styles)
    for i in range(3):
        np.testing.assert_allclose(batch[i], jax.jit(one)(network, contents[i], styles[i]), atol=1e-4)


@pytest.mark.parametrize(
    ("backbone", "smoothing"),
    [
        ("vgg19", "none"),
        ("vgg19", "channel-softmax"),
        ("resnet50", "softmax"),
        ("resnet50", "spatial-softmax"),
        ("resnet50", "scale"),
    ],
)
def test_every_smoothing_lowers_the_loss(backbone, smoothing):
    layers = {"vgg19": ("relu1_1", "relu2_1"), "resnet50": ("conv1", "conv2_1")}[backbone]
    objective = Objective(layers[-1:], layers, style_weight=10.0, smoothing=smoothing)
    result = run(FAST.replace(backbone=backbone, objective=objective, size=32, smallest_size=32, steps=10))
    assert result.history["total"][-1] < 0.9 * result.history["total"][0]


def test_callback_sees_every_chunk_and_can_stop():
    seen = []

    def callback(progress):
        seen.append((progress.step, progress.height, progress.width))
        assert progress.image().shape == (progress.height, progress.width, 3)
        assert set(progress.losses) == {"total", "content/relu2_1", "style/relu1_1", "style/relu2_1"}
        assert progress.rate > 0
        assert progress.seconds_left >= 0
        return progress.step == 6

    result = run(callback=callback, every=2)
    assert seen == [(2, 18, 24), (4, 18, 24), (6, 36, 48)]
    assert result.status == "stopped"
    assert result.history["total"].shape == (6,)


def test_chunk_length_does_not_change_the_image():
    settings = FAST.replace(objective=SHALLOW)
    np.testing.assert_allclose(run(settings, every=1).image, run(settings, every=4).image, atol=1e-4)


def test_several_styles_and_blend():
    other = sample("mosaic", size=50)
    settings = FAST.replace(steps=3, smallest_size=48, objective=SHALLOW)
    alone = run(settings).image
    np.testing.assert_allclose(run(settings, style=[STYLE, STYLE]).image, alone, atol=1e-3)
    blended = run(settings.replace(blend=(1.0, 0.0)), style=[STYLE, other]).image
    np.testing.assert_allclose(blended, alone, atol=1e-3)
    assert np.abs(run(settings, style=[STYLE, other]).image - alone).max() > 0.01


def test_inits():
    settings = FAST.replace(steps=1, smallest_size=48, objective=SHALLOW)
    start = {init: run(settings.replace(init=init)).image for init in ("content", "statistics", "noise")}
    np.testing.assert_allclose(start["content"], resize(CONTENT, 36, 48), atol=1e-6)
    assert abs(start["noise"].mean() - 0.5) < 0.02
    clipped_mean = STYLE.reshape(-1, 3).mean(0)
    np.testing.assert_allclose(start["statistics"].reshape(-1, 3).mean(0), clipped_mean, atol=0.08)
    image = sample("mosaic", size=48)
    np.testing.assert_allclose(run(settings, init=image).image, resize(image, 36, 48), atol=1e-6)
    again = run(settings.replace(init="noise", seed=1)).image
    assert np.abs(again - start["noise"]).max() > 0.5
    keyed = run(settings.replace(init="noise"), key=jax.random.key(1)).image
    np.testing.assert_array_equal(keyed, again)


def chroma(image):
    return image - np.asarray(luminance(jnp.asarray(image)))[..., None]


def test_colors():
    settings = FAST.replace(steps=6, objective=OBJECTIVE.replace(style_weight=100.0))
    plain, kept = run(settings).image, run(settings.replace(colors="luminance")).image
    np.testing.assert_allclose(luminance(jnp.asarray(kept)), luminance(jnp.asarray(plain)), atol=2e-3)
    content = resize(CONTENT, 36, 48)
    assert np.abs(chroma(kept) - chroma(content)).mean() < 0.5 * np.abs(chroma(plain) - chroma(content)).mean()
    matched = run(settings.replace(colors="match")).image
    assert (
        np.abs(matched.mean((0, 1)) - content.mean((0, 1))).max()
        < np.abs(plain.mean((0, 1)) - content.mean((0, 1))).max()
    )


def test_style_scale_changes_the_target():
    settings = FAST.replace(steps=3, smallest_size=48, objective=SHALLOW)
    assert np.abs(run(settings).image - run(settings.replace(style_scale=2.0)).image).max() > 0.01


def test_texture_synthesis_and_reconstruction():
    texture = run(FAST.replace(objective=OBJECTIVE.replace(content_weight=0.0), init="noise"))
    assert set(texture.history) == {"total", "style/relu1_1", "style/relu2_1"}
    content_only = OBJECTIVE.replace(style_weight=0.0)
    copy = run(FAST.replace(objective=content_only, init="noise", smallest_size=48, steps=40))
    assert set(copy.history) == {"total", "content/relu2_1"}
    assert copy.history["total"][-1] < 0.05 * copy.history["total"][0]


def test_total_variation_is_a_term():
    settings = FAST.replace(objective=SHALLOW.replace(tv_weight=1.0), steps=1, smallest_size=48)
    assert "variation" in run(settings).history


def test_precisions():
    images = {
        p: run(FAST.replace(precision=p, steps=4, smallest_size=48)).image for p in ("float32", "tf32", "bfloat16")
    }
    np.testing.assert_allclose(images["tf32"], images["float32"], atol=1e-4)  # the CPU has no TF32
    assert 0 < np.abs(images["bfloat16"] - images["float32"]).mean() < 0.02


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"content": CONTENT[..., :2]}, r"content image must have shape \(height, width, 3\), got \(48, 64, 2\)"),
        ({"content": (CONTENT * 255).astype(np.uint8)}, r"got uint8: divide by 255"),
        ({"content": CONTENT * 255}, r"content image must lie in \[0, 1\], got .*: divide by 255"),
        ({"content": np.where(CONTENT > 0.5, np.nan, CONTENT)}, r"must be finite, got \d+ of 9216 values that are NaN"),
        ({"style": STYLE - 0.5}, r"style image must lie in \[0, 1\], got .*: clip it"),
        ({"style": []}, "at least one style image, got 0"),
        ({"settings": FAST.replace(blend=(1.0, 2.0))}, r"one blend weight per style image \(1\), got 2"),
        ({"settings": FAST.replace(backbone="resnet50", pooling="max")}, "can only be chosen for a VGG, got resnet50"),
        (
            {"settings": FAST.replace(objective=OBJECTIVE.replace(content_layers=("relu21",)))},
            "unknown layer 'relu21': did you mean .*relu2_1",
        ),
        ({"settings": FAST.replace(size=1)}, "shorter side must be at least 2 pixels"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(UserError, match=message):
        run(**change)


@pytest.fixture
def broken(monkeypatch):
    """Replace a parameter of the loaded network."""

    def spoil(name, value):
        def load(*arguments, frozen, **options):
            network, source = backbones.load(*arguments, **options)
            arrays = flat_parameters(network)
            spoiled = with_parameters(network, {**arrays, name: arrays[name].at[0].set(value)})
            return spoiled.frozen() if frozen else spoiled, source

        monkeypatch.setattr("swag_jax.optimize.pairs.load", load)

    return spoil


def test_non_finite_loss_names_step_and_term(broken):
    broken("conv2_1.bias", jnp.nan)
    message = r"the term content/relu2_1 must be finite, got nan at step 1"
    with pytest.raises(NonFiniteLossError, match=message) as caught:
        run()
    assert (caught.value.step, caught.value.term) == (1, "content/relu2_1")


def test_overflowing_weights_are_named_too(broken):
    broken("conv1_1.bias", 1e30)
    with pytest.raises(NonFiniteLossError, match=r"the term .* must be finite"):
        run()


def test_non_finite_gradient_names_its_step(monkeypatch):
    """The loss is finite everywhere, its gradient nowhere: sqrt(0) is 0 with an infinite slope."""
    monkeypatch.setattr(
        "swag_jax.losses.objective.total_variation",
        lambda image: 0 * jnp.sqrt(image - jax.lax.stop_gradient(image)).sum(),
    )
    jax.clear_caches()
    with pytest.raises(NonFiniteLossError, match="the gradient must be finite, got nan at step 1") as caught:
        run(FAST.replace(objective=OBJECTIVE.replace(tv_weight=1.0)))
    jax.clear_caches()
    assert (caught.value.step, caught.value.term) == (1, "gradient")


def test_out_of_memory_names_a_size_that_fits(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda *_: 2 * 2**20)
    with pytest.raises(OutOfMemoryError, match=r"GiB needed at size 48 .* pass --size \d+ or less"):
        run(FAST.replace(smallest_size=48))


def test_programs_of_the_last_sizes_are_kept(monkeypatch):
    """The device holds no more programs after many sizes than after as many as are kept."""
    kinds = (engine._chunk, engine._content_targets, engine._style_targets, engine._initialized, engine._image)
    for kind in kinds:  # of other tests, none
        monkeypatch.setattr(kind, "kept", Latest(most=KEPT))
    tiny = FAST.replace(smallest_size=48, steps=1, objective=SHALLOW)

    def programs(height):
        run(tiny, content=CONTENT[:height])
        gc.collect()
        return len(jax.devices()[0].client.live_executables())

    counts = [programs(height) for height in range(40, 40 - KEPT - 3, -1)]
    assert [len(kind.kept) for kind in kinds] == [KEPT] * len(kinds)
    more = 3  # at least, for each size until so many are kept; then what single operations compile
    assert counts[KEPT - 1] - counts[0] >= more * (KEPT - 1), counts
    assert counts[-1] - counts[KEPT - 1] < more * (len(counts) - KEPT), counts
