"""Range, step and exposure of a rocking scan, from a quick one before it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..preprocess import rocking_grid_deg
from ..tracking.band import cutoff_of
from ..tracking.scan import box_of
from ..types import BoolArray, FloatArray, FrameArray, ScanError
from .exposure import Attenuation, choose_attenuation, split_exposure

Floats = NDArray[np.float64]

FEWEST_FRAMES = 7
LEAST_POINTS, POINTS = 2.0, 3.0  # a fringe: what tells phases, and what success was measured with
_COARSE_STEPS = 2.6  # a fringe: `cutoff_of` cannot tell finer ones from noise
_BLOCK = 3  # pixels
_STANDS_OUT = 5.0  # standard deviations of counting: a peak
_WORTH = 3.0  # the same of a frame: something is left
_BORDER = 0.125  # of a frame's edge: background, in frames where the peak is not
_QUIET_FRAMES = 0.25
_MISSED = 0.8  # of the top at least is seen by the next angle: sinc^2 of a quarter fringe, at 2 points a fringe
_FAINTER = 10.0  # times, after a scan that was saturated
_MOST_ANGLES = 2000


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PreScan:
    """A quick scan: `frames` (angles, row, column), each the sum of `acquisitions`; at `angles_deg` on even steps,
    of `seconds` through an attenuator of `transmission`, all (angles,). `saturation_counts` is the limit of one
    acquisition; True in `bad_pixels` (row, column) is not used. Raises ScanError where they do not fit."""

    frames: FrameArray
    angles_deg: FloatArray
    seconds: FloatArray
    transmission: FloatArray
    acquisitions: int = 1
    saturation_counts: float | None = None
    bad_pixels: BoolArray | None = None

    def __post_init__(self) -> None:
        count = len(self.frames)
        if self.frames.ndim != 3 or count < FEWEST_FRAMES:
            raise ScanError(
                f"a pre-scan has at least {FEWEST_FRAMES} frames (angle, row, column), not {self.frames.shape}"
            )
        for name in ("angles_deg", "seconds", "transmission"):
            values = np.asarray(getattr(self, name))
            if values.shape != (count,) or not np.isfinite(values).all():
                raise ScanError(f"a pre-scan of {count} frames has as many finite {name}, not {values.shape}")
        if not (np.min(self.seconds) > 0 and np.min(self.transmission) > 0 and self.acquisitions >= 1):
            raise ScanError("exposures, transmissions and acquisitions of a pre-scan are positive")

    @property
    def dose_s(self) -> Floats:
        """Seconds of full beam that each frame had."""
        return np.asarray(self.seconds, np.float64) * np.asarray(self.transmission, np.float64)

    def counts(self) -> Floats:
        """The frames, in the order of angles, zero where a pixel is not used."""
        bad = ~np.isfinite(self.frames) | (self.frames < 0)
        if self.bad_pixels is not None:
            bad = bad | self.bad_pixels
        return np.where(bad, 0, self.frames).astype(np.float64)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What a scan is to have: `points` a fringe, `fringes` on each side of the peak at most, `dose_s` seconds of
    full beam in all, angles within `limits_deg`. Raises ScanError for less than 2 points."""

    dose_s: float
    limits_deg: tuple[float, float]
    points: float = POINTS
    fringes: float = 8.0

    def __post_init__(self) -> None:
        if not LEAST_POINTS <= self.points < 100:
            raise ScanError(
                f"a fringe takes at least {LEAST_POINTS:.0f} points, not {self.points}: phases need them"
            )
        if not (self.fringes >= 1 and math.isfinite(self.fringes) and self.dose_s > 0):
            raise ScanError(f"a scan has a fringe and more, and a dose, not {self.fringes} and {self.dose_s} s")
        low, high = self.limits_deg
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ScanError(f"the limits of the rocking angle are two numbers that rise, not {low} and {high}")


@dataclass(frozen=True, kw_only=True, slots=True)
class RockingRange:
    """`num` angles from `start_deg` by `step_deg` to `stop_deg`, about the peak at `centre_deg`, of fringes that
    are `fringe_deg` apart. `extend_deg` is how far that goes beyond the range that was planned, below and above:
    negative where it is shorter. `again` says that the pre-scan is to be made again, so; `why` has a sentence for
    each thing that was found."""

    centre_deg: float
    centre_std_deg: float
    fringe_deg: float
    step_deg: float
    start_deg: float
    stop_deg: float
    num: int
    extend_deg: tuple[float, float]
    again: bool
    why: tuple[str, ...]

    @property
    def angles_deg(self) -> Floats:
        return np.linspace(self.start_deg, self.stop_deg, self.num)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Curve:
    """Rates of full beam over angles: `signal` above the `background` of as many pixels, in so much `dose_s`."""

    angles_deg: Floats
    signal: Floats
    background: float
    dose_s: Floats

    @property
    def std(self) -> Floats:
        rate = np.maximum(self.signal, 0) + self.background
        return np.asarray(np.sqrt(np.maximum(rate * self.dose_s, 1.0)) / self.dose_s)


def advise_range(pre: PreScan, wanted: Wanted, planned_deg: tuple[float, float] | None = None) -> RockingRange:
    """The range and step of the scan to make. Fringes are as far apart as the crystal's extent along the rocking
    axis has them (`tracking.band.cutoff_of`); beyond them the rocking curve of anything with a surface falls as
    1 / angle^2, and the range ends where a frame of the planned dose would not stand out by three standard
    deviations, or after `wanted.fringes`. `planned_deg` is the pre-scan's own range by default.

    Raises ScanError where no peak stands out, for angles on no even grid, and where the limits leave no range.
    """
    first_deg, step_deg = rocking_grid_deg(pre.angles_deg, np.ones(len(pre.frames), bool))
    counts, box = pre.counts(), box_of(pre.counts())
    curve = _curve(pre, counts, box)
    centre, std, inside = _centre(curve, abs(step_deg))
    per_fringe = 1 / max(cutoff_of(_blocks(counts[:, *box] / pre.dose_s[:, None, None] * pre.dose_s.mean())), 1e-3)
    coarse = per_fringe < _COARSE_STEPS
    fringe = abs(step_deg) * (1.0 if coarse else per_fringe)  # or finer: the next pre-scan sees
    below, above = (_reach(curve, wanted, centre, fringe, side) for side in (-1, 1))
    low, high = wanted.limits_deg
    start, stop = max(centre - below, low), min(centre + above, high)
    if not stop > start:
        raise ScanError(
            f"the peak at {centre:.5g} deg is beyond the limits {low:.5g} to {high:.5g} deg; align first"
        )
    num = min(max(FEWEST_FRAMES, math.ceil((stop - start) / (fringe / wanted.points)) + 1), _MOST_ANGLES)
    ends = sorted((first_deg, first_deg + step_deg * (len(counts) - 1)) if planned_deg is None else planned_deg)
    extend = (ends[0] - start, stop - ends[1])
    return RockingRange(
        centre_deg=centre,
        centre_std_deg=std,
        fringe_deg=fringe,
        step_deg=(stop - start) / (num - 1),
        start_deg=start,
        stop_deg=stop,
        num=num,
        extend_deg=extend,
        again=coarse or not inside,
        why=tuple(_reasons(coarse, inside, extend, fringe, (start > centre - below, stop < centre + above))),
    )


def _curve(pre: PreScan, counts: Floats, box: tuple[slice, slice]) -> _Curve:
    """The rates within a box about the peak, less those of as many pixels at the border of the frames."""
    order = np.argsort(pre.angles_deg)
    rows, columns = (max(1, round(_BORDER * edge)) for edge in counts.shape[1:])
    border = np.ones(counts.shape[1:], bool)
    border[rows:-rows, columns:-columns] = False
    if pre.bad_pixels is not None:
        border &= ~pre.bad_pixels
    there = counts[:, border].mean(axis=1) / pre.dose_s if border.any() else np.zeros(len(counts))
    pixels = counts[0, *box].size
    background = float(np.sort(there)[: max(1, round(_QUIET_FRAMES * len(there)))].mean()) * pixels
    signal = counts[:, *box].sum(axis=(1, 2)) / pre.dose_s - background
    return _Curve(
        angles_deg=np.asarray(pre.angles_deg, np.float64)[order],
        signal=signal[order],
        background=background,
        dose_s=pre.dose_s[order],
    )


def _centre(curve: _Curve, step_deg: float) -> tuple[float, float, bool]:
    """The middle of what is above half of the peak, its standard deviation, and whether it has both flanks."""
    top = int(np.argmax(curve.signal))
    if not curve.signal[top] > _STANDS_OUT * curve.std[top]:
        raise ScanError("no peak stands out of the counting noise of this pre-scan; find the peak first")
    below = np.flatnonzero(curve.signal < curve.signal[top] / 2)
    low = int(below[below < top].max(initial=-1)) + 1
    high = int(below[below > top].min(initial=len(curve.signal))) - 1
    part = slice(low, high + 1)
    weight = np.maximum(curve.signal[part], 0)
    centre = float(np.average(curve.angles_deg[part], weights=weight))
    spread = (curve.std[part] * (curve.angles_deg[part] - centre)) / weight.sum()
    # a step's error besides: the curve is known at the angles only
    std = math.hypot(float(np.sqrt((spread**2).sum())), step_deg / math.sqrt(12) / max(high - low + 1, 1))
    return centre, std, low > 0 and high < len(curve.signal) - 1


def _blocks(counts: Floats) -> Floats:
    """(angles, blocks): sums of 3 x 3 pixels."""
    rows, columns = (edge - edge % _BLOCK for edge in counts.shape[1:])
    if not rows or not columns:
        return counts.reshape(len(counts), -1)
    cut = counts[:, :rows, :columns].reshape(len(counts), rows // _BLOCK, _BLOCK, columns // _BLOCK, _BLOCK)
    return np.asarray(cut.sum(axis=(2, 4)).reshape(len(counts), -1))


def _reach(curve: _Curve, wanted: Wanted, centre: float, fringe: float, side: int) -> float:
    """How far the scan goes on one side: A / x^2 is what the frames beyond a fringe show, by all their counts
    (the maximum of the likelihood); signal t = 3 sqrt((signal + background) t) where it ends."""
    most = wanted.fringes * fringe
    frame_s = wanted.dose_s / (2 * wanted.fringes * wanted.points + 1)
    away = side * (curve.angles_deg - centre)
    tail = away > fringe
    if not tail.any():
        tail = np.abs(curve.angles_deg - centre) > fringe  # what the other side shows
    if not tail.any():
        return most
    dose, x = curve.dose_s[tail], np.abs(away[tail])
    strength = float((curve.signal[tail] * dose).sum() / (dose / x**2).sum())
    noise = math.sqrt(curve.background * frame_s)
    least = (_WORTH**2 / 2 + _WORTH * math.sqrt(_WORTH**2 / 4 + noise**2)) / frame_s
    return min(most, max(math.sqrt(max(strength, 0.0) / least), 1.5 * fringe))


def _reasons(
    coarse: bool, inside: bool, extend: tuple[float, float], fringe: float, cut: tuple[bool, bool]
) -> list[str]:
    said = []
    if not inside:
        said.append("the peak is at an end of the pre-scan: make it again about the angle where it was highest")
    if coarse:
        said.append(f"its steps are too coarse to see fringes closer than {fringe:.2g} deg: make it again, finer")
    for side, more, limited in zip(("below", "above"), extend, cut):
        if more > fringe / 2:
            said.append(f"extend the range {side} by {more:.2g} deg: there is still signal")
        elif more < -fringe / 2:
            said.append(
                f"shorten the range {side} by {-more:.2g} deg: what is there is noise, or was not asked for"
            )
        if limited:
            said.append(f"the limits of the rocking angle cut the range off {side}")
    return said


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RockingAdvice:
    """The scan to make: its `range`, the `attenuation`, and seconds for each angle (num,) at that transmission,
    of full beam `wanted.dose_s` in sum; 0 where nothing would be seen. `acquisitions` (num,) is into how many
    each is to be divided so that none saturates. `again` as in `RockingRange`, also where the pre-scan was
    saturated."""

    range: RockingRange
    attenuation: Attenuation
    seconds: Floats
    acquisitions: NDArray[np.int64]
    again: bool
    why: tuple[str, ...]


def advise_rocking(
    pre: PreScan,
    wanted: Wanted,
    transmissions: Sequence[float] = (1.0,),
    *,
    shortest_s: float = 1e-3,
    planned_deg: tuple[float, float] | None = None,
) -> RockingAdvice:
    """All that a pre-scan says of the scan to make. Raises ScanError as its parts do."""
    found = advise_range(pre, wanted, planned_deg)
    rate, saturated = peak_rate(pre)
    limit = math.inf if pre.saturation_counts is None else pre.saturation_counts
    if saturated:
        transmissions = fainter(transmissions, float(np.min(pre.transmission)))
    attenuation = choose_attenuation(
        rate,
        transmissions,
        limit_counts=limit,
        shortest_s=shortest_s,
        longest_s=wanted.dose_s / min(transmissions),
    )
    rates, background = rates_at(pre, found.angles_deg, found.centre_deg)
    seconds = split_exposure(rates, background, wanted.dose_s) / attenuation.transmission
    why = list(found.why)
    if saturated:
        why.append("pixels of the pre-scan are saturated: make it again, through the attenuator that is told")
    if not attenuation.safe:
        why.append("the brightest pixel saturates through the darkest attenuator in the shortest exposure")
    return RockingAdvice(
        range=found,
        attenuation=attenuation,
        seconds=seconds,
        acquisitions=np.ceil(seconds / attenuation.acquisition_s - 1e-9).astype(np.int64),
        again=found.again or saturated,
        why=tuple(why),
    )


def peak_rate(pre: PreScan) -> tuple[float, bool]:
    """Counts a second of full beam that the brightest pixel may have, three standard deviations and a top between
    two angles included, and whether one was saturated, so that nobody knows."""
    counts = pre.counts()
    highest = counts.max(axis=(1, 2))
    saturated = pre.saturation_counts is not None and bool(
        (highest >= pre.acquisitions * pre.saturation_counts).any()
    )
    bound = (highest + 3 * np.sqrt(highest + 1)) / pre.dose_s
    return float(bound.max()) / _MISSED, saturated


def fainter(transmissions: Sequence[float], used: float) -> list[float]:
    """Those that let a tenth of what was used through, or less; the least where there is none."""
    darker = [each for each in transmissions if each <= used / _FAINTER]
    return darker or [min(transmissions)]


def rates_at(pre: PreScan, angles_deg: FloatArray, centre_deg: float) -> tuple[Floats, float]:
    """Counts a second of full beam to expect in blocks of 3 x 3 pixels (angles, blocks) about the peak, and the
    background of a block: the pre-scan, smoothed, between its angles, and falling as 1 / angle^2 beyond them."""
    counts, order = pre.counts(), np.argsort(pre.angles_deg)
    box = box_of(counts)
    curve = _curve(pre, counts, box)
    blocks = _blocks(counts[:, *box])[order] / pre.dose_s[order][:, None]
    background = curve.background / max(counts[0, *box].size, 1) * _BLOCK**2
    blocks = np.maximum(ndimage.uniform_filter1d(blocks, 3, axis=0, mode="nearest") - background, 0)
    at = np.clip(np.asarray(angles_deg, np.float64), curve.angles_deg[0], curve.angles_deg[-1])
    place = np.interp(at, curve.angles_deg, np.arange(len(curve.angles_deg)))
    low = np.minimum(place.astype(int), len(blocks) - 2)
    share = (place - low)[:, None]
    between = (1 - share) * blocks[low] + share * blocks[low + 1]
    falls = (at - centre_deg) ** 2 / np.maximum((np.asarray(angles_deg) - centre_deg) ** 2, 1e-12)
    beyond = at != np.asarray(angles_deg)
    return np.asarray(between * np.where(beyond, np.minimum(falls, 1.0), 1.0)[:, None]), background


def revisit(
    pre: PreScan, angles_deg: FloatArray, spent_s: FloatArray, dose_s: float, *, least_s: float = 0.0
) -> tuple[NDArray[np.int64], Floats]:
    """Which of `angles_deg` to measure again, and how many seconds of full beam each: `dose_s` more in all, spent
    where it tells most after the `spent_s` of full beam (by the monitor) that they had. Angles that would get less
    than `least_s` are left out, and what they would have goes to the others. Raises ScanError as `split_exposure`.
    """
    rates, background = rates_at(pre, angles_deg, advise_centre(pre))
    more = split_exposure(rates, background, dose_s, spent_s)
    kept = np.flatnonzero((more > 0) & (more >= least_s))
    if not len(kept):
        kept = np.array([int(np.argmax(more))])
    return kept, np.asarray(more[kept] * (dose_s / more[kept].sum()))


def advise_centre(pre: PreScan) -> float:
    """The rocking angle of the peak of a pre-scan. Raises ScanError where none stands out."""
    counts = pre.counts()
    return _centre(_curve(pre, counts, box_of(counts)), 0.0)[0]
