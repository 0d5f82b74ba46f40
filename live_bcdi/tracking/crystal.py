"""One crystal as the model of an assembly: all that frames show is the squared transform of a small object.

A series of intensities along the rocking axis (`expect`) follows a warp of the angles almost as well as the truth;
the transform of one object of known extent does not. Calvo-Almazan et al. (2019) have angles and object in one
likelihood.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from .band import Band, Floats
from .expect import Expectation
from .fringes import WIDTH, Fringes
from .rolls import Turned

Complex = NDArray[np.complex64]

_FINER = (
    1.1,
    1.2,
)  # times the period of the angles, and the rows and columns: a pattern need not end as it begins
_LARGER = 1.15  # than the extents that fringes tell across pixels
_MOST = 0.6  # of rows and columns: an object whose fringes they still sample
_FLOOR = 1e-3  # of the mean counts: what a block without crystal has
_LEAST = 1e-2  # of a frame: an angle with fewer is not fitted
_FIRST, _THEN = 40, 10  # steps of the first fit, and of the others, which begin at the last one
_MEMORY = 15  # of the quasi-Newton steps


@dataclass(frozen=True, kw_only=True, slots=True)
class Waves:
    """What voxels (a, b, c) are multiplied with at angles (angles, a), rows (rows, b) and columns (columns, c)."""

    angles: Complex
    rows: Complex
    columns: Complex

    def box(self) -> tuple[int, int, int]:
        return self.angles.shape[1], self.rows.shape[1], self.columns.shape[1]

    def seen(self, voxels: Complex) -> Complex:
        """Amplitudes (angles, rows, columns)."""
        a, b, c = self.box()
        turned = (self.angles @ voxels.reshape(a, b * c)).reshape(-1, c)
        seen = np.matmul(self.rows, (turned @ self.columns.T).reshape(-1, b, len(self.columns)))
        return np.asarray(seen, np.complex64)

    def back(self, amplitudes: Complex) -> Complex:
        """The adjoint of `seen`."""
        a, b, c = self.box()
        across = (amplitudes.reshape(-1, len(self.columns)) @ self.columns.conj()).reshape(-1, len(self.rows), c)
        turned = np.matmul(self.rows.conj().T, across).reshape(-1, b * c)
        return np.asarray((self.angles.conj().T @ turned).reshape(a, b, c), np.complex64)


def waves_of(grid: Floats, band: Band, shape: tuple[int, int], fringes: Fringes) -> Waves:
    """For an object as large as the series ends along the rocking axis, and as fringes tell across pixels."""
    period = _FINER[0] * band.period
    extents = [band.order / band.period, *(_LARGER * rate / WIDTH for rate in (fringes.rows, fringes.columns))]
    lengths = [period, *(_FINER[1] * n for n in shape)]
    most = (len(grid), *(int(_MOST * n) for n in shape))
    places = (grid - grid.mean(), *(np.arange(n) - n / 2 for n in shape))
    made = []
    for axis in range(3):
        number = int(np.clip(round(extents[axis] * lengths[axis]), 2, max(2, most[axis])))
        voxels = np.arange(number) - (number - 1) / 2
        made.append(np.exp(-2j * np.pi / lengths[axis] * np.outer(places[axis], voxels)).astype(np.complex64))
    return Waves(angles=made[0], rows=made[1], columns=made[2])


class CrystalFit:
    """The object that best explains frames whose angles are known by their chances only, each from the last."""

    def __init__(self, waves: Waves, shape: tuple[int, int], *, seed: int = 0) -> None:
        self._waves, self._shape = waves, shape
        self._voxels, self._random = np.zeros(waves.box(), np.complex64), np.random.default_rng(seed)

    def __call__(self, turned: Turned, chance: Floats) -> Expectation:
        """Poisson's likelihood of counts without holes by the chances (frames, rolls, angles), maximised:

        sum_j n_j W_j - C_j log W_j,    C_j = sum_kl P_klj F_kl,    n_j the frames at angle j.
        """
        number = chance.sum(axis=(0, 1))
        kept = number > _LEAST
        share = chance.reshape(-1, len(number))[:, kept].astype(np.float32)
        counts = (share.T @ turned.counts.reshape(len(share), -1)).reshape(-1, *self._shape)
        here = Waves(angles=self._waves.angles[kept], rows=self._waves.rows, columns=self._waves.columns)
        weight, floor = number[kept].astype(np.float32)[:, None, None], _floor(turned)
        steps = _THEN
        if not self._voxels.any():
            self._voxels, steps = _begun(here, counts, weight, self._random), _FIRST
        self._voxels = fitted(self._voxels, here, (counts, weight, floor), steps)
        expected = np.abs(self._waves.seen(self._voxels)) ** 2 + floor
        return Expectation(counts=expected.reshape(len(number), -1).astype(np.float32))


def fitted(
    voxels: Complex, waves: Waves, seen: tuple[NDArray[np.float32], NDArray[np.float32], np.float32], steps: int
) -> Complex:
    """The voxels after `steps` of L-BFGS; `seen` are counts (angles, rows, columns), of how many frames they
    are (angles, 1, 1), and what is expected where the crystal scatters nothing."""
    counts, weight, floor = seen
    unit = max(float(np.sqrt(np.mean(np.abs(voxels) ** 2))), 1e-12)

    def unpacked(x: Floats) -> Complex:
        half = x.size // 2
        return np.asarray(unit * (x[:half] + 1j * x[half:]).reshape(voxels.shape), np.complex64)

    def objective(x: Floats) -> tuple[float, Floats]:
        amplitude = waves.seen(unpacked(x))
        expected = amplitude.real**2 + amplitude.imag**2 + floor
        value = float((weight * expected - counts * np.log(expected)).sum(dtype=np.float64))
        slope = waves.back(2 * (weight - counts / expected) * amplitude).ravel()
        return value, unit * np.concatenate([slope.real, slope.imag]).astype(np.float64)

    start = np.concatenate([voxels.real.ravel(), voxels.imag.ravel()]).astype(np.float64) / unit
    options = {"maxiter": steps, "maxfun": 2 * steps, "maxcor": _MEMORY}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    return unpacked(np.asarray(found.x, np.float64))


def _floor(turned: Turned) -> np.float32:
    return np.float32(_FLOOR * turned.counts.mean())


def _begun(
    waves: Waves, counts: NDArray[np.float32], weight: NDArray[np.float32], random: np.random.Generator
) -> Complex:
    """Random voxels, fewer towards the rim, that scatter as much as was counted."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in waves.box()), indexing="ij", sparse=True)
    drawn = random.normal(size=(2, *waves.box())) * np.exp(-2 * sum(axis**2 for axis in axes))
    voxels = (drawn[0] + 1j * drawn[1]).astype(np.complex64)
    light = float((weight * np.abs(waves.seen(voxels)) ** 2).sum())
    return np.asarray(voxels * np.sqrt(float(counts.sum()) / max(light, 1e-12)), np.complex64)
