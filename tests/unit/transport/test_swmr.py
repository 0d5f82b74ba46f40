"""areaDetector's file while it grows: late, with gaps, cut off, from another host."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from live_bcdi.sim.areadetector import SimulatedHdfPlugin
from live_bcdi.stream.fakes import RUN, small_scan, start_document
from live_bcdi.transport import swmr
from live_bcdi.transport.swmr import SwmrSource

NUM = 5
SCAN = small_scan(num=NUM, shape=(6, 7))
DESCRIPTOR = {"uid": "d", "run_start": RUN, "name": "primary", "data_keys": {"det": {}}}


@pytest.fixture
def said():
    return []


@pytest.fixture
def source(said):
    made = SwmrSource(said.append)
    yield made
    made.close()


def begin(source, path, classic=False):
    source.document("start", start_document(SCAN))
    source.document("descriptor", DESCRIPTOR)
    if classic:
        root, name = str(path.parent), path.name
        about = {"spec": "AD_HDF5_SWMR", "root": root, "resource_path": name}
        source.document("resource", {"uid": "r", "run_start": RUN, **about, "resource_kwargs": {}})
    else:
        about = {"uri": f"file://localhost{path}", "parameters": {"dataset": "entry/data/data"}}
        source.document("stream_resource", {"uid": "r", "run_start": RUN, **about})


def frames(source, timeout_s=0.0):
    return {frame.index: frame for frame in source.receive(timeout_s)}


def write(plugin, *indices, first=1000):
    for index in indices:
        plugin.write(SCAN.intensity[index], number=first + index, time_s=2e9 + index + 0.25)


@pytest.mark.parametrize("classic", [False, True])
def test_a_file_is_followed_from_before_it_is_there(tmp_path, source, said, classic):
    path = tmp_path / "a.h5"
    begin(source, path, classic)
    assert frames(source) == {}
    with SimulatedHdfPlugin(path, (6, 7), "i4") as plugin:
        got = frames(source)
        for index in range(NUM):
            write(plugin, index)
            new = frames(source)
            assert sorted(new) == [index]
            got |= new
    for index, frame in got.items():
        np.testing.assert_array_equal(frame.image, SCAN.intensity[index])
        assert frame.timestamp_s == 2e9 + index + 0.25
        assert frame.run == RUN
    assert said == []


def test_what_the_plugin_dropped_leaves_its_place(tmp_path, source, said):
    begin(source, tmp_path / "a.h5")
    with SimulatedHdfPlugin(tmp_path / "a.h5", (6, 7), "i4") as plugin:
        write(plugin, 0, 3, 1)
    got = frames(source)
    assert sorted(got) == [0, 1, 3]
    np.testing.assert_array_equal(got[3].image, SCAN.intensity[3])
    assert "frames 1 to 2 did not come before 3" in said[0]


def test_frames_that_were_announced_are_waited_for_longer(tmp_path, source):
    begin(source, tmp_path / "a.h5")
    source.document("stream_datum", {"stream_resource": "r", "indices": {"start": 0, "stop": 2}})
    with SimulatedHdfPlugin(tmp_path / "a.h5", (6, 7), "i4") as plugin:
        write(plugin, 0)
        assert sorted(frames(source)) == [0]
        assert source.late_s() == swmr.OWED_S
        write(plugin, 1)
        assert sorted(frames(source)) == [1]
        assert source.late_s() < swmr.OWED_S


def test_a_file_of_another_host_is_found_by_the_map(tmp_path, said):
    with SimulatedHdfPlugin(tmp_path / "a.h5", (6, 7), "i4") as plugin:
        write(plugin, *range(NUM))
    source = SwmrSource(said.append, path_map={"/data": "/nowhere", "/data/run": str(tmp_path)})
    begin(source, type(tmp_path)("/data/run/a.h5"))
    assert sorted(frames(source)) == list(range(NUM))
    source.close()


def test_a_file_that_is_nowhere_is_said_with_what_to_do(tmp_path, source, said):
    begin(source, tmp_path / "elsewhere" / "a.h5")
    source.document("stream_datum", {"stream_resource": "r", "indices": {"start": 0, "stop": 2}})
    assert frames(source) == {}
    assert "path_map" in said[0]


def test_a_truncated_file_is_said_and_taken_once_it_is_whole(tmp_path, source, said):
    whole, path = tmp_path / "whole.h5", tmp_path / "a.h5"
    with SimulatedHdfPlugin(whole, (6, 7), "i4") as plugin:
        write(plugin, *range(NUM))
    path.write_bytes(whole.read_bytes()[:2000])
    begin(source, path)
    assert frames(source) == {}
    assert "cannot be followed now" in said[0]
    shutil.copy(whole, path)
    assert sorted(frames(source)) == list(range(NUM))


def test_a_copy_of_a_growing_file_that_was_cut_short_is_refused_and_does_not_hang(tmp_path, source, said):
    with SimulatedHdfPlugin(tmp_path / "growing.h5", (6, 7), "i4") as plugin:
        write(plugin, *range(NUM))
        (tmp_path / "a.h5").write_bytes((tmp_path / "growing.h5").read_bytes()[:500])
    begin(source, tmp_path / "a.h5")
    assert frames(source) == {}
    assert "it is truncated" in said[0]


def test_a_dataset_that_is_not_there_is_said(tmp_path, said):
    with SimulatedHdfPlugin(tmp_path / "a.h5", (6, 7), "i4"):
        pass
    source = SwmrSource(said.append, dataset="/entry/other")
    begin(source, tmp_path / "a.h5")
    assert frames(source) == {}
    assert said == []  # its documents name another dataset, so no file of ours


WRITER = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
from live_bcdi.sim.areadetector import SimulatedHdfPlugin
plugin = SimulatedHdfPlugin(Path(sys.argv[1]), (6, 7), "i4")
for number in range(3):
    plugin.write(np.full((6, 7), number, np.int32), number=number, time_s=2e9)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_writer_that_was_killed_leaves_its_frames(tmp_path, source):
    path = tmp_path / "a.h5"
    done = subprocess.run([sys.executable, "-c", WRITER, str(path)], env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL
    begin(source, path)
    got = frames(source)
    assert {index: int(frame.image[0, 0]) for index, frame in got.items()} == {0: 0, 1: 1, 2: 2}


def test_attributes_that_lag_are_waited_for(tmp_path, source, said, monkeypatch):
    begin(source, tmp_path / "a.h5")
    with SimulatedHdfPlugin(tmp_path / "a.h5", (6, 7), "i4") as plugin:
        plugin._frames.resize(1, axis=0)
        plugin._frames[0] = SCAN.intensity[0]
        plugin.flush()
        assert frames(source) == {}
        for dataset in plugin._attributes.values():
            dataset.resize(1, axis=0)
        plugin.flush()
        assert sorted(frames(source)) == [0]


def test_a_row_that_stays_unreadable_costs_itself_alone(tmp_path, source, said, monkeypatch):
    monkeypatch.setattr(swmr, "SKIP_S", 0.05)
    with SimulatedHdfPlugin(tmp_path / "a.h5", (6, 7), "i4") as plugin:
        write(plugin, *range(NUM))
    read = swmr._Growing._exposure

    def broken(self, row):
        if row == 2:
            raise OSError("chunk cannot be read")
        return read(self, row)

    monkeypatch.setattr(swmr._Growing, "_exposure", broken)
    begin(source, tmp_path / "a.h5")
    got, until = {}, time.monotonic() + 5
    while len(got) < 4 and time.monotonic() < until:
        got |= frames(source, 0.01)
    assert sorted(got) == [0, 1, 3, 4]
    assert "cannot be followed now: chunk cannot be read" in said[0]
