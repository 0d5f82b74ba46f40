"""An exact forward-backward pass: frames that follow one another in time are near one another in angle and roll.

Baum, Petrie, Soules & Weiss, Ann. Math. Stat. 41, 164 (1970), on a grid of angles times one of rolls.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .band import Floats

_JUMP = 1e-4  # the chance of a step to anywhere: what a jump must be worth


@dataclass(frozen=True, kw_only=True, slots=True)
class Posterior:
    """Probabilities (frames, rolls, angles) given all frames, and the logarithm of the likelihood of them all."""

    chance: Floats
    log_likelihood: float


def angle_step(angles: NDArray[np.float64], moved: float, width: float) -> Floats:
    """Chances (from, to) of a step by about `moved`, normal with a spread of `width`; or, rarely, a jump."""
    made = np.exp(-0.5 * ((angles - angles[:, None] - moved) / width) ** 2) + 1e-300
    return np.asarray((1 - _JUMP) * made / made.sum(axis=1, keepdims=True) + _JUMP / len(angles))


def roll_step(before: Floats, after: Floats, width: float) -> Floats:
    """The same for rolls (from, to), whose grids differ from frame to frame."""
    made = np.exp(-0.5 * ((after - before[:, None]) / width) ** 2) + 1e-300
    return np.asarray((1 - _JUMP) * made / made.sum(axis=1, keepdims=True) + _JUMP / len(after))


def forward_backward(log_likelihood: Floats, rolls: list[Floats], angles: list[Floats]) -> Posterior:
    """Of (frames, rolls, angles) and the steps between frames k and k + 1 in `rolls` and `angles`, which are
    independent; before the first frame all is alike."""
    top = log_likelihood.max(axis=(1, 2), keepdims=True)
    seen = np.exp(log_likelihood - top)
    frames = len(seen)
    chance, scale = np.empty_like(seen), np.empty(frames)
    for k in range(frames):
        here = seen[k] if k == 0 else rolls[k - 1].T @ chance[k - 1] @ angles[k - 1] * seen[k]
        scale[k] = here.sum()
        chance[k] = here / scale[k]
    after = np.ones(seen.shape[1:])
    for k in range(frames - 2, -1, -1):
        after = rolls[k] @ (after * seen[k + 1]) @ angles[k].T / scale[k + 1]
        chance[k] *= after
    chance /= chance.sum(axis=(1, 2), keepdims=True)
    states = chance[0].size
    return Posterior(chance=chance, log_likelihood=float(np.log(scale).sum() + top.sum()) - float(np.log(states)))
