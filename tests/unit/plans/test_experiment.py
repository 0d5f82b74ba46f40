"""The experiment on the virtual beamline: every state is found again and scanned about its peak."""

import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.run_engine import call_in_bluesky_event_loop

from live_bcdi.config import load_config, shipped_configs
from live_bcdi.sim import experiment as simulated
from live_bcdi.stream.run import is_rocking_run
from live_bcdi.transport.hdf5 import read_scan
from live_bcdi.types import ScanError
from live_bcdi_plans import experiment as plans
from live_bcdi_plans.virtual import VirtualStation

CONFIG = load_config(shipped_configs()["34idc"])


def test_each_state_is_measured_about_its_peak(tmp_path, free_address, monkeypatch):
    monkeypatch.setattr(simulated, "_FRINGES", 5)
    beamline, steps = simulated.charging(CONFIG, states=4, shape=(48, 48))
    engine, documents = RunEngine({}), []
    engine.subscribe(lambda name, doc: documents.append((name, doc)))
    station = VirtualStation(beamline, directory=tmp_path, frames_address=free_address)
    call_in_bluesky_event_loop(station.connect())
    try:
        done = plans._measure(engine, station, steps)
    finally:
        station.close()
    starts = [doc for name, doc in documents if name == "start"]
    assert [is_rocking_run(start) for start in starts] == [False, True] * 4
    assert [start["voltage"] for start in starts[1::2]] == [step["volts"] for step in done]
    assert [start["uid"] for start in starts[1::2]] == [step["run"] for step in done]
    strains = [step["strain"] for step in done]
    assert strains[0] == 0 and -1.2e-3 < min(strains) < -7e-4
    limit = CONFIG.detector.saturation_counts
    for step in done:
        (path,) = tmp_path.glob(f"charge-*_{step['run'][:8]}.h5")
        scan = read_scan(path)
        assert len(scan.intensity) == plans.FRAMES and scan.saturation_counts == plans.ACQUISITIONS * limit
        assert scan.intensity.max() < scan.saturation_counts
        counts = scan.intensity.sum(axis=(1, 2)).astype(float)
        place = np.average(np.arange(plans.FRAMES), weights=counts**2)
        assert (
            abs(place - plans.FRAMES / 2) < 6
        )  # of 64; the first peak of a strained crystal need not be its middle


def test_a_crystal_without_strain_is_as_bright_as_can_be(monkeypatch):
    monkeypatch.setattr(simulated, "_FRINGES", 4)
    beamline, steps = simulated.charging(CONFIG, states=3, shape=(32, 32))
    assert beamline.field.grains[0].pattern.brightness == pytest.approx(1, rel=1e-3)
    steps[1].begin(beamline)
    assert 0.05 < beamline.field.grains[0].pattern.brightness < 0.5
    assert beamline.course.kicks[-1].time_s == beamline.time_s


def test_what_cannot_be_played():
    with pytest.raises(ScanError, match="three states"):
        simulated.charging(CONFIG, states=2)
    with pytest.raises(ScanError, match="a rate"):
        plans.experiment(CONFIG, states=3, rate_hz=-1.0)


def test_the_mean_strain_is_where_the_patterns_centre_of_mass_is(monkeypatch):
    monkeypatch.setattr(simulated, "_FRINGES", 12)
    beamline, steps = simulated.charging(CONFIG, states=3, shape=(32, 32))
    found = []
    for step in steps[:2]:
        step.begin(beamline)
        pattern = beamline.field.grains[0].pattern
        places = np.indices(pattern.spline.shape).reshape(3, -1) - pattern.spline.shape[0] // 2
        middle = np.average(places, axis=1, weights=np.maximum(pattern.spline.ravel(), 0)) * pattern.step_invA
        found.append(-float(middle @ pattern.h_invA) / float(pattern.h_invA @ pattern.h_invA))
    told = np.array([step.strain for step in steps[:2]])
    assert np.array(found) - found[0] == pytest.approx(told, rel=0.04)  # of the pattern some lies beyond the grid
    assert abs(told[1]) > 5e-4
