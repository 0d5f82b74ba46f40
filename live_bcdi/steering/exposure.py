"""How long to expose each angle, and through which attenuator.

A voxel counts at a rate r (a second of full beam) over a background b. After t seconds its amplitude is known with
the Fisher information 4 t r / (r + b). Before anything was measured its square is expected to be r. So its error
is e = 1 / (1 / r + 4 t r / (r + b)), and that of the crystal the sum over all voxels (Parseval). A second is best
spent where that sum falls the most, until it falls as fast at all angles. Without a background each voxel that can
be seen gains alike, however bright: equal exposures, and none where nothing would be seen. Over a background the
weak angles get more, until they are not worth it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..types import FloatArray, ScanError

Floats = NDArray[np.float64]

# Of the limit: beams come and go by a tenth and more, attenuators are known as well as that, and counts scatter.
SAFE = 0.7
_LEAST_RATE = 1e-12
_HALVINGS = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Attenuation:
    """`transmission` of the attenuator, the longest `acquisition_s` at which its brightest pixel stays below the
    limit, and the `peak_counts` that pixel is expected to have then. `safe` is False where no attenuator and no
    exposure of those offered keep it there."""

    transmission: float
    acquisition_s: float
    peak_counts: float
    safe: bool


def choose_attenuation(
    peak_rate: float,
    transmissions: Sequence[float],
    *,
    limit_counts: float,
    shortest_s: float,
    longest_s: float,
) -> Attenuation:
    """The one of `transmissions` (shares of the beam) that lets most through with the brightest pixel, of
    `peak_rate` counts a second in full beam, below 0.7 of `limit_counts` in a single acquisition of `shortest_s`
    to `longest_s`. Sums of acquisitions may hold more. Raises ScanError for numbers that are none."""
    offered = sorted(transmissions, reverse=True)
    if not offered or not (offered[-1] > 0 and offered[0] <= 1):
        raise ScanError(f"transmissions are shares of the beam, above 0 and at most 1, not {list(transmissions)}")
    if not (0 < shortest_s <= longest_s < math.inf and limit_counts > 0 and 0 <= peak_rate < math.inf):
        raise ScanError(
            f"an attenuator is chosen by a rate, a limit and exposures that are positive numbers, not {peak_rate}"
            f" counts a second, {limit_counts} counts, and {shortest_s} to {longest_s} s"
        )
    most = SAFE * limit_counts
    fits = [each for each in offered if peak_rate * each * shortest_s <= most]
    chosen = fits[0] if fits else offered[-1]
    rate = peak_rate * chosen
    acquisition_s = longest_s if rate * longest_s <= most else max(most / rate, shortest_s)
    return Attenuation(
        transmission=chosen, acquisition_s=acquisition_s, peak_counts=rate * acquisition_s, safe=bool(fits)
    )


def split_exposure(
    rates: FloatArray, background: float, dose_s: float, spent_s: FloatArray | None = None
) -> Floats:
    """Seconds of full beam for each angle, (angles,), `dose_s` in sum, from the `rates` (angles, pixels) expected
    there and the `background` of a pixel, in counts a second of full beam. What was `spent_s` (angles,) on them
    already is taken into account: an angle where the beam was away comes first.

    Raises ScanError for a dose that is not positive, and where nothing is expected at any angle.
    """
    expected: Floats = np.asarray(rates, np.float64)
    spent: Floats = np.zeros(len(expected)) if spent_s is None else np.asarray(spent_s, np.float64)
    if not (dose_s > 0 and math.isfinite(dose_s)):
        raise ScanError(f"a dose to split is a positive number of seconds, not {dose_s}")
    if not (
        np.isfinite(expected).all() and expected.max(initial=0) > 0 and background >= 0 and (spent >= 0).all()
    ):
        raise ScanError("no counts are expected at any angle; there is nothing to split the exposure by")
    low, high = _gains(expected, background, spent + dose_s).min(), _gains(expected, background, spent).max()
    low, high = math.log(max(low, 1e-300)), math.log(high)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        more = _until(expected, background, spent, math.exp(middle), dose_s)
        low, high = (middle, high) if more.sum() > dose_s else (low, middle)
    more = _until(expected, background, spent, math.exp(low), dose_s)
    return np.asarray(more * (dose_s / more.sum()))


def amplitude_error(rates: FloatArray, background: float, seconds: FloatArray) -> Floats:
    """The expected square error of the amplitudes of each angle, (angles,), after so many seconds."""
    rates = np.maximum(np.asarray(rates, np.float64), _LEAST_RATE)
    known = 4 * np.asarray(seconds)[:, None] * rates / (rates + background)
    return np.asarray((1 / (1 / rates + known)).sum(axis=1))


def _gains(rates: Floats, background: float, seconds: Floats) -> Floats:
    """How fast the error falls with another second, (angles,)."""
    rates = np.maximum(rates, _LEAST_RATE)
    pace = 4 * rates / (rates + background)
    return np.asarray((pace / (1 / rates + seconds[:, None] * pace) ** 2).sum(axis=1))


def _until(rates: Floats, background: float, spent: Floats, gain: float, most_s: float) -> Floats:
    """Seconds more for each angle until it gains no more than `gain` by another."""
    low, high = np.zeros(len(rates)), np.full(len(rates), most_s)
    for _ in range(_HALVINGS // 2):
        middle = (low + high) / 2
        worth = _gains(rates, background, spent + middle) > gain
        low, high = np.where(worth, middle, low), np.where(worth, high, middle)
    return np.where(_gains(rates, background, spent) > gain, high, 0.0)
