"""What regridding does to monitors and masks. Scans of 1e9 photons, whose counting noise is no matter."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from live_bcdi.config import load_config
from live_bcdi.preprocess import prepare, scan_mask
from live_bcdi.sim import simulate_moving
from live_bcdi.tracking import regrid, track_scan

FRAMES = 64
RAY = 16, 24, 24  # a pixel of the peak, before it lights up


@pytest.fixture(scope="module")
def moved():
    """A scan with a jitter of 0.3 step, and its tracking, with the angles as they were."""
    config = load_config(Path(__file__).resolve().parents[3] / "config" / "34idc.toml")
    offsets = np.random.default_rng(5).normal(size=FRAMES)
    index = np.arange(FRAMES)
    offsets = 0.3 * (offsets - np.polyval(np.polyfit(index, offsets, 1), index))
    scan, _ = simulate_moving(config=config, offsets_steps=offsets, photons=1e9)
    found = track_scan(replace(scan, intensity=scan.intensity // 1000))
    return scan, replace(found, angles_deg=scan.angles_deg + found.step_deg * offsets, cutoff=0.2)


def test_a_beam_that_decays_is_taken_out_once(moved):
    """Half is gone at the end. Where the peak is, scaled frames are those of an even beam to a percent (a ramp is
    smoothed to a line but at its ends), and preprocessing leaves them as they are."""
    scan, found = moved
    beam = np.linspace(1.0, 0.5, FRAMES)
    decayed = replace(
        scan, intensity=(scan.intensity * beam[:, None, None]).astype(np.float32), monitor=1e6 * beam
    )
    there, even = regrid(decayed, found), regrid(scan, found)
    light = [each.intensity.sum(axis=(1, 2), dtype=np.float64) for each in (there, even)]
    ratio = light[0][16:48] / light[1][16:48]
    assert ratio == pytest.approx(beam.mean(), rel=0.01)
    kept, _ = prepare(there)
    alike, _ = prepare(replace(there, monitor=None))
    np.testing.assert_allclose(kept.intensity, alike.intensity, rtol=1e-6)


def spoiled(scan):
    """Saturated at half of the maximum, a voxel without a reading beside the peak, and a cosmic ray."""
    limit = float(scan.intensity.max()) / 2
    counts = np.minimum(scan.intensity, limit).astype(np.float32)
    peak = tuple(np.unravel_index(int(scan.intensity.argmax()), scan.intensity.shape))
    counts[peak[0], peak[1] + 3, peak[2]] = -1
    counts[RAY] = limit / 2
    return replace(scan, intensity=counts, saturation_counts=limit)


def test_what_is_masked_stays_masked_where_frames_are_even(moved):
    """Places are frames, and neighbours are a step away: the very voxels are masked, and no others."""
    scan, found = moved
    there = regrid(spoiled(scan), replace(found, angles_deg=scan.angles_deg))
    have = np.ones(FRAMES, bool)
    before, said = scan_mask(spoiled(scan), have)
    assert min(said[name] for name in ("saturated", "unreadable", "flashing")) > 0
    np.testing.assert_array_equal(scan_mask(there, have)[0], before)
    np.testing.assert_array_equal(prepare(there)[1].masked["unreadable"], np.count_nonzero(before))


def test_what_is_masked_tells_its_neighbours_nothing(moved):
    """Frames that moved: the pixel of the cosmic ray, a quarter of the maximum, is beside it as without,
    to 1 % of the maximum. Of a saturated peak no less is gone than was clipped, and what is left is right to a
    tenth of the maximum: beside a gap of many frames a series is less sure."""
    scan, found = moved
    there, whole = regrid(spoiled(scan), found), regrid(scan, found)
    left = there.intensity >= 0
    wrong = np.where(left, np.abs(there.intensity - whole.intensity), 0) / scan.intensity.max()
    beside = slice(RAY[0] - 3, RAY[0] + 4), *RAY[1:]
    assert 1 <= np.count_nonzero(~left[beside]) <= 3
    assert wrong[beside].max() < 0.01
    assert wrong.max() < 0.1
    clipped = np.count_nonzero(scan.intensity >= spoiled(scan).saturation_counts)
    assert np.count_nonzero(~left) >= clipped
    np.testing.assert_array_equal(scan_mask(there, there.have)[0][there.have], ~left[there.have])


def test_a_pattern_that_wobbles_is_put_back_where_that_is_sure(moved):
    """Shifts of 0.3 pixel, known: what is left of their misfit is a twentieth (undone the wrong way it is four
    times as large). With error bars that allow for them nothing is moved. What was masked stays so."""
    scan, found = moved
    config = load_config(Path(__file__).resolve().parents[3] / "config" / "34idc.toml")
    offsets = (found.angles_deg - scan.angles_deg) / found.step_deg
    shifts = 0.3 * np.random.default_rng(8).normal(size=(FRAMES, 2))
    wobbling, _ = simulate_moving(config=config, offsets_steps=offsets, photons=1e9, shifts_px=shifts)
    bars = {"row_shift": shifts[:, 0], "column_shift": shifts[:, 1]}

    def sure(std):
        return replace(found, **bars, row_shift_std=np.full(FRAMES, std), column_shift_std=np.full(FRAMES, std))

    still = regrid(scan, found).intensity
    undone, left = (regrid(wobbling, sure(std)).intensity for std in (0.02, 1.0))
    np.testing.assert_array_equal(left, regrid(wobbling, found).intensity)
    assert np.sum((undone - still) ** 2) < 0.05 * np.sum((left - still) ** 2)
    counts = wobbling.intensity.astype(np.float32)
    counts[:, 24, 26] = -1
    holed = regrid(replace(wobbling, intensity=counts), sure(0.02)).intensity
    assert (holed[:, 24, 26] < 0).all()
    far = np.hypot(*(np.indices(holed.shape[1:]) - np.array([24, 26])[:, None, None])) > 4
    assert np.abs(holed - undone)[:, far].max() < 0.02 * undone.max()
