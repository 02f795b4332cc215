"""Images: files, sizes, the networks' normalization, and colors."""

from swag_jax.images.color import match_color as match_color
from swag_jax.images.color import transfer_luminance as transfer_luminance
from swag_jax.images.io import read_alpha as read_alpha
from swag_jax.images.io import read_image as read_image
from swag_jax.images.io import read_mask as read_mask
from swag_jax.images.io import write_image as write_image
from swag_jax.images.resize import fitted as fitted
from swag_jax.images.resize import resize as resize
from swag_jax.images.samples import CONTENTS as CONTENTS
from swag_jax.images.samples import STYLES as STYLES
from swag_jax.images.samples import sample as sample
from swag_jax.images.sheet import sheet as sheet
