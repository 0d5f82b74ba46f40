"""Between generations: what of a recipe is one, who goes on, and from where.

`Guide` and `Coarse` are part of the recipe language, but act on the starts together and not on the state of one.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..types import ScanError
from .kernels_numpy import Object
from .recipe import Operator, Recipe, Sequence

SCORES = ("free_llk", "chi", "sharpness")
BREEDS = ("avg_ab", "sqrt_ab", "max_ab", "b_pa")


@dataclass(frozen=True, kw_only=True, slots=True)
class Guide(Operator):
    """Ends a generation: the `keep` best starts (0: all) go on, each bred with the best after alignment to it.

    With a the best and b the start, `breed` is "avg_ab", (a + b) / 2; "sqrt_ab", amplitude sqrt |a b|
    (Chen et al., Phys. Rev. B 76, 064113 (2007), for real objects); "max_ab", the larger amplitude, both with the
    phase of (a + b) / 2; or "b_pa", the amplitude of b with the phase of a (genetic breeding of Clark et al.,
    Nature Mater. 14, 780 (2015), by the names cohere gives them; there "ab" modes take the mean of the wrapped
    phases). With a single
    start there is no one to follow. "Best" is by the lowest `by`: "chi", "free_llk" (where voxels are free, else
    chi) or "sharpness".
    """

    keep: int = 0
    breed: str = "avg_ab"
    by: str = "chi"

    def __post_init__(self) -> None:
        if isinstance(self.keep, bool) or not isinstance(self.keep, int) or self.keep < 0:
            raise ScanError(f"recipe: Guide needs a whole number of starts to keep, 0 for all, not {self.keep!r}")
        if self.breed not in BREEDS:
            raise ScanError(f"recipe: Guide knows no breed {self.breed!r}; there are {', '.join(BREEDS)}")
        if self.by not in SCORES:
            raise ScanError(f"recipe: Guide knows no score {self.by!r}; there are {', '.join(SCORES)}")

    def apply(self, state: Any) -> None:
        """Nothing within one start."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Coarse(Operator):
    """Begins a generation on the middle 1 / `by` of each axis of the pattern: voxels `by` times as large in the
    same field of view, for about by^3 less work (`coarse.py`). The next one is at full resolution again."""

    by: int = 2

    def __post_init__(self) -> None:
        if isinstance(self.by, bool) or not isinstance(self.by, int) or self.by < 2:
            raise ScanError(f"recipe: Coarse needs a whole number of at least 2, not {self.by!r}")

    def apply(self, state: Any) -> None:
        """Where the engine meets it, it is out of its place."""
        raise ScanError("recipe: Coarse comes first in the recipe, or right after a Guide")


@dataclass(frozen=True, kw_only=True, slots=True)
class Generation:
    """What starts do between two `Guide`: `recipe` on the pattern's middle 1 / `by`; then `guide` (None after the
    last)."""

    recipe: Recipe
    by: int = 1
    guide: Guide | None = None


def generations(recipe: Recipe) -> list[Generation]:
    """The recipe cut at each `Guide`; empty generations are left out."""
    cut: list[Generation] = []
    steps: list[Operator] = []
    for operator in [*recipe, None]:
        if operator is not None and not isinstance(operator, Guide):
            steps.append(operator)
        elif steps:
            cut.append(_generation(steps, operator))
            steps = []
    return cut or [Generation(recipe=Sequence(steps=()))]


def _generation(steps: list[Operator], guide: Guide | None) -> Generation:
    first = steps[0]
    by = first.by if isinstance(first, Coarse) else 1
    return Generation(recipe=Sequence(steps=tuple(steps[by > 1 :])), by=by, guide=guide)


def bred(start: Object, best: Object, breed: str) -> Object:
    """The child of a start and the best one, to which it is aligned."""
    mean = (start + best) / 2
    if breed == "avg_ab":
        return np.asarray(mean, np.complex64)
    a, b = np.abs(best), np.abs(start)
    amplitude = {"sqrt_ab": np.sqrt(a * b), "max_ab": np.maximum(a, b), "b_pa": b}[breed]
    phase = np.angle(best if breed == "b_pa" else mean)
    return np.asarray(amplitude * np.exp(1j * phase), np.complex64)
