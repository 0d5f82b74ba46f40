"""Where a Bragg peak is, to a hundredth of a voxel, and how sure counting noise lets us be of it.

The place of a pattern is the top of its correlation with a Gaussian: the centre of mass under a Gaussian that is
centred on it. There is no threshold, whose edge voxels would come and go with the noise. Of what was tried it is
the most accurate (`benchmarks/between.py`).
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .preprocess import find_centre
from .types import BoolArray, FloatArray, ScanError, Vector

# Standard deviation of the Gaussian. Below 1e5 photons the error is the same from 3 to 9, at an oversampling of 3.
WIDTH_VOXELS = 4.0
_REACH = 4.0  # of its widths: beyond it weighs 3e-4 and less
_BEYOND = 3.0  # of its widths: there is the background
_STEPS = 100
_CLOSE_VOXELS = 1e-5
_LONGEST_STEP = 1.0
_FILLED_FROM = 1.0  # voxels: the neighbours that speak for one that was not measured
# Of simulated crystals with gaps beside and on the peak, bad pixels and saturation, the error that this makes is
# 0.4 to 1.3 of what is said.
_FILLING_WRONG = 0.4
_BORDER_VOXELS = 3.0  # about what was not measured; from 2 to 3 the error is the same within a fifth
_LEAST_SHARED = 0.1  # of the window
_SLOPE_VOXELS = 0.01
_NEAR_VOXELS = 1e-3
_WORST_CONDITION = 100.0  # of what a displacement does to the centres of mass: beyond it a direction is not seen


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Place:
    """Where a pattern is: `voxel` (rocking, row, column), fractional, from voxel 0, and its `covariance` (3, 3) by
    counting noise alone; `counts` are those under the Gaussian, each by its weight. `background` is how many of
    them there would be without a peak, by the mean voxel beyond it; `stands_out` is how far those that were
    measured are above it, in standard deviations of the background and of one count. `measured` is the share of
    what weighs there that was measured and not filled from around."""

    voxel: Vector
    covariance: NDArray[np.float64]
    counts: float
    background: float
    stands_out: float
    measured: float


def locate(intensity: FloatArray, mask: BoolArray, *, width_voxels: float = WIDTH_VOXELS) -> Place:
    """The place c of the peak: sum of I(x) w(x - c) (x - c) = 0, with w a Gaussian, by Newton's method from the
    middle of the peak's brightest component.

    Voxels that were not measured count as their neighbours do. The covariance is A^-1 B A^-T, with
    A = sum of I w (1 - d d^T / width^2), B = sum of I w^2 d d^T, d = x - c: each count is Poisson's. A filling is
    taken to be wrong by 0.4 of itself, so that as much of what the filled voxels pull, all to one side, is added.
    Raises ScanError where there are no counts, or no maximum to climb to.
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
    level = _beyond(intensity, mask, at, _BEYOND * width_voxels)
    return Place(
        voxel=(float(at[0]), float(at[1]), float(at[2])),
        covariance=_covariance(under, weight, distance, (known, width_voxels)),
        counts=float(under.sum()),
        background=level * float(weight.sum()),
        stands_out=float(
            (under[known].sum() - level * weight[known].sum()) / np.sqrt(level * (weight[known] ** 2).sum() + 1)
        ),
        measured=float(under[known].sum() / under.sum()),
    )


def _beyond(intensity: FloatArray, mask: BoolArray, place: NDArray[np.float64], radius: float) -> float:
    """The mean of what was measured farther from a place; 0 where nothing was."""
    squares = [(np.arange(n) - c) ** 2 for n, c in zip(intensity.shape, place)]
    far = squares[0][:, None, None] + squares[1][:, None] + squares[2] > radius**2
    there = intensity[far & ~mask]
    return float(there.mean(dtype=np.float64)) if there.size else 0.0


_Pattern = tuple[FloatArray, BoolArray]


def displacement(first: _Pattern, second: _Pattern, *, width_voxels: float = WIDTH_VOXELS) -> Vector:
    """Where the second pattern, (intensity, mask), is from the first, in voxels: both show one crystal.

    By what both measured (`places`). Raises ScanError as `locate` does.
    """
    here, there = places(first, second, width_voxels=width_voxels)
    x, y, z = np.subtract(there.voxel, here.voxel).tolist()
    return x, y, z


def places(first: _Pattern, second: _Pattern, *, width_voxels: float = WIDTH_VOXELS) -> tuple[Place, Place]:
    """The places of two patterns, (intensity, mask), of one crystal; what is between is by what both measured.

    Where all was measured these are the places that `locate` finds. A hole pulls at those. So where there is one,
    the first is where `locate` has it and the second s from there: seen through two Gaussians s apart, the voxels
    that were measured here and, s away, there have the same centre of mass. The border of what was measured is
    made gentle, over 3 voxels, so that it can be moved by fractions of one. The two covariances add up to that of
    s. Where too little is left for that, both are where `locate` has them. Raises ScanError as that does.
    """
    here, there = (locate(*each, width_voxels=width_voxels) for each in (first, second))
    lowest, highest = np.minimum(here.voxel, there.voxel), np.maximum(here.voxel, there.voxel)
    box, low = _box(lowest, highest, width_voxels)
    if not any(mask[box].any() for _, mask in (first, second)):
        return here, there
    known = [_gentle(~mask[box]) for _, mask in (first, second)]
    shared = _Shared(
        counts=[np.where(mask[box], 0, intensity[box]).astype(np.float64) for intensity, mask in (first, second)],
        known=known,
        splines=[ndimage.spline_filter(each, order=3) for each in known],
        middle=(lowest + highest) / 2 - low,
        width=width_voxels,
    )
    found = shared.balanced(np.subtract(there.voxel, here.voxel))
    if found is None:
        return here, there
    moved, covariance = found
    x, y, z = (np.array(here.voxel) + moved).tolist()
    return replace(here, covariance=covariance / 2), replace(there, voxel=(x, y, z), covariance=covariance / 2)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Shared:
    """Two patterns in one box, the weight of each voxel for being measured, and the place between their peaks."""

    counts: list[NDArray[np.float64]]
    known: list[NDArray[np.float64]]
    splines: list[NDArray[np.float64]]  # cubic, of `known`
    middle: NDArray[np.float64]
    width: float

    def _share(self, moved: NDArray[np.float64]) -> float:
        """Of the window that both measured."""
        both = self.known[0] * ndimage.shift(self.known[1], -moved, order=1)
        weight, _ = _window(both.shape, self.middle - moved / 2, self.width)
        return float((weight * both).sum() / weight.sum())

    def unbalance(self, moved: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The second's centre of mass less the first's, (3,), seen as `moved` says, and its covariance."""
        means, noise = [], np.zeros((3, 3))
        for own, sign in ((0, -1), (1, 1)):
            other = ndimage.shift(self.splines[1 - own], sign * moved, order=3, prefilter=False)
            both = self.known[own] * other
            weight, distance = _window(both.shape, self.middle + sign * moved / 2, self.width)
            under = self.counts[own] * weight * both
            total = max(float(under.sum()), 1e-9)
            means.append(np.tensordot(distance, under, axes=3) / total)
            off = distance - means[-1][:, None, None, None]
            noise += _spread(under * weight * both, off) / total**2
        return means[1] - means[0], noise

    def balanced(self, moved: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """The displacement without unbalance and its covariance; None where there is none near `moved`."""
        start, slope = moved, np.empty((3, 3))
        if self._share(moved) < _LEAST_SHARED:
            return None
        before, _ = self.unbalance(moved)
        for axis, step in enumerate(_SLOPE_VOXELS * np.eye(3)):
            slope[:, axis] = (self.unbalance(moved + step)[0] - before) / _SLOPE_VOXELS
        if not np.linalg.cond(slope) < _WORST_CONDITION:
            return None
        inverse = np.linalg.inv(slope)
        for _ in range(_STEPS):
            off, noise = self.unbalance(moved)
            step = -inverse @ off
            moved = moved + np.clip(step, -_LONGEST_STEP, _LONGEST_STEP)
            if np.abs(moved - start).max() > self.width:
                return None
            if np.abs(step).max() < _NEAR_VOXELS:
                return moved, inverse @ noise @ inverse.T
        return None


def _gentle(measured: BoolArray) -> NDArray[np.float64]:
    """1 where all within 3 voxels was measured, 0 where nothing was, and smooth between."""
    inside = np.clip(ndimage.distance_transform_edt(measured) / _BORDER_VOXELS, 0, 1)
    return np.asarray(inside**2 * (3 - 2 * inside), np.float64)


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
    under: NDArray[np.float64],
    weight: NDArray[np.float64],
    distance: NDArray[np.float64],
    how: tuple[BoolArray, float],
) -> NDArray[np.float64]:
    known, width = how
    inverse = np.linalg.inv(under.sum() * np.eye(3) - _spread(under, distance) / width**2)
    noise = _spread(under * weight, distance)
    pull = _FILLING_WRONG * np.abs(distance[:, ~known] * under[~known]).sum(axis=1)
    return np.asarray(inverse @ (noise + np.diag(pull**2)) @ inverse.T)
