"""Tasks as a start document asks for them, fed frame by frame."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from live_bcdi.config import load_config
from live_bcdi.sim import simulate_scan
from live_bcdi.steering.tasks import Shot, begin_task
from live_bcdi.types import ScanError

CONFIG = load_config(Path(__file__).resolve().parents[3] / "config" / "34idc.toml")
SCAN, _ = simulate_scan(config=CONFIG, shape=(25, 48, 48), photons=3e5, seed=1)
ANGLES = SCAN.angles_deg
EMPTY = replace(
    SCAN,
    intensity=SCAN.intensity[:0],
    angles_deg=ANGLES[:0],
    monitor=None,
    timestamps_s=None,
    saturation_counts=1e4,
)
WANTED = {"dose_s": 60.0, "limits_deg": [float(ANGLES[0] - 1), float(ANGLES[-1] + 1)]}


def shot(image, angle_deg=0.0, time_s=0.0, **positions):
    return Shot(image=image, angle_deg=angle_deg, positions=positions, time_s=time_s)


def feed(asked, counts, angles=ANGLES, begin_s=0.0):
    for number, (image, angle) in enumerate(zip(counts, angles)):
        asked.add(shot(image, float(angle), begin_s + number))
    asked.end()


def test_the_scan_after_a_pre_scan():
    asked = begin_task({"task": "rocking", "wanted": WANTED, "seconds": 0.5, "transmissions": [1.0, 0.1]}, EMPTY)
    assert asked.told() is None
    order = np.random.default_rng(0).permutation(25)  # angles, not the order of frames
    feed(asked, SCAN.intensity[order], ANGLES[order])
    told = asked.told()
    # its steps are a third of a fringe: what it was simulated with
    assert told.values["fringe_deg"] == pytest.approx(3 * (ANGLES[1] - ANGLES[0]), rel=0.3)
    assert told.values["start_deg"] < told.values["centre_deg"] < told.values["stop_deg"]
    assert abs(told.values["centre_deg"] - ANGLES[12]) < ANGLES[1] - ANGLES[0]
    assert sum(told.values["seconds"]) * told.values["transmission"] == pytest.approx(60.0)
    assert len(told.values["seconds"]) == told.values["num"]
    assert told.uncertainty["centre_deg"] > 0


def test_sweeps_until_they_are_enough():
    limit_nm = 150.0
    asked = begin_task({"task": "stop", "rule": f"{limit_nm} nm or 1 h", "series": "a"}, EMPTY)
    random, told = np.random.default_rng(0), []
    light = simulate_scan(config=CONFIG, shape=(25, 48, 48), photons=1e9, seed=1)[0].intensity / 1e9
    for sweep in range(30):
        feed(asked, random.poisson(light * 1.2e3), begin_s=100.0 * sweep)
        told.append(asked.told())
        if told[-1].what == "stop":
            break
    assert told[0].what == "go on" and told[0].values["dose_ratio"] > 1.5
    assert told[-1].what == "stop" and "reached" in told[-1].why
    assert told[-1].values["resolution_nm"] <= limit_nm
    assert len(told) < 30
    # what it said early of how much it takes, against what it took
    assert 0.3 < told[2].values["dose_ratio"] * 3 / len(told) < 3


def test_time_stops_sweeps_and_other_angles_are_refused():
    asked = begin_task({"task": "stop", "rule": "1 nm or 200 s"}, EMPTY)
    feed(asked, SCAN.intensity)
    first = asked.told()
    assert first.what == "go on" and "dose_ratio" not in first.values  # infinite: beyond what is measured
    feed(asked, SCAN.intensity, begin_s=200.0)
    assert asked.told().what == "stop"
    with pytest.raises(ScanError, match="other angles"):
        feed(asked, SCAN.intensity, ANGLES + 1.0)
    assert begin_task({"task": "stop", "rule": "5 s"}, EMPTY).told() is None


def test_a_motor_goes_to_the_top():
    table = {
        "task": "maximise",
        "motor": "x",
        "pixel": [24.0, 24.0],
        "dose_s": 1.0,
        "search": {"start": 0.0, "width": 5.0, "limits": [-50.0, 50.0], "tolerance": 0.3},
    }
    asked, random = begin_task(table), np.random.default_rng(0)
    rows, columns = np.indices((48, 48))
    while (told := asked.told()).what == "move":
        x = told.values["x"]
        peak = 30 * math.exp(-((x - 3.3) ** 2) / 2 / 25) * np.exp(-((rows - 24) ** 2 + (columns - 25) ** 2) / 18)
        asked.add(shot(random.poisson(peak + 0.1), x=x))
    assert told.what == "done" and asked.needs == "x"
    assert abs(told.values["x"] - 3.3) < 4 * told.uncertainty["x"] < 1.5


def test_a_peak_is_found_by_sweeps():
    search = {
        "start_deg": 10.0,
        "limits_deg": [9.0, 11.0],
        "coarse_deg": 1.0,
        "fine_deg": 0.05,
        "pixel": [24.0, 24.0],
    }
    asked = begin_task({"task": "search", "search": search, "dose_s": 1.0}, EMPTY)
    random, looks = np.random.default_rng(0), 0
    rows, columns = np.indices((48, 48))
    while (told := asked.told()).what == "sweep":
        low, high = told.values["low_deg"], told.values["high_deg"]
        inside = low <= 9.37 < high
        peak = inside * 5 / (high - low) * np.exp(-((rows - 20) ** 2 + (columns - 25) ** 2) / 18)
        asked.add(shot(random.poisson(peak + 0.01), 50.0))  # another place than was told: no part of it
        asked.add(shot(random.poisson(peak + 0.01), (low + high) / 2))
        looks += 1
    assert told.what == "found" and looks < 10
    assert abs(told.values["angle_deg"] - 9.37) <= 0.025
    assert told.values["row"] == pytest.approx(20.0, abs=0.5)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (None, "has a task"),
        ({"task": "dance"}, "has a task"),
        ({"task": ["stop"]}, "has a task"),
        ({"task": "rocking", "wanted": WANTED}, "seconds"),
        ({"task": "rocking", "wanted": {**WANTED, "points": 1.0}, "seconds": 1.0}, "points"),
        ({"task": "rocking", "wanted": {**WANTED, "more": 1.0}, "seconds": 1.0}, "more"),
        ({"task": "rocking", "wanted": WANTED, "seconds": 1.0, "speed": 3}, "speed"),
        ({"task": "stop", "rule": "soon"}, "not understood"),
        ({"task": "search", "search": {}, "dose_s": 1.0}, "search"),
    ],
)
def test_a_table_that_is_none_is_refused_and_told_why(table, reason):
    with pytest.raises(ScanError, match=reason):
        begin_task(table, EMPTY)


def test_stopping_needs_a_geometry():
    with pytest.raises(ScanError, match="geometry"):
        begin_task({"task": "stop", "rule": "5 s"})
