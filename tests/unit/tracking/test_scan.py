"""Tracking against trajectories that are known. Shift and stretch of a whole scan are taken off both."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from live_bcdi.config import load_config
from live_bcdi.phasing import phase
from live_bcdi.sim import simulate_moving
from live_bcdi.tracking import refine_angles, regrid, track_scan
from live_bcdi.types import ScanError

FRAMES = 64


@pytest.fixture(scope="module")
def config():
    return load_config(Path(__file__).resolve().parents[3] / "config" / "34idc.toml")


def unstretched(offsets):
    index = np.arange(len(offsets))
    return offsets - np.polyval(np.polyfit(index, offsets, 1), index)


def jitter(size, seed=0):
    return size * unstretched(np.random.default_rng(seed).normal(size=FRAMES))


def rms(values, weight=None):
    return float(np.sqrt(np.average(values**2, weights=weight)))


@pytest.fixture(scope="module")
def moved(config):
    """A scan at 1e6 photons with a jitter of 0.3 step, the jitter, and what was found."""
    offsets = jitter(0.3)
    scan, _ = simulate_moving(config=config, offsets_steps=offsets, photons=1e6)
    return scan, offsets, track_scan(scan)


def test_jitter_is_found_with_its_sign_and_its_size(moved):
    """The prior alone would leave 0.3; the sign is right where the frames say something (a swapped one would give
    a correlation of -0.8 and double the error), and the size of the jitter is known to 1 / sqrt(2 * 64) = 9 %,
    here to three times that."""
    scan, offsets, found = moved
    bright = scan.intensity.sum(axis=(1, 2))
    assert found.corrected
    assert np.corrcoef(found.found_steps, offsets)[0, 1] > 0.7
    assert rms(found.found_steps - offsets, bright) < 0.65 * rms(offsets, bright)
    assert found.jitter_steps == pytest.approx(rms(offsets), rel=0.27)
    np.testing.assert_allclose(found.angles_deg, scan.angles_deg + found.step_deg * found.offset_steps)


def test_with_the_object_the_angles_are_found_to_a_twentieth_of_a_step(moved):
    """By counts, and less the shift and stretch that nothing shows: 0.03 is the bound were the object known."""
    scan, offsets, found = moved
    even = regrid(scan, found)
    lost = np.zeros(scan.intensity.shape, bool) if even.have is None else ~even.have[:, None, None]
    result = phase(even.intensity, mask=np.broadcast_to(lost, scan.intensity.shape), starts=2, device="cpu")
    refined = refine_angles(scan, result, found)
    bright, index = scan.intensity.sum(axis=(1, 2)), np.arange(FRAMES)
    error = refined.found_steps - offsets
    assert rms(error - np.polyval(np.polyfit(index, error, 1, w=np.sqrt(bright)), index), bright) < 0.05
    assert rms(error) < 0.9 * rms(found.found_steps - offsets)
    np.testing.assert_allclose(refined.angles_deg, scan.angles_deg + found.step_deg * refined.offset_steps)
    assert 0.5 < np.mean((error / refined.std_steps) ** 2) < 2  # as below; without the prior's share it is 2.3
    for shift, std in (
        (refined.row_shift, refined.row_shift_std),
        (refined.column_shift, refined.column_shift_std),
    ):
        assert np.mean((shift / std) ** 2) < 1.5  # none is there
    with pytest.raises(ScanError, match="the result is of"):
        refine_angles(scan, replace(result, density=result.density[:32]), found)
    with pytest.raises(ScanError, match="no support"):
        refine_angles(scan, replace(result, support=np.zeros_like(result.support)), found)
    still = replace(found, corrected=False)
    assert refine_angles(scan, result, still) is still


def test_frames_out_of_order_are_refined_where_they_were_found(config):
    """Two that changed places: found to a third of a step, and nothing says that one crystal does not explain it.
    About the file's angles their prior of 0.2 step would be broken by fifty of its widths. Of two starts the
    better one is a poor retrieval now and then, and the angles are off by 0.2 step with it; of four it was none of
    five."""
    offsets = jitter(0.2, 5)
    offsets[[26, 36]] += 10, -10
    scan, _ = simulate_moving(config=config, offsets_steps=offsets, photons=1e6, seed=1)
    found = track_scan(scan)
    result = phase(regrid(scan, found).intensity, starts=4, device="cpu")
    refined = refine_angles(scan, result, found)
    assert refined.reason.endswith("refined with the object")
    assert np.abs(refined.found_steps - offsets)[[26, 36]].max() < 0.33
    bright = scan.intensity.sum(axis=(1, 2))
    assert rms(refined.found_steps - offsets, bright) < 0.1
    assert refined.jitter_steps < 0.5


def test_error_bars_are_the_errors(moved):
    """64 errors over their standard deviations: their mean square is 1 within 3 sqrt(2 / 64) = 0.53, were they
    independent."""
    _, offsets, found = moved
    assert 0.47 < np.mean(((found.found_steps - offsets) / found.std_steps) ** 2) < 1.53


@pytest.mark.parametrize("photons", [1e5, 1e6])
def test_a_still_crystal_is_not_made_to_move(config, photons):
    """Twelve scans at each of two photon counts. At the evidence asked for, 150 to 1, none is expected to."""
    for seed in range(12):
        still, _ = simulate_moving(config=config, offsets_steps=np.zeros(FRAMES), photons=photons, seed=seed)
        found = track_scan(still)
        assert not found.corrected, (seed, found.reason)
        assert not found.offset_steps.any()
        assert regrid(still, found) is still


def test_missing_and_repeated_frames_bad_pixels_and_a_flickering_beam_are_no_motion(config):
    still, _ = simulate_moving(config=config, offsets_steps=np.zeros(FRAMES), photons=1e6, seed=3)
    beam = np.random.default_rng(0).uniform(0.7, 1.3, FRAMES)
    have = np.ones(FRAMES, bool)
    have[[5, 30, 50]] = False
    stale = 40
    bad = np.zeros(still.intensity.shape[1:], bool)
    bad[20:23, 24] = True
    counts = np.random.default_rng(1).binomial(still.intensity, beam[:, None, None] / 1.3).astype(np.int32)
    counts[~have] = 0
    counts[stale] = counts[stale - 1]
    counts[:, bad] = 10_000
    found = track_scan(replace(still, intensity=counts, monitor=1e6 * beam, have=have, bad_pixels=bad))
    assert not found.corrected, found.reason
    have[stale] = False
    assert np.isnan(found.angles_deg[~have]).all() and np.isfinite(found.angles_deg[have]).all()
    left = regrid(replace(still, intensity=counts), found)
    assert left.intensity is counts
    np.testing.assert_array_equal(left.have, have)


def test_regridded_frames_are_nearer_to_those_of_a_still_crystal(config, moved):
    """Counts of many photons stand for the truth. What is compared is the misfit beyond counting noise."""
    scan, _, found = moved
    truth, _ = simulate_moving(config=config, offsets_steps=np.zeros(FRAMES), photons=1e9)
    expected = truth.intensity / 1e3
    there = regrid(scan, found)
    assert there.have is not None and there.intensity.dtype == np.float32

    def misfit(intensity):
        return np.mean((np.sqrt(intensity) - np.sqrt(expected))[there.have][:, 16:32, 16:32] ** 2)

    assert misfit(there.intensity) < 0.75 * misfit(scan.intensity)
    assert misfit(
        regrid(scan, replace(found, angles_deg=2 * scan.angles_deg - found.angles_deg)).intensity
    ) > 2 * (misfit(there.intensity))


def test_a_place_where_no_frame_was_is_masked(moved):
    scan, _, found = moved
    angles = np.array(scan.angles_deg)
    angles[32] += 1.5 * found.step_deg
    assert np.flatnonzero(~regrid(scan, replace(found, angles_deg=angles)).have).tolist() == [32]
    angles[31:34] = scan.angles_deg[35]
    gone = regrid(scan, replace(found, angles_deg=angles))
    assert not gone.have[32] and not gone.intensity[32].any()


def test_what_cannot_be_tracked_is_said(config, moved):
    scan, _, found = moved
    with pytest.raises(ScanError, match="at least 12 frames"):
        track_scan(replace(scan, have=np.arange(FRAMES) < 5))
    with pytest.raises(ScanError, match="501 frames are more than the 500"):
        many = replace(
            scan, intensity=np.arange(501 * 16).reshape(501, 4, 4), angles_deg=np.arange(501.0), monitor=None
        )
        track_scan(many)
    with pytest.raises(ScanError, match="stands still"):
        track_scan(replace(scan, angles_deg=np.zeros(FRAMES)))
    with pytest.raises(ScanError, match="too coarse"):
        track_scan(scan, cutoff=0.45)
    with pytest.raises(ScanError, match="no counts"):
        track_scan(replace(scan, intensity=0 * scan.intensity))
    short = replace(found, angles_deg=found.angles_deg[:5])
    with pytest.raises(ScanError, match="but the tracking is of 5"):
        regrid(scan, short)


def test_still_crystals_that_are_oversampled_four_times_stand_still_and_of_three_times_nothing_is_said(config):
    """Many counts: a sharp peak, which a series of 0.8 terms a frame does not explain."""
    still = {"offsets_steps": np.zeros(FRAMES), "photons": 1e7}
    found = track_scan(simulate_moving(config=config, **still, finer=4 / 3)[0])
    assert not found.corrected and np.abs(found.found_steps).max() < 0.05
    with pytest.raises(ScanError, match="too coarse"):
        track_scan(simulate_moving(config=config, **still, finer=1.0)[0])


def test_frames_that_turn_while_they_count_are_regridded_sharp(config, moved):
    """A still crystal, a continuous scan of two steps a frame and so many counts that they do not matter: chi
    squared against an axis that stood, where the blur is known and where it is not."""
    _, _, found = moved
    turned, _ = simulate_moving(config=config, offsets_steps=np.zeros(FRAMES), photons=1e9, smear_steps=2.0)
    stood, _ = simulate_moving(config=config, offsets_steps=np.zeros(FRAMES), photons=1e11)
    there = replace(found, angles_deg=turned.angles_deg, cutoff=0.2)
    expected = stood.intensity / 1e2

    def misfit(scan):
        return np.mean((regrid(scan, there).intensity - expected) ** 2 / (expected + 1))

    assert turned.angular_blur_deg == pytest.approx(2 * abs(turned.angles_deg[1] - turned.angles_deg[0]))
    assert misfit(turned) < 0.2 * misfit(replace(turned, angular_blur_deg=None))
    assert regrid(turned, there).angular_blur_deg is None


def test_a_pattern_that_wobbles_on_the_detector_is_followed(config):
    """By 0.1 pixel rms: with the sign of the detector's axes, to half of it by counts; and said in rotations, of
    which that along the rocking axis is the angle's."""
    shifts = np.stack([0.1 * unstretched(np.random.default_rng(seed).normal(size=FRAMES)) for seed in (3, 4)])
    offsets = jitter(0.3)
    scan, _ = simulate_moving(config=config, offsets_steps=offsets, photons=1e6, shifts_px=shifts.T)
    found = track_scan(scan)
    result = phase(regrid(scan, found).intensity, starts=2, device="cpu")
    refined = refine_angles(scan, result, found)
    bright = scan.intensity.sum(axis=(1, 2))
    for seen, true in zip((refined.row_shift, refined.column_shift), shifts):
        assert rms(seen - true, bright) < rms(true, bright) / 2
    turned = 1e3 * found.step_deg * refined.offset_steps
    assert np.corrcoef(refined.rotation_mdeg[:, 0], turned)[0, 1] > 0.9
    assert rms(refined.rotation_std_mdeg[:, 1], bright) < 1
