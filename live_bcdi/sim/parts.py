"""What a simulated crystal is made of: facets, voids, and the terms of its displacement. All in the lab frame."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..types import Vector

Floats = NDArray[np.float64]

GOLD_POISSON_RATIO = 0.44


@dataclass(frozen=True, kw_only=True, slots=True)
class Facet:
    """A cutting plane: inside is where normal . r <= offset_nm; `normal` is a unit vector."""

    normal: Vector
    offset_nm: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Void:
    """A ball without crystal."""

    centre_nm: Vector
    radius_nm: float

    def distance_nm(self, points_nm: Floats) -> Floats:
        """Of points (..., 3) from the void's surface, positive outside the void, (...)."""
        return np.asarray(np.linalg.norm(points_nm - np.asarray(self.centre_nm), axis=-1) - self.radius_nm)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wave:
    """One term amplitude * cos(k . r + phase) of the displacement along h."""

    amplitude_angstrom: float
    k_inv_nm: Vector
    phase_rad: float

    def along_h_angstrom(self, points_nm: Floats) -> Floats:
        """u_h at points (..., 3), (...)."""
        return np.asarray(self.amplitude_angstrom * np.cos(points_nm @ np.asarray(self.k_inv_nm) + self.phase_rad))


@dataclass(frozen=True, kw_only=True, slots=True)
class Wall:
    """A plane, normal . r = offset_nm, beyond which the lattice is displaced by `jump_angstrom` along h."""

    normal: Vector
    offset_nm: float
    jump_angstrom: float

    def distance_nm(self, points_nm: Floats) -> Floats:
        """Of points (..., 3) from the plane, not negative, (...)."""
        return np.asarray(np.abs(points_nm @ np.asarray(self.normal) - self.offset_nm))

    def along_h_angstrom(self, points_nm: Floats) -> Floats:
        """u_h at points (..., 3), (...)."""
        return np.asarray(np.where(points_nm @ np.asarray(self.normal) > self.offset_nm, self.jump_angstrom, 0.0))


@dataclass(frozen=True, kw_only=True, slots=True)
class Dislocation:
    """A straight line through `point_nm` along the unit vector `line`, with its Burgers vector: a screw where the
    two are parallel, an edge where they are at right angles, else mixed.

    The field is that of an infinite, isotropic medium (Hirth & Lothe, Theory of Dislocations, Eqs. 3-1 and 3-45).
    Where h . b is a whole number of 2 pi, exp(-i h.u) is continuous but for the line.
    """

    point_nm: Vector
    line: Vector
    burgers_angstrom: Vector
    poisson_ratio: float = GOLD_POISSON_RATIO

    def distance_nm(self, points_nm: Floats) -> Floats:
        """Of points (..., 3) from the line, (...)."""
        return np.asarray(
            np.linalg.norm(np.cross(points_nm - np.asarray(self.point_nm), np.asarray(self.line)), axis=-1)
        )

    def along_angstrom(self, points_nm: Floats, direction: Floats) -> Floats:
        """Displacement along the unit vector `direction` (3,) at points (..., 3), (...)."""
        screw, edge, along_edge, across = self._frame()
        place = points_nm - np.asarray(self.point_nm)
        x, y = place @ along_edge, place @ across
        angle = np.arctan2(y, x)
        squared = np.maximum(x**2 + y**2, (np.hypot(screw, edge) / 10) ** 2)  # nm; no field within one |b|
        stiff = 4 * (1 - self.poisson_ratio)
        first = angle + np.sin(2 * angle) / stiff
        second = -(1 - 2 * self.poisson_ratio) / stiff * np.log(squared) - np.cos(2 * angle) / stiff
        field = screw * angle * (direction @ np.asarray(self.line))
        field += edge * (first * (direction @ along_edge) + second * (direction @ across))
        return np.asarray(field / (2 * np.pi))

    def _frame(self) -> tuple[float, float, Floats, Floats]:
        """Screw and edge part of the Burgers vector, the unit vector along the edge part, and line x that."""
        line, burgers = np.asarray(self.line), np.asarray(self.burgers_angstrom)
        screw = float(burgers @ line)
        rest = burgers - screw * line
        edge = float(np.linalg.norm(rest))
        if edge < 1e-9 * np.linalg.norm(burgers):
            edge, rest = 0.0, np.cross(line, np.eye(3)[np.argmin(np.abs(line))])
        along = rest / np.linalg.norm(rest)
        return screw, edge, along, np.asarray(np.cross(line, along))


def vector(values: Floats) -> Vector:
    """Three plain floats, as files hold them."""
    x, y, z = (float(value) for value in values)
    return (x, y, z)
