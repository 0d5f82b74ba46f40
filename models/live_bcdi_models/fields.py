"""What shifts the phase of a crystal: smooth strain, dislocations, walls, surfaces; many crystals at once.

The phase is -h . u (Sun & Singer, review, Eq. 1). A field gets a `Place` and gives radians (crystals, points). The
defects have the strength that the lattice gives them; the smooth ones get theirs from `simulator`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .chance import Chance

_POISSON = 0.33  # of most metals
_NODES = 11  # an axis, of the noise that Gaussian-correlated fields are made of
_REACH = 1.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Points of crystals: `body` (crystals, points, 3) in units of the radius; `axis` (grid,) the places of the
    same points along each array axis, -1 to 1 over the crystal; `depth` (crystals, points) below the surface."""

    body: Tensor
    axis: Tensor
    depth: Tensor


Field = Callable[[Place, Chance], Tensor]


def gaussian(place: Place, chance: Chance) -> Tensor:
    """Gaussian-correlated noise, correlation length 0.25 to 1.2 radii, as Wu et al. (2021) train with."""
    count, nodes = len(place.body), torch.linspace(-_REACH, _REACH, _NODES, device=chance.device)
    length = 0.25 * (1.2 / 0.25) ** chance.uniform(count, 1, 1)
    # a Gaussian kernel of this width, applied to white noise, has a correlation sqrt 2 wider
    kernel = torch.exp(-(((place.axis[:, None] - nodes) / length) ** 2))
    noise = chance.normal(count, _NODES, _NODES, _NODES)
    for _ in range(3):  # contracts the first axis and appends the new one
        noise = torch.einsum("bijk,bxi->bjkx", noise, kernel)
    return noise.flatten(1)


def flat(place: Place, chance: Chance) -> Tensor:
    """No strain."""
    return torch.zeros_like(place.depth)


def surface(place: Place, chance: Chance) -> Tensor:
    """Relaxed layers below the surface, decaying over 0.05 to 0.3 radii, pointing outwards: h . r sets the
    sign."""
    decay = chance.uniform(len(place.body), 1, low=0.05, high=0.3)
    along = torch.einsum("bpi,bi->bp", place.body, chance.directions(len(place.body)))
    return along * torch.exp(-place.depth.clamp_min(0) / decay)


def core_shell(place: Place, chance: Chance) -> Tensor:
    """A core that is larger than the shell, coherently: u = c r inside, c r0^3 r / |r|^3 outside (Eshelby)."""
    return _misfit(place, chance, reach=0.15, least=0.5, most=0.8)


def inclusion(place: Place, chance: Chance) -> Tensor:
    """A small misfitting ball anywhere in the crystal."""
    return _misfit(place, chance, reach=0.5, least=0.15, most=0.35)


def _misfit(place: Place, chance: Chance, *, reach: float, least: float, most: float) -> Tensor:
    count = len(place.body)
    centre = chance.directions(count, 1) * chance.uniform(count, 1, 1, high=reach)
    radius = chance.uniform(count, 1, low=least, high=most)
    away = place.body - centre
    falls = (radius / away.norm(dim=-1).clamp_min(1e-3)).clamp_max(1) ** 3
    return torch.einsum("bpi,bi->bp", away, chance.directions(count)) * falls


def bend(place: Place, chance: Chance) -> Tensor:
    """Bent and twisted: every quadratic and cubic form of the place."""
    count = len(place.body)
    quadratic = torch.einsum("bpi,bpj,bij->bp", place.body, place.body, chance.normal(count, 3, 3))
    along = torch.einsum("bpi,bi->bp", place.body, chance.directions(count))
    return quadratic + chance.normal(count, 1) * along**3


def walls(place: Place, chance: Chance) -> Tensor:
    """One to three domain walls or stacking faults: planes over which the phase jumps, sharp or 0.2 radii wide."""
    total = torch.zeros_like(place.depth)
    for number in range(3):
        total += _wall(place, chance) * (1.0 if number == 0 else (chance.uniform(len(total), 1) < 0.35))
    return total


def _wall(place: Place, chance: Chance) -> Tensor:
    count = len(place.body)
    normal, offset = chance.directions(count), chance.uniform(count, 1, low=-0.4, high=0.4)
    width = chance.uniform(count, 1, low=0.01, high=0.2)
    jump = chance.uniform(count, 1, low=1.0, high=math.pi)
    return 0.5 * jump * torch.tanh((torch.einsum("bpi,bi->bp", place.body, normal) - offset) / width)


def screw(place: Place, chance: Chance) -> Tensor:
    """One screw dislocation: b along the line."""
    return _dislocation(place, chance, screw_share=1.0)


def edge(place: Place, chance: Chance) -> Tensor:
    """One edge dislocation: b across the line."""
    return _dislocation(place, chance, screw_share=0.0)


def mixed(place: Place, chance: Chance) -> Tensor:
    """One dislocation with b at any angle to its line, and every fourth time a second one of its own."""
    second = chance.uniform(len(place.body), 1) < 0.25
    first = _dislocation(place, chance, screw_share=None)
    return first + second * _dislocation(place, chance, screw_share=None)


def dipole(place: Place, chance: Chance) -> Tensor:
    """Two parallel dislocations of opposite b, 0.4 to 0.9 radii apart."""
    count = len(place.body)
    line = DislocationLines.random(count, chance, screw_share=None)
    step = chance.uniform(count, 1, low=0.4, high=0.9) * line.across
    centred = line.moved(-step / 2)
    return centred.phase(place.body) - centred.moved(step).phase(place.body)


def _dislocation(place: Place, chance: Chance, *, screw_share: float | None) -> Tensor:
    return DislocationLines.random(len(place.body), chance, screw_share=screw_share).phase(place.body)


@dataclass(frozen=True, kw_only=True, slots=True)
class DislocationLines:
    """One straight dislocation a crystal, in an isotropic elastic solid (Hirth & Lothe, Theory of Dislocations).

    All are (crystals, 3): `point` on the line, unit `line`, unit `across` it, `burgers`, and h in `h` such that
    h . b is 2 pi times a whole number: b is a vector of the lattice.
    """

    point: Tensor
    line: Tensor
    across: Tensor
    burgers: Tensor
    h: Tensor

    @classmethod
    def random(cls, count: int, chance: Chance, *, screw_share: float | None) -> "DislocationLines":
        """|b| is 1; `screw_share` is the cosine between b and the line, any without one. h . b is 2 pi, or for
        every sixth 4 pi."""
        frame = chance.rotations(count)
        line, across = frame[..., 0], frame[..., 1]
        cosine = chance.uniform(count, 1) if screw_share is None else torch.full_like(line[:, :1], screw_share)
        burgers = cosine * line + (1 - cosine**2).clamp_min(0).sqrt() * across
        order = torch.where(chance.uniform(count, 1) < 1 / 6, 2.0, 1.0)
        aside = torch.linalg.cross(burgers, chance.directions(count))
        h = 2 * math.pi * (order * burgers + chance.uniform(count, 1) * aside)
        point = chance.directions(count) * chance.uniform(count, 1, high=0.45)
        return cls(point=point, line=line, across=across, burgers=burgers, h=h)

    def moved(self, by: Tensor) -> "DislocationLines":
        """The same lines elsewhere, by (crystals, 3)."""
        return DislocationLines(
            point=self.point + by, line=self.line, across=self.across, burgers=self.burgers, h=self.h
        )

    def phase(self, body: Tensor) -> Tensor:
        """-h . u at points (crystals, points, 3): -(h . b) once about the line."""
        screw = (self.burgers * self.line).sum(-1, keepdim=True)
        glide = self.burgers - screw * self.line
        climb = torch.linalg.cross(self.line, glide)
        third = torch.linalg.cross(self.line, self.across)
        away = body - self.point.unsqueeze(1)
        x = torch.einsum("bpi,bi->bp", away, self.across)
        y = torch.einsum("bpi,bi->bp", away, third)
        square = (x**2 + y**2).clamp_min(1e-6)
        angle = torch.atan2(y, x)
        sine, cosine = 2 * x * y / square, (x**2 - y**2) / square  # of twice the angle
        along_glide = angle + sine / (4 * (1 - _POISSON))
        along_climb = -((1 - 2 * _POISSON) * square.log() + cosine) / (4 * (1 - _POISSON))
        along_h = [(self.h * vector).sum(-1, keepdim=True) for vector in (self.line, glide, climb)]
        u = along_h[0] * screw * angle + along_h[1] * along_glide + along_h[2] * along_climb
        return -u / (2 * math.pi)


# name: (how often, the field)
TRAINED: Mapping[str, tuple[float, Field]] = {
    "gaussian": (0.42, gaussian),
    "screw": (0.08, screw),
    "edge": (0.08, edge),
    "mixed": (0.08, mixed),
    "walls": (0.12, walls),
    "surface": (0.09, surface),
    "core-shell": (0.09, core_shell),
    "flat": (0.04, flat),
}
HELD_OUT: Mapping[str, tuple[float, Field]] = {
    "dipole": (0.35, dipole),
    "inclusion": (0.3, inclusion),
    "bend": (0.35, bend),
}
DISLOCATED = frozenset({"screw", "edge", "mixed", "dipole"})
SHARP = DISLOCATED | {"walls"}  # their strength is the lattice's, not ours to scale
