"""Principal components of what changes in a series: an order parameter a state, and where it changes.

As Serban et al. 2024 (https://doi.org/10.1038/s42004-024-01331-y, Eqs. 2 and 3) take them: of the phase
differences from the first state, C = sum of dphi_i (x) dphi_i, not less the states' mean, so that the first is 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..types import BoolArray, FloatArray, ScanError

KEPT = 3
_SAME_RAD = 1e-5  # root mean square: what single precision leaves of no difference


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class OrderParameters:
    """Components of phase differences dphi(state) = sum over k of scores[state, k] maps[k].

    `maps` (k, x, y, z) have a root mean square of 1 over the support, NaN outside, so that `scores` (states, k)
    are the rad that a state changed along each, root mean square; the farthest state's is positive. `explained`
    (k,) is each component's share of the sum of squares of the states that the axes are from, `from_states`.
    """

    scores: NDArray[np.float64]
    maps: NDArray[np.float32]
    explained: NDArray[np.float64]
    from_states: tuple[int, ...]

    def part_of(self, state: int, components: int = 1) -> NDArray[np.float64]:
        """Inverse: the part (x, y, z) of a state's phase difference, rad, that the first components are."""
        scores, maps = self.scores[state, :components], self.maps[:components]
        return np.asarray(np.tensordot(scores, maps, axes=1), np.float64)


def order_parameters(
    differences: FloatArray, support: BoolArray, *, from_states: Sequence[int] | None = None
) -> OrderParameters:
    """Of phase differences (states, x, y, z), unwrapped and in rad, from the first state, less their mean over
    `support`. The axes are from `from_states` (all without), the scores of all.

    Raises ScanError where there are fewer than two states to take axes from, or they do not differ.
    """
    rows = np.asarray(differences, np.float64)[:, support]
    rows -= rows.mean(axis=1, keepdims=True)
    chosen = tuple(range(len(rows))) if from_states is None else tuple(from_states)
    if len(chosen) < 2:
        raise ScanError(f"components of changes need two states at least, not {len(chosen)}")
    own = rows[list(chosen)]
    values, vectors = np.linalg.eigh(own @ own.T)
    total = float(values.sum())
    if not total > rows.shape[1] * _SAME_RAD**2:
        raise ScanError("the states do not differ: there is no component of a change")
    kept = [k for k in range(len(values) - 1, -1, -1) if values[k] > 1e-12 * total][:KEPT]
    axes = vectors[:, kept].T @ own / np.sqrt(values[kept])[:, None]
    scores = rows @ axes.T / np.sqrt(rows.shape[1])
    signs = np.sign(scores[np.abs(scores).argmax(axis=0), range(len(kept))])
    maps = np.full((len(kept), *support.shape), np.nan, np.float32)
    maps[:, support] = signs[:, None] * axes * np.sqrt(rows.shape[1])
    return OrderParameters(scores=scores * signs, maps=maps, explained=values[kept] / total, from_states=chosen)
