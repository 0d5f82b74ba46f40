"""How far expected counts are from those measured, pixel by pixel, and the crystal's total variation."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..types import BoolArray, ComplexArray, FloatArray, ScanError

LossName = Literal["amplitude", "poisson"]
LOSSES = ("amplitude", "poisson")

ANSCOMBE = 3 / 8  # with it the root of a Poisson count has variance 1/4 and nearly no bias, from one on
_LEAST = 1e-6  # counts; Poisson's logarithm needs a positive expectation
_SCORINGS = 12


class Loss:
    """ "amplitude": (sqrt(e + 3/8) - sqrt(c + 3/8))^2 (Anscombe, Biometrika 35, 246 (1948)); "poisson":
    e - c + c log(c / e), half the deviance. Both are about 1/4 and 1/2 a pixel at best where there are counts."""

    def __init__(self, name: LossName) -> None:
        if name not in LOSSES:
            raise ScanError(f"no loss {name!r}; there are {', '.join(LOSSES)}")
        self._poisson = name == "poisson"

    @property
    def of_a_nat(self) -> float:
        """What one unit of a negative log-likelihood is in this loss."""
        return 1.0 if self._poisson else 0.5

    def values(self, expected: FloatArray, counts: FloatArray) -> FloatArray:
        if not self._poisson:
            return np.asarray((np.sqrt(expected + ANSCOMBE) - np.sqrt(counts + ANSCOMBE)) ** 2)
        safe = np.maximum(expected, _LEAST)
        return np.asarray(safe - counts + counts * np.log(np.where(counts > 0, counts, safe) / safe))

    def slopes(self, expected: FloatArray, counts: FloatArray) -> FloatArray:
        """Derivative by the expectation."""
        if not self._poisson:
            return np.asarray(1 - np.sqrt((counts + ANSCOMBE) / (expected + ANSCOMBE)))
        return np.asarray(1 - counts / np.maximum(expected, _LEAST))

    def curvatures(self, expected: FloatArray) -> FloatArray:
        """Second derivative where the counts are as expected."""
        if not self._poisson:
            return np.asarray(0.5 / (expected + ANSCOMBE))
        return np.asarray(1 / np.maximum(expected, _LEAST))

    def scale(self, found: FloatArray, counts: FloatArray, background: FloatArray) -> float:
        """The factor of `found` that fits best, all flat: by scoring, from that which has all counts."""
        scale = max(float((counts - background).sum()), 1.0) / float(found.sum())
        for _ in range(_SCORINGS):
            expected = scale * found + background
            step = (self.slopes(expected, counts) @ found) / (self.curvatures(expected) @ found**2)
            scale = max(scale - float(step), 0.1 * scale)
        return scale


def constant_background(
    found: FloatArray, counts: FloatArray, start: float, response: FloatArray | float = 1.0
) -> float:
    """Counts a pixel, times its `response`, that go with the best multiple of `found`, by Poisson's likelihood
    whatever the loss (roots are biased where hardly anything is counted). All flat; scoring in both, kept from
    below zero."""
    seen = np.broadcast_to(np.asarray(response, float), counts.shape)
    level = max(start, 1e-3)
    scale = max(float(counts.sum()) - level * float(seen.sum()), 1.0) / float(found.sum())
    for _ in range(_SCORINGS):
        expected = np.maximum(scale * found + level * seen, _LEAST)
        weights, excess = 1 / expected, counts / expected - 1
        mixed = (weights * seen) @ found
        matrix = np.array([[weights @ found**2, mixed], [mixed, weights @ seen**2]])
        step = np.linalg.solve(matrix, np.array([excess @ found, excess @ seen]))
        scale, level = max(scale + step[0], 0.1 * scale), max(level + step[1], 0.1 * level)
    return level


def fitted_pixels(used: BoolArray, share: float, seed: int) -> tuple[BoolArray, BoolArray]:
    """The pixels that are fitted, and those that are free. Raises ScanError where one of the two is empty."""
    if not 0 < share < 1:
        raise ScanError(f"free_share is the share of pixels that judge, more than 0 and less than 1, not {share}")
    chosen = np.random.default_rng(seed).random(used.shape) < share
    free, fitted = used & chosen, used & ~chosen
    if not (free.any() and fitted.any()):
        raise ScanError("no pixel is free, or all are: give another free_share, or more pixels")
    return fitted, free


def total_variation(density: ComplexArray, softening: float = 1e-4) -> tuple[float, ComplexArray]:
    """Sum over the voxels of sqrt(sum |difference to the next|^2 + softening) (adaptive total variation with p = 2
    and q = 1), nothing beyond the last voxel; and its slope dTV/dRe S + i dTV/dIm S."""
    steps = [np.diff(density, axis=axis, append=np.take(density, [-1], axis=axis)) for axis in range(density.ndim)]
    root: NDArray[np.floating] = np.sqrt(sum(np.abs(step) ** 2 for step in steps) + softening)
    out = np.zeros_like(density)
    for axis, step in enumerate(steps):
        pull = step / root
        out -= pull
        out += np.roll(pull, 1, axis=axis)  # the last step of an axis is zero, so nothing comes round
    return float(root.sum(dtype=np.float64)), out
