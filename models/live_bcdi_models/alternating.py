"""Projections and a learned correction by turns: what the solver finds in a few iterations, repaired by a
network.

The projections need no learning and put right what a voxel's neighbours cannot know; the network knows what
crystals look like, where the solver stagnates: twins on top of each other, stripes, holes, a support that is too
loose.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from .layers import (
    PLACES,
    Conditions,
    Modulus,
    as_channels,
    as_complex,
    autocorrelation_in,
    padded,
    places_in,
    ramp_of,
    windowed,
)
from .networks import Guess, Network, Refiner
from .simulator import EDGE

_WIDE = 64  # features of the conditions
_MEMORY = 8
_BETA = 0.9
_BURST, _EASE = 8, 4  # HIO iterations between two supports, and ER at the end of a round
_FIRST, _LATER = 3, 1  # bursts of the first round, and of each later one
_RIM = 0.2  # of the maximum of the smoothed amplitude: the crystal's edge
_POSSIBLE = 0.2  # the least root of the autocorrelation at 2 r, of that at 0, where there may be crystal
_ASYMMETRY = (
    0.7  # radians of fixed noise that a start has: the pattern cannot tell the twins apart, nor can a flat start
)


class Alternating(Network):
    """`rounds` of HIO with shrinkwrap and ER, each followed by one network's correction of all it sees of the
    object."""

    noise: Tensor

    def __init__(self, rounds: int = 2) -> None:
        super().__init__()
        self.rounds = rounds
        self.conditions = Conditions(_WIDE)
        self.stage = nn.Embedding(rounds, _WIDE)
        self.refiner = Refiner(4 + _MEMORY + PLACES, 2 + _MEMORY, _WIDE)
        self.doubt = nn.Conv3d(_MEMORY, 1, 1)
        self.alarm = nn.Linear(self.refiner.told, 2)
        noise = torch.randn(EDGE, EDGE, EDGE, generator=torch.Generator().manual_seed(0))
        self.register_buffer("noise", _ASYMMETRY * noise, persistent=False)

    def forward(self, intensity: Tensor, measured: Tensor, oversampling: Tensor) -> Guess:
        conditions = self.conditions(intensity.sum((1, 2, 3)), oversampling)
        seen = torch.cat([places_in(oversampling), autocorrelation_in(intensity)], dim=1)
        power = EDGE**3 / oversampling.prod(1)
        pattern = Modulus(intensity, measured, power)
        ramp = torch.polar(torch.ones_like(seen[:, 0]), ramp_of(intensity))
        support = possible(seen)
        # while it learns, every start is another one
        noise = _ASYMMETRY * torch.randn_like(support) if self.training else self.noise
        density = windowed(support * torch.polar(torch.ones_like(noise), noise)) * ramp
        memory = seen.new_zeros(len(seen), _MEMORY, *seen.shape[2:])
        stages = []
        for number in range(self.rounds):
            with torch.no_grad():
                density = solved(pattern, density, support, bursts=_LATER if number else _FIRST)
                # upright: no phase, no slope on the whole, and the power that it must have
                upright = density * ramp.conj()
                mean = (upright * upright.abs()).sum((1, 2, 3))
                size = (power / density.abs().square().sum((1, 2, 3)).clamp_min(1e-12)).sqrt()
                turn = (torch.polar(size, -mean.angle()).view(-1, 1, 1, 1)) * ramp.conj()
                density, projected = density * turn, pattern.projected(density) * turn
            known = torch.cat([as_channels(density), as_channels(projected), memory, seen], dim=1)
            change, told = self.refiner(known, conditions + self.stage.weight[number])
            density, memory = density + as_complex(change), change[:, 2:].float()
            density = density * ramp
            stages.append(density)
            support = padded(rim(density.detach().abs()).float())
        return Guess(
            density=density,
            log_variance=self.doubt(memory)[:, 0].float(),
            stages=tuple(stages[:-1]),
            alarm=self.alarm(told).float(),
        )


def possible(seen: Tensor) -> Tensor:
    """Where there may be crystal, (crystals, x, y, z) 0 or 1 of the whole array, from what `places_in` and
    `autocorrelation_in` give."""
    extent = seen[:, :3].abs().amax(1) < 1.2
    return padded((extent & (seen[:, 4:6].norm(dim=1) > _POSSIBLE)).float())


def rim(amplitude: Tensor) -> Tensor:
    """Inside the crystal's edge: the amplitude (crystals, x, y, z), smoothed, above a share of its maximum."""
    smooth = functional.avg_pool3d(amplitude.unsqueeze(1), 3, stride=1, padding=1).squeeze(1)
    return smooth > _RIM * smooth.amax((1, 2, 3), keepdim=True)


def solved(pattern: Modulus, density: Tensor, support: Tensor, *, bursts: int) -> Tensor:
    """The window after HIO (Fienup 1982) with a new support after every burst, and ER at the end."""
    array, inside = padded(density), support.bool()
    allowed = inside
    for _ in range(bursts):
        for _ in range(_BURST):
            projected = pattern.projected_array(array)
            array = torch.where(inside, projected, array - _BETA * projected)
        inside = rim(projected.abs()) & allowed
    for _ in range(_EASE):
        array = pattern.projected_array(torch.where(inside, array, 0.0))
    return windowed(torch.where(inside, array, 0.0))
