"""Phase retrieval of one centred pattern. The front door is `phase`; `retrieve` is one start of it."""

from dataclasses import replace
from typing import Literal

import numpy as np

from ..types import BoolArray, FloatArray, Reconstruction, ScanError
from . import agreement, metrics, operators
from .engine import Pattern, Retrieval, Start, retrieve
from .guess import InitialGuess
from .guided import Plan, Progress, phase_pattern
from .recipe import Operator, Recipe, parse

__all__ = [
    "InitialGuess",
    "Operator",
    "Pattern",
    "Plan",
    "Recipe",
    "Retrieval",
    "Start",
    "agreement",
    "metrics",
    "operators",
    "parse",
    "phase",
    "phase_pattern",
    "phased",
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

    `mask` is True where a voxel was not measured (it is free, not zero). Without a recipe it is chosen from the
    pattern, and `provenance["chosen"]` says why. The result is the start of the last generation that foretells
    voxels held out of the retrieval best (chi decides where the pattern has no room for them); the same seed gives
    the same bits on one machine. `budget_s` ends it after that wall time with
    what there is. `device` "auto" is a CUDA device where there is one. Raises ScanError for input that cannot be
    phased and for an unknown recipe or device.
    """
    plan = Plan(recipe=recipe, starts=starts, seed=seed, budget_s=budget_s, device=device)
    return phased(intensity, mask, plan)


def phased(
    intensity: FloatArray, mask: BoolArray | None, plan: Plan, progress: Progress | None = None
) -> Reconstruction:
    """`phase` with all that a plan can say."""
    data = np.asarray(intensity)
    if data.dtype.kind not in "buif":
        raise ScanError(f"intensity must be real numbers, not {data.dtype}")
    # numpy takes roots and sums of the short types in half precision
    data = data.astype(np.result_type(data, np.float32), copy=False)
    pattern = Pattern(intensity=data, mask=np.zeros(data.shape, bool) if mask is None else np.asarray(mask, bool))
    result, aligned = phase_pattern(pattern, plan, progress)
    if not aligned:
        return result
    return replace(result, agreement=agreement.consensus(aligned, pattern.intensity, pattern.mask, None)[0])
