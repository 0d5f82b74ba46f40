"""A retrieval on larger voxels is that of the object's low frequencies."""

import numpy as np
import pytest

from live_bcdi.phasing import Pattern, Plan, parse, phase, phase_pattern
from live_bcdi.phasing.align import aligned_to
from live_bcdi.phasing.coarse import retrieve_coarse
from live_bcdi.phasing.engine import Retrieval, Start, retrieve
from live_bcdi.phasing.metrics import centred_transform, chi
from live_bcdi.types import Outcome, ScanError


@pytest.fixture
def pattern(known):
    return Pattern(intensity=known.intensity, mask=np.zeros(known.intensity.shape, bool))


def as_given(pattern, starts):
    """No retrieval at all: what is made of the start on the way to coarse voxels and back."""
    kind = {"chi": 0.0, "errors": (), "outcome": Outcome.DONE}
    return [Retrieval(density=each.initial, support=each.support, **kind) for each in starts]


@pytest.mark.parametrize("by", [2, 3])
def test_the_way_there_and_back_keeps_the_low_frequencies(known, pattern, by):
    start = Start(initial=known.density, support=known.support)
    found = retrieve_coarse(pattern, by, [start], as_given)[0]
    n, m = 32, 32 // by
    low = np.zeros((n, n, n), bool)
    low[(slice(n // 2 - m // 2, n // 2 - m // 2 + m),) * 3] = True
    expected = np.where(low, centred_transform(known.density), 0)
    # complex64: log2(32^3) roundings of 6e-8 in each of four transforms
    np.testing.assert_allclose(centred_transform(found.density), expected, atol=4e-6 * np.abs(expected).max())
    # a voxel's place is right to half a coarse voxel: the support differs at its surface only
    overlap = np.count_nonzero(found.support & known.support) / np.count_nonzero(found.support | known.support)
    assert overlap > (0.6 if by == 2 else 0.4)


def test_chi_is_that_of_the_whole_pattern(known, pattern):
    recipe = parse("5*ER")
    start = Start(initial=known.density, support=known.support)
    found = retrieve_coarse(pattern, 2, [start], lambda small, starts: [retrieve(small, recipe, start=starts[0])])
    modulus = np.abs(centred_transform(found[0].density))
    assert found[0].chi == pytest.approx(chi(modulus, pattern.intensity, pattern.mask), rel=1e-3)


def test_a_coarse_generation_first_finds_the_crystal(known):
    first = "Coarse + 20*ER + 5*(20*HIO + ShrinkWrap(sigma=1, threshold=0.15)) + 10*ER"
    found = phase(
        known.intensity, recipe=f"{first} + Guide(keep=2) + 20*HIO + 10*ER + ShrinkWrap + 30*ER", starts=4
    )
    image = aligned_to(known.density, found.density)
    assert abs(np.vdot(known.density, image)) / np.linalg.norm(known.density) / np.linalg.norm(image) > 0.97
    assert len(found.chi_starts) == 2


def test_a_coarse_end_is_given_at_the_patterns_resolution(known):
    found = phase(known.intensity, recipe="Coarse + 20*ER", starts=1)
    assert found.density.shape == found.support.shape == known.intensity.shape
    assert found.metrics["chi"] == pytest.approx(found.chi, rel=1e-3)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [("5*ER + Coarse", "comes first"), ("Coarse(by=1) + ER", "at least 2"), ("Coarse(by=5) + ER", "leave it out")],
)
def test_coarse_in_the_wrong_place_is_said(known, recipe, message):
    with pytest.raises(ScanError, match=message):
        phase(known.intensity, recipe=recipe, starts=1)


@pytest.mark.parametrize("edge", [8, 24])
def test_a_start_of_another_shape_is_refused(pattern, edge):
    """Before its middle is taken, which a larger one than the coarse volume has."""
    initial = np.ones((edge,) * 3, np.complex64)
    plan = Plan(recipe="Coarse + 2*ER", starts=1, guess=lambda _: [initial])
    with pytest.raises(ScanError, match="initial has shape"):
        phase_pattern(pattern, plan)
