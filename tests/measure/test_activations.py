"""Activation statistics: numbers by hand, images of any shapes in batches as alone, and what fails."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swag_jax import UserError, backbones, extract, sample
from swag_jax.measure import activations
from swag_jax.measure.activations import (
    MEASURES,
    SMOOTHINGS,
    ActivationStatistics,
    MeasuredImage,
    NetworkStatistics,
    activation_statistics,
    label,
    layer_statistics,
)
from swag_jax.measure.network_spec import NetworkSpec
from swag_jax.params import Source
from swag_jax.smoothing import KINDS, Smoothing

LAYER = "relu1_1"


@pytest.fixture(autouse=True)
def empty_store(monkeypatch, tmp_path):
    monkeypatch.setenv("SWAG_JAX_HOME", str(tmp_path / "store"))


@pytest.fixture(scope="module")
def images():
    """Five images of two shapes, and one of a third."""
    wide = sample("coffee", size=32)
    square = sample("cat", size=28)[:20, :20]
    return {"a": wide, "b": square, "c": 1 - wide, "d": wide**2, "e": square**2, "f": sample("swirls", size=24)}


def measure(images, networks=("vgg19",), **options):
    return activation_statistics(images, networks, **{"layers": (LAYER,), "smoothings": (), **options})


def by_measure(numbers):
    return dict(zip(MEASURES, np.asarray(numbers, np.float64), strict=True))


def test_raw_statistics_by_hand():
    """One position, two channels: F = (1, 3), G = F F^T = ((1, 3), (3, 9))."""
    found = by_measure(layer_statistics(jnp.array([[[1.0, 3.0]]]), Smoothing()))
    p = np.exp([1.0, 3.0]) / np.exp([1.0, 3.0]).sum()
    g = np.exp([1.0, 3.0, 3.0, 9.0]) / np.exp([1.0, 3.0, 3.0, 9.0]).sum()
    expected = {
        "max": 3.0,
        "entropy": -(p * np.log(p)).sum() / np.log(2),
        "peak": 3 / np.sqrt(5),
        "gram_max": 9.0,
        "gram_entropy": -(g * np.log(g)).sum() / np.log(4),
        "gram_peak": 9 / 5,
    }
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_softmax_is_measured_with_entries_that_sum_to_one():
    """Two positions, one channel: sigma = (1/4, 3/4) at T = 2, G = (1/16 + 9/16) / 2."""
    features = jnp.array([[[0.0], [2 * np.log(3.0)]]])
    found = by_measure(layer_statistics(features, Smoothing("softmax", temperature=2.0)))
    q = np.exp([0.25, 0.75]) / np.exp([0.25, 0.75]).sum()
    assert found["max"] == pytest.approx(0.75)
    assert found["entropy"] == pytest.approx(-(q * np.log(q)).sum() / np.log(2), rel=1e-6)
    assert found["peak"] == pytest.approx(0.75 / np.sqrt(5 / 16), rel=1e-6)
    assert found["gram_max"] == pytest.approx(5 / 16, rel=1e-6)


@pytest.mark.parametrize("kind", ["none", "softmax", "scale"])
def test_auto_and_peaks_do_not_follow_the_scale(kind):
    smoothing = Smoothing(kind, temperature="auto")
    features = jax.random.normal(jax.random.key(0), (6, 7, 5)) ** 2
    statistics = jax.jit(lambda features: layer_statistics(features, smoothing))
    one, ten = (by_measure(statistics(factor * features)) for factor in (1, 10))
    assert ten["peak"] == pytest.approx(one["peak"], rel=1e-4)
    assert ten["gram_peak"] == pytest.approx(one["gram_peak"], rel=1e-4)
    if smoothing.axes is None:
        assert ten["max"] == pytest.approx(10 * one["max"], rel=1e-5)
    else:
        assert list(ten.values()) == pytest.approx(list(one.values()), rel=1e-4)


def test_labels_tell_smoothings_apart():
    kinds = [Smoothing(kind, temperature=t) for kind in KINDS for t in ("auto", 1.0, 0.125)]
    assert len({label(smoothing) for smoothing in kinds}) == 3 * 3 + 2


def test_numbers_are_those_of_the_layer(images):
    """Raw and smoothed, with trained weights: as from each image's features alone."""
    chosen = {name: images[name] for name in "ac"}
    found = measure(chosen, [NetworkSpec("net", "vgg19", "embedded")], smoothings=SMOOTHINGS)
    assert [(p.name, p.height, p.width) for p in found.images] == [("a", 24, 32), ("c", 24, 32)]
    assert found.failures == {}
    assert found.networks["net"].smoothings == ("none", "softmax T=1", "softmax T=auto")
    network, source = backbones.load("vgg19", weights="embedded", layers=(LAYER,))
    assert found.networks["net"].source == source
    alone = jax.jit(lambda features: jnp.stack([layer_statistics(features, s) for s in (Smoothing(), *SMOOTHINGS)]))
    expected = [alone(extract(network, jnp.asarray(p), layers=[LAYER])[LAYER]) for p in chosen.values()]
    np.testing.assert_allclose(found.networks["net"].values[LAYER], expected, rtol=2e-5)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_batches_are_filled_up_and_their_size_changes_nothing(images, batch_size):
    """Three images of a shape in batches of two: the last one is filled up, and no program more is compiled."""
    expected = measure(images).networks["vgg19"].values
    activations._program.clear_cache()
    found = measure(images, batch_size=batch_size).networks["vgg19"].values
    assert activations._program._cache_size() == 3
    np.testing.assert_allclose(found[LAYER], expected[LAYER], rtol=2e-5)


def test_images_do_not_pile_up(images, monkeypatch):
    """With two that may wait, shapes are measured before they are complete; the first size of a shape stays."""
    expected = measure(images).networks["vgg19"].values
    monkeypatch.setattr(activations, "IMAGES_WAITING", 2)
    monkeypatch.setattr(activations, "PIXELS_AT_ONCE", 10**6)
    found = measure(images).networks["vgg19"].values
    np.testing.assert_allclose(found[LAYER], expected[LAYER], rtol=2e-5)


@pytest.fixture
def by_hand():
    """Statistics of two layers of a stage and one of another, behind one smoothing, over four images."""
    values = {layer: np.zeros((4, 2, len(MEASURES))) for layer in ("relu1_1", "pool1", "relu2_1")}
    values["relu2_1"][:, 1, MEASURES.index("entropy")] = [0.0, 0.5, 0.5, 1.0]
    source = Source("random", "random", "vgg19", note="not trained")
    stages, spec = {0: "relu1_1", 1: "relu2_1"}, NetworkSpec("net", "vgg19", options=(("batch_norm", True),))
    return NetworkStatistics(spec, source, stages, ("none", "softmax T=1"), values)


def test_means_and_deviations(by_hand):
    assert by_hand.mean("relu2_1", "entropy", smoothing="softmax T=1") == 0.5
    assert by_hand.deviation("relu2_1", "entropy", smoothing="softmax T=1") == pytest.approx(np.sqrt(0.125))
    assert by_hand.line("entropy", smoothing="softmax T=1") == {0: 0.0, 1: 0.5}
    assert by_hand.line("entropy") == {0: 0.0, 1: 0.0}
    for bad in (("relu9", "max", "none"), ("relu2_1", "maximum", "none"), ("relu2_1", "max", "softmax")):
        with pytest.raises(UserError, match=r"unknown (layer|measure|smoothing)"):
            by_hand.mean(bad[0], bad[1], smoothing=bad[2])


def test_as_dict_holds_the_stages_in_order(by_hand):
    images = (MeasuredImage("a", 20, 30),)
    written = json.loads(json.dumps(ActivationStatistics({"net": by_hand}, images, {"b": "gone"}, 1.0).as_dict()))
    network = written["networks"]["net"]
    assert (network["backbone"], network["weights"]) == ("vgg19", "random (not trained)")
    assert network["options"] == {"batch_norm": True}
    assert [(stage, entry["layer"]) for stage, entry in network["stages"].items()] == [
        ("0", "relu1_1"),
        ("1", "relu2_1"),
    ]
    assert list(network["layers"]) == ["relu1_1", "pool1", "relu2_1"]
    entry = network["stages"]["1"]
    assert list(entry) == ["layer", *MEASURES, "deviation", "smoothed"]
    assert list(entry["smoothed"]) == ["softmax T=1"]
    assert list(entry["smoothed"]["softmax T=1"]) == [*MEASURES, "deviation"]
    assert entry["entropy"] == entry["deviation"]["entropy"] == 0.0
    assert entry["smoothed"]["softmax T=1"]["entropy"] == 0.5
    assert entry["smoothed"]["softmax T=1"]["deviation"]["entropy"] == pytest.approx(np.sqrt(0.125))
    assert written["images"] == [{"name": "a", "height": 20, "width": 30}]
    assert written["failures"] == [{"name": "b", "error": "gone"}]


def test_as_dict_names_layers_only_where_there_are_more_than_stages(images):
    assert "layers" not in measure(images).as_dict()["networks"]["vgg19"]


def test_random_weights_follow_the_seed(images):
    one, two, three = (measure(images, seed=seed).networks["vgg19"].mean(LAYER, "max") for seed in (0, 0, 1))
    assert one == two != three


def unreadable():
    raise OSError("gone")


def refused():
    raise UserError("no image, but a poem.")


def test_a_broken_image_is_named_and_the_others_are_measured(images):
    bad = {"poem": refused, "gone": unreadable, "bytes": np.zeros((20, 20, 3), np.uint8), "empty": np.zeros((0, 9, 3))}
    found = measure({"read": lambda: images["a"], **bad, "b": images["b"]})
    assert [image.name for image in found.images] == ["read", "b"]
    assert found.failures["poem"] == "no image, but a poem."
    assert found.failures["gone"] == "the gone image must be readable, got OSError: gone."
    assert "floating-point values in [0, 1], got uint8" in found.failures["bytes"]
    assert "shape (height, width, 3), got (0, 9, 3)" in found.failures["empty"]
    alone = measure({"read": images["a"], "b": images["b"]})
    np.testing.assert_array_equal(found.networks["vgg19"].values[LAYER], alone.networks["vgg19"].values[LAYER])


def test_a_image_too_small_for_the_deepest_layer():
    rule = "the shorter side of tiny must be at least 2 px for vgg19, got 40 x 1: take it at a larger size"
    with pytest.raises(UserError, match=rule):
        measure({"tiny": np.zeros((1, 40, 3), np.float32)}, layers=("pool1",))


def test_no_image_at_all():
    with pytest.raises(UserError, match="there must be an image that can be measured: no image, but a poem"):
        measure({"poem": refused})
    with pytest.raises(UserError, match="there must be an image that can be measured: none was given"):
        measure({})


def test_activations_that_are_not_finite(images, monkeypatch):
    monkeypatch.setattr(activations, "host_image", lambda image, what: np.float32(image))
    broken = np.where(np.arange(3) == 1, np.nan, images["a"])
    found = measure({"a": images["a"], "broken": broken})
    assert [image.name for image in found.images] == ["a"]
    rule = "the activations of broken must be finite, got others at relu1_1 of vgg19: check its weights."
    assert found.failures == {"broken": rule}
    expected = measure({"a": images["a"]}).networks["vgg19"].values[LAYER]
    np.testing.assert_allclose(found.networks["vgg19"].values[LAYER], expected, rtol=2e-5)


def test_memory_that_is_used_up(images, monkeypatch):
    """Images that do not fit, even alone, fail; other failures of the device are passed on."""
    program = activations._program

    def short(network, images, **options):
        if images.shape[1] == 20:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return program(network, images, **options)

    monkeypatch.setattr(activations, "_program", short)
    shown = []
    found = measure(images, [NetworkSpec("one", "vgg19"), NetworkSpec("two", "vgg19")], callback=shown.append)
    assert set(found.failures) == {"b", "e"}
    rule = "images must fit into memory with one, got 1 of 20 x 20: take smaller images."
    assert found.failures["b"] == rule
    assert [image.name for image in found.images] == ["a", "c", "d", "f"]
    assert (shown[-1].images, shown[-1].failed) == (6, 2)

    def dead(*_, **__):
        raise jax.errors.JaxRuntimeError("INTERNAL: lost")

    monkeypatch.setattr(activations, "_program", dead)
    with pytest.raises(jax.errors.JaxRuntimeError, match="lost"):
        measure(images)


def test_a_batch_that_does_not_fit_is_measured_in_halves(images, monkeypatch):
    program, expected = activations._program, measure(images)

    def short(network, images, **options):
        if len(images) > 1:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return program(network, images, **options)

    monkeypatch.setattr(activations, "_program", short)
    found = measure(images)
    assert found.failures == {}
    np.testing.assert_allclose(
        found.networks["vgg19"].values[LAYER], expected.networks["vgg19"].values[LAYER], rtol=2e-5
    )


def test_progress_counts_images_of_all_networks(images):
    shown = []
    measure({"poem": refused, **images}, [NetworkSpec("x", "vgg19"), NetworkSpec("y", "vgg19")], callback=shown.append)
    assert [(p.network, p.images, p.total, p.failed) for p in shown] == [
        ("x", 2, 7, 1), ("y", 4, 7, 1), ("x", 5, 7, 1), ("y", 6, 7, 1), ("x", 6, 7, 1), ("y", 7, 7, 1),
    ]  # fmt: skip
    assert shown[-1].seconds_left == 0
    assert all(0 < before.seconds <= after.seconds for before, after in itertools.pairwise(shown))


@pytest.mark.parametrize(
    ("networks", "options", "message"),
    [
        (["vgg18"], {}, "unknown backbone 'vgg18': did you mean vgg19"),
        ([], {}, "there must be networks, each with its own name, got none"),
        (["vgg19", "vgg19"], {}, "each with its own name, got vgg19, vgg19"),
        (["vgg19"], {"layers": "stage"}, "unknown choice of layers 'stage': did you mean stages"),
        (["vgg19"], {"layers": ("relu11",)}, "unknown layer 'relu11': did you mean relu1_1"),
        (["vgg19"], {"layers": ()}, "at least one layer must be given"),
        (["vgg19"], {"batch_size": 0}, "batch size must be at least 1, got 0"),
        ([NetworkSpec("net", "vgg19", "imagenet")], {}, "vgg19-imagenet is not in the local store"),
        (
            [NetworkSpec("net", "resnet50", options=(("residul", False),))],
            {},
            "unknown option of resnet50 'residul': did",
        ),
    ],
)
def test_bad_requests(images, networks, options, message):
    with pytest.raises(UserError, match=message):
        measure(images, networks, **options)
