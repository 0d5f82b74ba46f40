"""Crystals that turn and strain within a scan: seen as the tracking between scans sees them."""

from pathlib import Path

import numpy as np
import pytest

from live_bcdi.config import load_config
from live_bcdi.preprocess import prepare
from live_bcdi.sim import seen_by_frames, simulate_moving
from live_bcdi.tracking import find_peak, motion_between

FRAMES = 64


@pytest.fixture(scope="module")
def config():
    return load_config(Path(__file__).resolve().parents[3] / "config" / "34idc.toml")


@pytest.mark.parametrize(("rotation_mdeg", "strain"), [((4.0, 0.0), 0.0), ((0.0, -5.0), 0.0), ((3.0, 2.0), 8e-5)])
def test_a_crystal_that_is_turned_all_along_is_seen_to_be(config, rotation_mdeg, strain):
    """All frames alike: the motion between such a scan and a still one, with its signs. 1e8 photons tell it to
    0.01 mdeg and 1e-7."""
    still, _ = simulate_moving(config=config, offsets_steps=np.zeros(FRAMES), photons=1e8)
    turned = np.tile(rotation_mdeg, (FRAMES, 1)).astype(float)
    offsets, shifts = seen_by_frames(still.geometry, turned, np.full(FRAMES, strain))
    moved, _ = simulate_moving(config=config, offsets_steps=offsets, shifts_px=shifts, photons=1e8)
    found = motion_between(find_peak(prepare(still)[0], still), find_peak(prepare(moved)[0], moved))
    np.testing.assert_allclose(found.rotation_mdeg, rotation_mdeg, atol=0.03)
    assert found.strain == pytest.approx(strain, abs=1e-6)


def test_gains_are_what_the_monitor_does_not_show(config):
    gains = np.linspace(0.9, 1.1, FRAMES)
    still, dimmed = (
        simulate_moving(config=config, offsets_steps=np.zeros(FRAMES), photons=1e9, gains=each)[0]
        for each in (None, gains)
    )
    ratio = dimmed.intensity.sum(axis=(1, 2)) / still.intensity.sum(axis=(1, 2))
    np.testing.assert_allclose(ratio[16:48], gains[16:48], rtol=3e-3)
    np.testing.assert_array_equal(dimmed.monitor, still.monitor)
