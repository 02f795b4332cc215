"""How the published checkpoints of the generators name their convolutions: one table per kind.

A kind may come in several files, whose keys do not collide, so that one table serves all of them. Kernels are
PyTorch's, (out, in, height, width). Sources: `net.py` of naoto0804/pytorch-AdaIN, `Eval.py` of GlebSBrykin/SANET,
`models/networks.py` and `inference_frame.py` of Huage001/AdaAttN.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from swag_jax.generators.adaattn import AdaAttNConfig
from swag_jax.generators.adain import AdaINConfig
from swag_jax.generators.kinds import Config
from swag_jax.generators.sanet import SANetConfig


@dataclass(frozen=True)
class Published:
    """One kind of published checkpoint.

    Attributes:
        config: What its generator is made of.
        files: The files that it comes in.
        modules: Our name of each module by its own.
    """

    config: Config
    files: tuple[str, ...]
    modules: Mapping[str, str]

    @property
    def tensors(self) -> dict[str, str]:
        """Our flat name of each tensor by its own."""
        fields = {"weight": "kernel", "bias": "bias"}
        return {f"{module}.{a}": f"{ours}.{b}" for module, ours in self.modules.items() for a, b in fields.items()}


# Mirrored, so that the last one leads to colors.
_DECODER = tuple(f"decoder.conv{name}" for name in ("4_1", "3_4", "3_3", "3_2", "3_1", "2_2", "2_1", "1_2", "1_1"))

# Places in the Sequentials, where pads, ReLUs and up-samplings take places too.
_ADAIN_DECODER = dict(zip(map(str, (1, 5, 8, 11, 14, 18, 21, 25, 28)), _DECODER, strict=True))
_ADAATTN_PLACES = (1, 4, 7, 10, 14, 17, 21, 24)


def _adaattn_decoder(prefix: str) -> dict[str, str]:
    return {f"{prefix}.{place}": ours for place, ours in zip(_ADAATTN_PLACES, _DECODER[1:], strict=True)}


def _attention(prefix: str, layer: str) -> dict[str, str]:
    return {f"{prefix}{a}": f"{layer}.{b}" for a, b in (("f", "query"), ("g", "key"), ("h", "value"))}


PUBLISHED: Mapping[str, Published] = {
    "adain": Published(AdaINConfig(), ("decoder",), _ADAIN_DECODER),
    "sanet": Published(
        SANetConfig(),
        ("decoder", "transformer"),
        {
            **_ADAIN_DECODER,
            **_attention("sanet4_1.", "relu4_1"),
            "sanet4_1.out_conv": "relu4_1.output",
            **_attention("sanet5_1.", "relu5_1"),
            "sanet5_1.out_conv": "relu5_1.output",
            "merge_conv": "merge.conv",
        },
    ),
    "adaattn": Published(
        AdaAttNConfig(),
        ("decoder", "transformer", "adaattn_3"),
        {
            "decoder_layer_1.1": "decoder.conv4_1",
            **_adaattn_decoder("decoder_layer_2"),
            **_attention("attn_adain_4_1.", "relu4_1"),
            **_attention("attn_adain_5_1.", "relu5_1"),
            "merge_conv": "merge.conv",
            **_attention("", "relu3_1"),
        },
    ),
    "adaattn-video": Published(
        AdaAttNConfig.video(),
        ("decoder", "transformer"),
        {**_adaattn_decoder("decoder"), **_attention("", "relu3_1")},
    ),
}
"""Every kind, by the name that the command line has for it."""
