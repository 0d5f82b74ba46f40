"""A trained network, adapted to measured patterns alone: per-experiment refinement, as the transfer learning of
Serban et al. (2024).

A network that learns from the moduli only soon fits them better and sees the crystal worse: the moduli are also
those of a twin upon the crystal, or of a support that is too large (docs/adapting.md has the figures). So each
pattern is first retrieved between scans, where there is time, from what the network sees of it; the network learns
both the moduli and the object that this found.
"""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from scipy import fft, ndimage
from torch import Tensor, nn

from live_bcdi.phasing import parse
from live_bcdi.phasing.kernels_numpy import Object
from live_bcdi.types import ScanError

from .chance import Chance
from .foretelling import Foretold, Measured, foretold, verdict
from .layers import Modulus, windowed
from .losses import loss_of, oriented, relative_error, turned
from .measuring import make_batch
from .networks import Network
from .polishing import polished
from .sight import VIEWS, look, multiplies_halves
from .simulator import EDGE

Clock = Callable[[], float]
LONGEST_S = 300.0
JUDGED = 3  # patterns, the newest, whose free voxels judge
REMEMBERED = 4  # patterns of the scans before that are learnt again with the newest

# With time, a third way: HIO leaves a basin that the network is wrong about, and longer RAAR settles.
_LONG = parse(
    "6*(30*HIO + ShrinkWrap(sigma=1, threshold=0.12)) + 4*(20*RAAR + ShrinkWrap(sigma=1, threshold=0.12)) + 20*ER"
)
_RATE = 1e-3
_BATCH = 4
_MODULI = 0.5  # weight of the moduli's misfit beside the object's error
_ON_THE_WAY = 0.5  # weight of the stages before the last
_NEWEST = 0.5  # of the patterns shown; the others are any
_RISE = 0.08  # of the time, in which the rate rises
_CLIP = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Adapted:
    """A network after it was adapted to `patterns`, which have their targets; the one before where that foretells
    free voxels no worse. `tried` is the adapted one in any case; `why` says in a sentence why it is `kept` or
    rolled back."""

    network: Network
    tried: Network
    kept: bool
    why: str
    before: Foretold
    after: Foretold
    steps: int
    seconds: float
    patterns: tuple[Measured, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """How long to learn, in `seconds` of `clock`, with so many `threads` of a CPU, from which seed, and at which
    `rate` at most. `simulated`: every so many batches one of simulated crystals, with truth, against forgetting;
    `aimed`: whether the object that was retrieved is learnt beside the moduli."""

    seconds: float = 20.0
    seed: int = 0
    threads: int = 1
    clock: Clock = time.monotonic
    rate: float = _RATE
    simulated: int = 0
    aimed: bool = True


def adapt_to(
    newest: Sequence[Measured], network: Network, effort: Effort, remembered: Sequence[Measured] = ()
) -> Adapted:
    """Adapts a copy of `network` to the `newest` patterns, half of the time to the last of them, and to those that
    are `remembered`, and takes the better one on free voxels that neither has learnt from. Raises ScanError where
    a pattern cannot be retrieved, or the time is not above 0 and at most 300 s."""
    if not 0 < effort.seconds <= LONGEST_S:
        raise ScanError(f"a network adapts for at most {LONGEST_S:.0f} s, not {effort.seconds:g}")
    with _threads(effort.threads):
        return _adapted(newest, network, effort, remembered)


def _adapted(
    newest: Sequence[Measured], network: Network, effort: Effort, remembered: Sequence[Measured]
) -> Adapted:
    began_s = effort.clock()
    patterns = list(remembered)
    for each in newest:
        before = [other.target for other in patterns[-1:] if other.target is not None]
        patterns.append(each.aimed(target_of(each, network, before)))
    judged, judging_s = patterns[-JUDGED:], effort.clock()
    was = foretold(network, judged)
    judging_s = effort.clock() - judging_s  # and once more at the end
    learner = copy.deepcopy(network)
    steps = _learn(learner, patterns, effort, until_s=began_s + effort.seconds - judging_s)
    now = foretold(learner, judged)
    kept, why = verdict(was, now)
    return Adapted(
        network=learner if kept else network,
        tried=learner,
        kept=kept,
        why=why,
        before=was,
        after=now,
        steps=steps,
        seconds=effort.clock() - began_s,
        patterns=tuple(patterns),
    )


def target_of(pattern: Measured, network: Network, also: Sequence[Object] = ()) -> Object:
    """The object that the network is to see in a pattern: of all that the retrieval finds from what it sees now in
    all views, and from `also`, the one that fits best for its freedom."""
    shown = pattern.shown
    sights = look(network, shown, pattern.oversampling, VIEWS)
    best = _in_the_middle(polished(shown, sights, also, (_LONG,)).best.density)
    power = EDGE**3 / float(np.prod(pattern.oversampling))
    return np.asarray(best * np.sqrt(power / np.sum(np.abs(best) ** 2)), np.complex64)


def _in_the_middle(density: Object) -> Object:
    """With the centre of mass at n//2, as the crystals that the network was trained on."""
    centre = ndimage.center_of_mass(np.abs(density) ** 2)
    shift = [n // 2 - at for n, at in zip(density.shape, centre)]
    return np.asarray(fft.ifftn(ndimage.fourier_shift(fft.fftn(density), shift)), np.complex64)


def _learn(network: Network, patterns: Sequence[Measured], effort: Effort, *, until_s: float) -> int:
    """Steps until the time is up, at least one. How sure the network is, and its alarm, learn from simulated
    crystals only."""
    random, chance = np.random.default_rng(effort.seed), Chance(effort.seed, _device(network))
    torch.manual_seed(effort.seed)
    weights = list(network.parameters())
    optimiser = torch.optim.AdamW(weights, lr=effort.rate, weight_decay=0)
    network.train()
    began_s, steps = effort.clock(), 0
    while steps == 0 or effort.clock() < until_s:
        used = min(1.0, (effort.clock() - began_s) / max(until_s - began_s, 1e-9))
        for group in optimiser.param_groups:
            group["lr"] = effort.rate * min(1.0, (used + 0.01) / _RISE) * (1 - 0.8 * used)
        with torch.autocast(chance.device.type, torch.bfloat16, enabled=multiplies_halves(chance.device.type)):
            if effort.simulated and steps % effort.simulated == effort.simulated - 1:
                loss = loss_of(network, make_batch(_BATCH, chance))
            else:
                loss = _loss(network, _shown(patterns, random, chance.device), aimed=effort.aimed)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if torch.isfinite(nn.utils.clip_grad_norm_(weights, _CLIP)):
            optimiser.step()
        steps += 1
    network.eval()
    with torch.no_grad():
        for weight in weights:
            weight.copy_(weight.half().float())  # judged as they are kept
    return steps


def _device(network: Network) -> torch.device:
    return next(network.parameters()).device


def _shown(patterns: Sequence[Measured], random: np.random.Generator, device: torch.device) -> tuple[Tensor, ...]:
    """A batch of patterns in any view: intensity, measured, oversampling, target."""
    drawn = []
    for _ in range(_BATCH):
        each = patterns[-1 if random.random() < _NEWEST else int(random.integers(len(patterns)))]
        view = VIEWS[random.integers(len(VIEWS))]
        shown, target = each.shown, each.target
        assert target is not None
        told = np.array(view.oversampling(each.oversampling), np.float32)
        drawn.append((view.of(shown.intensity), view.of(~shown.mask), told, view.of(target)))
    return tuple(torch.from_numpy(np.stack(arrays)).to(device) for arrays in zip(*drawn))


def _loss(network: Network, batch: tuple[Tensor, ...], *, aimed: bool) -> Tensor:
    intensity, measured, told, target = batch
    guess = network(intensity, measured, told)
    pattern = Modulus(intensity, measured)
    best = oriented(windowed(target), guess.density)
    total = torch.zeros((), device=intensity.device)
    for weight, density in ((1.0, guess.density), *((_ON_THE_WAY, stage) for stage in guess.stages)):
        total = total + weight * (_MODULI if aimed else 1.0) * pattern.misfit(density).mean()
        if aimed:
            total = total + weight * relative_error(density, turned(best, density)).mean()
    return total


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many threads of torch on a CPU, and afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
