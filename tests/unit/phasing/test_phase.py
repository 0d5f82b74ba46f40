"""The front door: many starts, selection, and what the result says of itself."""

import time

import numpy as np
import pytest

from live_bcdi.phasing import Pattern, Plan, parse, phase, phase_pattern
from live_bcdi.phasing.align import aligned_to
from live_bcdi.types import Outcome, ScanError

RECIPE = "10*ER + 3*(20*HIO + 5*ER + ShrinkWrap(sigma=1.5, threshold=0.15)) + 15*ER"


def test_default_settings_find_a_known_crystal(known):
    found = phase(known.intensity, starts=2)
    image = aligned_to(known.density, found.density)
    correlation = abs(np.vdot(known.density, image)) / np.linalg.norm(known.density) / np.linalg.norm(image)
    # 1e7 photons in 32^3 voxels: the truth's own chi is sum(1/4) / 1e7 over the lit voxels, below 1e-3
    assert correlation > 0.97
    assert found.chi < 5e-3
    assert found.outcome is Outcome.DONE


def test_the_best_start_is_returned_and_says_how_it_was_made(known):
    found = phase(known.intensity, recipe=RECIPE, starts=3, seed=4)
    free = [found.metrics[f"free_llk_{k}"] for k in range(3)]
    assert found.chi == found.chi_starts[int(np.argmin(free))]
    assert len(found.chi_starts) == 3
    assert (found.recipe, found.seed) == (str(parse(RECIPE)), 4)
    assert found.metrics["chi"] == pytest.approx(found.chi, rel=1e-3)
    assert found.support[16, 16, 16]


def test_the_first_starts_begin_at_what_is_guessed(known):
    """Two projections keep the truth, and find nothing from random phases; a guess of none changes no bit. What
    judges the starts is not shown to who guesses."""
    seen = []

    def guess(pattern):
        seen.append(pattern)
        return [known.density]

    pattern = Pattern(intensity=known.intensity, mask=np.zeros(known.intensity.shape, bool))
    guessed, blind, none = (
        phase_pattern(pattern, Plan(recipe="2*ER", starts=2, guess=each))[0]
        for each in (guess, None, lambda _: [])
    )
    assert guessed.chi_starts[0] < 0.01 < blind.chi_starts[0]
    assert guessed.chi_starts[1] == blind.chi_starts[1]
    assert (guessed.provenance["guessed_starts"], "guessed_starts" in blind.provenance) == ("1", False)
    assert none.density.tobytes() == blind.density.tobytes()
    assert 0.03 < seen[0].mask.mean() < 0.05


def test_guided_starts_agree_better(known):
    alone = phase(known.intensity, recipe=f"{RECIPE} + {RECIPE}", starts=4, seed=1)
    guided = phase(known.intensity, recipe=f"{RECIPE} + Guide + {RECIPE}", starts=4, seed=1)
    assert guided.metrics["first_mode"] > alone.metrics["first_mode"]
    assert guided.metrics["first_mode"] > 0.95
    assert alone.metrics["support_stability"] < guided.metrics["support_stability"] <= 1
    assert guided.chi < 1.05 * alone.chi


def test_a_budget_in_the_second_generation_keeps_the_better(known):
    begun_s = time.monotonic()
    first = phase(known.intensity, recipe=RECIPE, starts=2, budget_s=1000)
    budget_s = 1 + 3 * (time.monotonic() - begun_s)  # room for a first generation, however busy the machine is
    cut = phase(known.intensity, recipe=f"{RECIPE} + Guide + 100000*HIO", starts=2, budget_s=budget_s)
    assert cut.outcome is Outcome.BUDGET
    assert cut.metrics["free_llk"] <= first.metrics["free_llk"]


def test_same_seed_same_bits_whatever_the_threads(known):
    pattern = Pattern(intensity=known.intensity, mask=np.zeros(known.intensity.shape, bool))
    plans = [Plan(recipe=parse(RECIPE), starts=3, seed=2, threads=threads) for threads in (1, 2, 4)]
    results = [phase_pattern(pattern, plan)[0] for plan in plans]
    assert len({each.density.tobytes() for each in results}) == 1
    assert len({each.chi_starts for each in results}) == 1


def test_a_budget_ends_it_with_what_there_is(known):
    found = phase(known.intensity, recipe="100000*ER", starts=1, budget_s=0.2)
    assert found.outcome is Outcome.BUDGET
    assert np.isfinite(found.chi)
    assert "support_stability" not in found.metrics  # one start has no one to agree with


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"recipe": "20*HOI"}, "no operator"),
        ({"starts": -1}, "at least one start"),
        ({"starts": 2.5}, "at least one start"),
        ({"starts": True}, "at least one start"),
        ({"budget_s": 0.0}, "budget"),
        ({"budget_s": "5s"}, "budget"),
        ({"seed": -1}, "seed"),
        ({"seed": None}, "seed"),  # numpy would draw one by the clock
        ({"seed": 1.5}, "seed"),
        ({"seed": 2**63}, "seed"),  # a file could not keep it
        ({"recipe": 20}, "a recipe is text"),
        ({"device": "quantum"}, "no phasing device"),
        ({"mask": np.zeros((3, 3, 3), bool)}, "mask has shape"),
    ],
)
def test_what_cannot_be_asked_is_said(known, arguments, message):
    with pytest.raises(ScanError, match=message):
        phase(known.intensity, **arguments)


@pytest.mark.parametrize("threads", [0, -1, 1.5])
def test_no_threads_are_said(threads):
    with pytest.raises(ScanError, match="at least one thread"):
        Plan(threads=threads)


@pytest.mark.parametrize("kind", [complex, object])
def test_what_is_no_real_number_is_said(known, kind):
    with pytest.raises(ScanError, match="real numbers"):
        phase(known.intensity.astype(kind))


def test_short_numbers_are_as_good_as_long_ones(known):
    """A root of uint8 would have half precision: a relative 5e-4."""
    counts = np.minimum(known.intensity, 255)
    results = [
        phase(counts.astype(kind), recipe="3*ER", starts=1)
        for kind in (np.uint8, np.uint16, np.float16, np.float32)
    ]
    assert len({each.density.tobytes() for each in results}) == 1


def test_starts_have_thresholds_of_their_own_after_guidance_too(known):
    """Each ends as if all had its threshold: guidance is over by then, and the starts share nothing."""
    ends = {}
    for threshold in ("0.1", "0.4", "0.1, threshold_end=0.4"):
        recipe = f"{RECIPE} + Guide + ER + ShrinkWrap(threshold={threshold}) + ER"
        ends[threshold] = phase(known.intensity, recipe=recipe, starts=2).chi_starts
    assert ends["0.1, threshold_end=0.4"] == (ends["0.1"][0], ends["0.4"][1])
    assert ends["0.1"][1] != ends["0.4"][1]


@pytest.mark.parametrize("free", ["4 %", -0.1, 0.5, float("nan")])
def test_a_share_of_free_voxels_that_cannot_be_is_said(free):
    with pytest.raises(ScanError, match="share of free voxels"):
        Plan(free=free)
