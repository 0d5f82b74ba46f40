"""Where to look for a Bragg peak with two rotations: one is swept while the detector counts, ever shorter sweeps;
the other is stepped as far as the detector sees.

A peak comes and goes with the swept angle, and stays where it is on the detector; a powder ring does neither.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from ..types import ScanError
from .spots import Spot

_NEAR_PX = 8.0  # the same spot: drift, and a crystal that is larger than its beam, move it by pixels
# Of what a sweep passed of a peak: the half of it with so much has the peak. Where that is left to the other half,
# it is there with so much at least.
_HALF, _THERE = 0.5, 0.25
_SHORTER = 3.0  # times: in a sweep so much shorter a peak is brighter, and what always counts is not
_STATIC = 0.5  # of the counts a second, in both of two sweeps that are apart
_MOST_SWEEPS = 1e4
_DIM = 0.3  # of the brightest spot: such a one is taken where it is nearer to where the peak is expected


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """Count while the swept rotation turns from `low_deg` to `high_deg`, the other at `across_deg`."""

    low_deg: float
    high_deg: float
    across_deg: float

    @property
    def span_deg(self) -> float:
        return self.high_deg - self.low_deg

    @property
    def middle_deg(self) -> float:
        return (self.low_deg + self.high_deg) / 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Swept:
    """A `sweep` of `dose_s` seconds of full beam, and the `spots` that it saw."""

    sweep: Sweep
    dose_s: float
    spots: tuple[Spot, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """Within `limits_deg` of the swept rotation and `across_limits_deg` of the other, beginning about `start_deg`
    and `across_start_deg`. The first sweeps are `coarse_deg` long, the last at most `fine_deg`; the detector sees
    peaks within `reach_deg` of the other rotation. The peak is expected about `pixel` (row, column); `most` is how
    many exposures it may take. Raises ScanError for numbers that are none."""

    start_deg: float
    limits_deg: tuple[float, float]
    coarse_deg: float
    fine_deg: float
    pixel: tuple[float, float]
    across_start_deg: float = 0.0
    across_limits_deg: tuple[float, float] = (0.0, 0.0)
    reach_deg: float = math.inf
    most: int = 60

    def __post_init__(self) -> None:
        for place, (low, high) in (
            (self.start_deg, self.limits_deg),
            (self.across_start_deg, self.across_limits_deg),
        ):
            if not (math.isfinite(low) and math.isfinite(high) and low <= place <= high):
                raise ScanError(f"a search begins within its limits: not at {place} in {low} to {high} deg")
        if not (0 < self.fine_deg <= self.coarse_deg < math.inf and self.reach_deg > 0 and self.most >= 1):
            raise ScanError(
                f"sweeps are from {self.coarse_deg} to {self.fine_deg} deg long, steps of {self.reach_deg} deg,"
                f" and at most {self.most}: give positive numbers, the coarse the larger"
            )
        low, high = self.across_limits_deg
        rows, sweeps = (high - low) / self.reach_deg, (self.limits_deg[1] - self.limits_deg[0]) / self.coarse_deg
        if not (rows + 1) * (sweeps + 1) < _MOST_SWEEPS:
            raise ScanError("the region is too large for sweeps and steps so short; search a smaller one")


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """The peak is at `angle_deg`, with standard deviation `std_deg`, and `across_deg`; `spot` is what the last
    sweep saw of it, on `looks` exposures."""

    angle_deg: float
    std_deg: float
    across_deg: float
    spot: Spot
    looks: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Lost:
    """It was not found; `why` says where was looked."""

    why: str


def next_sweep(seen: Sequence[Swept], search: Search) -> Sweep | Found | Lost:
    """The next sweep, or where the peak is, or that there is none. From the start outwards: all of the swept
    rotation, and then the same across. Of the Bragg peaks that are seen, one is followed into the half of its
    sweep that has it, until that is fine enough. Where both halves do not have it, the next one is.

    The same exposures give the same answer: nothing is remembered between calls.
    """
    told: Sweep | Found | None = None
    forgotten = 0
    for row in coarse_rows(search):
        there = [_look(seen, sweep) for sweep in row]
        looked = [each for each in there if each is not None]
        told = next((sweep for sweep, each in zip(row, there) if each is None), None)
        for swept, spot in () if told else _candidates(looked, seen, search):
            told = _followed(swept, spot, seen, search)
            if told is not None:
                break
            forgotten += 1
        if told is not None:
            break
    if isinstance(told, Sweep) and len(seen) >= search.most:
        return Lost(why=f"{search.most} exposures were taken and the peak is not found; search a smaller region")
    return told or Lost(why=_nowhere(search, len(seen), forgotten))


def _nowhere(search: Search, looks: int, forgotten: int) -> str:
    low, high = search.limits_deg
    others = f", {forgotten} spots were not there twice" if forgotten else ""
    return (
        f"no Bragg peak in {looks} sweeps from {low:.5g} to {high:.5g} deg{others}; look elsewhere on the sample,"
        " or count longer"
    )


def coarse_rows(search: Search) -> Iterator[list[Sweep]]:
    """All of the region, the nearest to the start first: sweeps along the swept rotation, in rows across it."""
    for across in _outwards(search.across_start_deg, search.across_limits_deg, 2 * search.reach_deg):
        low, high = search.limits_deg
        count = max(1, math.ceil((high - low) / search.coarse_deg - 1e-9))
        edges = [low + (high - low) * number / count for number in range(count + 1)]
        sweeps = [Sweep(low_deg=a, high_deg=b, across_deg=across) for a, b in pairwise(edges)]
        yield sorted(sweeps, key=lambda sweep: abs(sweep.middle_deg - search.start_deg))


def _outwards(start: float, limits: tuple[float, float], step: float) -> Iterator[float]:
    low, high = limits
    yield start
    if not math.isfinite(step):
        return
    # what is at most half a step beyond an end was seen from there
    most = math.ceil(max(start - low, high - start) / step - 0.5 - 1e-9)
    for number in range(1, most + 1):
        for sign in (1, -1):
            place = min(max(start + sign * number * step, low), high)
            if abs(place - (start + sign * number * step)) <= step / 2:
                yield place


def _candidates(row: Sequence[Swept], seen: Sequence[Swept], search: Search) -> list[tuple[Swept, Spot]]:
    """What comes and goes as a Bragg peak does: bright ones first, and of these the nearest to where the peak is
    expected."""
    able = [(swept, spot) for swept in row for spot in swept.spots if not _is_static(spot, swept, seen, search)]
    bright = max((_passed(*each) for each in able), default=0.0)
    return sorted(able, key=lambda each: (_passed(*each) < _DIM * bright, _distance(each[1], search.pixel)))


def _distance(spot: Spot, pixel: tuple[float, float]) -> float:
    return math.hypot(spot.row - pixel[0], spot.column - pixel[1])


def _is_near(one: Spot, other: Spot) -> bool:
    return math.hypot(one.row - other.row, one.column - other.column) <= _NEAR_PX


def _is_static(spot: Spot, swept: Swept, seen: Sequence[Swept], search: Search) -> bool:
    """Whether it was as bright in a sweep that is apart from this one, where a peak would not be: it is no peak of
    a crystal, or not one of a crystal that turns with the sample."""
    for other in seen:
        gap = max(other.sweep.low_deg - swept.sweep.high_deg, swept.sweep.low_deg - other.sweep.high_deg)
        if gap < search.fine_deg or other.sweep.across_deg != swept.sweep.across_deg:
            continue
        rate = spot.counts / swept.dose_s
        if any(_is_near(spot, each) and each.counts / other.dose_s > _STATIC * rate for each in other.spots):
            return True
    return False


def _followed(swept: Swept, spot: Spot, seen: Sequence[Swept], search: Search) -> Sweep | Found | None:
    """Into the half of its sweep that has most of it, and so on; None where what should be there is not."""
    sweep, sure, has = swept.sweep, True, _passed(swept, spot)
    whole = swept, has
    while not sure or sweep.span_deg > search.fine_deg * (1 + 1e-9):
        first, second = (sweep, None) if sweep.span_deg <= search.fine_deg * (1 + 1e-9) else _halves(sweep, search)
        there = _look(seen, first)
        if there is None:
            return first
        again = _again(there, spot)
        found = 0.0 if again is None else _passed(there, again)
        if again is not None and found >= (_HALF if second else _THERE) * has:
            sweep, spot, sure, has = first, again, True, found
            if sweep.span_deg < swept.sweep.span_deg / _SHORTER and found < _passed_by_static(whole, sweep):
                return None
        elif second is None:
            return None
        else:  # in the other half, then, which is looked at when it has become as short as can be
            sweep, sure, has = second, False, has - found
    return Found(
        angle_deg=sweep.middle_deg,
        std_deg=sweep.span_deg / math.sqrt(12),
        across_deg=sweep.across_deg,
        spot=spot,
        looks=len(seen),
    )


def _passed_by_static(whole: tuple[Swept, float], sweep: Sweep) -> float:
    """Half as much again as a part of a sweep would pass of what counts all the while: a peak has more."""
    swept, has = whole
    return 1.5 * has * sweep.span_deg / swept.sweep.span_deg


def _halves(sweep: Sweep, search: Search) -> tuple[Sweep, Sweep]:
    """The one nearer to where the search began first."""
    lower, upper = replace(sweep, high_deg=sweep.middle_deg), replace(sweep, low_deg=sweep.middle_deg)
    return (lower, upper) if search.start_deg <= sweep.middle_deg else (upper, lower)


def _look(seen: Sequence[Swept], sweep: Sweep) -> Swept | None:
    return next((each for each in seen if each.sweep == sweep), None)


def _passed(swept: Swept, spot: Spot) -> float:
    """Counts times degrees a second: the same for all sweeps that pass the whole of a peak."""
    return spot.counts / swept.dose_s * swept.sweep.span_deg


def _again(swept: Swept, spot: Spot) -> Spot | None:
    """The spot as this sweep saw it, at its place."""
    near = [each for each in swept.spots if _is_near(each, spot)]
    return max(near, key=lambda each: each.counts, default=None)
