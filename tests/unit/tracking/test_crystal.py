"""One crystal as the model of frames: its transform, the fit to counts, and angles that a series cannot tell."""

import numpy as np
import pytest

from live_bcdi.tracking.band import Band
from live_bcdi.tracking.crystal import CrystalFit, fitted, waves_of
from live_bcdi.tracking.fringes import Fringes
from live_bcdi.tracking.rolls import Turned

GRID, SHAPE = np.arange(24.0), (20, 18)
BAND = Band(order=4, period=27.0)
FRINGES = Fringes(angle=0.03, rows=0.04, columns=0.05)


@pytest.fixture
def waves():
    return waves_of(GRID, BAND, SHAPE, FRINGES)


def crystal(waves, photons=1e4):
    random = np.random.default_rng(0)
    voxels = (random.normal(size=(2, *waves.box())) + 1).astype(np.float32)
    made = np.asarray(voxels[0] + 1j * voxels[1], np.complex64)
    return made * np.sqrt(photons / np.mean(np.sum(np.abs(waves.seen(made)) ** 2, axis=(1, 2))))


def test_the_amplitudes_are_the_sum_over_voxels(waves):
    voxels, seen = crystal(waves), np.zeros((len(GRID), *SHAPE), complex)
    for a, b, c in np.ndindex(*waves.box()):
        seen += voxels[a, b, c] * np.einsum(
            "k,r,s->krs", waves.angles[:, a], waves.rows[:, b], waves.columns[:, c]
        )
    np.testing.assert_allclose(waves.seen(voxels), seen, atol=1e-4 * np.abs(seen).max())


def test_back_is_the_adjoint(waves):
    random = np.random.default_rng(1)
    voxels, wanted = crystal(waves), random.normal(size=(2, len(GRID), *SHAPE))
    amplitudes = (wanted[0] + 1j * wanted[1]).astype(np.complex64)
    assert np.vdot(amplitudes, waves.seen(voxels)) == pytest.approx(
        np.vdot(waves.back(amplitudes), voxels), rel=1e-4
    )


def test_the_object_is_as_large_as_series_and_fringes_say(waves):
    """4 / 27 cycles a step over 1.1 periods; 0.04 and 0.05 are 0.22 of the extents, over 1.2 widths."""
    assert waves.box() == (4, 5, 6)


def test_the_fit_does_not_get_worse_and_comes_near_the_truth(waves):
    """A fit of 240 parameters to 8640 counts at known angles is likelier than the truth, once it is there; with a
    wrong gradient it is nowhere near."""
    truth = crystal(waves)
    expected = np.abs(waves.seen(truth)) ** 2 + 0.01
    counts = np.random.default_rng(2).poisson(expected).astype(np.float32)
    begun = truth + 0.3 * np.abs(truth).mean() * np.random.default_rng(3).normal(size=truth.shape)
    weight = np.ones((len(GRID), 1, 1), np.float32)

    def cost(voxels):
        made = np.abs(waves.seen(voxels)) ** 2 + 0.01
        return float((made - counts * np.log(made)).sum())

    costs = [
        cost(fitted(begun.astype(np.complex64), waves, (counts, weight, np.float32(0.01)), n)) for n in (5, 20, 80)
    ]
    assert cost(begun) > costs[0] > costs[1] > costs[2]
    assert costs[2] < cost(truth)


def test_frames_that_are_shared_by_two_angles_count_half_at_each(waves):
    """Chances of a half at neighbours: what is expected there adds up to the counts of the frames."""
    expected = np.abs(waves.seen(crystal(waves))) ** 2
    counts = np.random.default_rng(2).poisson(expected).astype(np.float32).reshape(len(GRID), 1, -1)
    chance = np.zeros((len(GRID), 1, len(GRID)))
    for k in range(len(GRID)):
        chance[k, 0, k] += 0.5
        chance[k, 0, min(k + 1, len(GRID) - 1)] += 0.5
    turned = Turned(counts=counts, used=np.ones_like(counts), rolls_deg=np.zeros((len(GRID), 1)), shape=SHAPE)
    fit = CrystalFit(waves, SHAPE)
    for _ in range(8):
        model = fit(turned, chance)
    weight = chance.sum(axis=(0, 1))
    assert weight @ model.counts.sum(axis=1) == pytest.approx(counts.sum(), rel=0.01)
    assert (model.counts > 0).all()
