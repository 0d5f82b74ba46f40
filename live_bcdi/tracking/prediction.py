"""Where a crystal will be at the next scan, from where it was at those before, with how sure that is.

Each number of a motion is taken as a place x that wanders and drifts, seen through noise (a local linear trend
whose slope may fade: Harvey, Forecasting, structural time series models and the Kalman filter, 1989, 2.3 and 4.1):

    dx = v dt + a dW,    dv = -k v dt + sqrt(2 k) s dW',    y_i = x(t_i) + r n_i + sigma_i m_i

with sigma_i by counting noise, and a, s, k and r not known. A handful of scans does not fix these four, and error
bars with the likeliest values would be too small. So every combination on a grid is filtered at once, and what
they foretell is averaged by their likelihoods. Times are in scans.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ..types import ScanError, Vector
from .band import Floats
from .between import Motion, Peak, carried

FEWEST = 2  # scans in which the crystal was seen; of one nobody knows how far it goes
_WANDERS, _DRIFTS, _SCATTERS = 11, 6, 8  # values of a, s and r on the grid
_FADES = (1 / 3, 1 / 15, 1 / 100)  # values of k, a scan
_STILL = 0.1  # of the error bars: a walk that small cannot be told from none
_FARTHEST = 10.0  # of the usual step from scan to scan
_PART_STRAIGHT = 0.5  # a priori, of crystals that do not drift, and of those without a scatter of their own
_SHARES = (0.6827, 0.9545)
_LEAST_STEP, _MOST_STEP = 0.05, 100.0  # scans between two
_LEAST_STD = 1e-12


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """A number as it is foretold: 68.3 % of what may come lies within `std` of `value`, 95.4 % within `std2`,
    which is more than twice that where few scans are known. NaN where too few are."""

    value: float
    std: float
    std2: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """A crystal at the next scan, from its first one on as in `Motion`: its rotation about two axes (mdeg),
    strain, and intensity over that of the first. `scans` in which it was seen went in; `unseen` is how many came
    after the last of them. `time_s` is when the next scan is expected, on the clock that was given; NaN without
    one."""

    rotation_mdeg: tuple[Expected, Expected]
    strain: Expected
    intensity: Expected
    scans: int
    unseen: int
    time_s: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class View:
    """How a scan saw its peak. A vector h in the frame of the innermost sample circle lay at the frame, row and
    column `origin` + `steps_invA`^-1 (h - `h_invA`), the angle of frame k being `first_deg` + k `step_deg`."""

    h_invA: NDArray[np.float64]
    steps_invA: NDArray[np.float64]
    origin: Vector
    first_deg: float
    step_deg: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """Where a scan that was set up as another would have its peak: the rocking angle (degrees), row and column."""

    angle_deg: Expected
    row: Expected
    column: Expected


def predict(motions: Sequence[Motion | None], times_s: Sequence[float] | None = None) -> Prediction:
    """Where the crystal is at the next scan. `motions` are those of all scans of a series from its first (whose
    own is `motion_between` it and itself); None where a scan did not see the crystal, or is not to be believed,
    which makes the prediction less sure. `times_s` say when each was; without them, and for the next, all are as
    far apart.

    Raises ScanError where there are no scans, or not as many times as motions.
    """
    if not motions or (times_s is not None and len(times_s) != len(motions)):
        raise ScanError(f"nothing can be foretold from {len(motions)} scans; give a motion and a time for each")
    seen = np.flatnonzero([motion is not None for motion in motions])
    when, ahead_s = _in_scans(times_s, len(motions))
    known = [motion for motion in motions if motion is not None]
    values = np.array([_numbers(motion) for motion in known]).reshape(-1, 4)
    std = np.array([_spreads(motion) for motion in known]).reshape(-1, 4)
    if len(known) >= FEWEST:
        std = _own(std, first=motions[0] is not None)
        first, second, strain, counts = foretell(when[seen], values, std, ahead=when[-1] + 1 - when[seen[-1]])
    else:
        place = values[0] if len(known) else np.full(4, np.nan)
        first, second, strain, counts = (Expected(value=each, std=np.nan, std2=np.nan) for each in place)
    return Prediction(
        rotation_mdeg=(first, second),
        strain=strain,
        intensity=_not_a_logarithm(counts),
        scans=len(known),
        unseen=len(motions) - 1 - int(seen[-1]) if len(known) else len(motions),
        time_s=np.nan if times_s is None else float(times_s[-1]) + ahead_s,
    )


def _numbers(motion: Motion) -> tuple[float, ...]:
    return (*motion.rotation_mdeg, motion.strain, float(np.log(max(motion.counts_ratio, 1e-9))))


def _spreads(motion: Motion) -> tuple[float, ...]:
    return (*motion.rotation_std_mdeg, motion.strain_std, 1e-3)  # how counts scatter is learnt


def _own(std: Floats, *, first: bool) -> Floats:
    """Without the share of the first peak's own noise, by which all motions are off alike: it is where they
    begin."""
    common = std[0] ** 2 / 2 if first else 0.0
    return np.asarray(np.sqrt(np.maximum(std**2 - common, std**2 / 4)))


def _in_scans(times_s: Sequence[float] | None, count: int) -> tuple[Floats, float]:
    """When each scan was, in scans, and how many seconds a scan is."""
    if times_s is None or count < 2:
        return np.arange(count, dtype=np.float64), np.nan
    apart = np.diff(np.asarray(times_s, np.float64))
    usual = float(np.median(apart))
    if not (np.isfinite(apart).all() and usual > 0):
        raise ScanError("the times of the scans of a series must rise")
    return np.concatenate([[0.0], np.cumsum(np.clip(apart / usual, _LEAST_STEP, _MOST_STEP))]), usual


def _not_a_logarithm(expected: Expected) -> Expected:
    value = float(np.exp(expected.value))
    return Expected(value=value, std=value * expected.std, std2=value * expected.std2)


def foretell(times: Floats, values: Floats, std: Floats, *, ahead: float = 1.0) -> list[Expected]:
    """Each column of `values` (n, columns), at rising `times` (n,) in scans and known to `std` (n, columns),
    `ahead` scans after the last: where it will be seen but for the error bar of the next measurement."""
    grids = [_grid(times, values[:, at], std[:, at]) for at in range(values.shape[1])]
    filtered = _Filter(np.stack(grids, axis=1))
    for number, (value, error) in enumerate(zip(values, std)):
        if number:
            filtered.pass_by(float(times[number] - times[number - 1]))
        filtered.see(value[:, None], error[:, None])
    filtered.pass_by(ahead)
    mean, variance, weight = filtered.foretold()
    return [_mixed(*row) for row in zip(mean, variance, weight)]


def _grid(times: Floats, values: Floats, std: Floats) -> Floats:
    """(5, combinations): a, s, k, r and the logarithm of the prior, for one number."""
    apart = np.maximum(np.diff(times), _LEAST_STEP)
    bar = max(float(np.median(std)), _LEAST_STD)
    step = max(float(np.sqrt(np.mean(np.diff(values) ** 2 / apart))), bar)
    wander = np.geomspace(_STILL * bar, _FARTHEST * step, _WANDERS)
    drift = [(0.0, 1.0, _PART_STRAIGHT)]
    slopes = np.geomspace(_STILL * bar, 2 * step, _DRIFTS)
    drift += [(s, k, (1 - _PART_STRAIGHT) / (len(slopes) * len(_FADES))) for s in slopes for k in _FADES]
    scatter = [(0.0, _PART_STRAIGHT)]
    scatter += [(r, (1 - _PART_STRAIGHT) / _SCATTERS) for r in np.geomspace(0.5 * bar, 2 * step, _SCATTERS)]
    rows = [(a, s, k, r, np.log(p * q)) for a, (s, k, p), (r, q) in product(wander, drift, scatter)]
    return np.array(rows).T


class _Filter:
    """Kalman filters (numbers, combinations) with the state (x, v); x is not known at first, v is s."""

    def __init__(self, grid: Floats) -> None:
        self._walk, self._slope, self._fade, self._scatter, self._weight = grid
        shape = self._walk.shape
        self._x, self._v = np.zeros(shape), np.zeros(shape)
        self._xx, self._xv, self._vv = np.full(shape, np.inf), np.zeros(shape), self._slope**2

    def pass_by(self, time: float) -> None:
        """A while without a look. The integrated Ornstein-Uhlenbeck process, exactly."""
        k, variance = self._fade, self._slope**2
        left = np.exp(-k * time)
        way = (1 - left) / k
        self._x, self._v = self._x + way * self._v, left * self._v
        self._xx = self._xx + 2 * way * self._xv + way**2 * self._vv + self._walk**2 * time
        self._xx += variance / k**2 * (2 * k * time - 3 + 4 * left - left**2)
        self._xv = left * (self._xv + way * self._vv) + variance / k * (1 - left) ** 2
        self._vv = left**2 * self._vv + variance * (1 - left**2)

    def see(self, value: Floats, std: Floats) -> None:
        noise = std**2 + self._scatter**2
        if np.isinf(self._xx).all():
            self._x, self._xx = np.broadcast_to(value, noise.shape).copy(), noise
            return
        total, off = self._xx + noise, value - self._x
        self._weight = self._weight - 0.5 * (np.log(total) + off**2 / total)
        x_gain, v_gain = self._xx / total, self._xv / total
        self._x, self._v = self._x + x_gain * off, self._v + v_gain * off
        self._vv = self._vv - v_gain * self._xv
        self._xv, self._xx = (1 - x_gain) * self._xv, (1 - x_gain) * self._xx

    def foretold(self) -> tuple[Floats, Floats, Floats]:
        """Means and variances with the scatter in, and weights that are 1 in sum over the combinations."""
        weight = np.exp(self._weight - self._weight.max(axis=1, keepdims=True))
        return self._x, self._xx + self._scatter**2, weight / weight.sum(axis=1, keepdims=True)


def _mixed(mean: Floats, variance: Floats, weight: Floats) -> Expected:
    """The mean of a mixture of normal distributions, and about it the halves of what holds `_SHARES` of it."""
    value = float(weight @ mean)
    off, spread = mean - value, np.sqrt(variance)
    widest = float(np.abs(off).max() + 5 * spread.max())
    halves = []
    for share in _SHARES:
        low, high = 0.0, widest
        for _ in range(50):
            half = (low + high) / 2
            inside = special.ndtr((half - off) / spread) - special.ndtr((-half - off) / spread)
            low, high = (half, high) if weight @ inside < share else (low, half)
        halves.append((low + high) / 2)
    return Expected(value=value, std=halves[0], std2=halves[1])


def seen_at(prediction: Prediction, first: Peak, view: View) -> Seen:
    """Where the next scan sees its peak, if its motors and detector are set up as in the scan of `view`; `first`
    is the peak that the motions begin at. Errors are those of rotation and strain, taken as independent."""
    told = (*prediction.rotation_mdeg, prediction.strain)
    h, by = carried(first, (told[0].value, told[1].value), told[2].value)
    to_voxels = np.linalg.inv(view.steps_invA)
    place = np.array(view.origin) + to_voxels @ (h - view.h_invA)
    along = (to_voxels @ by) ** 2
    std, std2 = (
        np.sqrt(along @ np.array([getattr(each, name) for each in told]) ** 2) for name in ("std", "std2")
    )
    frame, row, column = (
        Expected(value=float(value), std=float(one), std2=float(two)) for value, one, two in zip(place, std, std2)
    )
    turn = abs(view.step_deg)
    angle = Expected(
        value=view.first_deg + view.step_deg * frame.value, std=turn * frame.std, std2=turn * frame.std2
    )
    return Seen(angle_deg=angle, row=row, column=column)
