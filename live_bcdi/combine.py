"""Several scans of one crystal as one pattern: registered to a fraction of a voxel, summed, masks respected."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.registration import phase_cross_correlation

from .types import BoolArray, DiffractionVolume, ScanError, Vector

_UPSAMPLING = 20
# Geometries that are the same but for what a drift makes of them.
_STEP_TOLERANCE = 1e-2
_SHIFT_SHARE = 0.25


@dataclass(frozen=True, kw_only=True, slots=True)
class Summed:
    """The summed volume, on the first scan's grid. For each scan the shift in voxels that was put right, and its
    correlation with the first after that (Pearson, of square roots of counts): one well below the others was
    taken in another state."""

    volume: DiffractionVolume
    shifts: tuple[Vector, ...]
    correlations: tuple[float, ...]


def sum_volumes(volumes: Sequence[DiffractionVolume]) -> Summed:
    """Sum of repeated scans, each moved onto the first by the peak of their cross-correlation (1/20 voxel).

    A voxel that some scans did not measure is the mean of the others times their number; one that none did is
    masked. Raises ScanError where shapes or geometries differ or a scan is more than a quarter of the array away.
    """
    if not volumes:
        raise ScanError("there are no scans to sum")
    first = volumes[0]
    moved = []
    for number, volume in enumerate(volumes):
        _check_same(first, volume, number)
        moved.append(_moved_onto(first, volume, number))
    count = np.sum([~mask for _, mask, _ in moved], axis=0)
    total = np.sum([np.where(mask, 0, counts) for counts, mask, _ in moved], axis=0)
    mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
    summed = replace(first, intensity=np.asarray(mean * len(moved), np.float32), mask=np.asarray(count == 0))
    return Summed(
        volume=summed,
        shifts=tuple(shift for _, _, shift in moved),
        correlations=tuple(_correlation(moved[0], each) for each in moved),
    )


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
    # where either was not measured neither may pull
    used = ~(first.mask | volume.mask)
    moved, _, _ = phase_cross_correlation(  # type: ignore[no-untyped-call]
        np.sqrt(first.intensity * used),
        np.sqrt(volume.intensity * used),
        upsample_factor=_UPSAMPLING,
        normalization=None,
    )
    shift = (float(moved[0]), float(moved[1]), float(moved[2]))
    if any(abs(s) > _SHIFT_SHARE * n for s, n in zip(shift, volume.intensity.shape)):
        raise ScanError(f"scan {number} lies {shift} voxels from the first; they do not show the same peak")
    counts = ndimage.shift(np.where(volume.mask, 0, volume.intensity), shift, order=3, mode="constant")
    # what a masked voxel had a part in, and what came from outside, is not known
    unknown = ndimage.shift(volume.mask.astype(np.float32), shift, order=1, mode="constant", cval=1)
    return np.maximum(counts, 0), np.asarray(unknown > 1e-3), shift


def _correlation(first: _Moved, second: _Moved) -> float:
    used = ~(first[1] | second[1])
    return float(np.corrcoef(np.sqrt(first[0][used]), np.sqrt(second[0][used]))[0, 1])
