"""What a pattern shows, and what is chosen for it."""

from dataclasses import replace

import numpy as np
import pytest

from live_bcdi.phasing import Pattern, Plan, phase, phase_pattern
from live_bcdi.phasing.align import aligned_to
from live_bcdi.phasing.automatic import Budget, asymmetry, binning, choose, cost, threshold, traits_of


def counts(density, photons, rng=None):
    intensity = np.abs(np.fft.fftshift(np.fft.fftn(density))) ** 2
    intensity *= photons / intensity.sum()
    return intensity if rng is None else rng.poisson(intensity).astype(float)


def pattern_of(intensity):
    return Pattern(intensity=intensity, mask=np.zeros(intensity.shape, bool))


def box(shape, extents, phase=0.0):
    grid = np.meshgrid(*[np.arange(n) - n // 2 for n in shape], indexing="ij")
    inside = np.all([np.abs(axis) <= extent // 2 for axis, extent in zip(grid, extents)], axis=0)
    return np.where(inside, np.exp(1j * phase * np.sin(0.4 * grid[0] + 0.3 * grid[1])), 0)


@pytest.mark.parametrize("extents", [(9, 9, 9), (7, 9, 15)])
def test_oversampling_is_the_length_over_the_extent(extents):
    """Of boxes, whose extents are what they are, to a voxel and the threshold of the autocorrelation."""
    found = traits_of(pattern_of(counts(box((48, 48, 48), extents), 1e7))).oversampling
    np.testing.assert_allclose(found, [48 / extent for extent in extents], rtol=0.2)


def test_a_crystal_without_strain_has_a_symmetric_pattern_but_for_noise():
    """Poisson noise makes sum (I - I')^2 = sum (I + I'); what is left scatters about zero."""
    plain = box((32, 32, 32), (9, 9, 9))
    mask = np.zeros(plain.shape, bool)
    assert asymmetry(counts(plain, 1e6), mask) < 1e-6
    noisy = [asymmetry(counts(plain, 1e6, np.random.default_rng(seed)), mask) for seed in range(5)]
    assert max(noisy) < 0.01
    strained = [asymmetry(counts(box((32, 32, 32), (9, 9, 9), phase), 1e6), mask) for phase in (0.2, 0.6, 1.5)]
    assert 0.005 < strained[0] < strained[1] < strained[2]


def test_asymmetry_is_its_definition_where_both_sides_are_measured():
    rng = np.random.default_rng(0)
    intensity, mask = 1e6 * rng.random((6, 7, 8)), rng.random((6, 7, 8)) < 0.2
    difference = total = noise = 0.0
    for here in np.ndindex(6, 7, 8):
        there = tuple((2 * (n // 2) - k) % n for k, n in zip(here, (6, 7, 8)))
        if not mask[here] and not mask[there]:
            difference += (intensity[here] - intensity[there]) ** 2
            noise += intensity[here] + intensity[there]
            total += (intensity[here] + intensity[there]) ** 2
    assert asymmetry(intensity, mask) == pytest.approx(np.sqrt((difference - noise) / total))


def test_fewer_counts_cut_the_support_higher(known):
    many, few = (traits_of(pattern_of(counts(known.density, photons))) for photons in (1e9, 1e4))
    assert threshold(many) == 0.1
    assert threshold(replace(few, asymmetry=0.05)) == 0.2
    assert threshold(replace(few, asymmetry=0.2)) == 0.15  # strong strain


def test_a_large_volume_is_found_on_coarse_voxels_and_a_small_one_is_not(known):
    small = pattern_of(known.intensity)
    large = pattern_of(counts(box((64, 64, 64), (15, 15, 15), 1.0), 1e7))
    recipes = [str(choose(each, traits_of(each)).recipe) for each in (small, large)]
    assert ["Coarse" in recipe for recipe in recipes] == [False, True]


def test_every_choice_has_its_reason(known):
    told = []
    result, _ = phase_pattern(pattern_of(known.intensity), Plan(starts=2), lambda share, text: told.append(text))
    reasons = result.provenance["chosen"].splitlines()
    assert told[: len(reasons)] == reasons
    for word in ("oversampling", "full resolution", "shrinkwrap at", "2 starts, as asked"):
        assert any(word in reason for reason in reasons)
    asked, _ = phase_pattern(pattern_of(known.intensity), Plan(recipe="3*ER", starts=1))
    assert "chosen" not in asked.provenance


def test_too_coarse_a_scan_is_said():
    """A crystal of 20 of 32 voxels along the rocking axis."""
    pattern = pattern_of(counts(box((32, 48, 48), (21, 9, 9), 0.5), 1e6))
    first = choose(pattern, traits_of(pattern)).reasons[0]
    assert "below 2 along rocking" in first
    assert "finer rocking steps" in first


def test_a_budget_buys_the_starts_it_pays_for(known):
    pattern = pattern_of(known.intensity)
    traits = traits_of(pattern)
    whole = choose(pattern, traits)
    full = cost(whole.recipe, whole.starts)
    rich, half, poor = (
        choose(pattern, traits, budget=Budget(seconds=share * full / 0.8 * 1e-3, iteration_s=1e-3))
        for share in (1.01, 0.5, 0.02)
    )
    assert rich.starts == whole.starts
    assert 1 <= half.starts < whole.starts
    assert cost(half.recipe, half.starts) <= 0.5 * full
    assert poor.starts == 1
    assert cost(poor.recipe, 1) < cost(whole.recipe, 1)


def test_cost_counts_coarse_iterations_by_their_voxels():
    assert cost(Plan(recipe="Coarse + 80*ER + Guide(keep=2) + 10*ER").recipe, 4) == 4 * 80 / 8 + 2 * 10


def test_a_budget_without_a_recipe_still_finds_something(known):
    phase(known.intensity, recipe="2*HIO + ShrinkWrap", starts=1)  # what is compiled is not paid from the budget
    assert np.isfinite(phase(known.intensity, budget_s=0.3).chi)
    found = phase(known.intensity, budget_s=6.0)
    image = aligned_to(known.density, found.density)
    assert abs(np.vdot(known.density, image)) / np.linalg.norm(known.density) / np.linalg.norm(image) > 0.9


def test_an_intensity_that_is_not_counts_is_said(known):
    pattern = pattern_of(known.intensity / known.intensity.max())
    assert "give counts" in choose(pattern, traits_of(pattern)).reasons[-1]


def test_axes_that_are_sampled_too_finely_are_binned():
    """A crystal of 5 of 64, 15 of 64 and 9 of 48 voxels: oversampling 12.8, 4.3 and 5.3, to a voxel of extent."""
    pattern = pattern_of(counts(box((64, 64, 48), (5, 15, 9)), 1e7))
    assert binning(pattern) == (2, 1, 1)
