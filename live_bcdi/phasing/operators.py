"""What a recipe can say. Each operator is a frozen record of its arguments and does one thing to a `State`.

With P the modulus projection of the object O and S the support, beta the feedback:

    ER    P in S, 0 outside                      (Gerchberg & Saxton 1972; Fienup, Appl. Opt. 21, 2758 (1982))
    HIO   P in S, O - beta P outside             (Fienup 1982)
    RAAR  P in S, beta O + (1 - 2 beta) P outside (Luke, Inverse Problems 21, 37 (2005))
    SF    P in S, -P outside                     (solvent flipping; Abrahams & Leslie, Acta D 52, 30 (1996))
"""

from dataclasses import dataclass, field

import numpy as np

from ..types import BoolArray
from .kernels_numpy import Mix, Object, PhasingKernels
from .recipe import Operator, check_positive
from .support import shrinkwrap


class Diverged(ArithmeticError):
    """The object is no longer finite."""


@dataclass(kw_only=True, slots=True)
class State:
    """A retrieval under way. `projected` is the last P; `errors` the chi of the object before each projection;
    `total_counts` the sum of the measured intensity."""

    kernels: PhasingKernels
    total_counts: float
    density: Object
    projected: Object
    support: BoolArray
    errors: list[float] = field(default_factory=list)

    def project(self) -> None:
        """One modulus projection. Raises Diverged where the object has a NaN or an infinity."""
        error = self.kernels.project(self.density, self.projected) / self.total_counts
        if not np.isfinite(error):
            raise Diverged
        self.errors.append(error)

    def mix(self, weights: Mix) -> None:
        """One real-space update."""
        self.kernels.mix(self.density, self.projected, self.support, weights)


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
class ShrinkWrap(Operator):
    """The support becomes the voxels whose smoothed modulus is above `threshold` times its maximum; `sigma`
    in voxels (Marchesini et al., Phys. Rev. B 68, 140101 (2003))."""

    sigma: float = 1.0
    threshold: float = 0.1

    def __post_init__(self) -> None:
        check_positive(self, "sigma", "threshold")

    def apply(self, state: State) -> None:
        image = state.projected if state.errors else state.density
        state.support = shrinkwrap(state.kernels.smooth(image, self.sigma), self.threshold, state.support)


@dataclass(frozen=True, kw_only=True, slots=True)
class Guide(Operator):
    """Ends a generation: every start goes on from the mean of its own object and the best one, aligned
    (Chen et al., Phys. Rev. B 76, 064113 (2007)). With a single start there is no one to follow."""

    def apply(self, state: State) -> None:
        """Nothing within one start; `guided.py` does it between them."""
