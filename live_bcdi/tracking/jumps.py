"""Frames of a scan that stand steps away from where the motor says: each as the others show the crystal there."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .band import Band, Floats, band_of

_REACH = 2.0  # steps beyond the nominal angles
_FINER, _POINTS = 4, 400  # points of the grid a step, and at most
_NEAR = 1.0  # steps: so far the fit that is linear about each angle follows
_ROUNDS = 12
_SURE = 60.0  # nats: counting noise makes 15, a series that does not quite fit some more
_FIRST = 0.1  # of the largest gain: what gains less may only stand beside a frame that is off
_ALIKE = (9, 31)  # frames about one, of which most are in order
_AS_OFTEN = 5.0  # times what these would gain
_MOST = 0.25  # of the frames: beyond it the series does not explain the scan, rather than the motor
_RIDGE = 1e-6
_LEAST_LEFT = 1e-3  # of a frame's own share in its fit
_FLOOR = 0.02  # of what the pixel's mean and the brightness let one expect: a series goes below zero
_SMALL = 3 / 8  # of Anscombe's transform, whose variance is 1


def jumps(counts: Floats, used: NDArray[np.bool_], nominal: Floats, cutoff: float) -> Floats:
    """How many steps each of the frames, `counts` (frames, blocks) where `used`, is from its `nominal` angle (in
    steps); 0 where nothing says that it is more than one.

    For each frame the band-limited series (`cutoff`, cycles a step) is fitted to all others, and the frame is
    compared with it at every angle. It counts as off where it fits far better elsewhere than within a step, by
    counting noise and beside what its neighbours would gain, and where such frames are few. At the ends, where the
    others are on one side only, none does.
    """
    low, high = nominal.min() - _REACH, nominal.max() + _REACH
    grid = np.linspace(low, high, min(_POINTS, int(np.ceil((high - low) * _FINER)) + 1))
    band, offsets = band_of(grid, cutoff), np.zeros(len(nominal))
    held = np.minimum(nominal - nominal.min(), nominal.max() - nominal) > 1 / (2 * cutoff)
    for _ in range(_ROUNDS):
        gain, place = _elsewhere(_filled(counts, used), used, nominal, (nominal + offsets, grid, band))
        usual = np.maximum.reduce([ndimage.median_filter(gain, near, mode="nearest") for near in _ALIKE])
        away = held & (gain > _SURE + _AS_OFTEN * np.maximum(usual, 0))
        fresh = away & (offsets == 0)
        away &= ~fresh | (gain > _FIRST * gain[fresh].max(initial=0))
        if away.mean() > _MOST:
            return np.zeros(len(nominal))
        before, offsets = offsets, np.where(away, place - nominal, 0.0)
        if np.array_equal(before, offsets):
            break
    return offsets


def _filled(counts: Floats, used: NDArray[np.bool_]) -> Floats:
    """With the block's share of the frame where it was not used."""
    share = np.where(used, counts, 0).sum(axis=0) / np.maximum(used.sum(axis=0), 1)
    light = np.where(used, counts, 0).sum(axis=1) / np.maximum(used @ share, 1e-9)
    return np.where(used, counts, light[:, None] * share)


def _elsewhere(
    counts: Floats, used: NDArray[np.bool_], nominal: Floats, where: tuple[Floats, Floats, Band]
) -> tuple[Floats, Floats]:
    """What each frame gains, in nats by the noise that it shows, at the best place that is more than a step off,
    and that place. `where` has the frames' angles now, the grid and the series.

    The variance of a block is the frame's brightness times the block's share, so that all have one Gram matrix,
    and a frame leaves the fit by a step of rank one (Sherman & Morrison 1950). The spread of what is so foretold
    counts.
    """
    angles, grid, band = where
    light = np.maximum(counts.sum(axis=1), 1e-9)
    share = counts.mean(axis=0) / light.mean()
    values, wanted = band.values(angles), band.values(grid)
    gram = values.T @ (values / light[:, None])
    inverse = np.linalg.inv(gram + np.eye(band.terms) * np.trace(gram) / band.terms * _RIDGE)
    series = inverse @ (values / light[:, None]).T @ counts
    made, own = wanted @ series, counts - values @ series
    pull, spread = wanted @ inverse @ values.T / light, np.einsum("gt,tu,gu->g", wanted, inverse, wanted)
    left = np.maximum(1 - np.einsum("kt,tu,ku->k", values, inverse, values) / light, _LEAST_LEFT)
    gain, place = np.empty(len(nominal)), np.empty(len(nominal))
    for k, frame in enumerate(counts):
        lean = pull[:, k] / left[k]
        expected = np.maximum(made - lean[:, None] * own[k], _FLOOR * light[k] * share)
        unsure = (spread + lean**2 * left[k] * light[k])[:, None] * share / (expected + _SMALL)
        apart = 4 * (np.sqrt(frame + _SMALL) - np.sqrt(expected + _SMALL)) ** 2 / (1 + unsure)
        cost = (0.5 * (apart + np.log1p(unsure)))[:, used[k]].sum(axis=1)
        near = np.abs(grid - nominal[k]) <= _NEAR
        far = np.where(near, np.inf, cost)
        best = int(far.argmin())
        noise = max(1.0, float(apart[cost.argmin(), used[k]].mean()))
        gain[k], place[k] = (float(cost[near].min()) - far[best]) / noise, grid[best]
    return gain, place
