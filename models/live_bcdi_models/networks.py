"""The networks that were compared, all from one pattern of `EDGE` voxels to one complex object.

Each takes `intensity` and `measured` (crystals, rocking, row, column) with the peak at n//2, and `oversampling`
(crystals, 3), and gives a `Guess`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .layers import (
    WINDOW,
    Block,
    Conditions,
    Decoder,
    Encoder,
    Leave,
    as_complex,
    autocorrelation_in,
    doubled,
    halved,
    places_in,
    ramp_of,
    resized,
    seen,
    windowed,
)
from .simulator import EDGE

_WIDE = 64  # features of the conditions
_EMPTY = -2.0  # where the logit of an amplitude begins: most of the window is empty


@dataclass(frozen=True, kw_only=True, slots=True)
class Guess:
    """`density` (crystals, x, y, z) complex64 in the window, its scale as `Batch.target`; `log_variance` of the
    same shape, the logarithm of the expected |error|^2 of a voxel, None where the network does not say; `stages`
    the densities on the way to it; `alarm` (crystals, 2), log odds of a dislocation and of a twin or wall, or
    None.
    """

    density: Tensor
    log_variance: Tensor | None = None
    stages: tuple[Tensor, ...] = ()
    alarm: Tensor | None = None


class Network(nn.Module):
    """A network of this module; `supervised` ones are shown the crystal, the others only the pattern."""

    supervised = True

    def forward(self, intensity: Tensor, measured: Tensor, oversampling: Tensor) -> Guess:
        raise NotImplementedError


def _places(intensity: Tensor, oversampling: Tensor) -> Tensor:
    """What is known of every voxel of the window beforehand."""
    return torch.cat([places_in(oversampling), autocorrelation_in(intensity)], dim=1)


def _crystal(shape: Tensor, phase: Tensor, oversampling: Tensor) -> Tensor:
    """Amplitude and phase, which are smoother in a crystal than real and imaginary parts and learned sooner, as a
    complex window of the power that `Batch.target` has: how bright it is in all need not be learned."""
    amplitude = torch.sigmoid(shape + _EMPTY)
    power = EDGE**3 / oversampling.prod(1) / amplitude.square().sum((1, 2, 3)).clamp_min(1e-12)
    return torch.polar(amplitude * power.sqrt().view(-1, 1, 1, 1), phase)


class TwoDecoders(Network):
    """Amplitude and phase from a decoder each (Wu et al., IUCrJ 8, 12 (2021); Serban et al. 2024)."""

    def __init__(self) -> None:
        super().__init__()
        self.conditions = Conditions(_WIDE)
        self.encoder = Encoder((32, 80, 160), _WIDE)
        self.amplitude = Decoder(160, (64, 32), _WIDE, 2)
        self.phase = Decoder(160, (64, 32), _WIDE, 1)

    def forward(self, intensity: Tensor, measured: Tensor, oversampling: Tensor) -> Guess:
        conditions = self.conditions(intensity.sum((1, 2, 3)), oversampling)
        features, places = self.encoder(seen(intensity, measured), conditions), _places(intensity, oversampling)
        shape = self.amplitude(features, conditions, places).float()
        phase = self.phase(features, conditions, places).float()[:, 0]
        return Guess(
            density=_crystal(shape[:, 0], phase + ramp_of(intensity), oversampling), log_variance=shape[:, 1]
        )


class Unsupervised(TwoDecoders):
    """The same, that never sees a crystal: its transform must have the measured moduli (AutoPhaseNN: Yao et al.,
    npj Comput. Mater. 8, 124 (2022))."""

    supervised = False


class ReciprocalPhase(Network):
    """The phase of every voxel of the pattern (Masto et al. 2025); the object is its inverse transform."""

    def __init__(self) -> None:
        super().__init__()
        self.conditions = Conditions(_WIDE)
        self.encoder = Encoder((48, 80, 160), _WIDE)
        self.up = nn.Conv3d(160, 80, 1)
        self.middle = Block(80, _WIDE)
        self.out = nn.Conv3d(80, 48, 1)
        self.enter = nn.Conv3d(16, 48, 3, padding=1)
        self.fine = Block(48, _WIDE)
        self.finer = Block(48, _WIDE)
        self.leave = Leave(48, 16)

    def forward(self, intensity: Tensor, measured: Tensor, oversampling: Tensor) -> Guess:
        conditions = self.conditions(intensity.sum((1, 2, 3)), oversampling)
        channels = seen(intensity, measured)
        features = self.middle(resized(self.up(self.encoder(channels, conditions)), 8), conditions)
        features = self.fine(self.enter(halved(channels)) + resized(self.out(features), 16), conditions)
        turn = 1 + as_complex(doubled(self.leave(self.finer(features, conditions))))  # begins with no phase
        turn = turn / (turn.abs().square() + 1e-6).sqrt()
        scale = (intensity[0].numel() / oversampling.prod(1) / intensity.sum((1, 2, 3)).clamp_min(1)).sqrt()
        amplitude = turn * intensity.sqrt() * scale.view(-1, 1, 1, 1)
        return Guess(density=windowed(_object(amplitude)))


def _object(amplitude: Tensor) -> Tensor:
    inverse = torch.fft.ifftn(torch.fft.ifftshift(amplitude, dim=(1, 2, 3)), dim=(1, 2, 3), norm="ortho")
    return torch.fft.fftshift(inverse, dim=(1, 2, 3))


class Refiner(nn.Module):
    """A small U-net in the window; besides, its coarsest features, averaged."""

    def __init__(self, channels: int, out: int, conditions: int) -> None:
        super().__init__()
        self.told = 80
        self.enter = nn.Conv3d(channels, 24, 3, padding=1)
        self.down = nn.Conv3d(24, 48, 3, stride=2, padding=1)
        self.middle = Block(48, conditions)
        self.deeper = nn.Conv3d(48, 80, 3, stride=2, padding=1)
        self.coarse = Block(80, conditions)
        self.up = nn.Conv3d(80, 48, 1)
        self.back = Block(48, conditions)
        self.upper = nn.Conv3d(48, 24, 1)
        self.leave = Leave(24, out)
        nn.init.zeros_(self.leave.last.weight[:2])

    def forward(self, known: Tensor, conditions: Tensor) -> tuple[Tensor, Tensor]:
        fine = functional.leaky_relu(self.enter(known), 0.1)
        middle = self.middle(self.down(fine), conditions)
        coarse = self.coarse(self.deeper(middle), conditions)
        middle = self.back(middle + resized(self.up(coarse), WINDOW // 2), conditions)
        return self.leave(fine + resized(self.upper(middle), WINDOW)), coarse.mean((2, 3, 4))
