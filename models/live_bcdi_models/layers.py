"""What the networks are made of, and the Fourier transform between their two sides.

A network's object fills a window of `WINDOW` voxels an edge about n//2 of the pattern's `EDGE`: the pattern is
oversampled at least twice, so that the crystal is in it, with room for where it is not centred.
Complex objects are two real channels, (crystals, 2, x, y, z).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from .simulator import EDGE

WINDOW = 20
_AROUND = (EDGE - WINDOW) // 2
_CONDITIONS = 4
PLACES = 6  # channels of `places_in` and `autocorrelation_in`
_FAINT = 1e-6  # of the mean intensity: what a modulus is divided by at least, or gradients have no bound


class Block(nn.Module):
    """Two convolutions on a bypass; what the pattern is like scales and shifts the features between them
    (FiLM)."""

    def __init__(self, channels: int, conditions: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(channels, channels, 3, padding=1)
        self.second = nn.Conv3d(channels, channels, 3, padding=1)
        self.norm = nn.GroupNorm(8, channels)
        self.film = nn.Linear(conditions, 2 * channels)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, features: Tensor, conditions: Tensor) -> Tensor:
        scale, shift = self.film(conditions)[:, :, None, None, None].chunk(2, dim=1)
        inner = self.norm(self.first(functional.leaky_relu(features, 0.1)))
        found: Tensor = features + self.second(functional.leaky_relu(inner * (1 + scale) + shift, 0.1))
        return found


class Conditions(nn.Module):
    """Counts and oversampling, as `width` features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(_CONDITIONS, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def forward(self, total: Tensor, oversampling: Tensor) -> Tensor:
        counts = (total.clamp_min(1).log10() - 5) / 2
        found: Tensor = self.layers(torch.cat([counts.unsqueeze(1), (oversampling / 3.5).log()], dim=1))
        return found


class Mixing(nn.Module):
    """All 64 places of 4 x 4 x 4 features see each other, with weights that are the places' own, as in a Fourier
    transform: a fringe tells of the whole crystal (an MLP-mixer, Tolstikhin et al. 2021)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))
        self.places = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64))
        self.channels = nn.Sequential(
            nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.places(self.norms[0](tokens).transpose(1, 2)).transpose(1, 2)
        found: Tensor = tokens + self.channels(self.norms[1](tokens))
        return found


class Encoder(nn.Module):
    """From a pattern to 4 x 4 x 4 features of all of it."""

    def __init__(self, widths: tuple[int, int, int], conditions: int, mixing: int = 3) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.enter = nn.Conv3d(16, fine, 3, padding=1)
        self.fine = Block(fine, conditions)
        self.down = nn.Conv3d(fine, middle, 3, stride=2, padding=1)
        self.middle = Block(middle, conditions)
        self.deeper = nn.Conv3d(middle, coarse, 3, stride=2, padding=1)
        self.mixing = nn.Sequential(*(Mixing(coarse) for _ in range(mixing)))

    def forward(self, channels: Tensor, conditions: Tensor) -> Tensor:
        features = self.fine(self.enter(halved(channels)), conditions)
        features = self.deeper(self.middle(self.down(features), conditions))
        mixed: Tensor = self.mixing(features.flatten(2).transpose(1, 2))
        return mixed.transpose(1, 2).reshape(len(mixed), -1, 4, 4, 4)


class Decoder(nn.Module):
    """From 4 x 4 x 4 features to `channels` of the window."""

    def __init__(self, coarse: int, widths: tuple[int, int], conditions: int, channels: int) -> None:
        super().__init__()
        middle, fine = widths
        self.enter = nn.Conv3d(coarse, middle, 3, padding=1)
        self.narrow = nn.Conv3d(middle, middle, 3, padding=1)
        self.middle = Block(middle, conditions)
        self.up = nn.Conv3d(middle, fine, 1)
        self.place = nn.Conv3d(PLACES, fine, 1)
        self.fine = Block(fine, conditions)
        self.leave = Leave(fine, channels)

    def forward(self, features: Tensor, conditions: Tensor, places: Tensor) -> Tensor:
        features = functional.leaky_relu(self.enter(resized(features, WINDOW // 4)), 0.1)
        features = self.middle(self.narrow(resized(features, WINDOW // 2)), conditions)
        features = self.fine(resized(self.up(features), WINDOW) + self.place(places), conditions)
        found: Tensor = self.leave(features)
        return found


class Leave(nn.Module):
    """The last convolution. Adam moves every weight alike, and some hundreds of them feed one voxel: without the
    norm and the factor a step would turn every phase by a radian."""

    _FACTOR = 0.3

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.last = nn.Conv3d(channels, out, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        found: Tensor = self._FACTOR * self.last(functional.leaky_relu(self.norm(features), 0.1))
        return found


def places_in(oversampling: Tensor) -> Tensor:
    """Where a voxel of the window is, 1 at the crystal's edge along each axis, and how far from the middle in all:
    (crystals, 4, x, y, z)."""
    voxels = torch.arange(WINDOW, device=oversampling.device) - WINDOW // 2
    scaled = (2 / EDGE * voxels * oversampling.unsqueeze(-1)).clamp(-3, 3)
    grid = [
        scaled[:, k]
        .view(-1, *(WINDOW if axis == k else 1 for axis in range(3)))
        .expand(-1, WINDOW, WINDOW, WINDOW)
        for k in range(3)
    ]
    axes = torch.stack(grid, dim=1)
    return torch.cat([axes, axes.norm(dim=1, keepdim=True)], dim=1)


def ramp_of(intensity: Tensor) -> Tensor:
    """The phase (crystals, x, y, z) in the window of where the pattern's centre of mass is: it moves by a voxel
    where the phase has a slope of 2 pi / `EDGE` a voxel, so that nobody has to learn it."""
    index = torch.arange(EDGE, device=intensity.device) - EDGE // 2
    voxels = torch.arange(WINDOW, device=intensity.device) - WINDOW // 2
    ramp = torch.zeros((), device=intensity.device)
    for axis in (1, 2, 3):
        profile = intensity.sum(tuple(k for k in (1, 2, 3) if k != axis))
        centre = (profile * index).sum(1) / profile.sum(1).clamp_min(1)
        along = 2 * math.pi / EDGE * centre[:, None] * voxels
        ramp = ramp + along.view(len(along), *(WINDOW if k == axis else 1 for k in (1, 2, 3)))
    return ramp


def autocorrelation_in(intensity: Tensor) -> Tensor:
    """The autocorrelation at 2 r for every r of the window, 1 at r = 0, its root taken, (crystals, 2, x, y, z).

    Two points of a crystal are at most its width apart, so that this is nearly zero where r is outside of it: it
    is what supports are found from, and the only thing that a pattern says of a place without a phase.
    """
    found = torch.fft.fftn(torch.fft.ifftshift(intensity, dim=(1, 2, 3)), dim=(1, 2, 3))
    twice = 2 * (torch.arange(WINDOW, device=intensity.device) - WINDOW // 2)
    inside = (twice.abs() < EDGE // 2).float()
    at = twice % EDGE
    found = found[:, at][:, :, at][:, :, :, at] / intensity.sum((1, 2, 3)).clamp_min(1).view(-1, 1, 1, 1)
    found = found * inside[:, None, None] * inside[:, None] * inside
    size = found.abs().clamp_min(1e-6)
    return as_channels(found / size.sqrt())


def halved(channels: Tensor) -> Tensor:
    """Every 2 x 2 x 2 voxels become channels of one: nothing is lost, and it costs an eighth."""
    b, c, *edges = channels.shape
    split = channels.reshape(b, c, edges[0] // 2, 2, edges[1] // 2, 2, edges[2] // 2, 2)
    return split.permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(1, 4)


def doubled(channels: Tensor) -> Tensor:
    """The inverse of `halved`."""
    b, c, *edges = channels.shape
    split = channels.reshape(b, c // 8, 2, 2, 2, *edges).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return split.reshape(b, c // 8, 2 * edges[0], 2 * edges[1], 2 * edges[2])


def resized(features: Tensor, edge: int) -> Tensor:
    """Trilinear, to `edge` voxels."""
    return functional.interpolate(features, size=(edge,) * 3, mode="trilinear", align_corners=False)


def seen(intensity: Tensor, measured: Tensor) -> Tensor:
    """(crystals, 2, ...): the logarithm of the counts, 1 at the brightest voxel, and which voxels were
    measured."""
    logarithm = torch.log1p(intensity)
    brightest = logarithm.amax((1, 2, 3), keepdim=True).clamp_min(1e-3)
    return torch.stack([logarithm / brightest, measured.float()], dim=1)


def padded(window: Tensor) -> Tensor:
    """The window (crystals, x, y, z) in an array of `EDGE`, zero around it."""
    return functional.pad(window, (_AROUND,) * 6)


def windowed(array: Tensor) -> Tensor:
    """The window of arrays (crystals, x, y, z) of `EDGE`."""
    inner = slice(_AROUND, _AROUND + WINDOW)
    return array[:, inner, inner, inner]


def as_complex(channels: Tensor) -> Tensor:
    """(crystals, 2, ...) of any precision to complex64 (crystals, ...)."""
    return torch.complex(channels[:, 0].float(), channels[:, 1].float())


def as_channels(density: Tensor) -> Tensor:
    """Complex (crystals, ...) to real (crystals, 2, ...)."""
    return torch.stack([density.real, density.imag], dim=1)


class Modulus:
    """The measured moduli, sum |F|^2 = sum I where measured, in the order of `torch.fft`."""

    def __init__(self, intensity: Tensor, measured: Tensor, power: Tensor | None = None) -> None:
        """With `power` (crystals,), that of the object, arrays can be projected too."""
        self.modulus = torch.fft.ifftshift(intensity.clamp_min(0).sqrt(), dim=(1, 2, 3))
        self.measured = torch.fft.ifftshift(measured, dim=(1, 2, 3))
        self.total = intensity.sum((1, 2, 3), keepdim=True).clamp_min(1)
        self.scaled = (
            self.modulus if power is None else self.modulus * (power.view(-1, 1, 1, 1) / self.total).sqrt()
        )

    def projected_array(self, array: Tensor) -> Tensor:
        """A whole complex array with the measured moduli, at the object's power."""
        transform = torch.fft.fftn(array, dim=(1, 2, 3), norm="ortho")
        unit = transform * (self.scaled / transform.abs().clamp_min(1e-9))
        return torch.fft.ifftn(torch.where(self.measured, unit, transform), dim=(1, 2, 3), norm="ortho")

    def transformed(self, window: Tensor) -> tuple[Tensor, Tensor]:
        """F of a complex window, up to phases of a shift, which no modulus sees; and what the measured moduli are
        multiplied by to have F's power where they were measured."""
        transform = torch.fft.fftn(padded(window), dim=(1, 2, 3), norm="ortho")
        power = (transform.real**2 + transform.imag**2) * self.measured
        return transform, (power.sum((1, 2, 3), keepdim=True).detach() / self.total).sqrt()

    def projected(self, window: Tensor) -> Tensor:
        """The window with the measured moduli, and free where nothing was measured."""
        transform, scale = self.transformed(window)
        square = transform.real**2 + transform.imag**2
        least = _FAINT * square.mean((1, 2, 3), keepdim=True) + 1e-12
        ratio = torch.where(self.measured, scale * self.modulus * torch.rsqrt(square + least), 1.0)
        return windowed(torch.fft.ifftn(transform * ratio, dim=(1, 2, 3), norm="ortho"))

    def misfit(self, window: Tensor) -> Tensor:
        """sum (|F| - sqrt I)^2 / sum I over the measured voxels, (crystals,): chi^2 at the scale of equal
        power."""
        transform, scale = self.transformed(window)
        square = transform.real**2 + transform.imag**2
        modulus = (square + _FAINT * square.detach().mean((1, 2, 3), keepdim=True) + 1e-12).sqrt()
        return (((modulus / scale.clamp_min(1e-6) - self.modulus) ** 2) * self.measured).sum(
            (1, 2, 3)
        ) / self.total.flatten()
