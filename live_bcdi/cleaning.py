"""Counts that are not the crystal's: dead and hot pixels, flashes, the dark current, an even background.

Pure functions. What tells them is that an oversampled pattern is smooth over a pixel: where one stands alone,
above or below all around it, it is the detector's.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
from scipy import ndimage

from .types import BoolArray, FloatArray, FrameArray, RockingScan, ScanError

# Neighbours that count this often leave a working pixel at zero with probability e^-14, once in a megapixel. (In
# simulated patterns, between fringes that the mean does not follow, it happens once in 5,000 at the worst.)
_DEAD_EXPECTED = 14.0
_DEAD_WINDOW = 7
# An oversampled pattern has no pixel this many times as bright as all 8 around it; and so many counts above them
# are no chance (a voxel of expectation 1 counts 20 once in 10^18).
_HOT_FACTOR, _HOT_COUNTS = 10.0, 20.0
# A pixel that is hot throughout need not stand out in any frame. Its median tells it, by this many counts.
_HOT_MEDIAN_COUNTS = 10.0
# A pixel whose dark counts are so far above the median pixel's (in standard deviations, by the median of the
# deviations) is not corrected but masked.
_HOT_DARK_SIGMA = 10.0
# Corners of the scan: this share of each edge.
_CORNER = 0.125
_FEWEST_VOXELS = 100
_STALE_COUNTS = 50  # two frames of so many counts that are the same to the last one are one frame, read twice

_RING = np.ones((3, 3), bool)
_RING[1, 1] = False


def unreadable(intensity: FrameArray) -> BoolArray:
    """True where a number is not a count but a detector's code for "no reading": negative, or, of an unsigned
    type, all bits set (as Dectris writes its gaps)."""
    if intensity.dtype.kind == "u":
        return np.asarray(intensity == np.iinfo(intensity.dtype.name).max)
    return np.asarray(intensity < 0)


def counts_of(image: FrameArray) -> FrameArray:
    """`image`, with zero where there is no reading; not a copy where all pixels have one."""
    bad = unreadable(image)
    if not bad.any():
        return image
    counts = image.copy()
    np.copyto(counts, 0, where=bad)  # ten times as fast as np.where
    return counts


def dead_pixels(intensity: FrameArray) -> BoolArray:
    """(row, column) True where a pixel never counts over the scan although the pixels around it do.

    What it would count is the geometric mean of those that count in the 7 x 7 around it: the arithmetic one is
    that of the brightest, which say little about a pixel at the foot of a fringe. Gaps of up to 5 are found.
    """
    totals = intensity.sum(axis=0, dtype=np.float64)
    counting = totals > 0
    filled = ndimage.uniform_filter(counting.astype(np.float64), _DEAD_WINDOW, mode="reflect")
    logs = ndimage.uniform_filter(np.log(np.where(counting, totals, 1)), _DEAD_WINDOW, mode="reflect")
    around = np.exp(logs / np.maximum(filled, 1e-9))
    # at least a quarter of the window must count: else it is the dark outside of the pattern
    return np.asarray(~counting & (around >= _DEAD_EXPECTED) & (filled >= 0.25))


def hot_pixels(intensity: FrameArray, have: BoolArray | None = None) -> BoolArray:
    """(row, column) True where a pixel counts far more over the scan than all 8 around it, or its median over the
    scan is far above that of most around it (then also beside other hot ones)."""
    frames = intensity if have is None else intensity[have]
    totals = frames.sum(axis=0, dtype=np.float64)
    around = ndimage.maximum_filter(totals, footprint=_RING, mode="reflect")
    median = np.median(frames, axis=0).astype(np.float64)  # scipy filters no float16
    usual = ndimage.median_filter(median, footprint=_RING, mode="reflect")
    alone = totals > _HOT_FACTOR * around + _HOT_COUNTS
    return np.asarray(alone | (median > np.maximum(_HOT_FACTOR * usual, _HOT_MEDIAN_COUNTS)))


def stale_frames(scan: RockingScan) -> BoolArray:
    """Which frames are the one before them, count by count: a detector gave them twice, (frames,)."""
    have = np.ones(len(scan.intensity), bool) if scan.have is None else np.asarray(scan.have, bool)
    made = np.zeros(len(have), bool)
    for before, after in pairwise(np.flatnonzero(have)):
        same = np.array_equal(scan.intensity[before], scan.intensity[after])
        made[after] = same and float(scan.intensity[after].sum(dtype=np.float64)) >= _STALE_COUNTS
    return made


def flashes(intensity: FrameArray) -> BoolArray:
    """(rocking, row, column) True where a voxel stands far above all 8 neighbours in its frame: a cosmic ray or a
    pixel that is hot for a while, not diffraction. The frames before and after are not asked, as it may last."""
    found = np.zeros(intensity.shape, bool)
    bright = np.argwhere(intensity > _HOT_COUNTS)
    padded = np.pad(intensity, ((0, 0), (1, 1), (1, 1)))
    around = np.zeros(len(bright), intensity.dtype)
    for row, column in np.argwhere(_RING):
        np.maximum(around, padded[tuple((bright + np.array([0, row, column])).T)], out=around)
    here = intensity[tuple(bright.T)]
    found[tuple(bright[here > _HOT_FACTOR * around + _HOT_COUNTS].T)] = True
    return found


def without_dark(scan: RockingScan, dark: FloatArray) -> RockingScan:
    """The scan less `dark` (row, column), the mean counts of a frame without beam, never below 0.

    Pixels whose dark counts are far above the others', or unknown, become bad ones; saturated and unreadable
    voxels stay unusable (-1). For detectors that integrate; those that count photons have no dark to take off.
    Raises ScanError where the shape is not the frames'.
    """
    if dark.shape != scan.intensity.shape[1:]:
        raise ScanError(f"the dark frame is {dark.shape}, frames are {scan.intensity.shape[1:]}; crop it alike")
    known = np.isfinite(dark)
    middle = float(np.median(dark[known])) if known.any() else 0.0
    spread = 1.4826 * float(np.median(np.abs(dark[known] - middle))) if known.any() else 0.0
    bad = ~known | (dark > middle + _HOT_DARK_SIGMA * max(spread, 0.1))
    lost = unreadable(scan.intensity)
    if scan.saturation_counts is not None:
        lost = lost | (scan.intensity >= scan.saturation_counts)
    counts = np.maximum(scan.intensity - np.where(known, dark, 0), 0)
    return replace(
        scan,
        intensity=np.where(lost, -1, counts).astype(np.float32),
        bad_pixels=bad if scan.bad_pixels is None else bad | scan.bad_pixels,
        saturation_counts=None,
    )


def background_counts(intensity: FloatArray, mask: BoolArray) -> float:
    """Even background in counts a voxel: the median over the scan's eight corners of their mean.

    The mean, as most voxels count nothing; the median, as a streak may run into some of the corners. Raises
    ScanError where fewer than four corners were measured.
    """
    means = []
    edges = [max(round(_CORNER * n), 1) for n in intensity.shape]
    for side in np.ndindex(2, 2, 2):
        corner = tuple(slice(None, edge) if low == 0 else slice(-edge, None) for low, edge in zip(side, edges))
        used = ~mask[corner]
        if np.count_nonzero(used) >= _FEWEST_VOXELS:
            means.append(float(intensity[corner][used].mean()))
    if len(means) < 4:
        raise ScanError("the scan's corners are masked or too small to take a background from; give a number")
    return float(np.median(means))


def without_background(intensity: FloatArray, counts: float) -> FloatArray:
    """Counts less the background, never below 0."""
    return np.asarray(np.maximum(intensity - counts, 0))
