"""A crystal refined against its frames through the dynamical forward model, by Adam on minibatches of angles.

S is varied inside the support, s0 is given. The scale of the intensities and that of S cannot be told apart: the
median of |S| inside is one, and the scale is what then fits best. Some pixels are free: no gradient sees them,
and the result is the state that foretold them best. After Wu et al. (2025), who have no free pixels nor angles.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..geometry import Floats
from ..types import BoolArray, ComplexArray, FloatArray, ScanError
from .detector import FarField
from .transport import Transport

_LOG = logging.getLogger(__name__)
_TINY = 1e-12  # of the largest intensity: where nothing is expected, the slope of its root is kept finite


@dataclass(frozen=True, kw_only=True, slots=True)
class Frames:
    """What was measured: `counts` (n, pixels...), where the crystal stood, `delta_q` (n, 3) in 1/m, and how that
    changes with the rocking angle, `turning` (n, 3) in 1/m a radian. `used` (n, pixels...) is False for pixels
    that must not be used."""

    counts: FloatArray
    delta_q: Floats
    turning: Floats
    used: BoolArray

    def __post_init__(self) -> None:
        if self.used.shape != self.counts.shape or self.delta_q.shape != (len(self.counts), 3):
            raise ScanError(
                f"frames {self.counts.shape} need a mask like them, not {self.used.shape}, and a departure each,"
                f" not {self.delta_q.shape}"
            )
        if self.turning.shape != self.delta_q.shape:
            raise ScanError(f"give the change of each departure by the angle, not an array {self.turning.shape}")
        known = self.counts[self.used]
        if not (np.isfinite(known).all() and (known >= 0).all() and known.any()):
            raise ScanError("the counts of used pixels must be finite, not negative, and not all zero")


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How to refine. `step` is Adam's, of an |S| of one; it halves after `patience` epochs without a better
    misfit. `smoothing` weighs the total variation sqrt(|grad S|^2 + eps), averaged over the voxels.
    `angle_prior_rad` is how far the rocking angles may be off (one standard deviation); None leaves them."""

    epochs: int = 100
    batches: int = 5
    loss: Literal["amplitude", "poisson"] = "amplitude"
    step: float = 0.05
    patience: int = 10
    smoothing: float = 0.0
    angle_prior_rad: float | None = None
    free_share: float = 0.02
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Refined:
    """`density` of the epoch that foretold the free pixels best; `offsets_rad` (n,) of the rocking angles;
    `misfits` and `free_misfits` a pixel and epoch, the first of the start."""

    density: ComplexArray
    offsets_rad: Floats
    scale: float
    misfits: tuple[float, ...]
    free_misfits: tuple[float, ...]


class _Adam:
    """Kingma & Ba 2014; a complex number has one second moment."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.count, self.first, self.second = 0, np.zeros(shape, complex), np.zeros(shape)

    def step(self, gradient: ComplexArray) -> ComplexArray:
        """What to take off, in steps."""
        self.count += 1
        self.first = 0.9 * self.first + 0.1 * gradient
        self.second = 0.999 * self.second + 0.001 * np.abs(gradient) ** 2
        mean = self.first / (1 - 0.9**self.count)
        return np.asarray(mean / (np.sqrt(self.second / (1 - 0.999**self.count)) + 1e-30))


def refine(
    frames: Frames,
    far_field: FarField,
    transport: Transport,
    start: tuple[ComplexArray, FloatArray],
    settings: Settings | None = None,
    *,
    progress: Callable[[int, float], None] | None = None,
) -> Refined:
    """S from `start`, (S, s0) on (nx, ny, nz), where S is not zero. `progress` is told each epoch and its free
    misfit. Raises ScanError for input that cannot be used."""
    return _Refinement(frames, far_field, transport, start, settings or Settings()).run(progress)


class _Refinement:
    def __init__(
        self,
        frames: Frames,
        far_field: FarField,
        transport: Transport,
        start: tuple[ComplexArray, FloatArray],
        settings: Settings,
    ) -> None:
        self._frames, self._far, self._transport, self._settings = frames, far_field, transport, settings
        self._density, self._s0 = np.array(start[0]), start[1]
        self._support = self._density != 0
        if not self._support.any():
            raise ScanError("the crystal to start from is empty")
        if not 1 <= settings.batches <= len(frames.counts):
            raise ScanError(f"{settings.batches} batches of {len(frames.counts)} frames cannot be made")
        self._rng = np.random.default_rng(settings.seed)
        free = self._rng.random(frames.counts.shape) < settings.free_share
        self._free, self._fitted = frames.used & free, frames.used & ~free
        if not self._free.any():
            raise ScanError("no pixel is free: give a larger free_share, or more pixels")
        self._offsets = np.zeros(len(frames.counts))
        self._adam = _Adam(self._density.shape)
        self._scale = 1.0

    def run(self, progress: Callable[[int, float], None] | None) -> Refined:
        step, waited = self._settings.step, 0
        misfits: list[float] = []
        free: list[float] = []
        best: tuple[ComplexArray, Floats, float] | None = None
        for epoch in range(self._settings.epochs + 1):
            if epoch:
                self._turn()
                self._epoch(step)
            self._pin()
            fitted, foretold = self._judge()
            if not np.isfinite(fitted):
                raise ScanError("the refinement diverged: take a smaller step")
            if not free or foretold < min(free):
                best = (self._density.copy(), self._offsets.copy(), self._scale)
            waited = 0 if not misfits or fitted < min(misfits) else waited + 1
            if waited >= self._settings.patience:
                step, waited = step / 2, 0
            misfits.append(fitted)
            free.append(foretold)
            _LOG.debug("epoch %d: misfit %.5g, free %.5g, step %.3g", epoch, fitted, foretold, step)
            if progress is not None:
                progress(epoch, foretold)
        assert best is not None
        density, offsets, scale = best
        return Refined(
            density=density, offsets_rad=offsets, scale=scale, misfits=tuple(misfits), free_misfits=tuple(free)
        )

    def _departures(self) -> Floats:
        return self._frames.delta_q + self._offsets[:, None] * self._frames.turning

    def _epoch(self, step: float) -> None:
        for batch in np.array_split(self._rng.permutation(len(self._offsets)), self._settings.batches):
            passage = self._transport.march(self._density, self._s0, self._departures()[batch])
            found = self._far.intensities(passage.eh)
            pixels = max(1, np.count_nonzero(self._fitted[batch]))
            slope = np.where(self._fitted[batch], self._slope(found, self._frames.counts[batch]), 0) / pixels
            gradient = passage.pull_back(None, self._far.pull_back(passage.eh, slope))
            downhill = gradient.density + self._settings.smoothing * variation_slope(self._density)
            downhill = np.where(self._support, downhill, 0)
            self._density = (self._density - step * self._adam.step(downhill)).astype(self._density.dtype)

    def _turn(self) -> None:
        """Half a Gauss-Newton step of each frame's angle, from how its amplitudes change with it; an amplitude's
        variance is a quarter of a count. The whole scan's offset and stretch stay: a slope of the phase and a
        longer crystal would do the same."""
        prior = self._settings.angle_prior_rad
        if prior is None:
            return
        here, there = (np.sqrt(self._scale * self._intensities(turn)) for turn in (0.0, 0.01 * prior))
        slope = np.where(self._fitted, (there - here) / (0.01 * prior), 0)
        inner = tuple(range(1, slope.ndim))
        pull = 4 * np.sum(slope * (np.sqrt(self._frames.counts) - here), axis=inner) - self._offsets / prior**2
        self._offsets += 0.5 * pull / (4 * np.sum(slope**2, axis=inner) + 1 / prior**2)
        unseen = np.vander(np.arange(len(self._offsets)) - len(self._offsets) / 2, 2)
        self._offsets -= unseen @ np.linalg.lstsq(unseen, self._offsets, rcond=None)[0]

    def _intensities(self, turn: float = 0.0) -> FloatArray:
        """Of all frames, before scaling, their angles off by `turn` besides."""
        departures = self._departures() + turn * self._frames.turning
        return self._far.intensities(self._transport.march(self._density, self._s0, departures).eh)

    def _slope(self, found: FloatArray, counts: FloatArray) -> FloatArray:
        """Derivative of the misfit of each pixel by the intensity before scaling."""
        expected = np.maximum(self._scale * found, _TINY * self._frames.counts.max())
        if self._settings.loss == "poisson":
            return np.asarray(self._scale * (1 - counts / expected))
        return np.asarray(self._scale * (1 - np.sqrt(counts / expected)))

    def _pin(self) -> None:
        self._density /= np.median(np.abs(self._density[self._support]))

    def _judge(self) -> tuple[float, float]:
        """Misfits a pixel, fitted and free, at the scale that fits the amplitudes (or counts) best."""
        found, counts = self._intensities(), self._frames.counts
        if self._settings.loss == "poisson":
            self._scale = float(counts[self._fitted].sum() / found[self._fitted].sum())
        else:
            root = np.sqrt(found[self._fitted] * counts[self._fitted]).sum() / found[self._fitted].sum()
            self._scale = float(root) ** 2
        expected = np.maximum(self._scale * found, _TINY * counts.max())
        if self._settings.loss == "poisson":
            ratio = np.where(counts > 0, counts / expected, 1)
            each = expected - counts + counts * np.log(ratio)
        else:
            each = (np.sqrt(expected) - np.sqrt(counts)) ** 2
        return float(each[self._fitted].mean()), float(each[self._free].mean())


def variation_slope(density: ComplexArray, softening: float = 1e-4) -> ComplexArray:
    """dTV/dRe S + i dTV/dIm S of the mean over the voxels of sqrt(sum |difference to the next|^2 + softening),
    nothing beyond the last one."""
    steps = [np.diff(density, axis=axis, append=np.take(density, [-1], axis=axis)) for axis in range(density.ndim)]
    root = np.sqrt(sum(np.abs(step) ** 2 for step in steps) + softening)
    out = np.zeros_like(density)
    for axis, step in enumerate(steps):
        pull = step / root
        out -= pull
        out += np.roll(pull, 1, axis=axis)  # the last step of an axis is zero, so nothing comes round
    return np.asarray(out / density.size)
