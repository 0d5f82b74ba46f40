"""What the counts so far speak for, shell by shell of |q|, and what more of them would buy: no phasing, no model.

Two halves of the counts, taken apart at random or by alternate sweeps, correlate by cc over the voxels of a shell.
All of them then correlate with what a detector without noise would see by CC* = sqrt(2 cc / (1 + cc)) (Karplus &
Diederichs, Science 336, 1030 (2012)). With s the variance of the true pattern over a shell, in units of the
counting noise, cc = s / (2 + s) and CC* = sqrt(s / (1 + s)); k times the dose makes it k s.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from ..phasing.metrics import shells
from ..types import BoolArray, FloatArray, ScanError

Floats = NDArray[np.float64]

# CC* of 0.5 is where the phases of a map are right by half (Rosenthal & Henderson, J. Mol. Biol. 333, 721 (2003)).
CRITERION = 0.5
_FEWEST_VOXELS = 20  # of a shell: it takes some to correlate
_DRAWS = 100
_CERTAIN = 2.0  # standard deviations: what is extrapolated from stands out by so much
_TAIL = 0.5  # of the shells that stand out: their slope goes on beyond
# Facets scatter as q^-4 over a shell, and s with it; over a background it falls faster.
_GENTLEST, _STEEP = -3.0, -4.0
# How far s of a shell is from a curve that falls with |q|, squared and relative to it, for its fringes. Of
# simulated crystals from 1e4 to 1e6 photons 0.3 gives correlations nearest to the true ones; 0.1 is little worse.
_FRINGES = 0.3


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ShellSignal:
    """`signal` s of each shell at `q_invA`, rising, with the standard deviation `std` that counting gives it, of
    `voxels`; all (shells,). It may come out below zero where there is next to nothing. `end_invA` is the last |q|
    that was measured all around."""

    q_invA: Floats
    signal: Floats
    std: Floats
    voxels: NDArray[np.int64]
    end_invA: float

    def cc_star(self, dose_ratio: float = 1.0) -> Floats:
        """The correlation with the pattern without noise, (shells,), at so many times the dose. A shell that says
        little is taken to be nearer to what a curve that falls with |q| has there."""
        falling = np.maximum(_isotonic(self.signal, self.std), 0)
        scatter = _FRINGES * falling**2
        signal = dose_ratio * np.maximum(falling + (self.signal - falling) * scatter / (scatter + self.std**2), 0)
        return np.asarray(np.sqrt(signal / (1 + signal)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolved:
    """`resolution_nm`, the full period 2 pi / q where CC* falls below the criterion, with the `std_nm` that
    counting gives it. `at_limit` says that CC* does not fall as far as was measured: the resolution is that of the
    range then, and more counts buy nothing."""

    resolution_nm: float
    std_nm: float
    at_limit: bool


def _isotonic(values: Floats, std: Floats) -> Floats:
    return np.asarray(isotonic_regression(values, weights=1 / std**2, increasing=False).x)


def thinned(counts: FloatArray | NDArray[np.integer], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each count into one of two halves, by chance: two independent Poisson counts of half the dose."""
    whole = np.asarray(counts).astype(np.int64)
    first = np.random.default_rng(seed).binomial(whole, 0.5)
    return first, whole - first


def signal_by_shell(
    counts: FloatArray | NDArray[np.integer], mask: BoolArray, q_steps_invA: Floats
) -> ShellSignal:
    """Of counts (rocking, row, column), centred, as they were counted: not scaled, not smoothed. This is the mean
    over all ways to take the counts apart, so that none is drawn: s = (variance - mean) / mean.

    Raises ScanError where nothing was counted, or no shell has 20 voxels.
    """
    sums = _Sums(counts, mask, q_steps_invA)
    return sums.told((sums.variance - sums.mean) / sums.counted, chance=2.0)


def signal_of_halves(
    first: FloatArray | NDArray[np.integer],
    second: FloatArray | NDArray[np.integer],
    mask: BoolArray,
    q_steps_invA: Floats,
) -> ShellSignal:
    """From two halves that were counted apart, as by alternate sweeps of one dose: what changed between them is
    noise too. s = 2 cc / (1 - cc). Raises ScanError as `signal_by_shell` does, and for halves of unlike shape."""
    if np.shape(first) != np.shape(second):
        raise ScanError(f"two halves of one scan are alike in shape, not {np.shape(first)} and {np.shape(second)}")
    one, other = (_Sums(half, mask, q_steps_invA) for half in (first, second))
    whole = _Sums(np.add(first, second, dtype=np.float64), mask, q_steps_invA)
    shared = (whole.variance - one.variance - other.variance) / 2
    # (v1 + v2) / 2 for sqrt(v1 v2): shells that hold nothing would divide by it
    spread = (one.variance + other.variance) / 2
    correlation = np.clip(np.divide(shared, spread, out=np.zeros_like(shared), where=spread > 0), -1, 1 - 1e-9)
    return whole.told(2 * correlation / (1 - correlation), chance=4.0)


class _Sums:
    """Means over the voxels of each shell of powers of the counts."""

    def __init__(self, counts: FloatArray | NDArray[np.integer], mask: BoolArray, q_steps_invA: Floats) -> None:
        shell, self._width = shells(np.shape(counts), q_steps_invA)
        self._shell, self._values = shell[~mask], np.asarray(counts)[~mask].astype(np.float64)
        if not self._values.size or not np.isfinite(self._values).all() or not self._values.sum() > 0:
            raise ScanError("no counts to speak of a resolution; measure some, and leave out what is not finite")
        # the sphere that fits: no row, column or frame ends before
        self._end = min(
            float(step * (n // 2 - (1 - n % 2))) for step, n in zip(_heights(q_steps_invA), np.shape(counts))
        )
        self.voxels = np.bincount(self._shell)
        self.mean = self._mean(self._values)
        self.counted = np.where(self.mean > 0, self.mean, 1.0)  # to divide by
        self.variance = self._mean((self._values - self.mean[self._shell]) ** 2)
        self.variance *= self.voxels / np.maximum(self.voxels - 1, 1)

    def _mean(self, values: Floats) -> Floats:
        return np.bincount(self._shell, values) / np.maximum(self.voxels, 1)

    def told(self, signal: Floats, *, chance: float) -> ShellSignal:
        use = (self.voxels >= _FEWEST_VOXELS) & (self.mean > 0)
        if not use.any():
            raise ScanError(f"no shell of |q| has {_FEWEST_VOXELS} voxels with counts; measure more of the peak")
        return ShellSignal(
            q_invA=self._width * np.flatnonzero(use).astype(np.float64),
            signal=signal[use],
            std=self._std(chance)[use],
            voxels=self.voxels[use],
            end_invA=self._end,
        )

    def _std(self, chance: float) -> Floats:
        """Of s, by the noise of the counts about a pattern that is what it is. With S what a voxel expects, m its
        mean over the shell and V its variance, a voxel moves V by N (N - 1) - 2 m N, whose variance is
        2 S^2 + 4 S (S - m)^2 (4 S^2 where the halves are drawn too), and m by N: s = V / m follows both. Powers
        of S are estimated by factorial moments of the counts."""
        n, mean = self._values, self.counted
        first, second, third = n, n * (n - 1), n * (n - 1) * (n - 2)
        s1, s2, s3 = (self._mean(power) for power in (first, second, third))
        variance = np.maximum(self.variance - self.mean, 0)
        own = chance * s2 + 4 * (s3 - 2 * mean * s2 + mean**2 * s1)
        shared = 2 * s2 - 2 * mean * s1
        total = own / mean**2 + variance**2 * s1 / mean**4 - 2 * variance * shared / mean**3
        # where counts are so few that the moments come out at nothing, noise alone is left: variance 2 m^2 of V
        return np.asarray(np.sqrt(np.maximum(total, chance) / np.maximum(self.voxels, 1)))


def _heights(q_steps_invA: Floats) -> Floats:
    """Of the cell: how far from the plane of the other two axes one step along each leads, (3,)."""
    return np.asarray(1 / np.linalg.norm(np.linalg.inv(q_steps_invA), axis=1))


def resolved(signal: ShellSignal, *, dose_ratio: float = 1.0, criterion: float = CRITERION) -> Resolved:
    """Where CC* falls below `criterion`, or would at `dose_ratio` times the dose.

    s is taken to fall with |q|: the falling curve nearest to it, by what each shell knows (isotonic regression).
    Beyond where it stands out of its error bar, it goes on as a power of |q|. The error bar is the scatter over
    100 curves drawn with those of the shells. Raises ScanError for a criterion that is not between 0 and 1, or a
    ratio that is not positive.
    """
    level = _level(criterion, dose_ratio)
    at = _crossing(signal, signal.signal, level)
    random = np.random.default_rng(0)
    drawn = [
        _crossing(signal, signal.signal + signal.std * random.standard_normal(len(signal.q_invA)), level)
        for _ in range(_DRAWS)
    ]
    end = signal.end_invA
    found_nm = [0.2 * math.pi / min(max(each, signal.q_invA[0] / 2 or 1e-9), end) for each in (at, *drawn)]
    return Resolved(resolution_nm=found_nm[0], std_nm=float(np.std(found_nm[1:])), at_limit=at >= end)


def dose_for(signal: ShellSignal, resolution_nm: float, *, criterion: float = CRITERION) -> float:
    """How many times the dose CC* takes to reach `criterion` at a full period of `resolution_nm`; infinite where
    |q| was not measured so far, or nobody knows. Raises ScanError for a resolution that is not positive."""
    if not resolution_nm > 0:
        raise ScanError(f"a resolution is a positive length, not {resolution_nm} nm")
    q = 0.2 * math.pi / resolution_nm
    if q > signal.end_invA:
        return math.inf
    there = _Falling(signal, signal.signal).at(q)
    return _level(criterion, 1.0) / there if there > 0 else math.inf


def _level(criterion: float, dose_ratio: float) -> float:
    """The s at which CC* is the criterion."""
    if not 0 < criterion < 1:
        raise ScanError(f"a criterion for CC* is between 0 and 1, not {criterion}")
    if not (dose_ratio > 0 and math.isfinite(dose_ratio)):
        raise ScanError(f"a dose is a positive number of times that so far, not {dose_ratio}")
    return criterion**2 / (1 - criterion**2) / dose_ratio


def _crossing(signal: ShellSignal, values: Floats, level: float) -> float:
    return _Falling(signal, values).where(level)


class _Falling:
    """s as it falls with |q|: straight, in logarithms, between the middles of steps of an isotonic regression, and
    a power of |q| beyond the last one that stands out."""

    def __init__(self, signal: ShellSignal, values: Floats) -> None:
        weights = 1 / signal.std**2
        fitted = isotonic_regression(values, weights=weights, increasing=False)
        begins = fitted.blocks[:-1]
        weight = np.add.reduceat(weights, begins)
        middles = np.add.reduceat(weights * signal.q_invA, begins) / weight
        heights = np.asarray(fitted.x)[begins]
        certain = heights > _CERTAIN / np.sqrt(weight)
        self._q, self._s = np.maximum(middles[certain], 1e-9), heights[certain]
        self._power = self._slope()

    def _slope(self) -> float:
        """Of the last of those that stand out; steep where there are too few to say."""
        tail = max(2, round(_TAIL * len(self._q)))
        q, s = np.log(self._q[-tail:]), np.log(self._s[-tail:])
        if len(q) < 2 or np.ptp(q) < 1e-6:
            return _STEEP
        return float(min(np.polyfit(q, s, 1)[0], _GENTLEST))

    def at(self, q: float) -> float:
        if not len(self._q):
            return 0.0
        if q > self._q[-1]:
            return float(self._s[-1] * (q / self._q[-1]) ** self._power)
        return float(np.exp(np.interp(q, self._q, np.log(self._s))))

    def where(self, level: float) -> float:
        """|q| at which s is `level`; 0 where it is below everywhere."""
        if not len(self._q) or level > self._s[0]:
            return 0.0
        if level < self._s[-1]:
            return float(self._q[-1] * (level / self._s[-1]) ** (1 / self._power))
        return float(np.interp(-math.log(level), -np.log(self._s), self._q))
