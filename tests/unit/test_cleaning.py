"""What is not the crystal's: found where it was put, and nothing found where there is none."""

from pathlib import Path

import numpy as np
import pytest

from live_bcdi.cleaning import (
    background_counts,
    dead_pixels,
    flashes,
    hot_pixels,
    without_background,
    without_dark,
)
from live_bcdi.config import load_config
from live_bcdi.sim import scattering, simulate_scan
from live_bcdi.types import RockingScan, ScanError

CONFIG = Path(__file__).resolve().parents[2] / "config" / "34idc.toml"


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
    for frame, row, column in np.ndindex(counts.shape):
        box = counts[frame, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].copy()
        here = box[min(row, 1), min(column, 1)]
        box[min(row, 1), min(column, 1)] = 0
        expected[frame, row, column] = here > 10 * box.max() + 20
    assert expected.any()
    np.testing.assert_array_equal(flashes(counts), expected)


@pytest.mark.parametrize("frames", [slice(3, 5), slice(4, 20)])
def test_a_pixel_that_is_hot_in_part_of_the_scan_is_masked_there(frames):
    counts = pattern()
    counts[frames, 5, 7] = 400
    expected = np.zeros(counts.shape, bool)
    expected[frames, 5, 7] = True
    np.testing.assert_array_equal(flashes(counts), expected)


def test_a_pixel_that_is_a_little_hot_is_told_by_the_whole_scan():
    """Fifteen counts in a third of the frames: in no frame enough to be sure, and in the median nothing."""
    counts = np.random.default_rng(0).poisson(0.02, (24, 40, 48))
    counts[4:12, 5, 7] += 15
    expected = np.zeros(counts.shape[1:], bool)
    expected[5, 7] = True
    assert not flashes(counts).any()
    np.testing.assert_array_equal(hot_pixels(counts), expected)


def test_half_precision_counts_are_read_too():
    counts = pattern(background=2.0)
    counts = np.minimum(counts, 2000)  # exact in float16
    counts[:, 3, 4] = 1000
    np.testing.assert_array_equal(hot_pixels(counts.astype(np.float16)), hot_pixels(counts))
    assert hot_pixels(counts)[3, 4]


def test_hot_pixels_may_lie_side_by_side():
    counts = pattern()
    counts[:, 5, 7:9] = 500
    expected = np.zeros(counts.shape[1:], bool)
    expected[5, 7:9] = True
    np.testing.assert_array_equal(hot_pixels(counts), expected)


def test_a_hot_pixel_in_the_peak_is_masked_only_where_it_stands_above_the_peak():
    """A fringe off the middle: hidden where its neighbours are bright, alone in other frames."""
    counts = pattern()
    counts[:, 20, 30] = np.maximum(counts[:, 20, 30], 9000)
    around = counts[:, 19:22, 29:32].copy()
    around[:, 1, 1] = 0
    alone = 10 * around.max(axis=(1, 2)) + 20 < 9000
    assert 4 < alone.sum() < 20
    expected = np.zeros(counts.shape, bool)
    expected[alone, 20, 30] = True
    np.testing.assert_array_equal(flashes(counts), expected)


@pytest.mark.parametrize("oversampling", [2.0, 3.0])
@pytest.mark.parametrize("photons", [1e5, 1e9])
def test_nothing_of_a_crystal_is_hot_or_flashes(oversampling, photons, monkeypatch):
    """Also where fringes are two pixels wide, the fewest that can be phased, and the peak has 10^7 counts."""
    monkeypatch.setattr(scattering, "OVERSAMPLING", oversampling)
    for strain in ("none", "strong"):
        scan, _ = scattering.simulate_scan(
            config=load_config(CONFIG), shape=(32, 48, 48), photons=photons, strain=strain, seed=2
        )
        assert not hot_pixels(scan.intensity).any()
        assert not flashes(scan.intensity).any()
        # a pixel between fringes may be silent by chance: one in a thousand
        assert dead_pixels(scan.intensity).sum() <= 2


def test_dead_pixels_are_those_that_never_count_among_pixels_that_do():
    counts = pattern(background=2.0)
    counts[:, 5, 7] = 0
    counts[:, 30, 31:33] = 0
    expected = np.zeros((40, 48), bool)
    expected[5, 7] = expected[30, 31:33] = True
    np.testing.assert_array_equal(dead_pixels(counts), expected)


@pytest.mark.parametrize("rows", [slice(17, 18), slice(17, 22)])
def test_dead_rows_are_found_also_across_the_peak(rows):
    counts = pattern(background=2.0)
    counts[:, rows] = 0
    expected = np.zeros((40, 48), bool)
    expected[rows] = True
    np.testing.assert_array_equal(dead_pixels(counts), expected)


def test_a_dark_detector_is_not_dead():
    """One count in a hundred pixels: silence is what to expect."""
    assert not dead_pixels(np.random.default_rng(0).poisson(0.01 / 40, (40, 40, 48))).any()


def scan_of(counts, **known):
    geometry = simulate_scan(config=load_config(CONFIG), shape=(8, 8, 8), photons=1e3)[0].geometry
    angles = np.arange(len(counts)) * 0.01
    return RockingScan(name="dark", intensity=counts, angles_deg=angles, geometry=geometry, **known)


def test_the_dark_current_is_taken_off_and_hot_pixels_of_it_are_masked():
    rng = np.random.default_rng(0)
    true = pattern(background=0.0)
    dark = 50 + rng.normal(0, 2, true.shape[1:])
    dark[5, 7] = 900
    dark[6, 9] = np.nan
    counts = true + rng.poisson(np.nan_to_num(dark, nan=50.0), true.shape)
    counts[3, 4, 5], counts[2, 9, 9] = 70000, -1
    found = without_dark(scan_of(counts, saturation_counts=65535), dark)
    assert set(map(tuple, np.argwhere(found.bad_pixels))) == {(5, 7), (6, 9)}
    assert found.intensity[3, 4, 5] == found.intensity[2, 9, 9] == -1
    bright = (true > 1000) & (counts < 65535)
    # of two Poisson counts of 50: 10 at the worst in this many voxels is 1 %; nothing else is off
    np.testing.assert_allclose(found.intensity[bright], true[bright], atol=45)
    assert (found.intensity[bright] - true[bright]).mean() == pytest.approx(0, abs=2)
    with pytest.raises(ScanError, match="dark frame is"):
        without_dark(scan_of(counts), dark[1:])


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
