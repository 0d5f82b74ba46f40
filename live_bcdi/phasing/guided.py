"""Many starts, the best of them, and how far they agree."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from time import monotonic
from typing import Literal

import numpy as np

from ..types import Outcome, Reconstruction, ScanError
from . import metrics
from .agreement import support_stability
from .align import aligned_to, canonical
from .engine import Pattern, Retrieval, Start, retrieve
from .free import free_llk, held_out
from .kernels_numpy import Object
from .operators import Guide
from .recipe import Operator, Recipe, Sequence, parse

# ER settles the random phases and HIO finds the object while the support tightens as it appears. The starts end
# in different local minima a few per cent apart; two generations of guidance bring them to the best one's, and
# the last ER take the feedback out, so that the object is the projection onto its support. HIO first and RAAR
# after: with RAAR first, 7 of 30 simulated scans ended more than 0.15 rad from the truth, with HIO first 1 of 30;
# with HIO after, some starts of S0054 stay at chi 0.0126 instead of 0.0112.
DEFAULT_RECIPE = (
    "20*ER + 6*(20*HIO + ShrinkWrap(sigma=2, threshold=0.15)) + 10*ER"
    " + Guide + 2*(20*RAAR + 5*ER + ShrinkWrap) + 10*ER"
    " + Guide + 2*(20*RAAR + 5*ER + ShrinkWrap) + 40*ER"
)
DEFAULT_STARTS = 5

Progress = Callable[[float, str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What to run: the recipe, how many starts from which seed, an initial object for the first of them,
    threads and wall-time budget.

    `free` is the share of the measured voxels that is held out of the retrieval, and judges it (`free_llk` in
    the metrics). The best start is the one with the lowest `select`, within a recipe's generations too.
    """

    recipe: Recipe
    starts: int = DEFAULT_STARTS
    seed: int = 0
    initial: Object | None = None
    threads: int = 1
    budget_s: float | None = None
    free: float = 0.0
    select: Literal["chi", "free_llk"] = "chi"

    def __post_init__(self) -> None:
        if self.starts < 1:
            raise ScanError(f"phasing needs at least one start, not {self.starts}")
        if self.budget_s is not None and not self.budget_s > 0:
            raise ScanError(f"the time budget must be positive, not {self.budget_s}")
        if self.select not in ("chi", "free_llk"):
            raise ScanError(f"no selection by {self.select!r}; there are chi and free_llk")
        if self.select == "free_llk" and not self.free:
            raise ScanError("selection by free_llk needs free voxels: give their share, such as free=0.04")


def as_recipe(recipe: Recipe | str | None) -> Recipe:
    """A recipe from its text, from itself, or the default one."""
    return recipe if isinstance(recipe, Recipe) else parse(recipe or DEFAULT_RECIPE)


def phase_pattern(
    pattern: Pattern, plan: Plan, progress: Progress | None = None
) -> tuple[Reconstruction, list[Object]]:
    """Run the starts, generation by generation; the best of the last by `plan.select`, canonical, and all
    finite ones aligned to it, the best first."""
    run = _Run(pattern, plan, progress or (lambda share, text: None))
    seeds = np.random.SeedSequence(plan.seed).generate_state(plan.starts)
    starts = [Start(seed=int(seed)) for seed in seeds]
    starts[0] = Start(seed=int(seeds[0]), initial=plan.initial)
    results = run.generation(starts)
    while run.unfinished and (finite := _best_first(results)):
        guided = run.generation(_guided(finite, results))
        results = [_kept(old, new) for old, new in zip(results, guided)]
    finite = _best_first(results)
    if not finite:
        return _reconstruction(run.seen, plan, results, results[0].retrieval), []
    best = finite[0]
    density, support = canonical(best.density, best.support)
    aligned = [density, *(aligned_to(density, each.density) for each in finite[1:])]
    outcome = Outcome.BUDGET if run.cut else Outcome.DONE
    best = replace(best, density=density, support=support, outcome=outcome)
    done = _reconstruction(run.seen, plan, results, best)
    return replace(done, metrics={**done.metrics, **_agreement(aligned)}), aligned


def _agreement(aligned: list[Object]) -> dict[str, float]:
    several = {"support_stability": support_stability(aligned)} if len(aligned) > 1 else {}
    return {"first_mode": metrics.first_mode(aligned), **several}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scored:
    """A start's end and what it is judged by; `free_llk` is NaN where no voxel is free."""

    retrieval: Retrieval
    free_llk: float
    score: float


def _kept(old: _Scored, new: _Scored) -> _Scored:
    """A start that the budget cut short, perhaps in the middle of HIO, keeps the better of its generations."""
    return old if new.retrieval.outcome is Outcome.BUDGET and old.score < new.score else new


def _best_first(results: Iterable[_Scored]) -> list[Retrieval]:
    finite = [each for each in results if np.isfinite(each.score)]
    return [each.retrieval for each in sorted(finite, key=lambda each: each.score)]


def _guided(finite: list[Retrieval], results: list[_Scored]) -> list[Start]:
    """Halfway to the best; a start that diverged begins again at the best itself."""
    best = finite[0].density
    ends = [each.retrieval.density if np.isfinite(each.score) else None for each in results]
    own = [best if end is None else aligned_to(best, end) for end in ends]
    return [Start(initial=np.asarray((best + each) / 2, np.complex64)) for each in own]


class _Run:
    """The generations of a recipe, and the clock they share."""

    def __init__(self, pattern: Pattern, plan: Plan, progress: Progress) -> None:
        self._pattern, self._plan, self._progress = pattern, plan, progress
        self._free = held_out(pattern, plan.free, plan.seed) if plan.free else None
        self.seen = pattern
        if self._free is not None:
            self.seen = Pattern(intensity=pattern.intensity, mask=pattern.mask | self._free)
        self._left = generations(plan.recipe)
        self._count = len(self._left) * plan.starts
        self._done = 0
        self.cut = False
        self._deadline = None if plan.budget_s is None else monotonic() + plan.budget_s

    @property
    def unfinished(self) -> bool:
        """Whether there is another generation, and time for it."""
        self.cut |= bool(self._left) and self._late()
        return bool(self._left) and not self._late()

    def generation(self, starts: list[Start]) -> list[_Scored]:
        """Each start on its own thread where there are enough of both: the starts share nothing."""
        recipe = self._left.pop(0)
        abreast = min(self._plan.threads, len(starts))
        threads = self._plan.threads // abreast

        def one(start: Start) -> _Scored:
            return self._scored(retrieve(self.seen, recipe, start=start, threads=threads, stop=self._late))

        results: list[_Scored] = []
        with ThreadPoolExecutor(abreast) as pool:
            for result in pool.map(one, starts):
                results.append(result)
                self._done += 1
                self.cut |= result.retrieval.outcome is Outcome.BUDGET
                text = f"start {len(results)} of {len(starts)}: chi {result.retrieval.chi:.4f}"
                self._progress(self._done / self._count, text)
        return results

    def _scored(self, end: Retrieval) -> _Scored:
        llk = float("nan")
        if self._free is not None:
            llk = free_llk(end.density, self._pattern, self._free) if np.isfinite(end.chi) else float("inf")
        return _Scored(retrieval=end, free_llk=llk, score=llk if self._plan.select == "free_llk" else end.chi)

    def _late(self) -> bool:
        return self._deadline is not None and monotonic() > self._deadline


def generations(recipe: Recipe) -> list[Recipe]:
    """The recipe cut at each `Guide`; empty generations are left out."""
    parts: list[list[Operator]] = [[]]
    for operator in recipe:
        if isinstance(operator, Guide):
            parts.append([])
        else:
            parts[-1].append(operator)
    return [Sequence(steps=tuple(part)) for part in parts if part] or [Sequence(steps=())]


def _reconstruction(pattern: Pattern, plan: Plan, results: list[_Scored], best: Retrieval) -> Reconstruction:
    return Reconstruction(
        density=best.density,
        support=best.support,
        chi=best.chi,
        chi_starts=tuple(each.retrieval.chi for each in results),
        metrics={**_metrics(pattern, best.density), **_free_metrics(results)} if np.isfinite(best.chi) else {},
        recipe=str(plan.recipe),
        seed=plan.seed,
        outcome=best.outcome,
    )


def _free_metrics(results: list[_Scored]) -> dict[str, float]:
    """`free_llk` of the best start and, numbered from 0, of each."""
    each = {f"free_llk_{k}": result.free_llk for k, result in enumerate(results)}
    best = min(results, key=lambda result: result.score)
    return {} if np.isnan(best.free_llk) else {"free_llk": best.free_llk, **each}


def _metrics(pattern: Pattern, density: Object) -> dict[str, float]:
    modulus = np.abs(metrics.centred_transform(density))
    return {
        "chi": metrics.chi(modulus, pattern.intensity, pattern.mask),
        "chi_operando": metrics.chi_operando(modulus, pattern.intensity, pattern.mask),
        "poisson_deviance": metrics.poisson_deviance(modulus, pattern.intensity, ~pattern.mask),
        "sharpness": metrics.sharpness(density),
    }
