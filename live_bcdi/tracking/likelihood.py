"""Object, angles and intensities of one scan together: the Poisson likelihood of all, and its exact gradient.

Only the object's support is known. It is the constraint that the band limit lacks: what all pixels see is one
crystal (Calvo-Almazan et al. 2019).
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse.linalg import LinearOperator, cg

from ..types import BoolArray
from .band import Floats

Complex = NDArray[np.complex128]

FLOOR = 0.01  # counts expected of a pixel that the crystal does not light: one stray count is no catastrophe
_MEMORY = 20  # of the quasi-Newton steps
_CLOSE = 1e-3  # of the residual
_CONJUGATE = 200  # steps: slow warps, which the object nearly follows, come last


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

    def rates(self, axis: int) -> Complex:
        """What the waves of an axis are multiplied with where they are differentiated by the place."""
        voxels = self.first[axis] + np.arange(self.support.shape[axis])
        return np.asarray(-2j * np.pi / self.lengths[axis] * voxels, np.complex128)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """The object's `voxels` inside its support, and `motion` (4, frames): of each frame the offset in steps, the
    shift along rows and columns in pixels, and the logarithm of the gain."""

    voxels: Complex
    motion: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class Prior:
    """Standard deviations of offsets (steps), shifts (pixels) and gains; `smear_steps` is what a frame turns while
    it counts."""

    jitter: float
    shift: float
    gain: float
    smear_steps: float = 0.0

    def precision(self) -> Floats:
        """Of the four rows of `Fit.motion`, (4, 1)."""
        return np.array([self.jitter, self.shift, self.shift, self.gain])[:, None] ** -2.0


class Joint:
    """`counts` (frames, rows, columns) of frames at `nominal` angles (steps), `scale` to one monitor reading.

    With a = sum over r of S(r) exp(-i q(theta_k, row - shift, column - shift) . r), frame k expects
    g_k / scale_k |a|^2 counts, averaged over what it turns while it counts, by Gauss and Legendre.
    """

    def __init__(
        self, counts: Floats, used: BoolArray, nominal: Floats, scale: Floats, *, grid: Grid, prior: Prior
    ) -> None:
        _, rows, columns = counts.shape
        self._counts, self._used, self._nominal, self._scale = counts, used, nominal, scale
        self._grid, self._prior, self._precision = grid, prior, prior.precision()
        self._rows = grid.waves(1, np.arange(rows, dtype=np.float64) - grid.centre[0])
        self._columns = grid.waves(2, np.arange(columns, dtype=np.float64) - grid.centre[1])
        self._rates = [grid.rates(axis) for axis in range(3)]
        self._turns = _turns(prior.smear_steps)

    def expected(self, fit: Fit) -> Floats:
        """Counts (frames, rows, columns)."""
        box = self._box(fit.voxels)
        seen = sum(w * np.abs(self._seen(self._exit(box, fit, turn)[0])) ** 2 for turn, w in self._turns)
        return np.asarray(self._gains(fit) * seen + FLOOR)

    def value(self, fit: Fit) -> tuple[float, Complex, Floats]:
        """Minus the logarithm of likelihood and prior, and its gradient by voxels (d/dRe + i d/dIm) and motion."""
        box, gains = self._box(fit.voxels), self._gains(fit)
        exits = [self._exit(box, fit, turn) for turn, _ in self._turns]
        amplitudes = [self._seen(each) for each, _ in exits]
        light = gains * sum(w * np.abs(a) ** 2 for (_, w), a in zip(self._turns, amplitudes))
        expected = light + FLOOR
        value = float(self._costs(expected, fit.motion).sum())
        rest = self._used * (1 - self._counts / expected)
        by_motion, by_box = self._precision * fit.motion, np.zeros_like(box)
        by_motion[3] += (rest * light).sum(axis=(1, 2))
        for (_, weight), (out, turned), amplitude in zip(self._turns, exits, amplitudes):
            back = self._rows.conj().T @ (2 * weight * gains * rest * amplitude) @ self._columns.conj()
            for row, each in enumerate(self._derived(box, fit, out, turned)):
                by_motion[row] += np.real(back.conj() * each).sum(axis=(1, 2))
            by_box += np.tensordot(turned.conj(), back * self._ramps(fit).conj(), (0, 0))
        return value, np.asarray(by_box[self._grid.support], np.complex128), by_motion

    def sought(self, fit: Fit, offsets: Floats) -> Fit:
        """`fit` with each frame where this object explains it best, at one of `offsets` (steps) or where it is:
        L-BFGS finds only the nearest minimum."""
        tried = [fit.motion[0], *(np.full_like(fit.motion[0], offset) for offset in offsets)]
        motions = [np.stack([each, *fit.motion[1:]]) for each in tried]
        costs = [self._costs(self.expected(replace(fit, motion=each)), each) for each in motions]
        best = np.argmin(costs, axis=0)
        return replace(fit, motion=np.stack(motions)[best, :, np.arange(len(best))].T)

    def known(self, fit: Fit) -> Floats:
        """Covariance of each frame's motion were the object known, with the prior: the Cramer-Rao bound,
        (frames, 4, 4)."""
        moves, expected = self._moves(fit), self.expected(fit)
        told = np.einsum("akrc,bkrc->kab", moves * (self._used / expected), moves, optimize=True)
        return np.linalg.inv(told + np.diag(self._precision[:, 0]))

    def solved(self, fit: Fit, iterations: int) -> Fit:
        """The nearest minimum, by L-BFGS in units in which the curvatures are about those of the voxels, 4."""
        unit = 2 * np.sqrt(np.diagonal(self.known(fit), axis1=1, axis2=2).T)
        inside = len(fit.voxels)

        def unpacked(x: Floats) -> Fit:
            voxels = x[:inside] + 1j * x[inside : 2 * inside]
            return Fit(voxels=voxels, motion=unit * x[2 * inside :].reshape(unit.shape))

        def packed(voxels: Complex, motion: Floats) -> Floats:
            return np.concatenate([voxels.real, voxels.imag, motion.ravel()])

        def objective(x: Floats) -> tuple[float, Floats]:
            value, voxels, motion = self.value(unpacked(x))
            return value, packed(voxels, unit * motion)

        options = {"maxiter": iterations, "maxfun": 2 * iterations, "maxcor": _MEMORY}
        start = packed(fit.voxels, fit.motion / unit)
        found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
        return unpacked(np.asarray(found.x, np.float64))

    def drawn(self, fit: Fit, number: int, random: np.random.Generator) -> Floats:
        """By how much the motion may be off, (number, 4, frames): drawn from the posterior of object and motion
        about `fit`, the counts linear in both.

        With x the unknowns, D = d(expected)/dx, W = 1 / expected and P the prior's precision, the x that solves
        (D' W D + P) x = D' W^1/2 noise + P^1/2 noise has the posterior's covariance (Papandreou & Yuille 2010).
        """
        seen = _Linear(self, fit)
        return np.stack([seen.draw(random) for _ in range(number)])

    def _costs(self, expected: Floats, motion: Floats) -> Floats:
        """Minus the logarithm of likelihood and prior, frame by frame."""
        told = (self._used * (expected - self._counts * np.log(expected))).sum(axis=(1, 2))
        return np.asarray(told + 0.5 * (self._precision * motion**2).sum(axis=0))

    def _box(self, voxels: Complex) -> Complex:
        box = np.zeros(self._grid.support.shape, np.complex128)
        box[self._grid.support] = voxels
        return box

    def _gains(self, fit: Fit) -> Floats:
        return np.asarray((np.exp(fit.motion[3]) / self._scale)[:, None, None], np.float64)

    def _ramps(self, fit: Fit) -> Complex:
        """Of the shifts, (frames, rows of voxels, columns of voxels)."""
        rows, columns = (np.exp(-np.outer(fit.motion[axis], self._rates[axis])) for axis in (1, 2))
        return np.asarray(rows[:, :, None] * columns[:, None, :], np.complex128)

    def _exit(self, box: Complex, fit: Fit, turn: float) -> tuple[Complex, Complex]:
        """The object summed along the rocking axis as each frame sees it, and the waves it was summed with."""
        waves = self._grid.waves(0, self._nominal + fit.motion[0] + turn)
        return self._ramps(fit) * np.tensordot(waves, box, 1), waves

    def _derived(self, box: Complex, fit: Fit, out: Complex, waves: Complex) -> tuple[Complex, ...]:
        """`_exit` by offset and shifts."""
        by_angle = self._ramps(fit) * np.tensordot(waves * self._rates[0], box, 1)
        return by_angle, -out * self._rates[1][:, None], -out * self._rates[2]

    def _seen(self, out: Complex) -> Complex:
        return np.asarray(self._rows @ out @ self._columns.T, np.complex128)

    def _moves(self, fit: Fit) -> Floats:
        """The expected counts by each row of the motion: (4, frames, rows, columns)."""
        box, made = self._box(fit.voxels), np.zeros((4, *self._counts.shape))
        for turn, weight in self._turns:
            out, waves = self._exit(box, fit, turn)
            seen = self._seen(out)
            by = [self._seen(each) for each in self._derived(box, fit, out, waves)]
            made += [2 * weight * np.real(seen.conj() * each) for each in (*by, seen / 2)]
        return np.asarray(made * self._gains(fit))


class _Linear:
    """The counts of a `Joint` about a fit, linear in the unknowns: voxels (real, imaginary), then the motion over
    `unit`, which gives all of them curvatures that are much alike."""

    def __init__(self, joint: Joint, fit: Fit) -> None:
        self._joint, self._box, self._gains = joint, joint._box(fit.voxels), joint._gains(fit)
        self._ramps, self._light = joint._ramps(fit), joint.expected(fit) - FLOOR
        self._weight, self._turned = joint._used / (self._light + FLOOR), []
        for turn, weight in joint._turns:
            out, waves = joint._exit(self._box, fit, turn)
            self._turned.append(
                (2 * weight * self._gains * joint._seen(out), waves, joint._derived(self._box, fit, out, waves))
            )
        self._unit = 2 * np.sqrt(np.diagonal(joint.known(fit), axis1=1, axis2=2).T)
        self._precision = joint._precision * self._unit**2
        self._inside = len(fit.voxels)

    def forward(self, x: Floats) -> Floats:
        """Counts (frames, rows, columns) by unknowns."""
        voxels, motion = x[: self._inside] + 1j * x[self._inside : 2 * self._inside], self._motion(x)
        box = self._joint._box(voxels)
        made = motion[3][:, None, None] * self._light
        for seen, waves, derived in self._turned:
            out = self._ramps * np.tensordot(waves, box, 1)
            out = out + sum(row[:, None, None] * each for row, each in zip(motion, derived))
            made = made + np.real(seen.conj() * self._joint._seen(out))
        return np.asarray(made, np.float64)

    def back(self, counts: Floats) -> Floats:
        """The transpose of `forward`."""
        joint, box, motion = self._joint, np.zeros_like(self._box), np.zeros_like(self._unit)
        motion[3] = (counts * self._light).sum(axis=(1, 2))
        for seen, waves, derived in self._turned:
            out = joint._rows.conj().T @ (counts * seen) @ joint._columns.conj()
            for row, each in enumerate(derived):
                motion[row] += np.real(out.conj() * each).sum(axis=(1, 2))
            box += np.tensordot(waves.conj(), out * self._ramps.conj(), (0, 0))
        voxels = box[joint._grid.support]
        return np.concatenate([voxels.real, voxels.imag, (motion * self._unit).ravel()])

    def curved(self, x: Floats) -> Floats:
        """Fisher's information, and the prior's, times x."""
        made = self.back(self._weight * self.forward(x))
        made[2 * self._inside :] += (self._precision * self._motion(x) / self._unit).ravel()
        return made

    def draw(self, random: np.random.Generator) -> Floats:
        pushed = self.back(np.sqrt(self._weight) * random.normal(size=self._light.shape))
        pushed[2 * self._inside :] += (np.sqrt(self._precision) * random.normal(size=self._unit.shape)).ravel()
        made = LinearOperator((len(pushed), len(pushed)), matvec=self.curved, dtype=np.float64)
        return self._motion(cg(made, pushed, rtol=_CLOSE, maxiter=_CONJUGATE)[0])

    def _motion(self, x: Floats) -> Floats:
        return np.asarray(x[2 * self._inside :].reshape(self._unit.shape) * self._unit, np.float64)


def _turns(smear: float) -> tuple[tuple[float, float], ...]:
    """Angles within a frame and their weights: exact for a polynomial of degree 5 in the angle."""
    if smear == 0:
        return ((0.0, 1.0),)
    places, weights = np.polynomial.legendre.leggauss(3)
    return tuple((float(smear / 2 * place), float(weight / 2)) for place, weight in zip(places, weights))
