"""The flat faces of a crystal, from its image in the lab frame: directions in which much of its surface looks.

The surface is where the smoothed amplitude has fallen to half. Its normals, weighted by area, are spread over the
sphere of directions; a flat face is a peak there, and a round part is not (Richard et al., J. Appl. Cryst. 51,
1428 (2018), with their neighbourhoods in place of watersheds). Its normal is that of the plane that fits best.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import marching_cubes

from .types import LabImage, ScanError, Vector

_SMOOTHING_VOXELS = 1.0
# Width of a face's peak on the sphere, and what belongs to it: what a surface of voxels smoothed by one scatters.
_WIDTH_DEG, _REACH_DEG = 8.0, 15.0
_DIRECTIONS = 4000
# A ball is 1 everywhere; a face has at least so many times the surface that a ball would show in its direction.
_CONTRAST = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Facet:
    """A flat face: its outward `normal` (lab x, y, z), area, distance from the crystal's centre of mass, angle to
    h, and `flatness_nm`, the rms distance of its surface from a plane. Edges are rounded: `area_nm2` is too small
    by an edge of about 1.6 voxels all around."""

    normal: Vector
    area_nm2: float
    distance_nm: float
    angle_to_h_deg: float
    flatness_nm: float


def find_facets(lab: LabImage, *, smallest_share: float = 0.02) -> tuple[Facet, ...]:
    """Faces of at least `smallest_share` of the surface, the largest first.

    Parallel faces on one side (steps) count as one, of poor flatness. Raises ScanError without a crystal.
    """
    points, normals, areas = _surface(lab)
    found = []
    for direction in _peaks(normals, areas):
        face = normals @ direction > np.cos(np.deg2rad(_REACH_DEG))
        share = areas[face].sum() / areas.sum()
        if share >= smallest_share:
            found.append(_facet(points[face], normals[face], areas[face], lab.q_centre_invA))
    return tuple(sorted(found, key=lambda facet: -facet.area_nm2))


def _surface(lab: LabImage) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Middle (nm, from the centre of mass), outward normal and area of every triangle of the surface."""
    if not lab.support.any():
        raise ScanError("the image has no crystal: its support is empty")
    inside = np.where(lab.support, np.abs(lab.density), 0).astype(np.float64)
    smooth = np.pad(ndimage.gaussian_filter(inside, _SMOOTHING_VOXELS), 2)
    level = float(np.median(inside[lab.support])) / 2
    vertices, faces, vertex_normals, _ = marching_cubes(smooth, level, gradient_direction="ascent")  # type: ignore[no-untyped-call]
    corners = (vertices - 2 - np.array(ndimage.center_of_mass(lab.support)))[faces] * lab.voxel_nm
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = vertex_normals[faces].mean(axis=1)
    length = np.linalg.norm(normals, axis=1)
    usable = length > 0
    normals = normals[usable] / length[usable, None]
    return corners.mean(axis=1)[usable], normals, np.linalg.norm(cross, axis=1)[usable] / 2


def _peaks(normals: NDArray[np.float64], areas: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Directions in which the surface peaks, the highest first, none within reach of a higher one."""
    number = np.arange(_DIRECTIONS) + 0.5
    height, turn = 1 - 2 * number / _DIRECTIONS, np.pi * (1 + np.sqrt(5)) * number
    around = np.sqrt(1 - height**2)
    sphere = np.stack([around * np.cos(turn), around * np.sin(turn), height], axis=1)
    sharpness = 1 / np.deg2rad(_WIDTH_DEG) ** 2
    seen = np.array([areas @ np.exp(sharpness * (normals @ direction - 1)) for direction in sphere])
    # what a ball of the same surface would give everywhere
    ball = areas.sum() * (1 - np.exp(-2 * sharpness)) / (2 * sharpness)
    peaks: list[NDArray[np.float64]] = []
    for index in np.argsort(-seen):
        if seen[index] < _CONTRAST * ball:
            break
        near = sphere @ sphere[index] > np.cos(np.deg2rad(_REACH_DEG))
        if seen[index] >= seen[near].max() and all(sphere[index] @ peak < 0.9 for peak in peaks):
            peaks.append(_centred(sphere[index], normals, areas))
    return peaks


def _centred(
    direction: NDArray[np.float64], normals: NDArray[np.float64], areas: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The mean normal within reach, three times over: the grid of directions is 3 degrees wide."""
    for _ in range(3):
        near = normals @ direction > np.cos(np.deg2rad(_REACH_DEG))
        direction = areas[near] @ normals[near]
        direction = direction / np.linalg.norm(direction)
    return direction


def _facet(
    points: NDArray[np.float64], normals: NDArray[np.float64], areas: NDArray[np.float64], h: NDArray[np.float64]
) -> Facet:
    spread = points - np.average(points, axis=0, weights=areas)
    normal = np.linalg.eigh(spread.T @ (spread * areas[:, None]))[1][:, 0]
    normal = normal * np.sign(normal @ (areas @ normals))
    distances = points @ normal
    middle = float(np.average(distances, weights=areas))
    cosine = float(normal @ h / np.linalg.norm(h))
    return Facet(
        normal=(float(normal[0]), float(normal[1]), float(normal[2])),
        area_nm2=float(areas.sum()),
        distance_nm=middle,
        angle_to_h_deg=float(np.rad2deg(np.arccos(np.clip(cosine, -1, 1)))),
        flatness_nm=float(np.sqrt(np.average((distances - middle) ** 2, weights=areas))),
    )
