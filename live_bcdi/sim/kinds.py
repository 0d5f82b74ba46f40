"""Kinds of simulated crystal: outlines of radius about 1, and what is wrong within.

Outlines and defects are given in the cubic axes of gold, [111] along h; `turned` (3, 3) takes them to the lab.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from .parts import Dislocation, Facet, Floats, Void, Wall, vector

GOLD_ANGSTROM = 4.0782
_BALL_PAIRS = 60  # pairs of planes that a ball is cut by: its surface is nowhere 2 % of the radius off

Outline: TypeAlias = Callable[[Floats, np.random.Generator], tuple[Facet, ...]]
Defect: TypeAlias = Void | Wall | Dislocation
MakeDefect: TypeAlias = Callable[[float, Floats, np.random.Generator], Defect]


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """An outline; `even`: the strain is the same at r and -r; `defect` of an inner radius in nm, or None."""

    outline: Outline
    even: bool = False
    defect: MakeDefect | None = None


def _facets(normals: Floats, offsets: Floats, turned: Floats) -> tuple[Facet, ...]:
    return tuple(
        Facet(normal=vector(turned @ normal), offset_nm=float(offset))
        for normal, offset in zip(normals, offsets, strict=True)
    )


def _faceted(turned: Floats, random: np.random.Generator) -> tuple[Facet, ...]:
    """Gold-like: {111} and {100} at unequal distances, one of them cut by the substrate."""
    octants = np.array([(x, y, z) for x in (1, -1) for y in (1, -1) for z in (1, -1)]) / np.sqrt(3)
    cubes = np.concatenate([np.eye(3), -np.eye(3)])
    # Gold's {100} lie about 1.15 times as far out as its {111}; growth makes no two facets alike.
    offsets = np.repeat([1.0, 1.15], [8, 6]) * random.uniform(0.8, 1.2, 14)
    offsets[random.integers(14)] *= 0.6  # the facet that sat on the substrate
    return _facets(np.concatenate([octants, cubes]), offsets, turned)


def _cube(turned: Floats, random: np.random.Generator) -> tuple[Facet, ...]:
    return _facets(np.concatenate([np.eye(3), -np.eye(3)]), np.ones(6), turned)


def _prism(turned: Floats, random: np.random.Generator) -> tuple[Facet, ...]:
    """A hexagonal plate of {111} bases and {112} sides, as gold grows them, 0.5 to 1 times as thick as wide."""
    sides = np.array([(1, 1, -2), (1, -2, 1), (-2, 1, 1)]) / np.sqrt(6)
    normals = np.concatenate([sides, -sides, [np.ones(3) / np.sqrt(3)], [-np.ones(3) / np.sqrt(3)]])
    return _facets(normals, np.repeat([1.0, random.uniform(0.5, 1.0)], [6, 2]), turned)


def _ellipsoid(turned: Floats, random: np.random.Generator) -> tuple[Facet, ...]:
    """Half axes of 0.7 to 1; a plane of normal n touches it at sqrt(sum (a n)^2)."""
    k = np.arange(_BALL_PAIRS)
    height, turn = (k + 0.5) / _BALL_PAIRS, k * np.pi * (3 - np.sqrt(5))
    ring = np.sqrt(1 - height**2)
    half = np.column_stack([ring * np.cos(turn), ring * np.sin(turn), height])
    normals = np.concatenate([half, -half])
    return _facets(normals, np.linalg.norm(normals * random.uniform(0.7, 1.0, 3), axis=1), turned)


def _void(radius_nm: float, turned: Floats, random: np.random.Generator) -> Void:
    """Half as wide as the crystal's inner ball, and off its middle."""
    return Void(centre_nm=_near_middle(0.3 * radius_nm, random), radius_nm=0.5 * radius_nm)


def _hollow(radius_nm: float, turned: Floats, random: np.random.Generator) -> Void:
    """Most of the crystal's inner ball."""
    return Void(centre_nm=(0.0, 0.0, 0.0), radius_nm=0.75 * radius_nm)


def _fault(radius_nm: float, turned: Floats, random: np.random.Generator) -> Wall:
    """A stacking fault on (11-1), R = a/6 [112]: h . R = 4 pi / 3 for h = (111), seen as a phase of 2 pi / 3."""
    normal = turned @ (np.array([1.0, 1.0, -1.0]) / np.sqrt(3))
    jump = GOLD_ANGSTROM / 6 * float(np.array([1.0, 1.0, 2.0]).sum()) / np.sqrt(3)
    return Wall(normal=vector(normal), offset_nm=float(random.uniform(-0.4, 0.4) * radius_nm), jump_angstrom=jump)


_BURGERS = np.array([1.0, 1.0, 0.0]) * GOLD_ANGSTROM / 2  # a/2 [110]: h . b = 2 pi for h = (111)


def _screw(radius_nm: float, turned: Floats, random: np.random.Generator) -> Dislocation:
    return Dislocation(
        point_nm=_near_middle(0.4 * radius_nm, random),
        line=vector(turned @ (_BURGERS / np.linalg.norm(_BURGERS))),
        burgers_angstrom=vector(turned @ _BURGERS),
    )


def _edge(radius_nm: float, turned: Floats, random: np.random.Generator) -> Dislocation:
    """Its line is along [1-1-2], in the slip plane (1-11)."""
    return Dislocation(
        point_nm=_near_middle(0.4 * radius_nm, random),
        line=vector(turned @ (np.array([1.0, -1.0, -2.0]) / np.sqrt(6))),
        burgers_angstrom=vector(turned @ _BURGERS),
    )


def _near_middle(reach_nm: float, random: np.random.Generator) -> tuple[float, float, float]:
    direction = random.normal(size=3)
    return vector(direction / np.linalg.norm(direction) * random.uniform(0, reach_nm))


KINDS: Mapping[str, Kind] = {
    "faceted": Kind(outline=_faceted),
    "cube": Kind(outline=_cube),
    "ellipsoid": Kind(outline=_ellipsoid),
    "prism": Kind(outline=_prism),
    "even cube": Kind(outline=_cube, even=True),
    "even ellipsoid": Kind(outline=_ellipsoid, even=True),
    "even prism": Kind(outline=_prism, even=True),
    "void": Kind(outline=_faceted, defect=_void),
    "hollow": Kind(outline=_faceted, defect=_hollow),
    "fault": Kind(outline=_faceted, defect=_fault),
    "screw": Kind(outline=_faceted, defect=_screw),
    "edge": Kind(outline=_faceted, defect=_edge),
}
