"""Johnson's network: one style, trained into a network that takes images to images.

Johnson, Alahi and Fei-Fei, ECCV 2016. The layers are those of pytorch/examples, `fast_neural_style`, which differ from
the paper's: instance norms (Ulyanov et al. 2016) for batch norms, nearest up-sampling and a convolution (Odena et al.
2016) for transposed convolutions, and a reflection at every convolution for one of 40 pixels at the start.

Its loss is the `Objective` that stylization minimizes too, of the generator's images.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from swag_jax._checks import check_range, error
from swag_jax._types import Activations, AnyImage, Images, Key, Mask
from swag_jax.backbones import Backbone, Compute
from swag_jax.features import LayerSpec
from swag_jax.generators._layers import BatchMask, BatchMoments, Conv, KnownMoments, Size, enlarge
from swag_jax.generators.method import BatchLosses, Generator, Method, Published, Recipe, Transferred
from swag_jax.losses import objective as losses
from swag_jax.losses.objective import Objective, Target, Targets
from swag_jax.params.layouts import Layout, table
from swag_jax.params.tree import Tensors
from swag_jax.statistics import instance_norm


@dataclass(frozen=True)
class JohnsonConfig:
    """What a Johnson generator is made of.

    Attributes:
        channels: Of the first layer; the residual blocks have four times as many.
        blocks: Residual blocks.
        bounded: Whether a hyperbolic tangent keeps images inside [0, 1], as in the paper; pytorch/examples has none.
    """

    channels: int = 32
    blocks: int = 5
    bounded: bool = True

    def __post_init__(self):
        # The upper ends are our choice: they bound what a file's configuration may cost.
        for name, high in (("channels", 1024), ("blocks", 100)):
            check_range(getattr(self, name), what=name, low=1, high=high)

    @property
    def taps(self) -> tuple[LayerSpec, ...]:
        """None: it reads images."""
        return ()


class NormConv(nnx.Module):
    """A reflecting convolution, then instance norm with a scale and a bias per channel."""

    def __init__(self, channels_in: int, channels_out: int, *, size: int = 3, stride: int = 1, rngs: nnx.Rngs):
        self.conv = Conv(channels_in, channels_out, size=size, stride=stride, rngs=rngs)
        self.scale = nnx.Param(jnp.ones(channels_out, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(channels_out, jnp.float32))

    def normalize(
        self, y: Activations, *, known: BatchMoments | None = None, region: Mask | None = None
    ) -> Activations:
        """Normalize what `conv` returns, with the biased variance as in `torch.nn.InstanceNorm2d`.

        Args:
            region: The positions that count; default: all.
        """
        normed = jax.vmap(lambda y, known: instance_norm(y, unbiased=False, known=known, region=region))(y, known)
        return (normed * self.scale[...][None, None, None] + self.bias[...][None, None, None]).astype(y.dtype)


class Block(nnx.Module):
    """x + R(x), R being two convolutions with norms and a ReLU between them; none follows the sum."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        self.conv1 = NormConv(channels, channels, rngs=rngs)
        self.conv2 = NormConv(channels, channels, rngs=rngs)


class Johnson(Generator):
    """The feed-forward network of Johnson et al.: 1,679,235 parameters.

    | layers | kernel | stride | channels |
    |---|---|---|---|
    | `down1`, `down2`, `down3` | 9, 3, 3 | 1, 2, 2 | 32, 64, 128 |
    | `block1` to `block5`, residual | 3, 3 | 1 | 128 |
    | `up1`, `up2`, after a doubling each | 3 | 1 | 64, 32 |
    | `output`, without norm | 9 | 1 | 3 |
    """

    config: JohnsonConfig
    unbiased = False
    reads_styles = False
    needs_own = False

    def __init__(self, config: JohnsonConfig, *, compute: Compute | None = None, rngs: nnx.Rngs):
        super().__init__(config, compute=compute)
        channels = config.channels
        self.down1 = NormConv(3, channels, size=9, rngs=rngs)
        self.down2 = NormConv(channels, 2 * channels, stride=2, rngs=rngs)
        self.down3 = NormConv(2 * channels, 4 * channels, stride=2, rngs=rngs)
        for i in range(1, config.blocks + 1):
            setattr(self, f"block{i}", Block(4 * channels, rngs=rngs))
        self.up1 = NormConv(4 * channels, 2 * channels, rngs=rngs)
        self.up2 = NormConv(2 * channels, channels, rngs=rngs)
        self.output = Conv(channels, 3, size=9, rngs=rngs)

    @property
    def stride(self) -> int:
        """Two doublings."""
        return 4

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, images: Images, *, known: KnownMoments | None = None
    ) -> Images:
        """Return stylized images of the same size.

        If height or width is no multiple of four, the last rows and columns are cut from the next larger one.

        Args:
            images: `batch height width 3` in [0, 1].
            known: Moments by the name of the norm, such as `block1.conv2`, if they are not the images' own.
        """
        return self._walk(images, known or {})[0]

    def encode(self, encoder: Backbone | None, images: Images) -> Images:
        """Return the images."""
        return images

    def read(self, style: Any, *, key: Key | None = None, region: BatchMask | None = None) -> Any:
        """Refuse: it reads no styles."""
        raise error("the generator has its one style in its weights", got="a style image", cure="pass none")

    def transfer(self, content: Images, kept: None, *, known: KnownMoments | None = None) -> Transferred:
        """Return the stylized images: it has no features to mix, so pixels are mixed, which is our choice."""
        return (self(content, known=known),)

    def unstyled(self, content: Images, own: None, *, known: KnownMoments | None = None) -> Transferred:
        """Return the content images."""
        return (content,)

    def decode(self, transferred: Transferred, *, size: Size) -> Images:
        """Return the images."""
        return transferred[0]

    def normed(self, content: Images, known: KnownMoments) -> dict[str, Activations]:
        """Return what the first norm that is not known sees: those after it depend on its moments."""
        seen = self._walk(content, known)[1]
        unknown = [name for name in seen if name not in known]
        return {name: seen[name] for name in unknown[:1]}

    def _walk(self, images: Images, known: KnownMoments) -> tuple[Images, dict[str, Activations]]:
        """Return images, and what every norm sees."""
        seen: dict[str, Activations] = {}

        def apply(name: str, layer: NormConv, x: Activations) -> Activations:
            seen[name] = layer.conv(x, self.compute)
            region = self.compute.region(*seen[name].shape[1:3])
            return layer.normalize(seen[name], known=known.get(name), region=region)

        x = images
        for name in ("down1", "down2", "down3"):
            x = jax.nn.relu(apply(name, getattr(self, name), x))
        for i in range(1, self.config.blocks + 1):
            block: Block = getattr(self, f"block{i}")
            inner = jax.nn.relu(apply(f"block{i}.conv1", block.conv1, x))
            x = x + apply(f"block{i}.conv2", block.conv2, inner)
        for name in ("up1", "up2"):
            doubled = enlarge(x, 2, rows=2 * x.shape[1], columns=2 * x.shape[2])
            x = jax.nn.relu(apply(name, getattr(self, name), doubled))
        painted = self.output(x, self.compute)[:, : images.shape[1], : images.shape[2]].astype(jnp.float32)
        return (0.5 + 0.5 * jnp.tanh(painted) if self.config.bounded else painted), seen


def _style_targets(encoder: Backbone, image: AnyImage, *, objective: Objective) -> dict[str, Target]:
    # The Gram matrices of the one style are computed once.
    return losses.style_targets(encoder, [image], objective=objective, blend=jnp.ones(1, jnp.float32))


def _loss(
    generator: Johnson,
    encoder: Backbone,
    contents: Images,
    styles: Mapping[str, Target],
    *,
    objective: Objective,
    key: Key,
) -> BatchLosses:
    def one(content, output):
        targets = jax.lax.stop_gradient(losses.content_targets(encoder, content, objective=objective))
        return losses.evaluate(encoder, output, Targets(targets, dict(styles)), objective=objective)

    return jax.vmap(one)(contents, generator(contents))


# Ours by those of `TransformerNet` in `neural_style/transformer_net.py`; `deconv` are up-samplings and a convolution.
_NORMED = {
    **{f"conv{i}": (f"in{i}", f"down{i}") for i in (1, 2, 3)},
    **{f"res{i}.conv{j}": (f"res{i}.in{j}", f"block{i}.conv{j}") for i in range(1, 6) for j in (1, 2)},
    **{f"deconv{i}": (f"in{i + 3}", f"up{i}") for i in (1, 2)},
}

_SCALES = {"conv1.conv2d.weight": 255, "deconv3.conv2d.weight": 1 / 255, "deconv3.conv2d.bias": 1 / 255}


def _scaled(tensors: Tensors) -> Tensors:
    """Make Johnson's network, whose images are in 0..255, one for images in [0, 1]."""
    return {
        key: (value.astype(np.float64) * _SCALES[key]).astype(np.float32) if key in _SCALES else value
        for key, value in tensors.items()
    }


_LAYOUT = Layout(
    "johnson",
    table(
        {**{f"{own}.conv2d": f"{ours}.conv" for own, (_, ours) in _NORMED.items()}, "deconv3.conv2d": "output"},
        dict(_NORMED.values()),
    ).get,
    # PyTorch before 0.4 gave instance norms running statistics that these networks never used.
    r"(.*\.)?in\d\.(running_mean|running_var|num_batches_tracked)",
    prepare=_scaled,
)

METHOD = Method(
    "johnson",
    JohnsonConfig,
    Johnson,
    Objective,
    _loss,
    recipes={
        "johnson": Recipe(
            JohnsonConfig(),
            Objective(
                content_layers=("relu2_2",),  # the paper: relu3_3
                style_layers=("relu1_2", "relu2_2", "relu3_3", "relu4_3"),
                content_layer_weights=(1.0,),
                style_layer_weights=(1.0, 1.0, 1.0, 1.0),
                content_weight=1e5,
                style_weight=1e10,
                normalization="released",
            ),
            "pytorch/examples, fast_neural_style: its layers and weights, Adam 1e-3, batch 4, two epochs of COCO at "
            "256; our choices: VGG19 for VGG16, and the style's longer side at 512",
            {"batch_size": 4, "size": 256, "steps": 2 * 82783 // 4, "learning_rate": 1e-3},
            styles="STYLE.jpg",
            weights="imagenet",
        )
    },
    published={"johnson": Published(JohnsonConfig(bounded=False), ("mosaic",), _LAYOUT, reads=None)},
    style_targets=_style_targets,
)
