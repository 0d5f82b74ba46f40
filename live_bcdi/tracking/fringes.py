"""How fast a crystal's pattern varies, along the rocking axis and across pixels: the prior of its series.

The transform of the pattern is the autocorrelation of the crystal: largest at lag 0, and it ends at the crystal's
extent. Of simulated faceted crystals its mean power falls with the lag u (1 at the extent) as exp(-10.5 u^2) on
all three axes, from 1 to a thousandth. A Gaussian of that width says more than an envelope with an edge: a pattern
that is warped along the rocking axis has power where little is expected, long before the edge.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .band import Band, Floats

WIDTH = 0.22  # of the extent: the standard deviation of the power
_POWER = 0.5  # of the total counts squared: a Gaussian of that width in 2-D has then the power that is found
_LEAST = 1e-7  # of the power at lag 0: beyond it there is nothing
_FASTEST = 0.2  # of the lags: no crystal that phasing can use has anything there
_WITHIN = 0.683  # of the power: one standard deviation
_BOUNDS = (0.01, 0.25)  # cycles a pixel


@dataclass(frozen=True, kw_only=True, slots=True)
class Fringes:
    """Standard deviations of the power: along the rocking axis (cycles a step), rows and columns (cycles a
    pixel)."""

    angle: float
    rows: float
    columns: float

    def finer(self, times: int) -> "Fringes":
        """In pixels of which `times` make one of those here."""
        return Fringes(angle=self.angle, rows=self.rows / times, columns=self.columns / times)

    def across(self, shape: tuple[int, int]) -> Floats:
        """Relative power at the lags of rfft2 of images of `shape`; 1 at lag 0."""
        rows, columns = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])
        return np.asarray(np.exp(-0.5 * ((rows / self.rows) ** 2 + (columns / self.columns) ** 2)))

    def along(self, band: Band) -> Floats:
        """Relative power of the terms of `band.values`."""
        harmonics = (np.arange(band.terms) + 1) // 2
        return np.asarray(np.exp(-0.5 * (harmonics / (band.period * self.angle)) ** 2))


def fringes_of(images: Floats, cutoff: float) -> Fringes:
    """Of (frames, rows, columns) of counts, for a crystal whose series ends at `cutoff` cycles a step."""
    power = (np.abs(np.fft.fft2(images)) ** 2).sum(axis=0) - images.sum()
    return Fringes(angle=WIDTH * cutoff, rows=_spread(power.sum(axis=1)), columns=_spread(power.sum(axis=0)))


def fringes_along(cutoff: float) -> Fringes:
    """Of a crystal whose pixels are fitted each alone: a hole does not reach beyond itself."""
    return Fringes(angle=WIDTH * cutoff, rows=np.inf, columns=np.inf)


def _spread(power: Floats) -> float:
    """The rate within which most of the power is, less the level at the highest rates."""
    half = power[: max(2, len(power) // 2)].copy()
    half -= half[-max(1, int(_FASTEST * len(half))) :].mean()
    half[0] /= 2
    share = np.cumsum(np.maximum(half, 0))
    rate = (np.arange(len(half)) + 0.5) / len(power)
    return float(np.clip(np.interp(_WITHIN * share[-1], share, rate), *_BOUNDS))


def smooth_series(gram: Floats, right: NDArray[np.float32], band: Band, fringes: Fringes, total: float) -> Floats:
    """Coefficients A (terms, rows, columns) of least squares G A = `right` of the same shape, with the prior of
    `fringes` for a crystal of `total` counts a frame.

    The variance of counts is to be that of a frame times a share of each pixel that adds up to 1: then the noise
    in the transform Y of `right` has covariance G at every lag, and (G + 1/P) A = Y there, P being the power that
    is expected of each term.
    """
    shape = (right.shape[1], right.shape[2])
    spectrum = np.fft.rfft2(right)
    across = fringes.across(shape)
    kept = across > _LEAST
    power = _POWER * total**2 * np.outer(across[kept], fringes.along(band))
    stiff = 1 / np.maximum(power, _LEAST**2 * total**2)
    found = np.linalg.solve(gram + stiff[:, :, None] * np.eye(band.terms), spectrum[:, kept].T[:, :, None])[
        :, :, 0
    ]
    spectrum[:, kept], spectrum[:, ~kept] = found.T, 0
    return np.asarray(np.fft.irfft2(spectrum, s=shape))
