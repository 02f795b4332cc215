"""One small style transfer problem for comparing solvers, in NumPy only.

The network is a chain of 3x3 convolutions with zero padding, each followed by a ReLU, with a 2x2 max pooling
in the middle: 3 -> 16 -> 16 -> pool -> 32 -> 32. Its four rectified activations `F_1` to `F_4` are the
layers. The solvers minimize over an image `x` (48 x 48 x 3, started from the content image, not clipped)

    loss(x) = factor * (mean((F_3(x) - F_3(content))^2) + STYLE_WEIGHT * sum_l mean((G_l(x) - G_l(style))^2))

where `G_l = F F^T / (H W)` is the Gram matrix over positions and `mean` runs over all entries. The factor is
1, or `BADLY_SCALED` for the variant that a solver without sensible step lengths fails on.
"""

import itertools

import numpy as np

from reference.weights import reference_image

SIZE = 48
CHANNELS = (3, 16, 16, 32, 32)
POOL_AFTER = 2
CONTENT_LAYER = 3
STYLE_WEIGHT = 10.0
BADLY_SCALED = 1e4
WEIGHTS_SEED, CONTENT_SEED, STYLE_SEED = 0, 1, 2
# The evaluations of loss and gradient after which `solver.json` reports losses.
BUDGETS = (10, 25, 50, 100, 200)
ADAM_RATE = 0.02


def weights() -> list[tuple[np.ndarray, np.ndarray]]:
    """Draw kernel (`height width input output`) and bias of each convolution, float32."""
    generator = np.random.default_rng(WEIGHTS_SEED)
    drawn = []
    for inputs, outputs in itertools.pairwise(CHANNELS):
        # He et al. 2015, eq. 10: keeps the activations of a rectified network at the scale of its input.
        kernel = generator.standard_normal((3, 3, inputs, outputs)) * np.sqrt(2.0 / (9 * inputs))
        drawn.append((kernel.astype(np.float32), generator.uniform(-0.1, 0.1, outputs).astype(np.float32)))
    return drawn


def content() -> np.ndarray:
    """Draw the content image, which is also where the solvers start."""
    return reference_image(SIZE, SIZE, CONTENT_SEED)


def style() -> np.ndarray:
    """Draw the style image: fine diagonal stripes over the same kind of image, with more contrast."""
    rows, columns = np.indices((SIZE, SIZE))
    stripes = (rows + 2 * columns) % 8 < 4
    colors = np.where(stripes[..., None], (0.9, 0.6, 0.1), (0.1, 0.2, 0.7))
    return (0.7 * colors + 0.3 * reference_image(SIZE, SIZE, STYLE_SEED)).astype(np.float32)
