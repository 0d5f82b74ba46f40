"""One start, on an object whose answer is known."""

import numpy as np
import pytest

from live_bcdi.phasing import kernels_cpu, kernels_numpy, parse
from live_bcdi.phasing.align import aligned_to
from live_bcdi.phasing.engine import Pattern, Start, retrieve, retrieve_all
from live_bcdi.types import Outcome, ScanError

SHORT = parse("5*ER + 20*HIO + ShrinkWrap(sigma=1.5) + 5*ER")


@pytest.fixture
def pattern(known):
    return Pattern(intensity=known.intensity, mask=np.zeros(known.intensity.shape, bool))


def likeness(known, density):
    """|<truth, object>| of unit vectors, after the ambiguities are removed."""
    found = aligned_to(known.density, density)
    return abs(np.vdot(known.density, found)) / np.linalg.norm(known.density) / np.linalg.norm(found)


@pytest.mark.parametrize("algorithm", ["HIO", "RAAR", "HIO(beta=0.7)"])
def test_algorithms_find_the_crystal(known, pattern, algorithm):
    recipe = parse(f"20*ER + 6*(20*{algorithm} + 5*ER + ShrinkWrap(sigma=1.5, threshold=0.15)) + 30*ER")
    best = min((retrieve(pattern, recipe, start=Start(seed=seed)) for seed in range(3)), key=lambda r: r.chi)
    assert best.outcome is Outcome.DONE
    assert likeness(known, best.density) > 0.97
    assert not best.density[~best.support].any()


def test_solvent_flipping_finds_the_crystal_in_its_support(known, pattern):
    """Without feedback it stagnates while the support is loose; in the right one it does not."""
    recipe = parse("20*ER + 100*SF + 30*ER")
    starts = [Start(seed=seed, support=known.support) for seed in range(3)]
    best = min((retrieve(pattern, recipe, start=start) for start in starts), key=lambda r: r.chi)
    assert likeness(known, best.density) > 0.97


def test_masked_voxels_are_free(known, pattern):
    """The peak itself behind a beamstop: an object that must be zero there would be wrong, a free one is not."""
    mask = np.zeros(known.intensity.shape, bool)
    mask[15:18, 15:18, 15:18] = True
    hidden = Pattern(intensity=np.where(mask, 0, known.intensity), mask=mask)
    start = Start(initial=known.density, support=known.support)
    found = retrieve(hidden, parse("50*ER"), start=start)
    assert likeness(known, found.density) > 0.99
    zeroed = Pattern(intensity=hidden.intensity, mask=np.zeros_like(mask))
    assert likeness(known, retrieve(zeroed, parse("50*ER"), start=start).density) < 0.9


def test_error_reduction_reduces_the_error(pattern, known):
    found = retrieve(pattern, parse("40*ER"), start=Start(seed=3, support=known.support))
    # Fienup (1982): never up, but for the rounding of complex64
    assert (np.diff(found.errors) <= 1e-6).all()
    assert found.chi <= found.errors[-1] + 1e-6


def test_same_seed_same_bits_for_any_number_of_threads(pattern):
    results = [retrieve(pattern, SHORT, start=Start(seed=5), threads=threads) for threads in (1, 1, 2)]
    assert len({each.density.tobytes() for each in results}) == 1
    assert len({each.errors for each in results}) == 1
    other = retrieve(pattern, SHORT, start=Start(seed=6))
    assert other.density.tobytes() != results[0].density.tobytes()


@pytest.mark.parametrize("kernels", [kernels_numpy.Kernels, kernels_cpu.Kernels])
def test_starts_abreast_are_the_starts_alone(known, pattern, kernels):
    """Whatever the operators, a start knows nothing of the others; one of them is not even finite."""
    recipe = parse("3*ER + 2*(HIO + CHIO + DM + PhaseRange + ShrinkWrap(sigma=1.5, smallest=0.01, largest=0.1))")
    whole = recipe + parse("Detwin + ADMM + ShrinkWrap(level='percentile', threshold=95) + Positivity + ER")
    broken = np.full_like(known.density, np.nan)
    starts = [Start(seed=1), Start(initial=broken, support=known.support), Start(seed=2, support=known.support)]
    together = retrieve_all(pattern, whole, starts, kernels=kernels)
    for start, found in zip(starts, together):
        alone = retrieve(pattern, whole, start=start, kernels=kernels)
        np.testing.assert_array_equal(found.density, alone.density)
        np.testing.assert_array_equal(found.support, alone.support)
        np.testing.assert_array_equal(found.errors, alone.errors)
    assert [each.outcome for each in together] == [Outcome.DONE, Outcome.DIVERGED, Outcome.DONE]


def test_fused_and_readable_kernels_follow_the_same_path(pattern):
    # HIO amplifies rounding, so the paths are compared while they are still one
    recipe = parse("5*ER + 5*HIO")
    fused = retrieve(pattern, recipe, start=Start(seed=1))
    readable = retrieve(pattern, recipe, start=Start(seed=1), kernels=kernels_numpy.Kernels)
    np.testing.assert_allclose(fused.errors, readable.errors, rtol=1e-4)


def test_warm_start_keeps_what_is_known(known, pattern):
    scaled = known.density * np.sqrt(known.intensity.sum() / known.density.size / known.support.sum())
    found = retrieve(pattern, parse("5*ER"), start=Start(initial=scaled))
    assert found.errors[0] < 0.01
    np.testing.assert_array_equal(found.support, known.support)


def test_a_stop_returns_what_there_is(pattern):
    asked = iter([False] * 7 + [True])
    found = retrieve(pattern, parse("100*ER"), stop=lambda: next(asked))
    assert found.outcome is Outcome.BUDGET
    assert len(found.errors) == 7
    assert np.isfinite(found.chi)


def test_an_object_that_is_not_finite_says_so(known, pattern):
    broken = known.density.copy()
    broken[16, 16, 16] = np.nan
    found = retrieve(pattern, SHORT, start=Start(initial=broken, support=known.support))
    assert found.outcome is Outcome.DIVERGED
    assert found.chi == np.inf


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i, m: (i[0], m[0]), "rocking, row, column"),
        (lambda i, m: (i, m[1:]), "mask has shape"),
        (lambda i, m: (np.where(i == i.max(), np.nan, i), m), "NaN"),
        (lambda i, m: (i - 1, m), "negative"),
        (lambda i, m: (0 * i, m), "no counts"),
        (lambda i, m: (i, ~m), "no counts"),
    ],
)
def test_what_cannot_be_phased_is_said(pattern, change, message):
    intensity, mask = change(pattern.intensity, pattern.mask)
    with pytest.raises(ScanError, match=message):
        Pattern(intensity=intensity, mask=mask)


def test_a_start_of_another_shape_is_said(pattern):
    with pytest.raises(ScanError, match="the start's support has shape"):
        retrieve(pattern, SHORT, start=Start(support=np.ones((4, 4, 4), bool)))
