"""A crystal that slips once within a scan and stays there: all later frames are steps from the motor's angle."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from .band import Band, Floats
from .fit import Blocks, Knowledge, knowledge, look, without_gains

_WIDTH = 2.0  # steps, of a slip's normal prior
_JITTERS = (0.003, *np.geomspace(0.02, 2.0, 7))  # steps, of the walk beside it
_GAIN = 0.003  # relative scatter of intensities
_EDGE = 6  # frames from an end: closer ones are not told from the crystal's shape
_SURE = 5.0  # nats over the best walk, as of motion
_LEFT = 2.0  # standard deviations: a slip that was found is not whole yet while more than that is left
_NEAR = 3  # frames, of the place where it was found
_AT_ONCE = 1.0  # steps: so far the fit that is linear about each angle follows
_MOST = 4.0  # steps: a larger one would be no small correction of what the rounds began with
_ROUNDS = 8


def slip(blocks: Blocks, nominal: Floats, band: Band, walks: Sequence[Floats]) -> Floats:
    """How far the frames stand from `nominal` (steps) by a slip of the crystal, less a straight line; 0 where
    nothing says so.

    The evidence for a step of normal size between two frames, whichever, on top of a walk, is compared with that
    of the best walk alone; `walks` are the covariances of variance 1 to try. The fit is linear about the angles,
    so a slip of several steps is found in as many rounds.
    """
    moved, first, none = np.zeros(len(nominal)), None, np.zeros(2 * len(nominal))
    steps = _steps(nominal)
    for _ in range(_ROUNDS):
        known = knowledge(look(blocks, nominal + moved, np.ones(len(nominal)), band), none)
        best = _best(without_gains(known, _GAIN)[0], steps, walks)
        if first is None and best.gained < _SURE:
            return moved
        first = best.place if first is None else first
        if abs(best.place - first) > _NEAR or abs(best.size) < _LEFT * best.std:
            break
        moved = moved + float(np.clip(best.size, -_AT_ONCE, _AT_ONCE)) * steps[best.place]
    whole = np.abs(np.diff(moved) - np.median(np.diff(moved))).max()
    return moved if whole < _MOST else np.zeros(len(nominal))


def _steps(nominal: Floats) -> Floats:
    """(places, frames) of a step of 1 before each frame, less shift and stretch, which are the motor's."""
    frames = len(nominal)
    steps = (np.arange(frames) >= np.arange(_EDGE, frames - _EDGE)[:, None]).astype(np.float64)
    design = np.stack([np.ones(frames), nominal])
    return np.asarray(steps - steps @ np.linalg.pinv(design) @ design, np.float64)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Slip:
    """The best slip: what its evidence is over the best walk's, in nats, its place, and its size in steps."""

    gained: float
    place: int
    size: float
    std: float


def _best(known: Knowledge, steps: Floats, walks: Sequence[Floats]) -> _Slip:
    """With Lambda and v the precision and vector known, and P a walk's covariance, a step u is seen through
    M = Lambda (1 + P Lambda)^-1: its size is b / (a + 1 / width^2), with a = u M u and b = u (1 + Lambda P)^-1 v.
    """
    walk, found = -np.inf, (-np.inf, 0, 0.0, 0.0)
    for shape in walks:
        for jitter in _JITTERS:
            inner = np.eye(len(shape)) + known.precision @ (jitter**2 * shape)
            solved = np.linalg.solve(inner, np.column_stack([known.precision, known.vector]))
            seen, told = solved[:, :-1], solved[:, -1]
            alone = 0.5 * float(known.vector @ (jitter**2 * shape) @ told - np.linalg.slogdet(inner)[1])
            a, b = ((steps @ seen) * steps).sum(axis=1) + _WIDTH**-2, steps @ told
            gain = 0.5 * (b**2 / a - np.log(a * _WIDTH**2))
            place, gained = (
                int(gain.argmax()),
                float(special.logsumexp(gain) - np.log(len(gain))),
            )  # any place alike
            walk = max(walk, alone)
            found = max(found, (alone + gained, place, float(b[place] / a[place]), a[place] ** -0.5))
    return _Slip(gained=found[0] - walk, place=found[1], size=found[2], std=float(found[3]))
