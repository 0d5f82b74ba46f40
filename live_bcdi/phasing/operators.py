"""What a recipe can say. Each operator is a frozen record of its arguments and does one thing to a `State`.

With P the modulus projection of the object O and S the support, beta the feedback:

    ER    P in S, 0 outside                      (Gerchberg & Saxton 1972; Fienup, Appl. Opt. 21, 2758 (1982))
    HIO   P in S, O - beta P outside             (Fienup 1982)
    RAAR  P in S, beta O + (1 - 2 beta) P outside (Luke, Inverse Problems 21, 37 (2005))
    SF    P in S, -P outside                     (solvent flipping; Abrahams & Leslie, Acta D 52, 30 (1996))

The docstrings of the others have their updates.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..types import ScanError
from . import coherence, likelihood
from .kernels_numpy import Bands, Mix, PhasingKernels
from .recipe import Operator, check_count, check_positive
from .state import State as State
from .support import otsu_level


class _Projection(Operator):
    """An operator that is one modulus projection and one linear real-space update."""

    __slots__ = ()

    def weights(self) -> Mix:
        """How the new object is mixed from the projection and the old object."""
        raise NotImplementedError

    def apply(self, state: State) -> None:
        state.project()
        state.mix(self.weights())


@dataclass(frozen=True, kw_only=True, slots=True)
class ER(_Projection):
    """Error reduction."""

    def weights(self) -> Mix:
        return Mix(1.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class HIO(_Projection):
    """Hybrid input-output with feedback `beta`."""

    beta: float = 0.9

    def __post_init__(self) -> None:
        check_positive(self, "beta")

    def weights(self) -> Mix:
        return Mix(1.0, 0.0, -self.beta, 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class RAAR(_Projection):
    """Relaxed averaged alternating reflections."""

    beta: float = 0.9

    def __post_init__(self) -> None:
        check_positive(self, "beta")

    def weights(self) -> Mix:
        return Mix(1.0, 0.0, 1 - 2 * self.beta, self.beta)


@dataclass(frozen=True, kw_only=True, slots=True)
class SF(_Projection):
    """Solvent (charge) flipping."""

    def weights(self) -> Mix:
        return Mix(1.0, 0.0, -1.0, 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class ADMM(_Projection):
    """Alternating direction method of multipliers, with a modulus penalty instead of exact moduli.

    It minimises |  |F z| - sqrt(I) |^2 / 2 over x = z with x in S, with penalty `rho` and scaled multiplier u:

        x <- P_S(z - u)
        z <- (P(x + u) + rho (x + u)) / (1 + rho)      the proximal point of the misfit; P alone for rho = 0
        u <- u + gamma (x - z)

    (Wen, Yang, Liu & Marchesini, Inverse Problems 28, 115010 (2012), whose moduli are exact; Chang, Lou, Duan &
    Marchesini, SIAM J. Imaging Sci. 11, 24 (2018)). With O = x + u it takes no more memory than HIO, since x is
    zero outside S and u drops out inside: O <- z in S, O - gamma z outside. HIO(beta=gamma) for rho = 0.
    """

    rho: float = 0.1
    gamma: float = 0.9

    def __post_init__(self) -> None:
        check_positive(self, "rho", "gamma")

    def weights(self) -> Mix:
        p, o = 1 / (1 + self.rho), self.rho / (1 + self.rho)
        return Mix(p, o, -self.gamma * p, 1 - self.gamma * o)


class _Banded(Operator):
    """An operator that is one modulus projection and an update by the sign of P along O."""

    __slots__ = ()

    def bands(self) -> Bands:
        """Where the support takes P."""
        raise NotImplementedError

    def apply(self, state: State) -> None:
        state.project()
        state.kernels.mix_bands(state.density, state.projected, state.support, self.bands())


@dataclass(frozen=True, kw_only=True, slots=True)
class CHIO(_Banded):
    """Continuous hybrid input-output, for objects that change little in phase from one iteration to the next.

    With t = Re(P O*) / |O|^2, in S: P where t >= alpha; O - (1 - alpha) / alpha P where 0 <= t < alpha;
    O - beta P where t < 0 and outside S (Fienup, Frontiers in Optics, OSA (2003), paper ThI3). Fienup's object is
    positive, and his test is on P against O; for a complex one the test is on the part of P along O.
    """

    alpha: float = 0.4
    beta: float = 0.9

    def __post_init__(self) -> None:
        check_positive(self, "alpha", "beta")
        if not self.alpha < 1:
            raise ScanError(f"recipe: CHIO needs an alpha below 1, not {self.alpha!r}")

    def bands(self) -> Bands:
        return Bands(self.alpha, 0.0, -(1 - self.alpha) / self.alpha, self.beta)


@dataclass(frozen=True, kw_only=True, slots=True)
class HPR(_Banded):
    """Hybrid projection reflection.

    With t = Re(P O*) / |O|^2: P where t >= 1 / (1 + beta) in S, O - beta P elsewhere (Bauschke, Combettes &
    Luke, J. Opt. Soc. Am. A 20, 1025 (2003)): there the object is positive and the test (1 + beta) P >= O. Without
    positivity HPR is HIO; for a complex object positive means along O.
    """

    beta: float = 0.9

    def __post_init__(self) -> None:
        check_positive(self, "beta")

    def bands(self) -> Bands:
        edge = 1 / (1 + self.beta)
        return Bands(edge, edge, 0.0, self.beta)


@dataclass(frozen=True, kw_only=True, slots=True)
class DM(Operator):
    """Difference map, two modulus projections an iteration.

    O + beta [P_S f_M(O) - P_M f_S(O)] with f_M = (1 + g) P_M - g and f_S = (1 - g) P_S + g, g = 1 / beta (Elser,
    J. Opt. Soc. Am. A 20, 40 (2003), with gamma_M = g and gamma_S = -g). HIO for beta = 1.
    """

    beta: float = 0.9

    def __post_init__(self) -> None:
        check_positive(self, "beta")

    def apply(self, state: State) -> None:
        state.project()
        kernels, support = state.kernels, state.support
        reflected = kernels.empty(len(support))
        reflected[...] = state.density
        kernels.mix(reflected, state.projected, support, Mix(0.0, 1.0, 0.0, 1 / self.beta))
        state.models.project(kernels, reflected, reflected)
        state.mix(Mix(1 + self.beta, 0.0, 0.0, 1.0))
        kernels.mix(state.density, reflected, support, Mix(-self.beta, 1.0, -self.beta, 1.0))


@dataclass(frozen=True, kw_only=True, slots=True)
class Detwin(Operator):
    """Error reduction in one half of the support, from its centre of mass on along `axis`: the object and its
    twin no longer fit equally well (Fienup & Wackerman, J. Opt. Soc. Am. A 3, 1897 (1986)). The support stays."""

    axis: int = 0

    def __post_init__(self) -> None:
        if self.axis not in (0, 1, 2) or isinstance(self.axis, bool):
            raise ScanError(f"recipe: Detwin needs an axis of 0, 1 or 2, not {self.axis!r}")

    def apply(self, state: State) -> None:
        state.project()
        others = tuple(k + 1 for k in range(3) if k != self.axis)
        profile = np.count_nonzero(state.support, axis=others)
        index = np.cumsum(np.ones_like(profile), axis=1) - 1
        kept = index >= np.sum(index * profile, axis=1, keepdims=True) / np.sum(profile, axis=1, keepdims=True)
        half = state.support & np.expand_dims(kept, others)
        state.kernels.mix(state.density, state.projected, half, Mix(1.0, 0.0, 0.0, 0.0))


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseRange(Operator):
    """In the support, the nearest object whose phase is within `low` to `high` (radians from the mean phase of
    the object): beyond them the value is projected onto the nearer edge, or 0 where that is over pi / 2 away (the
    phase constraint of Harder et al., New J. Phys. 12, 035019 (2010), as a projection)."""

    low: float = -np.pi / 2
    high: float = np.pi / 2

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= np.pi:
                raise ScanError(f"recipe: PhaseRange needs a {name} of -pi to pi, not {value!r}")
        if not self.low < self.high:
            raise ScanError(f"recipe: PhaseRange needs low below high, not {self.low!r} and {self.high!r}")

    def apply(self, state: State) -> None:
        _clip_phase(state, self.low, self.high)


@dataclass(frozen=True, kw_only=True, slots=True)
class Positivity(Operator):
    """In the support, the nearest object that is real and not negative, but for its mean phase: max(Re S, 0)
    (Fienup 1982). For an unstrained crystal; strain is phase."""

    def apply(self, state: State) -> None:
        _clip_phase(state, 0.0, 0.0)


def _clip_phase(state: State, low: float, high: float) -> None:
    middle = state.kernels.mean_phase(state.density, state.support) + (low + high) / 2
    state.kernels.clip_phase(state.density, state.support, middle, (high - low) / 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class LowToHigh(Operator):
    """From here on the measured moduli are those under a Gaussian of `width` (its sigma, as a share of the Nyquist
    frequency of each axis). `width` grows to `width_end` in equal ratios over the first `until` of the recipe (of
    the generation, with `Guide`); the first LowToHigh after that takes the Gaussian off, and so does the end
    (what cohere calls a low-resolution start). Free voxels stay free; chi meanwhile is that of the moduli used."""

    width: float = 0.2
    width_end: float = 2.0
    until: float = 0.5

    def __post_init__(self) -> None:
        check_positive(self, "width", "width_end", "until")

    def apply(self, state: State) -> None:
        share = state.progress / self.until
        state.kernels.taper(None if share >= 1 else self.width * (self.width_end / self.width) ** share)


@dataclass(frozen=True, kw_only=True, slots=True)
class ShrinkWrap(Operator):
    """The support becomes the voxels whose smoothed modulus is above a level; `sigma` in voxels, going in equal
    steps to `sigma_end` over the recipe (the generation, with `Guide`) where that is given
    (Marchesini et al., Phys. Rev. B 68, 140101 (2003)).

    With `threshold_end` every start has a threshold of its own, from `threshold` for the first of the
    generation to `threshold_end` for the last: what is too tight for one crystal is too loose for the next.

    `level` says what `threshold` is: "relative" to the maximum; "absolute" in the units of the object;
    "percentile" of all voxels, 0 to 100; "otsu", by itself, and `threshold` is not used. The level is moved for
    the support to have between `smallest` and `largest` of the volume (shares, 0 and 1 for no bounds).
    """

    sigma: float = 1.0
    threshold: float = 0.1
    sigma_end: float | None = None
    threshold_end: float | None = None
    level: str = "relative"
    smallest: float = 0.0
    largest: float = 1.0

    def __post_init__(self) -> None:
        given = [name for name in ("sigma_end", "threshold_end") if getattr(self, name) is not None]
        check_positive(self, "sigma", "threshold", *given)
        if max(self.sigma, self.sigma_end or 0) > _WIDEST:
            raise ScanError(f"recipe: ShrinkWrap needs a sigma of at most {_WIDEST} voxels")
        if self.level not in _LEVELS:
            raise ScanError(f"recipe: ShrinkWrap has no level {self.level!r}; there are {', '.join(_LEVELS)}")
        if self.level == "percentile" and not self.threshold < 100:
            raise ScanError(f"recipe: ShrinkWrap needs a percentile below 100, not {self.threshold!r}")
        if self.threshold_end is not None and self.level not in ("relative", "absolute"):
            raise ScanError(f"recipe: ShrinkWrap has no threshold_end for the level {self.level!r}")
        shares = (self.smallest, self.largest)
        if not all(isinstance(share, int | float) for share in shares) or not 0 <= shares[0] < shares[1] <= 1:
            raise ScanError("recipe: ShrinkWrap needs 0 <= smallest < largest <= 1, shares of the volume")

    def apply(self, state: State) -> None:
        kernels = state.kernels
        smoothed = kernels.smooth(state.projected if state.misfits else state.density, self._width(state.progress))
        level = _LEVELS[self.level](kernels, smoothed, self._threshold(state.places))
        if self.largest < 1:
            level = np.maximum(level, kernels.level_of_share(smoothed, self.largest))
        if self.smallest > 0:
            level = np.minimum(level, kernels.level_of_share(smoothed, self.smallest))
        kernels.tighten(smoothed, level, state.support)

    def _threshold(self, places: "Levels | float") -> "Levels | float":
        end = self.threshold if self.threshold_end is None else self.threshold_end
        return self.threshold if end == self.threshold else self.threshold + places * (end - self.threshold)

    def _width(self, progress: float) -> float:
        return self.sigma if self.sigma_end is None else self.sigma + progress * (self.sigma_end - self.sigma)


Levels = NDArray[np.float32]
_WIDEST = 100
_VOLUME = (1, 2, 3)


def _otsu_levels(kernels: PhasingKernels, smoothed: Levels, threshold: Levels | float) -> Levels:
    return kernels.put(np.array([otsu_level(each) for each in kernels.get(smoothed)], np.float32))


_LEVELS: Mapping[str, Callable[[PhasingKernels, Levels, Any], Levels]] = {
    "relative": lambda _, smoothed, threshold: (threshold * smoothed.max(axis=_VOLUME)).astype(np.float32),
    "absolute": lambda _, smoothed, threshold: np.zeros_like(smoothed[:, 0, 0, 0]) + threshold,
    "percentile": lambda kernels, smoothed, threshold: kernels.level_of_share(smoothed, 1 - threshold / 100),
    "otsu": _otsu_levels,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Coherence(Operator):
    """The coherence kernel gamma anew from the objects in their supports, by `iterations` of Richardson-Lucy
    (`coherence.py`); from here on the expected counts are gamma * |F|^2 (Clark, Huang, Harder & Robinson, Nature
    Comm. 3, 993 (2012)). The first time it begins at a Gaussian of `sigma` voxels of q, later where it ended.

    gamma reaches `reach` voxels out along each axis; the middle `roi` voxels of each axis are used. An iteration
    with gamma costs four transforms instead of two. cohere's pc_interval, pc_LUCY_iterations and pc_LUCY_kernel;
    PyNX's InitPSF and update_psf.
    """

    sigma: float = 1.0
    iterations: int = 20
    reach: int = 4
    roi: int = 32

    def __post_init__(self) -> None:
        check_positive(self, "sigma")
        check_count(self, "iterations", "reach", "roi")

    def apply(self, state: State) -> None:
        state.models = coherence.estimate(
            state.kernels,
            state.models,
            state.density,
            state.support,
            sigma=self.sigma,
            iterations=self.iterations,
            middle=coherence.window(state.kernels.moduli().shape, self.roi, self.reach),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Background(Operator):
    """The background anew: the same counts b >= 0 in every voxel, those that are most likely with the objects in
    their supports; from here on the expected counts have b in them (`likelihood.background`). In PyNX the
    user gives the background; cohere has none."""

    def apply(self, state: State) -> None:
        kernels = state.kernels
        transform = kernels.empty(len(state.density))
        transform[...] = state.density * state.support
        kernels.transform(transform, transform)
        expected = replace(state.models, background=None).expected(kernels, transform)
        level = likelihood.background(likelihood.Counts.of(kernels), expected)
        state.models = replace(state.models, background=level.astype(np.float32))


@dataclass(frozen=True, kw_only=True, slots=True)
class ML(Operator):
    """`iterations` of conjugate gradients on the Poisson log-likelihood, on the objects in their supports, with
    gamma and b where they were estimated (`likelihood.py`; Thibault & Guizar-Sicairos, New J. Phys. 14, 063004
    (2012); PyNX's ML). b is a parameter, and fitted on. No iteration lowers the likelihood: a finish, which leaves
    no local minimum. It begins well after some ER, which bring the object to the scale of the counts."""

    iterations: int = 20

    def __post_init__(self) -> None:
        check_count(self, "iterations")

    def apply(self, state: State) -> None:
        state.models, misfits = likelihood.refine(
            state.kernels, state.models, state.density, state.support, iterations=self.iterations
        )
        state.misfits += misfits
        state.projected[...] = state.density  # what a ShrinkWrap looks at
