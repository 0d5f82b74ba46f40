"""What to do with a pattern that nobody has said anything about, and why.

`choose` looks at the pattern alone: how much room there is around the crystal, how many counts there are for
each of its voxels, and how far the pattern is from its own mirror image, which is what strain does to it. The
numbers in the recipes were chosen on simulated crystals and on S0054 (docs/success.md, docs/explanation.md).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..types import BoolArray, FloatArray
from .engine import Pattern
from .generations import generations
from .recipe import Recipe, parse
from .support import autocorrelation_support

MARGIN = 1.3  # what `autocorrelation_support` adds to the extent
_UNDERSAMPLED = 2.0
# Left after binning, which multiplies the autocorrelation by a sinc: 6.5 % down at its end, the crystal's extent,
# and 1.6 % half way there.
_ENOUGH = 5.0
_COARSE_SHORTEST = 32  # voxels an axis that a coarse volume needs to hold a crystal of eight
_STRAINED, _STRONG = 0.04, 0.1
_A_COUNT = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Traits:
    """What a pattern shows before anything is retrieved.

    `oversampling` is the length of each axis over the crystal's extent there; `counts_per_voxel` the counts over
    the voxels of the first support, less its margin; `asymmetry` sqrt(sum (I(q) - I(-q))^2 / sum (I(q) + I(-q))^2)
    without what counting noise adds to it: 0 for a crystal without strain (its pattern is centrosymmetric), about
    0.02, 0.07 and 0.15 for the peak phases of 0.5, 1.5 and 3 rad of `live_bcdi.sim`.
    """

    counts: float
    counts_per_voxel: float
    oversampling: tuple[float, float, float]
    asymmetry: float
    support: BoolArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A recipe and a number of starts, and a sentence for each thing that was decided."""

    recipe: Recipe
    starts: int
    reasons: tuple[str, ...]


def traits_of(pattern: Pattern) -> Traits:
    """Look at a pattern; a transform of it, and a few passes."""
    support = autocorrelation_support(pattern.intensity, pattern.mask)
    inside = int(np.count_nonzero(support))
    return Traits(
        counts=pattern.total_counts,
        counts_per_voxel=pattern.total_counts / max(inside / MARGIN**3, 1),
        oversampling=_oversampling(support),
        asymmetry=asymmetry(pattern.intensity, pattern.mask),
        support=support,
    )


def binning(pattern: Pattern) -> tuple[int, int, int]:
    """Voxels to sum along each axis, 4 at most, where the crystal is so small that the pattern is sampled more
    finely than it needs: to an oversampling of 5 or more."""
    found = _oversampling(autocorrelation_support(pattern.intensity, pattern.mask))
    first, second, third = (int(np.clip(value // _ENOUGH, 1, 4)) for value in found)
    return first, second, third


def _oversampling(support: BoolArray) -> tuple[float, float, float]:
    extents = [
        np.count_nonzero(support.any(axis=tuple(k for k in range(3) if k != axis))) / MARGIN for axis in range(3)
    ]
    first, second, third = (float(n / max(extent, 1)) for n, extent in zip(support.shape, extents))
    return first, second, third


def asymmetry(intensity: FloatArray, mask: BoolArray) -> float:
    """How far a pattern is from its inversion through n//2, over voxels measured on both sides (`Traits`)."""
    both = ~(mask | inverted(mask))
    counts = np.asarray(intensity, np.float64)
    difference, total = (counts - inverted(counts))[both], (counts + inverted(counts))[both]
    # a Poisson difference has the variance of the sum
    excess = np.sum(difference**2) - np.sum(total)
    return float(np.sqrt(max(excess, 0.0) / max(np.sum(total**2), 1e-300)))


def inverted(array: NDArray[Any]) -> NDArray[Any]:
    """About n//2; the far edge of an even axis has no partner but itself."""
    return np.roll(array[::-1, ::-1, ::-1], [1 - n % 2 for n in array.shape], axis=(0, 1, 2))


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """Wall `seconds` for everything, at `iteration_s` an iteration of one start."""

    seconds: float
    iteration_s: float


def choose(pattern: Pattern, traits: Traits, *, starts: int | None = None, budget: Budget | None = None) -> Choice:
    """A recipe for `pattern`, and the number of starts where none is asked for. With a budget, the richest plan
    that fits into four fifths of it."""
    recipe, why = _recipe(traits, pattern.intensity.shape)
    if starts is None:
        starts, many = _starts(traits, pattern.intensity.shape)
    else:
        many = f"{starts} starts, as asked"
    reasons = [_room(traits), why, _shrink_reason(traits), many]
    if pattern.intensity[~pattern.mask].max() <= _A_COUNT:
        reasons.append("no voxel has more than one count: give counts, not a scaled intensity")
    if budget is not None:
        recipe, starts, shorter = _within(recipe, starts, 0.8 * budget.seconds / budget.iteration_s, traits)
        reasons += [f"{budget.seconds:.3g} s at {1e3 * budget.iteration_s:.1f} ms an iteration: {shorter}"]
    return Choice(recipe=recipe, starts=starts, reasons=tuple(reasons))


def _room(traits: Traits) -> str:
    each = " x ".join(f"{value:.1f}" for value in traits.oversampling)
    if min(traits.oversampling) < _UNDERSAMPLED:
        axis = ("rocking", "row", "column")[int(np.argmin(traits.oversampling))]
        remedy = "finer rocking steps" if axis == "rocking" else "a longer detector distance"
        return f"oversampling {each}: below 2 along {axis}, where phases are not determined; use {remedy}"
    return f"oversampling {each}: first support from the autocorrelation"


def threshold(traits: Traits) -> float:
    """Of shrinkwrap, between 0.1 and 0.2. Noise in the object is about sigma = 1 / sqrt(4 counts per voxel) of its
    amplitude: a support that goes down to it holds noise. At most 0.15 where strain is strong, and parts of the
    crystal are weak before they are found."""
    sigma = 1 / np.sqrt(4 * traits.counts_per_voxel)
    highest = 0.2 if traits.asymmetry < _STRONG else 0.15
    return round(float(np.clip(0.05 + 10 * sigma, 0.1, highest)), 2)


def _shrink_reason(traits: Traits) -> str:
    counts = traits.counts_per_voxel
    seen = f"{counts:.3g}" if counts < 1000 else f"{counts:.0f}"
    return f"{seen} counts a voxel of the crystal: shrinkwrap at {threshold(traits):g}"


def _recipe(traits: Traits, shape: tuple[int, ...]) -> tuple[Recipe, str]:
    """ER settles the random phases and HIO finds the object while the support tightens; the starts end in
    different local minima a few per cent apart, and guidance brings them to the best one's; the last ER take the
    feedback out. HIO first and RAAR after: the other way round more simulated scans end in the wrong minimum (but
    HIO again on coarse voxels, where a seed of S0054 in ten stays in a wrong one with RAAR). A
    support that is too tight breaks strong strain, one too loose leaves a symmetric crystal with its twin: every
    start finds with a threshold of its own."""
    shrink = f"ShrinkWrap(sigma=1, threshold={threshold(traits)})"
    if min(shape) >= 2 * _COARSE_SHORTEST:
        coarse, settle = "Coarse + ", "HIO"
        finish = f"10*ER + {shrink} + 25*RAAR + 5*ER + {shrink} + 20*ER"
        why = (
            f"{min(shape)} voxels and more an axis: the crystal is found on voxels twice as large, then sharpened"
        )
    else:
        coarse, settle = "", "RAAR"
        finish = f"2*(20*RAAR + 5*ER + {shrink}) + 40*ER"
        why = f"{min(shape)} voxels along the shortest axis: all at full resolution"
    find = "20*ER + 6*(20*HIO + ShrinkWrap(sigma=2, sigma_end=1, threshold=0.1, threshold_end=0.25))"
    agree = f"2*(20*{settle} + 5*ER + {shrink}) + 10*ER"
    chain = f"{coarse}{find} + {agree} + Guide(keep=4) + {coarse}{agree} + Guide(keep=3) + {finish}"
    return parse(chain), why


def _starts(traits: Traits, shape: tuple[int, ...]) -> tuple[int, str]:
    seen = f"asymmetry {traits.asymmetry:.3f}"
    if traits.asymmetry < _STRAINED:
        return 8, f"{seen}: little strain, or a phase even in r; 8 starts"
    if min(shape) >= 2 * _COARSE_SHORTEST:
        return 8, f"{seen}: strain, which hides the shape; 8 starts, as a volume of this size allows"
    return 12, f"{seen}: strain, which hides the shape; 12 starts"


def cost(recipe: Recipe, starts: int) -> float:
    """Iterations of one start at full resolution that `recipe` is worth, over all its generations."""
    total = 0.0
    for generation in generations(recipe):
        total += starts * len(generation.recipe) / generation.by**3
        keep = generation.guide.keep if generation.guide is not None else 0
        starts = min(starts, keep or starts)
    return total


def _within(recipe: Recipe, starts: int, iterations: float, traits: Traits) -> tuple[Recipe, int, str]:
    """As many starts as fit; below one, a shorter chain without guidance."""
    for fewer in range(starts, 0, -1):
        if cost(recipe, fewer) <= iterations:
            return recipe, fewer, f"{fewer} of {starts} starts" if fewer < starts else "enough for all"
    rounds = int(max((iterations - 30) // 25, 1))
    short = f"10*ER + {min(rounds, 6)}*(25*HIO + ShrinkWrap(sigma=1, threshold={threshold(traits)})) + 20*ER"
    return parse(short), 1, "one start of a short chain"
