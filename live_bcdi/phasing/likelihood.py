"""Poisson maximum likelihood: the object, and the background, that make the measured counts most likely.

With c the expected counts of `model.py` the misfit is

    L = sum over measured voxels of c - I + I ln(I / c)

which is minus the log-likelihood but for a constant of the data (Thibault & Guizar-Sicairos, New J. Phys. 14,
063004 (2012)). Since c is quadratic in the object, it is so along any line O + t D, and a search along the line
needs no transform. As in `metrics.poisson_deviance`, a hundredth of a count is added to c: without it one count
where |F| = 0 would rule the sum.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..types import BoolArray
from .kernels_numpy import Object, PhasingKernels, per_start
from .model import Floats, Models

FLOOR_COUNTS = 0.01
_AXES = (1, 2, 3)
_TINY = 1e-30


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """What was measured: `values` (rocking, row, column), zero frequency first, 0 where `used` is False."""

    values: Floats
    used: BoolArray

    @classmethod
    def of(cls, kernels: PhasingKernels) -> "Counts":
        """The kernels' moduli, squared."""
        moduli = kernels.moduli()
        return cls(values=np.maximum(moduli, 0) ** 2, used=moduli >= 0)

    def misfit(self, expected: Floats) -> NDArray[np.float64]:
        """L of each start's c, (starts,)."""
        c = _floored(expected)
        # I ln(I / c) + c - I = I (x - ln(1 + x)) with x = (c - I) / I: no difference of large numbers
        lit = self.values > 0
        excess = np.where(lit, (c - self.values) / np.where(lit, self.values, 1), 0)
        terms = np.where(lit, self.values * (excess - np.log1p(excess)), c)
        return _total(np.where(self.used, terms, 0))

    def slope(self, expected: Floats) -> Floats:
        """dL/dc = 1 - I / c, 0 where free."""
        return np.where(self.used, 1 - self.values / _floored(expected), 0)

    def chi(self, expected: Floats) -> NDArray[np.float64]:
        """sum((sqrt(c) - sqrt(I))^2) of each start."""
        short = np.where(self.used, np.sqrt(expected) - np.sqrt(self.values), 0)
        return _total(short**2)


def _floored(expected: Floats) -> Floats:
    return np.maximum(expected, 0) + np.float32(FLOOR_COUNTS)


def gradient(
    kernels: PhasingKernels, models: Models, counts: Counts, transform: Object, expected: Floats
) -> Object:
    """2 dL/dS* / N of every voxel S, N their number: the direction in which L grows fastest.

    L(S + e) - L(S) = N Re sum(e* gradient) to first order.
    """
    out = kernels.empty(len(transform))
    slope = models.blurred(kernels, counts.slope(expected))
    out[...] = 2 * slope.real * transform
    kernels.inverse(out, out)
    return out


def conjugate_gradients(
    kernels: PhasingKernels, models: Models, density: Object, support: BoolArray, *, iterations: int
) -> tuple[Models, list[NDArray[np.float64]]]:
    """Lower L of the objects in their supports, in place, by conjugate gradients (Polak & Ribiere, begun anew
    where they do not point down); no step raises L. A background is a parameter, and made the best one after each
    step. Returns the models with it, and the misfits of `Models.project` before each step."""
    counts = Counts.of(kernels)
    density *= support
    transform = kernels.empty(len(density))
    kernels.transform(density, transform)
    expected = models.expected(kernels, transform)
    direction, turned = kernels.empty(len(density)), kernels.empty(len(density))
    previous: Object | None = None
    misfits = []
    for _ in range(iterations):
        misfits.append(counts.chi(expected))
        downhill = -gradient(kernels, models, counts, transform, expected) * support
        direction *= per_start(_kept(downhill, previous, direction)).astype(np.float32)
        direction += downhill
        previous = downhill
        kernels.transform(direction, turned)
        first, second = _along(kernels, models, transform, turned)
        step = per_start(_step(counts, expected, first, second)).astype(np.float32)
        density += step * direction
        transform += step * turned
        expected = np.maximum(expected + step * (first + step * second), 0)
        models, expected = _with_background(counts, models, expected)
    return models, misfits


def refine(
    kernels: PhasingKernels, models: Models, density: Object, support: BoolArray, *, iterations: int
) -> tuple[Models, list[NDArray[np.float64]]]:
    """`conjugate_gradients` of one start after the other: some ten volumes are at work."""
    parts = [
        conjugate_gradients(
            kernels, models.alone(k), density[k : k + 1], support[k : k + 1], iterations=iterations
        )
        for k in range(len(density))
    ]
    levels = [part.background for part, _ in parts if part.background is not None]
    together = replace(models, background=np.concatenate(levels)) if levels else models
    return together, [np.concatenate(each) for each in zip(*(errors for _, errors in parts))]


def _with_background(counts: Counts, models: Models, expected: Floats) -> tuple[Models, Floats]:
    """Models and c with the background of the lowest L, from c with the one they have."""
    old = models.background
    if old is None:
        return models, expected
    signal = np.maximum(expected - per_start(old), 0)
    new = background(counts, signal + np.float32(FLOOR_COUNTS), first=old, iterations=3).astype(np.float32)
    return replace(models, background=new), signal + per_start(new)


def _kept(downhill: Object, previous: Object | None, direction: Object) -> NDArray[np.float64]:
    """How much of the last direction is kept, (starts,)."""
    if previous is None:
        return _nothing(downhill.real)
    share = _dot(downhill, downhill - previous) / np.maximum(_dot(previous, previous), _TINY)
    up = share * _dot(direction, downhill) + _dot(downhill, downhill) <= 0
    return np.where(up, 0, np.maximum(share, 0))


def _dot(a: Object, b: Object) -> NDArray[np.float64]:
    """Re sum(a* b), a start."""
    return _total(a.real * b.real + a.imag * b.imag)


def _total(values: Floats) -> NDArray[np.float64]:
    """(starts,)."""
    total: NDArray[np.float64] = np.sum(values, axis=_AXES, dtype=np.float64)
    return total


def _along(kernels: PhasingKernels, models: Models, transform: Object, turned: Object) -> tuple[Floats, Floats]:
    """c(t) = c + t first + t^2 second along F + t G: both blurred by one pair of transforms."""
    both = kernels.empty(len(transform))
    both.real = 2 * (transform.real * turned.real + transform.imag * turned.imag)
    both.imag = turned.real**2 + turned.imag**2
    blurred = models.blurred(kernels, both)
    return blurred.real, blurred.imag


def _step(counts: Counts, expected: Floats, first: Floats, second: Floats) -> NDArray[np.float64]:
    """The t of the lowest L among 0, two Newton steps and parts of the first, (starts,): nobody waits for L."""

    def newton(t: NDArray[np.float64]) -> NDArray[np.float64]:
        at = per_start(t).astype(np.float32)
        c = _floored(expected + at * (first + at * second))
        rate = first + 2 * at * second
        slope = np.where(counts.used, 1 - counts.values / c, 0)
        bend = np.where(counts.used, counts.values * (rate / c) ** 2, 0) + 2 * np.maximum(slope, 0) * second
        return t - _total(slope * rate) / np.maximum(_total(bend), _TINY)

    def misfit(t: NDArray[np.float64]) -> NDArray[np.float64]:
        at = per_start(t).astype(np.float32)
        return counts.misfit(expected + at * (first + at * second))

    best = _nothing(first)
    lowest = misfit(best)
    one = newton(best)
    for step in (newton(one), one, one / 4, one / 32):
        worth = misfit(step)
        better = worth < lowest
        best, lowest = np.where(better, step, best), np.where(better, worth, lowest)
    return best


def _nothing(values: Floats) -> NDArray[np.float64]:
    """0 for each start, on the machine of `values`."""
    return np.zeros_like(values[:, 0, 0, 0], dtype=np.float64)


def background(
    counts: Counts, expected: Floats, *, first: Floats | None = None, iterations: int = 12
) -> NDArray[np.float64]:
    """The constant b >= 0 that makes counts of mean `expected` + b most likely, (starts,): mean(I / (c + b)) = 1
    over the measured voxels, or 0 where that has no solution.

    Newton's method for 1 / mean(I / (c + b)) = 1, which is a straight line in b where c is small (the trick of
    Hebden and More for secular equations): a few steps are enough. The standard error is
    1 / sqrt(sum(1 / (c + b))), that of a count where the object is dark. `first` is where the steps begin.
    """
    number = np.sum(counts.used, dtype=np.float64)
    start = np.sum(counts.values, dtype=np.float64) / number * 1e-3 if first is None else first
    level = _nothing(expected) + start
    for _ in range(iterations):
        c = np.maximum(expected, 0) + per_start(level).astype(np.float32) + np.float32(_TINY)
        share = np.where(counts.used, counts.values / c, 0)
        mean, fall = _total(share) / number, _total(share / c) / number
        level = np.maximum(level + mean * (mean - 1) / np.maximum(fall, _TINY), 0)
    return level


def standard_error(counts: Counts, expected: Floats) -> NDArray[np.float64]:
    """That of a background whose c, b included, is `expected`, (starts,): from the Fisher information."""
    weight = np.where(counts.used, 1 / _floored(expected), 0)
    return 1 / np.sqrt(_total(weight))
