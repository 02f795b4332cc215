"""Laws that every smoothing keeps, and those of the automatic temperature."""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from swag_jax._checks import UserError
from swag_jax.smoothing import AUTO_DIVERGENCE, KINDS, Smoothing, auto_temperature, find_temperature, smooth, softmax
from swag_jax.statistics import normalized_entropy

GOLDEN = dict(np.load(Path(__file__).parent / "reference" / "losses.npz"))

SOFTMAXES = ("softmax", "channel-softmax", "spatial-softmax")

SHAPE = (12, 14, 48)

RANDOM = np.random.default_rng(2)


def peaky(shape: tuple[int, ...]) -> np.ndarray:
    """Small values and one peak of 135, as in the last stage of a random ResNet50."""
    features = np.abs(RANDOM.standard_normal(shape))
    features[3, 5, 7] = 135.0
    return features


FEATURES = {
    name: jnp.asarray(values, jnp.float32)
    for name, values in {
        "gaussian": RANDOM.standard_normal(SHAPE),
        "relu": np.maximum(RANDOM.standard_normal(SHAPE), 0),
        "cubed": 20 * RANDOM.standard_normal(SHAPE) ** 3,
        "peaky": peaky(SHAPE),
    }.items()
}


find = jax.jit(auto_temperature, static_argnames="axes")
"""Compiled once per shape; called as it is, every search compiles anew."""


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(params=SOFTMAXES)
def axes(request):
    return Smoothing(request.param).axes


@pytest.fixture(params=FEATURES)
def features(request):
    return FEATURES[request.param]


def divergence(features, axes, temperature) -> float:
    """The mean over the groups of KL(softmax || uniform), in float64, by its definition."""
    groups = np.moveaxis(np.asarray(features, np.float64), axes, range(len(axes)))
    groups = groups.reshape(math.prod(features.shape[axis] for axis in axes), -1) / float(temperature)
    p = np.exp(groups - groups.max(0))
    p /= p.sum(0)
    return float((p * np.log(np.where(p > 0, p * len(p), 1))).sum(0).mean())


def test_axes_are_those_the_kind_names():
    assert [Smoothing(kind).axes for kind in KINDS] == [None, (0, 1, 2), (2,), (0, 1), None]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 30.0])
def test_softmax_sums_to_one_and_smooth_has_mean_one(features, axes, temperature):
    kind = SOFTMAXES[[(0, 1, 2), (2,), (0, 1)].index(axes)]
    sums = softmax(features, axes=axes, temperature=temperature).sum(axes)
    means = smooth(features, Smoothing(kind), temperature=temperature).mean(axes)
    np.testing.assert_allclose(sums, np.ones(sums.shape), rtol=1e-5)
    np.testing.assert_allclose(means, np.ones(means.shape), rtol=1e-5)


def test_softmax_of_two_entries_by_hand():
    features = jnp.array([[[0.0, 2 * math.log(3.0)]]])
    np.testing.assert_allclose(softmax(features, axes=(2,), temperature=2.0), [[[0.25, 0.75]]], rtol=1e-6)
    np.testing.assert_allclose(softmax(features, axes=(0, 1)), [[[1.0, 1.0]]], rtol=1e-6)
    smoothed = smooth(features, Smoothing("channel-softmax"), temperature=2.0)
    np.testing.assert_allclose(smoothed, [[[0.5, 1.5]]], rtol=1e-6)


def test_softmax_is_unchanged_by_adding_a_constant(features, axes):
    # 2 ** 10 and the rounded features are exact in float32, so that the sums are, too.
    rounded = jnp.round(features * 64) / 64
    np.testing.assert_allclose(softmax(rounded + 1024, axes=axes), softmax(rounded, axes=axes), rtol=1e-6)


def test_softmax_over_channels_or_positions_is_unchanged_by_a_constant_per_group():
    x = jnp.round(FEATURES["relu"] * 64) / 64
    offsets = jnp.arange(float(SHAPE[0] * SHAPE[1])).reshape(*SHAPE[:2], 1)
    np.testing.assert_allclose(softmax(x + offsets, axes=(2,)), softmax(x, axes=(2,)), rtol=1e-6)
    offsets = jnp.arange(float(SHAPE[2])).reshape(1, 1, -1)
    np.testing.assert_allclose(softmax(x + offsets, axes=(0, 1)), softmax(x, axes=(0, 1)), rtol=1e-6)


@pytest.mark.parametrize("factor", [1e4, -1e4])
def test_large_activations_stay_finite(kind, factor):
    def energy(x):
        return (smooth(x, Smoothing(kind)) ** 2).mean()

    value, gradient = jax.value_and_grad(energy)(factor * FEATURES["relu"])
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_none_is_the_identity():
    assert smooth(FEATURES["relu"], Smoothing("none")) is FEATURES["relu"]


def test_scale_multiplies():
    smoothed = smooth(FEATURES["relu"], Smoothing("scale", scale=0.25), temperature=7.0)
    np.testing.assert_array_equal(smoothed, FEATURES["relu"] / 4)


@pytest.mark.parametrize("layer", ["shallow", "deep"])
@pytest.mark.parametrize("suffix", ["", "_temperature"])
@pytest.mark.parametrize("kind", SOFTMAXES)
def test_softmax_matches_pytorch(kind, suffix, layer):
    features, temperature = GOLDEN[f"image_{layer}"], float(GOLDEN["temperature"]) if suffix else 1.0
    expected = GOLDEN[f"smooth_{kind.replace('-', '_')}{suffix}_{layer}"]
    smoothing = Smoothing(kind)
    assert smoothing.axes is not None
    found = softmax(jnp.asarray(features), axes=smoothing.axes, temperature=temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    size = math.prod(features.shape[axis] for axis in smoothing.axes)
    found = smooth(jnp.asarray(features), smoothing, temperature=temperature)
    np.testing.assert_allclose(found, size * expected, rtol=1e-5)


@pytest.mark.parametrize("layer", ["shallow", "deep"])
def test_scale_matches_pytorch(layer):
    found = smooth(jnp.asarray(GOLDEN[f"image_{layer}"]), Smoothing("scale", scale=float(GOLDEN["scale"])))
    np.testing.assert_allclose(found, GOLDEN[f"smooth_scale_{layer}"], rtol=1e-6)


def test_layers_limit_the_smoothing():
    smoothing = Smoothing("softmax", layers=("conv4_6",))
    assert smoothing.at("conv4_6") is smoothing
    assert smoothing.at("conv1") == Smoothing("none")
    assert Smoothing("softmax").at("conv1") == Smoothing("softmax")
    assert Smoothing("softmax", layers=()).at("conv1").kind == "none"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "sofmax"}, "unknown smoothing 'sofmax': did you mean softmax?"),
        ({"kind": "channel_softmax"}, "unknown smoothing 'channel_softmax': did you mean channel-softmax"),
        ({"kind": "x"}, "unknown smoothing 'x': known: none, softmax, channel-softmax, spatial-softmax, scale"),
        ({"temperature": 0.0}, "temperature must be greater than 0, got 0.0."),
        ({"temperature": -1.0}, "temperature must be greater than 0, got -1.0."),
        ({"temperature": math.inf}, "temperature must be greater than 0, got inf."),
        ({"temperature": math.nan}, "temperature must be greater than 0, got nan."),
        ({"scale": 0.0}, "scale must be greater than 0, got 0.0."),
        ({"scale": math.inf}, "scale must be greater than 0, got inf."),
        ({"temperature": "warm"}, "temperature must be a number or auto, got 'warm'."),
        ({"layers": "conv1"}, "layers must be a tuple of strings or None, got 'conv1'."),
    ],
)
def test_bad_settings_are_explained(arguments, message):
    with pytest.raises(UserError) as caught:
        Smoothing(**arguments)
    assert str(caught.value).startswith(message)


def test_constructors():
    assert Smoothing.none() == Smoothing("none")
    assert Smoothing.scaled(1e-3, layers=["conv1"]) == Smoothing("scale", scale=0.001, layers=("conv1",))
    assert Smoothing.softmax() == Smoothing("softmax")
    assert Smoothing.softmax(temperature=2, over="channels") == Smoothing("channel-softmax", temperature=2.0)
    assert Smoothing.softmax(over="positions", layers=("conv1",)) == Smoothing("spatial-softmax", layers=("conv1",))


@pytest.mark.usefixtures("unchecked")
def test_a_softmax_over_nothing_known_is_explained():
    with pytest.raises(UserError, match="unknown axes of a softmax 'channel': did you mean channels"):
        Smoothing.softmax(over="channel")


def test_smoothing_is_frozen_and_hashable():
    assert len({Smoothing("softmax"), Smoothing("softmax"), Smoothing("scale")}) == 2
    with pytest.raises(AttributeError):
        Smoothing().kind = "softmax"


def test_vmap_smooths_each_image_by_itself(kind):
    batch = jnp.stack(list(FEATURES.values()))
    smoothed = jax.vmap(lambda x: smooth(x, Smoothing(kind), temperature=3.0))(batch)
    for i, image in enumerate(batch):
        np.testing.assert_allclose(smoothed[i], smooth(image, Smoothing(kind), temperature=3.0), rtol=1e-5, atol=1e-30)


def test_vmap_finds_each_temperature_by_itself(axes):
    batch = jnp.stack(list(FEATURES.values()))
    temperatures = jax.vmap(lambda x: find(x, axes=axes))(batch)
    np.testing.assert_allclose(temperatures, [find(x, axes=axes) for x in batch], rtol=1e-5)


def test_gradient_matches_finite_differences(kind):
    with jax.enable_x64(True):
        features = jnp.asarray(1.5 * np.random.default_rng(0).standard_normal((3, 4, 5)))
        assert smooth(features, Smoothing(kind)).dtype == jnp.float64

        def smoothed(x):
            return smooth(jnp.asarray(x), Smoothing(kind), temperature=1.3)

        check_grads(smoothed, (features,), order=1, atol=1e-8, rtol=1e-8, eps=1e-4)


def test_bfloat16_features_are_smoothed_in_float32(kind):
    features = FEATURES["relu"].astype(jnp.bfloat16)
    expected = smooth(features.astype(jnp.float32), Smoothing(kind))
    found = smooth(features, Smoothing(kind))
    assert found.dtype == (jnp.bfloat16 if kind == "none" else jnp.float32)
    np.testing.assert_array_equal(found.astype(jnp.float32), expected)


def test_temperature_is_auto_only_where_it_says_so():
    x = FEATURES["cubed"]
    assert float(find_temperature(x, Smoothing("none"))) == 1
    assert float(find_temperature(x, Smoothing("scale"))) == 1
    assert float(find_temperature(x, Smoothing("softmax", temperature=2.5))) == 2.5
    auto = float(find_temperature(x, Smoothing("softmax")))
    assert auto == pytest.approx(float(find(x, axes=(0, 1, 2))), rel=1e-5)
    assert float(find_temperature(x, Smoothing("spatial-softmax"))) == float(find(x, axes=(0, 1)))
    assert find_temperature(x.astype(jnp.bfloat16), Smoothing("softmax")).dtype == jnp.float32


def test_auto_reaches_its_divergence(features, axes):
    temperature = find(features, axes=axes)
    assert divergence(features, axes, temperature) == pytest.approx(AUTO_DIVERGENCE, abs=1e-4)


def test_auto_scales_with_the_features(features, axes):
    temperature = float(find(features, axes=axes))
    for factor in (1e-3, 7.0, 1e3):
        assert float(find(factor * features, axes=axes)) == pytest.approx(factor * temperature, rel=1e-4)


def test_auto_is_unchanged_by_adding_a_constant(features, axes):
    rounded = jnp.round(features * 64) / 64
    expected = float(find(rounded, axes=axes))
    assert float(find(rounded - 64, axes=axes)) == pytest.approx(expected, rel=1e-3)


def test_auto_does_not_depend_on_the_resolution(features, axes):
    tiled = jnp.tile(features, (2, 2, 1))
    expected = float(find(features, axes=axes))
    assert float(find(tiled, axes=axes)) == pytest.approx(expected, rel=1e-4)


def test_auto_is_the_deviation_over_the_root_of_twice_the_divergence_for_gaussian_features():
    """The divergence of a softmax of Gaussian features with deviation s is s²/(2 T²)."""
    found = float(find(3 * FEATURES["gaussian"], axes=(0, 1, 2)))
    assert found == pytest.approx(3 / (2 * AUTO_DIVERGENCE) ** 0.5, rel=0.05)


def test_auto_is_one_for_constant_features(axes):
    assert float(find(jnp.zeros((4, 4, 3)), axes=axes)) == 1
    assert float(find(jnp.full((4, 4, 3), 7.0), axes=axes)) == 1


def test_auto_repairs_what_temperature_one_leaves_peaky():
    features = FEATURES["peaky"]
    temperature = find(features, axes=(0, 1, 2))
    literal, auto = (softmax(features, axes=(0, 1, 2), temperature=t) for t in (1.0, temperature))
    assert float(normalized_entropy(literal)) < 0.3
    assert float(normalized_entropy(auto)) > 0.9


@pytest.mark.parametrize("share", [0.91, 0.95, 0.99])
def test_auto_is_finite_where_too_many_entries_share_the_maximum(share, axes):
    """No temperature is sharp enough: the sharpest one puts the maxima far above the rest."""
    shape = (10, 10, 100)
    features = (np.random.default_rng(0).permuted(np.arange(10_000)) < share * 10_000).reshape(shape)
    features = jnp.asarray(features, jnp.float32)
    temperature = float(find(features, axes=axes))
    assert 0 < temperature < 0.1
    smoothed = softmax(features, axes=axes, temperature=temperature)
    assert np.isfinite(smoothed).all()
    assert divergence(features, axes, temperature) < AUTO_DIVERGENCE


def test_auto_is_the_same_compiled():
    x = FEATURES["peaky"]
    assert float(auto_temperature(x, axes=(0, 1, 2))) == pytest.approx(float(find(x, axes=(0, 1, 2))), rel=1e-5)
