"""Voxels that the retrieval does not see, and how well the object foretells them.

Favre-Nicolin, Leake & Chushkin, Sci. Rep. 10, 2664 (2020): a fit can be bettered by freedom alone (a looser
support fits noise), but not where it was never fitted.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..types import BoolArray, FloatArray, ScanError
from . import metrics
from .engine import Pattern

PATCH = 3  # voxels an edge: a fringe of a crystal is 2 to 4 wide, so a patch is no interpolation of its rim
# Of the brightest voxel: what is brighter carries the shape of the object, and is always used. With a hundredth
# instead, the free voxels hold too few counts: on 10 strongly strained scans free_llk was right 6 times, not 9.
CORE = 0.1
SHARE = 0.04  # of the measured voxels, where nobody asks for another
_CUBE = np.ones((PATCH,) * 3, bool)


def held_out(pattern: Pattern, share: float, seed: int) -> BoolArray:
    """Patches of 3 x 3 x 3 voxels that together are about `share` of the measured ones (patches may overlap);
    none touches a voxel that is masked or above a tenth of the maximum. Raises ScanError where there is
    no room for them.
    """
    if not 0 < share <= 0.2:
        raise ScanError(f"the share of free voxels is above 0 and at most 0.2, not {share}")
    known = np.where(pattern.mask, 0, pattern.intensity)
    taken = pattern.mask | (known > CORE * known.max())
    room = np.flatnonzero(~ndimage.binary_dilation(taken, _CUBE, border_value=True))
    count = round(share * np.count_nonzero(~pattern.mask) / _CUBE.size)
    if not 0 < count <= len(room):
        raise ScanError("the pattern has no room for free patches; ask for another share of free voxels")
    return _patches(pattern.intensity.shape, np.random.default_rng(seed).choice(room, count, replace=False))


def _patches(shape: tuple[int, ...], centres: NDArray[np.intp]) -> BoolArray:
    seeds = np.zeros(shape, bool)
    seeds.flat[centres] = True
    return np.asarray(ndimage.binary_dilation(seeds, _CUBE))


def free_llk(modulus: FloatArray, pattern: Pattern, free: BoolArray) -> float:
    """Poisson log-likelihood of the `free` voxels, (1 / N) sum(c - I + I ln(I / c)) with c = modulus^2, half the
    deviance of docs/explanation.md: the smaller the better, about 1/2 where counting noise is all the misfit."""
    return metrics.poisson_deviance(modulus, pattern.intensity, free) / 2
