"""Many starts, the best of them, and how far they agree."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from numbers import Real
from time import monotonic
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..types import BoolArray, Outcome, Reconstruction, ScanError
from . import metrics
from .agreement import support_stability
from .align import aligned_all, canonical
from .automatic import Budget, Traits, choose, cost, traits_of
from .coarse import retrieve_coarse
from .devices import device_of
from .engine import Pattern, Retrieval, Start, retrieve_all
from .free import SHARE, free_llk, held_out
from .generations import SCORES, Generation, Guide, bred, generations
from .guess import InitialGuess
from .kernels_numpy import Object
from .operators import HIO
from .recipe import Recipe, parse

DEFAULT_STARTS = 5  # of a recipe that was given
_TELL_S = 0.3

Progress = Callable[[float, str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What to run: the recipe, how many starts from which seed, threads and wall-time budget. Without a recipe or
    a number of starts they are chosen from the pattern (`automatic.py`); a recipe as text is parsed. The first
    starts begin at the objects of `guess` where it has any, the others at random phases.

    The result is the start with the lowest `select`; within a recipe, `Guide` says what decides. `free` is the
    share of the measured voxels that is held out of the retrieval and judges it: by default 4 % for "free_llk",
    where the pattern has room for it (else chi decides), and none for the others. `device` is "auto", "cpu" or
    "cuda".
    """

    recipe: Recipe | str | None = None
    starts: int | None = None
    seed: int = 0
    guess: InitialGuess | None = None
    threads: int = 1
    budget_s: float | None = None
    free: float | None = None
    select: Literal["free_llk", "chi", "sharpness"] = "free_llk"
    device: str = "auto"

    def __post_init__(self) -> None:
        if isinstance(self.recipe, str):
            object.__setattr__(self, "recipe", parse(self.recipe) if self.recipe.strip() else None)
        if not isinstance(self.recipe, Recipe | None):
            raise ScanError(
                f"a recipe is text or made of operators, such as 20 * ER() + HIO(), not {self.recipe!r}"
            )
        if not _whole(self.starts, at_least=1) and self.starts is not None:
            raise ScanError(f"phasing needs at least one start, a whole number, not {self.starts!r}")
        if not _whole(self.seed, at_least=0) or self.seed >= 2**63:  # what a file can keep
            raise ScanError(f"the seed is a whole number from 0 to 2^63 - 1, not {self.seed!r}")
        if not _whole(self.threads, at_least=1):
            raise ScanError(f"phasing needs at least one thread, a whole number, not {self.threads!r}")
        if self.budget_s is not None and not (isinstance(self.budget_s, Real) and self.budget_s > 0):
            raise ScanError(f"the time budget must be positive, in seconds, not {self.budget_s!r}")
        if self.free is not None and not (isinstance(self.free, Real) and 0 <= self.free <= 0.2):
            raise ScanError(f"the share of free voxels is from 0 to 0.2, not {self.free!r}")
        if self.select not in SCORES:
            raise ScanError(f"no selection by {self.select!r}; there are {', '.join(SCORES)}")
        if self.select == "free_llk" and self.free == 0:
            raise ScanError("selection by free_llk needs free voxels: give their share, such as free=0.04")


def _whole(value: object, *, at_least: int) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= at_least)


def phase_pattern(
    pattern: Pattern, plan: Plan, progress: Progress | None = None
) -> tuple[Reconstruction, list[Object]]:
    """Run the starts, generation by generation; the best of the last by `plan.select`, canonical, and all
    finite ones aligned to it, the best first. `provenance` says how many began and what chose among them,
    and as "chosen", where the recipe was chosen, why."""
    tell = progress or (lambda share, text: None)
    run = _Run(pattern, plan, tell)
    traits = traits_of(run.seen)
    recipe, starts, why = _decided(run.seen, traits, plan)
    for reason in why:
        tell(0.0, reason)
    run.follow(recipe)
    seeds = np.random.SeedSequence(plan.seed).generate_state(starts)
    places = _places(starts)
    first = [Start(seed=int(seed), support=traits.support, place=place) for seed, place in zip(seeds, places)]
    guesses = () if plan.guess is None else plan.guess(run.seen)
    first = [replace(start, initial=initial, support=None) for start, initial in zip(first, guesses)] + first[
        len(guesses) :
    ]
    results = run.generation(first)
    while (guide := run.guide) is not None and _best_first(results, guide.by):
        results = _survivors(results, guide)
        ends = run.generation(_guided(results, guide))
        results = [_kept(old, new, plan.select) for old, new in zip(results, ends)]
    finite = _best_first(results, plan.select)
    said = {"starts": str(starts), "selected_by": plan.select, **run.held_out()}
    said |= {"chosen": "\n".join(why)} if why else {}
    said |= {"guessed_starts": str(min(len(guesses), starts))} if guesses else {}
    if not finite:
        return replace(_reconstruction(run, results, results[0].retrieval), provenance=said), []
    best = finite[0]
    density, support = canonical(best.density, best.support)
    aligned = [density, *aligned_all(density, (each.density for each in finite[1:]))]
    outcome = Outcome.BUDGET if run.cut else Outcome.DONE
    best = replace(best, density=density, support=support, outcome=outcome)
    done = _reconstruction(run, results, best)
    return replace(done, metrics={**done.metrics, **_agreement(aligned)}, provenance=said), aligned


def _decided(pattern: Pattern, traits: Traits, plan: Plan) -> tuple[Recipe, int, tuple[str, ...]]:
    """The recipe, the number of starts, and why where they were chosen here."""
    if isinstance(plan.recipe, Recipe):
        return plan.recipe, plan.starts or DEFAULT_STARTS, ()
    budget = None
    if plan.budget_s is not None:
        budget = Budget(seconds=plan.budget_s, iteration_s=_iteration_s(pattern, traits, plan))
    choice = choose(pattern, traits, starts=plan.starts, budget=budget)
    return choice.recipe, choice.starts, choice.reasons


def _places(starts: int) -> NDArray[np.float64]:
    """From 0 to 1; a single start is in the middle."""
    return np.linspace(0, 1, starts) if starts > 1 else np.array([0.5])


def _iteration_s(pattern: Pattern, traits: Traits, plan: Plan) -> float:
    """Seconds of one iteration of one start, here and now: what five more take, after one that loads the code."""
    start, kernels, took = Start(support=traits.support), device_of(plan.device).kernels, []
    for count in (1, 1, 6):
        began_s = monotonic()
        retrieve_all(pattern, count * HIO(), [start], threads=plan.threads, kernels=kernels)
        took.append(monotonic() - began_s)
    return max((took[2] - took[1]) / 5, took[2] / 20)  # never nothing, whatever else the machine does


def _agreement(aligned: list[Object]) -> dict[str, float]:
    several = {"support_stability": support_stability(aligned)} if len(aligned) > 1 else {}
    return {"first_mode": metrics.first_mode(aligned), **several}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scored:
    """A start's end and what it is judged by; `free_llk` is NaN where no voxel is free."""

    retrieval: Retrieval
    free_llk: float

    def score(self, by: str) -> float:
        """The lower the better; infinite where it diverged."""
        if not np.isfinite(self.retrieval.chi):
            return float("inf")
        if by == "sharpness":
            return metrics.sharpness(self.retrieval.density)
        return self.free_llk if by == "free_llk" and not np.isnan(self.free_llk) else self.retrieval.chi


def _kept(old: _Scored, new: _Scored, by: str) -> _Scored:
    """A start that the budget cut short, perhaps in the middle of HIO, or that diverged, keeps the better of its
    generations."""
    return old if new.retrieval.outcome is not Outcome.DONE and old.score(by) < new.score(by) else new


def _best_first(results: Iterable[_Scored], by: str) -> list[Retrieval]:
    scored = [(each.score(by), each.retrieval) for each in results]
    return [end for score, end in sorted(scored, key=lambda each: each[0]) if np.isfinite(score)]


def _survivors(results: list[_Scored], guide: Guide) -> list[_Scored]:
    """The best that go on, in the order they were in."""
    ranks = np.argsort(np.argsort([each.score(guide.by) for each in results], kind="stable"))
    return [each for each, rank in zip(results, ranks) if not guide.keep or rank < guide.keep]


def _guided(results: list[_Scored], guide: Guide) -> list[Start]:
    """The children of each with the best; a start that diverged begins again at the best itself."""
    best = _best_first(results, guide.by)[0]
    ends = [each.retrieval if np.isfinite(each.retrieval.chi) else best for each in results]
    own = aligned_all(best.density, (end.density for end in ends))
    children = [bred(each, best.density, guide.breed) for each in own]
    places = _places(len(ends))
    return [
        Start(initial=child, model=end.model, place=place) for child, end, place in zip(children, ends, places)
    ]


class _Run:
    """The generations of a recipe, and the clock they share."""

    def __init__(self, pattern: Pattern, plan: Plan, progress: Progress) -> None:
        self._deadline = None if plan.budget_s is None else monotonic() + plan.budget_s
        self.pattern, self.plan, self._progress = pattern, plan, progress
        self._free = _held_out(pattern, plan)
        self.seen = pattern
        if self._free is not None:
            self.seen = Pattern(intensity=pattern.intensity, mask=pattern.mask | self._free)
        self._device = device_of(plan.device)
        self.guide: Guide | None = None
        self.cut = False
        self._lock, self._next_tell_s = threading.Lock(), 0.0

    def follow(self, recipe: Recipe) -> None:
        """From now on, generation by generation."""
        self.recipe, self._left = recipe, generations(recipe)
        self._count = len(self._left)
        self._work = self._all = 0.0

    def generation(self, starts: list[Start]) -> list[_Scored]:
        """As many starts abreast as the machine takes, and each group on its own thread where there are enough of
        both: the starts share nothing. `guide` is then how the next generation begins, None after the last."""
        self._all = self._all or cost(self.recipe, len(starts))
        now = self._left.pop(0)
        size = self._device.abreast(self.seen.intensity.shape)
        groups = [(k, starts[k : k + size]) for k in range(0, len(starts), size)]
        # a CUDA device is one queue: two threads would only share its memory
        threads = self.plan.threads
        workers = 1 if self._device.name == "cuda" else min(threads, len(groups))
        results: list[_Scored] = []
        with ThreadPoolExecutor(workers) as pool:
            for ends in pool.map(lambda each: self._retrieve(now, *each, threads=threads // workers), groups):
                results += map(self._scored, ends)
                self._tell(f"start {len(results)} of {len(starts)}: chi {results[-1].retrieval.chi:.4f}")
        self.cut |= any(each.retrieval.outcome is Outcome.BUDGET for each in results)
        self.cut |= bool(self._left) and self.late()
        self.guide = now.guide if self._left and not self.cut else None
        return results

    def _retrieve(self, now: Generation, first: int, starts: list[Start], *, threads: int) -> list[Retrieval]:
        # who asks a CUDA device whether it is late makes it wait
        ask = self._deadline is not None or self._device.name != "cuda"
        steps = _Steps(self, now, first, len(starts))

        def retrieve(pattern: Pattern, starts: Iterable[Start]) -> list[Retrieval]:
            kernels, stop = self._device.kernels, steps.stop if ask else None
            return retrieve_all(pattern, now.recipe, list(starts), threads=threads, stop=stop, kernels=kernels)

        ends = retrieve(self.seen, starts) if now.by == 1 else retrieve_coarse(self.seen, now.by, starts, retrieve)
        steps.end()
        return ends

    def advance(self, work: float, text: str = "") -> None:
        """So much of the work is done, in iterations of one start at full resolution; told now and then."""
        with self._lock:
            self._work += work
            due = monotonic() >= self._next_tell_s
        if due and text:
            self._tell(text)

    def _tell(self, text: str) -> None:
        stage = f"generation {self._count - len(self._left)} of {self._count}, " if self._count > 1 else ""
        with self._lock:
            self._next_tell_s = monotonic() + _TELL_S
            self._progress(min(self._work / max(self._all, 1e-9), 1.0), stage + text)

    def _scored(self, end: Retrieval) -> _Scored:
        """With the chi of all measured voxels, the free ones too."""
        if self._free is None or not np.isfinite(end.chi):
            return _Scored(retrieval=end, free_llk=float("nan"))
        modulus = end.model.modulus(metrics.centred_transform(end.density))
        chi = metrics.chi(modulus, self.pattern.intensity, self.pattern.mask)
        return _Scored(retrieval=replace(end, chi=chi), free_llk=free_llk(modulus, self.pattern, self._free))

    def held_out(self) -> dict[str, str]:
        """What the retrieval does not see, in words."""
        if self._free is None:
            return {}
        share = np.count_nonzero(self._free) / np.count_nonzero(~self.pattern.mask)
        return {"free": f"{100 * share:.1f} % of the measured voxels"}

    def late(self) -> bool:
        """Whether the budget is used up."""
        return self._deadline is not None and monotonic() > self._deadline


def _held_out(pattern: Pattern, plan: Plan) -> BoolArray | None:
    """The free voxels; None where there are none to be, or no room for what nobody has asked for."""
    if plan.free is not None:
        return held_out(pattern, plan.free, plan.seed) if plan.free else None
    if plan.select != "free_llk":
        return None
    try:
        return held_out(pattern, SHARE, plan.seed)
    except ScanError:
        return None


class _Steps:
    """The iterations of a group of starts, counted as the engine asks whether to stop."""

    def __init__(self, run: _Run, now: Generation, first: int, starts: int) -> None:
        self._run, self._one = run, starts / now.by**3
        self._steps, self._done = len(now.recipe), 0
        self._which = f"start {first + 1}" if starts == 1 else f"starts {first + 1} to {first + starts}"

    def stop(self) -> bool:
        """Before each: whether it is late."""
        text = f"{self._which}, iteration {self._done} of {self._steps}"
        self._run.advance(self._one if self._done else 0.0, text)
        self._done += 1
        return self._run.late()

    def end(self) -> None:
        """What was left, the last iteration or all of them."""
        self._run.advance(self._one * max(self._steps - max(self._done - 1, 0), 0))


def _reconstruction(run: _Run, results: list[_Scored], best: Retrieval) -> Reconstruction:
    said = {}
    if np.isfinite(best.chi):
        said = {**_metrics(run.pattern, best), **_free_metrics(results, run.plan.select)}
    return Reconstruction(
        density=best.density,
        support=best.support,
        chi=best.chi,
        chi_starts=tuple(each.retrieval.chi for each in results),
        metrics=said,
        recipe=str(run.recipe),
        seed=run.plan.seed,
        outcome=best.outcome,
    )


def _free_metrics(results: list[_Scored], select: str) -> dict[str, float]:
    """`free_llk` of the best start and, numbered from 0, of each."""
    each = {f"free_llk_{k}": result.free_llk for k, result in enumerate(results)}
    best = min(results, key=lambda result: result.score(select))
    return {} if np.isnan(best.free_llk) else {"free_llk": best.free_llk, **each}


def _metrics(pattern: Pattern, end: Retrieval) -> dict[str, float]:
    modulus = end.model.modulus(metrics.centred_transform(end.density))
    return {
        "chi": metrics.chi(modulus, pattern.intensity, pattern.mask),
        "chi_operando": metrics.chi_operando(modulus, pattern.intensity, pattern.mask),
        "poisson_deviance": metrics.poisson_deviance(modulus, pattern.intensity, ~pattern.mask),
        "sharpness": metrics.sharpness(end.density),
        **end.model.metrics(),
    }
