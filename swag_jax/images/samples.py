"""Sample images that come with the package: photographs as contents, drawn works of art as styles.

They are WebP files in `_samples/`, of at most 512 pixels; `_samples/provenance.toml` gives the author, license,
source and changes of each. All contents have one shape, so that one compiled program serves them.
"""

from pathlib import Path

from swag_jax._checks import check_name, check_range
from swag_jax._types import HostImage
from swag_jax.images.io import read_image
from swag_jax.images.resize import fitted, resize

CONTENTS: tuple[str, ...] = ("astronaut", "cat", "coffee")
"""Photographs: a portrait, an animal, things on a table."""

STYLES: tuple[str, ...] = ("swirls", "embers", "woodcut", "mosaic", "dots")
"""Works of art, each with its own palette: strokes, strokes, lines, panes and points."""

_FOLDER = Path(__file__).parent / "_samples"
_SMALLEST, _LARGEST = 16, 4096


def sample(name: str, *, size: int = 256) -> HostImage:
    """Return one of the package's sample images, of `CONTENTS` or `STYLES`.

    The size is the longer side in pixels, 16 to 4096. Files have 512 (the cat 400); beyond that, enlarging adds no
    detail.

    Example:
        >>> sample("coffee", size=64).shape
        (48, 64, 3)
    """
    check_name(name, (*CONTENTS, *STYLES), what="sample")
    size = int(check_range(size, what="size", low=_SMALLEST, high=_LARGEST))
    image = read_image(_FOLDER / f"{name}.webp")
    height, width = image.shape[:2]
    return resize(image, *fitted(height, width, size))
