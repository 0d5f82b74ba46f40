"""Frames that stand steps away from the motor's angle, and what must not be taken for one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from live_bcdi.config import load_config
from live_bcdi.sim import simulate_moving
from live_bcdi.tracking import track_scan

FRAMES = 64
SWAPPED = {20: 10.0, 30: -10.0, 33: 8.0, 41: -8.0}


@pytest.fixture(scope="module")
def config():
    return load_config(Path(__file__).resolve().parents[3] / "config" / "34idc.toml")


def found(scan):
    """Frames that are said to be more than a step off, and by how much."""
    offsets = np.nan_to_num(track_scan(scan).found_steps)
    return {int(k): float(offsets[k]) for k in np.flatnonzero(np.abs(offsets) > 1.5)}


@pytest.mark.parametrize("photons", [1e5, 1e7])
def test_frames_far_out_of_order_are_found_where_they_are(config, photons):
    """They look like fringes finer than any crystal's, and each spoils the series that finds the others."""
    offsets = np.random.default_rng(5).normal(scale=0.2, size=FRAMES)
    true = offsets + [SWAPPED.get(k, 0.0) for k in range(FRAMES)]
    scan, _ = simulate_moving(config=config, offsets_steps=true, photons=photons, seed=1)
    told = found(scan)
    assert sorted(told) == sorted(SWAPPED)
    assert all(abs(told[k] - true[k]) < 1 for k in SWAPPED)


def test_what_no_crystal_makes_is_no_jump(config):
    """A background that outshines the dark frames: they are alike, and none is out of order. Of a measured scan
    with one, S0054, a free fit of all frames at once moved 80 of 201."""
    scan, _ = simulate_moving(config=config, offsets_steps=np.zeros(FRAMES), photons=1e7, seed=2)
    random = np.random.default_rng(3)
    lit = scan.intensity + random.poisson(1.0, scan.intensity.shape)
    assert found(replace(scan, intensity=lit.astype(np.int32))) == {}


def test_a_slow_warp_is_told_and_not_corrected(config):
    """The scan's middle ahead of its ends by half a step, as a crystal of another shape would look too."""
    warp = 0.6 * np.cos(np.linspace(-1.5 * np.pi, 1.5 * np.pi, FRAMES))
    scan, _ = simulate_moving(config=config, offsets_steps=warp, photons=1e7, seed=4)
    result = track_scan(scan)
    assert not result.corrected
    assert "slow warp" in result.reason
    assert np.abs(result.found_steps).max() > 0.1
