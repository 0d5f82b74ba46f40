"""The two ways down: quasi-Newton over all frames, and Adam on minibatches of angles.

Both are told from which epoch to which they go, and what is random is drawn from the seed and the epoch: what has
to be kept to go on later is little.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from ..types import ComplexArray, ScanError
from .frames import Settings
from .objective import Crystal, Objective

_WITH_ANGLES = 5  # epochs a round where angles are free: they take one step a round

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
        free = settings.angle_prior_rad is not None
        return QuasiNewton(objective, min(settings.history, _WITH_ANGLES) if free else settings.history)
    if settings.batches > objective.frames:
        raise ScanError(f"{settings.batches} batches of {objective.frames} frames cannot be made")
    return Adam(objective, settings, shape)


class QuasiNewton:
    """L-BFGS (Liu & Nocedal, Math. Program. 45, 503 (1989)) on the voxels of the support; each round is a fresh
    one, as scale, angles and support have changed since."""

    def __init__(self, objective: Objective, epochs: int) -> None:
        self._objective, self.epochs = objective, epochs

    def round(self, crystal: Crystal, first: int, epochs: int, told: Callable[[int], None]) -> Crystal:
        inside, count = np.nonzero(crystal.support), 0

        def volume(values: NDArray[np.float64]) -> ComplexArray:
            density = np.zeros_like(crystal.density)
            density[inside] = values[: len(inside[0])] + 1j * values[len(inside[0]) :]
            return density

        def slope(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            nonlocal count
            value, by = self._objective.slope(replace(crystal, density=volume(values)), slice(None))
            told(first + min(count, epochs - 1))
            count += 1
            return value, _flat(by[inside])

        limits = {"maxfun": epochs, "maxiter": epochs, "maxcor": 15, "ftol": 0.0, "gtol": 0.0}
        found = minimize(slope, _flat(crystal.density[inside]), jac=True, method="L-BFGS-B", options=limits)
        return replace(crystal, density=volume(found.x))

    def judged(self, misfit: float) -> None:
        """Nothing is learnt of it."""

    def kept(self) -> Kept:
        return {}

    def restore(self, kept: Kept) -> None:
        """There is nothing."""


class Adam:
    """Kingma & Ba 2014, one second moment a complex number; the step halves where the misfit stands still."""

    epochs = 1

    def __init__(self, objective: Objective, settings: Settings, shape: tuple[int, ...]) -> None:
        self._objective, self._settings = objective, settings
        self._count, self._first, self._second = 0, np.zeros(shape, complex), np.zeros(shape)
        self._step, self._waited, self._lowest = settings.step, 0, float("inf")

    def round(self, crystal: Crystal, first: int, epochs: int, told: Callable[[int], None]) -> Crystal:
        for epoch in range(first, first + epochs):
            order = np.random.default_rng([self._settings.seed, epoch]).permutation(self._objective.frames)
            for batch in np.array_split(order, self._settings.batches):
                _, by = self._objective.slope(crystal, batch)
                step = np.where(crystal.support, self._step * self._along(by), 0)  # moments outlive a support
                density = crystal.density - step
                crystal = replace(crystal, density=density.astype(crystal.density.dtype))
            told(epoch)
        return crystal

    def judged(self, misfit: float) -> None:
        self._waited = 0 if misfit < self._lowest else self._waited + 1
        self._lowest = min(self._lowest, misfit)
        if self._waited >= self._settings.patience:
            self._step, self._waited = self._step / 2, 0

    def kept(self) -> Kept:
        numbers = np.array([self._count, self._step, self._waited, self._lowest])
        return {"first": self._first, "second": self._second, "numbers": numbers}

    def restore(self, kept: Kept) -> None:
        count, self._step, waited, self._lowest = map(float, kept["numbers"])
        self._count, self._waited = int(count), int(waited)
        self._first, self._second = kept["first"], kept["second"]

    def _along(self, gradient: ComplexArray) -> ComplexArray:
        """What to take off, in steps."""
        self._count += 1
        self._first = 0.9 * self._first + 0.1 * gradient
        self._second = 0.999 * self._second + 0.001 * np.abs(gradient) ** 2
        mean = self._first / (1 - 0.9**self._count)
        return np.asarray(mean / (np.sqrt(self._second / (1 - 0.999**self._count)) + 1e-30))


def _flat(values: ComplexArray) -> NDArray[np.float64]:
    return np.concatenate([values.real, values.imag]).astype(np.float64)
