"""A crystal is finite, so along the rocking axis each pixel's intensity is a short Fourier series.

The intensity at a pixel is the transform of the crystal's autocorrelation, which ends at the crystal's extent:
where a crystal fills 1/s of the rocking axis, no term varies faster than 1/s cycles a step. Angles are in steps.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

_MARGIN = 1.15  # the series' period over the range of angles: what it joins at the ends is not measured
_QUIET = 0.4  # cycles a step from which on a crystal that phasing can use has next to nothing
_KEPT = 0.99  # of the power that varies; of simulated crystals the rest goes 1.7 times as far
_BEYOND = 1.7


@dataclass(frozen=True, kw_only=True, slots=True)
class Band:
    """A real Fourier series of `order` harmonics, 2 order + 1 terms, over `period` steps, as seen by frames that
    turn by `smear` steps while they count."""

    order: int
    period: float
    smear: float = 0.0

    @property
    def terms(self) -> int:
        return 2 * self.order + 1

    def values(self, theta: Floats) -> Floats:
        """(n, terms) at angles (n,): 1, sqrt(2) cos, sqrt(2) sin, ..., of mean square 1 without `smear`. The
        mean of a wave over a turn is the wave at its middle times a sinc."""
        phase, size = np.outer(theta, self._rates()), self._sizes()
        made = np.ones((len(theta), self.terms))
        made[:, 1::2] = size * np.cos(phase)
        made[:, 2::2] = size * np.sin(phase)
        return made

    def slopes(self, theta: Floats) -> Floats:
        """The derivatives of `values` by the angle, (n, terms)."""
        phase, size = np.outer(theta, self._rates()), self._sizes()
        made = np.zeros((len(theta), self.terms))
        made[:, 1::2] = -size * self._rates() * np.sin(phase)
        made[:, 2::2] = size * self._rates() * np.cos(phase)
        return made

    def _sizes(self) -> Floats:
        return np.asarray(np.sqrt(2) * np.sinc(self._rates() * self.smear / (2 * np.pi)), np.float64)

    def _rates(self) -> Floats:
        return np.asarray(2 * np.pi / self.period * np.arange(1, self.order + 1), np.float64)


def band_of(theta: Floats, cutoff: float, *, smear: float = 0.0) -> Band:
    """The series for angles that span `theta`, of terms up to `cutoff` cycles a step."""
    period = _MARGIN * (float(np.ptp(theta)) + 1)
    return Band(order=max(1, round(cutoff * period)), period=period, smear=smear)


def cutoff_of(counts: Floats) -> float:
    """Cycles a step of the fastest term that counts (frames, pixels) on even steps need.

    The power of each pixel's transform, over its counts, less that of counting noise, is added up; jitter spreads
    some of it over all terms alike, and that level goes off too.
    """
    total = np.maximum(counts.sum(axis=0), 1.0)
    taper = np.hanning(len(counts) + 2)[1:-1, None]
    power = np.abs(np.fft.rfft(counts * taper, axis=0)) ** 2 - (counts * taper**2).sum(axis=0)
    power = (power / total).sum(axis=1)
    rate = np.arange(len(power)) / len(counts)
    power = np.maximum(power - power[rate >= _QUIET].mean(), 0.0)
    share = np.cumsum(power) / max(float(power.sum()), 1e-9)
    return float(min(_BEYOND * rate[min(int(np.searchsorted(share, _KEPT)), len(rate) - 1)], _QUIET))
