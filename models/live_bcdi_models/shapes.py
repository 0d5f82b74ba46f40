"""Outlines of crystals, many at once: how deep points lie below the surface.

Body frame (x, y, z), lengths in units of about the crystal's radius. `Depth` takes points (crystals, points, 3)
and gives (crystals, points): positive inside, zero on the surface, near it a distance.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from .chance import Chance

Depth = Callable[[Tensor], Tensor]
Shape = Callable[[int, Chance], Depth]
_FAR = 1.7  # no crystal reaches further: a box that every polyhedron is cut by


def wulff(count: int, chance: Chance) -> Depth:
    """{111}, {100} and {110} at unequal distances; one facet is cut, where the substrate was."""
    octants = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3) / math.sqrt(3)
    cubes = torch.cat([torch.eye(3), -torch.eye(3)])
    pairs = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0])] * 3)
    edges = pairs[pairs.abs().sum(1) == 2] / math.sqrt(2)
    normals = chance.on(torch.cat([octants, cubes, edges])).expand(count, -1, -1)
    energies = torch.cat([chance.uniform(count, 1, low=low, high=high) for low, high in _ENERGIES], dim=1)
    offsets = energies.repeat_interleave(chance.on(torch.tensor([8, 6, 12])), dim=1)
    offsets = offsets * chance.uniform(count, 26, low=0.85, high=1.15)
    return _polyhedron(normals, _cut(offsets, chance))


_ENERGIES = ((0.85, 1.15), (0.85, 1.35), (0.95, 1.45))  # of {111}, {100}, {110}, about those of fcc metals


def polyhedron(count: int, chance: Chance, facets: int = 16) -> Depth:
    """Planes in all directions, none parallel to another."""
    normals = chance.directions(count, facets)
    return _polyhedron(normals, chance.uniform(count, facets, low=0.6, high=1.1))


def superellipsoid(count: int, chance: Chance) -> Depth:
    """|x/a|^p + |y/b|^p + |z/c|^p <= 1, p from 1.5 (nearly an octahedron) over 2 to 8 (nearly a cube)."""
    power = 1.5 * (8 / 1.5) ** chance.uniform(count, 1, 1)
    axes = chance.uniform(count, 1, 3, low=0.5, high=1.0)

    def depth(points: Tensor) -> Tensor:
        scaled = (points / axes).abs().clamp_min(1e-6).pow(power).sum(-1)
        return (1 - scaled.pow(1 / power[..., 0])) * axes.amin(-1)

    return depth


def plate(count: int, chance: Chance) -> Depth:
    """A hexagonal prism, 0.25 to 1.2 times as thick as wide, its sides at unequal distances."""
    turns = torch.arange(6) * (math.pi / 3)
    sides = torch.stack([turns.cos(), turns.sin(), torch.zeros(6)], dim=1)
    bases = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])
    normals = chance.on(torch.cat([sides, bases])).expand(count, -1, -1)
    wide = chance.uniform(count, 6, low=0.8, high=1.0)
    thick = chance.uniform(count, 1, low=0.25, high=1.0).expand(-1, 2)
    return _polyhedron(normals, torch.cat([wide, thick], dim=1))


def twinned(count: int, chance: Chance) -> Depth:
    """One half mirrors the other, with re-entrant edges; every second one lacks a lamella, which is of the other
    orientation and does not scatter into this peak."""
    parent = wulff(count, chance)
    normal = chance.directions(count, 1)
    place = chance.uniform(count, 1, low=-0.3, high=0.3)
    half = chance.uniform(count, 1, low=0.06, high=0.2) * (chance.uniform(count, 1) < 0.5)

    def depth(points: Tensor) -> Tensor:
        above = (points * normal).sum(-1) - place
        folded = points - 2 * above.clamp_min(0).unsqueeze(-1) * normal
        return torch.where(half > 0, torch.minimum(parent(folded), above.abs() - half), parent(folded))

    return depth


def hollow(count: int, chance: Chance) -> Depth:
    """An ellipsoidal void of 0.2 to 0.55 of the radius, off the middle."""
    parent = wulff(count, chance)
    radii = chance.uniform(count, 1, 1, low=0.2, high=0.55) * chance.uniform(count, 1, 3, low=0.7, high=1.0)
    centre = chance.directions(count, 1) * chance.uniform(count, 1, 1, low=0.0, high=0.4)

    def depth(points: Tensor) -> Tensor:
        outside = (((points - centre) / radii).norm(dim=-1) - 1) * radii.amin(-1)
        return torch.minimum(parent(points), outside)

    return depth


def cylinder(count: int, chance: Chance) -> Depth:
    """A round rod, 1 to 2 times as long as wide."""
    radius = chance.uniform(count, 1, low=0.5, high=0.9)

    def depth(points: Tensor) -> Tensor:
        return torch.minimum(radius - points[..., :2].norm(dim=-1), 1 - points[..., 2].abs())

    return depth


def tetrahedron(count: int, chance: Chance) -> Depth:
    """Four faces, and the corners cut off."""
    faces = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / math.sqrt(3)
    normals = chance.on(torch.cat([faces, -faces])).expand(count, -1, -1)
    offsets = torch.cat(
        [
            chance.uniform(count, 4, low=0.5, high=0.65),
            chance.uniform(count, 4, low=0.9, high=1.3),
        ],
        dim=1,
    )
    return _polyhedron(normals, offsets)


def necked(count: int, chance: Chance) -> Depth:
    """Two balls grown together, as sintered particles are."""
    radii = chance.uniform(count, 2, low=0.5, high=0.85)
    apart = radii.sum(1) * chance.uniform(count, low=0.5, high=0.8)

    def depth(points: Tensor) -> Tensor:
        along = torch.zeros_like(points)
        along[..., 0] = apart[:, None] / 2
        first = radii[:, :1] - (points - along).norm(dim=-1)
        return torch.maximum(first, radii[:, 1:] - (points + along).norm(dim=-1))

    return depth


TRAINED: Mapping[str, Shape] = {
    "wulff": wulff,
    "polyhedron": polyhedron,
    "superellipsoid": superellipsoid,
    "plate": plate,
    "twinned": twinned,
    "hollow": hollow,
}
HELD_OUT: Mapping[str, Shape] = {"cylinder": cylinder, "tetrahedron": tetrahedron, "necked": necked}


def _cut(offsets: Tensor, chance: Chance) -> Tensor:
    chosen = torch.nn.functional.one_hot(chance.integers(offsets.shape[1], len(offsets)), offsets.shape[1])
    return offsets * torch.where(chosen.bool(), chance.uniform(len(offsets), 1, low=0.4, high=1.0), 1.0)


def _polyhedron(normals: Tensor, offsets: Tensor) -> Depth:
    def depth(points: Tensor) -> Tensor:
        below = (offsets.unsqueeze(-1) - normals @ points.transpose(1, 2)).amin(1)
        return torch.minimum(below, _FAR - points.abs().amax(-1))

    return depth
