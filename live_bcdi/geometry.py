"""Motors and a detector into scattering vectors. No I/O, no defaults: everything comes from a `Geometry`.

Vectors are in the laboratory frame of the beamline's configuration; the wave vector has length 2 pi / lambda.
The crystal frame is the lab frame with the rocking circle held at one angle, so that a rocking scan moves the
point q that a pixel measures, not the crystal (Busing & Levy, Acta Cryst. 22, 457 (1967); Maddali et al.,
J. Appl. Cryst. 53, 393 (2020)).
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .types import Geometry, Rotation, ScanError, Vector

HC_KEV_ANGSTROM = 12.398419843320026  # h c / e, exact in the 2019 SI

Floats: TypeAlias = NDArray[np.float64]


def wavelength_angstrom(energy_kev: float) -> float:
    """Photon wavelength in ångström."""
    return HC_KEV_ANGSTROM / energy_kev


def rotation_matrix(axis: Vector, angle_deg: float) -> Floats:
    """Right-handed rotation about a unit vector (Rodrigues), shape (3, 3)."""
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    angle = np.deg2rad(angle_deg)
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def chain_matrix(circles: Iterable[Rotation]) -> Floats:
    """Product of the rotations, outermost first: the lab direction of a vector fixed to the inside."""
    product = np.eye(3)
    for circle in circles:
        product = product @ rotation_matrix(circle.axis, circle.angle_deg)
    return product


def rocking_circle(geometry: Geometry) -> Rotation:
    """The circle that the scan turns."""
    return next(circle for circle in geometry.sample if circle.motor == geometry.rocking)


def with_rocking_angle(geometry: Geometry, angle_deg: float) -> Geometry:
    """The same geometry with the rocking circle at `angle_deg`."""
    moved = tuple(
        replace(circle, angle_deg=float(angle_deg)) if circle.motor == geometry.rocking else circle
        for circle in geometry.sample
    )
    return replace(geometry, sample=moved)


def rocking_axis_lab(geometry: Geometry) -> Floats:
    """Unit vector (3,) that the rocking circle turns about, as the circles outside it hold it."""
    circle = rocking_circle(geometry)
    return np.asarray(chain_matrix(geometry.sample[: geometry.sample.index(circle)]) @ np.asarray(circle.axis))


def axes_across(vector: Floats, reference: Vector) -> Floats:
    """Two unit vectors (2, 3) across `vector` (3,): the part of `reference` that is across it, and vector x that
    one, so that (first, second, vector) is right-handed. Raises ScanError where the two are parallel."""
    along = vector / np.linalg.norm(vector)
    first = np.asarray(reference, float) - (np.asarray(reference, float) @ along) * along
    if np.linalg.norm(first) < 1e-6:
        raise ScanError("the reference of the axes across h lies along h; give another")
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(along, first)])


def pixel_place_m(geometry: Geometry, row: ArrayLike, column: ArrayLike) -> Floats:
    """Where pixels (fractions allowed) are in the lab, from the sample, (..., 3) in metres."""
    row, column = np.broadcast_arrays(np.asarray(row, float), np.asarray(column, float))
    row_m, column_m = np.asarray(geometry.pixel_um) * 1e-6
    at_zero = (
        geometry.distance_m * np.asarray(geometry.beam_direction)
        + ((row - geometry.arm_pixel[0]) * row_m)[..., None] * np.asarray(geometry.row_direction)
        + ((column - geometry.arm_pixel[1]) * column_m)[..., None] * np.asarray(geometry.column_direction)
    )
    return np.asarray(at_zero @ chain_matrix(geometry.arm).T)


def q_lab_invA(geometry: Geometry, row: ArrayLike, column: ArrayLike) -> Floats:
    """Scattering vector k_out - k_in at pixels (fractions allowed), (..., 3), in inverse ångström."""
    outgoing = pixel_place_m(geometry, row, column)
    outgoing /= np.linalg.norm(outgoing, axis=-1, keepdims=True)
    wave_number = 2 * np.pi / wavelength_angstrom(geometry.energy_kev)
    return np.asarray(wave_number * (outgoing - np.asarray(geometry.beam_direction)))


def q_crystal_invA(geometry: Geometry, angle_deg: float, row: ArrayLike, column: ArrayLike) -> Floats:
    """Point of the crystal's reciprocal space that a pixel measures with the rocking circle at `angle_deg`,
    turned back to the lab frame at the geometry's own rocking angle; (..., 3) in inverse ångström."""
    here = chain_matrix(geometry.sample)
    there = chain_matrix(with_rocking_angle(geometry, angle_deg).sample)
    return np.asarray(q_lab_invA(geometry, row, column) @ (here @ there.T).T)


def q_steps_invA(geometry: Geometry, step_deg: float, row: float, column: float) -> Floats:
    """Change of q a rocking step, a row and a column at one pixel, as the columns of a (3, 3) matrix."""
    angle = rocking_circle(geometry).angle_deg
    half = step_deg / 2
    rocking = q_crystal_invA(geometry, angle + half, row, column) - q_crystal_invA(
        geometry, angle - half, row, column
    )
    rows = q_lab_invA(geometry, row + 0.5, column) - q_lab_invA(geometry, row - 0.5, column)
    columns = q_lab_invA(geometry, row, column + 0.5) - q_lab_invA(geometry, row, column - 0.5)
    return np.stack([rocking, rows, columns], axis=1)


def direct_basis_nm(q_steps: Floats, shape: tuple[int, int, int]) -> Floats:
    """Lab vectors of one voxel of the object array, as columns, in nm: b_j . g_k = 2 pi delta_jk / N_j.

    Raises ScanError where the three reciprocal steps do not span space.
    """
    if abs(np.linalg.det(q_steps)) < 1e-9 * np.prod(np.linalg.norm(q_steps, axis=0)):
        raise ScanError("the rocking direction lies in the detector plane: this scan has no third dimension")
    return np.asarray(2 * np.pi * np.linalg.inv(q_steps).T / np.asarray(shape) / 10)


def two_theta_deg(geometry: Geometry, row: float, column: float) -> float:
    """Full scattering angle at a pixel."""
    wave_number = 2 * np.pi / wavelength_angstrom(geometry.energy_kev)
    length = np.linalg.norm(q_lab_invA(geometry, row, column))
    return float(2 * np.rad2deg(np.arcsin(length / (2 * wave_number))))


def d_spacing_angstrom(geometry: Geometry, row: float, column: float) -> float:
    """Lattice spacing 2 pi / |q| that diffracts into a pixel."""
    return float(2 * np.pi / np.linalg.norm(q_lab_invA(geometry, row, column)))


def pixel_of(geometry: Geometry, outgoing: ArrayLike) -> Floats:
    """Where rays from the sample along `outgoing` (..., 3) meet the detector, (..., 2) row and column (fractions);
    the inverse of `pixel_place_m`. NaN for rays that go away from it or along it."""
    at_zero = np.asarray(outgoing, float) @ chain_matrix(geometry.arm)
    row_m, column_m = np.asarray(geometry.pixel_um) * 1e-6
    plane = np.stack([geometry.row_direction, geometry.column_direction, geometry.beam_direction], axis=1)
    row, column, along = np.moveaxis(np.linalg.solve(plane, at_zero[..., None])[..., 0], -1, 0)
    scale = geometry.distance_m / np.where(along > 0, along, np.nan)
    return np.stack(
        [geometry.arm_pixel[0] + row * scale / row_m, geometry.arm_pixel[1] + column * scale / column_m], axis=-1
    )


def bragg_turns_deg(geometry: Geometry, h_invA: ArrayLike) -> Floats:
    """How far the rocking circle has to turn from where it is until h (3,), which is in the lab now, meets Bragg's
    law: two angles in degrees, the nearer first; none where no angle does.

    |k_in + h| = |k_in| asks for k_in . h = -|h|^2 / 2, and h turned about the unit axis a by t has
    k_in . h = (k_in . a)(a . h) + cos t (k_in . h - (k_in . a)(a . h)) + sin t (k_in . (a x h)).
    """
    h, axis = np.asarray(h_invA, float), rocking_axis_lab(geometry)
    wave = 2 * np.pi / wavelength_angstrom(geometry.energy_kev) * np.asarray(geometry.beam_direction)
    still = float(wave @ axis * (axis @ h))
    cosine, sine = float(wave @ h) - still, float(wave @ np.cross(axis, h))
    size = np.hypot(cosine, sine)
    wanted = -float(h @ h) / 2 - still
    if size == 0 or abs(wanted) > size:
        return np.empty(0)
    middle, half = np.arctan2(sine, cosine), np.arccos(wanted / size)
    turns = np.rad2deg(np.angle(np.exp(1j * np.array([middle - half, middle + half]))))
    return np.asarray(turns[np.argsort(np.abs(turns))])
