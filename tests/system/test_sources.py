"""Real services and every source that knows nothing of us: what is refined is what was measured, bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import zmq
from p4p.nt import NTNDArray
from p4p.server import Server
from p4p.server.thread import SharedPV

from live_bcdi.config import load_config
from live_bcdi.pipeline import provenance
from live_bcdi.sim import simulate_scan
from live_bcdi.sim.areadetector import SimulatedHdfPlugin
from live_bcdi.sim.stream2 import SimulatedEiger
from live_bcdi.stream.fakes import start_document
from live_bcdi.transport.frames import FrameFile, part_path
from live_bcdi.transport.hdf5 import read_result, read_scan
from live_bcdi.transport.zmq import UpdateSubscriber, encode_document
from live_bcdi.types import ScanError

NUM, SHAPE = 16, (32, 32)
PV = "SIM:Pva1:Image"
PHASING = {"recipe": "5*ER", "starts": 1, "threads": 1}


class Services:
    """Processes of one beamline, each with the configuration it is given."""

    def __init__(self, config):
        self.processes = {}
        self.updates = UpdateSubscriber(config.stream.updates_out)

    def start(self, name, path, environment=None):
        command = [sys.executable, "-m", "live_bcdi.cli", "service", name, "--supervised", "--config", str(path)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, env={**os.environ, **(environment or {})})
        self.processes[name] = process

    def wait(self, *names, seconds=60.0):
        """Until each of them has said that it is there."""
        pids, until = {self.processes[name].pid for name in names}, time.monotonic() + seconds
        while pids and time.monotonic() < until:
            for update in self.updates.receive(0.1):
                if update.topic == "health":
                    pids.discard(update.fields["pid"])
        assert not pids, f"{names} did not come up"

    def end(self, name, how=signal.SIGTERM):
        process = self.processes.pop(name)
        process.send_signal(how)
        process.wait(20)


def until(look, seconds=40.0):
    """What `look` finds, once it finds something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.02)
    pytest.fail(f"{look} found nothing in {seconds} s")


@pytest.fixture(scope="module")
def beamline(tmp_path_factory, make_config, free_port):
    """Everything but the recorder, which each source has for itself; Tiled is away."""
    folder = tmp_path_factory.mktemp("beamline")
    addresses = ("documents_in", "documents_out", "updates_in", "updates_out", "relay")
    common = {name: f"tcp://127.0.0.1:{free_port()}" for name in addresses}
    storage = {"directory": str(folder / "runs")}
    tiled = {"uri": f"http://127.0.0.1:{free_port()}/api/v1"}

    def configured(source, **stream):
        place = folder / source
        place.mkdir(exist_ok=True)
        table = {**common, "source": source, "monitor": "i0", **stream}
        return make_config(place, stream=table, tiled=tiled, storage=storage, phasing=PHASING)

    path = configured("documents")
    config = load_config(path)
    services = Services(config)
    with pytest.MonkeyPatch.context() as patch:  # the modules that follow have keys of their own
        patch.setenv("LIVE_BCDI_TILED_API_KEY", "5" * 64)
        for name in ("broker", "archiver", "live", "refine"):
            services.start(name, path)
        services.wait("broker", "archiver", "live", "refine")
        with zmq.Context() as context, context.socket(zmq.PUB) as socket:
            socket.connect(common["documents_in"])
            yield services, configured, Publisher(socket), config
        for name in list(services.processes):
            services.end(name)


class Publisher:
    """A RunEngine, as the broker sees it."""

    def __init__(self, socket):
        self._socket = socket

    def __call__(self, name, doc):
        self._socket.send(b" ".join([b"", name.encode(), encode_document(doc)]))


@pytest.fixture(scope="module")
def scan(beamline):
    """Angles that no plan would guess, and a monitor."""
    made, _ = simulate_scan(shape=(NUM, *SHAPE), photons=1e6, strain="weak", seed=1, config=beamline[3])
    random = np.random.default_rng(5)
    jitter = 1e-4 * random.standard_normal(NUM)
    return replace(made, angles_deg=made.angles_deg + jitter, monitor=random.uniform(900, 1100, NUM).round())


class Source:
    """A detector at work: `expose` takes the frame, `data` is what its event holds of it."""

    dtype = "i4"

    def __init__(self):
        self.environment, self.keys = {}, {}

    def begin(self, publish, run):
        pass

    def expose(self, index, image):
        pass

    def flush(self):
        pass

    def data(self, image):
        return {}


@contextmanager
def dectris(address, folder):
    with SimulatedEiger(address) as detector:
        source = Source()
        source.dtype = "<u4"
        source.begin = lambda publish, run: detector.arm(NUM, SHAPE)
        source.expose = lambda index, image: detector.send(detector.image_message({"threshold_1": image}))
        yield source


@contextmanager
def soft_ioc(address, folder):
    pv = SharedPV(initial=NTNDArray().wrap(np.zeros(SHAPE, "i4"), timestamp=1.0))
    with Server(providers=[{PV: pv}], isolate=True) as server:
        source = Source()
        source.environment = {key: str(value) for key, value in server.conf().items()}

        def expose(index, image):
            value = NTNDArray().wrap(image, timestamp=time.time())
            value.uniqueId = 500 + index
            pv.post(value)

        source.expose = expose
        yield source


@contextmanager
def inline(address, folder):
    source = Source()
    source.keys = {"det_image": {"dtype": "array", "shape": list(SHAPE), "dtype_numpy": "<i4", "source": "x"}}
    source.data = lambda image: {"det_image": image.tolist()}
    yield source


@contextmanager
def area_detector(address, folder):
    path = folder / "ad.h5"
    with SimulatedHdfPlugin(path, SHAPE, "<i4", flush_every=3) as plugin:

        def begin(publish, run):
            about = {"uri": f"file://localhost{path}", "parameters": {"dataset": "/entry/data/data"}}
            publish("stream_resource", {"uid": f"{run}r", "run_start": run, **about})
            datum = {"uid": f"{run}r/0", "stream_resource": f"{run}r", "descriptor": f"{run}d"}
            publish("stream_datum", {**datum, "indices": {"start": 0, "stop": NUM}})

        source = Source()
        source.begin = begin
        source.expose = lambda index, image: plugin.write(image, number=7 + index, time_s=time.time())
        source.flush = plugin.flush
        yield source


SOURCES = {"stream2": dectris, "pvaccess": soft_ioc, "documents": inline, "hdf5": area_detector}


class Measurement:
    """One run of a scan, as a RunEngine tells it."""

    def __init__(self, publish, source, scan):
        self.run = str(uuid.uuid4())
        self.scan = replace(scan, intensity=scan.intensity.astype(source.dtype))
        self._publish, self._source = publish, source

    def begin(self):
        motor = self.scan.geometry.rocking
        start = {**start_document(self.scan, self.run), "time": time.time()}
        start["live_bcdi"]["planned"] |= {"start_deg": -0.5, "stop_deg": 0.5}
        keys = {motor: {"dtype": "number", "shape": []}, "i0": {"dtype": "number", "shape": []}}
        self._publish("start", start)
        descriptor = {"uid": f"{self.run}d", "run_start": self.run, "name": "primary"}
        self._publish("descriptor", {**descriptor, "data_keys": {**keys, **self._source.keys}})
        self._source.begin(self._publish, self.run)

    def take(self, *indices):
        for index in indices:
            image = self.scan.intensity[index]
            self._source.expose(index, image)
            readings = {self.scan.geometry.rocking: self.scan.angles_deg[index], "i0": self.scan.monitor[index]}
            data = {**readings, **self._source.data(image)}
            event = {"uid": f"{self.run}{index}", "descriptor": f"{self.run}d", "seq_num": index + 1}
            self._publish("event", {**event, "data": data, "timestamps": dict.fromkeys(data, time.time())})

    def end(self):
        self._publish("stop", {"uid": f"{self.run}s", "run_start": self.run, "exit_status": "success"})

    def summary(self, storage):
        """What the refinement says."""
        (path,) = until(lambda: list((storage / "queue" / "done").glob(f"*{self.run}.json")))
        return json.loads(path.read_text())

    def file(self, storage):
        return next(iter((storage / "frames").glob(f"*_{self.run[:8]}.h5")), None)


@contextmanager
def recording(beamline, name, free_address, folder):
    services, configured, _, _ = beamline
    with SOURCES[name](free_address, folder) as source:
        path = configured(name, frames=PV if name == "pvaccess" else free_address)
        services.start("recorder", path, source.environment)
        services.wait("recorder")
        try:
            yield source, path
        finally:
            services.end("recorder")


def check(measurement, storage, missing):
    told = measurement.summary(storage)
    assert told["missing"] == missing
    recorded = read_scan(measurement.file(storage))
    have = np.ones(NUM, bool) if recorded.have is None else recorded.have
    assert np.flatnonzero(~have).tolist() == missing
    for each in ("intensity", "angles_deg", "monitor"):
        np.testing.assert_array_equal(getattr(recorded, each)[have], getattr(measurement.scan, each)[have])
    assert recorded.intensity.dtype == measurement.scan.intensity.dtype
    if not missing:
        assert read_result(told["file"]).provenance["input_sha256"] == provenance(measurement.scan)["input_sha256"]


@pytest.mark.parametrize("name", SOURCES)
def test_what_is_refined_is_what_was_measured(name, beamline, scan, free_address, tmp_path):
    _, _, publish, config = beamline
    with recording(beamline, name, free_address, tmp_path) as (source, _):
        measurement = Measurement(publish, source, scan)
        measurement.begin()
        measurement.take(0)
        source.flush()
        until(lambda: recorded(measurement, config.storage.directory))  # who subscribes late has no claim
        measurement.take(*range(1, NUM))
        measurement.end()
        source.flush()  # areaDetector's last frames are on disk after the stop
        check(measurement, config.storage.directory, [])


def recorded(measurement, storage):
    path = measurement.file(storage)
    try:
        return set() if path is None else FrameFile(path).indices()
    except ScanError:
        return set()


KILLED = {"stream2": [6, 7, 8], "pvaccess": [6, 7], "documents": [], "hdf5": []}


@pytest.mark.parametrize(("name", "missing"), KILLED.items())
def test_a_recorder_that_hangs_and_is_killed_in_mid_run(name, missing, beamline, scan, free_address, tmp_path):
    """stream2's detector has sent its frames, pvAccess keeps the newest alone; the frames in documents are in the
    archiver's journal, and the file can be read again."""
    services, _, publish, config = beamline
    storage = config.storage.directory
    with recording(beamline, name, free_address, tmp_path) as (source, path):
        measurement = Measurement(publish, source, scan)
        measurement.begin()
        measurement.take(*range(6))
        until(lambda: recorded(measurement, storage) == set(range(6)))
        services.processes["recorder"].send_signal(signal.SIGSTOP)
        measurement.take(6, 7, 8)
        journal = storage / "documents" / f"{measurement.run}.jsonl"
        until(lambda: f"{measurement.run}8" in journal.read_text())
        services.end("recorder", signal.SIGKILL)
        services.start("recorder", path, source.environment)
        services.wait("recorder")
        until(lambda: recorded(measurement, storage) == set(range(9)) - set(missing))
        measurement.take(*range(9, NUM))
        measurement.end()
        source.flush()
        check(measurement, storage, missing)
        assert part_path(measurement.file(storage), 2).exists()
