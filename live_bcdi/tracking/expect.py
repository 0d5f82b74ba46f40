"""The band-limited model of an assembly, fitted to frames whose angles are known by their chances only."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .band import Band, Floats
from .fringes import Fringes, smooth_series
from .rolls import Turned

_FLOOR = 0.02  # of what the pixel's mean and the frame's brightness let one expect: a series goes below zero
_EMPTY = 0.05  # of a frame: an angle without frames is not of no brightness


@dataclass(frozen=True, kw_only=True, slots=True)
class Expectation:
    """Expected counts (angles, pixels) at the grid's angles, never zero."""

    counts: NDArray[np.float32]

    def log_likelihood(self, counts: NDArray[np.float32], used: NDArray[np.float32]) -> Floats:
        """Poisson's of (frames, rolls, pixels), up to a constant of each frame: sum over used pixels of
        F log W - W, (frames, rolls, angles). Two matrix products: no loop over frames, rolls or angles."""
        flat = counts.reshape(-1, counts.shape[-1])
        made = flat @ np.log(self.counts).T
        made -= self.counts.sum(axis=1) if used.all() else used.reshape(flat.shape) @ self.counts.T
        return made.reshape(*counts.shape[:2], -1).astype(np.float64)


def expectation(turned: Turned, chance: Floats, angles: Floats, band: Band, fringes: Fringes) -> Expectation:
    """Least squares of counts without holes by the chances (frames, rolls, angles); the variance is that of an
    angle's brightness times that of a pixel, so that all pixels share one Gram matrix

        G = sum_j n_j T_j T_j' / a_j,    G A = sum_kl (sum_j P_klj T_j / a_j) F_kl

    with n_j the frames at angle j and a_j their brightness; A has the prior of `fringes`.
    """
    terms = band.values(angles)
    number = chance.sum(axis=(0, 1))
    total = turned.counts.sum(axis=2, dtype=np.float64)
    light = (np.einsum("klj,kl->j", chance, total) + _EMPTY * total.mean()) / (number + _EMPTY)
    light = ndimage.gaussian_filter1d(np.maximum(light, 1e-9), len(angles) / 100)
    share = ((chance / light) @ terms).reshape(-1, band.terms).astype(np.float32)
    right = share.T @ turned.counts.reshape(len(share), -1)
    gram = (terms.T * (number / light)) @ terms
    fitted = smooth_series(gram, right.reshape(-1, *turned.shape), band, fringes, float(total.mean()))
    series = fitted.reshape(band.terms, -1)
    made = (terms @ series).astype(np.float32)
    mean = np.maximum(series[0], 0) + 1e-4 * max(float(series[0].max()), 1e-9)
    least = _FLOOR * np.maximum(made.sum(axis=1), 1e-3)[:, None] / mean.sum() * mean
    return Expectation(counts=np.maximum(made, least).astype(np.float32))
