"""Which of many repeats of a scan are no good, and why.

What a scan says of itself is compared with what the others say: a number is too high where it is above the median
by more than four standard deviations, taken from the median of the deviations, which bad scans do not move (a mean
and its standard deviation they do).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..aliens import find_aliens
from ..combine import Pattern, correlation, shifted
from ..preprocess import Report, crop_centred
from ..registration import locate
from ..types import DiffractionVolume, RockingScan, ScanError, Vector
from .between import brightness, usual_monitor

FEWEST = 5  # scans of which a median says what is usual
_SIGMAS = 4.0
_TO_SIGMA = 1.4826  # of the median of the deviations, for a normal distribution
_EDGE = 32  # voxels about the peak that are compared
_REFERENCES = 3
_LOST = 0.2  # of the usual brightness: no crystal
_BEAM_HALF = 0.5  # of the usual monitor
FRAMES_TO_END = 3.0  # nearer, a part of the peak was not seen
_STANDS_OUT = 5.0  # standard deviations: the brightest place of a background alone has 4
_FEW_FRAMES = 0.05  # of a scan, that may be masked
_GAP = 0.01  # of the peak's window, that may be masked besides what is in all scans
_BEAM_LOST = "the monitor is at {:.0%} of the usual: the beam was lost"
_JUMP_WIDTH = 6.0  # pixels, of the Gaussian under which the frames before and after a jump are seen
_SPLITS = 4  # frames about the peak's: farther off too little of it is on the other side


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ScanFacts:
    """What is compared of a scan. `brightness` is its peak's counts above the background over its monitor;
    `monitor` is NaN where there is none; `frames_to_end` is from the peak to the nearer end of the scan;
    `measured` is the share of the peak's window that was; `alien` is a share of the peak's counts, `pattern` the
    (intensity, mask) about it, moved so that it is on the middle voxel. The rest are numbers of `frames`, or of
    pixels and voxels."""

    brightness: float
    monitor: float
    frames_to_end: float
    measured: float
    frames: int
    missing: int
    without_beam: int
    stale: int
    hot: int
    saturated: int
    alien: float
    pattern: Pattern


def scan_facts(scan: RockingScan, volume: DiffractionVolume, report: Report) -> ScanFacts:
    """Of a scan, its volume and the report of `preprocess.prepare`. Raises ScanError as `locate` does, and where
    no peak stands out."""
    place = locate(volume.intensity, volume.mask)
    if not place.stands_out > _STANDS_OUT:
        raise ScanError(
            f"{scan.name}: no peak stands out; its brightest place has {place.counts:.3g} counts where the"
            f" background has {place.background:.3g}: the crystal is lost, or far too dim"
        )
    _, aliens = find_aliens(volume.intensity, volume.mask, place.voxel)
    return ScanFacts(
        brightness=brightness(place, scan),
        monitor=usual_monitor(scan),
        frames_to_end=min(report.centre[0], len(scan.intensity) - 1 - report.centre[0]),
        measured=place.measured,
        frames=len(scan.intensity),
        missing=report.masked["missing"],
        without_beam=report.masked["without beam"],
        stale=report.masked["read twice"],
        hot=report.masked["hot"] + report.masked["flashing"],
        saturated=report.masked["saturated"],
        alien=sum(alien.counts for alien in aliens) / place.counts,
        pattern=_centred(volume, place.voxel),
    )


def _centred(volume: DiffractionVolume, place: Vector) -> Pattern:
    middle = (round(place[0]), round(place[1]), round(place[2]))
    cropped = crop_centred(volume.intensity, volume.mask, middle, (_EDGE, _EDGE, _EDGE))
    return shifted(cropped, (middle[0] - place[0], middle[1] - place[1], middle[2] - place[2]))


def outliers(facts: Sequence[ScanFacts]) -> tuple[tuple[str, ...], ...]:
    """What is wrong with each of many repeats; nothing of the good ones, and of all where there are fewer than
    FEWEST."""
    if len(facts) < FEWEST:
        return tuple(() for _ in facts)
    usual = Usual(facts)
    return tuple(usual.wrong_with(each) for each in facts)


def left_out(facts: Sequence[ScanFacts]) -> tuple[tuple[str, ...], ...]:
    """Why each of many repeats should be left out of their sum: what `outliers` says, but for a few masked frames
    away from the peak, without which the rest is as good as the others'."""
    measured = float(np.median([each.measured for each in facts])) if facts else 1.0

    def harmless(each: ScanFacts) -> bool:
        few = each.missing + each.without_beam + each.stale <= _FEW_FRAMES * each.frames
        return few and each.measured > measured - _GAP

    return outliers(
        [replace(each, missing=0, without_beam=0, stale=0) if harmless(each) else each for each in facts]
    )


def unusable(scan: RockingScan, error: ScanError, others: Sequence[RockingScan]) -> str:
    """Why a scan that cannot be prepared, or has no facts, should be left out of a sum with others."""
    monitors = [usual_monitor(each) for each in (scan, *others) if each.monitor is not None]
    usual = np.nanmedian(monitors[1:]) if len(monitors) == 1 + len(others) > 1 else np.nan
    if usual > 0 and monitors[0] < _BEAM_HALF * usual:
        return _BEAM_LOST.format(monitors[0] / usual)
    return f"it cannot be used: {error}"


def not_seen(each: ScanFacts, usual: Sequence[ScanFacts]) -> list[str]:
    """Why a scan did not see the crystal, next to others that did; empty where it did, and where there are no
    others."""
    monitors = [other.monitor for other in usual if np.isfinite(other.monitor)]
    if monitors and np.isfinite(each.monitor) and each.monitor < _BEAM_HALF * np.median(monitors):
        return [_BEAM_LOST.format(each.monitor / np.median(monitors))]
    known = [other.brightness for other in usual if np.isfinite(other.monitor) == np.isfinite(each.monitor)]
    if known and each.brightness < _LOST * np.median(known):
        share = each.brightness / np.median(known)
        return [f"the peak has {share:.1%} of the usual counts: the crystal is lost"]
    return []


_Number = Callable[[ScanFacts], float]


class Usual:
    """What is usual of some scans, FEWEST or more: the judge of a repeat in a sum and of a scan in a series."""

    def __init__(self, facts: Sequence[ScanFacts]) -> None:
        """Limits are in one place; a number has a limit that NaN never is above."""
        self._facts = tuple(facts)
        pattern = _most_like(facts)
        judged: list[tuple[_Number, float, str]] = [
            (lambda each: each.missing, 0, "{:.0f} frames are missing"),
            (lambda each: each.without_beam, 0, "{:.0f} frames had no beam"),
            (lambda each: each.stale, 0, "{:.0f} frames are the one before them"),
            (lambda each: each.hot, 2, "{:.0f} pixels and voxels are hot"),
            (lambda each: each.saturated, 2, "{:.0f} voxels are saturated"),
            (lambda each: each.alien, 0.01, "another crystal has {:.1%} of the peak's counts"),
            (
                lambda each: 1 - correlation(pattern, each.pattern),
                0.01,
                "its pattern differs from the others' (1 - correlation {:.3f})",
            ),
            (lambda each: _jump(each.pattern, pattern), 0.1, "it jumped by {:.1f} pixels within the scan"),
        ]
        self._limits = [
            (number, _limit(np.array([number(each) for each in facts], np.float64), floor), sentence)
            for number, floor, sentence in judged
        ]

    def wrong_with(self, each: ScanFacts) -> tuple[str, ...]:
        """A sentence for each thing; none for a good scan."""
        found = not_seen(each, self._facts)
        if each.frames_to_end < FRAMES_TO_END:
            found.append(
                f"the peak is {each.frames_to_end:.1f} frames from the end of the scan: the crystal turned away"
            )
        values = [(number(each), limit, sentence) for number, limit, sentence in self._limits]
        return (*found, *(sentence.format(value) for value, limit, sentence in values if value > limit))


def _limit(values: NDArray[np.float64], floor: float) -> float:
    """Above the median by `floor` and four standard deviations, whichever is more."""
    if not np.isfinite(values).any():
        return float("inf")
    middle = float(np.nanmedian(values))
    return middle + max(_SIGMAS * _TO_SIGMA * float(np.nanmedian(np.abs(values - middle))), floor)


def _most_like(facts: Sequence[ScanFacts]) -> Pattern:
    """Of the few scans whose brightness is nearest to the median's, the one that is most like the others."""
    bright = np.array([each.brightness for each in facts])
    nearest = np.argsort(np.abs(bright - np.median(bright)))[:_REFERENCES]
    patterns = [facts[number].pattern for number in nearest]
    off = [np.median([1 - correlation(pattern, each.pattern) for each in facts]) for pattern in patterns]
    return facts[int(nearest[np.argmin(np.nan_to_num(off, nan=2.0))])].pattern


def _jump(pattern: Pattern, usual: Pattern) -> float:
    """By how many pixels more the later frames moved than the earlier ones, from the usual pattern: the most of
    what the frames about the peak, each taken as the first of the later ones, say."""
    seen = ~(pattern[1] | usual[1])
    (early, late), (usual_early, usual_late) = (
        _places_of_parts(np.where(seen, intensity, 0)) for intensity, _ in (pattern, usual)
    )
    return float(np.linalg.norm((late - usual_late) - (early - usual_early), axis=1).max())


def _places_of_parts(counts: NDArray[np.float32]) -> NDArray[np.float64]:
    """Centres of mass (2, splits, 2), row and column, of the frames before each split and of those from it on,
    under a Gaussian about the middle."""
    axis = np.arange(_EDGE) - _EDGE // 2
    window = np.exp(-(axis**2) / (2 * _JUMP_WIDTH**2))
    under = counts.astype(np.float64) * np.outer(window, window)
    moments = np.stack([under.sum(axis=(1, 2)), under.sum(axis=2) @ axis, under.sum(axis=1) @ axis], axis=1)
    early = np.cumsum(moments, axis=0)[_EDGE // 2 - _SPLITS - 1 : _EDGE // 2 + _SPLITS]
    late = moments.sum(axis=0) - early
    return np.stack([part[:, 1:] / np.maximum(part[:, :1], 1) for part in (early, late)])
