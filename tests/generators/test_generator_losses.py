"""The losses that generators are trained by: equal to PyTorch's, blind to what they should not see, smoothed."""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swag_jax import backbones
from swag_jax._checks import UserError
from swag_jax.attention import adaattn as attend
from swag_jax.attention import key_features
from swag_jax.backbones.zoo import entry
from swag_jax.generators import METHODS, AdaAttNObjective, AdaINObjective, SANetObjective, adaattn, adain, sanet
from swag_jax.generators.sanet import Identity
from swag_jax.losses import moments
from swag_jax.smoothing import KINDS, Smoothing, smooth
from swag_jax.statistics import instance_norm

GOLDEN = dict(np.load(Path(__file__).parents[1] / "reference" / "generator_losses.npz"))

LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


def features(role):
    return {layer: jnp.asarray(GOLDEN[f"{role}.{layer}"]) for layer in LAYERS}


OUTPUT, CONTENT, STYLE = features("output"), features("content"), features("style")

IDENTITIES = [
    Identity(
        jnp.asarray(GOLDEN[f"image.{role}"]),
        jnp.asarray(GOLDEN[f"image.same_{role}"]),
        features(role),
        features(f"same_{role}"),
    )
    for role in ("content", "style")
]

RECIPES = {
    "adain_port": METHODS["adain"].recipes["adain"].objective,
    "adain_released": METHODS["adain"].recipes["adain-released"].objective,
    "sanet": SANetObjective(),
    "adaattn": AdaAttNObjective(),
    "adaattn_ablation": AdaAttNObjective(content_weight=2.0),
}

# The terms of PyTorch's recipes, and the first letters of ours with their weights.
FAMILIES = {
    "adain_port": {"content": ("content/", 1.0), "averaged": ("style/", 10.0)},
    "adain_released": {"content": ("content/", 1.0), "summed": ("style/", 0.01)},
    "sanet": {
        "content": ("content/", 1.0),
        "style": ("style/", 3.0),
        "pixels": ("identity/pixels", 50.0),
        "identity": ("identity/relu", 1.0),
    },
    "adaattn": {"global": ("global/", 10.0), "local": ("local/", 3.0)},
    "adaattn_ablation": {"global": ("global/", 10.0), "local": ("local/", 3.0), "content": ("content/", 2.0)},
}


def evaluate(objective, output, content, style):
    if isinstance(objective, AdaINObjective):
        return adain.evaluate(output, content, style, objective=objective)
    if isinstance(objective, SANetObjective):
        return sanet.evaluate(output, content, style, IDENTITIES, objective=objective)
    return adaattn.evaluate(output, content, style, objective=objective)


@functools.partial(jax.jit, static_argnums=0)
def measure(objective, output, content, style):
    return jax.value_and_grad(evaluate, 1, has_aux=True)(objective, output, content, style)


@pytest.mark.parametrize("recipe", RECIPES)
def test_terms_total_and_gradient_match_pytorch(recipe):
    (total, terms), gradients = measure(RECIPES[recipe], OUTPUT, CONTENT, STYLE)
    assert float(total) == pytest.approx(float(GOLDEN[f"{recipe}.total"]), rel=1e-5)
    assert float(total) == pytest.approx(sum(map(float, terms.values())), rel=1e-6)
    seen = []
    for term, (prefix, weight) in FAMILIES[recipe].items():
        own = [name for name in terms if name.startswith(prefix)]
        expected = weight * float(GOLDEN[f"{recipe}.{term}"])
        assert sum(float(terms[name]) for name in own) == pytest.approx(expected, rel=1e-5)
        seen += own
    assert sorted(seen) == sorted(terms)
    for layer in LAYERS:
        expected = GOLDEN.get(f"{recipe}.gradient.{layer}", np.zeros_like(OUTPUT[layer]))
        np.testing.assert_allclose(gradients[layer], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_terms_are_named_by_family_and_layer():
    expected = {
        "adain_port": {"content/relu4_1", *(f"style/{layer}" for layer in LAYERS[:4])},
        "sanet": {
            *("content/relu4_1", "content/relu5_1", "identity/pixels"),
            *(f"{family}/{layer}" for family in ("style", "identity") for layer in LAYERS),
        },
        "adaattn": {f"{family}/{layer}" for family in ("global", "local") for layer in LAYERS[1:]},
    }
    for recipe, names in expected.items():
        assert set(measure(RECIPES[recipe], OUTPUT, CONTENT, STYLE)[0][1]) == names


def test_moments_by_hand():
    """Channels (1, 3) and (5, 5) against 5s: means 2 and 5, squares off by 2; deviations 0 in the target."""
    image, target = jnp.array([[[1.0, 5.0], [3.0, 5.0]]]), jnp.full((3, 1, 2), 5.0)
    assert float(moments.summed(image, target)) == pytest.approx(9 + 1, rel=1e-4)
    floor = 1e-5**0.5
    assert float(moments.averaged(image, target)) == pytest.approx((9 + ((2 + 1e-5) ** 0.5 - floor) ** 2) / 2)


@pytest.mark.parametrize("loss", [moments.averaged, moments.summed, moments.relative])
def test_moment_losses_vanish_at_the_style_and_see_no_order(loss):
    target = STYLE["relu3_1"]
    shuffled = jax.random.permutation(jax.random.key(0), target.reshape(9, 5)).reshape(1, 9, 5)
    value, gradient = jax.jit(jax.value_and_grad(loss))(shuffled, target)
    assert 0 <= float(value) < 1e-9
    assert np.abs(gradient).max() < 1e-4
    assert float(loss(OUTPUT["relu3_1"], target)) > 1e-3


def test_relative_moments_have_no_unit():
    one, few, many = (
        float(moments.relative(c * OUTPUT["relu2_1"], c * STYLE["relu2_1"])) for c in (1.0, 2.0**-45, 2.0**45)
    )
    assert one == few == many > 0.01
    flat = jnp.ones((2, 2, 3))
    value, gradient = jax.value_and_grad(moments.relative)(flat, flat)
    assert float(value) == 0
    assert np.isfinite(gradient).all()


def test_the_local_target_is_attention_of_which_nothing_is_learnt():
    layers = LAYERS[:3]
    expected = attend(
        CONTENT["relu3_1"],
        key_features(CONTENT, layers=layers),
        key_features(STYLE, layers=layers),
        STYLE["relu3_1"],
    )
    target = jax.jit(functools.partial(adaattn.local_target, layers=layers))
    np.testing.assert_allclose(target(CONTENT, STYLE), expected, rtol=1e-4, atol=1e-5)
    slopes = jax.jit(jax.grad(lambda c, s: adaattn.local_target(c, s, layers=layers).sum(), (0, 1)))
    for gradient in jax.tree.leaves(slopes(CONTENT, STYLE)):
        np.testing.assert_array_equal(gradient, 0)


def test_style_positions_are_capped_by_a_key():
    objective = AdaAttNObjective(global_weight=0.0, local_layers=("relu2_1",), samples=12)
    with pytest.raises(UserError, match="a key must be given if the style has more than 12 positions"):
        adaattn.evaluate(OUTPUT, CONTENT, STYLE, objective=objective)
    run = jax.jit(lambda key: adaattn.evaluate(OUTPUT, CONTENT, STYLE, objective=objective, key=key)[0])
    first, again, other = (float(run(jax.random.key(i))) for i in (0, 0, 1))
    assert first == again != other


def test_alone_a_layer_is_compared_by_itself():
    assert AdaAttNObjective().compared("relu3_1") == LAYERS[:3]
    assert AdaAttNObjective(shallow=False).compared("relu3_1") == ("relu3_1",)


@pytest.mark.parametrize("kind", KINDS)
def test_activations_are_smoothed_on_both_sides_at_a_common_temperature(kind):
    smoothing = Smoothing(kind, temperature=2.0, scale=0.5, layers=("relu4_1", "relu3_1"))
    objective = AdaINObjective(style_layers=("relu2_1", "relu3_1"), smoothing=smoothing)
    (_, terms), gradients = measure(objective, OUTPUT, CONTENT, STYLE)
    smoothed = [smooth(x["relu3_1"], smoothing, temperature=2.0) for x in (OUTPUT, STYLE)]
    assert float(terms["style/relu3_1"]) == pytest.approx(10 * float(moments.averaged(*smoothed)), rel=1e-4)
    plain = 10 * float(moments.averaged(OUTPUT["relu2_1"], STYLE["relu2_1"]))
    assert float(terms["style/relu2_1"]) == pytest.approx(plain, rel=1e-4)
    assert all(np.isfinite(g).all() for g in gradients.values())


@pytest.mark.parametrize("recipe", ["adain_port", "sanet", "adaattn_ablation"])
def test_relative_terms_smoothed_by_themselves_are_finite(recipe):
    objective = dataclasses.replace(RECIPES[recipe], normalization="relative", smoothing=Smoothing("softmax"))
    (total, terms), gradients = measure(objective, OUTPUT, CONTENT, STYLE)
    assert float(total) == pytest.approx(sum(map(float, terms.values())), rel=1e-5)
    assert min(map(float, terms.values())) > 0
    assert all(np.isfinite(g).all() for g in gradients.values())


def test_pixels_are_not_smoothed():
    objective = SANetObjective(content_weight=0.0, style_weight=0.0, identity_weight=0.0)
    smoothed = dataclasses.replace(objective, smoothing=Smoothing("softmax"))
    for each in (objective, smoothed):
        _, terms = sanet.evaluate(OUTPUT, CONTENT, STYLE, IDENTITIES, objective=each)
        assert float(terms["identity/pixels"]) == pytest.approx(50 * float(GOLDEN["sanet.pixels"]), rel=1e-5)
        assert list(terms) == ["identity/pixels"]


def test_a_batch_is_its_images():
    batch = jax.tree.map(lambda *x: jnp.stack(x), OUTPUT, CONTENT)
    run = jax.jit(jax.vmap(lambda x: adaattn.evaluate(x, CONTENT, STYLE, objective=AdaAttNObjective())[0]))
    expected = measure(RECIPES["adaattn"], OUTPUT, CONTENT, STYLE)[0][0]
    assert float(run(batch)[0]) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("name", backbones.NAMES)
def test_every_network_has_layers_for_every_objective(name):
    layers = entry(name).style_layers
    found = AdaINObjective().for_backbone(name)
    assert (found.content_layer, found.style_layers) == (layers[-2], layers[:-1])
    assert set(found.layers) == set(layers[:-1])
    assert SANetObjective().for_backbone(name).content_layers == layers[-2:]
    assert set(SANetObjective().for_backbone(name).layers) == set(layers)
    attention = AdaAttNObjective().for_backbone(name)
    assert (attention.compared_layers, attention.local_layers) == (layers, layers[1:])
    assert set(attention.layers) == set(layers)


def test_johnsons_loss_is_the_objective_in_the_released_unit():
    objective = METHODS["johnson"].recipes["johnson"].objective
    assert (objective.normalization, objective.layers) == ("released", ("relu2_2", "relu1_2", "relu3_3", "relu4_3"))
    assert set(objective.layers) <= set(backbones.layer_names("vgg19"))


def test_content_losses_compare_normalized_features():
    objective = AdaAttNObjective(global_weight=0.0, local_weight=0.0, content_weight=1.0, content_layers=("relu2_1",))
    total, _ = adaattn.evaluate(OUTPUT, CONTENT, STYLE, objective=objective)
    difference = instance_norm(OUTPUT["relu2_1"]) - instance_norm(CONTENT["relu2_1"])
    assert float(total) == pytest.approx(float((difference**2).mean()), rel=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AdaINObjective(normalization="avg"), "unknown normalization 'avg'"),
        (lambda: AdaINObjective(style_weight=-1.0), "style weight must be at least 0 .*got -1"),
        (lambda: AdaINObjective(content_weight=0.0, style_weight=0.0), "one of content weight, style weight must be"),
        (lambda: AdaAttNObjective(local_layers=("relu6_1",)), "unknown compared layer 'relu6_1'"),
        (lambda: AdaAttNObjective(similarity="dot"), "unknown similarity 'dot'"),
        (lambda: AdaAttNObjective(samples=0), "samples must be at least 1"),
        (lambda: SANetObjective(pixel_weight=float("nan")), "pixel weight must be at least 0"),
    ],
)
def test_bad_objectives(make, message, unchecked):
    with pytest.raises(UserError, match=message):
        make()
