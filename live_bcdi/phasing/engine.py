"""One retrieval: a pattern, a recipe and a start in; an object out. Same input and seed, same bits out."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..types import BoolArray, FloatArray, Outcome, ScanError
from .kernels_cpu import Kernels
from .kernels_numpy import Amplitude, Object, PhasingKernels
from .operators import Diverged, State
from .recipe import Recipe
from .support import autocorrelation_support

KernelFactory = Callable[[Amplitude, int], PhasingKernels]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pattern:
    """A checked measurement: centred `intensity` and `mask` (rocking, row, column), True where free."""

    intensity: FloatArray
    mask: BoolArray

    def __post_init__(self) -> None:
        if self.intensity.ndim != 3:
            raise ScanError(f"intensity must be (rocking, row, column), not of shape {self.intensity.shape}")
        if self.mask.shape != self.intensity.shape:
            raise ScanError(f"mask has shape {self.mask.shape}, intensity {self.intensity.shape}")
        measured = self.intensity[~self.mask]
        if not np.isfinite(measured).all():
            raise ScanError("intensity has NaN or infinite voxels; set them True in the mask")
        if measured.size and measured.min() < 0:
            raise ScanError("intensity has negative voxels; set them True in the mask, or to zero")
        if not measured.sum() > 0:
            raise ScanError("intensity has no counts outside the mask: there is nothing to phase")

    @property
    def total_counts(self) -> float:
        """Sum of the measured intensity."""
        return float(self.intensity[~self.mask].sum(dtype=np.float64))

    def amplitude(self) -> Amplitude:
        """sqrt(I), negative where free."""
        return np.where(self.mask, -1, np.sqrt(np.where(self.mask, 0, self.intensity))).astype(np.float32)


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """Where a retrieval begins: an object (warm start), a support, or nothing but a seed.

    Without `support` it is the initial object's own (above a tenth of its maximum), or the one from the
    autocorrelation; without `initial` the object is random phases in the support.
    """

    seed: int = 0
    initial: Object | None = None
    support: BoolArray | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Retrieval:
    """Where it ended. `errors` has chi before each projection; `chi` is that of `density` (infinite if it
    diverged)."""

    density: Object
    support: BoolArray
    chi: float
    errors: tuple[float, ...]
    outcome: Outcome


def retrieve(
    pattern: Pattern,
    recipe: Recipe,
    *,
    start: Start | None = None,
    threads: int = 1,
    stop: Callable[[], bool] | None = None,
    kernels: KernelFactory = Kernels,
) -> Retrieval:
    """Follow `recipe` from `start`. `stop` is asked before each operator; True ends the retrieval there.

    The object returned is zero outside its support, whatever the last operator was.
    Raises ScanError where the start's arrays do not fit the pattern.
    """
    state = _begin(pattern, start or Start(), kernels(pattern.amplitude(), threads))
    outcome = Outcome.DONE
    try:
        last = max(len(recipe) - 1, 1)
        for index, operator in enumerate(recipe):
            if stop is not None and stop():
                outcome = Outcome.BUDGET
                break
            state.progress = index / last
            operator.apply(state)
        state.kernels.taper(None)
        np.multiply(state.density, state.support, out=state.density)
        state.project()
    except Diverged:
        return Retrieval(
            density=state.density,
            support=state.support,
            chi=float("inf"),
            errors=tuple(state.errors),
            outcome=Outcome.DIVERGED,
        )
    return Retrieval(
        density=np.array(state.density),
        support=state.support,
        chi=state.errors[-1],
        errors=tuple(state.errors[:-1]),
        outcome=outcome,
    )


def _begin(pattern: Pattern, start: Start, kernels: PhasingKernels) -> State:
    shape = pattern.intensity.shape
    for name in ("initial", "support"):
        array = getattr(start, name)
        if array is not None and array.shape != shape:
            raise ScanError(f"the start's {name} has shape {array.shape}, the pattern {shape}")
    support, density = start.support, kernels.empty()
    if start.initial is not None:
        density[...] = start.initial
        if support is None:
            support = np.abs(density) > 0.1 * np.abs(density).max()
    else:
        if support is None:
            support = autocorrelation_support(pattern.intensity, pattern.mask)
        density[...] = _random_phases(support, start.seed)
        density *= np.sqrt(pattern.total_counts / density.size / np.count_nonzero(support))
    if not support.any():
        raise ScanError("the start's support is empty")
    return State(
        kernels=kernels,
        total_counts=pattern.total_counts,
        density=density,
        projected=kernels.empty(),
        support=np.array(support, bool),
    )


def _random_phases(support: BoolArray, seed: int) -> Object:
    phases = np.random.default_rng(seed).random(support.shape, np.float32) * np.float32(2 * np.pi)
    return np.where(support, np.exp(1j * phases), 0).astype(np.complex64)
