"""A peak beside a gap of the detector, compared with that of an earlier scan by what both measured.

Of the earlier scan only the surroundings of its peak are kept: its frames are long gone.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..preprocess import crop_centred
from ..registration import Place, places
from ..types import BoolArray, DiffractionVolume, ScanError, Vector
from .between import Peak

_EDGE = 48  # voxels: `registration.places` looks 20 to each side of a place that is within 2 of the middle
_UNMEASURED = 1e-4  # of what weighs: such a hole pulls by a thousandth of a voxel
_ALIKE = 0.02  # of a voxel's edge: of others 20 voxels away are half a voxel elsewhere


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Around:
    """What a scan counted within 24 voxels of its peak, (48, 48, 48), where that was not measured (`mask`), and
    the `place` of the peak therein."""

    intensity: NDArray[np.float32]
    mask: BoolArray
    place: Vector


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Compared:
    """The peak of a scan as that of an earlier one, `first`, shows it: what is between them is by what both
    measured, and so are the two covariances in sum."""

    first: Peak
    own: Peak


def around(volume: DiffractionVolume, place: Place) -> Around:
    """Of a volume as `preprocess.prepare` makes it, with the peak in the middle."""
    middle = [n // 2 for n in volume.intensity.shape]
    box = crop_centred(volume.intensity, volume.mask, (middle[0], middle[1], middle[2]), (_EDGE, _EDGE, _EDGE))
    found = np.array(place.voxel) - middle + _EDGE // 2
    return Around(intensity=box[0], mask=box[1], place=(float(found[0]), float(found[1]), float(found[2])))


def is_pulled(measured: float) -> bool:
    """Whether a peak's place hangs on what was not measured; `measured` is `registration.Place`'s."""
    return measured < 1 - _UNMEASURED


def displaced(first: Around, own: Around) -> tuple[NDArray[np.float64], Place, Place] | None:
    """By how much the place of `own` is another, (3,) voxels, where only what both measured is compared, and both
    places; None where that finds none."""
    try:
        here, there = places((first.intensity, first.mask), (own.intensity, own.mask))
    except ScanError:
        return None
    alone = np.subtract(own.place, first.place)
    return np.subtract(there.voxel, here.voxel) - alone, here, there


def compared(
    first: tuple[Peak, NDArray[np.float64], Around], own: tuple[Peak, NDArray[np.float64], Around]
) -> tuple[Compared, NDArray[np.float64]] | None:
    """Of two scans, each (peak by itself, voxel steps (3, 3) in 1/angstrom, surroundings): their comparison, and
    how many voxels it moves the second's place. None for scans of other steps, or where nothing is shared."""
    (peak, steps, here), (moving, own_steps, there) = first, own
    if np.abs(own_steps - steps).max() > _ALIKE * np.abs(steps).max():
        return None
    found = displaced(here, there)
    if found is None:
        return None
    moved, first_place, own_place = found
    pair = Compared(
        first=replace(peak, covariance_invA2=steps @ first_place.covariance @ steps.T),
        own=replace(
            moving,
            h_invA=moving.h_invA + own_steps @ moved,
            covariance_invA2=own_steps @ own_place.covariance @ own_steps.T,
        ),
    )
    return pair, moved
