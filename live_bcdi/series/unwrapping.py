"""Phases unwrapped though there may be dislocations: the field whose steps are nearest to the wrapped ones.

About a dislocation no field has the right steps: somewhere there is a cut over which a path-following algorithm is
2 pi off, and one such cut is the largest change of a series. In the sense of least squares (Ghiglia & Romero, J.
Opt. Soc. Am. A 11, 107 (1994)) what turns about the line is left out, for it is across every gradient, and the
strain that is not is kept.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import cg
from skimage.restoration import unwrap_phase

from ..defects import phase_winding
from ..types import BoolArray, ComplexArray

_ACCURACY = 1e-4
_ITERATIONS = 2000


def unwrapped(density: ComplexArray, support: BoolArray) -> NDArray[np.float64]:
    """The phase of an object in a connected support, in rad, with zero mean; NaN outside.

    Where it has no singularity this is the phase itself; else the least-squares field (see the module).
    """
    wrapped = np.ma.masked_array(np.angle(density).astype(np.float64), ~support)
    phase = np.ma.filled(unwrap_phase(wrapped, rng=0), np.nan)  # type: ignore[no-untyped-call]
    inside = np.asarray(phase[support], np.float64)
    if phase_winding(density, support).any():
        inside = _least_squares(density, support, inside)
    result = np.full(support.shape, np.nan)
    result[support] = inside - inside.mean()
    return result


def _least_squares(density: ComplexArray, support: BoolArray, start: NDArray[np.float64]) -> NDArray[np.float64]:
    """The field f (voxels,) that minimises the sum of (f_b - f_a - arg(S_b S_a*))^2 over the neighbours a, b."""
    number = np.full(support.shape, -1)
    count = int(np.count_nonzero(support))
    number[support] = np.arange(count)
    pairs, steps = [], []
    for axis in range(3):
        here, there = [slice(None)] * 3, [slice(None)] * 3
        here[axis], there[axis] = slice(None, -1), slice(1, None)
        both = support[tuple(here)] & support[tuple(there)]
        pairs.append(np.stack([number[tuple(here)][both], number[tuple(there)][both]]))
        steps.append(np.angle(density[tuple(there)][both] * density[tuple(here)][both].conj()))
    first, second = np.concatenate(pairs, axis=1)
    links = np.arange(len(first))
    ones = np.ones(len(first))
    gradient = sparse.csr_matrix((ones, (links, second)), (len(first), count))
    gradient = gradient - sparse.csr_matrix((ones, (links, first)), (len(first), count))
    divergence = gradient.T @ np.concatenate(steps).astype(np.float64)
    field, _ = cg(gradient.T @ gradient, divergence, x0=start, rtol=_ACCURACY, maxiter=_ITERATIONS)
    return np.asarray(field, np.float64)
