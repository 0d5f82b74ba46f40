"""A scan that is paused, wherever, and resumed is the scan that was not: a real RunEngine, a real device."""

import threading
import time
from contextlib import suppress

import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.utils import FailedStatus, RunEngineInterrupted, TransitionError
from ophyd_async.core import init_devices
from ophyd_async.sim import SimMotor

from live_bcdi.metadata import scan_metadata
from live_bcdi.stream import journal
from live_bcdi.stream.fakes import small_scan
from live_bcdi.stream.run import KEY
from live_bcdi.transport.hdf5 import read_scan
from live_bcdi.types import ScanError
from live_bcdi_plans.recorded import RecordedDetector
from live_bcdi_plans.rocking import fly_rocking_scan, rocking_scan

SCAN = small_scan(num=5, shape=(6, 5))
STEP_MESSAGES = 80  # more than a scan of five points has
EXPOSURE_S = 0.01


class Beamline:
    """A RunEngine that is paused when it has sent so many messages, and resumed at once."""

    def __init__(self, folder, address):
        self.engine, self.documents, self.folder = RunEngine({}), [], folder
        self.engine.subscribe(lambda name, doc: self.documents.append((name, doc)))
        self.pauses = 0
        with init_devices():
            self.axis = SimMotor(name="theta", initial_value=float(SCAN.angles_deg[0]), units="deg")
            self.detector = RecordedDetector(SCAN, self.axis, directory=folder, frames_address=address, name="det")

    def pause_at(self, wanted, *, defer):
        """Pause at the messages of these numbers; of the messages that a wait is, in the middle of it."""
        sent = 0

        def count(_):
            nonlocal sent
            sent += 1
            if sent in wanted:
                threading.Thread(target=self._pause, args=[defer]).start()

        self.engine.msg_hook = count

    def _pause(self, defer):
        try:
            self.engine.request_pause(defer)
        except TransitionError:  # the plan is over, or paused already
            return

    def run(self, plan):
        def go():
            return self.engine(plan(self.detector, self.axis, *points(), md={KEY: scan_metadata(SCAN)}))

        while True:
            try:
                return go()
            except RunEngineInterrupted:
                self.pauses += 1
                assert self.engine.state == "paused", "it was not aborted"
                go = self.engine.resume

    def check(self):
        """Frames, angles and documents are those of a scan that nobody paused."""
        (path,) = self.folder.glob("*.h5")
        written = read_scan(path)
        np.testing.assert_array_equal(written.intensity, SCAN.intensity)
        np.testing.assert_array_equal(written.angles_deg, SCAN.angles_deg)
        documents = journal.in_order(self.documents)
        assert documents[-1][1]["exit_status"] == "success"
        assert journal.missing(documents) == {}
        assert documents[-1][1]["num_events"]["primary"] == len(SCAN.intensity)
        events = [doc for name, doc in documents if name == "event" and "theta" in doc["data"]]
        return [doc["seq_num"] for doc in events], [doc["data"]["theta"] for doc in events]


def points():
    return float(SCAN.angles_deg[0]), float(SCAN.angles_deg[-1]), len(SCAN.angles_deg), EXPOSURE_S


@pytest.fixture
def beamline(tmp_path, free_address):
    made = Beamline(tmp_path, free_address)
    yield made
    made.detector.camera.close()


@pytest.mark.parametrize("defer", [False, True])
@pytest.mark.parametrize("at", range(7, STEP_MESSAGES, 7))
def test_a_step_scan_paused_at_any_message(beamline, at, defer):
    beamline.pause_at({at}, defer=defer)
    beamline.run(rocking_scan)
    numbers, angles = beamline.check()
    assert numbers == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(angles, SCAN.angles_deg)


@pytest.mark.parametrize("at", range(10, 30, 7))
def test_a_step_scan_paused_again_and_again(beamline, at):
    beamline.pause_at(set(range(at, 200, 9)), defer=False)
    beamline.run(rocking_scan)
    assert beamline.pauses > 3
    assert beamline.check()[0] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("defer", [False, True])
@pytest.mark.parametrize("at", [7, 11, 15, 19, 23, 30])
def test_a_sweep_goes_on_through_a_pause(beamline, at, defer):
    beamline.pause_at({at}, defer=defer)
    beamline.run(fly_rocking_scan)
    beamline.check()


def test_a_pause_that_ends_in_an_abort_says_so(beamline):
    beamline.pause_at({40}, defer=False)
    with pytest.raises(RunEngineInterrupted):
        beamline.engine(rocking_scan(beamline.detector, beamline.axis, *points(), md={KEY: scan_metadata(SCAN)}))
    with suppress(FailedStatus):  # of the exposure that was cut off
        beamline.engine.abort("the beam is lost")
    stop = beamline.documents[-1][1]
    assert (stop["exit_status"], stop["reason"]) == ("abort", "the scan was stopped before its end")
    (path,) = beamline.folder.glob("*.h5")
    assert 0 < len(read_scan(path).intensity) < 5


def test_a_frame_that_fails_in_a_sweep_ends_it_at_once(beamline):
    """ophyd-async alone waits 10 s for the frame and then says that it timed out."""
    take = beamline.detector.camera._take

    def fail_at_the_third(recorded):
        if recorded == 2:
            raise ScanError("the disk is full")
        take(recorded)

    beamline.detector.camera._take = fail_at_the_third
    began_s = time.monotonic()
    with pytest.raises(FailedStatus):
        beamline.run(fly_rocking_scan)
    assert time.monotonic() - began_s < 8.0
    stop = beamline.documents[-1][1]
    assert (stop["exit_status"], stop["reason"]) == ("fail", "the disk is full")
    assert stop["num_events"].get("primary", 0) <= 2
