"""What is not the crystal's: found where it was put, and nothing found where there is none."""

import numpy as np
import pytest

from live_bcdi.cleaning import background_counts, flashes, without_background
from live_bcdi.types import ScanError


def pattern(background=0.2, seed=0):
    """A peak with a fringe of six voxels, as an oversampled pattern has, in Poisson counts."""
    z, y, x = np.meshgrid(*[np.arange(n) - n // 2 for n in (24, 40, 48)], indexing="ij")
    expected = 1e5 * (np.sinc(z / 6) * np.sinc(y / 6) * np.sinc(x / 6)) ** 2 + background
    return np.random.default_rng(seed).poisson(expected).astype(np.int32)


def test_flashes_are_where_they_were_put_and_fringes_are_not():
    counts = pattern()
    assert not flashes(counts).any()
    places = [(3, 5, 7), (0, 0, 0), (23, 39, 20), (12, 8, 47)]
    for place in places:
        counts[place] = 400
    assert sorted(map(tuple, np.argwhere(flashes(counts)))) == sorted(places)


def test_flashes_are_those_of_the_definition():
    """Against the sentence written out, on noise where some are near the line."""
    rng = np.random.default_rng(1)
    counts = (rng.pareto(0.7, (9, 11, 10)) * 3).astype(np.int64)
    expected = np.zeros(counts.shape, bool)
    for place in np.ndindex(counts.shape):
        box = tuple(slice(max(k - 1, 0), k + 2) for k in place)
        others = np.sort(counts[box].ravel())
        around = others[-2] if counts[place] == others[-1] else others[-1]
        expected[place] = counts[place] > 10 * around + 20
    assert expected.any()
    np.testing.assert_array_equal(flashes(counts), expected)


def test_a_pixel_that_is_hot_in_two_frames_is_no_flash():
    counts = pattern()
    counts[3:5, 5, 7] = 400
    assert not flashes(counts).any()


def test_background_is_that_of_the_corners_whatever_runs_into_two_of_them():
    counts = np.random.default_rng(3).poisson(0.2, (64, 64, 64)).astype(float)
    counts[:8, :8, :] += 30
    found = background_counts(counts, np.zeros(counts.shape, bool))
    # 512 voxels a corner: sqrt(0.2 / 512) = 0.02
    assert found == pytest.approx(0.2, abs=0.04)


def test_background_has_the_poisson_error_of_a_corner():
    counts = np.random.default_rng(2).poisson(0.3, (64, 64, 64))
    found = background_counts(counts, np.zeros(counts.shape, bool))
    # 512 voxels a corner: sqrt(0.3 / 512) = 0.024, and the median of eight is better
    assert found == pytest.approx(0.3, abs=0.04)
    masked = np.zeros(counts.shape, bool)
    counts[:, :32], masked[:, :32] = 1000, True
    assert background_counts(counts, masked) == pytest.approx(0.3, abs=0.05)
    masked[:] = True
    with pytest.raises(ScanError, match="give a number"):
        background_counts(counts, masked)


def test_subtraction_stops_at_nothing():
    np.testing.assert_array_equal(without_background(np.array([0.0, 0.5, 3.0]), 0.5), [0.0, 0.0, 2.5])
