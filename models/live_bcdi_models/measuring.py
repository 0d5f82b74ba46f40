"""From A(q) to what a detector counts: blur, drift, background, noise, gaps, frames that are not there."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .chance import Chance
from .simulator import EDGE, TRAINED, Crystals, Families, Spread, imaged, make_crystals, scattered


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """How patterns are measured. `photons`: counts expected of the whole pattern, log-uniform; the others are
    how large a flaw is at most and, after the comma, the share of the patterns that have it.

    `background`: counts a voxel over the mean one's; `blur`: standard deviation in voxels of the Gaussian that a
    partially coherent beam blurs with; `drift`: voxels that the peak walks over the scan; `flux`: standard
    deviation of the beam's intensity; `gaps`: dead rows or columns; `missing`: the share of the frames not
    there, from one end (a scan under way) or anywhere; `off_centre`: voxels between the pattern's centre of mass
    and n//2.
    """

    photons: tuple[float, float] = (1e3, 1e8)
    background: tuple[float, float] = (0.1, 0.5)
    blur: tuple[float, float] = (0.6, 0.3)
    drift: tuple[float, float] = (0.6, 0.2)
    flux: tuple[float, float] = (0.05, 0.3)
    gaps: tuple[float, float] = (3, 0.2)
    missing: tuple[float, float] = (0.66, 0.3)
    off_centre: tuple[float, float] = (2.0, 0.2)
    told: float = 0.06  # relative error of the oversampling that the network is told: it is an estimate


CLEAN = Conditions(
    background=(0, 0),
    blur=(0, 0),
    drift=(0, 0),
    flux=(0, 0),
    gaps=(0, 0),
    missing=(0, 0),
    off_centre=(0, 0),
    told=0,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """What a network sees, and what it should say. Arrays are (crystals, rocking, row, column), peak at n//2.

    `intensity` counts, 0 where not `measured`; `oversampling` (crystals, 3) as estimated; `target` the complex
    object of the whole noiseless pattern, its centre of mass at n//2, sum |S|^2 = voxels / product of
    oversampling.
    """

    intensity: Tensor
    measured: Tensor
    oversampling: Tensor
    target: Tensor
    crystals: Crystals


def make_batch(
    count: int,
    chance: Chance,
    *,
    families: Families = TRAINED,
    spread: Spread | None = None,
    conditions: Conditions | None = None,
    edge: int = EDGE,
) -> Batch:
    """`count` crystals, measured on `edge` voxels an axis. The same seed gives the same batch on the same kind of
    device; with another edge the same crystals."""
    conditions = conditions or Conditions()
    crystals = make_crystals(count, chance, families=families, spread=spread, edge=edge)
    amplitude = scattered(crystals, _off_centre(count, conditions, chance))
    told = crystals.oversampling * (1 + conditions.told * chance.normal(count, 3))
    intensity, measured = detected(amplitude.abs().square(), conditions, chance)
    power = edge**3 / told.prod(1)
    return Batch(
        intensity=intensity,
        measured=measured,
        oversampling=told,
        target=imaged(amplitude) * power.sqrt().view(-1, 1, 1, 1),
        crystals=crystals,
    )


def detected(pattern: Tensor, conditions: Conditions, chance: Chance) -> tuple[Tensor, Tensor]:
    """Counts of patterns of sum 1, and which voxels were measured."""
    count, edge = pattern.shape[:2]
    low, high = conditions.photons
    photons = low * (high / low) ** chance.uniform(count, 1, 1, 1)
    pattern = _drifted(_blurred(pattern, conditions, chance), conditions, chance)
    level, share = conditions.background
    background = _sometimes(share, count, chance).view(-1, 1, 1, 1) * chance.uniform(count, 1, 1, 1, high=level)
    expected = photons * (pattern + background / edge**3)
    spread, share = conditions.flux
    flux = 1 + spread * chance.normal(count, edge, 1, 1) * _sometimes(share, count, chance).view(-1, 1, 1, 1)
    measured = _measured(count, edge, conditions, chance)
    counts = chance.poisson((expected * flux.clamp_min(0)).clamp_min(0)) * measured
    return counts, measured


def _sometimes(share: float, count: int, chance: Chance) -> Tensor:
    return (chance.uniform(count) < share).float()


def _off_centre(count: int, conditions: Conditions, chance: Chance) -> Tensor:
    """A pattern is centred to the nearest voxel, and every now and then worse."""
    far, share = conditions.off_centre
    near = chance.uniform(count, 3, low=-0.5, high=0.5) * (share > 0)
    return near + chance.uniform(count, 3, low=-far, high=far) * _sometimes(share, count, chance).unsqueeze(1)


def _blurred(pattern: Tensor, conditions: Conditions, chance: Chance) -> Tensor:
    """A Gaussian mutual coherence function: the pattern's transform is multiplied by it."""
    width, share = conditions.blur
    count = len(pattern)
    which = _sometimes(share, count, chance).bool()
    widths = chance.uniform(count, 3, high=width)[which]
    if not len(widths):
        return pattern
    found = torch.fft.rfftn(pattern[which], dim=(1, 2, 3))
    for axis in range(3):
        frequency = torch.fft.fftfreq(pattern.shape[1], device=pattern.device)[: found.shape[axis + 1]].abs()
        damping = torch.exp(-2 * (math.pi * widths[:, axis : axis + 1] * frequency) ** 2)
        found = found * damping.view(len(widths), *[-1 if k == axis else 1 for k in range(3)])
    blurred = pattern.clone()
    blurred[which] = torch.fft.irfftn(found, s=pattern.shape[1:], dim=(1, 2, 3)).clamp_min(0)
    return blurred


def _drifted(pattern: Tensor, conditions: Conditions, chance: Chance) -> Tensor:
    """Frame by frame the peak wanders along rows and columns, a random walk as long as the scan."""
    far, share = conditions.drift
    count, edge = pattern.shape[:2]
    which = _sometimes(share, count, chance).bool()
    walk = chance.normal(count, edge, 2).cumsum(1) * far / math.sqrt(edge)
    walk = (walk - walk[:, edge // 2 : edge // 2 + 1])[which]
    if not len(walk):
        return pattern
    frequency = torch.fft.fftfreq(edge, device=pattern.device)
    turn = -2 * math.pi * (walk[..., :1, None] * frequency[:, None] + walk[..., 1:, None] * frequency)
    moved = pattern.clone()
    frames = torch.fft.fftn(pattern[which], dim=(2, 3)) * torch.polar(torch.ones_like(turn), turn)
    moved[which] = torch.fft.ifftn(frames, dim=(2, 3)).real.clamp_min(0)
    return moved


def _measured(count: int, edge: int, conditions: Conditions, chance: Chance) -> Tensor:
    return _frames_there(count, edge, conditions, chance)[:, :, None, None] & _without_gaps(
        count, edge, conditions, chance
    )


def _frames_there(count: int, edge: int, conditions: Conditions, chance: Chance) -> Tensor:
    """(crystals, frames): most have all; of the others two in three end early, from either end, the rest have
    holes."""
    most, share = conditions.missing
    lost = chance.uniform(count, 1, high=most) * _sometimes(share, count, chance).unsqueeze(1)
    order = (torch.arange(edge, device=chance.device) + 0.5) / edge
    order = torch.where(chance.uniform(count, 1) < 0.5, order, 1 - order)
    return torch.where(chance.uniform(count, 1) < 2 / 3, order, chance.uniform(count, edge)) < 1 - lost


def _without_gaps(count: int, edge: int, conditions: Conditions, chance: Chance) -> Tensor:
    """(crystals, 1, rows, columns): a band of dead rows or columns, anywhere."""
    widest, share = conditions.gaps
    width = chance.uniform(count, 1, low=1.0, high=max(1.0, widest)) * _sometimes(share, count, chance).unsqueeze(
        1
    )
    away = torch.arange(edge, device=chance.device) - chance.uniform(count, 1, high=edge - 1)
    band = away.abs() < width / 2
    across = (chance.uniform(count, 1, 1) < 0.5).expand(-1, edge, edge)
    return ~torch.where(across, band[:, :, None], band[:, None, :]).unsqueeze(1)
