"""Retrievals under way."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..types import BoolArray
from .kernels_numpy import Mix, Object, PhasingKernels
from .model import Models


@dataclass(kw_only=True, slots=True)
class State:
    """Retrievals under way, all of the same pattern: `density`, `projected` (the last P) and `support` are
    (starts, rocking, row, column) arrays of the kernels' machine, `misfits` has sum((|F| - sqrt I)^2) of the
    objects before each projection, (starts,), with `models` in it. `progress` runs from 0 to 1 over the recipe,
    `places` (starts,) from 0 to 1 over all starts of a generation.

    An object with a NaN has a NaN for its misfit; it harms no other start, and nobody waits to be told.
    """

    kernels: PhasingKernels
    density: Object
    projected: Object
    support: BoolArray
    misfits: list[NDArray[np.float64]] = field(default_factory=list)
    progress: float = 0.0
    places: NDArray[np.float32] | float = 0.0
    models: Models = field(default_factory=Models)

    def project(self) -> None:
        """One modulus projection."""
        self.misfits.append(self.models.project(self.kernels, self.density, self.projected))

    def mix(self, weights: Mix) -> None:
        """One real-space update."""
        self.kernels.mix(self.density, self.projected, self.support, weights)
