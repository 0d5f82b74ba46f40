"""Counts that are not the crystal's: pixels that flash in one frame, and an even background. Pure functions."""

import numpy as np

from .types import BoolArray, FloatArray, FrameArray, ScanError

# An oversampled pattern has no voxel this many times as bright as all 26 around it; and so many counts above
# them are no chance (a voxel of expectation 1 counts 20 once in 10^18).
_FLASH_FACTOR, _FLASH_COUNTS = 10.0, 20.0
# Corners of the scan: this share of each edge.
_CORNER = 0.125
_FEWEST_VOXELS = 100


def flashes(intensity: FrameArray) -> BoolArray:
    """(rocking, row, column) True where a voxel stands far above every neighbour in its frame and in the frames
    before and after: a cosmic ray or a pixel that flashes, not diffraction."""
    found = np.zeros(intensity.shape, bool)
    bright = np.argwhere(intensity > _FLASH_COUNTS)
    padded = np.pad(intensity, 1)
    around = np.zeros(len(bright), intensity.dtype)
    for step in set(np.ndindex(3, 3, 3)) - {(1, 1, 1)}:
        np.maximum(around, padded[tuple((bright + step).T)], out=around)
    here = intensity[tuple(bright.T)]
    found[tuple(bright[here > _FLASH_FACTOR * around + _FLASH_COUNTS].T)] = True
    return found


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
