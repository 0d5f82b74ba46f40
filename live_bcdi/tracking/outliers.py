"""Which of many repeats of a scan are no good, and why.

What a scan says of itself is compared with what the others say: a number is too high where it is above the median
by more than four standard deviations, taken from the median of the deviations, which bad scans do not move (a mean
and its standard deviation they do).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..aliens import find_aliens
from ..combine import Pattern, correlation, shifted
from ..preprocess import Report, crop_centred
from ..registration import locate
from ..types import BoolArray, DiffractionVolume, RockingScan, ScanError, Vector

FEWEST = 5  # scans of which a median says what is usual
_SIGMAS = 4.0
_TO_SIGMA = 1.4826  # of the median of the deviations, for a normal distribution
_EDGE = 32  # voxels about the peak that are compared
_REFERENCES = 3
_LOST = 0.2  # of the usual brightness: no crystal
_BEAM_HALF = 0.5  # of the usual monitor
_FRAMES_TO_END = 3.0
_BEAM_LOST = "the monitor is at {:.0%} of the usual: the beam was lost"
_JUMP_WIDTH = 6.0  # pixels, of the Gaussian under which both halves of a scan are seen
_STALE_COUNTS = 50  # two frames of so many counts that are the same to the last one are one frame, read twice


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ScanFacts:
    """What is compared of a scan. `brightness` is its peak's counts over its monitor; `monitor` is NaN where there
    is none; `frames_to_end` is from the peak to the nearer end of the scan; `alien` is a share of the peak's
    counts, `pattern` the (intensity, mask) about it, moved so that it is on the middle voxel. The rest are numbers
    of frames, or of pixels and voxels."""

    brightness: float
    monitor: float
    frames_to_end: float
    missing: int
    without_beam: int
    stale: int
    hot: int
    saturated: int
    alien: float
    pattern: Pattern


def scan_facts(scan: RockingScan, volume: DiffractionVolume, report: Report) -> ScanFacts:
    """Of a scan, its volume and the report of `preprocess.prepare`. Raises ScanError as `locate` does."""
    place = locate(volume.intensity, volume.mask)
    monitor = np.nan if scan.monitor is None else _usual(np.asarray(scan.monitor, np.float64))
    usable = np.isfinite(monitor) and monitor > 0
    _, aliens = find_aliens(volume.intensity, volume.mask, place.voxel)
    return ScanFacts(
        brightness=place.counts / (monitor if usable else 1.0),
        monitor=monitor,
        frames_to_end=min(report.centre[0], len(scan.intensity) - 1 - report.centre[0]),
        missing=report.masked["missing"],
        without_beam=report.masked["without beam"],
        stale=int(stale_frames(scan).sum()),
        hot=report.masked["hot"] + report.masked["flashing"],
        saturated=report.masked["saturated"],
        alien=sum(alien.counts for alien in aliens) / place.counts,
        pattern=_centred(volume, place.voxel),
    )


def _centred(volume: DiffractionVolume, place: Vector) -> Pattern:
    middle = (round(place[0]), round(place[1]), round(place[2]))
    cropped = crop_centred(volume.intensity, volume.mask, middle, (_EDGE, _EDGE, _EDGE))
    return shifted(cropped, (middle[0] - place[0], middle[1] - place[1], middle[2] - place[2]))


def _usual(monitor: NDArray[np.float64]) -> float:
    known = monitor[np.isfinite(monitor)]
    return float(np.median(known)) if len(known) else float("nan")


def stale_frames(scan: RockingScan) -> BoolArray:
    """Which frames are the one before them, count by count: a detector gave them twice, (frames,)."""
    have = np.ones(len(scan.intensity), bool) if scan.have is None else np.asarray(scan.have, bool)
    made = np.zeros(len(have), bool)
    for before, after in pairwise(np.flatnonzero(have)):
        bright = float(scan.intensity[after].sum(dtype=np.float64)) >= _STALE_COUNTS
        made[after] = bright and np.array_equal(scan.intensity[before], scan.intensity[after])
    return made


def outliers(facts: Sequence[ScanFacts]) -> tuple[tuple[str, ...], ...]:
    """Why each of many repeats should be left out; nothing for the good ones, and for all where there are fewer
    than FEWEST."""
    if len(facts) < FEWEST:
        return tuple(() for _ in facts)
    reasons: list[list[str]] = [[] for _ in facts]

    def judge(values: Sequence[float], floor: float, sentence: str) -> None:
        for number in _too_high(np.asarray(values, np.float64), floor):
            reasons[number].append(sentence.format(values[number]))

    for number, each in enumerate(facts):
        reasons[number] += not_seen(each, facts)
    judge([each.missing for each in facts], 0, "{:.0f} frames are missing")
    judge([each.without_beam for each in facts], 0, "{:.0f} frames had no beam")
    judge([each.stale for each in facts], 0, "{:.0f} frames are the one before them")
    judge([each.hot for each in facts], 2, "{:.0f} pixels and voxels are hot")
    judge([each.saturated for each in facts], 2, "{:.0f} voxels are saturated")
    judge([each.alien for each in facts], 0.01, "another crystal has {:.1%} of the peak's counts")
    unlike, usual = _unlike(facts)
    judge(unlike, 0.01, "its pattern differs from the others' (1 - correlation {:.3f})")
    jumps = [_jump(each.pattern, facts[usual].pattern) for each in facts]
    judge(jumps, 0.1, "it jumped by {:.1f} pixels within the scan")
    return tuple(tuple(each) for each in reasons)


def unusable(scan: RockingScan, error: ScanError, others: Sequence[RockingScan]) -> str:
    """Why a scan that cannot be prepared, or has no facts, should be left out of a sum with others."""
    monitors = [_usual(np.asarray(each.monitor)) for each in (scan, *others) if each.monitor is not None]
    usual = np.nanmedian(monitors[1:]) if len(monitors) == 1 + len(others) > 1 else np.nan
    if usual > 0 and monitors[0] < _BEAM_HALF * usual:
        return _BEAM_LOST.format(monitors[0] / usual)
    return f"it cannot be used: {error}"


def not_seen(each: ScanFacts, facts: Sequence[ScanFacts]) -> list[str]:
    """Why a scan did not see the crystal, or not where it is, next to others about its time; empty where it
    did."""
    found = []
    brightness = each.brightness / float(np.median([other.brightness for other in facts]))
    monitors = [other.monitor for other in facts if np.isfinite(other.monitor)]
    if monitors and np.isfinite(each.monitor) and each.monitor < _BEAM_HALF * np.median(monitors):
        found.append(_BEAM_LOST.format(each.monitor / np.median(monitors)))
    elif brightness < _LOST:
        found.append(f"the peak has {brightness:.1%} of the usual counts: the crystal is lost")
    if each.frames_to_end < _FRAMES_TO_END:
        found.append(
            f"the peak is {each.frames_to_end:.1f} frames from the end of the scan: the crystal turned away"
        )
    return found


def _too_high(values: NDArray[np.float64], floor: float) -> list[int]:
    """Which are above the median by more than `floor` and four standard deviations; NaN never is."""
    if not np.isfinite(values).any():
        return []
    middle = float(np.nanmedian(values))
    spread = _TO_SIGMA * float(np.nanmedian(np.abs(values - middle)))
    return np.flatnonzero(values > middle + max(_SIGMAS * spread, floor)).tolist()


def _unlike(facts: Sequence[ScanFacts]) -> tuple[list[float], int]:
    """1 - the correlation of each pattern with that of a usual scan, NaN where there are too few counts to say;
    and which scan that is.

    The usual scan is, of the few whose brightness is nearest to the median's, the one most like the others.
    """
    brightness = np.array([each.brightness for each in facts])
    nearest = np.argsort(np.abs(brightness - np.median(brightness)))[:_REFERENCES]
    rows = [[1 - correlation(facts[number].pattern, each.pattern) for each in facts] for number in nearest]
    best = min(range(len(rows)), key=lambda row: float(np.nan_to_num(np.median(rows[row]), nan=2.0)))
    return rows[best], int(nearest[best])


def _jump(pattern: Pattern, usual: Pattern) -> float:
    """By how many pixels more the second half of the frames moved than the first, from the usual pattern."""
    seen = ~(pattern[1] | usual[1])
    before, after = (_half_places(np.where(seen, intensity, 0)) for intensity, _ in (pattern, usual))
    moved = before - after
    return float(np.linalg.norm(moved[1] - moved[0]))


def _half_places(counts: NDArray[np.float32]) -> NDArray[np.float64]:
    """Centres of mass (2, 2), row and column, of both halves of the frames, under a Gaussian about the middle."""
    axis = np.arange(_EDGE) - _EDGE // 2
    window = np.exp(-(axis**2) / (2 * _JUMP_WIDTH**2))
    places = []
    for half in (counts[: _EDGE // 2], counts[_EDGE // 2 :]):
        under = half.sum(axis=0, dtype=np.float64) * np.outer(window, window)
        total = max(float(under.sum()), 1.0)
        places.append([float(under.sum(axis=1) @ axis) / total, float(under.sum(axis=0) @ axis) / total])
    return np.array(places)
