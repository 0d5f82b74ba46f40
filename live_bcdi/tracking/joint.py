"""Object, angles and intensities of one scan together: the Poisson likelihood of all, and its exact gradient.

Only the object's support is known. It is the constraint that the band limit lacks: what all pixels see is one
crystal (Calvo-Almazan et al. 2019).
"""

from copy import copy
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from ..types import BoolArray
from .band import Floats

Complex = NDArray[np.complex128]

FLOOR = 0.01  # counts expected of a pixel that the crystal does not light: one stray count is no catastrophe
_MEMORY = 20  # of the quasi-Newton steps


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """The object's voxels inside `support` (rocking, row, column), the first at `first` from the middle. A frame
    at angle 0 (steps) and the pixel `centre` (row, column) see the peak; `lengths` are the periods of the pattern.

    The rocking period is longer than the scan: a periodic pattern would have to end as it begins.
    """

    support: BoolArray
    first: tuple[int, int, int]
    lengths: tuple[float, float, float]
    centre: tuple[float, float]

    def waves(self, axis: int, places: Floats) -> Complex:
        """exp(-2 pi i place r / length) / sqrt(length), (places, voxels)."""
        voxels = self.first[axis] + np.arange(self.support.shape[axis])
        made = np.exp(-2j * np.pi / self.lengths[axis] * np.outer(places, voxels)) / np.sqrt(self.lengths[axis])
        return np.asarray(made, np.complex128)

    def rates(self) -> Complex:
        """What the rocking waves are multiplied with where they are differentiated by the angle."""
        voxels = self.first[0] + np.arange(self.support.shape[0])
        return np.asarray(-2j * np.pi / self.lengths[0] * voxels, np.complex128)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """The object's voxels (inside its support), offsets in steps and logarithms of gains, (frames,)."""

    voxels: Complex
    offsets: Floats
    gains: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class Prior:
    """Standard deviations of offsets (steps) and of gains; `smear_steps` is what a frame turns while it counts."""

    jitter: float
    gain: float
    smear_steps: float = 0.0


class Joint:
    """`counts` (frames, rows, columns) of frames at `nominal` angles (steps), `scale` to one monitor reading.

    With a = sum over r of S(r) exp(-i q(theta_k) . r), frame k expects g_k / scale_k |a|^2 counts, averaged over
    what it turns while it counts, by Gauss and Legendre.
    """

    def __init__(
        self, counts: Floats, used: BoolArray, nominal: Floats, scale: Floats, *, grid: Grid, prior: Prior
    ) -> None:
        frames, rows, columns = counts.shape
        self._image = rows, columns
        self._counts, self._used = counts.reshape(frames, -1), used.reshape(frames, -1)
        self._nominal, self._scale, self._grid, self._prior = nominal, scale, grid, prior
        self._rows = grid.waves(1, np.arange(rows, dtype=np.float64) - grid.centre[0])
        self._columns = grid.waves(2, np.arange(columns, dtype=np.float64) - grid.centre[1])
        self._turns = _turns(prior.smear_steps)

    def expected(self, fit: Fit) -> Floats:
        """Counts (frames, pixels)."""
        planes = self._planes(fit.voxels)
        return np.asarray(self._gains(fit)[:, None] * sum(self._seen(planes, fit.offsets)) + FLOOR)

    def value(self, fit: Fit) -> tuple[float, Complex, Floats, Floats]:
        """Minus the logarithm of likelihood and prior, and its gradient by voxels (d/dRe + i d/dIm), offsets and
        gains."""
        planes, scale = self._planes(fit.voxels), self._gains(fit)[:, None]
        turned = [self._grid.waves(0, self._nominal + fit.offsets + turn) for turn, _ in self._turns]
        amplitudes = [wave @ planes for wave in turned]
        light = scale * sum(w * np.abs(a) ** 2 for (_, w), a in zip(self._turns, amplitudes))
        expected = light + FLOOR
        prior = self._prior
        value = float((self._used * (expected - self._counts * np.log(expected))).sum())
        value += 0.5 * float((fit.offsets**2).sum() / prior.jitter**2 + (fit.gains**2).sum() / prior.gain**2)
        rest = self._used * (1 - self._counts / expected)
        by_gain = (rest * light).sum(axis=1) + fit.gains / prior.gain**2
        by_offset = fit.offsets / prior.jitter**2
        by_plane = np.zeros_like(planes)
        for (_, weight), wave, amplitude in zip(self._turns, turned, amplitudes):
            back = 2 * weight * scale * rest * amplitude
            by_offset = by_offset + np.real(((back.conj() @ planes.T) * wave * self._grid.rates()).sum(axis=1))
            by_plane += wave.conj().T @ back
        return value, self._voxels(by_plane), by_offset, by_gain

    def of(self, counts: Floats) -> "Joint":
        """The same model of other counts (frames, pixels)."""
        made = copy(self)
        made._counts = counts
        return made

    def known_std(self, fit: Fit) -> Floats:
        """Standard deviation of each offset were all but it and its frame's gain known: the Cramer-Rao bound, with
        the prior, (frames,)."""
        angle, cross, gain = self._information(fit)
        angle = angle + self._prior.jitter**-2 - cross**2 / (gain + self._prior.gain**-2)
        return np.asarray(1 / np.sqrt(angle), np.float64)

    def _information(self, fit: Fit) -> tuple[Floats, Floats, Floats]:
        """Of each frame's offset, of offset and gain, and of gain, (frames,) each."""
        step, expected = 1e-3, self.expected(fit)
        after, before = (self.expected(replace(fit, offsets=fit.offsets + move)) for move in (step, -step))
        slope, light = (after - before) / (2 * step), expected - FLOOR
        weight = self._used / expected
        angle, cross, gain = ((weight * each).sum(axis=1) for each in (slope**2, slope * light, light**2))
        return angle, cross, gain

    def solved(self, fit: Fit, iterations: int) -> Fit:
        """The nearest minimum, by L-BFGS in units in which the curvatures are about those of the voxels, 4."""
        angle, _, gain = self._information(fit)
        by_offset = 2 / np.sqrt(angle + self._prior.jitter**-2)
        by_gain = 2 / np.sqrt(gain + self._prior.gain**-2)
        frames, inside = len(by_offset), len(fit.voxels)

        def unpacked(x: Floats) -> Fit:
            voxels = x[:inside] + 1j * x[inside : 2 * inside]
            return Fit(voxels=voxels, offsets=by_offset * x[-2 * frames : -frames], gains=by_gain * x[-frames:])

        def objective(x: Floats) -> tuple[float, Floats]:
            value, voxels, offsets, gains = self.value(unpacked(x))
            return value, np.concatenate([voxels.real, voxels.imag, by_offset * offsets, by_gain * gains])

        start = np.concatenate([fit.voxels.real, fit.voxels.imag, fit.offsets / by_offset, fit.gains / by_gain])
        found = minimize(
            objective,
            start,
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": iterations, "maxfun": 2 * iterations, "maxcor": _MEMORY},
        )
        return unpacked(np.asarray(found.x, np.float64))

    def _gains(self, fit: Fit) -> Floats:
        return np.asarray(np.exp(fit.gains) / self._scale, np.float64)

    def _seen(self, planes: Complex, offsets: Floats) -> list[Floats]:
        waves = (self._grid.waves(0, self._nominal + offsets + turn) for turn, _ in self._turns)
        return [weight * np.abs(wave @ planes) ** 2 for (_, weight), wave in zip(self._turns, waves)]

    def _planes(self, voxels: Complex) -> Complex:
        """Each plane of the object, transformed along rows and columns: (planes, pixels)."""
        box = np.zeros(self._grid.support.shape, np.complex128)
        box[self._grid.support] = voxels
        return np.asarray(np.matmul(self._rows, box @ self._columns.T).reshape(len(box), -1), np.complex128)

    def _voxels(self, by_plane: Complex) -> Complex:
        """The adjoint of `_planes`."""
        image = by_plane.reshape(len(by_plane), *self._image)
        box = np.matmul(self._rows.conj().T, image @ self._columns.conj())
        return np.asarray(box[self._grid.support], np.complex128)


def _turns(smear: float) -> tuple[tuple[float, float], ...]:
    """Angles within a frame and their weights: exact for a polynomial of degree 5 in the angle."""
    if smear == 0:
        return ((0.0, 1.0),)
    places, weights = np.polynomial.legendre.leggauss(3)
    return tuple((float(smear / 2 * place), float(weight / 2)) for place, weight in zip(places, weights))
