"""Assemblies against trajectories that are known: out of order with a motor, free and rolling without one."""

from pathlib import Path

import numpy as np
import pytest

from live_bcdi.config import load_config
from live_bcdi.sim import simulate_moving, simulate_tumbling
from live_bcdi.tracking import Roll, assemble, track_scan
from live_bcdi.types import ScanError

FRAMES = 64
NOMINAL = np.arange(FRAMES) - FRAMES / 2
SWAPPED = {25: 15, 40: -15, 30: 1, 31: -1}


@pytest.fixture(scope="module")
def config():
    return load_config(Path(__file__).resolve().parents[3] / "config" / "34idc.toml")


def moved(config, offsets, *, photons=1e6, seed=0):
    shifts = np.zeros(FRAMES)
    for frame, steps in offsets.items():
        shifts[frame] = steps
    return simulate_moving(config=config, offsets_steps=shifts, photons=photons, seed=seed)[0], shifts


@pytest.mark.parametrize("photons", [1e5, 1e6, 1e7])
def test_swapped_frames_are_put_back_and_told(config, photons):
    for seed in range(2):
        scan, shifts = moved(config, SWAPPED, photons=photons, seed=seed)
        found = assemble(scan.intensity, nominal=NOMINAL)
        np.testing.assert_allclose(found.angles - NOMINAL, shifts, atol=0.25)
        assert found.disorder.out_of_order == tuple(sorted(SWAPPED))
        assert not found.disorder.duplicates and not found.disorder.missing


def test_frames_in_order_stay_where_they_are(config):
    for seed in range(4):
        scan, _ = moved(config, {}, photons=1e5, seed=seed)
        found = assemble(scan.intensity, nominal=NOMINAL)
        np.testing.assert_array_equal(found.angles, NOMINAL)
        assert not any((found.disorder.out_of_order, found.disorder.duplicates, found.disorder.missing))


def test_a_frame_stored_twice_and_a_missing_one_are_told(config):
    """Frame 30 has the counts of 29: the one that belonged at its angle is gone. Frame 45 was taken where 20 was,
    with counts of its own."""
    scan, _ = moved(config, {45: -25})
    counts = scan.intensity.copy()
    counts[30] = counts[29]
    found = assemble(counts, nominal=NOMINAL)
    assert found.disorder.duplicates == ((29, 30), (20, 45))
    assert found.disorder.missing == (NOMINAL[30], NOMINAL[45])
    assert not found.disorder.out_of_order
    assert found.angles[30] == found.angles[29]
    assert not found.measured[30].any() and not found.measured[45].any() and found.measured[29].all()


def test_the_volume_is_that_of_frames_in_order(config):
    """The misfit to a scan of 1000 times the photons, beyond a still scan's own."""
    truth = moved(config, {}, photons=1e9)[0].intensity / 1e3

    def misfit(scan):
        volume = assemble(scan.intensity, nominal=NOMINAL).volume
        return np.mean((np.sqrt(volume) - np.sqrt(truth))[:, 16:32, 16:32] ** 2)

    assert misfit(moved(config, SWAPPED)[0]) < 1.1 * misfit(moved(config, {})[0])


def test_bad_pixels_do_not_move_anything(config):
    scan, shifts = moved(config, SWAPPED)
    bad = np.zeros(scan.intensity.shape[1:], bool)
    bad[20:23, 24] = True
    counts = scan.intensity.copy()
    counts[:, bad] = np.random.default_rng(0).integers(0, 10**6, (FRAMES, 3))
    found = assemble(counts, nominal=NOMINAL, bad_pixels=bad)
    np.testing.assert_allclose(found.angles - NOMINAL, shifts, atol=0.25)
    assert not found.measured[:, bad].any()


def test_tracking_brings_swapped_frames_near_and_refines_them(config):
    jitter = 0.2 * np.random.default_rng(3).normal(size=FRAMES)
    jitter -= np.polyval(np.polyfit(NOMINAL, jitter, 1), NOMINAL)
    shifts = jitter.copy()
    for frame, steps in SWAPPED.items():
        shifts[frame] += steps
    scan, _ = simulate_moving(config=config, offsets_steps=shifts, photons=1e6)
    found = track_scan(scan)
    assert found.corrected and "frames stand a step or more" in found.reason
    np.testing.assert_allclose(found.offset_steps, shifts, atol=0.6)
    bright = scan.intensity.sum(axis=(1, 2))
    error = np.sqrt(np.average((found.offset_steps - shifts) ** 2, weights=bright))
    assert error < 0.6 * np.sqrt(np.average(jitter**2, weights=bright))


UNEVEN = np.linspace(-27, 27, 80) + 4 * np.sin(2 * np.pi * np.arange(80) / 27) * (
    1 - np.abs(np.arange(80) / 40 - 1)
)
THERE_AND_BACK = np.interp(np.arange(80), [0, 40, 60, 79], [-27, 12, -6, 27])


@pytest.mark.parametrize(("angles", "allowed"), [(UNEVEN, 0.13), (THERE_AND_BACK, 0.2)])
def test_a_free_crystal_is_followed_up_to_scale(config, angles, allowed):
    """Angles up to direction, offset and scale, at an uneven pace and back over the peak; by counts, a ramp
    through the frames is 2 and 4.2 steps off, and a slow warp of 0.18 and 0.64 is left: 0.34 and 0.64 without the
    last fit, begun anew, and 0.60 and 0.73 of a series for a model. Nine fringes pass, and it rolls by up
    to 8 pixels."""
    centre, lever = (230.0, 30.0), 200.0
    made = simulate_tumbling(
        config=config,
        angles_steps=angles,
        rolls_deg=np.rad2deg(np.interp(np.arange(80), [0, 20, 45, 79], [-8, 5, -3, 8]) / lever),
        centre=centre,
        detector=(60, 60),
        photons=3e3,
        oversampling=6.0,
    )
    found = assemble(made.counts, roll=Roll(centre=made.centre), terms=21)
    bright = made.counts.sum(axis=(1, 2))

    def error(guess):
        line = np.polyfit(guess, angles, 1, w=np.sqrt(bright))
        return np.sqrt(np.average((np.polyval(line, guess) - angles) ** 2, weights=bright))

    assert error(found.angles) < allowed * error(np.arange(80.0))
    turned = np.deg2rad(found.rolls_deg - made.rolls_deg) * lever
    turned -= np.average(turned, weights=bright)
    assert np.sqrt(np.average(turned**2, weights=bright)) < 1.0  # pixels; of +- 8
    wrong = np.deg2rad(-found.rolls_deg - made.rolls_deg) * lever
    assert np.std(wrong) > 3


def test_what_cannot_be_assembled_is_said(config):
    frames = np.ones((20, 10, 10))
    with pytest.raises(ScanError, match="12 frames"):
        assemble(frames[:5])
    with pytest.raises(ScanError, match="too small"):
        assemble(np.ones((20, 1, 9)))
    with pytest.raises(ScanError, match="finite nominal"):
        assemble(frames, nominal=np.arange(19.0))
    with pytest.raises(ScanError, match="bad pixels are"):
        assemble(frames, bad_pixels=np.zeros((9, 10), bool))
    with pytest.raises(ScanError, match="not negative"):
        assemble(-frames)
    with pytest.raises(ScanError, match="no counts"):
        assemble(0 * frames)
    with pytest.raises(ScanError, match="terms"):
        assemble(frames, terms=1)
