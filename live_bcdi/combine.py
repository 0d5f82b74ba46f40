"""Several scans of one crystal as one pattern: registered to a fraction of a voxel, summed, masks respected."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .registration import displacement
from .types import BoolArray, DiffractionVolume, ScanError, Vector

# Geometries that are the same but for what a drift makes of them.
_STEP_TOLERANCE = 1e-2
_SHIFT_SHARE = 0.25
_LIT_COUNTS = 4.0
_FEWEST_LIT = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Summed:
    """The summed volume, on the first scan's grid. For each scan: the shift in voxels that was put right, its
    correlation with the first after that (`_correlation`), and whether it is in the sum."""

    volume: DiffractionVolume
    shifts: tuple[Vector, ...]
    correlations: tuple[float, ...]
    used: tuple[bool, ...]


def sum_volumes(volumes: Sequence[DiffractionVolume], *, least_correlation: float = -1.0) -> Summed:
    """Sum of repeated scans, each moved so that its peak lies on the first's (`registration.displacement`).

    Scans that correlate less with the first are left out: they show another state. (Too few counts to say leave
    a scan in.) A voxel that some scans did
    not measure is what the others counted, over their share of the flux; one that none did is masked. Raises
    ScanError where shapes or geometries differ, a scan is more than a quarter of the array away, or no more than
    half of the scans agree with the first.
    """
    if not volumes:
        raise ScanError("there are no scans to sum")
    first = volumes[0]
    moved = []
    for number, volume in enumerate(volumes):
        _check_same(first, volume, number)
        moved.append(_moved_onto(first, volume, number))
    correlations = tuple(correlation(moved[0][:2], each[:2]) for each in moved)
    used = tuple(not value < least_correlation for value in correlations)
    if len(used) > 1 and 2 * sum(used) <= len(used):
        values = ", ".join(f"{value:.3f}" for value in correlations)
        raise ScanError(
            f"{sum(used)} of {len(used)} scans agree with the first (correlations {values}; at least"
            f" {least_correlation:g} is asked for): they show different states; leave some out, or the first"
        )
    intensity, mask = _added([each for each, good in zip(moved, used) if good])
    return Summed(
        volume=replace(first, intensity=intensity, mask=mask),
        shifts=tuple(shift for _, _, shift in moved),
        correlations=correlations,
        used=used,
    )


Pattern = tuple[NDArray[np.float32], BoolArray]
_Moved = tuple[NDArray[np.float32], BoolArray, Vector]


def _check_same(first: DiffractionVolume, volume: DiffractionVolume, number: int) -> None:
    if volume.intensity.shape != first.intensity.shape:
        shapes = f"{volume.intensity.shape} and {first.intensity.shape}"
        raise ScanError(f"scan {number} and the first have different shapes, {shapes}; crop them alike")
    scale = np.linalg.norm(first.q_steps_invA, axis=0)
    if (np.linalg.norm(volume.q_steps_invA - first.q_steps_invA, axis=0) > _STEP_TOLERANCE * scale).any():
        raise ScanError(f"scan {number} was measured with another geometry or step than the first")


def _moved_onto(first: DiffractionVolume, volume: DiffractionVolume, number: int) -> _Moved:
    if volume is first:
        return volume.intensity, volume.mask, (0.0, 0.0, 0.0)
    moved = displacement((first.intensity, first.mask), (volume.intensity, volume.mask))
    shift = (-moved[0], -moved[1], -moved[2])
    if any(abs(s) > _SHIFT_SHARE * n for s, n in zip(shift, volume.intensity.shape)):
        raise ScanError(f"scan {number} lies {shift} voxels from the first; they do not show the same peak")
    return *shifted((volume.intensity, volume.mask), shift), shift


def shifted(pattern: Pattern, shift: Vector) -> Pattern:
    """A pattern, (intensity, mask), moved by `shift` voxels; masked where a masked voxel had a part."""
    intensity, mask = pattern
    counts = ndimage.shift(np.where(mask, 0, intensity), shift, order=3, mode="constant")
    # nor is what came from outside known
    unknown = ndimage.shift(mask.astype(np.float32), shift, order=1, mode="constant", cval=1)
    return np.maximum(counts, 0), np.asarray(unknown > 1e-3)


def _added(moved: Sequence[_Moved]) -> tuple[NDArray[np.float32], BoolArray]:
    """Counts over the share of the flux that was there to measure them: the most likely sum."""
    everywhere = ~np.logical_or.reduce([mask for _, mask, _ in moved])
    flux = np.array([counts.sum(where=everywhere, dtype=np.float64) for counts, _, _ in moved])
    shares = flux / flux.sum() if flux.all() else np.full(len(moved), 1 / len(moved))
    total = np.sum([np.where(mask, 0, counts) for counts, mask, _ in moved], axis=0, dtype=np.float64)
    seen = np.sum([share * ~mask for share, (_, mask, _) in zip(shares, moved)], axis=0)
    summed = np.divide(total, seen, out=np.zeros_like(total), where=seen > 0)
    return np.asarray(summed, np.float32), np.asarray(seen == 0)


def correlation(first: Pattern, second: Pattern) -> float:
    """Pearson correlation of square roots of counts of two patterns, (intensity, mask), less what counting noise
    takes from it; 1 at most, NaN where there are too few counts to say.

    Over voxels of 4 counts and more, where the noise of a square root has the variance 1/4: correlations of
    repeats go down with the counts (0.998 at 1e7 to 0.84 at 1e4 in the pattern), this one does not.
    """
    used = ~(first[1] | second[1])
    roots = np.sqrt(np.stack([first[0][used], second[0][used]]).astype(np.float64))
    lit = roots[:, (roots**2).mean(axis=0) >= _LIT_COUNTS]
    if lit.shape[1] < _FEWEST_LIT:
        return float("nan")
    signal = np.maximum(1 - 0.25 / lit.var(axis=1), 0.1)
    return min(float(np.corrcoef(lit)[0, 1] / np.sqrt(signal.prod())), 1.0)
