"""The tumbling crystal against the scan of the same crystal that does not tumble."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from live_bcdi.config import load_config
from live_bcdi.sim import simulate_tumbling
from live_bcdi.sim.scattering import bragg_geometry, diffraction_amplitude, scan_steps
from live_bcdi.tracking.rolls import turned_back

CONFIG = load_config(Path(__file__).resolve().parents[3] / "config" / "34idc.toml")


def tumbled(angles, rolls_deg, photons=1e9, centre=(16.0, 16.0)):
    return simulate_tumbling(
        config=CONFIG,
        angles_steps=np.asarray(angles, float),
        rolls_deg=np.asarray(rolls_deg, float),
        centre=centre,
        detector=(32, 32),
        photons=photons,
        oversampling=4.0,
    )


def test_without_roll_it_is_the_fourier_transform():
    angles = np.linspace(-5, 6, 12)
    made = tumbled(angles, np.zeros(12))
    steps = scan_steps(bragg_geometry(CONFIG, (32, 32)))
    amplitude = diffraction_amplitude(made.truth, steps, (32, 32, 32), rocking=angles)
    expected = np.abs(amplitude) ** 2
    expected *= made.counts.sum() / expected.sum()
    # Poisson's own: chi squared a pixel is 1, here of 12288
    where = expected > 20
    assert np.mean((made.counts - expected)[where] ** 2 / expected[where]) == pytest.approx(1, abs=0.1)
    assert made.counts.sum() == pytest.approx(12e9, rel=1e-4)


def test_a_quarter_turn_is_a_quarter_turn_and_turned_back_undoes_it():
    still, turned = tumbled([2.0], [0.0]), tumbled([2.0], [90.0])
    # the pixel (16 + r, 16 + c) goes to (16 - c, 16 + r)
    expected = np.rot90(still.counts[0][1:, 1:], 1)
    ours = turned.counts[0][1:, 1:]
    assert np.corrcoef(expected.ravel(), ours.ravel())[0, 1] > 0.9999
    small = tumbled([2.0], [25.0])
    back = turned_back(small.counts[0].astype(float), np.ones((32, 32), bool), (16.0, 16.0), 25.0)
    there = np.isfinite(back)
    assert there.mean() > 0.8
    smooth = ndimage.gaussian_filter(still.counts[0].astype(float), 0.4)
    assert np.corrcoef(smooth[there], back[there])[0, 1] > 0.995
    wrong = turned_back(small.counts[0].astype(float), np.ones((32, 32), bool), (16.0, 16.0), -25.0)
    there = np.isfinite(wrong)
    assert np.corrcoef(smooth[there], wrong[there])[0, 1] < 0.99
