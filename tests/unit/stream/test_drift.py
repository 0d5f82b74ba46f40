"""Centroids are those of the counts, with the scatter that counting noise gives them."""

from dataclasses import replace

import numpy as np
import pytest

from live_bcdi.stream.drift import EDGE, Centroids
from live_bcdi.stream.fakes import MemoryStore, frames_of, plan_of, small_scan
from live_bcdi.stream.live import LiveRun

SHAPE = (60, 80)


def spot(row, column, counts, width=2.0):
    rows, columns = np.ogrid[: SHAPE[0], : SHAPE[1]]
    shape = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * width**2))
    return counts * shape / shape.sum()


def scan_of(expected, seed=0):
    """Poisson counts of (frame, row, column), with no bad pixel."""
    frames = np.random.default_rng(seed).poisson(expected).astype(np.int32)
    return replace(small_scan(num=len(expected), shape=SHAPE), intensity=frames, bad_pixels=None)


def centroids_of(scan, pixel=(30, 40)):
    live = LiveRun(plan_of(scan), lambda: 0.0)
    for frame in frames_of(scan):
        live.add(frame)
    centroids = Centroids(len(scan.intensity))
    centroids.look(live.assembler, pixel)
    return centroids


def test_error_bars_are_the_scatter_of_poisson_counts():
    """400 frames of the same spot; its width over the root of its counts is 2 / sqrt(500)."""
    centroids = centroids_of(scan_of(np.repeat(spot(30.3, 41.6, 500.0)[None], 400, axis=0)))
    for place, std, true in (
        (centroids.row, centroids.row_std, 30.3),
        (centroids.column, centroids.column_std, 41.6),
    ):
        assert place.mean() == pytest.approx(true, abs=4 * 2 / np.sqrt(500 * 400))
        assert place.std() == pytest.approx(2 / np.sqrt(500), rel=4 / np.sqrt(2 * 400))
        assert std.mean() == pytest.approx(place.std(), rel=4 / np.sqrt(2 * 400))


def test_a_step_of_the_sample_is_seen_with_its_sign():
    expected = np.stack([spot(30 + 1.5 * (k >= 6), 40 - 0.5 * (k >= 6), 1e4) for k in range(12)])
    centroids = centroids_of(scan_of(expected))
    step = [values[6:].mean() - values[:6].mean() for values in (centroids.row, centroids.column)]
    assert step == pytest.approx([1.5, -0.5], abs=0.05)


def test_few_counts_bad_pixels_and_codes_for_no_reading_give_no_place():
    expected = np.stack([spot(30, 40, 3.0), spot(30, 40, 1e4), spot(30, 40, 1e4), spot(30, 40, 1e4)])
    scan = scan_of(expected)
    scan.intensity[1, 25, 35] = 1_000_000  # bad
    scan.intensity[2, 24, 34] = -1  # no reading
    bad = np.zeros(SHAPE, bool)
    bad[25, 35] = True
    centroids = centroids_of(replace(scan, bad_pixels=bad))
    assert np.isnan(centroids.row[0]) and np.isnan(centroids.column_std[0])
    assert centroids.row[1:] == pytest.approx([30, 30, 30], abs=0.1)


def test_all_frames_are_looked_at_again_where_the_peak_is_elsewhere_and_at_the_rim():
    """A box at the detector's corner is whole, and a new place gives new values of the old frames too."""
    scan = scan_of(np.stack([spot(2, 3, 1e4) + spot(50, 70, 100.0)] * 3))
    live = LiveRun(plan_of(scan), lambda: 0.0)
    for frame in frames_of(scan)[:2]:
        live.add(frame)
    centroids = Centroids(3)
    centroids.look(live.assembler, (50, 70))
    assert centroids.row[:2] == pytest.approx([50, 50], abs=1.0)
    live.finish(MemoryStore(scan))
    centroids.look(live.assembler, (2, 3))
    box = scan.intensity[:, :EDGE, :EDGE].sum(axis=2)
    assert centroids.row == pytest.approx((box @ np.arange(EDGE)) / box.sum(axis=1))


def test_the_page_is_told_what_is_known():
    scan = replace(
        scan_of(np.stack([spot(30, 40, 1e4)] * 5)), monitor=None, timestamps_s=5.0 + np.arange(5.0) ** 2
    )
    live = LiveRun(plan_of(scan), lambda: 0.0)
    for frame in frames_of(scan)[1:]:
        live.add(frame)
    arrays = live.update().arrays
    assert "monitor" not in arrays
    np.testing.assert_array_equal(arrays["times_s"], np.array([np.nan, 0, 3, 8, 15], np.float32))
    assert np.isnan(arrays["centroid_row"][0]) and arrays["centroid_row"][1:] == pytest.approx([30] * 4, abs=0.2)
