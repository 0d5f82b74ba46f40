"""Crystals that are known exactly: a polyhedron in the lab frame, with voids, strain, walls and dislocations."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from scipy.spatial import HalfspaceIntersection

from ..types import RockingScan, ScanError, Vector
from .kinds import KINDS, Defect, Kind
from .parts import Dislocation, Facet, Floats, Void, Wall, Wave, vector

__all__ = ["KINDS", "STRAINS", "Facet", "Floats", "Truth", "Wave", "random_truth", "truth_of", "truth_to_dict"]

# Largest |phase| inside the crystal, in radians. Above pi the phase wraps.
STRAINS = {"none": 0.0, "weak": 0.5, "medium": 1.5, "strong": 3.0}

_WAVES = 4
_PROBE_POINTS = 24  # an edge; enough to see the extremes of waves longer than the crystal


@dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """A simulated crystal, in the lab frame (x, y, z) at the geometry's own rocking angle.

    Density is 1 inside all facets and outside all voids, else 0. The displacement along +h is
    u_h(r) = offset + gradient . r + sum of waves, walls and dislocations; the phase is -|h| u_h (Sun & Singer
    Eq. 1).
    """

    facets: tuple[Facet, ...]
    h_invA: Vector
    waves: tuple[Wave, ...] = ()
    offset_angstrom: float = 0.0
    gradient_angstrom_per_nm: Vector = (0.0, 0.0, 0.0)
    voids: tuple[Void, ...] = ()
    walls: tuple[Wall, ...] = ()
    dislocations: tuple[Dislocation, ...] = ()

    def depth_nm(self, points_nm: Floats) -> Floats:
        """Distance of points (..., 3) from the nearest surface: positive inside, negative outside, (...)."""
        depth = np.full(points_nm.shape[:-1], np.inf)
        for facet in self.facets:
            np.minimum(depth, facet.offset_nm - points_nm @ np.asarray(facet.normal), out=depth)
        for void in self.voids:
            np.minimum(depth, void.distance_nm(points_nm), out=depth)
        return depth

    def defect_distance_nm(self, points_nm: Floats) -> Floats:
        """Distance of points (..., 3) from the nearest wall or dislocation line, infinite without any, (...)."""
        distance = np.full(points_nm.shape[:-1], np.inf)
        defects: tuple[Wall | Dislocation, ...] = (*self.walls, *self.dislocations)
        for defect in defects:
            np.minimum(distance, defect.distance_nm(points_nm), out=distance)
        return distance

    def inside(self, points_nm: Floats) -> NDArray[np.bool_]:
        """Whether points (..., 3) are in the crystal, (...)."""
        return self.depth_nm(points_nm) >= 0

    def displacement_at(self, points_nm: Floats) -> Floats:
        """u_h in ångström at points (..., 3), outside the crystal too; it jumps at walls and where a dislocation's
        angle goes from pi to -pi."""
        total = self.offset_angstrom + points_nm @ np.asarray(self.gradient_angstrom_per_nm)
        terms: tuple[Wave | Wall, ...] = (*self.waves, *self.walls)
        for term in terms:
            total = total + term.along_h_angstrom(points_nm)
        h = np.asarray(self.h_invA) / np.linalg.norm(self.h_invA)
        for dislocation in self.dislocations:
            total = total + dislocation.along_angstrom(points_nm, h)
        return np.asarray(total, np.float64)

    def phase_at(self, points_nm: Floats) -> Floats:
        """-h . u in radians, not wrapped."""
        return -float(np.linalg.norm(self.h_invA)) * self.displacement_at(points_nm)

    def density_at(self, points_nm: Floats) -> NDArray[np.complex128]:
        """S = s exp(i phase) at points (..., 3)."""
        return np.asarray(self.inside(points_nm) * np.exp(1j * self.phase_at(points_nm)), np.complex128)

    def vertices_nm(self) -> Floats:
        """Corners of the polyhedron, (n, 3). The origin must be inside."""
        planes = [(*facet.normal, -facet.offset_nm) for facet in self.facets]
        return np.asarray(HalfspaceIntersection(np.array(planes), np.zeros(3)).intersections)


_TRUTH = TypeAdapter(Truth)


def truth_to_dict(truth: Truth) -> dict[str, Any]:
    """The crystal as a JSON-plain table."""
    return dict(_TRUTH.dump_python(truth, mode="json"))


def truth_of(scan: RockingScan) -> Truth:
    """The crystal that a simulated scan was made of. Raises ScanError where the scan was measured."""
    table = scan.metadata.get("simulated")
    if not isinstance(table, Mapping) or "truth" not in table:
        raise ScanError(f"{scan.name} is not simulated: its metadata have no truth")
    try:
        return _TRUTH.validate_python(table["truth"])
    except ValidationError as error:
        raise ScanError(f"{scan.name}: its simulated truth cannot be read: {error}") from None


def random_truth(
    h_invA: Floats, reciprocal: Floats, *, strain: str, oversampling: float, seed: int, kind: str = "faceted"
) -> Truth:
    """A crystal of `kind` (one of KINDS) with gold's [111] along h and a random turn about it.

    Its size is the largest with `oversampling` on every array axis: its width along each column g_j of
    `reciprocal` (steps of q, 1/ångström) is at most 2 pi / (|g_j| oversampling). `strain` is one of STRAINS.
    """
    if strain not in STRAINS:
        raise ScanError(f"unknown strain {strain!r}; there are {', '.join(STRAINS)}")
    if kind not in KINDS:
        raise ScanError(f"unknown kind of crystal {kind!r}; there are {', '.join(KINDS)}")
    made, random = KINDS[kind], np.random.default_rng(seed)
    turned = _frame_along(h_invA, random.uniform(0, 2 * np.pi)) @ _frame_along(np.ones(3), 0.0).T
    rough = _centred(Truth(facets=made.outline(turned, random), h_invA=vector(h_invA)))
    widths = np.ptp(rough.vertices_nm() @ reciprocal, axis=0) * 10 / (2 * np.pi)
    scale = 1 / (widths.max() * oversampling)
    facets = tuple(Facet(normal=facet.normal, offset_nm=float(facet.offset_nm * scale)) for facet in rough.facets)
    smooth = _strained(Truth(facets=facets, h_invA=rough.h_invA), STRAINS[strain], random, even=made.even)
    return _with_defect(smooth, made, turned, random)


def _with_defect(truth: Truth, made: Kind, turned: Floats, random: np.random.Generator) -> Truth:
    if made.defect is None:
        return truth
    defect: Defect = made.defect(min(facet.offset_nm for facet in truth.facets), turned, random)
    if isinstance(defect, Void):
        return replace(truth, voids=(defect,))
    if isinstance(defect, Wall):
        return replace(truth, walls=(defect,))
    return replace(truth, dislocations=(defect,))


def _frame_along(direction: Floats, turn_rad: float) -> Floats:
    """Orthonormal right-handed columns, the third along `direction`, the others turned about it."""
    third = np.asarray(direction, float) / np.linalg.norm(direction)
    first = np.cross(third, np.eye(3)[np.argmin(np.abs(third))])
    first /= np.linalg.norm(first)
    second = np.cross(third, first)
    cos, sin = np.cos(turn_rad), np.sin(turn_rad)
    return np.stack([cos * first + sin * second, cos * second - sin * first, third], axis=1)


def inner_points(truth: Truth) -> Floats:
    """A regular grid of points inside the polyhedron, (n, 3)."""
    corners = truth.vertices_nm()
    axes = [np.linspace(low, high, _PROBE_POINTS) for low, high in zip(corners.min(0), corners.max(0))]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    return np.asarray(points[truth.inside(points)])


def _centred(truth: Truth) -> Truth:
    """The same polyhedron with its centre of mass at the origin."""
    centre = inner_points(truth).mean(axis=0)
    facets = tuple(
        Facet(normal=facet.normal, offset_nm=facet.offset_nm - float(np.dot(facet.normal, centre)))
        for facet in truth.facets
    )
    return Truth(facets=facets, h_invA=truth.h_invA)


def _strained(truth: Truth, peak_rad: float, random: np.random.Generator, *, even: bool) -> Truth:
    """Add waves longer than the crystal, less their mean and slope (which no diffraction pattern shows); `even`:
    all of them with a crest at the origin."""
    if peak_rad == 0:
        return truth
    points = inner_points(truth)
    radius_nm = float(np.linalg.norm(points, axis=1).max())
    waves = []
    for _ in range(_WAVES):
        direction = random.normal(size=3)
        k = direction / np.linalg.norm(direction) * random.uniform(1.5, 3.0) / radius_nm
        waves.append((random.uniform(0.5, 1.0), vector(k), 0.0 if even else random.uniform(0, 2 * np.pi)))
    rough = Truth(
        facets=truth.facets,
        h_invA=truth.h_invA,
        waves=tuple(Wave(amplitude_angstrom=a, k_inv_nm=k, phase_rad=p) for a, k, p in waves),
    )
    field = rough.displacement_at(points)
    line = np.column_stack([np.ones(len(points)), points])
    fit = np.linalg.lstsq(line, field, rcond=None)[0]
    scale = peak_rad / (np.abs(field - line @ fit).max() * np.linalg.norm(truth.h_invA))
    return Truth(
        facets=truth.facets,
        h_invA=truth.h_invA,
        waves=tuple(Wave(amplitude_angstrom=float(a * scale), k_inv_nm=k, phase_rad=p) for a, k, p in waves),
        offset_angstrom=float(-fit[0] * scale),
        gradient_angstrom_per_nm=vector(-fit[1:] * scale),
    )
