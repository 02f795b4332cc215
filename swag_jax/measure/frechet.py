"""The Fréchet distance of two sets of features, in float64 on the host, and ArtFID.

Features are added up as they come (`Moments`), so that a folder of any size is read once and not kept.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from swag_jax._checks import error


@dataclass(frozen=True)
class Moments:
    """Number, mean and scatter of the feature vectors of a set of images."""

    count: int
    mean: Float[np.ndarray, " features"]
    scatter: Float[np.ndarray, "features features"]  # the sum of the outer products of deviations from the mean

    @classmethod
    def empty(cls, features: int) -> "Moments":
        """Return the moments of no vectors; `features` is the length of the vectors to come."""
        return cls(0, np.zeros(features), np.zeros((features, features)))

    def add(self, vectors: Float[np.ndarray, "vectors features"]) -> "Moments":
        r"""Return the moments with more vectors included, summed in float64.

        .. math:: S = S_a + S_b + \frac{n_a n_b}{n_a + n_b} (\bar x_b - \bar x_a) (\bar x_b - \bar x_a)^T

        Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances", 1979.
        """
        # Subtracting the mean from sums of squares at the end would lose digits.
        vectors = np.asarray(vectors, np.float64)
        count = self.count + len(vectors)
        mean = vectors.mean(axis=0)
        deviations, step = vectors - mean, mean - self.mean
        scatter = self.scatter + deviations.T @ deviations
        scatter += self.count * len(vectors) / count * np.outer(step, step)
        return Moments(count, self.mean + len(vectors) / count * step, scatter)

    @property
    def covariance(self) -> Float[np.ndarray, "features features"]:
        """The scatter divided by one less than the count, of at least two, as in the published FID code."""
        if self.count < 2:
            raise error("the covariance of features needs at least 2 images", got=self.count)
        return self.scatter / (self.count - 1)


def frechet_distance(first: Moments, second: Moments) -> float:
    r"""Return the squared Fréchet distance of two normal distributions; FID for features of Inception v3.

    .. math:: \|m_1 - m_2\|^2 + \operatorname{tr}(C_1 + C_2 - 2 (C_1 C_2)^{1/2})

    Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", NeurIPS 2017,
    eq. 6. 0 for equal moments; no upper bound. It is biased upward, the more the fewer images there are (Chong and
    Forsyth, CVPR 2020): compare only sets of equal size, of at least two images.

    Example:
        >>> x = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
        >>> one, two = (Moments.empty(2).add(vectors) for vectors in (x, x + [3.0, 4.0]))
        >>> round(frechet_distance(one, two), 9)
        25.0
    """
    # With C = L L^T, L being eigenvectors times roots of eigenvalues, the trace of the root is the sum of the singular
    # values of L_1^T L_2: no matrix root has to converge, nothing becomes complex, and singular covariances (fewer
    # images than features) need no offset.
    roots = []
    for moments in (first, second):
        variances, directions = np.linalg.eigh(moments.covariance)
        roots.append(directions * np.sqrt(np.maximum(variances, 0)))
    step = first.mean - second.mean
    overlap = np.linalg.svd(roots[0].T @ roots[1], compute_uv=False).sum()
    traces = np.trace(first.covariance) + np.trace(second.covariance)
    # Rounding may leave a difference of equal numbers slightly negative.
    return max(0.0, float(step @ step + traces - 2 * overlap))


def artfid(lpips: float, fid: float) -> float:
    """Return (1 + LPIPS) · (1 + FID): content kept and style matched in one number; at least 1, lower is better.

    From mean LPIPS (AlexNet) of images from their contents and their FID from the styles: Wright and Ommer, "ArtFID:
    Quantitative Evaluation of Neural Style Transfer", GCPR 2022, whose FID uses their own Inception v3, trained on art.
    The unchanged content can win: compare with the trivial results.

    Example:
        >>> artfid(0.5, 19.0)
        30.0
    """
    return (1 + lpips) * (1 + fid)
