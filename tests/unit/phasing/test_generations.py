import numpy as np
import pytest

from live_bcdi.phasing import parse, phase
from live_bcdi.phasing.generations import BREEDS, Guide, bred, generations
from live_bcdi.types import ScanError

RECIPE = "10*ER + 2*(20*HIO + 5*ER + ShrinkWrap(sigma=1.5, threshold=0.15)) + 15*ER"


def test_a_recipe_is_cut_at_its_guides():
    parts = generations(parse("Guide + Coarse + 2*(3*ER + Guide(keep=2)) + HIO"))
    assert [list(map(str, part.recipe)) for part in parts] == [["ER"] * 3, ["ER"] * 3, ["HIO"]]
    assert [part.by for part in parts] == [2, 1, 1]
    assert [part.guide for part in parts] == [Guide(keep=2), Guide(keep=2), None]


def test_children_by_their_formulas():
    """Of amplitudes 1 and 4 a quarter turn apart."""
    start, best = np.full((1, 1, 1), 1j, np.complex64), np.full((1, 1, 1), 4, np.complex64)
    mean = 2 + 0.5j
    expected = {"avg_ab": mean, "sqrt_ab": 2 * mean / abs(mean), "max_ab": 4 * mean / abs(mean), "b_pa": 1 + 0j}
    assert set(expected) == set(BREEDS)
    for breed, child in expected.items():
        np.testing.assert_allclose(bred(start, best, breed), child, rtol=1e-6)


@pytest.mark.parametrize("breed", BREEDS)
def test_every_breed_finds_the_crystal_and_keeps_the_best(known, breed):
    found = phase(
        known.intensity, recipe=f"{RECIPE} + Guide(keep=2, breed='{breed}') + {RECIPE}", starts=3, seed=2
    )
    assert len(found.chi_starts) == 2
    assert found.chi < 5e-3  # as in test_phase
    assert f"breed={breed!r}" in found.recipe or breed == "avg_ab"


@pytest.mark.parametrize(("guide", "message"), [("keep=-1", "whole number"), ("breed='ab'", "avg_ab")])
def test_a_guide_that_cannot_be_is_said(guide, message):
    with pytest.raises(ScanError, match=message):
        parse(f"ER + Guide({guide})")


def test_a_generation_that_diverges_does_not_take_the_good_one_along(known):
    good = phase(known.intensity, recipe=RECIPE, starts=2)
    found = phase(known.intensity, recipe=f"{RECIPE} + Guide + 30*HIO(beta=1e30)", starts=2)
    assert found.density.tobytes() == good.density.tobytes()


def test_a_single_start_takes_the_middle_of_a_range(known):
    """As a start with that threshold would."""
    ranged, middle = (
        phase(known.intensity, recipe=f"5*ER + ShrinkWrap(threshold={given}) + 5*ER", starts=1)
        for given in ("0.1, threshold_end=0.3", "0.2")
    )
    np.testing.assert_array_equal(ranged.support, middle.support)
