"""The band-limited model of a scan at given angles, and what the frames then say of their angles."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .band import Band, Floats

_CHUNK, _ENTRIES = 128, 2**21  # blocks at a time, and elements of their matrices, so that they stay near the cache
_FLOOR = 0.05  # counts: below it an expectation is no variance to divide by
_LOOSE = 100.0  # prior variance of a coefficient over the block's mean count squared: only keeps it solvable
_SHARE = 0.5  # of a mode's curvature that must be signal
_ROUNDING, _LOST = 1e-9, 10.0  # of the scatter's mean eigenvalue, and times its least, where that is negative


@dataclass(frozen=True, kw_only=True, slots=True)
class Blocks:
    """Counts (frames, blocks) of blocks of pixels, True where `used`, and the `variance` to expect, all alike;
    `scale` (frames,) is what they were multiplied with since they were counted."""

    counts: Floats
    used: NDArray[np.bool_]
    variance: Floats
    scale: Floats

    def drawn(self, model: Floats, random: np.random.Generator) -> Floats:
        """Counts of the same frames as `model` expects them."""
        scale = self.scale[:, None]
        return random.poisson(np.maximum(model, 0) / scale) * scale


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """The quasi-likelihood about the present angles and gains, the model at its best for each, (2 frames,) and
    (2 frames, 2 frames): first by the angles in steps, then by the relative gains.

    `slope` has covariance `scatter` and, where the truth is a step x away, expectation `curvature` x.
    """

    slope: Floats
    scatter: Floats
    curvature: Floats
    expected: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class Knowledge:
    """x is known with precision `precision`, about `precision`^-1 `vector`."""

    precision: Floats
    vector: Floats


def look(blocks: Blocks, theta: Floats, gain: Floats, band: Band) -> Look:
    """Fit a model of its own to each block and take the derivatives by what all blocks share.

    With w = 1 / variance, T the terms at the frames' angles, y the counts: A = G^-1 T' w y, G = T' w T. With A
    eliminated (Golub & Pereyra 1973) the frames still see R = w - w T G^-1 T' w. The derivatives d = T' A by
    angle hold noise of covariance T' G^-1 T', which is independent of the residuals: it adds to the scatter of the
    slope, d d' * R, but is no curvature.
    """
    return looks(blocks, [blocks.counts], theta, gain, band)[0]


def looks(blocks: Blocks, drawn: Sequence[Floats], theta: Floats, gain: Floats, band: Band) -> list[Look]:
    """`look` at each of several counts in the place of the blocks' own; what hangs on the angles alone, most of
    the work, is done once."""
    frames, number = blocks.counts.shape
    values, slopes = (made * gain[:, None] for made in (band.values(theta), band.slopes(theta)))
    both = np.stack([slopes, values])
    slope, scatter = np.zeros((len(drawn), 2, frames)), np.zeros((len(drawn), 2, frames, 2, frames))
    noise, expected = np.zeros((2, frames, 2, frames)), np.empty((len(drawn), frames, number))
    chunk = min(_CHUNK, max(1, _ENTRIES // frames**2))
    for first in range(0, number, chunk):
        here = slice(first, first + chunk)
        w = (blocks.used[:, here] / (blocks.variance[:, here] + _FLOOR)).T
        wt = w[:, :, None] * values
        gram = np.matmul(values.T, wt)
        weak = 1 / (_LOOSE * (blocks.counts[:, here].mean(axis=0) ** 2 + _FLOOR))
        inverse = np.linalg.inv(gram + weak[:, None, None] * np.eye(band.terms))
        seen = -np.matmul(np.matmul(wt, inverse), wt.transpose(0, 2, 1))
        seen[:, np.arange(frames), np.arange(frames)] += w
        for i, j in ((0, 0), (0, 1), (1, 1)):
            made = np.matmul(np.matmul(both[i], inverse), both[j].T)
            noise[i, :, j] += np.einsum("pkl,pkl->kl", made, seen)
        for at, counts in enumerate(drawn):
            y = counts[:, here].T
            a = np.matmul(inverse, np.matmul(wt.transpose(0, 2, 1), y[:, :, None]))[:, :, 0]
            d = np.matmul(a, both.transpose(0, 2, 1))
            expected[at, :, here] = d[1].T
            slope[at] += (d * (w * (y - d[1]))).sum(axis=1)
            for i, j in ((0, 0), (0, 1), (1, 1)):
                scatter[at, i, :, j] += np.einsum("pk,pl,pkl->kl", d[i], d[j], seen)
    scatter[:, 1, :, 0] = scatter[:, 0, :, 1].swapaxes(1, 2)
    noise[1, :, 0] = noise[0, :, 1].T
    size = (2 * frames, 2 * frames)
    return [
        Look(
            slope=slope[at].ravel(),
            scatter=scatter[at].reshape(size),
            curvature=(scatter[at] - noise).reshape(size),
            expected=expected[at],
        )
        for at in range(len(drawn))
    ]


def knowledge(seen: Look, here: Floats) -> Knowledge:
    """What the slope says of the truth, with the parameters at `here`.

    In the modes in which the scatter is 1 and the curvature diagonal, lambda, the slope is lambda x + noise of
    variance 1: the precision is lambda^2. Modes whose curvature is mostly noise (the stretch of the scan and slow
    warps, which a model of a crystal follows) say nothing and are left to the prior. So are those in which the
    scatter is lost in rounding, whose size its least eigenvalue shows where it comes out below zero.
    """
    sizes, axes = np.linalg.eigh(seen.scatter)
    real = sizes > max(_ROUNDING * sizes.mean(), -_LOST * sizes[0]) + 1e-12
    white = axes[:, real] / np.sqrt(sizes[real])
    values, modes = np.linalg.eigh(white.T @ seen.curvature @ white)
    kept = values > _SHARE
    modes, values = white @ modes[:, kept], values[kept]
    forward = (seen.scatter @ modes) * values
    told = modes.T @ seen.slope + forward.T @ here
    return Knowledge(precision=forward @ forward.T, vector=forward @ told)


def posterior(known: Knowledge, covariance: Floats) -> tuple[Floats, Floats, float]:
    """Mean, covariance, and the logarithm of the evidence against no motion at all, under a normal prior.

    Exact for the whole trajectory at once, as a forward-backward pass over the frames is.
    """
    inner = np.eye(len(covariance)) + covariance @ known.precision
    after = np.linalg.solve(inner, covariance)
    mean = after @ known.vector
    return (
        mean,
        np.asarray(after, np.float64),
        float(0.5 * known.vector @ mean - 0.5 * np.linalg.slogdet(inner)[1]),
    )


def without_gains(known: Knowledge, gain: float) -> tuple[Knowledge, float]:
    """What is known of the angles alone where the gains are independent and normal with spread `gain`, and the
    logarithm of the evidence of such gains and no motion, against none of either."""
    frames = len(known.vector) // 2
    angles, both = known.precision[:frames, :frames], known.precision[:frames, frames:]
    alone, told = known.precision[frames:, frames:], known.vector[frames:]
    solved = np.linalg.solve(alone + np.eye(frames) / gain**2, np.column_stack([both.T, told]))
    left = Knowledge(precision=angles - both @ solved[:, :-1], vector=known.vector[:frames] - both @ solved[:, -1])
    apart = np.linalg.slogdet(np.eye(frames) + gain**2 * alone)[1]
    return left, float(0.5 * told @ solved[:, -1] - 0.5 * apart)


def evidences(known: Knowledge, shape: Floats, variances: Floats) -> Floats:
    """The evidence of `posterior` for the priors variance * `shape`, of all `variances`, by one eigensystem."""
    root = np.linalg.cholesky(shape)
    values, modes = np.linalg.eigh(root.T @ known.precision @ root)
    seen, widths = (modes.T @ (root.T @ known.vector)) ** 2, 1 + np.outer(variances, np.maximum(values, 0))
    return np.asarray(0.5 * (variances[:, None] * seen / widths - np.log(widths)).sum(axis=1), np.float64)
