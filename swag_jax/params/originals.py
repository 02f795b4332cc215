"""The original VGG networks of Simonyan and Zisserman, told from networks that were trained anew.

They were published for Caffe: their input is BGR in 0..255 minus a mean. Copies for PyTorch (jcjohnson's
`vgg19-d01eb7cb.pth` and `vgg16-00b39a1b.pth`) have torchvision's keys, so that only their numbers tell them apart. The
kernels' size does not: an input of 0..255 makes activations larger, not kernels smaller.
"""

from dataclasses import dataclass

import numpy as np

KERNEL_SHAPE = (64, 3, 3, 3)
"""Of the first convolution, in PyTorch's order of axes."""

# A step of 8 bits moves the statistics by up to 0.1 %, the center by up to 0.003 (measured on VGG19, with a step for
# each output channel, with one for all, and with a table of 256 values), and a bias by up to 0.01.
_NORM_TOLERANCE, _CENTER_TOLERANCE, _BIAS_TOLERANCE = 3e-3, 6e-3, 1.5e-2


@dataclass(frozen=True)
class Original:
    """The first convolution of one of the two networks, as published, input channels in the order blue, green, red.

    They are told by the SHA-256 of jcjohnson's file, and by the kernel's deviation, the norm of its part for each input
    channel, and the middle of its first filter, together with the first four biases.
    """

    name: str
    sha256_prefix: str
    deviation: float
    norms: tuple[float, float, float]
    center: tuple[float, float, float]
    biases: tuple[float, float, float, float]

    def matches(self, kernel: np.ndarray, bias: np.ndarray) -> bool:
        """Tell whether these are its kernel, `out in height width` with blue first, and its biases, to 8 bits."""
        norms = np.sqrt(np.square(kernel).sum(axis=(0, 2, 3)))
        sizes = np.isclose((kernel.std(), *norms), (self.deviation, *self.norms), rtol=_NORM_TOLERANCE, atol=0)
        center = np.abs(kernel[0, :, 1, 1] - self.center) <= _CENTER_TOLERANCE
        biases = np.abs(bias[:4] - self.biases) <= _BIAS_TOLERANCE
        return bool(sizes.all() and center.all() and biases.all())


# Read from two public copies of the float32 originals.
ORIGINALS = (
    Original(
        name="VGG19",
        sha256_prefix="d01eb7cb",
        deviation=0.19138,
        norms=(4.06799, 5.07612, 4.58051),
        center=(0.08978, 0.10385, 0.09986),
        biases=(0.73018, 0.06494, 0.03429, 0.82604),
    ),
    Original(
        name="VGG16",
        sha256_prefix="00b39a1b",
        deviation=0.20670,
        norms=(4.39797, 5.46415, 4.96381),
        center=(0.03868, 0.04063, 0.05020),
        biases=(0.73430, 0.09340, 0.06777, 0.88630),
    ),
)


def recognize(kernel: np.ndarray, bias: np.ndarray) -> tuple[Original, bool] | None:
    """Return which original a first convolution is, to 8 bits, and if it takes red first; `None` for other networks.

    The kernel is `out in height width`. One that takes red first reads RGB in 0..255 minus the mean.

    Example:
        >>> recognize(np.ones((64, 3, 3, 3), np.float32), np.zeros(64, np.float32)) is None
        True
    """
    wide = kernel.astype(np.float64)
    if kernel.shape != KERNEL_SHAPE or bias.shape != KERNEL_SHAPE[:1] or not np.isfinite(wide).all():
        return None
    orders = ((wide, False), (wide[:, ::-1], True))
    known = ((original, is_rgb) for original in ORIGINALS for k, is_rgb in orders if original.matches(k, bias))
    return next(known, None)


def of_file(sha256: str) -> Original | None:
    """Return the original whose published PyTorch file has this SHA-256; `None` for every other file."""
    return next((original for original in ORIGINALS if sha256.startswith(original.sha256_prefix)), None)
