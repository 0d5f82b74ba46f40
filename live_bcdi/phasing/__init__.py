"""Phase retrieval of one centred pattern. The front door is `phase`; `retrieve` is one start of it."""

from typing import Literal

import numpy as np

from ..types import BoolArray, FloatArray, Reconstruction
from . import agreement, metrics, operators
from .engine import Pattern, Retrieval, Start, retrieve
from .guided import DEFAULT_RECIPE, DEFAULT_STARTS, Plan, as_recipe, phase_pattern
from .recipe import Operator, Recipe, parse

__all__ = [
    "DEFAULT_RECIPE",
    "DEFAULT_STARTS",
    "Operator",
    "Pattern",
    "Plan",
    "Recipe",
    "Retrieval",
    "Start",
    "agreement",
    "as_recipe",
    "metrics",
    "operators",
    "parse",
    "phase",
    "phase_pattern",
    "retrieve",
]


def phase(
    intensity: FloatArray,
    *,
    mask: BoolArray | None = None,
    recipe: Recipe | str | None = None,
    starts: int | None = None,
    seed: int = 0,
    budget_s: float | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> Reconstruction:
    """Retrieve the object of a centred (rocking, row, column) pattern of counts, peak at n//2 of each axis.

    `mask` is True where a voxel was not measured (it is free, not zero). The result is the start with the
    lowest chi; the same seed gives the same bits on one machine. `budget_s` ends all starts after that wall
    time with what they have. Raises ScanError for input that cannot be phased and for an unknown recipe.
    """
    data = np.asarray(intensity)
    pattern = Pattern(intensity=data, mask=np.zeros(data.shape, bool) if mask is None else np.asarray(mask, bool))
    chosen = as_recipe(recipe)
    plan = Plan(recipe=chosen, starts=starts or DEFAULT_STARTS, seed=seed, budget_s=budget_s, device=device)
    return phase_pattern(pattern, plan)[0]
