"""Places of patterns that were put somewhere, with holes and noise."""

import numpy as np
import pytest

from live_bcdi import registration
from live_bcdi.registration import displacement, locate, places
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
    ("first", "second"),
    [
        (gap(), gap()),
        (unmasked(), gap()),
        (gap(slice(20, 23)), gap(slice(26, 29))),
        (gap(slice(24, 27)), gap(slice(24, 27))),
    ],
)
@pytest.mark.parametrize("bright", [1.0, 3.0])
def test_a_gap_pulls_at_no_displacement(first, second, bright):
    """A gap beside the peak pulls the place of each pattern by 0.1 voxels and more, but not what is between: to
    what a cubic spline makes of a border of 3 voxels."""
    before = np.where(first, 0, fringes())
    after = np.where(second, 0, bright * fringes(PLACE + MOVED))
    found = displacement((before, first), (after, second))
    np.testing.assert_allclose(found, MOVED, atol=0.01)


def test_with_a_gap_the_error_bars_are_those_of_repeats():
    """Eight pairs of 3 numbers tell a ratio to 14 %."""
    random, mask, ratios = np.random.default_rng(3), gap(slice(24, 27)), []
    for _ in range(8):
        counts = [np.where(mask, 0, random.poisson(fringes(place, 1e4))) for place in (PLACE, PLACE + MOVED)]
        here, there = places((counts[0], mask), (counts[1], mask))
        error = np.subtract(there.voxel, here.voxel) - MOVED
        ratios.append(error / np.sqrt(np.diag(here.covariance + there.covariance)))
    assert np.sqrt(np.mean(np.square(ratios))) == pytest.approx(1, abs=0.5)


def test_what_a_gap_pulls_at_one_place_is_in_its_error_bar():
    """Wherever the gap is; without that part the error would be hundreds of error bars."""
    ratios = []
    for start in range(17, 31):
        mask = gap(slice(start, start + 3))
        found = locate(np.where(mask, 0, fringes(counts=1e8)), mask)
        ratios.append((found.voxel[2] - PLACE[2]) / np.sqrt(found.covariance[2, 2]))
    assert 0.3 < np.sqrt(np.mean(np.square(ratios))) < 1.5


def test_where_nothing_was_measured_twice_each_place_stands_by_itself():
    masks = [unmasked(), unmasked()]
    masks[0][:, :, :26], masks[1][:, :, 18:] = True, True
    pair = [(np.where(mask, 0, fringes()), mask) for mask in masks]
    found = places(*pair)
    assert [each.voxel for each in found] == [locate(*each).voxel for each in pair]


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
