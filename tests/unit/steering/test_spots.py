import numpy as np
import pytest

from live_bcdi.steering.spots import find_spots, peak_counts, shells_of
from live_bcdi.types import ScanError

SHAPE = (96, 128)
ROWS, COLUMNS = np.indices(SHAPE)
Q = np.hypot(ROWS + 300.0, COLUMNS - 64.0) * 1e-3  # rings about a beam far above


def spot(row, column, counts, width=3.0):
    shape = np.exp(-((ROWS - row) ** 2 + (COLUMNS - column) ** 2) / 2 / width**2)
    return counts * shape / shape.sum()


def ring(q, counts):
    """So many in a pixel of its middle, six pixels wide."""
    return counts * np.exp(-((Q - q) ** 2) / 2 / 3e-3**2)


def seen(expected, seed=0, rings=None, bad=None):
    return find_spots(np.random.default_rng(seed).poisson(expected), bad, rings)


@pytest.mark.parametrize("background", [0.0, 0.01, 1.0, 30.0])
def test_a_spot_is_where_it_is_with_an_honest_error_bar(background):
    offs = []
    for seed in range(30):
        found = seen(spot(40.3, 70.8, 800.0) + background, seed)
        assert len(found) == 1
        (one,) = found
        offs += [(one.row - 40.3) / one.row_std, (one.column - 70.8) / one.column_std]
        assert one.counts == pytest.approx(800.0, rel=0.4 if background > 10 else 0.25)
    assert np.sqrt(np.mean(np.square(offs))) < 2.0  # what is cut off at a tenth pulls a little


@pytest.mark.parametrize("background", [0.0, 0.003, 0.1, 3.0, 100.0])
def test_noise_has_no_spots(background):
    assert not any(seen(np.full(SHAPE, background), seed) for seed in range(40))


def test_a_powder_ring_is_no_spot_but_a_spot_on_it_is():
    shells = shells_of(Q)
    for brightness in (2.0, 20.0, 200.0):
        assert seen(ring(0.34, brightness), rings=shells) == []
        assert seen(ring(0.34, brightness)) == []  # without its geometry it is long and thin
    (one,) = seen(ring(0.34, 20.0) + spot(40.0, 70.0, 3000.0), rings=shells)
    assert (one.row, one.column) == pytest.approx((40.0, 70.0), abs=0.5)


def test_hot_and_bad_pixels_are_no_spots():
    image = np.zeros(SHAPE)
    image[20, 30] = 1e5
    assert find_spots(image) == []
    bad = np.zeros(SHAPE, bool)
    bad[38:43, 60:90] = True
    noisy = image + 1e4 * bad
    (one,) = find_spots(noisy + np.random.default_rng(0).poisson(spot(70.0, 70.0, 500.0)), bad)
    assert one.row == pytest.approx(70.0, abs=1.0)
    assert find_spots(np.full(SHAPE, np.nan)) == []
    with pytest.raises(ScanError, match="frame"):
        find_spots(np.zeros(5))


def test_the_counts_of_a_peak_and_of_what_is_under_it():
    expected = spot(40.0, 70.0, 5000.0) + 2.0
    counts, background = peak_counts(np.random.default_rng(0).poisson(expected), (40.2, 69.7), 30)
    assert background == pytest.approx(2.0 * 30 * 30, rel=0.07)  # 29 or 30 pixels an edge
    assert counts - background == pytest.approx(5000.0, abs=4 * np.sqrt(5000 + 2 * 1800))
    bad = np.zeros(SHAPE, bool)
    bad[40:44, 60:80] = True
    less, _ = peak_counts(expected + 1e6 * bad, (40.2, 69.7), 30, bad)
    assert less < 7000
    with pytest.raises(ScanError, match="not on frames"):
        peak_counts(expected, (96.0, 5.0), 30)


def test_neighbours_are_two():
    found = seen(spot(30.0, 40.0, 2000.0) + spot(60.0, 90.0, 500.0) + 0.05)
    assert [round(each.row) for each in found] == pytest.approx([30, 60], abs=1)
