"""The networks by name: how each is built, which layers it is read at by default, and where its weights come from."""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx

from swag_jax import devices, params
from swag_jax._checks import check_name, error
from swag_jax.backbones import alexnet, efficientnet, inception, resnet, vgg
from swag_jax.backbones._layers import Compute, Precision
from swag_jax.backbones._network import Backbone
from swag_jax.params import tree
from swag_jax.params.resolve import load as read_weights


@dataclass(frozen=True)
class Entry:
    """One network of the zoo: its default layers of the two losses, and what only networks of its kind may be given.

    Attributes:
        stage_layers: The last layer of each stage, from the stem on; empty if the style layers are these.
    """

    create: Callable[..., Backbone]
    content_layer: str
    style_layers: tuple[str, ...]
    options: tuple[str, ...]
    stage_layers: tuple[str, ...] = ()
    architecture: resnet.Architecture | None = None

    @property
    def stages(self) -> tuple[str, ...]:
        """The last layer of each stage, from the stem on."""
        return self.stage_layers or self.style_layers


_OPTIONS = ("until", "normalization", "compute")


def _residual(**switches: Any) -> Entry:
    """Return a residual network, with SWAG's taps: the stem and the end of every stage, content at the third's.

    For ResNet50 they are the paper's (conv1, conv2_3, conv3_4, conv4_6, conv5_3; in the released code conv0_0, conv1_2,
    conv2_3, conv3_5, conv4_2). For the others they are our choice.
    """
    architecture = resnet.Architecture(**switches)

    def build(**options: Any) -> Backbone:
        changed = {name: options.pop(name) for name in resnet.SWITCHES if name in options}
        return resnet.ResNet(dataclasses.replace(architecture, **changed), **options)

    ends = architecture.ends
    return Entry(build, ends[2], ("conv1", *ends), resnet.SWITCHES, architecture=architecture)


# Gatys et al., CVPR 2016, section 3; for SWAG's VGG19 runs the taps are not published: our choice.
_VGG_TAPS = ("relu4_2", ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"))
_VGG_OPTIONS = ("pooling", "padding", "keep_odd")
_VGG19_STAGES = ("relu1_2", "relu2_2", "relu3_4", "relu4_4", "relu5_4")
_VGG16_STAGES = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")

# All ReLUs, as LPIPS reads them; as taps of a style transfer: our choice.
_ALEXNET_TAPS = ("relu4", ("relu1", "relu2", "relu3", "relu4", "relu5"))

# The stem and the end of each resolution, content at a sixteenth, as in ResNet50. Which Inception the SWAG paper shows,
# and at which layers, is not published: our choice.
_GOOGLENET_TAPS = ("inception4e", ("conv1", "conv3", "inception3b", "inception4e", "inception5b"))
_INCEPTION_TAPS = ("mixed6e", ("conv2b", "conv4a", "mixed5d", "mixed6e", "mixed7c"))

# The stem and the first activation at each resolution, where channels are many; content at a sixteenth: our choice, by
# eye. A stage ends in a block's output, which is signed.
_LITE_EXPANSIONS = tuple(f"block{i}_expand" for i in (1, 3, 5, 8, 12))
_LITE_TAPS = ("block8_expand", ("stem", *_LITE_EXPANSIONS))
_LITE_STAGES = ("stem", "block2", "block4", "block10", "block15")

# SWAG, section 3 describes both pseudo networks as NoResNet and ResNet with VGG's basic blocks, pools and 3x3 stem;
# depths and channels are not published: our choice.
_PSEUDO = {"block": "basic", "downsampling": "pool", "stem": "3x3"}

_ZOO: Mapping[str, Entry] = {
    "vgg19": Entry(vgg.VGG19, *_VGG_TAPS, _VGG_OPTIONS, _VGG19_STAGES),
    "vgg16": Entry(vgg.VGG16, *_VGG_TAPS, _VGG_OPTIONS, _VGG16_STAGES),
    "alexnet": Entry(alexnet.AlexNet, *_ALEXNET_TAPS, ()),
    "resnet50": _residual(),
    "wide_resnet50_2": _residual(width=128),
    "resnet18": _residual(block="basic", depths=(2, 2, 2, 2)),
    "resnet34": _residual(block="basic"),
    "resnet101": _residual(depths=(3, 4, 23, 3)),
    "no_resnet50": _residual(residual=False),
    "pseudo_vgg": _residual(residual=False, **_PSEUDO),
    "pseudo_resvgg": _residual(**_PSEUDO),
    "preact_resnet50": _residual(pre_relu=True),
    "googlenet": Entry(inception.GoogLeNet, *_GOOGLENET_TAPS, ("init",)),
    "inception_v3": Entry(inception.InceptionV3, *_INCEPTION_TAPS, ("variant", "init")),
    "efficientnet-lite0": Entry(efficientnet.EfficientNetLite0, *_LITE_TAPS, ("activation",), _LITE_STAGES),
}

NAMES: tuple[str, ...] = tuple(_ZOO)
"""Every network's name."""


def entry(name: str) -> Entry:
    """Return the zoo's entry for `name`; a `UserError` with near names if there is none."""
    return _ZOO[check_name(name, NAMES, what="backbone")]


@devices.moves_arrays
def create(name: str, *, seed: int = 0, **options: Any) -> Backbone:
    """Build a network with random weights, as torchvision initializes it.

    Kernels of VGGs and the residual networks are Kaiming normal, fan-out; AlexNet's are uniform; the Inceptions have a
    separate rule.

    Args:
        name: One of `NAMES`.
        seed: Equal seeds give equal weights.
        **options: The network's own arguments (`until`, `compute`, `normalization`; VGGs: `pooling`, `padding`,
            `keep_odd`; residual networks: what changes in their `Architecture`; GoogLeNet and Inception v3: `init`,
            and the latter `variant`; EfficientNet-Lite0: `activation`).

    Returns:
        The network, with float32 parameters.

    Example:
        >>> create("resnet50", residual=False, kernel_size=5, until="conv2_1").layers
        ('conv1', 'pool1', 'conv2_1')
    """
    known = entry(name)
    for option in options:
        check_name(option, (*_OPTIONS, *known.options), what=f"option of {name}")
    return known.create(rngs=nnx.Rngs(seed), **options)


def _abstract(name: str, **options: Any) -> Backbone:
    """Return a network without arrays, which all callers share and none changes."""
    trace = _traced if all(isinstance(value, Hashable) for value in options.values()) else _traced.__wrapped__
    return trace(name, tuple(sorted(options.items())))


@functools.lru_cache(maxsize=64)  # tracing a residual network takes a quarter of a second, and `load` needs it thrice
def _traced(name: str, options: tuple[tuple[str, Any], ...]) -> Backbone:
    return nnx.eval_shape(lambda: create(name, **dict(options)))


def parameter_shapes(name: str, **options: Any) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter and statistic by its flat name, without allocating any."""
    return tree.shapes_of(_abstract(name, **options))


def layer_names(name: str, **options: Any) -> tuple[str, ...]:
    """Return the names of all layers of a network, shallow to deep, without allocating any."""
    return _abstract(name, **options).layers


def stage_layers(name: str, **options: Any) -> tuple[str, ...]:
    """Return the last layer of each stage, from the stem on, without allocating any."""
    network = _abstract(name, **options)
    return ("conv1", *network.architecture.ends) if isinstance(network, resnet.ResNet) else entry(name).stages


def reached_layers(name: str, *, weights: str = "auto", **options: Any) -> tuple[str, ...]:
    """Return the layers of a network that weights reach, shallow to deep: all, unless a checkpoint ends early."""
    layers = layer_names(name, **options)
    deepest = resolve(name, weights=weights, **options).deepest_layer
    if deepest is None:
        return layers
    with_parameters, end = set(map(tree.layer_of, parameter_shapes(name, **options))), layers.index(deepest) + 1
    while end < len(layers) and layers[end] not in with_parameters:
        end += 1  # a ReLU or a pool
    return layers[:end]


@devices.moves_arrays
def load(
    name: str,
    *,
    weights: str = "auto",
    layers: tuple[str, ...] | None = None,
    seed: int = 0,
    precision: Precision = "float32",
    frozen: bool = False,
    **options: Any,
) -> tuple[Backbone, params.Source]:
    """Build a network with the weights asked for, down to the deepest of `layers`.

    Args:
        name: One of `NAMES`.
        weights: `auto` (the embedded checkpoint of a network that has one; else torchvision's ImageNet checkpoint if it
            is in the local store, else random), `imagenet`, `embedded`, `random`, the name of a checkpoint, or the path
            of one. With another architecture than the checkpoint's, `auto` is random, and no named checkpoint fits.
        layers: The layers that will be read; default: the zoo's content and style layers, or all of another
            architecture's.
        frozen: Whether to return `Backbone.frozen`, which computes the same faster; its parameters cannot change.
        **options: The network's own arguments, over those the weights ask for.

    Returns:
        The network, and where its weights came from.

    Example:
        >>> network, source = load("vgg19", layers=("relu2_1",), frozen=True)
        >>> network.layers[-1], source.kind
        ('relu2_1', 'embedded')
    """
    known, source = entry(name), resolve(name, weights=weights, **options)
    # The zoo's taps may not exist in another architecture, which is read at all layers.
    whole = _abstract(name, **options)
    taps = whole.layers if _differing(name, source, options) else (known.content_layer, *known.style_layers)
    until = whole.deepest(layers or taps)
    options = {"compute": Compute(precision=precision), **_trained_with(source), **options, "until": until}
    if source.kind == "random":
        network = create(name, seed=seed, **options)
    else:
        network = _abstract(name, **options)
        network = tree.with_parameters(network, read_weights(source, tree.shapes_of(network)))
    return jax.jit(Backbone.frozen)(network) if frozen else network, source


def padding_option(name: str, padding: str) -> dict[str, Any]:
    """Return the option of `load` for a VGG's padding; `auto`, that of the weights, is none."""
    if padding == "auto":
        return {}
    if "padding" not in entry(name).options:
        raise error("padding can only be chosen for a VGG", got=name, cure="leave it out")
    return {"padding": padding}


def resolve(name: str, *, weights: str = "auto", **options: Any) -> params.Source:
    """Return where the weights of a network come from; known checkpoints are of the name's own architecture."""
    source = params.resolve(name, weights=weights)
    differing = _differing(name, source, options)
    if not differing or source.kind in ("file", "random"):
        return source
    if weights == "auto":
        return params.resolve(name, weights="random")
    got = ", ".join(f"{option}={options[option]}" for option in differing)
    raise error(f"{source.name} is of another architecture", got=got, cure="pass random, or the path of a checkpoint")


def _differing(name: str, source: params.Source, options: Mapping[str, Any]) -> list[str]:
    """Return the names of the options that make another architecture than the one weights are of."""
    architecture = entry(name).architecture
    if architecture is None:
        return []
    known = {**dataclasses.asdict(architecture), **source.architecture}
    return [option for option in options if option in known and options[option] != known[option]]


# AdaIN's encoder is the only network known to be trained with reflection, and its pools keep odd edges.
_TRAINED_WITH: Mapping[str, Mapping[str, Any]] = {"zeros": {}, "reflect": {"padding": "reflect", "keep_odd": True}}


def _trained_with(source: params.Source) -> dict[str, Any]:
    normalization = {} if source.normalization is None else {"normalization": source.normalization}
    borders = _TRAINED_WITH.get(source.padding, {"padding": source.padding})
    return {**source.architecture, **normalization, **borders}
