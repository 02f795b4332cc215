"""The evaluator: each metric of the output, the content and the style, at the output's size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from reference.weights import LPIPS_CHANNELS

from swag_jax import UserError, backbones, extract, measure, sample
from swag_jax.backbones.zoo import parameter_shapes
from swag_jax.images import resize
from swag_jax.measure import METRICS, Evaluator
from swag_jax.measure import evaluator as judging
from swag_jax.measure.evaluator import CANDIDATES
from swag_jax.measure.perceptual import LPIPS
from swag_jax.params.tree import with_parameters

KEY = jax.random.key(3)
OUTPUT = sample("coffee", size=48)[:32, :40]
CONTENT, STYLE, OTHER = sample("coffee", size=64), sample("swirls", size=56)[:, :40], sample("mosaic", size=40)

# At the output's size; styles at their own aspect ratio, with its longer side.
SMALL = resize(CONTENT, 32, 40)
PAINTING, COPY = resize(STYLE, 40, 36), resize(STYLE, 32, 40)


def drawn(name, until):
    """A network with weights drawn by NumPy, which compiles nothing."""
    rng, arrays = np.random.default_rng(0), {}
    for flat, shape in parameter_shapes(name, until=until).items():
        arrays[flat] = rng.standard_normal(shape) * (2 / np.prod(shape[:3])) ** 0.5
    return with_parameters(nnx.eval_shape(lambda: backbones.create(name, until=until)), arrays)


@pytest.fixture(scope="module")
def networks():
    alexnet = drawn("alexnet", "pool2")
    weights = {layer: jnp.ones(n) for layer, n in zip(("relu1", "relu2"), LPIPS_CHANNELS["alexnet"], strict=False)}
    return {
        "network": alexnet,
        "content_layer": "relu2",
        "style_layers": ("relu1", "relu2"),
        "vgg19": drawn("vgg19", "relu3_1"),
        "lpips": LPIPS(alexnet, weights),
        "inception": drawn("alexnet", "relu1"),
    }


@pytest.fixture(scope="module")
def found(networks):
    assert STYLE.shape[:2] == (45, 40)
    return Evaluator(tuple(METRICS), key=KEY, **networks).compare(OUTPUT, CONTENT, [STYLE])


def test_every_pair_metric_of_every_candidate(found):
    per_pair = {name for name, metric in METRICS.items() if metric.against != "set"}
    assert set(found.values) == per_pair - {"identity"}
    assert all(tuple(values) == CANDIDATES for values in found.values.values())


def test_the_trivial_results_are_perfect_on_one_side_each(found):
    for name, values in found.values.items():
        metric = METRICS[name]
        perfect, exactness = (1.0, 1e-6) if metric.better == "higher" else (0.0, 1e-12)
        assert values[metric.against] == pytest.approx(perfect, abs=exactness), name
        imperfect = {c: abs(value - perfect) for c, value in values.items() if c != metric.against}
        assert min(imperfect.values()) > 10 * exactness, name


def test_values_are_of_the_right_images_and_layers(found, networks):
    """Through the evaluator's compiled functions; the formulas have tests of their own."""
    made, content, style, copy = map(jnp.asarray, (OUTPUT, SMALL, PAINTING, COPY))

    def seen(image):
        return judging._extract(networks["network"], image, layers=("relu2", "relu1"))

    def likeness(image):
        return judging._extract(networks["vgg19"], image, layers=("relu3_1",))["relu3_1"]

    lpips = networks["lpips"]
    expected = {
        "ssim": judging._ssim(made, content),
        "lpips": judging._lpips(*(lpips.read(image) for image in (made, content)), lpips.weights),
        "content": judging._content(seen(made)["relu2"], seen(content)["relu2"]),
        "cfsd": judging._cfsd(likeness(made), likeness(content)),
        "noise": judging._noise(made, content),
        "gram": judging._gram(seen(made), seen(style)),
        "moments": judging._moments(seen(made), seen(style)),
        "sliced-wasserstein": judging._sliced(KEY, seen(made), seen(style)),
        "color": judging._color(KEY, made, style),
    }
    assert {name: values["output"] for name, values in found.values.items()} == {
        name: pytest.approx(float(value), rel=1e-5) for name, value in expected.items()
    }
    assert found.values["ssim"]["style"] == pytest.approx(float(judging._ssim(copy, content)), rel=1e-5)
    assert found.values["gram"]["content"] == pytest.approx(float(judging._gram(seen(content), seen(style))), rel=1e-5)


def test_what_fid_reads(found, networks):
    assert {candidate: vectors.shape for candidate, vectors in found.vectors.items()} == dict.fromkeys(
        CANDIDATES, (1, 64)
    )
    for candidate, image in zip(CANDIDATES, (OUTPUT, SMALL, PAINTING), strict=True):
        expected = measure.fid_features(networks["inception"], jnp.asarray(image))
        np.testing.assert_allclose(found.vectors[candidate][0], expected, rtol=1e-4, atol=1e-6)


def test_fid_features_are_means_over_a_stretched_square(networks):
    """A constant image stays constant when it is stretched; PyTorch's bilinear rule between two pixels: quarters."""
    ramp = jnp.array([[[0.0], [1.0]]]).repeat(3, -1)
    stretched = jax.image.resize(ramp, (1, 4, 3), "linear", antialias=False)[0, :, 0]
    np.testing.assert_allclose(stretched, [0, 0.25, 0.75, 1])
    gray = jnp.full((20, 30, 3), 0.3)
    found = measure.fid_features(networks["inception"], gray, side=64)
    expected = extract(networks["inception"], jnp.full((64, 64, 3), 0.3), layers=["relu1"])["relu1"].mean((0, 1))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_several_styles_are_averaged(networks):
    evaluator = Evaluator(("color", "ssim"), key=KEY)
    both, first, second = (evaluator.compare(OUTPUT, CONTENT, styles) for styles in ([STYLE, OTHER], [STYLE], [OTHER]))
    for name in ("color", "ssim"):
        for candidate in CANDIDATES:
            mean = np.mean([first.values[name][candidate], second.values[name][candidate]])
            assert both.values[name][candidate] == pytest.approx(mean, rel=1e-6, abs=1e-9)
    assert both.vectors == {}
    vectors = Evaluator(("fid",), **networks).compare(OUTPUT, CONTENT, [STYLE, OTHER]).vectors
    assert [vectors[candidate].shape[0] for candidate in CANDIDATES] == [1, 1, 2]


def test_images_of_one_pair_together_equal_each_alone(found, networks):
    other = OUTPUT[::-1].copy()
    evaluator = Evaluator(tuple(METRICS), key=KEY, **networks)
    first, second = evaluator.compare_all([OUTPUT, other], CONTENT, [STYLE])
    for together, alone in ((first, found), (second, evaluator.compare(other, CONTENT, [STYLE]))):
        assert together.values == alone.values
        for candidate in CANDIDATES:
            np.testing.assert_array_equal(together.vectors[candidate], alone.vectors[candidate])
    assert first.values["gram"]["output"] != second.values["gram"]["output"]


def test_identity_where_the_content_is_the_style():
    evaluator = Evaluator(("identity",))
    assert evaluator.compare(OUTPUT, CONTENT, [STYLE]).values == {}
    found = evaluator.compare(np.clip(SMALL + 0.5, 0, 1), CONTENT, [CONTENT.copy()]).values
    expected = np.sqrt(np.mean((np.clip(SMALL + 0.5, 0, 1) - SMALL) ** 2))
    assert found == {"identity": {"output": pytest.approx(expected, rel=1e-5), "content": 0.0, "style": 0.0}}


def test_a_style_is_never_too_small_for_the_networks(networks):
    evaluator = Evaluator(("gram",), network=networks["network"], style_layers=("relu2",))
    thin = STYLE[:18, :40]
    assert evaluator._fitted(thin, 32, 10**6) == (15, 34)
    assert evaluator._fitted(STYLE, 40, 10**6) == (40, 36)
    assert np.isfinite(evaluator.compare(OUTPUT, CONTENT, [thin]).values["gram"]["output"])


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (("ssmi",), "unknown metric 'ssmi': did you mean ssim"),
        (("gram",), "the metric gram needs the evaluator's network: load it, or leave it out"),
        (("artfid",), "the metric artfid needs the evaluator's lpips"),
    ],
)
def test_what_an_evaluator_needs(metrics, message):
    with pytest.raises(UserError, match=message):
        Evaluator(metrics)


def test_what_is_measured_together_has_one_size():
    evaluator = Evaluator(("ssim",))
    with pytest.raises(UserError, match="together must have one size, got 32 x 40, 48 x 48"):
        evaluator.compare_all([OUTPUT, CONTENT[:48, :48]], CONTENT, [STYLE])
    with pytest.raises(UserError, match="one size, got none"):
        evaluator.compare_all([], CONTENT, [STYLE])


def test_what_cannot_be_measured(networks):
    deep = Evaluator(("content",), network=networks["network"], content_layer="pool2")
    with pytest.raises(UserError, match="both sides must be at least 31 px for pool2, got 24 x 40: measure larger"):
        deep.compare(OUTPUT[:24], CONTENT, [STYLE])
    with pytest.raises(UserError, match="there must be at least one style image, got 0"):
        deep.compare(OUTPUT, CONTENT, [])


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((512, 512), (384, 512)),  # as it is wanted
        ((2048, 100), (1536, 2048)),
        ((20_000, 16), (1773, 2364)),  # 15,000 x 20,000 would be 3.4 GiB
        ((16, 20_000), (1773, 2364)),
        ((6000, 8000), (6000, 8000)),
    ],
)
def test_a_style_beside_a_very_long_image_stays_small(shape, expected):
    most = max(judging.STYLE_PIXELS, 4 * shape[0] * shape[1])
    found = Evaluator(("ssim",))._fitted(np.zeros((30, 40, 3), np.float32), max(shape), most)
    assert found == expected


def test_images_are_refused_by_what_they_are(unchecked):
    good = np.full((16, 16, 3), 0.5, np.float32)
    evaluator = Evaluator(("ssim",))
    for arguments, what in (((good * 255, good, [good]), "output"), ((good, np.uint8(good), [good]), "content")):
        with pytest.raises(UserError, match=f"the {what} image must .*: divide by 255"):
            evaluator.compare(*arguments)
    with pytest.raises(UserError, match="the style image must be an array, got the path"):
        evaluator.compare(good, good, ["style.png"])
