"""What training does with its pictures, step by step."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import recipe as r
from flax import nnx

from swag_jax import backbones, devices
from swag_jax.images import normalize

VGG = r.Recipe("vgg19", epochs=1, batch=8, learning_rate=0.02, sizes=((1.0, 32),), precision="float32", until="relu2_1")


@pytest.fixture(scope="module")
def picture():
    return jnp.asarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8))


def test_a_crop_of_a_ramp_is_a_ramp_forward_or_mirrored():
    ramp = jnp.broadcast_to(jnp.arange(64, dtype=jnp.uint8)[None, :, None] * 4, (64, 64, 3))
    slopes = []
    for seed in range(12):
        out = np.asarray(r.augment(jax.random.key(seed), ramp, size=32, smallest_crop=0.4, jitter=0.0))
        steps = np.diff(out, axis=1)[:, 2:-2]  # the outermost columns are averaged over fewer pixels
        np.testing.assert_allclose(steps, steps.mean(), rtol=0.15)  # antialiasing weighs whole pixels
        slopes.append(float(steps.mean()) * 255 / 4 * 32)
    # The slope is the crop's width: at most the picture's, at least that of the smallest crop at the aspect 3:4.
    assert all(64 * (0.4 * 3 / 4) ** 0.5 - 0.5 < abs(slope) < 64.5 for slope in slopes)
    assert min(slopes) < 0 < max(slopes)


@pytest.mark.parametrize("size", [32, 48])
def test_augmentation_gives_pictures(picture, size):
    keys = jax.random.split(jax.random.key(0), 50)
    out = jax.vmap(lambda k: r.augment(k, picture, size=size, smallest_crop=0.3, jitter=0.5))(keys)
    assert out.shape == (50, size, size, 3)
    assert float(out.min()) >= 0
    assert float(out.max()) <= 1
    assert float(jnp.abs(out[0] - out[1]).max()) > 0.1
    again = r.augment(keys[7], picture, size=size, smallest_crop=0.3, jitter=0.5)
    np.testing.assert_allclose(out[7], again, atol=1e-6)


def test_augmentation_keeps_a_plain_picture_plain():
    gray = jnp.full((64, 64, 3), 100, jnp.uint8)
    out = r.augment(jax.random.key(3), gray, size=40, smallest_crop=0.2, jitter=0.0)
    np.testing.assert_allclose(out, 100 / 255, atol=1e-6)


def test_a_pass_takes_every_picture_once_in_its_own_order():
    passes = [[r.chosen_pictures(VGG, 4 * epoch + i, 35) for i in range(4)] for epoch in range(2)]
    for chosen in passes:
        numbers = np.concatenate(chosen)
        assert len(set(numbers.tolist())) == 32
        assert set(numbers.tolist()) <= set(range(35))
    assert not np.array_equal(passes[0], passes[1])
    np.testing.assert_array_equal(passes[1][2], r.chosen_pictures(VGG, 6, 35))


def test_sizes_by_share_of_the_run():
    grown = dataclasses.replace(VGG, sizes=((0.5, 32), (0.8, 40), (1.0, 64)))
    assert [grown.size(step, 10) for step in range(10)] == [32] * 5 + [40] * 3 + [64] * 2
    assert grown.steps(35) == 4


def test_vgg19_has_a_second_classifier_after_block_4():
    whole = jax.eval_shape(lambda: r.initial_state(dataclasses.replace(VGG, until=""), 2, np.zeros((1, 8, 8, 3))))
    assert whole["parameters"]["helper"]["kernel"].shape == (512, r.CLASSES)
    assert whole["parameters"]["head"]["kernel"].shape == (512, r.CLASSES)
    resnet = dataclasses.replace(VGG, network="resnet50", until="")
    assert "helper" not in jax.eval_shape(lambda: r.initial_state(resnet, 2, np.zeros((1, 8, 8, 3))))["parameters"]


def test_weight_decay_reaches_kernels_only():
    transform = r.optimizer(dataclasses.replace(VGG, warmup=0.0), 1000)
    parameters = {"kernel": jnp.ones((2, 2)), "scale": jnp.ones(2)}
    zero = jax.tree.map(jnp.zeros_like, parameters)
    state = transform.init(parameters)
    _, state = transform.update(zero, state, parameters)  # the warm-up's first step has rate zero
    update, _ = transform.update(zero, state, parameters)
    assert float(update["kernel"].max()) < 0
    assert (np.asarray(update["scale"]) == 0).all()


def test_residual_branches_begin_silent():
    state = r.initial_state(
        dataclasses.replace(VGG, network="resnet50", until="conv2_2"), 10, np.zeros((1, 32, 32, 3), np.uint8)
    )
    for name, block in state["parameters"]["backbone"].items():
        if name != "conv1":
            assert (np.asarray(block["conv3"]["norm"]["scale"]) == 0).all()
            assert (np.asarray(block["conv2"]["norm"]["scale"]) == 1).all()


def test_going_on_from_a_plain_checkpoint_changes_no_feature():
    pictures = np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)
    deep = dataclasses.replace(VGG, initial="embedded", until="relu3_1")
    state = r.initial_state(deep, 10, pictures)
    trained = r.merged(deep, "stored", state).backbone
    plain, _ = backbones.load("vgg19", weights="embedded", layers=("relu3_1",))
    x = normalize(jnp.asarray(pictures, jnp.float32) / 255, plain.normalization)
    found, expected = trained(x), plain(x)
    for layer in ("relu1_1", "relu2_2", "relu3_1"):
        bound = 1e-4 * float(jnp.abs(expected[layer]).max())
        np.testing.assert_allclose(found[layer], expected[layer], atol=bound)


def test_one_step_is_what_its_formula_says():
    """Nesterov's first step is -rate (1 + momentum) (gradient + decay * kernel), on the mean over the devices."""
    recipe = dataclasses.replace(VGG, warmup=0.5, jitter=0.0)
    pixels = np.random.default_rng(2).integers(0, 256, (16, 64, 64, 3)).astype(np.uint8)
    labels = jnp.arange(16) % 4
    state = r.initial_state(recipe, 10, pixels)
    state["step"] += 1
    state["momentum"] = jax.tree.map(lambda x: x + 1 if x.ndim == 0 else x, state["momentum"])  # the schedule's count
    before = jax.tree.map(np.asarray, state)
    chosen = r.chosen_pictures(recipe, 1, 16)
    after, report = r.make_step(recipe, steps=10, size=32)(state, jnp.asarray(pixels), labels, devices.shares(chosen))

    statistics = jax.tree.map(jnp.asarray, before["statistics"])

    def loss(parameters, device):
        """The same loss, spelled out, on one device's share."""
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 1), device)
        share = devices.shares(chosen)[device]
        keys = jax.random.split(key, len(share))
        images = [
            r.augment(k, jnp.asarray(pixels[i]), size=32, smallest_crop=recipe.smallest_crop, jitter=0.0)
            for k, i in zip(keys, share, strict=True)
        ]
        model = r.merged(recipe, "batch", {"parameters": parameters, "statistics": statistics})
        logs = jax.nn.log_softmax(model(jnp.stack(images))[0])
        wanted = 0.9 * jnp.take_along_axis(logs, labels[share][:, None], 1)[:, 0] + 0.1 * logs.mean(-1)
        return -wanted.mean()

    parameters = jax.tree.map(jnp.asarray, before["parameters"])
    found = [jax.value_and_grad(loss)(parameters, device) for device in range(devices.count())]
    np.testing.assert_allclose(report["loss"], np.mean([value for value, _ in found]), rtol=1e-4)
    gradient = jax.tree.map(lambda *parts: np.mean(parts, 0), *(slope for _, slope in found))
    rate = recipe.learning_rate * 1 / 5  # the second of five warm-up steps
    for path in (("head", "bias"), ("head", "kernel"), ("backbone", "conv1_1", "kernel")):
        old, new, slope = (at(tree, path) for tree in (before["parameters"], after["parameters"], gradient))
        decay = recipe.weight_decay * old if old.ndim > 1 else 0.0
        expected = -rate * 1.9 * (slope + decay)
        np.testing.assert_allclose(np.asarray(new) - old, expected, atol=2e-3 * np.abs(expected).max())
    # Two steps lie behind, the averages keep (1 + 1) / (10 + 1) of the past.
    old, new, average = (
        at(t, ("head", "kernel")) for t in (before["parameters"], after["parameters"], after["averages"]["parameters"])
    )
    np.testing.assert_allclose(average, 2 / 11 * old + 9 / 11 * np.asarray(new), rtol=1e-5, atol=1e-7)
    assert int(after["step"]) == 2


def at(tree, path):
    for name in path:
        tree = tree[name]
    return tree


def test_batch_norms_learn_their_statistics():
    model = r.merged(VGG, "batch", r.initial_state(VGG, 2, np.zeros((1, 32, 32, 3), np.uint8)))
    model(jax.random.uniform(jax.random.key(0), (4, 32, 32, 3)))
    assert float(jnp.abs(model.backbone.conv1_1.norm.mean[...]).max()) > 0.01
    frozen = model.backbone.frozen()
    assert not any(isinstance(value, nnx.BatchStat) for _, value in nnx.to_flat_state(nnx.state(frozen)))
