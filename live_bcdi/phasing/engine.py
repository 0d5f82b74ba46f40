"""Retrievals: a pattern, a recipe and starts in; objects out. Same input and seed, same bits out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..types import BoolArray, FloatArray, Outcome, ScanError
from .kernels_cpu import Kernels
from .kernels_numpy import Amplitude, Object, PhasingKernels
from .model import Model, batched
from .recipe import Recipe
from .state import State
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
    autocorrelation; without `initial` the object is random phases in the support. `model` is what is known of
    the beam's coherence and of the background. `place`, 0 to 1, is where it stands among those of its generation.
    """

    seed: int = 0
    initial: Object | None = None
    support: BoolArray | None = None
    model: Model = field(default_factory=Model)
    place: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Retrieval:
    """Where it ended. `errors` has chi before each projection; `chi` is that of `density` (infinite if it
    diverged), with `model` in it: the coherence kernel and the background that the recipe came to, if any."""

    density: Object
    support: BoolArray
    chi: float
    errors: tuple[float, ...]
    outcome: Outcome
    model: Model = field(default_factory=Model)


def retrieve(
    pattern: Pattern,
    recipe: Recipe,
    *,
    start: Start | None = None,
    threads: int = 1,
    stop: Callable[[], bool] | None = None,
    kernels: KernelFactory = Kernels,
) -> Retrieval:
    """`retrieve_all` of one start."""
    starts = [start or Start()]
    return retrieve_all(pattern, recipe, starts, threads=threads, stop=stop, kernels=kernels)[0]


def retrieve_all(
    pattern: Pattern,
    recipe: Recipe,
    starts: Sequence[Start],
    *,
    threads: int = 1,
    stop: Callable[[], bool] | None = None,
    kernels: KernelFactory = Kernels,
) -> list[Retrieval]:
    """Follow `recipe` from every start, all abreast along a leading axis. `stop` is asked before each operator;
    True ends the retrievals there.

    The objects returned are zero outside their supports, whatever the last operator was.
    Raises ScanError where a start's arrays do not fit the pattern.
    """
    state = _begin(pattern, starts, kernels(pattern.amplitude(), threads))
    outcome = Outcome.DONE
    last = max(len(recipe) - 1, 1)
    for index, operator in enumerate(recipe):
        if stop is not None:
            state.kernels.settle()  # else the clock would be that of a queue that is still to be worked off
            if stop():
                outcome = Outcome.BUDGET
                break
        state.progress = index / last
        operator.apply(state)
    return _end(state, pattern.total_counts, outcome)


def _end(state: State, total_counts: float, outcome: Outcome) -> list[Retrieval]:
    state.kernels.taper(None)
    state.density *= state.support
    state.project()
    chis = state.kernels.get(np.stack(state.misfits, axis=1)) / total_counts
    finite = np.isfinite(chis[:, -1])
    return [
        Retrieval(
            density=state.kernels.get(state.density[k]),
            support=state.kernels.get(state.support[k]),
            chi=float(chis[k, -1]) if finite[k] else float("inf"),
            errors=tuple(map(float, chis[k, :-1])),
            outcome=outcome if finite[k] else Outcome.DIVERGED,
            model=state.models.of(state.kernels, k),
        )
        for k in range(len(chis))
    ]


def _begin(pattern: Pattern, starts: Sequence[Start], kernels: PhasingKernels) -> State:
    for start in starts:
        check_fits(start, pattern.intensity.shape)
    first = None
    if any(start.initial is None and start.support is None for start in starts):
        first = autocorrelation_support(pattern.intensity, pattern.mask)
    density, supports = kernels.empty(len(starts)), []
    for k, start in enumerate(starts):
        support = _support(start, first)
        supports.append(support)
        density[k] = kernels.put(_object(start, support, pattern.total_counts))
    return State(
        kernels=kernels,
        density=density,
        projected=kernels.empty(len(starts)),
        support=kernels.put(np.array(supports)),
        places=kernels.put(np.array([start.place for start in starts], np.float32)),
        models=batched(kernels, [start.model for start in starts]),
    )


def check_fits(start: Start, shape: tuple[int, ...]) -> None:
    """Raise ScanError where the start's arrays are not of the pattern's `shape`."""
    for name in ("initial", "support"):
        array = getattr(start, name)
        if array is not None and array.shape != shape:
            raise ScanError(f"the start's {name} has shape {array.shape}, the pattern {shape}")


def _support(start: Start, first: BoolArray | None) -> BoolArray:
    support = start.support if start.support is not None else first
    if start.initial is not None and start.support is None:
        amplitude = np.abs(start.initial)
        support = amplitude > 0.1 * amplitude.max()
    if support is None or not support.any():
        raise ScanError("the start's support is empty")
    return np.asarray(support, bool)


def _object(start: Start, support: BoolArray, total_counts: float) -> Object:
    """The initial object, or random phases in the support, scaled to the counts."""
    if start.initial is not None:
        return np.asarray(start.initial, np.complex64)
    inside = np.count_nonzero(support)
    phases = np.random.default_rng(start.seed).random(inside, np.float32) * np.float32(2 * np.pi)
    density = np.zeros(support.shape, np.complex64)
    density[support] = np.exp(1j * phases) * np.float32(np.sqrt(total_counts / support.size / inside))
    return density
