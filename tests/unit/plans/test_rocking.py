"""The plans, run by a real RunEngine on recorded devices: what they write, emit and send."""

import time
from dataclasses import replace

import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.preprocessors import SupplementalData
from bluesky.utils import FailedStatus
from event_model import DocumentNames, schema_validators
from ophyd_async.core import init_devices, soft_signal_rw
from ophyd_async.sim import SimMotor

from live_bcdi.metadata import scan_metadata
from live_bcdi.stream.assembler import Assembler
from live_bcdi.stream.fakes import small_scan
from live_bcdi.stream.run import KEY, run_plan
from live_bcdi.stream.sources import Angles
from live_bcdi.stream.state import state_of
from live_bcdi.transport.hdf5 import FrameFile, read_scan
from live_bcdi.transport.zmq import FrameSubscriber
from live_bcdi.types import ScanError
from live_bcdi_plans.recorded import RecordedDetector
from live_bcdi_plans.rocking import fly_rocking_scan, rocking_list_scan, rocking_scan

SCAN = small_scan(num=15, shape=(6, 5))


@pytest.fixture
def beamline(tmp_path, free_address):
    engine = RunEngine({})
    documents = []
    engine.subscribe(lambda name, doc: documents.append((name, doc)))
    with init_devices():
        axis = SimMotor(name="theta", initial_value=float(SCAN.angles_deg[0]), units="deg")
        detector = RecordedDetector(SCAN, axis, directory=tmp_path, frames_address=free_address, name="det")
    listener = FrameSubscriber(free_address)
    assert detector.camera.wait_for_listener(5.0)
    yield engine, detector, axis, documents, listener
    detector.camera.close()
    listener.close()


def points(scan=SCAN):
    return float(scan.angles_deg[0]), float(scan.angles_deg[-1]), len(scan.angles_deg)


def received(listener, count):
    frames = []
    for _ in range(100):
        frames += listener.receive(0.1)
        if len(frames) >= count:
            return frames
    pytest.fail(f"{len(frames)} of {count} frames came")


@pytest.mark.parametrize(("plan", "exposure"), [(rocking_scan, 0.0), (fly_rocking_scan, 0.005)])
def test_documents_file_and_stream_agree_with_the_recording(beamline, plan, exposure):
    engine, detector, axis, documents, listener = beamline
    engine(plan(detector, axis, *points(), exposure, md={KEY: scan_metadata(SCAN)}))

    start, stop = documents[0][1], documents[-1][1]
    assert (documents[0][0], documents[-1][0], stop["exit_status"]) == ("start", "stop", "success")
    for name, doc in documents:
        schema_validators[DocumentNames[name]].validate(doc)
    resources = [doc for name, doc in documents if name == "stream_resource"]
    path = next(doc["uri"] for doc in resources if doc["data_key"] == "det").removeprefix("file://localhost")
    datum = [doc for name, doc in documents if name == "stream_datum"]
    of_frames = [doc for doc in datum if doc["stream_resource"] == resources[0]["uid"]]
    assert sum(doc["indices"]["stop"] - doc["indices"]["start"] for doc in of_frames) == 15

    written = read_scan(path)
    np.testing.assert_array_equal(written.intensity, SCAN.intensity)
    np.testing.assert_array_equal(written.angles_deg, SCAN.angles_deg)
    np.testing.assert_array_equal(written.monitor, SCAN.monitor)
    assert written.geometry == SCAN.geometry

    assembler = Assembler(run_plan(start))
    for frame in received(listener, 15):
        assembler.add(frame)
    np.testing.assert_array_equal(assembler.scan().intensity, SCAN.intensity)
    np.testing.assert_array_equal(assembler.scan().angles_deg, SCAN.angles_deg)


@pytest.mark.parametrize("plan", [rocking_scan, fly_rocking_scan])
def test_a_voltage_in_the_baseline_or_monitored_is_the_runs_state(beamline, plan):
    """bluesky's own documents; what is monitored is not changed while the scan runs."""
    engine, detector, axis, documents, _ = beamline
    with init_devices():
        voltage, heat = soft_signal_rw(float, 3.6), soft_signal_rw(float, 295.0)
    voltage.set_name("cell-voltage")
    heat.set_name("heat")
    engine.preprocessors.append(SupplementalData(baseline=[voltage], monitors=[heat]))
    engine(plan(detector, axis, *points(), 0.005, md={KEY: scan_metadata(SCAN)}))
    found = {name: state_of(documents[0][1], documents, name) for name in ("cell-voltage", "heat")}
    assert found["cell-voltage"] == {"value": 3.6, "std": 0.0, "readings": 2, "from": "baseline"}
    assert (found["heat"]["value"], found["heat"]["from"]) == (295.0, "heat_monitor")


def test_a_scan_name_with_a_slash_is_no_folder(beamline, tmp_path):
    engine, detector, axis, _, _ = beamline
    detector.camera.scan = replace(SCAN, name="gold/111")
    engine(rocking_scan(detector, axis, *points(), md={KEY: scan_metadata(detector.camera.scan)}))
    (path,) = tmp_path.glob("gold_111_*.h5")
    assert read_scan(path).name == "gold/111"


def test_a_step_scan_records_the_motor(beamline):
    engine, detector, axis, documents, _ = beamline
    engine(rocking_scan(detector, axis, *points(), md={KEY: scan_metadata(SCAN)}))
    angles = [doc["data"]["theta"] for name, doc in documents if name == "event"]
    np.testing.assert_array_equal(angles, SCAN.angles_deg)


def test_missing_metadata_stops_the_plan_before_anything_happens(beamline):
    engine, detector, axis, documents, _ = beamline
    table = scan_metadata(SCAN)
    del table["geometry"]["energy_kev"], table["name"]
    with pytest.raises(ScanError, match=r"name.*energy_kev|energy_kev.*name"):
        engine(rocking_scan(detector, axis, *points(), md={KEY: table}))
    assert documents == []


def test_an_aborted_scan_leaves_what_was_measured(beamline):
    engine, detector, axis, documents, _ = beamline
    take = detector.camera._take

    def fail_at_the_eighth(recorded):
        if recorded == 7:
            raise RuntimeError("shutter closed")
        take(recorded)

    detector.camera._take = fail_at_the_eighth
    began_s = time.monotonic()
    with pytest.raises(FailedStatus):
        engine(rocking_scan(detector, axis, *points(), md={KEY: scan_metadata(SCAN)}))
    assert time.monotonic() - began_s < 5.0  # ophyd-async gives up waiting for a frame after 10 s
    stop = documents[-1][1]
    assert stop["exit_status"] == "fail"
    assert "shutter closed" in stop["reason"]
    resource = next(doc for name, doc in documents if name == "stream_resource")
    assembler = Assembler(run_plan(documents[0][1]))
    with FrameFile(resource["uri"].removeprefix("file://localhost")) as store:
        assembler.refill(store)
    assert assembler.missing == list(range(7, 15))
    np.testing.assert_array_equal(assembler.scan().intensity, SCAN.intensity[:7])


def test_a_step_to_where_nothing_was_recorded_fails_and_says_so(beamline):
    engine, detector, axis, documents, _ = beamline
    between = float(SCAN.angles_deg[:2].mean())
    with pytest.raises(FailedStatus):
        engine(rocking_list_scan(detector, axis, [between, 0.0, 0.1], md={KEY: scan_metadata(SCAN)}))
    assert "no frame left that was recorded at" in documents[-1][1]["reason"]


@pytest.mark.parametrize("angles", [[], [0.0, float("nan"), 0.1]])
def test_angles_that_are_none_are_refused_before_anything_happens(beamline, angles):
    engine, detector, axis, documents, _ = beamline
    with pytest.raises(ScanError, match="finite numbers"):
        engine(rocking_list_scan(detector, axis, angles, md={KEY: scan_metadata(SCAN)}))
    assert documents == []


@pytest.mark.parametrize("backwards", [False, True])
def test_a_sweep_says_where_the_axis_was_and_how_far_it_turned_in_a_frame(beamline, backwards):
    """By brute force: the monitored positions a frame's exposure apart differ by the blur, at most times of the
    middle third: the axis gains speed before, and on a busy machine it may be late."""
    engine, detector, axis, documents, _ = beamline
    exposure = 0.1
    first, last, num = points()
    if backwards:
        first, last = last, first
        detector.camera.scan = replace(SCAN, angles_deg=SCAN.angles_deg[::-1].copy())
    engine(fly_rocking_scan(detector, axis, first, last, num, exposure, md={KEY: scan_metadata(SCAN)}))
    (descriptor,) = [doc for name, doc in documents if name == "descriptor" and doc["name"] == "theta_monitor"]
    track = [doc for name, doc in documents if name == "event" and doc["descriptor"] == descriptor["uid"]]
    times_s = [doc["timestamps"]["theta"] for doc in track]
    positions = [doc["data"]["theta"] for doc in track]
    middle = times_s[len(times_s) // 2]
    begun_s = np.linspace(*np.quantile(times_s, [0.35, 0.65]), 200)
    moved = np.interp(begun_s + exposure, times_s, positions) - np.interp(begun_s, times_s, positions)
    blur_deg = documents[0][1][KEY]["scan"]["angular_blur_deg"]
    assert np.median(np.abs(moved)) == pytest.approx(blur_deg, rel=0.2)
    assert blur_deg == pytest.approx(abs(last - first) / num)

    angles = Angles(run_plan(documents[0][1]), documents[0][1])
    for name, doc in documents:
        angles.document(name, doc)
    assert angles.of(0, middle) == pytest.approx(np.interp(middle, times_s, positions))


def test_a_step_scan_has_no_blur(beamline):
    engine, detector, axis, documents, _ = beamline
    engine(rocking_scan(detector, axis, *points(), md={KEY: scan_metadata(SCAN)}))
    assert documents[0][1][KEY]["scan"]["angular_blur_deg"] is None
