"""Where a Bragg peak is, to a hundredth of a voxel, and how sure counting noise lets us be of it.

The place of a pattern is the top of its correlation with a Gaussian: the centre of mass under a Gaussian that is
centred on it. There is no threshold, whose edge voxels would come and go with the noise. Of what was tried it is
the most accurate (`benchmarks/between.py`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .preprocess import find_centre
from .types import BoolArray, FloatArray, ScanError, Vector

# Standard deviation of the Gaussian. Below 1e5 photons the error is the same from 3 to 9, at an oversampling of 3.
WIDTH_VOXELS = 4.0
_REACH = 4.0  # of its widths: beyond it weighs 3e-4 and less
_STEPS = 100
_CLOSE_VOXELS = 1e-5
_LONGEST_STEP = 1.0
_FILLED_FROM = 1.0  # voxels: the neighbours that speak for one that was not measured
_ROUNDS = 3  # of filling the holes of one pattern from the other


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Place:
    """Where a pattern is: `voxel` (rocking, row, column), fractional, from voxel 0, and its `covariance` (3, 3) by
    counting noise alone; `counts` are those under the Gaussian, each by its weight; `measured` is the share of
    what weighs there that was measured and not filled from around."""

    voxel: Vector
    covariance: NDArray[np.float64]
    counts: float
    measured: float


def locate(intensity: FloatArray, mask: BoolArray, *, width_voxels: float = WIDTH_VOXELS) -> Place:
    """The place c of the peak: sum of I(x) w(x - c) (x - c) = 0, with w a Gaussian, by Newton's method from the
    middle of the peak's brightest component.

    Voxels that were not measured count as their neighbours do. The covariance is A^-1 B A^-T, with
    A = sum of I w (1 - d d^T / width^2), B = sum of I w^2 d d^T, d = x - c: each count is Poisson's. Raises
    ScanError where there are no counts, or no maximum to climb to.
    """
    if not width_voxels > 0:
        raise ScanError(f"a peak is located under a Gaussian of some width, not {width_voxels} voxels")
    start = np.array(find_centre(intensity, mask))
    box, low = _box(start, start, width_voxels)
    counts, known = _filled(intensity[box], mask[box]), ~mask[box]
    found = _climbed(counts, start - low, width_voxels)
    at = found + low
    weight, distance = _window(counts.shape, found, width_voxels)
    under = counts * weight
    return Place(
        voxel=(float(at[0]), float(at[1]), float(at[2])),
        covariance=_covariance(under, weight, distance, width_voxels),
        counts=float(under.sum()),
        measured=float(under[known].sum() / under.sum()),
    )


def displacement(
    first: tuple[FloatArray, BoolArray],
    second: tuple[FloatArray, BoolArray],
    *,
    width_voxels: float = WIDTH_VOXELS,
) -> Vector:
    """Where the second pattern, (intensity, mask), is from the first, in voxels: both show one crystal.

    What one did not measure is filled from the other, moved onto it, so that a hole of the detector pulls less at
    what is between: by 0.01 voxels where it is off the peak or a saturated middle, but by 0.2 where three columns
    beside the peak are missing and the peak moves by up to two. Raises ScanError as `locate` does.
    """
    here, there = (np.array(locate(*each, width_voxels=width_voxels).voxel) for each in (first, second))
    box, low = _box(np.minimum(here, there), np.maximum(here, there), width_voxels)
    holes = [mask[box] for _, mask in (first, second)]
    if any(hole.any() for hole in holes):
        counts = [_filled(intensity[box], hole) for (intensity, _), hole in zip((first, second), holes)]
        here, there = _filled_from_each_other(counts, holes, (here - low, there - low), width_voxels)
    moved = there - here
    return float(moved[0]), float(moved[1]), float(moved[2])


_Pair = tuple[NDArray[np.float64], NDArray[np.float64]]


def _filled_from_each_other(
    counts: list[NDArray[np.float64]], holes: list[BoolArray], places: _Pair, width: float
) -> _Pair:
    here, there = places
    both = ~(holes[0] | holes[1])
    sums = [max(float(each.sum(where=both)), 1e-9) for each in counts]
    ratio = sums[1] / sums[0]
    for _ in range(_ROUNDS):
        onto_first = np.maximum(ndimage.shift(counts[1], here - there, order=3), 0) / ratio
        onto_second = np.maximum(ndimage.shift(counts[0], there - here, order=3), 0) * ratio
        counts = [np.where(hole, new, old) for hole, new, old in zip(holes, (onto_first, onto_second), counts)]
        here, there = (_climbed(each, place, width) for each, place in zip(counts, (here, there)))
    return here, there


def _box(
    lowest: NDArray[np.float64], highest: NDArray[np.float64], width: float
) -> tuple[tuple[slice, ...], list[int]]:
    """What the window reaches of places from `lowest` to `highest` (3,), and the first voxel of it."""
    reach = (_REACH + 1) * width
    low = [max(0, int(c - reach)) for c in lowest]
    return tuple(slice(first, int(c + reach) + 2) for first, c in zip(low, highest)), low


def _filled(intensity: FloatArray, mask: BoolArray) -> NDArray[np.float64]:
    """With the mean of measured neighbours where there is no measurement: a hole that stays while the pattern
    moves would pull at it."""
    counts = np.where(mask, 0, intensity).astype(np.float64)
    if not mask.any():
        return counts
    around = ndimage.gaussian_filter(counts, _FILLED_FROM, mode="constant")
    share = ndimage.gaussian_filter((~mask).astype(np.float64), _FILLED_FROM, mode="constant")
    return np.where(mask, around / np.maximum(share, 1e-3), counts)


def _window(
    shape: tuple[int, ...], place: NDArray[np.float64], width: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The Gaussian (rocking, row, column) about a place, and the distances (3, rocking, row, column) from it."""
    axes = [np.arange(n) - c for n, c in zip(shape, place)]
    distance = np.stack(np.meshgrid(*axes, indexing="ij"))
    first, second, third = (np.exp(-(axis**2) / (2 * width**2)) for axis in axes)
    return first[:, None, None] * second[:, None] * third, distance


def _climbed(counts: NDArray[np.float64], place: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    for _ in range(_STEPS):
        weight, distance = _window(counts.shape, place, width)
        under = counts * weight
        total = under.sum()
        mean = np.tensordot(distance, under, axes=3) / total
        curvature = np.eye(3) - _spread(under, distance) / (total * width**2)
        # away from the top the mean itself still leads uphill
        uphill = np.linalg.eigvalsh(curvature)[0] > 0
        step = np.linalg.solve(curvature, mean) if uphill else mean
        place = place + np.clip(step, -_LONGEST_STEP, _LONGEST_STEP)
        if np.abs(step).max() < _CLOSE_VOXELS and uphill:
            return place
    raise ScanError("the pattern has no one place: its peak has no top that a Gaussian finds")


def _spread(weights: NDArray[np.float64], distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of weights d d^T, (3, 3)."""
    flat = distance.reshape(3, -1)
    return np.asarray((flat * weights.ravel()) @ flat.T)


def _covariance(
    under: NDArray[np.float64], weight: NDArray[np.float64], distance: NDArray[np.float64], width: float
) -> NDArray[np.float64]:
    inverse = np.linalg.inv(under.sum() * np.eye(3) - _spread(under, distance) / width**2)
    return np.asarray(inverse @ _spread(under * weight, distance) @ inverse.T)
