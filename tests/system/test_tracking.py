"""A turning crystal through the live path: its motion is in Tiled, true within its error bars, whoever is
killed."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from uuid import uuid4

import numpy as np
import pytest

from live_bcdi.catalogue import open_run
from live_bcdi.config import load_config
from live_bcdi.geometry import axes_across, q_lab_invA, rocking_axis_lab
from live_bcdi.metadata import plain
from live_bcdi.session import play
from live_bcdi.sim.crystals import random_truth
from live_bcdi.sim.scattering import bragg_geometry, measure, scan_steps
from live_bcdi.supervisor import Supervisor
from live_bcdi.tracking import follow, record_scan
from live_bcdi.transport.hdf5 import read_scan, write_scan
from live_bcdi.transport.tiled import connect, versions
from live_bcdi.transport.tracks import read_series, read_track
from live_bcdi_consumers.tickets import Tickets
from live_bcdi_consumers.tracking import OWED

SHAPE = (40, 48, 48)
QUICK = {"starts": 1, "threads": 1, "recipe": "20*ER"}
TURNED = ((0.0, 0.0, 0.0), (4.0, -3.0, 2e-5), (8.0, -6.0, 4e-5))  # mdeg, mdeg, strain


CUT_OFF = """
import itertools, json, os, signal, sys
from pathlib import Path
from live_bcdi.config import load_config
from live_bcdi_consumers.tracking import track_run

config, start, frames, last = sys.argv[1:]
written, whole = itertools.count(1), os.fsync

def cut_off(file):
    if os.readlink(f"/proc/self/fd/{file}").endswith(".partial.h5") and next(written) == int(last):
        os.truncate(file, os.fstat(file).st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)
    whole(file)

os.fsync = cut_off
track_run(json.loads(start), frames, load_config(Path(config)))
"""


@pytest.fixture(scope="module")
def turning(tmp_path_factory, make_config):
    """The files of three scans of one crystal, which is turned and strained by TURNED."""
    folder = tmp_path_factory.mktemp("scans")
    geometry = bragg_geometry(load_config(make_config(folder)), SHAPE[1:])
    h, steps = q_lab_invA(geometry, *geometry.arm_pixel), scan_steps(geometry)
    axes = axes_across(h, rocking_axis_lab(geometry))
    crystal = random_truth(h, steps, strain="weak", oversampling=4.0, seed=4)
    for number, (first, second, strain) in enumerate(TURNED):
        moved = np.cross(np.deg2rad(1e-3) * np.array([first, second]) @ axes, h) - strain * h
        gradient = crystal.gradient_angstrom_per_nm - moved * 10 / np.linalg.norm(h)
        truth = replace(crystal, gradient_angstrom_per_nm=tuple(gradient))
        scan = measure(truth, geometry, shape=SHAPE, photons=1e5, seed=number)
        write_scan(folder / f"{number}.h5", replace(scan, name=f"turning {number}", sample="turning"))
    return [folder / f"{number}.h5" for number in range(len(TURNED))]


@pytest.fixture(scope="module")
def measured(turning, tmp_path_factory, make_config, listening):
    """Three scans measured; when the last frame of the second is in, live is killed before it can say its
    motion."""
    path = make_config(tmp_path_factory.mktemp("tracking"), phasing=QUICK)
    with Supervisor(path) as supervisor:
        runs, killed = [], []

        def kill(update):
            last = update.topic == "live" and update.fields["count"] == SHAPE[0]
            if last and len(runs) == 1 and not killed:
                killed.append(supervisor.pids()["live"])
                os.kill(killed[0], signal.SIGKILL)

        system = listening(supervisor, kill)
        for scan in turning:
            runs.append(play(system, scan, path, rate_hz=60, fly=False)["run"])
        assert killed and supervisor.pids()["live"] != killed[0]
        yield runs, path, system


def test_every_scan_has_its_track_in_tiled_though_the_service_was_killed(measured, wait_for):
    runs, path, _ = measured
    root = connect(load_config(path))
    for run in runs:
        node = wait_for(lambda: list(versions(root, "tracking", run).values()))[-1]  # noqa: B023
        assert node.metadata["run"] == run and node.metadata["why"] is None
        assert node["found_steps"].shape == (SHAPE[0],)
        assert node.metadata["corrected"] is False, "it stood still while it was scanned"
        np.testing.assert_array_equal(np.nan_to_num(node["offset_steps"].read()), 0)
        place, std = node["row"].read(), node["row_std"].read()
        bright = std < 0.3
        assert bright.sum() > 10 and abs(place[bright] - SHAPE[1] // 2).max() < 8
    result = open_run(runs[1], config=path).result(kind="tracking")
    assert result["found_steps"].shape == (SHAPE[0],)


def test_the_series_is_true_within_its_error_bars(measured, wait_for):
    runs, path, _ = measured
    root, name = connect(load_config(path)), "turning, hkl 1 1 1"

    def whole():
        table, columns = read_series(root, name)
        return (table, columns) if list(table["run"]) == runs else None

    wait_for(lambda: "series" in root)
    table, columns = wait_for(whole)
    for at, (*rotation, strain) in enumerate(TURNED):
        for axis, angle in enumerate(rotation, start=1):
            std = columns[f"rotation_{axis}_std_mdeg"][at]
            assert 0 < std < 0.5 and abs(columns[f"rotation_{axis}_mdeg"][at] - angle) < 4 * std
        assert abs(columns["strain"][at] - strain) < 4 * columns["strain_std"][at] < 4e-5
    assert table["reasons"] == [[], [], []]
    told = table["prediction"]
    assert (told["scans"], told["unseen"], told["lost"]) == (3, 0, "")
    for number, value in (("rotation_1_mdeg", 12.0), ("rotation_2_mdeg", -9.0), ("strain", 6e-5)):
        assert abs(told[number]["value"] - value) < told[number]["std2"]
    assert told["angle_deg"]["std"] > 0 and 0 < told["row"]["std"] < told["row"]["std2"] < 20


def test_the_page_is_told_of_every_scan_and_of_the_series(measured, wait_for):
    """Also of the one that refine comes to after its result."""
    runs, _, system = measured

    def all_told():
        for _ in system.watch(0.1):
            pass
        told = [each for each in system.heard if each.topic == "tracking"]
        series = [each.fields["scans"] for each in told if each.fields["of"] == "series"]
        return told if [row["run"] for row in series[-1]] == runs else None

    told = wait_for(all_told)
    within = {each.run: each for each in told if each.fields["of"] == "scan" and each.fields["whole"]}
    assert runs[0] in within and len(within[runs[0]].arrays["gain"]) == SHAPE[0]


def test_the_peak_is_foretold_where_it_goes(turning):
    """The peak's angle went from the first scan to the third by so much; the next is half of that farther."""
    scans = [read_scan(path) for path in turning]
    records = [record_scan(scan) for scan in scans]
    places = [record.view.first_deg + record.view.step_deg * record.view.origin[0] for record in records]
    assert places[2] < places[0] - 6e-3, "turned by +8 mdeg it is found at a smaller angle"
    told = follow(records).next_place.angle_deg
    assert abs(told.value - (places[2] + (places[2] - places[0]) / 2)) < told.std2
    assert told.value < places[2] - 2e-3


@pytest.mark.parametrize("last", [1, 2])
def test_a_track_is_there_once_though_who_wrote_it_was_killed_half_way(measured, wait_for, last):
    """Its place in its series is written first, its angles second. Of a run in a series of its own."""
    runs, path, _ = measured
    config, run = load_config(path), str(uuid4())
    storage, root = config.storage.directory, connect(config)
    (frames,) = (storage / "frames").glob(f"*_{runs[0][:8]}.h5")
    wait_for(lambda: runs[0] in root["raw"] and versions(root, "tracking", runs[0]))
    start = plain({**root["raw"][runs[0]].metadata["start"], "uid": run, "sample": f"cut off {last}"})
    killed = subprocess.run(
        [sys.executable, "-c", CUT_OFF, str(path), json.dumps(start), str(frames), str(last)], check=False
    )
    assert killed.returncode == -signal.SIGKILL
    tracks, waiting, owed = storage / "tracks", Tickets(storage / "queue/motion", clean=False), storage / OWED
    assert len(list(tracks.glob(f".*_{run}.*.partial.h5"))) == 1, "half of it is there"
    assert len(list(tracks.glob(f"[0-9]*_{run}.h5"))) == last - 1
    waiting.put(run, {"start": start, "file": str(frames), "tries": 0})  # what refine begins again with
    wait_for(
        lambda: run not in waiting.names() and not list(owed.glob(f"*{run}*")) and versions(root, "tracking", run)
    )
    (track,) = tracks.glob(f"*_{run}*.h5")
    (stored,) = versions(root, "tracking", run).values()
    within, (undisturbed,) = read_track(track).within, versions(root, "tracking", runs[0]).values()
    for node in (stored, undisturbed):
        np.testing.assert_allclose(node["found_steps"].read(), within.found_steps, atol=1e-6)
