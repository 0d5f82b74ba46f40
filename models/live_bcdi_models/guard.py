"""Whether a pattern is of the kind that the network was shown: one peak of one crystal, measured as it is.

The levels are those below which, or above which, one in some hundred patterns of the simulator falls
(`live-bcdi bench preview --part guard` counts them), unless one says of itself where it is from.
"""

import numpy as np
from scipy import ndimage

from live_bcdi.phasing import Pattern
from live_bcdi.types import BoolArray, FloatArray

from .grid import Grid
from .simulator import EDGE

_FEWEST = 300.0  # counts; the network was shown a thousand and more, some of them not measured
_PLATEAU, _TRUSTED = 4, 100.0  # voxels that have the largest count, where that is more than a few
_PEAK = 3.0  # times the mean, smoothed over most of a fringe
_SPREAD = 0.6  # of the mean: what is counted at the rim, a tenth of the field wide
_FRINGE = 0.35  # of a fringe: a crystal's own speckle is smoothed by so much
_SECOND, _VALLEY = 0.1, 3.0  # of the peak; a second one is so many times higher than the way to it
_LEVELS = np.geomspace(0.004, 0.3, 14)


def unlike(pattern: Pattern, grid: Grid) -> str | None:
    """Why the network is not to be asked, in a sentence; None where it may be."""
    if pattern.total_counts < _FEWEST:
        return f"nearly empty: {pattern.total_counts:.0f} counts in all, at least {_FEWEST:.0f} are wanted"
    if _is_saturated(pattern):
        return "saturated: the brightest voxels all have the same count; mask them, or attenuate the beam"
    if pattern.mask[_middle(pattern.mask)].all():
        return "nothing was measured at the middle of the peak: it is masked, saturated or behind a beamstop"
    return _unlike_one_peak(*_whole(pattern), fringe=_fringe(grid))


def _unlike_one_peak(density: FloatArray, mask: BoolArray, *, fringe: FloatArray) -> str | None:
    mean = float(density[~mask].mean())
    smooth = _smoothed(density, mask, _FRINGE * fringe)
    if smooth.max() < _PEAK * mean:
        return "no peak stands out of the noise"
    rim = _rim(mask.shape) & ~mask
    if rim.any() and density[rim].mean() > _SPREAD * mean:
        return "the counts do not fall off towards the edge of the field: a powder ring, or a high background"
    if _second_peak(smooth / smooth.max(), mask) > _VALLEY:
        return "two peaks or more: another crystal or grain scatters into the field; cut it out or mask it"
    return None


def _is_saturated(pattern: Pattern) -> bool:
    known = pattern.intensity[~pattern.mask]
    highest = known.max()
    return bool(highest >= _TRUSTED and np.count_nonzero(known == highest) >= _PLATEAU)


def _middle(mask: BoolArray) -> tuple[slice | BoolArray, ...]:
    """The voxels about n//2, in the frames that are there; all where none of these is."""
    there = ~mask.all(axis=(1, 2))
    rocking, row, column = (n // 2 for n in mask.shape)
    frames = there & (np.abs(np.arange(len(mask)) - rocking) <= 1)
    if not frames.any():
        return (slice(None), slice(None), slice(None))
    return frames, slice(row - 1, row + 2), slice(column - 1, column + 2)


def _whole(pattern: Pattern) -> tuple[FloatArray, BoolArray]:
    """The whole field on about `EDGE` voxels an axis: mean counts of what was measured, and where nothing was."""
    factors = [max(1, round(n / EDGE)) for n in pattern.mask.shape]
    even = tuple(slice(n % by // 2, n % by // 2 + n - n % by) for n, by in zip(pattern.mask.shape, factors))
    known = _blocks(~pattern.mask[even], factors)
    counts = _blocks(np.where(pattern.mask, 0, pattern.intensity)[even], factors)
    return counts / np.maximum(known, 1), known == 0


def _blocks(values: FloatArray | BoolArray, factors: list[int]) -> FloatArray:
    split = [part for n, by in zip(values.shape, factors) for part in (n // by, by)]
    found: FloatArray = np.asarray(values, np.float32).reshape(split).sum((1, 3, 5))
    return found


def _fringe(grid: Grid) -> FloatArray:
    """Voxels of `_whole` that a fringe is wide."""
    coarser = [max(1, round(n / EDGE)) for n in grid.shape]
    return np.array([o * by / c for o, by, c in zip(grid.oversampling, grid.bins, coarser)])


def _smoothed(density: FloatArray, mask: BoolArray, sigma: FloatArray) -> FloatArray:
    """Of what was measured; zero elsewhere."""
    weight = ndimage.gaussian_filter((~mask).astype(np.float32), sigma)
    smooth = ndimage.gaussian_filter(np.where(mask, 0, density), sigma) / np.maximum(weight, 0.3)
    return np.where(mask, 0, smooth)


def _rim(shape: tuple[int, ...]) -> BoolArray:
    far = [np.abs(np.arange(n) - n // 2) >= 0.4 * n for n in shape]
    found: BoolArray = far[0][:, None, None] | far[1][:, None] | far[2]
    return found


def _second_peak(smooth: FloatArray, mask: BoolArray) -> float:
    """How many times a second maximum is higher than the highest way to the first; the way through what was not
    measured is free."""
    found = 0.0
    for level in _LEVELS:
        parts, count = ndimage.label((smooth > level) | mask)
        if count > 1:
            second = float(np.sort(ndimage.maximum(smooth, parts, range(1, count + 1)))[-2])
            found = max(found, second / level if second > _SECOND else 0.0)
    return found
