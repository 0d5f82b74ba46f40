"""Repeats of a crystal: where each has its peak, how bright it is, and what its beam did."""

from pathlib import Path

import numpy as np

from live_bcdi.config import load_config
from live_bcdi.geometry import q_lab_invA
from live_bcdi.registration import locate
from live_bcdi.sim.crystals import random_truth
from live_bcdi.sim.repeats import Repeated
from live_bcdi.sim.scattering import bragg_geometry, scan_steps

SHAPE = (32, 40, 40)


def source(**changes):
    geometry = bragg_geometry(load_config(Path("config/34idc.toml")), SHAPE[1:])
    h = q_lab_invA(geometry, *geometry.arm_pixel)
    truth = random_truth(h, scan_steps(geometry), strain="weak", oversampling=3.0, seed=3)
    return Repeated(truth=truth, geometry=geometry, shape=SHAPE, photons=1e6, **changes)


def place(intensity):
    return np.array(locate(intensity, np.zeros(intensity.shape, bool)).voxel)


def test_the_peak_goes_where_it_is_sent():
    shift = np.array([1.3, -2.1, 0.6])
    np.testing.assert_allclose(place(source().expected(shift)) - place(source().expected()), shift, atol=2e-3)


def test_a_series_drifts_and_fades_and_its_monitor_follows_the_beam():
    made = source(beam=0.2, monitor_counts=1e6)
    scans = list(made.series(3, drift_voxels=0.5, fading=0.6, seed=1))
    totals = np.array([scan.intensity.sum() for scan in scans])
    np.testing.assert_allclose(totals / 1e6, [1, 0.7, 0.4], atol=0.15)  # the peak's frames have a fifth of scatter
    assert np.linalg.norm(place(scans[2].intensity) - place(scans[0].intensity)) > 0.3
    steady = made.expected().sum(axis=(1, 2))
    lit = steady > 0.02 * steady.max()
    counted = np.log(scans[0].intensity.sum(axis=(1, 2))[lit] / steady[lit])
    read = np.log(scans[0].monitor[lit])
    assert np.corrcoef(np.diff(counted), np.diff(read))[0, 1] > 0.8
