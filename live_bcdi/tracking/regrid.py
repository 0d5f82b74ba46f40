"""A scan of a crystal that moved, onto the even angles that phase retrieval wants."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..preprocess import monitor_scale, scan_mask
from ..types import BoolArray, FloatArray, FrameArray, RockingScan, ScanError, TrackingResult
from .band import Floats, band_of

_FLOOR = 0.05  # counts, of a pixel's variance
_LOOSE = 100.0
_WIDER = 1.2  # than the cutoff: what is kept of a pixel should lose nothing of the crystal
_NEAR = 0.75  # steps: a place with no frame so near was not measured
_CHUNK = 2048
_SIGMAS = 5.0  # of the sum of squares: a pattern that stands where it should is not moved about


def regrid(scan: RockingScan, tracking: TrackingResult) -> RockingScan:
    """The scan as frames at even angles would have had it, float32; `have` is False where no frame was near.

    Each pixel's band-limited series through its counts at the true angles, by least squares, evaluated at the
    file's even angles, and without the blur of frames that turned while they counted: of a crystal that is
    oversampled enough to be tracked it took little, and counting noise grows little where it is undone. Counts are
    scaled to one monitor reading. What `preprocess.scan_mask` masks is not used, and what is near it is -1, as no
    reading. Noise is smoothed over neighbouring frames: chi and the free log-likelihood of such a scan are
    smaller than Poisson's, and not to be compared with those of another. Shifts on the detector (`refine_angles`)
    are undone first where they are more than their error bars allow. Where `tracking` corrected nothing, the scan
    itself, less frames that it would not use. Raises ScanError where the two do not belong together.
    """
    if len(tracking.angles_deg) != len(scan.intensity):
        raise ScanError(
            f"{scan.name}: {len(scan.intensity)} frames, but the tracking is of {len(tracking.angles_deg)}"
        )
    have = np.isfinite(tracking.angles_deg)
    if not tracking.corrected:
        there = np.ones(len(have), bool) if scan.have is None else scan.have
        return scan if not (there & ~have).any() else replace(scan, have=there & have)
    start, slope = even_angles(scan.angles_deg, have)
    scale = np.ones(len(have)) if scan.monitor is None else monitor_scale(scan.monitor, have)[0]
    even = np.arange(len(have), dtype=np.float64)
    places = _Places(
        true=(tracking.angles_deg[have] - start) / slope,
        even=even,
        cutoff=tracking.cutoff,
        smear=abs((scan.angular_blur_deg or 0.0) / slope),
    )
    near = np.asarray(places.near().any(axis=1))
    counts, used = _undone(scan.intensity[have], ~scan_mask(scan, have)[0][have], _shifts(tracking)[have])
    made = _frames(counts, used, scale[have], places)
    made[~near] = 0
    return replace(
        scan,
        intensity=made,
        angles_deg=start + slope * even,
        have=near,
        angular_blur_deg=None,
        saturation_counts=None,
        monitor=None if scan.monitor is None else np.full(len(have), float(np.nanmedian(scale * scan.monitor))),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Places:
    """Where frames were, and where they are wanted, in steps."""

    true: Floats
    even: Floats
    cutoff: float
    smear: float

    def near(self) -> BoolArray:
        """(even, true)"""
        return np.asarray(np.abs(self.even[:, None] - self.true) <= _NEAR)


def _shifts(tracking: TrackingResult) -> Floats:
    """Of the pattern, (frames, 2) in pixels; those along an axis where they are no more than noise are 0."""
    made = np.zeros((len(tracking.angles_deg), 2))
    along = (tracking.row_shift, tracking.row_shift_std), (tracking.column_shift, tracking.column_shift_std)
    for axis, (shift, std) in enumerate(along):
        if shift is None or std is None:
            continue
        seen = (shift / std)[np.isfinite(shift)] ** 2
        if seen.sum() > len(seen) + _SIGMAS * np.sqrt(2 * len(seen)):
            made[:, axis] = np.nan_to_num(shift)
    return made


def _undone(counts: FrameArray, used: BoolArray, shifts: Floats) -> tuple[FrameArray, BoolArray]:
    """Frames with the pattern where it belongs, by cubic splines; beside a pixel that is not `used` none is."""
    if not shifts.any():
        return counts, used
    made, good = np.empty(counts.shape, np.float32), np.empty(counts.shape, bool)
    for k, shift in enumerate(-shifts):
        kept = np.where(used[k], counts[k], 0).astype(np.float64)
        share = ndimage.gaussian_filter(used[k].astype(np.float64), 1.0)
        filled = np.where(used[k], kept, ndimage.gaussian_filter(kept, 1.0) / np.maximum(share, 1e-6))
        made[k] = np.maximum(ndimage.shift(filled, shift, mode="nearest"), 0)
        lost = ndimage.shift((~used[k]).astype(np.float64), shift, order=1, mode="nearest")
        good[k] = lost < 1e-6
    return np.where(good, made, 0), good


def _frames(counts: FrameArray, used: BoolArray, scale: Floats, places: _Places) -> NDArray[np.float32]:
    """(even, rows, columns), -1 where a frame is near in which the pixel is not `used`."""
    flat, good = counts.reshape(len(counts), -1), used.reshape(len(counts), -1)
    made = np.empty((len(places.even), flat.shape[1]), np.float32)
    near = places.near().astype(np.float32)
    for first in range(0, flat.shape[1], _CHUNK):
        here = slice(first, first + _CHUNK)
        kept = good[:, here]
        scaled = np.where(kept, flat[:, here], 0) * scale[:, None]
        found = evaluated(scaled, places.true, places.even, cutoff=places.cutoff, smear=places.smear, used=kept)
        made[:, here] = np.where(near @ ~kept > 0, -1, found)
    return made.reshape(len(places.even), *counts.shape[1:])


def even_angles(angles_deg: FloatArray, have: BoolArray) -> tuple[float, float]:
    """The even angles nearest to the file's: that of frame 0, and the step."""
    index = np.flatnonzero(have)
    slope, start = np.polyfit(index, np.asarray(angles_deg, np.float64)[index], 1)
    return float(start), float(slope)


def evaluated(
    counts: Floats,
    true: Floats,
    even: Floats,
    *,
    cutoff: float,
    smear: float = 0.0,
    used: BoolArray | None = None,
) -> Floats:
    """Least squares of (frames, pixels) counts with weights that fall with a frame's brightness, at `even`. What
    is not `used` (its counts must be 0) has no weight; a pixel that has nothing else is 0."""
    good = np.ones(counts.shape, bool) if used is None else used
    band = band_of(even, _WIDER * cutoff)
    values, wanted = replace(band, smear=smear).values(true), band.values(even)
    weight = 1 / (counts.sum(axis=1) / np.maximum(good.sum(axis=1), 1) + _FLOOR)
    made = np.zeros((len(even), counts.shape[1]))
    patterns, which = np.unique(good, axis=1, return_inverse=True)
    for number, pattern in enumerate(patterns.T):
        pixels = np.flatnonzero(which.ravel() == number)
        if not pattern.any():
            continue
        weighted = (weight * pattern)[:, None] * values
        gram = values.T @ weighted
        gram += np.eye(band.terms) * np.trace(gram) / band.terms / _LOOSE**2
        made[:, pixels] = wanted @ np.linalg.solve(gram, weighted.T @ counts[:, pixels])
    return np.maximum(made, 0)
