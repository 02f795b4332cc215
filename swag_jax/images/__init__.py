"""Images: files, sizes, the networks' normalization, and colors."""

from swag_jax.images.color import luminance as luminance
from swag_jax.images.color import match_color as match_color
from swag_jax.images.color import transfer_luminance as transfer_luminance
from swag_jax.images.crop import read_crop as read_crop
from swag_jax.images.io import check_output as check_output
from swag_jax.images.io import read_alpha as read_alpha
from swag_jax.images.io import read_image as read_image
from swag_jax.images.io import read_mask as read_mask
from swag_jax.images.io import write_image as write_image
from swag_jax.images.normalize import NORMALIZATIONS as NORMALIZATIONS
from swag_jax.images.normalize import denormalize as denormalize
from swag_jax.images.normalize import normalize as normalize
from swag_jax.images.resize import fitted as fitted
from swag_jax.images.resize import nearest as nearest
from swag_jax.images.resize import resample as resample
from swag_jax.images.resize import resize as resize
from swag_jax.images.resize import scales as scales
from swag_jax.images.samples import CONTENTS as CONTENTS
from swag_jax.images.samples import STYLES as STYLES
from swag_jax.images.samples import sample as sample
from swag_jax.images.sheet import sheet as sheet
