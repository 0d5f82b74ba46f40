"""How far aligned starts agree: by resolution (FSC), in their size, and voxel by voxel.

Starts are those that `phase_pattern` gives: aligned, the best first. After `Guide` they are not independent, and
all that is said here is an upper limit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..types import BoolArray, ScanError
from .align import overlap
from .kernels_numpy import Object
from .metrics import centred_transform

_CRYSTAL = 0.3  # of the maximum amplitude, as in `strain.py`


@dataclass(frozen=True, kw_only=True, slots=True)
class ShellCorrelation:
    """Fourier shell correlation of two halves: `correlation` and the number of `voxels` by shell at `q_invA`.

    `resolution_nm` has, for "0.5", "1/7" and "half-bit", the full period 2 pi / q where the correlation first
    falls below that threshold; the array's limit where it never does.
    """

    q_invA: NDArray[np.float64]
    correlation: NDArray[np.float64]
    voxels: NDArray[np.int64]
    resolution_nm: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Uncertainty:
    """Standard deviations over the starts, (rocking, row, column): `amplitude` relative to the mean object's
    maximum, `phase_rad` about the mean object's phase (wrapped differences, NaN where the mean is zero)."""

    amplitude: NDArray[np.float32]
    phase_rad: NDArray[np.float32]


def halves(starts: Sequence[Object]) -> tuple[Object, Object]:
    """Means of the starts of even and of odd rank, so that neither half has all the good ones."""
    _check_several(starts)
    return np.mean(starts[::2], axis=0), np.mean(starts[1::2], axis=0)


def shell_correlation(first: Object, second: Object, q_steps_invA: NDArray[np.float64]) -> ShellCorrelation:
    """FSC(q) = |sum F G*| / sqrt(sum |F|^2 sum |G|^2) over shells of |q| one (the largest) step wide, out to the
    corners of the array, as the PRTF (Harauz & van Heel, Optik 73, 146 (1986)). `q_steps_invA` (3, 3) has one
    step an axis as columns. Thresholds: 0.5, 1/7 and the half-bit curve (van Heel & Schatz, J. Struct. Biol. 151,
    250 (2005), Eq. 17).
    """
    indices = np.meshgrid(*[np.arange(n) - n // 2 for n in first.shape], indexing="ij")
    length = np.linalg.norm(np.stack(indices, axis=-1) @ q_steps_invA.T, axis=-1)
    width = np.linalg.norm(q_steps_invA, axis=0).max()
    shell = np.rint(length / width).astype(int).ravel()
    a, b = (centred_transform(each).ravel() for each in (first, second))
    cross = np.bincount(shell, (a * b.conj()).real) + 1j * np.bincount(shell, (a * b.conj()).imag)
    powers = [np.bincount(shell, np.abs(each).astype(np.float64) ** 2) for each in (a, b)]
    voxels = np.bincount(shell)
    norm = np.sqrt(powers[0] * powers[1])
    correlation = np.divide(np.abs(cross), norm, out=np.zeros_like(norm), where=norm > 0)
    q = width * np.arange(len(correlation))
    limits = {"0.5": np.full(len(q), 0.5), "1/7": np.full(len(q), 1 / 7), "half-bit": half_bit(voxels)}
    return ShellCorrelation(
        q_invA=q,
        correlation=correlation,
        voxels=voxels,
        resolution_nm={name: _crossing_nm(q, correlation - limit) for name, limit in limits.items()},
    )


def half_bit(voxels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The correlation at which each half has half a bit a voxel, in shells of n `voxels`:
    (0.2071 + 1.9102 / sqrt n) / (1.2071 + 0.9102 / sqrt n); 1 at most, where a shell is too small to tell."""
    root = np.sqrt(np.maximum(voxels, 1))
    return np.minimum((0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root), 1.0)


def _crossing_nm(q: NDArray[np.float64], above: NDArray[np.float64]) -> float:
    """Period in nm at the first crossing from above to below zero; shells 0 and 1 always count as above."""
    below = np.flatnonzero(above[2:] < 0) + 2
    if not len(below):
        return float(2 * np.pi / q[-1] / 10)
    last = int(below[0])
    before = max(float(above[last - 1]), 0.0)
    share = before / (before - float(above[last]))
    return float(2 * np.pi / (q[last - 1] + share * (q[last] - q[last - 1])) / 10)


def support_stability(starts: Sequence[Object]) -> float:
    """Mean over all pairs of (voxels in both) / (voxels in either), of those above 0.3 of each start's maximum
    amplitude: 1 where all have the same crystal."""
    _check_several(starts)
    crystals = [_crystal(each) for each in starts]
    pairs = [(a, b) for k, a in enumerate(crystals) for b in crystals[k + 1 :]]
    return float(np.mean([np.count_nonzero(a & b) / np.count_nonzero(a | b) for a, b in pairs]))


def _crystal(density: Object) -> BoolArray:
    amplitude = np.abs(density)
    return np.asarray(amplitude > _CRYSTAL * amplitude.max())


def uncertainty(starts: Sequence[Object]) -> Uncertainty:
    """Per voxel, over the starts, each scaled to the best's norm and turned to its phase first. n - 1 in the
    denominator."""
    _check_several(starts)
    scaled = [_like(starts[0], each) for each in starts]
    mean = np.mean(scaled, axis=0)
    turned = [np.angle(each * mean.conj()) for each in scaled]
    amplitude = np.std(np.abs(scaled), axis=0, ddof=1) / np.abs(mean).max()
    phase = np.sqrt(np.sum(np.square(turned), axis=0) / (len(starts) - 1))
    return Uncertainty(
        amplitude=amplitude.astype(np.float32),
        phase_rad=np.where(mean == 0, np.nan, phase).astype(np.float32),
    )


def _like(best: Object, other: Object) -> Object:
    turn = np.exp(1j * np.angle(overlap(other, best)))
    return np.asarray(other * turn * np.linalg.norm(best) / np.linalg.norm(other), np.complex64)


def _check_several(starts: Sequence[Object]) -> None:
    if len(starts) < 2:
        raise ScanError("agreement needs at least two starts that ended with a finite object")
