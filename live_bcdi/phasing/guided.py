"""Many starts, the best of them, and how far they agree."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic

import numpy as np

from ..types import Outcome, Reconstruction, ScanError
from . import metrics
from .align import aligned_to, canonical
from .engine import Pattern, Retrieval, Start, retrieve
from .kernels_numpy import Object
from .recipe import Recipe, parse

# 20 ER settle the random phases, HIO finds the object, the support tightens as it appears; the last ER take
# the feedback out, so that the object is the projection onto its support.
DEFAULT_RECIPE = (
    "20*ER + 8*(20*HIO + ShrinkWrap(sigma=2, threshold=0.12)) + 4*(20*HIO + 5*ER + ShrinkWrap(sigma=1)) + 40*ER"
)
DEFAULT_STARTS = 5

Progress = Callable[[float, str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What to run: the recipe, how many starts from which seed, an initial object for the first of them,
    threads and wall-time budget."""

    recipe: Recipe
    starts: int = DEFAULT_STARTS
    seed: int = 0
    initial: Object | None = None
    threads: int = 1
    budget_s: float | None = None

    def __post_init__(self) -> None:
        if self.starts < 1:
            raise ScanError(f"phasing needs at least one start, not {self.starts}")
        if self.budget_s is not None and not self.budget_s > 0:
            raise ScanError(f"the time budget must be positive, not {self.budget_s}")


def as_recipe(recipe: Recipe | str | None) -> Recipe:
    """A recipe from its text, from itself, or the default one."""
    return recipe if isinstance(recipe, Recipe) else parse(recipe or DEFAULT_RECIPE)


def phase_pattern(
    pattern: Pattern, plan: Plan, progress: Progress | None = None
) -> tuple[Reconstruction, list[Object]]:
    """Run the starts; the best by chi, canonical, and all finite starts aligned to it, the best first."""
    results = _run(pattern, plan, progress)
    finite = sorted((each for each in results if np.isfinite(each.chi)), key=lambda each: each.chi)
    if not finite:
        return _reconstruction(pattern, plan, results, results[0].density, results[0]), []
    best = finite[0]
    density, support = canonical(best.density, best.support)
    aligned = [density, *(aligned_to(density, each.density) for each in finite[1:])]
    result = Retrieval(density=density, support=support, chi=best.chi, errors=best.errors, outcome=best.outcome)
    return _reconstruction(pattern, plan, results, density, result), aligned


def _run(pattern: Pattern, plan: Plan, progress: Progress | None) -> list[Retrieval]:
    """Each start on its own thread where there are enough of both: the starts share nothing."""
    deadline = None if plan.budget_s is None else monotonic() + plan.budget_s
    stop = None if deadline is None else lambda: monotonic() > deadline
    abreast = min(plan.threads, plan.starts)
    seeds = np.random.SeedSequence(plan.seed).generate_state(plan.starts)
    results: list[Retrieval] = []

    def one(number: int) -> Retrieval:
        start = Start(seed=int(seeds[number]), initial=plan.initial if number == 0 else None)
        return retrieve(pattern, plan.recipe, start=start, threads=plan.threads // abreast, stop=stop)

    with ThreadPoolExecutor(abreast) as pool:
        for result in pool.map(one, range(plan.starts)):
            results.append(result)
            if progress is not None:
                share = len(results) / plan.starts
                progress(share, f"start {len(results)} of {plan.starts}: chi {result.chi:.4f}")
    return results


def _reconstruction(
    pattern: Pattern, plan: Plan, results: list[Retrieval], density: Object, best: Retrieval
) -> Reconstruction:
    outcomes = {each.outcome for each in results}
    outcome = Outcome.BUDGET if Outcome.BUDGET in outcomes else best.outcome
    return Reconstruction(
        density=density,
        support=best.support,
        chi=best.chi,
        chi_starts=tuple(each.chi for each in results),
        metrics=_metrics(pattern, density) if np.isfinite(best.chi) else {},
        recipe=str(plan.recipe),
        seed=plan.seed,
        outcome=outcome,
    )


def _metrics(pattern: Pattern, density: Object) -> dict[str, float]:
    modulus = np.abs(metrics.centred_transform(density))
    return {
        "chi": metrics.chi(modulus, pattern.intensity, pattern.mask),
        "chi_operando": metrics.chi_operando(modulus, pattern.intensity, pattern.mask),
        "poisson_deviance": metrics.poisson_deviance(modulus, pattern.intensity, ~pattern.mask),
        "sharpness": metrics.sharpness(density),
    }
