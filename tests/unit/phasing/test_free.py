"""Voxels held out: which, that the retrieval does not see them, and what they say."""

import numpy as np
import pytest
from scipy import ndimage

from live_bcdi.phasing import Pattern, Plan, parse, phase_pattern
from live_bcdi.phasing.engine import Start, retrieve
from live_bcdi.phasing.free import CORE, SHARE, free_llk, held_out
from live_bcdi.phasing.metrics import centred_transform, chi
from live_bcdi.types import ScanError

RECIPE = "10*ER + 3*(20*HIO + 5*ER + ShrinkWrap(sigma=1.5, threshold=0.15)) + 15*ER"


@pytest.fixture
def pattern(known):
    mask = np.zeros(known.intensity.shape, bool)
    mask[:, 20] = True  # a gap of the detector
    return Pattern(intensity=known.intensity, mask=mask)


def test_patches_are_small_whole_dark_and_measured(pattern):
    free = held_out(pattern, 0.04, seed=0)
    assert free.sum() / np.count_nonzero(~pattern.mask) == pytest.approx(0.04, rel=0.1)  # some overlap
    assert not (free & pattern.mask).any()
    assert pattern.intensity[free].max() <= CORE * pattern.intensity.max()
    opened = ndimage.binary_opening(free, np.ones((3, 3, 3)))
    np.testing.assert_array_equal(opened, free)  # a union of cubes of 3
    np.testing.assert_array_equal(free, held_out(pattern, 0.04, seed=0))
    assert (free != held_out(pattern, 0.04, seed=1)).any()


@pytest.mark.parametrize("share", [0.0, -0.1, 0.5, float("nan")])
def test_shares_that_leave_nothing_are_said(pattern, share):
    with pytest.raises(ScanError, match="share of free voxels"):
        held_out(pattern, share, seed=0)


def test_a_pattern_without_room_says_so():
    full = Pattern(intensity=np.ones((8, 8, 8)), mask=np.zeros((8, 8, 8), bool))
    with pytest.raises(ScanError, match="no room"):
        held_out(full, 0.04, seed=0)


def test_the_retrieval_does_not_see_them(known, pattern):
    """Counts of the free voxels changed at will: the same bits come out."""
    plan = Plan(recipe=parse(RECIPE), starts=1, free=0.04)  # one start: they choose between several
    free = held_out(pattern, plan.free, plan.seed)
    other = np.where(free, CORE * known.intensity.max(), known.intensity)
    first, second = (
        phase_pattern(Pattern(intensity=counts, mask=pattern.mask), plan)[0] for counts in (known.intensity, other)
    )
    np.testing.assert_array_equal(held_out(Pattern(intensity=other, mask=pattern.mask), 0.04, 0), free)
    assert first.density.tobytes() == second.density.tobytes()
    assert first.metrics["free_llk"] < second.metrics["free_llk"]


def test_the_truth_leaves_counting_noise_only(known, pattern):
    """Poisson noise is 1/2 a voxel where there are counts: the deviance is a chi-square of one degree."""
    transform = np.abs(np.fft.fftn(known.density)) ** 2
    bright = np.random.default_rng(0).permutation(known.intensity.size).reshape(known.intensity.shape) < 500
    free = bright & (known.intensity > 20)
    scaled = known.density * np.sqrt(1e7 / transform.sum())
    # 1/2 of a chi-square of n degrees, over n: its scatter is 1 / sqrt(2 n); n is about 300
    assert free.sum() > 30
    modulus = np.abs(centred_transform(scaled))
    assert free_llk(modulus, pattern, free) == pytest.approx(0.5, abs=4 / np.sqrt(2 * free.sum()))


def test_a_looser_support_fits_better_and_foretells_worse(known, pattern):
    """What the free voxels are for (Favre-Nicolin 2020): chi prefers noise, they do not."""
    free = held_out(pattern, 0.04, seed=0)
    seen = Pattern(intensity=pattern.intensity, mask=pattern.mask | free)
    scaled = known.density * np.sqrt(known.intensity.sum() / known.density.size / known.support.sum())
    ends = []
    for support in (known.support, ndimage.binary_dilation(known.support, iterations=4)):
        ends.append(retrieve(seen, parse("100*ER"), start=Start(initial=scaled, support=support)))
    assert ends[1].chi < ends[0].chi
    tight, loose = (free_llk(np.abs(centred_transform(end.density)), pattern, free) for end in ends)
    assert loose > tight


@pytest.mark.parametrize("select", ["chi", "free_llk"])
def test_the_best_by_what_was_asked_is_given(pattern, select):
    plan = Plan(recipe=parse(RECIPE), starts=4, seed=1, free=0.04, select=select)
    found, _ = phase_pattern(pattern, plan)
    llk = [found.metrics[f"free_llk_{k}"] for k in range(4)]
    best = int(np.argmin(llk if select == "free_llk" else found.chi_starts))
    assert found.chi == found.chi_starts[best]
    assert found.metrics["free_llk"] == llk[best]


def test_by_default_a_share_is_held_out_and_judges_but_chi_is_that_of_all(pattern):
    found, _ = phase_pattern(pattern, Plan(recipe=RECIPE, starts=3, seed=1))
    asked, _ = phase_pattern(pattern, Plan(recipe=RECIPE, starts=3, seed=1, free=SHARE, select="free_llk"))
    assert found.density.tobytes() == asked.density.tobytes()
    modulus = np.abs(centred_transform(found.density))
    assert found.chi == pytest.approx(chi(modulus, pattern.intensity, pattern.mask), rel=1e-3)


def test_where_there_is_no_room_for_free_voxels_chi_decides(pattern):
    """Nothing is dim enough to be left out."""
    flat = Pattern(intensity=np.maximum(pattern.intensity, pattern.intensity.max() / 5), mask=pattern.mask)
    found, _ = phase_pattern(flat, Plan(recipe="3*ER", starts=2))
    assert found.chi == min(found.chi_starts)
    assert "free_llk" not in found.metrics
    with pytest.raises(ScanError, match="no room"):
        phase_pattern(flat, Plan(recipe="3*ER", starts=2, free=0.04))


def test_without_free_voxels_nothing_is_said_of_them(pattern):
    found, _ = phase_pattern(pattern, Plan(recipe="5*ER", starts=2, select="chi"))
    assert not [name for name in found.metrics if name.startswith("free")]


@pytest.mark.parametrize(
    ("asked", "message"), [({"free": 0.0}, "give their share"), ({"select": "luck"}, "no selection by")]
)
def test_what_cannot_be_selected_by_is_said(asked, message):
    with pytest.raises(ScanError, match=message):
        Plan(recipe=parse("ER"), **asked)
