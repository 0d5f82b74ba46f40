"""What a crystal did between two scans: how its planes turned, and by how much they moved apart.

A peak says three numbers, the vector h. In the frame of the innermost sample circle, which the motors carry along,
it moves with the crystal alone. Its length is the spacing, d = 2 pi / |h|; its direction is two rotations of the
crystal. A rotation about h itself does not move it, and a translation does not either, but for the little that the
detector then sees from another point (`seen_as`): of a crystal that is carried out of the beam the counts tell.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..geometry import (
    axes_across,
    chain_matrix,
    pixel_place_m,
    q_lab_invA,
    rocking_axis_lab,
    wavelength_angstrom,
    with_rocking_angle,
)
from ..preprocess import rocking_grid_deg
from ..registration import Place, locate, places
from ..types import DiffractionVolume, Geometry, RockingScan, ScanError, Vector

_TO_MDEG = 1e3 * 180 / np.pi


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Peak:
    """The peak of a scan. In the frame of the innermost sample circle: `h_invA` (3,), its `covariance_invA2`
    (3, 3) by counting noise, and the scan's `rocking_axis`. `counts` are those under the window that located it,
    above the background, over the monitor's median where there is a monitor."""

    h_invA: NDArray[np.float64]
    covariance_invA2: NDArray[np.float64]
    rocking_axis: Vector
    counts: float


def find_peak(volume: DiffractionVolume, scan: RockingScan, place: Place | None = None) -> Peak:
    """The peak of `volume`, which is `scan` prepared; `place` is `registration.locate`'s where that is known.

    Raises ScanError where the peak cannot be located, or the angles are on no grid.
    """
    found = locate(volume.intensity, volume.mask) if place is None else place
    offset = np.array(found.voxel) - [n // 2 for n in volume.intensity.shape]
    geometry = centred_geometry(volume, scan)
    to_holder = chain_matrix(geometry.sample).T
    steps = to_holder @ volume.q_steps_invA
    return Peak(
        h_invA=to_holder @ volume.q_centre_invA + steps @ offset,
        covariance_invA2=steps @ found.covariance @ steps.T,
        rocking_axis=_vector(to_holder @ rocking_axis_lab(geometry)),
        counts=brightness(found, scan),
    )


def usual_monitor(scan: RockingScan) -> float:
    """The median of what the monitor counted; NaN where there is none."""
    monitor = np.asarray([] if scan.monitor is None else scan.monitor, np.float64)
    known = monitor[np.isfinite(monitor)]
    return float(np.median(known)) if len(known) else float("nan")


def brightness(place: Place, scan: RockingScan) -> float:
    """Counts of a peak above the background, over the monitor where there is one: what a beam that decays, or is
    topped up, does not change. At least 0."""
    monitor = usual_monitor(scan)
    return max(place.counts - place.background, 0.0) / (monitor if monitor > 0 else 1.0)


Prepared = tuple[DiffractionVolume, RockingScan]


def find_peaks(first: Prepared, second: Prepared) -> tuple[Peak, Peak]:
    """The peaks of two scans, each (volume, scan), to be compared with each other: what is between them is of the
    voxels that both measured (`registration.places`), so that a gap of the detector pulls at neither.

    Raises ScanError as `find_peak` does, or where the volumes have different shapes.
    """
    volumes = first[0], second[0]
    if volumes[0].intensity.shape != volumes[1].intensity.shape:
        shapes = " and ".join(str(volume.intensity.shape) for volume in volumes)
        raise ScanError(
            f"peaks are compared in volumes of one shape, not {shapes}; give both one [preprocess] shape"
        )
    here, there = places(*((volume.intensity, volume.mask) for volume in volumes))
    return find_peak(*first, here), find_peak(*second, there)


def centred_geometry(volume: DiffractionVolume, scan: RockingScan) -> Geometry:
    """Of a scan, with the rocking circle where voxel n//2 of its volume was measured."""
    have = np.ones(len(scan.angles_deg), bool) if scan.have is None else np.asarray(scan.have, bool)
    first_deg, step_deg = rocking_grid_deg(scan.angles_deg, have)
    return with_rocking_angle(scan.geometry, first_deg + step_deg * volume.centre[0])


def _vector(values: NDArray[np.float64]) -> Vector:
    return float(values[0]), float(values[1]), float(values[2])


@dataclass(frozen=True, kw_only=True, slots=True)
class Motion:
    """How a crystal differs from its first scan, right-handed, with standard deviations by counting noise.

    `rotation_mdeg` is about the part of the rocking axis that is across h, and about h x that. `strain` is
    d / d_first - 1, of the planes as the window weighs them. `counts_ratio` is to the first, both as `Peak` has
    them: over the monitor.
    """

    rotation_mdeg: tuple[float, float]
    rotation_std_mdeg: tuple[float, float]
    strain: float
    strain_std: float
    counts_ratio: float


def motion_between(first: Peak, second: Peak) -> Motion:
    """The least rotation and the strain that carry the first peak to the second. Raises ScanError where the first
    has its rocking axis along h, or no counts."""
    if not first.counts > 0:
        raise ScanError("the first peak has no counts to compare with")
    h, moved = first.h_invA, second.h_invA
    length = float(np.linalg.norm(h))
    covariance = (first.covariance_invA2 + second.covariance_invA2) / length**2
    axes = axes_across(h, first.rocking_axis)
    turn = np.cross(h, moved)
    angle = np.arctan2(np.linalg.norm(turn), h @ moved)
    vector = turn * (angle / np.linalg.norm(turn)) if angle > 0 else turn
    # a small change dh turns h about the axis a by (a x h) . dh / |h|^2
    across = np.cross(axes, h / length)
    rotation, std = axes @ vector, np.sqrt(np.einsum("ai,ij,aj->a", across, covariance, across))
    along = h / length
    return Motion(
        rotation_mdeg=(float(rotation[0] * _TO_MDEG), float(rotation[1] * _TO_MDEG)),
        rotation_std_mdeg=(float(std[0] * _TO_MDEG), float(std[1] * _TO_MDEG)),
        strain=length / float(np.linalg.norm(moved)) - 1,
        strain_std=float(np.sqrt(along @ covariance @ along)),
        counts_ratio=second.counts / first.counts,
    )


def carried(
    first: Peak, rotation_mdeg: tuple[float, float], strain: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What `motion_between` would have come from: h (3,) of the first peak turned and strained so, and the change
    of h (3, 3) by 1 mdeg about each axis and by a strain of 1, a column each."""
    axes = axes_across(first.h_invA, first.rocking_axis)
    vector = np.array(rotation_mdeg) / _TO_MDEG @ axes
    angle = float(np.linalg.norm(vector))
    h = first.h_invA
    if angle > 0:  # the vector is across h
        h = np.cos(angle) * h + np.sin(angle) / angle * np.cross(vector, h)
    h = h / (1 + strain)
    return h, np.column_stack([*np.cross(axes, h) / _TO_MDEG, -h / (1 + strain)])


def seen_as(geometry: Geometry, row: float, column: float) -> NDArray[np.float64]:
    """What a translation of the crystal is taken for: (3, 3), a column for 1 um along lab x, y and z, with rows
    rotation, rotation (mdeg, about the axes of `Motion`) and strain.

    The beam is a plane wave, so the crystal scatters to the same direction from another place; a detector at the
    distance L takes that for the change k (t - (t . k') k') / L of q, k' being the direction to the pixel. So one
    can tell three motions at most from one peak; this says which error of the others a translation is.
    """
    h, place_m = q_lab_invA(geometry, row, column), pixel_place_m(geometry, row, column)
    length, distance_m = np.linalg.norm(h), np.linalg.norm(place_m)
    outgoing, wave_number = place_m / distance_m, 2 * np.pi / wavelength_angstrom(geometry.energy_kev)
    change = wave_number * (np.eye(3) - np.outer(outgoing, outgoing)) * 1e-6 / distance_m
    across = np.cross(axes_across(h, _vector(rocking_axis_lab(geometry))), h / length)
    return np.vstack([_TO_MDEG * across @ change / length, -(h / length) @ change / length])
