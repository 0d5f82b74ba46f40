"""Play a recorded scan through the RunEngine, as if it were measured now."""

import time
from pathlib import Path

import zmq
from bluesky import RunEngine
from bluesky.callbacks.zmq import Publisher
from ophyd_async.core import init_devices

from live_bcdi.config import Config
from live_bcdi.metadata import scan_metadata
from live_bcdi.stream.run import KEY
from live_bcdi.transport.zmq import PROBE, encode_document
from live_bcdi.types import RockingScan, ScanError

from .recorded import RecordedAxis, RecordedDetector
from .rocking import fly_rocking_scan, rocking_scan

LISTEN_S = 3.0  # for the frame stream's first subscriber; without one the scan goes on, from the file
BROKER_S = 10.0
FLY_HZ = 200.0  # a sweep needs a speed: what "as fast as it goes" means on the fly


def replay(
    scan: RockingScan,
    config: Config,
    *,
    rate_hz: float = 0.0,
    fly: bool = False,
) -> str:
    """Run `scan` at `rate_hz` frames a second (0: as fast as it goes), by steps or on the fly; its uid.

    Frames go to `<storage>/frames`, documents to the broker. Raises ScanError where no broker answers, where
    the scan lacks what analysis needs, and where `rate_hz` is negative.
    """
    if rate_hz < 0:
        raise ScanError(f"a rate is 0 (as fast as it goes) or positive, not {rate_hz}")
    directory = config.storage.directory.absolute() / "frames"
    directory.mkdir(parents=True, exist_ok=True)
    publisher = Publisher(config.stream.documents_in, serializer=encode_document)
    try:
        wait_for_broker(publisher, config.stream.documents_out, BROKER_S)
        return _measure(scan, config, directory, publisher, rate_hz, fly)
    finally:
        publisher.close()


def _measure(
    scan: RockingScan,
    config: Config,
    directory: Path,
    publisher: Publisher,
    rate_hz: float,
    fly: bool,
) -> str:
    engine = RunEngine({"beamline": config.beamline})
    engine.subscribe(publisher)
    with init_devices():
        axis = RecordedAxis(scan.angles_deg, name=scan.geometry.rocking)
        detector = RecordedDetector(
            scan, axis, directory=directory, frames_address=config.stream.frames, name=config.detector.name
        )
    try:
        detector.camera.wait_for_listener(LISTEN_S)
        first, last, num = float(scan.angles_deg[0]), float(scan.angles_deg[-1]), len(scan.angles_deg)
        metadata = {KEY: scan_metadata(scan), "sample": scan.sample, "scan_name": scan.name}
        plan = fly_rocking_scan if fly else rocking_scan
        exposure = 1 / rate_hz if rate_hz else (1 / FLY_HZ if fly else 0.0)
        runs: list[str] = []
        engine(
            plan(detector, axis, first, last, num, exposure, md=metadata),
            {"start": lambda _, doc: runs.append(doc["uid"])},
        )
        return runs[0]
    finally:
        detector.camera.close()


def wait_for_broker(publisher: Publisher, out_address: str, timeout_s: float) -> None:
    """Return once what `publisher` sends comes out of the broker: a PUB socket drops what it sends too early.

    Raises ScanError after `timeout_s`.
    """
    with zmq.Context() as context, context.socket(zmq.SUB) as listener:
        listener.subscribe(f" {PROBE} ".encode())
        listener.connect(out_address)
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            publisher(PROBE, {})
            if listener.poll(50):
                return
    raise ScanError(f"no broker answers at {out_address}; start the services with `live-bcdi up`")
