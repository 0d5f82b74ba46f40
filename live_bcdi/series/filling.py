"""Density that one state of a series lacks, from its neighbours; which voxels those are is said."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..types import BoolArray, ComplexArray
from .frame import AlignedSeries

_NEAR_VOXELS = 2.0  # the Gaussian's over which a state's own change is carried into what it lacks


def filled(series: AlignedSeries) -> tuple[NDArray[np.complex64], BoolArray]:
    """The densities (states, x, y, z), in `series.support` alone, and which of their voxels are filled.

    A voxel that a state lacks is the mean of those of the nearest states before and after it that have it, the
    nearer the heavier, times the phase and the amplitude in which the state differs from that mean around.
    """
    density, lacking = series.density.copy(), series.support & ~series.supports
    for number in np.flatnonzero(lacking.any(axis=(1, 2, 3))):
        density[number] = _whole(series, int(number), lacking[number])
    density[:, ~series.support] = 0
    return density, lacking


def _whole(series: AlignedSeries, number: int, lacking: BoolArray) -> ComplexArray:
    others, own = _between(series, number), series.density[number]
    measured = series.support & series.supports[number]

    def around(values: NDArray[np.generic]) -> NDArray[np.generic]:
        near = ndimage.gaussian_filter(np.where(measured, values, 0), _NEAR_VOXELS)
        # far from all that was measured, the mean of all
        return np.asarray(near + 1e-9 * values[measured].mean())

    change = around(own * others.conj()) / np.maximum(around(np.abs(others) ** 2).real, 1e-30)
    return np.asarray(np.where(lacking, others * change, own), np.complex64)


def _between(series: AlignedSeries, number: int) -> ComplexArray:
    """Of each voxel the mean of the states before and after that have it; of one alone where there is one."""
    total = np.zeros(series.support.shape, np.complex128)
    weights = np.zeros(series.support.shape)
    for side in (range(number - 1, -1, -1), range(number + 1, len(series.density))):
        missing = series.support.copy()
        for other in side:
            here = missing & series.supports[other]
            weight = 1 / abs(other - number)
            total[here] += weight * series.density[other][here]
            weights[here] += weight
            missing &= ~here
    return np.asarray(total / np.maximum(weights, 1e-30), np.complex128)
