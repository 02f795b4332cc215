"""How a generator is applied: frozen, made of numbers and names; the command line's flags come from it."""

from typing import Literal, TypeAlias

from swag_jax._checks import check_range
from swag_jax._settings import Settings

Colors: TypeAlias = Literal["style", "luminance", "match"]

COLORS: tuple[Colors, ...] = ("style", "luminance", "match")

WHOLE_PIXELS = 2048 * 2048
"""An image with more pixels is painted in tiles: our choice; AdaAttN's decoder takes about 2 GiB at this size."""

TILE = 1024
"""Side of a tile where none is asked for. Our choice: the overlap then costs about half as much again."""


class ApplySettings(Settings):
    """How a generator is applied.

    Attributes:
        size: Longer side of the result in pixels; 0 keeps the content's.
        style_size: Longer side at which style images are read, in pixels; 0 keeps theirs. 512 is what AdaIN's and
            AdaAttN's authors test with.
        strength: 1 is the style as trained, 0 the content as the generator paints it.
        blend: Weight of each style image; empty: equal weights.
        colors: Whose colors the result has: style; luminance (the content's chroma under the result's luminance); or
            match (the style is first recolored to the content's mean and covariance).
        tile: Side in pixels of the tiles that an image is painted in; 0 takes 1024 for images of more than 2048 x
            2048 pixels, and paints others whole.
        seed: Draws the style positions that attention keeps, the same for every image and frame.
    """

    size: int = 0
    style_size: int = 512
    strength: float = 1.0
    blend: tuple[float, ...] = ()
    colors: Colors = "style"
    tile: int = 0
    seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        for name in ("size", "style_size", "tile"):
            check_range(getattr(self, name), what=name.replace("_", " "), low=0)
        check_range(self.strength, what="strength", low=0, high=1)
        for weight in self.blend:
            check_range(weight, what="a blend weight", low=0)
        if self.blend:
            check_range(sum(self.blend), what="the sum of the blend weights", low=0, open_low=True)

    def tile_of(self, height: int, width: int) -> int | None:
        """Return the side of the tiles that an image of this size is painted in; `None`: it is painted whole.

        Example:
            >>> ApplySettings().tile_of(512, 768), ApplySettings().tile_of(4096, 4096)
            (None, 1024)
        """
        side = self.tile or (TILE if height * width > WHOLE_PIXELS else 0)
        return side if side and max(height, width) > side else None
