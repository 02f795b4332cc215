"""Names in published checkpoints that several kinds of generators share: ours by theirs.

Sources: `net.py` of naoto0804/pytorch-AdaIN, `Eval.py` of GlebSBrykin/SANET, `models/networks.py` and
`inference_frame.py` of Huage001/AdaAttN.
"""

# Mirrored, so that the last one leads to colors.
DECODER = tuple(f"decoder.conv{name}" for name in ("4_1", "3_4", "3_3", "3_2", "3_1", "2_2", "2_1", "1_2", "1_1"))

# Places in the Sequential, which count pads, ReLUs and up-samplings too.
ADAIN_DECODER = dict(zip(map(str, (1, 5, 8, 11, 14, 18, 21, 25, 28)), DECODER, strict=True))


def attention(prefix: str, layer: str) -> dict[str, str]:
    """Return the names of SANet's and AdaAttN's attention at a layer."""
    return {f"{prefix}{a}": f"{layer}.{b}" for a, b in (("f", "query"), ("g", "key"), ("h", "value"))}
