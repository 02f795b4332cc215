r"""The basis an image is optimized in: pixels, or frequencies weighted like those of natural images.

The amplitude of natural images falls with frequency, about as 1/f. Gradients of networks do not: strides and
convolutions leave grids and grains of high frequency, which an optimizer that stops after a few hundred steps takes
over. With F the Fourier transform over both axes of the image and p >= 0, the image is held as coordinates z,

.. math:: x = B z, \quad B = F^{-1} \operatorname{diag}(|f|^{-p}) F, \quad \nabla_z L = B^T \nabla_x L = B \nabla_x L,

so that a step of equal size in z moves low frequencies further: large strokes come before fine noise. Nothing is taken
away: B can be inverted, and minima stay where they are. p = 0 is pixels, p = 1 the spectrum of natural images.

References:
    Mordvintsev, Pezzotti, Schubert and Olah, "Differentiable Image Parameterizations", Distill, 2018;
    Olah, Mordvintsev and Schubert, "Feature Visualization", Distill, 2017 ("preconditioning"), whose scale by
    1 / max(f, 1 / max(width, height)) this is.
"""

import jax.numpy as jnp

from swag_jax._types import Image


def to_image(coordinates: Image, *, decay: float) -> Image:
    """Return x = B z, `height width 3`. B is symmetric: this also maps an image's gradient to its coordinates'."""
    return _filtered(coordinates, -decay) if decay else coordinates


def from_image(image: Image, *, decay: float) -> Image:
    """Return z = B^-1 x, the coordinates of an image.

    Example:
        >>> image = jnp.linspace(0, 1, 48).reshape(4, 4, 3)
        >>> bool(jnp.allclose(to_image(from_image(image, decay=1.0), decay=1.0), image, atol=1e-6))
        True
    """
    return _filtered(image, decay) if decay else image


def _filtered(image: Image, exponent: float) -> Image:
    """Multiply every frequency f, in cycles over the longer side, by max(f, 1)^exponent."""
    height, width = image.shape[:2]
    longer = max(height, width)
    down = jnp.fft.fftfreq(height, 1 / longer, dtype=image.dtype)
    across = jnp.fft.rfftfreq(width, 1 / longer, dtype=image.dtype)
    gain = jnp.maximum(jnp.hypot(down[:, None], across[None]), 1.0) ** exponent
    spectrum = jnp.fft.rfft2(image, axes=(0, 1))
    spectrum *= gain[:, :, None].astype(spectrum.dtype)
    return jnp.fft.irfft2(spectrum, (height, width), axes=(0, 1))
