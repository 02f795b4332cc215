"""How the networks of this folder are trained: the classifier, what its pictures go through, and one step.

Everything here is a pure function of the recipe, the step's number and the pictures, so that a run that was
interrupted goes on as if it had not been.
"""

import functools
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from swag_jax import devices, params
from swag_jax.backbones import Norms, Operations, Precision, create, parameter_shapes, with_parameters
from swag_jax.backbones._layers import BATCH_NORM_EPSILON, half_padding
from swag_jax.backbones._network import Backbone, cut
from swag_jax.images import normalize

State: TypeAlias = dict[str, Any]
"""`parameters`, `statistics` (of the batch norms), `averages` (of both), `momentum` and `step`."""

CLASSES = 200
"""Tiny-ImageNet's."""

HELPED = "relu4_4"
"""The layer of VGG19 with a second classifier."""


@dataclass(frozen=True)
class Recipe:
    """What decides a run.

    Attributes:
        network: `vgg19` (trained with batch norm, which is folded away afterwards) or `resnet50`.
        epochs: Passes over the training pictures.
        batch: Pictures per step, over all devices.
        learning_rate: At its peak, after the warm-up; from there it follows a cosine to zero.
        warmup: Share of the run in which the learning rate rises to its peak.
        momentum: Nesterov's.
        weight_decay: On kernels only, added to the gradient.
        smoothing: Of the labels.
        helper_weight: Of the loss of VGG19's second classifier, after block 4: without it gradients fade.
        average: Largest weight of the past in the averaged parameters, which are the ones that are used.
        sizes: Pairs of a share of the run and the side in pixels of its pictures until then.
        smallest_crop: Least area of a crop, as a share of the picture.
        jitter: Largest relative change of brightness, contrast and saturation.
        precision: Of the convolutions; parameters, statistics and losses are float32.
        seed: Of the initialization, the order of the pictures and the augmentation.
        initial: Checkpoint to go on from, as `--weights` names it; empty: random parameters.
        until: Deepest layer that is built and trained, on whose mean the classifier stands; empty: the network's last.
        validation_size: Side of the validation pictures in pixels.
    """

    network: str
    epochs: float
    batch: int
    learning_rate: float
    warmup: float = 0.03
    momentum: float = 0.9
    weight_decay: float = 5e-4
    smoothing: float = 0.1
    helper_weight: float = 0.3
    average: float = 0.998
    sizes: tuple[tuple[float, int], ...] = ((1.0, 64),)
    smallest_crop: float = 0.35
    jitter: float = 0.2
    precision: Precision = "bfloat16"
    seed: int = 0
    initial: str = ""
    until: str = ""
    validation_size: int = 64

    def steps(self, pictures: int) -> int:
        """Return the number of steps on so many training pictures."""
        return round(self.epochs * (pictures // self.batch))

    def size(self, step: int, steps: int) -> int:
        """Return the side of the pictures of one step, in pixels."""
        return next((size for share, size in self.sizes if step < share * steps), self.sizes[-1][1])


class Classifier(nnx.Module):
    """A network with a linear classifier on the mean of its last layer; VGG19 has a second one after block 4."""

    def __init__(self, recipe: Recipe, *, norms: Norms, rngs: nnx.Rngs):
        operations = Operations(precision=recipe.precision, norms=norms)
        options: dict[str, Any] = {"seed": recipe.seed, "until": recipe.until or None}
        if recipe.network == "vgg19":
            options["batch_norm"] = True
        self.backbone = create(recipe.network, operations=operations, **options)
        shapes = jax.eval_shape(lambda: create(recipe.network, **options)(jnp.zeros((1, 32, 32, 3))))
        self.head = nnx.Linear(shapes[self.backbone.layers[-1]].shape[-1], CLASSES, rngs=rngs)
        self.helper = nnx.Linear(shapes[HELPED].shape[-1], CLASSES, rngs=rngs) if HELPED in shapes else None

    def __call__(self, pictures: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        """Return the logits of both classifiers for pictures in [0, 1], `batch height width 3`."""
        activations = self.backbone(normalize(pictures, self.backbone.normalization))
        last = activations[self.backbone.layers[-1]]
        helped = None if self.helper is None else self.helper(_pooled(activations[HELPED]))
        return self.head(_pooled(last)), helped


def _pooled(activations):
    return activations.astype(jnp.float32).mean((1, 2))


def augment(key: jax.Array, picture: jax.Array, *, size: int, smallest_crop: float, jitter: float) -> jax.Array:
    """Return a random crop of a picture, scaled to `size`, perhaps mirrored, with other colors.

    Args:
        key: Randomness.
        picture: `height width 3`, uint8.
        size: Side of the result in pixels.
        smallest_crop: Least area of the crop, as a share of the picture; its aspect is between 3:4 and 4:3.
        jitter: Largest relative change of brightness, contrast and saturation.

    Returns:
        `size size 3`, float32 in [0, 1].
    """
    area_key, aspect_key, place_key, flip_key, color_key = jax.random.split(key, 5)
    area = jax.random.uniform(area_key, minval=smallest_crop, maxval=1.0)
    aspect = jnp.exp(jax.random.uniform(aspect_key, minval=jnp.log(3 / 4), maxval=jnp.log(4 / 3)))
    sides = jnp.minimum(jnp.sqrt(area * jnp.array([aspect, 1 / aspect])), 1.0) * picture.shape[0]
    corner = jax.random.uniform(place_key, (2,)) * (picture.shape[0] - sides)
    scale = size / sides
    crop = jax.image.scale_and_translate(
        picture.astype(jnp.float32) / 255, (size, size, 3), (0, 1), scale, -corner * scale, "linear"
    )
    crop = jnp.where(jax.random.bernoulli(flip_key), crop[:, ::-1], crop)
    brightness, contrast, saturation = 1 + jitter * jax.random.uniform(color_key, (3,), minval=-1.0)
    gray = crop.mean(-1, keepdims=True)
    crop = gray + saturation * (crop - gray)
    middle = crop.mean()
    return jnp.clip(brightness * (middle + contrast * (crop - middle)), 0.0, 1.0)


def optimizer(recipe: Recipe, steps: int) -> optax.GradientTransformation:
    """Return SGD with Nesterov momentum, a warm-up and a cosine schedule, and weight decay on kernels."""
    warmup = max(1, round(recipe.warmup * steps))
    rate = optax.warmup_cosine_decay_schedule(0.0, recipe.learning_rate, warmup, max(steps, warmup + 1))
    return optax.chain(
        optax.add_decayed_weights(recipe.weight_decay, mask=lambda tree: jax.tree.map(lambda x: x.ndim > 1, tree)),
        optax.sgd(rate, momentum=recipe.momentum, nesterov=True),
    )


def initial_state(recipe: Recipe, steps: int, pictures: np.ndarray) -> State:
    """Return the state before the first step.

    Args:
        recipe: The recipe.
        steps: Of the whole run.
        pictures: Some training pictures, `batch height width 3`, uint8; an initial checkpoint without batch norms
            gets them by the statistics of these.
    """
    model = _classifier(recipe)
    if recipe.initial:
        _begin_with(model.backbone, recipe, pictures)
    elif recipe.network == "resnet50":
        _silence_residuals(model.backbone)
    _, parameters, statistics = nnx.split(model, nnx.Param, nnx.BatchStat)
    parameters, statistics = nnx.to_pure_dict(parameters), nnx.to_pure_dict(statistics)
    trained = {"parameters": parameters, "statistics": statistics}
    return {
        **trained,
        "averages": jax.tree.map(jnp.copy, trained),
        "momentum": optimizer(recipe, steps).init(parameters),
        "step": jnp.zeros((), jnp.int32),
    }


def _silence_residuals(network: Backbone) -> None:
    """Start with identities: the last batch norm of each residual branch is zero (Goyal et al. 2017, section 5.1)."""
    for name in network.layers[2:]:
        scale = getattr(network, name).conv3.norm.scale
        scale[...] = jnp.zeros_like(scale[...])


def _begin_with(network: Backbone, recipe: Recipe, pictures: np.ndarray) -> None:
    """Set the network's parameters to those of the initial checkpoint, down to where it reaches.

    A VGG19 checkpoint has biases where training has batch norms. Each layer gets the batch norm that changes
    nothing on these pictures, a = sqrt(variance), b = mean + bias, and a kernel of the initialization's size, by
    which the learning rate is meant.
    """
    source = params.resolve(recipe.network, weights=recipe.initial)
    deepest = network.layers[-1] if source.deepest_layer not in network.layers else source.deepest_layer
    arrays = params.load(source, parameter_shapes(recipe.network, until=deepest))
    if recipe.network == "resnet50":
        fitted = with_parameters(network, arrays)
        nnx.update(network, nnx.state(fitted))
        return
    x = normalize(jnp.asarray(pictures, jnp.float32) / 255, network.normalization)
    plain = Operations()
    for name in cut(network.layers, deepest):
        if name.startswith("conv"):
            kernel = jnp.asarray(arrays[f"{name}.kernel"])
            size = jnp.sqrt((kernel**2).sum((0, 1, 2)) * kernel.shape[3] / (2 * kernel.shape[2]))
            kernel = kernel / jnp.maximum(size, 1e-6)[None, None, None]
            y = plain.convolve(x, kernel, padding=half_padding(kernel))
            mean, variance = y.mean((0, 1, 2)), y.var((0, 1, 2))
            layer = getattr(network, name)
            layer.kernel[...] = kernel
            layer.norm.mean[...], layer.norm.variance[...] = mean, variance
            layer.norm.scale[...] = size * jnp.sqrt(variance + BATCH_NORM_EPSILON)
            layer.norm.bias[...] = size * mean + arrays[f"{name}.bias"]
            x = layer(x, plain)
        else:
            x = jax.nn.relu(x) if name.startswith("relu") else plain.max_pool(x, size=2, stride=2)


def _classifier(recipe: Recipe, norms: Norms = "batch") -> Classifier:
    return Classifier(recipe, norms=norms, rngs=nnx.Rngs(recipe.seed))


def merged(recipe: Recipe, norms: Norms, trained: State) -> Classifier:
    """Return the classifier with these parameters and statistics."""
    abstract = nnx.eval_shape(lambda: _classifier(recipe, norms))
    definition, parameters, statistics = nnx.split(abstract, nnx.Param, nnx.BatchStat)
    nnx.replace_by_pure_dict(parameters, trained["parameters"])
    nnx.replace_by_pure_dict(statistics, trained["statistics"])
    return nnx.merge(definition, parameters, statistics, copy=True)


@functools.cache
def make_step(recipe: Recipe, *, steps: int, size: int) -> Any:
    """Return the compiled step: `(state, pictures, labels, chosen) -> (state, report)`.

    `pictures` (uint8, all of the data) and `labels` stay on the devices; `chosen` is `devices batch`, the numbers of
    this step's pictures. The report holds `loss` and `accuracy` of the batch, and `change`, the norm of the update.
    """
    transform = optimizer(recipe, steps)

    def loss(parameters, statistics, pictures, labels):
        model = merged(recipe, "batch", {"parameters": parameters, "statistics": statistics})
        logits, helped = model(pictures)
        targets = optax.smooth_labels(jax.nn.one_hot(labels, CLASSES), recipe.smoothing)
        total = optax.softmax_cross_entropy(logits, targets).mean()
        if helped is not None:
            total += recipe.helper_weight * optax.softmax_cross_entropy(helped, targets).mean()
        accuracy = (logits.argmax(-1) == labels).mean()
        return total, (nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)), accuracy)

    def step(state, pictures, labels, chosen):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(recipe.seed), state["step"]), devices.index())
        augmented = jax.vmap(
            lambda k, p: augment(k, p, size=size, smallest_crop=recipe.smallest_crop, jitter=recipe.jitter)
        )(jax.random.split(key, chosen.shape[0]), pictures[chosen])
        parameters, statistics = state["parameters"], state["statistics"]
        (value, (statistics, accuracy)), gradient = jax.value_and_grad(loss, has_aux=True)(
            parameters, statistics, augmented, labels[chosen]
        )
        value, accuracy, statistics, gradient = devices.mean((value, accuracy, statistics, gradient))
        updates, momentum = transform.update(gradient, state["momentum"], parameters)
        trained = {"parameters": optax.apply_updates(parameters, updates), "statistics": statistics}
        # Young averages forget faster: with n steps behind, the past weighs at most (1 + n) / (10 + n).
        past = jnp.minimum(recipe.average, (1.0 + state["step"]) / (10.0 + state["step"]))
        averages = optax.incremental_update(trained, state["averages"], 1.0 - past)
        after = {**trained, "averages": averages, "momentum": momentum, "step": state["step"] + 1}
        return after, {"loss": value, "accuracy": accuracy, "change": optax.tree.norm(updates)}

    return devices.parallel(step, split=(3,), arguments=4, donated=(0,))


def chosen_pictures(recipe: Recipe, step: int, pictures: int) -> np.ndarray:
    """Return the numbers of the pictures of one step; every pass has its own order and leaves out the remainder."""
    per_epoch = pictures // recipe.batch
    epoch, place = divmod(step, per_epoch)
    order = np.random.default_rng((recipe.seed, epoch)).permutation(pictures)
    return order[place * recipe.batch : (place + 1) * recipe.batch].astype(np.int32)


@functools.cache
def make_classify(recipe: Recipe, *, size: int) -> Any:
    """Return the compiled `(trained, pictures) -> classes`.

    Pictures are `batch height width 3`, uint8, and are scaled to `size`.
    """

    def classify(trained, pictures):
        model = merged(recipe, "stored", trained)
        shape = (pictures.shape[0], size, size, 3)
        return model(jax.image.resize(pictures.astype(jnp.float32) / 255, shape, "linear"))[0].argmax(-1)

    return jax.jit(classify)
