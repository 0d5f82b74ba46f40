"""Peaks found and crystals centred on the virtual beamline, by a real RunEngine."""

import math
from pathlib import Path

import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.run_engine import call_in_bluesky_event_loop

from live_bcdi.config import load_config
from live_bcdi.sim.axes import Axis
from live_bcdi.sim.hazards import ROUGH
from live_bcdi.sim.scenes import virtual_beamline
from live_bcdi.steering import Next, Sweep
from live_bcdi.types import ScanError
from live_bcdi_plans import align
from live_bcdi_plans.align import align_crystal, find_peak
from live_bcdi_plans.alignment import Settings
from live_bcdi_plans.virtual import VirtualStation

CONFIG = load_config(Path(__file__).resolve().parents[3] / "config" / "34idc.toml")
HOSTILE = [math.nan, math.inf, -1e9, 70.00001, -20.00001]


class Rig:
    def __init__(self, line, folder, address):
        self.line, self.engine, self.documents = line, RunEngine({}), []
        self.station = VirtualStation(line, directory=folder, frames_address=address)
        call_in_bluesky_event_loop(self.station.connect())
        self.engine.subscribe(lambda name, doc: self.documents.append((name, doc)))
        self.home = line.positions

    def run(self, plan):
        got = []

        def whole():
            got.append((yield from plan))

        self.engine(whole())
        self.line.settle()
        return got[0]

    def events(self):
        keys = {doc["uid"]: doc["name"] for name, doc in self.documents if name == "descriptor"}
        told = [doc["data"] for name, doc in self.documents if name == "event"]
        assert set(keys.values()) <= {"primary", "recommendation"}
        return told

    def stop(self):
        return [doc for name, doc in self.documents if name == "stop"][-1]

    def is_home(self):
        self.line.settle()
        return self.line.positions == pytest.approx(self.home, abs=1e-9)


@pytest.fixture
def rig(tmp_path, free_address):
    made = []

    def make(config=CONFIG, placed=None, **how):
        given = {"misaligned_deg": 1.0, "misplaced_um": 20.0, "neighbours": 2, "powder": True, "hazards": ROUGH}
        line = virtual_beamline(config, **{**given, **how})
        line.place(placed or {})
        made.append(Rig(line, tmp_path, free_address))
        return made[-1]

    yield make
    for each in made:
        each.station.close()


def near_home(config, **limits):
    """The configuration with other limits."""

    old = config.diffractometer
    chains = {
        name: tuple(
            circle.model_copy(update={"limits": limits.get(circle.motor, circle.limits)})
            for circle in getattr(old, name)
        )
        for name in ("sample", "stage", "arm")
    }
    return config.model_copy(update={"diffractometer": old.model_copy(update=chains)})


@pytest.mark.parametrize("seed", [1, 2])
def test_a_crystal_is_aligned_on_a_bad_day(rig, seed):
    bench = rig(seed=seed)
    aligned = bench.run(align_crystal(bench.station))
    miss = bench.line.miss(bench.line.field.grains[0])
    assert abs(miss.rocking_deg) < 0.005
    assert np.hypot(*miss.across_um) < 2.0
    assert (miss.row, miss.column) == pytest.approx((64.0, 64.0), abs=2.0)
    told = bench.events()
    shots = [each for each in told if each["decision-what"] in ("sweep", "look", "check", "saturated")]
    assert aligned.exposures == len(shots) == told[-1]["decision-exposures"]
    assert aligned.dose_s == pytest.approx(bench.line.dose_s, rel=0.02)
    assert {each["decision-motor"] for each in told} >= {"theta", "x", "y"}
    assert bench.stop()["exit_status"] == "success"


def test_a_peak_is_found_across_the_other_rotation(rig):
    """Turned so far about the beam that the detector does not see it."""
    bench = rig(placed={"chi": 1.6}, misaligned_deg=0.0, misplaced_um=0.0, neighbours=0, hazards=None)
    with pytest.raises(ScanError, match="no Bragg peak"):
        bench.run(find_peak(bench.station, 0.8))
    assert bench.is_home() and bench.stop()["exit_status"] == "fail"
    settings = Settings(across="chi")
    found = bench.run(find_peak(bench.station, 0.8, 1.8, settings))
    assert abs(bench.line.miss(bench.line.field.grains[0]).rocking_deg) < settings.fine_deg
    assert bench.line.readback("chi") == pytest.approx(found.across_deg)


def test_nothing_there_is_told_and_the_motors_are_back(rig):
    bench = rig(peak_hz=1e-3, neighbours=0)
    with pytest.raises(ScanError, match="no Bragg peak in 2 sweeps"):
        bench.run(align_crystal(bench.station))
    assert bench.is_home() and bench.line.transmission == 1.0
    assert [each["decision-what"] for each in bench.events()].count("lost") == 2
    assert "no Bragg peak" in bench.stop()["reason"]


@pytest.mark.parametrize(
    ("limits", "how", "words"),
    [
        ({"theta": (16.0, 18.0)}, {"range_deg": 1.5}, "theta would go to"),
        ({"chi": (-0.5, 0.5)}, {"range_deg": 0.2, "across_deg": 1.0}, "chi would go to"),
        ({"x": (-20.0, 20.0)}, {"range_um": 30.0}, "x would go to"),
        ({"theta": None}, {}, "theta has no limits"),
        ({}, {"range_deg": math.nan}, "ranges in degrees"),
        ({}, {"range_um": -1.0}, "range in micrometres"),
    ],
)
def test_what_is_beyond_the_limits_is_refused_before_anything_moves(rig, limits, how, words):
    bench = rig(near_home(CONFIG, **limits))
    with pytest.raises(ScanError, match=words):
        bench.run(align_crystal(bench.station, settings=Settings(across="chi"), **how))
    assert bench.line.time_s == 0 and not bench.documents


@pytest.mark.parametrize("place", HOSTILE)
@pytest.mark.parametrize("decides", ["next_sweep", "next_look"])
def test_no_decision_moves_a_motor_beyond_its_limits(rig, monkeypatch, place, decides):
    bench = rig(hazards=None, shape=(32, 32), neighbours=0)
    asked = []
    start = Axis.start

    def watched(axis, target, *args, **how):
        asked.append((axis.limits, target))
        return start(axis, target, *args, **how)

    monkeypatch.setattr(Axis, "start", watched)
    said = {
        "next_sweep": Sweep(low_deg=17.0, high_deg=place, across_deg=0.0),
        "next_look": Next(position=place),
    }[decides]
    monkeypatch.setattr(align, decides, lambda *_: said)
    with pytest.raises(ScanError):
        bench.run(align_crystal(bench.station, 0.0 if decides == "next_look" else 1.5))
    assert all(low <= target <= high for (low, high), target in asked)
    assert bench.is_home()


def test_decisions_without_an_end_are_ended(rig, monkeypatch):
    bench = rig(hazards=None, shape=(32, 32), neighbours=0)
    monkeypatch.setattr(align, "next_look", lambda *_: Next(position=69.99))
    with pytest.raises(ScanError, match="12 exposures were taken without an end"):
        bench.run(align_crystal(bench.station, 0.0, settings=Settings(most=12)))
    assert bench.is_home()


def test_no_beam_is_told(rig):
    bench = rig(hazards=None)
    bench.line.shutter_open = False
    with pytest.raises(ScanError, match="see to beam and shutter"):
        bench.run(find_peak(bench.station))
    assert bench.is_home()
