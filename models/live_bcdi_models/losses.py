"""How far a guess is from a crystal, whatever no pattern can tell: of the twins the nearer one, any global phase.

Shift is no matter here: crystals are shown with their centre of mass at n//2 (`measuring.Batch`). Nor is a ramp of
the phase: it is where the peak stands in the pattern, which the network sees.
"""

import torch
from torch import Tensor
from torch.nn import functional

from .layers import Modulus, windowed
from .measuring import Batch
from .networks import Guess, Network

_ON_THE_WAY = 0.7  # weight of each stage over that of the next one
_DOUBT, _ALARM = 0.03, 0.03  # weights of the uncertainty and of the alarm beside the object
_SURE = -7.0  # the least log variance: empty voxels would go to minus infinity


def twin(density: Tensor) -> Tensor:
    """conj(S(-r)) about n//2 of (crystals, x, y, z)."""
    shifts = [1 - n % 2 for n in density.shape[1:]]
    return density.flip(1, 2, 3).roll(shifts, (1, 2, 3)).conj()


def oriented(target: Tensor, density: Tensor) -> Tensor:
    """The target, or its twin where that is nearer to `density`, and turned to its phase. No gradient."""
    with torch.no_grad():
        other = twin(target)
        overlaps = [(each.conj() * density).sum((1, 2, 3)) for each in (target, other)]
        nearer = (overlaps[1].abs() > overlaps[0].abs()).view(-1, 1, 1, 1)
        turn = torch.where(nearer.flatten(), overlaps[1], overlaps[0]).angle().view(-1, 1, 1, 1)
        return torch.where(nearer, other, target) * torch.polar(torch.ones_like(turn), turn)


def loss_of(network: Network, batch: Batch) -> Tensor:
    """What training makes small, of one batch."""
    guess = network(batch.intensity, batch.measured, batch.oversampling)
    if not network.supervised:
        return Modulus(batch.intensity, batch.measured).misfit(guess.density).mean()
    target = windowed(batch.target)
    best = oriented(target, guess.density)
    total = _bounded(relative_error(guess.density, best)).mean()
    for earlier, stage in enumerate(reversed(guess.stages), start=1):
        error = relative_error(stage, turned(best, stage))
        total = total + _ON_THE_WAY**earlier * _bounded(error).mean()
    if guess.log_variance is not None:
        total = total + _DOUBT * unlikeliness(guess, best)
    if guess.alarm is not None:
        truth = torch.stack([batch.crystals.dislocated, batch.crystals.twinned], dim=1).float()
        total = total + _ALARM * functional.binary_cross_entropy_with_logits(guess.alarm, truth)
    return total


def _bounded(error: Tensor) -> Tensor:
    """Beyond 1, which is worse than an empty guess, the logarithm: a small crystal must not drown the others."""
    return torch.where(error < 1, error, 1 + error.clamp_min(1).log())


def relative_error(density: Tensor, target: Tensor) -> Tensor:
    """sum |S - S0|^2 / sum |S0|^2, (crystals,)."""
    return (density - target).abs().square().sum((1, 2, 3)) / target.abs().square().sum((1, 2, 3))


def unlikeliness(guess: Guess, target: Tensor) -> Tensor:
    """Mean of sqrt(s) (|e|^2 / s + log s), s the variance that the guess gives, the root in front taken as it
    is: least where s is the mean of |e|^2, and without the root a few voxels of small s would drown all else
    (Seitzer et al., ICLR 2022). Only s learns from it; the object has its own loss."""
    assert guess.log_variance is not None
    log = guess.log_variance.clamp_min(_SURE)
    square = (guess.density - target).abs().square().detach()
    return ((square * torch.exp(-log) + log) * (log / 2).exp().detach()).mean()


def turned(target: Tensor, density: Tensor) -> Tensor:
    turn = (target.conj() * density).sum((1, 2, 3)).detach().angle().view(-1, 1, 1, 1)
    return target * torch.polar(torch.ones_like(turn), turn)


def correlation(density: Tensor, target: Tensor) -> Tensor:
    """|sum conj(S0) S| / sqrt(sum |S|^2 sum |S0|^2) of arrays (crystals, x, y, z), (crystals,): 1 is equal. The
    best over both twins and all whole-voxel shifts, with the phase's mean slope taken out of both."""
    flat, other = _without_ramp(density), _without_ramp(target)
    norm = flat.abs().square().sum((1, 2, 3)) * other.abs().square().sum((1, 2, 3))
    transform = torch.fft.fftn(flat, dim=(1, 2, 3))
    found = [
        torch.fft.ifftn(transform * torch.fft.fftn(each, dim=(1, 2, 3)).conj(), dim=(1, 2, 3))
        .abs()
        .amax((1, 2, 3))
        for each in (other, twin(other))
    ]
    return torch.maximum(*found) / norm.sqrt().clamp_min(1e-12)


def _without_ramp(density: Tensor) -> Tensor:
    for axis in (1, 2, 3):
        n = density.shape[axis]
        earlier, later = density.narrow(axis, 0, n - 1), density.narrow(axis, 1, n - 1)
        slope = (later * earlier.conj()).sum((1, 2, 3)).angle()
        turn = -slope[:, None] * (torch.arange(n, device=density.device) - n // 2)
        shape = [len(density), *(n if k == axis else 1 for k in (1, 2, 3))]
        density = density * torch.polar(torch.ones_like(turn), turn).view(shape)
    return density
