"""A state retrieved again from what its neighbours look like, and the better of the two kept.

A start at a neighbour's object helps some states, and holds others in the neighbour's minimum. So neither is
trusted: both are judged by the voxels that neither retrieval saw, never by the error it fitted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..config import CrystalConfig, Preprocessing
from ..phasing import Pattern, Plan, Recipe, parse
from ..phasing.generations import Coarse, Guide
from ..phasing.operators import ER
from ..phasing.recipe import Sequence as Steps
from ..pipeline import reconstruct
from ..types import ComplexArray, Reconstruction, RockingScan, ScanError

_SETTLING = 20  # steps of ER in which a neighbour's object becomes that of this pattern

_PREPROCESSING, _CRYSTAL = Preprocessing(), CrystalConfig()


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class NeighbourGuess:
    """An `InitialGuess`: the objects (rocking, row, column) of other states, to begin at."""

    objects: tuple[ComplexArray, ...]

    @classmethod
    def of(cls, results: Sequence[Reconstruction]) -> "NeighbourGuess":
        return cls(objects=tuple(each.density for each in results))

    def __call__(self, pattern: Pattern) -> Sequence[ComplexArray]:
        """Raises ScanError where an object has another shape, so that its voxels are of another size."""
        for each in self.objects:
            if each.shape != pattern.intensity.shape:
                raise ScanError(
                    f"a neighbour's object is {each.shape} and the pattern {pattern.intensity.shape}: give all"
                    " states one [preprocess] shape and binning"
                )
        return [np.asarray(each, np.complex64) for each in self.objects]


def warm_recipe(recipe: str) -> Recipe:
    """What starts at an object do of `recipe`: its generations after the first, which finds the object from random
    phases, and in 10 of 10 simulated states lost what it had begun at. Without a `Guide` it is all of it."""
    whole = parse(recipe)
    steps = whole.steps if isinstance(whole, Steps) else (whole,)
    rest = steps[next((place for place, step in enumerate(steps, 1) if isinstance(step, Guide)), len(steps)) :]
    if not rest or isinstance(rest[0], Coarse):
        return whole
    return Steps(steps=(_SETTLING * ER(), *rest))


def warm_started(
    scan: RockingScan | Sequence[RockingScan],
    cold: Reconstruction,
    neighbours: Sequence[Reconstruction],
    plan: Plan,
    *,
    preprocessing: Preprocessing = _PREPROCESSING,
    crystal: CrystalConfig = _CRYSTAL,
) -> Reconstruction:
    """`cold`, which `reconstruct` made of the same scan with `plan`, or what `warm_recipe` of its recipe makes of
    the objects of `neighbours`, a start each, whichever foretells the free voxels better (`free_llk`, the lower).

    `provenance["start"]` says which it is, with both values. Raises ScanError where `cold` was made with another
    seed, or without free voxels, so that the two cannot be compared, or as `NeighbourGuess` and `reconstruct` do.
    """
    check_comparable(cold, plan.seed)
    guess = NeighbourGuess.of(neighbours)
    warm_plan = replace(plan, recipe=warm_recipe(cold.recipe), starts=len(neighbours), guess=guess)
    warm = reconstruct(scan, warm_plan, preprocessing=preprocessing, crystal=crystal)
    return better_start(cold, warm)


def check_comparable(cold: Reconstruction, seed: int) -> None:
    """Raise ScanError where a retrieval with `seed` would have other free voxels, or `cold` has none."""
    if cold.seed != seed or "free_llk" not in cold.metrics:
        raise ScanError(
            "a warm start is compared by free voxels: retrieve the state with them, and the same seed, first"
        )


def better_start(cold: Reconstruction, warm: Reconstruction) -> Reconstruction:
    """Of two retrievals with the same free voxels the one that foretells them better (`free_llk`, the lower), with
    both values in `provenance["start"]`."""
    values = cold.metrics["free_llk"], warm.metrics.get("free_llk", float("inf"))
    better, said = (warm, "warm, from its neighbours") if values[1] < values[0] else (cold, "cold")
    words = f"{said}; free_llk {values[0]:.6g} cold, {values[1]:.6g} warm"
    return replace(better, provenance={**better.provenance, "start": words})
