"""Places of patterns that were put somewhere, with holes and noise."""

import numpy as np
import pytest

from live_bcdi import registration
from live_bcdi.registration import displacement, locate
from live_bcdi.types import ScanError

SHAPE = (36, 40, 44)
PLACE = np.array([17.3, 20.45, 21.8])


def fringes(place=PLACE, counts=1e5):
    """A parallelepiped's pattern, fringes of six voxels, symmetric about its place."""
    z, y, x = np.meshgrid(*(np.arange(n) - c for n, c in zip(SHAPE, place)), indexing="ij")
    pattern = (np.sinc(z / 6) * np.sinc(y / 7) * np.sinc((x + 0.3 * y) / 6.5)) ** 2
    return counts * pattern / pattern.sum()


def unmasked():
    return np.zeros(SHAPE, bool)


@pytest.mark.parametrize("place", [PLACE, (18.0, 20.0, 22.0), (14.5, 25.5, 19.9)])
def test_a_symmetric_pattern_is_where_it_is_symmetric_about(place):
    """Without noise, to what the fringes beyond the window and the array's edge still weigh."""
    np.testing.assert_allclose(locate(fringes(place), unmasked()).voxel, place, atol=1e-4)


def test_an_even_background_does_not_pull():
    found = locate(fringes() + 2.0, unmasked())
    np.testing.assert_allclose(found.voxel, PLACE, atol=1e-2)
    assert (np.diag(found.covariance) > np.diag(locate(fringes(), unmasked()).covariance)).all()


@pytest.mark.parametrize("counts", [300, 1e4, 1e6])
def test_the_covariance_is_that_of_repeats(counts):
    random = np.random.default_rng(1)
    places, said = [], []
    for _ in range(80):
        found = locate(random.poisson(fringes(counts=counts)), unmasked())
        places.append(found.voxel)
        said.append(found.covariance)
    # standard deviations of 80 values are known to 8 %
    np.testing.assert_allclose(np.std(places, axis=0) / np.sqrt(np.diag(np.mean(said, axis=0))), 1, atol=0.32)
    np.testing.assert_allclose(np.mean(places, axis=0), PLACE, atol=4 * np.std(places) / np.sqrt(80))
    correlation = np.corrcoef(np.transpose(places))[1, 2]
    expected = np.mean(said, axis=0)[1, 2] / np.sqrt(np.mean(said, axis=0)[1, 1] * np.mean(said, axis=0)[2, 2])
    assert correlation == pytest.approx(expected, abs=4 / np.sqrt(80))


def test_saturated_voxels_are_filled_from_around():
    """Left at zero they pull by twice as much."""
    full = fringes() > 0.7 * fringes().max()
    found = locate(np.where(full, 0, fringes()), full)
    np.testing.assert_allclose(found.voxel, PLACE, atol=0.05)
    assert 0.5 < found.measured < 1


MOVED = np.array([0.6, -0.35, 0.8])


def gap(columns=slice(26, 29)):
    """Of the detector: it does not move with the pattern."""
    mask = unmasked()
    mask[:, :, columns] = True
    return mask


@pytest.mark.parametrize(
    ("first", "second"), [(gap(), gap()), (unmasked(), gap()), (gap(slice(20, 23)), gap(slice(26, 29)))]
)
@pytest.mark.parametrize("bright", [1.0, 3.0])
def test_a_gap_pulls_at_no_displacement(first, second, bright):
    """A gap beside the peak pulls the place of each pattern by 0.1 voxels and more, but not what is between."""
    before = np.where(first, 0, fringes())
    after = np.where(second, 0, bright * fringes(PLACE + MOVED))
    found = displacement((before, first), (after, second))
    np.testing.assert_allclose(found, MOVED, atol=0.03)


def test_saturation_pulls_at_no_displacement():
    pairs = []
    for place in (PLACE, PLACE + MOVED):
        full = fringes(place) > 0.6 * fringes().max()
        pairs.append((np.where(full, 0, fringes(place)), full))
    np.testing.assert_allclose(displacement(*pairs), MOVED, atol=0.02)


def test_a_second_crystal_far_off_does_not_count():
    strange = fringes() + 0.3 * fringes(PLACE - [0, 14, 0])
    np.testing.assert_allclose(locate(strange, unmasked()).voxel, PLACE, atol=0.1)


def test_what_has_no_place_is_refused(monkeypatch):
    with pytest.raises(ScanError, match="no counts"):
        locate(np.zeros(SHAPE), unmasked())
    monkeypatch.setattr(registration, "_STEPS", 1)
    with pytest.raises(ScanError, match="no one place"):
        locate(fringes(), unmasked())


def test_a_window_has_a_width():
    with pytest.raises(ScanError, match="some width"):
        locate(fringes(), unmasked(), width_voxels=0)
