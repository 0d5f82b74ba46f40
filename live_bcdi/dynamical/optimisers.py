"""The two ways down: quasi-Newton over all frames, and Adam on minibatches of angles.

Both are told from which epoch to which they go, and what is random is drawn from the seed and the epoch: what has
to be kept to go on later is little.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, minimize

from ..geometry import Floats
from ..types import ComplexArray, ScanError
from .frames import Settings
from .objective import Crystal, Objective

Kept = dict[str, NDArray[Any]]


class Optimiser(Protocol):
    """`epochs` is how many passes over the frames a round takes."""

    epochs: int

    def round(self, crystal: Crystal, first: int, epochs: int, told: Callable[[int], None]) -> Crystal:
        """The crystal after `epochs` more, the first of them number `first`; each is told when it is done."""

    def judged(self, misfit: float) -> None:
        """The misfit that the round came to."""

    def kept(self) -> Kept:
        """All that `restore` needs to go on as if nothing had happened."""

    def restore(self, kept: Kept) -> None: ...


def optimiser(objective: Objective, settings: Settings, shape: tuple[int, ...]) -> Optimiser:
    """By the settings' `method`."""
    if settings.method == "lbfgs":
        return QuasiNewton(objective, settings.history)
    if settings.batches > objective.frames:
        raise ScanError(f"{settings.batches} batches of {objective.frames} frames cannot be made")
    return Adam(objective, settings, shape)


class QuasiNewton:
    """L-BFGS (Liu & Nocedal, Math. Program. 45, 503 (1989)) on the voxels of the support and the frames' angles,
    these within bounds; each round is a fresh one, as scale, paces and support have changed since."""

    def __init__(self, objective: Objective, epochs: int) -> None:
        self._objective, self.epochs = objective, epochs

    def round(self, crystal: Crystal, first: int, epochs: int, told: Callable[[int], None]) -> Crystal:
        numbers, count = _Numbers(self._objective, crystal), 0

        def slope(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            nonlocal count
            found = self._objective.slope(numbers.crystal(values), slice(None))
            told(first + min(count, epochs - 1))
            count += 1
            return found.value, numbers.of(found.density, found.offsets * numbers.paces)

        limits = {"maxfun": epochs, "maxiter": epochs, "maxcor": 15, "ftol": 0.0, "gtol": 0.0}
        start = numbers.of(crystal.density, crystal.offsets_rad / numbers.paces)
        found = minimize(slope, start, jac=True, method="L-BFGS-B", bounds=numbers.bounds(), options=limits)
        return numbers.crystal(found.x)

    def judged(self, misfit: float) -> None:
        """Nothing is learnt of it."""

    def kept(self) -> Kept:
        return {}

    def restore(self, kept: Kept) -> None:
        """There is nothing."""


class _Numbers:
    """A crystal as what L-BFGS varies: real and imaginary parts in the support, then angles in their paces."""

    def __init__(self, objective: Objective, crystal: Crystal) -> None:
        self._crystal, self._inside = crystal, np.nonzero(crystal.support)
        self._voxels, self._farthest = len(self._inside[0]), objective.farthest_rad
        self.paces = objective.paces(crystal) if objective.turns else np.ones(objective.frames)
        self._turns = objective.turns

    def of(self, density: ComplexArray, offsets: Floats) -> NDArray[np.float64]:
        inside = density[self._inside]
        return np.concatenate([inside.real, inside.imag, offsets if self._turns else []]).astype(np.float64)

    def crystal(self, values: NDArray[np.float64]) -> Crystal:
        density = np.zeros_like(self._crystal.density)
        density[self._inside] = values[: self._voxels] + 1j * values[self._voxels : 2 * self._voxels]
        if not self._turns:
            return replace(self._crystal, density=density)
        return replace(self._crystal, density=density, offsets_rad=values[2 * self._voxels :] * self.paces)

    def bounds(self) -> Bounds | None:
        if not self._turns:
            return None
        most = np.concatenate([np.full(2 * self._voxels, np.inf), self._farthest / self.paces])
        return Bounds(-most, most)


class _Moments:
    """Those of Kingma & Ba 2014, one second moment a complex number."""

    def __init__(self, first: NDArray[Any], second: NDArray[Any], count: int = 0) -> None:
        self.first, self.second, self.count = first, second, count

    def along(self, gradient: NDArray[Any]) -> NDArray[Any]:
        """What to take off, in steps."""
        self.count += 1
        self.first = 0.9 * self.first + 0.1 * gradient
        self.second = 0.999 * self.second + 0.001 * np.abs(gradient) ** 2
        mean = self.first / (1 - 0.9**self.count)
        return np.asarray(mean / (np.sqrt(self.second / (1 - 0.999**self.count)) + 1e-30))


class Adam:
    """Kingma & Ba 2014. A step of an angle is that share of the farthest it may be off."""

    epochs = 1

    def __init__(self, objective: Objective, settings: Settings, shape: tuple[int, ...]) -> None:
        self._objective, self._settings = objective, settings
        frames = objective.frames
        self._moments = {
            "": _Moments(np.zeros(shape, complex), np.zeros(shape)),
            "angles-": _Moments(np.zeros(frames), np.zeros(frames)),
        }
        self._step, self._waited, self._lowest = settings.step, 0, float("inf")

    def round(self, crystal: Crystal, first: int, epochs: int, told: Callable[[int], None]) -> Crystal:
        for epoch in range(first, first + epochs):
            order = np.random.default_rng([self._settings.seed, epoch]).permutation(self._objective.frames)
            for batch in np.array_split(order, self._settings.batches):
                crystal = self._moved(crystal, batch)
            told(epoch)
        return crystal

    def _moved(self, crystal: Crystal, batch: NDArray[np.intp]) -> Crystal:
        found, most = self._objective.slope(crystal, batch), self._objective.farthest_rad
        offsets = crystal.offsets_rad
        step = self._step * self._moments[""].along(found.density)
        density = crystal.density - np.where(crystal.support, step, 0)  # moments outlive a support
        if self._objective.turns:
            turn = most * self._step * self._moments["angles-"].along(found.offsets)
            offsets = np.clip(offsets - turn, -most, most)
        return replace(crystal, density=density.astype(crystal.density.dtype), offsets_rad=offsets)

    def judged(self, misfit: float) -> None:
        self._waited = 0 if misfit < self._lowest else self._waited + 1
        self._lowest = min(self._lowest, misfit)
        if self._waited >= self._settings.patience:
            self._step, self._waited = self._step / 2, 0

    def kept(self) -> Kept:
        count = self._moments[""].count
        kept: Kept = {"numbers": np.array([count, self._step, self._waited, self._lowest])}
        for name, each in self._moments.items():
            kept |= {f"{name}first": each.first, f"{name}second": each.second}
        return kept

    def restore(self, kept: Kept) -> None:
        count, self._step, waited, self._lowest = map(float, kept["numbers"])
        self._waited = int(waited)
        self._moments = {
            name: _Moments(kept[f"{name}first"], kept[f"{name}second"], int(count)) for name in self._moments
        }
