"""Crystals and what they scatter, made on the device while the network trains on them.

Arrays are (crystals, rocking, row, column), peak at n//2. `A(q) = sum S(r) exp(-i q.r)`, and the object that a
network is to find is the one that the pattern's box of q can show: the inverse transform of A in that box, its
centre of mass at n//2.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from . import fields, shapes
from .chance import Chance

EDGE = 32  # voxels of every axis of a network's pattern, and points an axis across its crystal
LEAST, MOST = 2.0, 6.0  # oversampling
_COARSE = 20  # points an axis of the first look, that finds how large a crystal is
_BOX = 2.6  # half the edge of that look, in radii
_MARGIN = 1.5  # points of the first look that its box may be off


@dataclass(frozen=True, kw_only=True, slots=True)
class Families:
    """What crystals are drawn from: name to shape, and name to how often and field."""

    shapes: Mapping[str, shapes.Shape]
    fields: Mapping[str, tuple[float, fields.Field]]


TRAINED = Families(shapes=shapes.TRAINED, fields=fields.TRAINED)
HELD_OUT = Families(shapes=shapes.HELD_OUT, fields=fields.HELD_OUT)


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """Between which limits crystals are drawn: oversampling of every axis, standard deviation of the smooth phase
    in radians (log-uniform), and by how much of the oversampling the axes differ."""

    oversampling: tuple[float, float] = (LEAST, MOST)
    strain_rad: tuple[float, float] = (0.1, 2.5)
    anisotropy: float = 0.35


# By the standard deviation of the phase. Peak to peak it is four to five times as much.
STRAINS = {"weak": (0.1, 0.35), "medium": (0.35, 1.0), "strong": (1.0, 2.5)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Crystals:
    """Crystals on a fine grid: `density` (crystals, x, y, z) complex, of as many points an axis as their pattern
    has voxels; `pitch` (crystals, 3) its points in voxels of the pattern's object, `oversampling` (crystals, 3)
    the pattern's edge over the crystal's extent.

    `shapes` and `fields` name the families; `dislocated` and `twinned` (crystals,) say what an alarm must find.
    """

    density: Tensor
    pitch: Tensor
    oversampling: Tensor
    shapes: tuple[str, ...]
    fields: tuple[str, ...]
    dislocated: Tensor
    twinned: Tensor


def make_crystals(
    count: int, chance: Chance, *, families: Families = TRAINED, spread: Spread | None = None, edge: int = EDGE
) -> Crystals:
    """`count` crystals for patterns of `edge` voxels; the same seed gives the same ones, whatever the edge. The
    extents fit the asked oversampling exactly."""
    spread = spread or Spread()
    names = list(families.shapes)
    kinds = chance.choice([1.0] * len(names), count).tolist()
    frame = _frames(count, chance)
    depth_of = _grouped(kinds, [families.shapes[name] for name in names], chance)
    axes = _axes_about(depth_of, frame, edge)
    body = _points(frame, axes)
    depth = depth_of(body)
    pitch_body = (axes[..., 1] - axes[..., 0]) * frame.norm(dim=1)  # of each axis, radii a point
    density = (0.5 + depth / pitch_body.mean(-1, keepdim=True)).clamp(0, 1)
    place = fields.Place(body=body, axis=torch.linspace(-1, 1, edge, device=chance.device), depth=depth)
    phase, drawn = _phase(place, density, families, spread, chance)
    oversampling = _oversampling(count, spread, chance)
    grid = (count, edge, edge, edge)
    return Crystals(
        density=torch.polar(density, phase).view(grid),
        pitch=edge / oversampling / _extents(density.view(grid)),
        oversampling=oversampling,
        shapes=tuple(names[kind] for kind in kinds),
        fields=drawn,
        dislocated=torch.tensor([name in fields.DISLOCATED for name in drawn], device=chance.device),
        twinned=torch.tensor(
            [name == "walls" or names[kind] == "twinned" for name, kind in zip(drawn, kinds)], device=chance.device
        ),
    )


def scattered(crystals: Crystals, shift: Tensor | None = None) -> Tensor:
    """A(q), (crystals, rocking, row, column), complex, sum |A|^2 = 1, in a box of as many voxels as the density
    has points.

    The crystal's centre of mass is at the origin, and the pattern's at voxel n//2 + `shift` (crystals, 3): a phase
    ramp across the crystal moves nothing but the pattern.
    """
    density = crystals.density
    weight = density.abs().square()
    rest, edge = density, density.shape[1]
    for axis in (1, 2, 3):
        index = torch.arange(edge, device=density.device, dtype=torch.float32)
        across = tuple(k for k in (1, 2, 3) if k != axis)
        centre = (weight.sum(across) * index).sum(1) / weight.sum((1, 2, 3))
        earlier, later = density.narrow(axis, 0, edge - 1), density.narrow(axis, 1, edge - 1)
        slope = (later * earlier.conj()).sum((1, 2, 3)).angle()
        step = 2 * math.pi / edge * crystals.pitch[:, axis - 1]
        q = torch.arange(edge, device=density.device) - edge // 2 + torch.zeros_like(step)[:, None]
        if shift is not None:
            q = q - shift[:, axis - 1 : axis]
        turn = -(q * step[:, None] + slope[:, None]).unsqueeze(-1) * (index - centre[:, None]).unsqueeze(1)
        kernel = torch.polar(torch.ones_like(turn), turn)
        # contracts the first array axis and appends the new one: after three, the order is the old one
        rest = torch.einsum("bxyz,bqx->byzq", rest, kernel)
    return rest / rest.abs().square().sum((1, 2, 3), keepdim=True).sqrt()


def imaged(amplitude: Tensor) -> Tensor:
    """The object of a box of A(q), both centred at n//2; the sum of its squared moduli is that of A."""
    inverse = torch.fft.ifftn(torch.fft.ifftshift(amplitude, dim=(1, 2, 3)), dim=(1, 2, 3), norm="ortho")
    return torch.fft.fftshift(inverse, dim=(1, 2, 3))


def _frames(count: int, chance: Chance) -> Tensor:
    """From array axes to the body frame, (crystals, 3, 3): the detector's axes are sheared and of unequal
    steps."""
    shear = torch.eye(3, device=chance.device) + 0.2 * chance.normal(count, 3, 3).clamp(-2, 2).triu(1)
    return chance.rotations(count) @ shear


def _grouped(kinds: list[int], made: list[shapes.Shape], chance: Chance) -> shapes.Depth:
    members = [
        torch.tensor([k for k, kind in enumerate(kinds) if kind == n], device=chance.device)
        for n in range(len(made))
    ]
    depths = [shape(len(which), chance) if len(which) else None for shape, which in zip(made, members)]

    def depth(points: Tensor) -> Tensor:
        found = points.new_empty(points.shape[:2])
        for which, part in zip(members, depths):
            if part is not None:
                found[which] = part(points[which])
        return found

    return depth


def _axes_about(depth_of: shapes.Depth, frame: Tensor, edge: int) -> Tensor:
    """Places (crystals, 3, `edge`) along the array axes, from one side of the crystal to the other."""
    line = torch.linspace(-_BOX, _BOX, _COARSE, device=frame.device)
    inside = depth_of(_points(frame, line.expand(len(frame), 3, -1))) > -(line[1] - line[0]) / 2
    inside = inside.view(-1, _COARSE, _COARSE, _COARSE)
    low, high = [], []
    for axis in range(3):
        taken = inside.amax(tuple(k for k in (1, 2, 3) if k != axis + 1))
        low.append(torch.where(taken, line, math.inf).amin(1))
        high.append(torch.where(taken, line, -math.inf).amax(1))
    margin = _MARGIN * (line[1] - line[0]) / 2
    start, stop = torch.stack(low, 1) - margin, torch.stack(high, 1) + margin
    steps = torch.linspace(0, 1, edge, device=frame.device)
    return start.unsqueeze(-1) + (stop - start).unsqueeze(-1) * steps


def _points(frame: Tensor, axes: Tensor) -> Tensor:
    """Body-frame points (crystals, points, 3) of a grid with these places along each array axis."""
    x, y, z = (frame[:, :, k].unsqueeze(1) * axes[:, k].unsqueeze(-1) for k in range(3))
    grid = x[:, :, None, None] + y[:, None, :, None] + z[:, None, None, :]
    return grid.flatten(1, 3)


def _extents(density: Tensor) -> Tensor:
    """Length along each axis in points, (crystals, 3), to a part of one: where the densest line reaches half."""
    found = []
    for axis in range(3):
        profile = density.amax(tuple(k for k in (1, 2, 3) if k != axis + 1))
        inside = profile > 0.5
        index = torch.arange(profile.shape[1], device=density.device)
        first = torch.where(inside, index, profile.shape[1]).amin(1)
        last = torch.where(inside, index, -1).amax(1)
        found.append(last - first + _crossing(profile, first, -1) + _crossing(profile, last, 1))
    return torch.stack(found, 1)


def _crossing(profile: Tensor, at: Tensor, step: int) -> Tensor:
    """How far beyond point `at` the profile falls to a half, in points."""
    last = profile.shape[1] - 1
    here = profile.gather(1, at.clamp(0, last).unsqueeze(1)).squeeze(1)
    there = profile.gather(1, (at + step).clamp(0, last).unsqueeze(1)).squeeze(1)
    return ((here - 0.5) / (here - there).clamp_min(1e-3)).clamp(0, 1)


def _oversampling(count: int, spread: Spread, chance: Chance) -> Tensor:
    """Of one crystal, the axes are alike within `spread.anisotropy`."""
    low, high = spread.oversampling
    common = low * (high / low) ** chance.uniform(count, 1)
    ratio = (1 + spread.anisotropy) ** chance.uniform(count, 3, low=-1.0, high=1.0)
    return (common * ratio).clamp(low, high)


def _phase(
    place: fields.Place, density: Tensor, families: Families, spread: Spread, chance: Chance
) -> tuple[Tensor, tuple[str, ...]]:
    """Phases (crystals, points) of a field each, smooth strain below the sharp ones, and the fields' names."""
    names = list(families.fields)
    kinds = chance.choice([families.fields[name][0] for name in names], len(density)).tolist()
    low, high = spread.strain_rad
    strength = low * (high / low) ** chance.uniform(len(density), 1)
    phase = torch.zeros_like(density)
    for number, name in enumerate(names):
        which = torch.tensor([k for k, kind in enumerate(kinds) if kind == number], device=density.device)
        if len(which):
            part = fields.Place(body=place.body[which], axis=place.axis, depth=place.depth[which])
            phase[which] = _of_strength(
                name, families.fields[name][1], part, density[which], strength[which], chance
            )
    return phase, tuple(names[kind] for kind in kinds)


def _of_strength(
    name: str, field: fields.Field, place: fields.Place, density: Tensor, strength: Tensor, chance: Chance
) -> Tensor:
    if name == "flat":
        return field(place, chance)
    if name in fields.SHARP:
        # as it is, on some smooth strain that does not hide it
        smooth = _scaled(fields.gaussian(place, chance), place, density, strength.clamp_max(0.5))
        return field(place, chance) + smooth
    return _scaled(field(place, chance), place, density, strength)


def _scaled(phase: Tensor, place: fields.Place, density: Tensor, strength: Tensor) -> Tensor:
    """Without its mean and slope in the crystal, and with the standard deviation `strength` there."""
    line = torch.cat([torch.ones_like(place.body[..., :1]), place.body], dim=-1)
    weighted = line * density.unsqueeze(-1)
    normal = line.transpose(1, 2) @ weighted + 1e-3 * torch.eye(4, device=line.device)
    fit = torch.linalg.solve(normal, weighted.transpose(1, 2) @ phase.unsqueeze(-1))
    rest = phase - (line @ fit).squeeze(-1)
    power = (rest.square() * density).sum(1, keepdim=True) / density.sum(1, keepdim=True)
    return rest * strength / power.sqrt().clamp_min(1e-6)


def only(crystals: Crystals, which: Tensor) -> Crystals:
    """Those of the crystals where `which` (crystals,) is True."""
    kept = which.tolist()
    return replace(
        crystals,
        density=crystals.density[which],
        pitch=crystals.pitch[which],
        oversampling=crystals.oversampling[which],
        shapes=tuple(name for name, keep in zip(crystals.shapes, kept) if keep),
        fields=tuple(name for name, keep in zip(crystals.fields, kept) if keep),
        dislocated=crystals.dislocated[which],
        twinned=crystals.twinned[which],
    )
