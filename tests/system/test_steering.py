"""A plan on the virtual beamline that asks a real service for advice, and what it does when that is killed."""

import json
import signal
import subprocess
import sys
import time

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import pytest
from bluesky import RunEngine
from bluesky.run_engine import call_in_bluesky_event_loop

from live_bcdi.config import load_config
from live_bcdi.sim.scenes import virtual_beamline
from live_bcdi.stream.run import KEY
from live_bcdi.transport.zmq import UpdateSubscriber
from live_bcdi_plans.advisor import INFORMATION, Advisor, motor_limits, recommendation
from live_bcdi_plans.publishing import DocumentPublisher
from live_bcdi_plans.replay import wait_for_broker
from live_bcdi_plans.rocking import rocking_scan
from live_bcdi_plans.virtual import VirtualStation

TIMEOUT_S = 2.0
HALF_DEG, NUM = 0.25, 41  # as the plan was written


@pytest.fixture
def services(tmp_path, make_config):
    """Broker and advice, in processes of their own, each started once more by `services.start(name)`."""
    path = make_config(tmp_path, steering={"advise": True, "timeout_s": 60.0})
    rig = Services(path)
    try:
        for name in ("broker", "advise"):
            rig.start(name)
        yield rig
    finally:
        rig.close()


class Services:
    def __init__(self, path):
        self.path, self.config, self.processes = path, load_config(path), {}
        self._updates = UpdateSubscriber(self.config.stream.updates_out, ("health",))

    def start(self, name):
        command = [
            sys.executable,
            "-m",
            "live_bcdi.cli",
            "service",
            name,
            "--supervised",
            "--config",
            str(self.path),
        ]
        self.processes[name] = subprocess.Popen(command, stdin=subprocess.PIPE)
        until_s = time.monotonic() + 60
        while time.monotonic() < until_s:
            heard = list(self._updates.receive(0.2))
            if any(update.fields["pid"] == self.processes[name].pid for update in heard):
                return
        pytest.fail(f"{name} did not come up")

    def kill(self, name):
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes[name].wait()

    def close(self):
        for process in self.processes.values():
            process.kill()
            process.wait()
        self._updates.close()


@pytest.fixture
def beamline(services, tmp_path):
    config = services.config
    line = virtual_beamline(config, shape=(48, 48), misaligned_deg=0.05, strain="none", peak_hz=5e4, seed=2)
    station = VirtualStation(line, directory=tmp_path, frames_address=config.stream.frames)
    engine, advisor, documents = RunEngine({}), Advisor(config), []
    for device in (station, advisor):
        call_in_bluesky_event_loop(device.connect())
    with DocumentPublisher(config) as publisher:
        wait_for_broker(publisher, config.stream.documents_out, 10.0)
        engine.subscribe(publisher)
        engine.subscribe(lambda name, doc: documents.append((name, doc)))
        assert station.detector.camera.wait_for_listener(10.0)
        yield engine, station, advisor, documents
    advisor.close()
    station.close()


def adaptive(station, advisor, config, between=lambda: None):
    """A quick scan, then one as that advises, or as it was written here: what it was told is a run of its own."""
    axis = station.motors["theta"]
    middle = yield from bps.rd(axis)
    limits = motor_limits(config)["theta"]
    wanted = {"dose_s": 2.0, "limits_deg": list(limits)}
    asks = {
        "task": "rocking",
        "wanted": wanted,
        "seconds": 0.1,
        "transmission": 0.0625,
        "transmissions": [1.0, 0.0625],
    }
    yield from bps.mv(station.attenuator, 0.0625)
    ends = (middle - HALF_DEG, middle + HALF_DEG)
    md = {KEY: dict(station.scan_table("pre")), "steering": asks}
    pre = yield from rocking_scan(station.detector, axis, *ends, NUM, 0.1, md)
    between()
    told = []

    @bpp.run_decorator(md={"purpose": "advice"})
    def ask():
        angles = {"start_deg": limits, "stop_deg": limits, "centre_deg": limits}
        others = {"num": (3, 500), "transmission": (0, 1), "acquisition_s": (0, 10), "seconds": (0, 1e4)}
        ranges = {**INFORMATION, **angles, **others}
        told.append((yield from recommendation(advisor, pre, frames=NUM, whats=("scan",), ranges=ranges)))

    yield from ask()
    places = ends if told[0] is None else (told[0].values["start_deg"], told[0].values["stop_deg"])
    num = NUM if told[0] is None else int(told[0].values["num"])
    yield from rocking_scan(station.detector, axis, *places, num, 0.1, {KEY: dict(station.scan_table("main"))})
    return told[0]


def recommended(documents):
    keys = {doc["uid"] for name, doc in documents if name == "descriptor" and doc["name"] == "recommendation"}
    return [doc["data"] for name, doc in documents if name == "event" and doc["descriptor"] in keys]


def test_a_plan_is_advised_and_without_the_service_goes_on_as_written(services, beamline):
    engine, station, advisor, documents = beamline
    home = station.beamline.readback("theta")
    truth = home + station.beamline.miss(station.beamline.field.grains[0]).rocking_deg
    # alive: the second scan is about the peak
    result = engine(adaptive(station, advisor, services.config))
    starts = [doc for name, doc in documents if name == "start"]
    (said,) = recommended(documents)
    assert said["advisor-status"] == "advised" and said["advisor-frames"] == NUM
    values = json.loads(said["advisor-values"])
    main = starts[-1][KEY]["planned"]
    assert (main["start_deg"], main["stop_deg"], main["num"]) == (
        values["start_deg"],
        values["stop_deg"],
        values["num"],
    )
    assert result is not None
    assert abs(values["centre_deg"] - truth) < 0.01
    # killed in the middle: as it was written, and within its timeout
    documents.clear()
    advisor.timeout_s = TIMEOUT_S
    engine(bps.mv(station.motors["theta"], home))
    began_s = time.monotonic()
    engine(adaptive(station, advisor, services.config, between=lambda: services.kill("advise")))
    assert time.monotonic() - began_s < TIMEOUT_S + 20
    (said,) = recommended(documents)
    assert said["advisor-status"] == "timeout" and said["advisor-waited_s"] < TIMEOUT_S + 1
    main = [doc for name, doc in documents if name == "start"][-1][KEY]["planned"]
    assert main["num"] == NUM and main["stop_deg"] - main["start_deg"] == pytest.approx(2 * HALF_DEG)
    assert [doc["exit_status"] for name, doc in documents if name == "stop"] == ["success"] * 3
    # back again: so is its advice
    services.start("advise")
    documents.clear()
    advisor.timeout_s = 60.0
    engine(bps.mv(station.motors["theta"], home))
    engine(adaptive(station, advisor, services.config))
    assert [each["advisor-status"] for each in recommended(documents)] == ["advised"]
