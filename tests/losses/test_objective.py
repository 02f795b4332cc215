"""The objective: terms, weights, blends, batches and devices, on the first layers of VGG19."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from swag_jax import backbones
from swag_jax._checks import UserError
from swag_jax.backbones.zoo import entry
from swag_jax.features import extract
from swag_jax.losses import Objective, Targets, content_targets, evaluate, style_targets
from swag_jax.losses.objective import LARGEST_LAYER_WEIGHT, LARGEST_WEIGHT, NORMALIZATIONS
from swag_jax.smoothing import KINDS, Smoothing, find_temperature

NETWORK = backbones.create("vgg19", until="relu2_1")

CONTENT, STYLE, OTHER, IMAGE = (jax.random.uniform(jax.random.key(i), (32, 40, 3)) for i in range(4))

OBJECTIVE = Objective(
    content_layers=("relu2_1",),
    style_layers=("relu1_1", "relu2_1"),
    style_layer_weights=(1.0, 0.25),
    tv_weight=3.0,
    smoothing=Smoothing("softmax"),
)

NAMES = ["content/relu2_1", "style/relu1_1", "style/relu2_1", "variation"]


@jax.jit(static_argnames="objective")
def make_targets(content, styles, blend, *, objective):
    return Targets(
        content=content_targets(NETWORK, content, objective=objective),
        style=style_targets(NETWORK, styles, objective=objective, blend=blend),
    )


def targets(objective=OBJECTIVE, *, content=CONTENT, styles=(STYLE,), blend=None):
    weights = jnp.asarray([1.0] * len(styles) if blend is None else blend)
    return make_targets(content, styles, weights, objective=objective)


evaluate_compiled = jax.jit(evaluate, static_argnames="objective")


def measure(objective=OBJECTIVE, image=IMAGE, **images):
    total, terms = evaluate_compiled(NETWORK, image, targets(objective, **images), objective=objective)
    return float(total), {name: float(term) for name, term in terms.items()}


def close(found, expected, tolerance=1e-5):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


def test_terms_are_positive_and_sum_to_the_total():
    total, terms = measure()
    assert sorted(terms) == NAMES
    assert min(terms.values()) > 0
    assert total == pytest.approx(sum(terms.values()), rel=1e-6)


def test_content_and_style_terms_vanish_where_all_images_are_one():
    total, terms = measure(image=CONTENT, styles=(CONTENT,))
    assert terms.pop("variation") == pytest.approx(total, rel=1e-6)
    assert max(terms.values()) < 1e-9


@pytest.mark.parametrize("family", ["content", "style", "tv"])
def test_weights_scale_their_family_alone(family):
    weight = f"{family}_weight"
    scaled = measure(dataclasses.replace(OBJECTIVE, **{weight: 5 * getattr(OBJECTIVE, weight)}))[1]
    for name, term in measure()[1].items():
        factor = 5 if name.startswith({"tv": "variation"}.get(family, family)) else 1
        assert scaled[name] == pytest.approx(factor * term, rel=1e-5)


def test_layer_weights_scale_their_layer_alone():
    scaled = measure(dataclasses.replace(OBJECTIVE, style_layer_weights=(1.0, 0.75), content_layer_weights=(2.0,)))[1]
    for name, term in measure()[1].items():
        factor = {"style/relu2_1": 3, "content/relu2_1": 2}.get(name, 1)
        assert scaled[name] == pytest.approx(factor * term, rel=1e-5)


def test_layers_weigh_the_same_and_sum_to_one_by_default():
    default = measure(dataclasses.replace(OBJECTIVE, style_layer_weights=()))
    close(default, measure(dataclasses.replace(OBJECTIVE, style_layer_weights=(0.5, 0.5))))


def test_without_style_only_the_content_layers_are_read():
    objective = Objective(content_layers=("relu1_2",), style_layers=("relu1_1", "relu5_1"), style_weight=0)
    assert objective.layers == ("relu1_2",)
    found = targets(objective)
    assert (list(found.content), found.style) == (["relu1_2"], {})
    shallow = backbones.create("vgg19", until="relu1_2")
    total, terms = evaluate(shallow, IMAGE, found, objective=objective)
    assert list(terms) == ["content/relu1_2"]
    assert float(total) == float(terms["content/relu1_2"]) > 0


def test_without_content_only_the_style_layers_are_read():
    objective = Objective(content_layers=("relu4_2",), style_layers=("relu1_1",), content_weight=0)
    assert objective.layers == ("relu1_1",)
    found = targets(objective)
    assert (found.content, list(found.style)) == ({}, ["relu1_1"])
    shallow = backbones.create("vgg19", until="relu1_1")
    assert list(evaluate(shallow, IMAGE, found, objective=objective)[1]) == ["style/relu1_1"]


def test_without_variation_there_is_no_term_for_it():
    assert sorted(measure(dataclasses.replace(OBJECTIVE, tv_weight=0.0))[1]) == NAMES[:-1]


def test_each_layer_is_read_once():
    assert OBJECTIVE.layers == ("relu2_1", "relu1_1")


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_total_is_finite_with_a_finite_gradient(normalization, kind):
    objective = Objective(("relu1_1",), ("relu1_1",), normalization=normalization, smoothing=Smoothing(kind))
    found = targets(objective)
    (total, _), gradient = jax.value_and_grad(evaluate, argnums=1, has_aux=True)(
        NETWORK, IMAGE, found, objective=objective
    )
    assert np.isfinite(total)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


def test_both_sides_are_smoothed_at_the_targets_temperature():
    found, features = targets(), extract(NETWORK, CONTENT, layers=["relu2_1"])["relu2_1"]
    expected = find_temperature(features, OBJECTIVE.smoothing)
    assert float(found.content["relu2_1"].temperature) == pytest.approx(float(expected), rel=1e-4)
    assert float(found.style["relu2_1"].temperature) != float(found.content["relu2_1"].temperature)


def test_smoothing_is_limited_to_its_layers():
    limited = dataclasses.replace(OBJECTIVE, smoothing=Smoothing("softmax", layers=("relu2_1",)))
    raw = dataclasses.replace(OBJECTIVE, smoothing=Smoothing())
    terms, smoothed, unsmoothed = (measure(objective)[1] for objective in (limited, OBJECTIVE, raw))
    assert terms["style/relu1_1"] == pytest.approx(unsmoothed["style/relu1_1"], rel=1e-5)
    for name in ("style/relu2_1", "content/relu2_1"):
        assert terms[name] == pytest.approx(smoothed[name], rel=1e-5)


def test_two_equal_styles_are_one():
    close(targets(styles=(STYLE, STYLE), blend=(0.3, 0.7)).style, targets().style)


def test_a_style_of_weight_zero_does_not_count():
    close(targets(styles=(STYLE, OTHER), blend=(1.0, 0.0)).style, targets().style)


def test_only_ratios_of_the_blend_matter():
    first, second = (targets(styles=(STYLE, OTHER), blend=blend).style for blend in ((1.0, 3.0), (0.25, 0.75)))
    close(first, second)


def test_styles_of_different_sizes_mix():
    raw = dataclasses.replace(OBJECTIVE, smoothing=Smoothing())
    larger = jax.random.uniform(jax.random.key(9), (48, 32, 3))
    first, second, both = (targets(raw, styles=styles).style for styles in ((STYLE,), (larger,), (STYLE, larger)))
    for layer in raw.style_layers:
        close(both[layer].value, (first[layer].value + second[layer].value) / 2)


def test_blended_temperature_is_the_weighted_geometric_mean():
    bright = STYLE * jnp.linspace(0, 1, 40).reshape(1, 40, 1)
    first, second, both = (
        targets(styles=styles, blend=blend).style["relu2_1"].temperature
        for styles, blend in (((STYLE,), None), ((bright,), None), ((STYLE, bright), (1.0, 3.0)))
    )
    assert float(first) != pytest.approx(float(second), rel=0.01)
    assert float(both) == pytest.approx(float(first) ** 0.25 * float(second) ** 0.75, rel=1e-5)


def test_compiled_equals_eager():
    found = targets()
    eager = evaluate(NETWORK, IMAGE, found, objective=OBJECTIVE)
    close(evaluate_compiled(NETWORK, IMAGE, found, objective=OBJECTIVE), eager)


BATCH = jax.random.uniform(jax.random.key(5), (8, 3, 32, 40, 3))


def total_of_one(network, images):
    """The loss of one image, with a content and a style of its own."""
    image, content, style = images
    found = Targets(
        content=content_targets(network, content, objective=OBJECTIVE),
        style=style_targets(network, [style], objective=OBJECTIVE, blend=jnp.ones(1)),
    )
    return evaluate(network, image, found, objective=OBJECTIVE)


totals_of_batch = jax.jit(jax.vmap(total_of_one, in_axes=(None, 0)))


def test_batch_by_vmap_equals_singles():
    totals, terms = totals_of_batch(NETWORK, BATCH)
    one = jax.jit(total_of_one)
    for i in range(3):
        close((totals[i], {name: term[i] for name, term in terms.items()}), one(NETWORK, BATCH[i]))


def test_batch_on_eight_devices_equals_one_device():
    mesh = jax.make_mesh((8,), ("batch",), axis_types=(AxisType.Auto,))
    split = jax.device_put(BATCH, NamedSharding(mesh, PartitionSpec("batch")))
    network = jax.device_put(NETWORK, NamedSharding(mesh, PartitionSpec()))
    found = totals_of_batch(network, split)
    assert len(found[0].sharding.device_set) == 8
    assert all(shard.data.shape == (1,) for shard in found[0].addressable_shards)
    close(jax.device_get(found), jax.device_get(totals_of_batch(NETWORK, BATCH)))


def test_bfloat16_network_gives_nearly_the_same_total():
    low = backbones.create("vgg19", until="relu2_1", compute=backbones.Compute(precision="bfloat16"))
    total, terms = jax.jit(total_of_one)(low, BATCH[0])
    expected, _ = jax.jit(total_of_one)(NETWORK, BATCH[0])
    assert {term.dtype for term in (total, *terms.values())} == {jnp.dtype("float32")}
    assert float(total) == pytest.approx(float(expected), rel=0.02)


@pytest.mark.parametrize("name", backbones.NAMES)
def test_backbone_fills_in_its_layers(name):
    known = entry(name)
    filled = Objective().for_backbone(name)
    assert filled.content_layers == (known.content_layer,)
    assert filled.style_layers == known.style_layers
    assert filled.for_backbone(name) == filled


def test_given_layers_are_kept():
    filled = Objective(content_layers=("relu1_2",)).for_backbone("vgg19")
    assert filled.content_layers == ("relu1_2",)
    assert filled.style_layers == ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


def test_the_largest_weights_are_float32_numbers():
    objective = Objective(style_weight=LARGEST_WEIGHT, style_layer_weights=(LARGEST_LAYER_WEIGHT,))
    assert bool(jnp.isfinite(jnp.float32(objective.style_weight * objective.style_layer_weights[0])))


def test_objective_is_frozen_and_hashable():
    assert len({OBJECTIVE, dataclasses.replace(OBJECTIVE), Objective()}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        OBJECTIVE.tv_weight = 1.0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            {"style_layers": ("a", "b"), "style_layer_weights": (1.0,)},
            "there must be one style layer weight per style layer (2), got 1.",
        ),
        (
            {"content_layers": ("a",), "content_layer_weights": (1.0, 2.0)},
            "there must be one content layer weight per content layer (1), got 2.",
        ),
        ({"style_layer_weights": (1.0, -1.0)}, "a style layer weight must be at least 0 and at most 1e+08, got -1.0."),
        (
            {"content_layer_weights": (float("nan"),)},
            "a content layer weight must be at least 0 and at most 1e+08, got nan.",
        ),
        ({"content_weight": -1.0}, "content weight must be at least 0 and at most 1e+30, got -1.0."),
        ({"style_weight": float("inf")}, "style weight must be at least 0 and at most 1e+30, got inf."),
        ({"tv_weight": -0.5}, "tv weight must be at least 0 and at most 1e+30, got -0.5."),
        (
            {"content_weight": 0.0, "style_weight": 0.0, "tv_weight": 1.0},
            "the content or the style weight must be greater than 0, got 0 for both.",
        ),
        ({"normalization": "relativ"}, "unknown normalization 'relativ': did you mean relative?"),
        ({"normalization": "x"}, "unknown normalization 'x': known: relative, paper, released"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_settings_are_explained(arguments, text):
    with pytest.raises(UserError) as caught:
        Objective(**arguments)
    assert str(caught.value) == text


def test_layer_weights_must_fit_the_backbones_layers():
    with pytest.raises(UserError, match="one style layer weight per style layer"):
        Objective(style_layer_weights=(1.0, 1.0)).for_backbone("vgg19")


def test_unknown_layer_is_explained():
    with pytest.raises(UserError, match="unknown layer 'relu2_11': did you mean relu2_1"):
        content_targets(NETWORK, CONTENT, objective=Objective(content_layers=("relu2_11",)))


SOFTMAX_AXES = {"softmax": (0, 1, 2), "channel-softmax": (2,), "spatial-softmax": (0, 1)}


def by_hand(kind, layers, normalization, *, weight=1e12):
    """The style terms of SWAG eq. 13 (and eq. 4 at raw layers) in float64: softmaxes sum to one, T = 1."""

    def smoothed(layer, image):
        features = np.asarray(extract(NETWORK, image, layers=[layer])[layer], np.float64)
        if layer not in layers:
            return features
        powers = np.exp(features)
        return powers / powers.sum(SOFTMAX_AXES[kind], keepdims=True)

    terms = {}
    for layer in ("relu1_1", "relu2_1"):
        (height, width, channels) = smoothed(layer, STYLE).shape
        grams = [np.einsum("hwi,hwj->ij", f, f) for f in (smoothed(layer, IMAGE), smoothed(layer, STYLE))]
        squared = ((grams[0] - grams[1]) ** 2).sum() / (height * width) ** 2
        # Released code: the mean over C^2 entries of (FF^T / (C H W))^2; paper: w / (4 D^2 M^2).
        factor = 1 / channels**4 if normalization == "released" else 1 / (4 * channels**2)
        terms[f"style/{layer}"] = weight * factor * squared
    return terms


@pytest.mark.parametrize("normalization", ["paper", "released"])
@pytest.mark.parametrize("kind", SOFTMAX_AXES)
@pytest.mark.parametrize(
    "layers", [("relu1_1", "relu2_1"), ("relu2_1",)], ids=["all smoothed", "one raw, one smoothed"]
)
def test_style_terms_of_eq_13_by_hand(kind, layers, normalization):
    objective = Objective(
        content_layers=("relu2_1",),
        style_layers=("relu1_1", "relu2_1"),
        style_layer_weights=(1.0, 1.0),
        content_weight=0.0,
        style_weight=1e12,
        normalization=normalization,
        smoothing=Smoothing(kind, temperature=1.0, layers=layers),
    )
    found = measure(objective)[1]
    for name, term in by_hand(kind, layers, normalization).items():
        assert found[name] == pytest.approx(term, rel=1e-3), name


@pytest.mark.parametrize(("normalization", "share"), [("paper", 0.5), ("released", 1 / (16 * 20 * 128))])
def test_content_term_of_eq_12_by_hand(normalization, share):
    objective = Objective(
        content_layers=("relu2_1",),
        style_weight=0.0,
        content_weight=1e12,
        normalization=normalization,
        smoothing=Smoothing("softmax", temperature=1.0),
    )
    features = [np.asarray(extract(NETWORK, x, layers=["relu2_1"])["relu2_1"], np.float64) for x in (IMAGE, CONTENT)]
    a, b = (np.exp(f) / np.exp(f).sum() for f in features)
    assert measure(objective)[1]["content/relu2_1"] == pytest.approx(1e12 * share * ((a - b) ** 2).sum(), rel=1e-3)
