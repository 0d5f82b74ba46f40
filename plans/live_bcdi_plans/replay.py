"""Play a recorded scan through the RunEngine, as if it were measured now."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import bluesky.preprocessors as bpp
import numpy as np
import zmq
from bluesky import RunEngine
from bluesky.utils import Msg, MsgGenerator
from ophyd_async.core import init_devices
from ophyd_async.sim import SimMotor

from live_bcdi.config import Config
from live_bcdi.metadata import scan_metadata
from live_bcdi.stream.journal import Document
from live_bcdi.stream.run import KEY
from live_bcdi.transport.keys import LOCAL, Access, access_of
from live_bcdi.transport.zmq import PROBE
from live_bcdi.types import RockingScan, ScanError

from .engine import AbortOnSignal, execute
from .publishing import DocumentPublisher, broker_publisher
from .recorded import RecordedDetector, require_whole
from .rocking import fly_rocking_scan, rocking_list_scan

Listener = Callable[[str, dict[str, Any]], None]  # of documents

LISTEN_S = 3.0  # for the frame stream's first subscriber; without one the scan goes on, from the file
BROKER_S = 10.0
FLY_HZ = 200.0  # a sweep needs a speed: what "as fast as it goes" means on the fly


def replay(
    scan: RockingScan,
    config: Config,
    *,
    rate_hz: float = 0.0,
    fly: bool = False,
    told: Listener | None = None,
    engine: RunEngine | None = None,
) -> str:
    """Run `scan` at `rate_hz` frames a second (0: as fast as it goes), by steps or on the fly; its uid.

    The axis goes to the recorded angles, in the order of the frames. Frames go to `<storage>/frames`, documents to
    the broker, and to `told` besides. `engine` is one of `new_engine`, by default its own. Raises ScanError
    where no broker answers, where the scan lacks frames or what analysis needs, and where `rate_hz` is negative.
    """
    require_whole(scan)
    if rate_hz < 0:
        raise ScanError(f"a rate is 0 (as fast as it goes) or positive, not {rate_hz}")
    if config.stream.source != "live_bcdi":
        raise ScanError(
            "replay sends frames in our own form: "
            f"set [stream] source to 'live_bcdi', not {config.stream.source!r}"
        )
    directory = config.storage.directory.absolute() / "frames"
    directory.mkdir(parents=True, exist_ok=True)
    with DocumentPublisher(config) as publisher:
        wait_for_broker(publisher, config.stream.documents_out, BROKER_S, access_of(config.stream))
        engine = engine or new_engine(config)
        tokens = [engine.subscribe(listener) for listener in (publisher, told) if listener is not None]
        try:
            return _measure(scan, config, directory, engine, rate_hz=rate_hz, fly=fly)
        finally:
            for token in tokens:
                engine.unsubscribe(token)


def new_engine(config: Config) -> RunEngine:
    """A RunEngine that a signal aborts."""
    return RunEngine({"beamline": config.beamline}, context_managers=[AbortOnSignal])


def _measure(
    scan: RockingScan,
    config: Config,
    directory: Path,
    engine: RunEngine,
    *,
    rate_hz: float,
    fly: bool,
) -> str:
    with init_devices():
        axis = SimMotor(name=scan.geometry.rocking, initial_value=float(scan.angles_deg[0]), units="deg")
        detector = RecordedDetector(
            scan,
            axis,
            directory=directory,
            frames_address=config.stream.frames,
            access=access_of(config.stream),
            name=config.detector.name,
        )
    try:
        detector.camera.wait_for_listener(LISTEN_S)
        return execute(engine, _plan(scan, detector, axis, rate_hz=rate_hz, fly=fly))
    finally:
        detector.camera.close()


def _plan(
    scan: RockingScan, detector: RecordedDetector, axis: SimMotor, *, rate_hz: float, fly: bool
) -> MsgGenerator[str]:
    md = {KEY: scan_metadata(scan), "sample": scan.sample, "scan_name": scan.name}
    angles = np.asarray(scan.angles_deg, float)
    if not fly:
        return rocking_list_scan(detector, axis, angles, 1 / rate_hz if rate_hz else 0.0, md)
    # jitter may put the extreme angles elsewhere than first and last; the sweep must pass them all
    ends = [float(angles.min()), float(angles.max())]
    start, stop = ends if angles[0] <= angles[-1] else ends[::-1]
    sweep = fly_rocking_scan(detector, axis, start, stop, len(angles), 1 / (rate_hz or FLY_HZ), md)
    return bpp.msg_mutator(sweep, lambda message: _with_recorded_blur(message, scan))


def _with_recorded_blur(message: Msg, scan: RockingScan) -> Msg:
    """The frames were taken then and not in this sweep: the blur is the recording's."""
    if message.command == "open_run":
        message.kwargs[KEY]["scan"]["angular_blur_deg"] = scan.angular_blur_deg
    return message


def send_again(documents: Sequence[Document], config: Config) -> None:
    """Send the documents of a run that a journal kept. Raises ScanError where no broker answers."""
    publisher = broker_publisher(config)
    try:
        wait_for_broker(publisher, config.stream.documents_out, BROKER_S, access_of(config.stream))
        for name, doc in documents:
            publisher(name, doc)
    finally:
        publisher.close()


def wait_for_broker(publisher: Listener, out_address: str, timeout_s: float, access: Access = LOCAL) -> None:
    """Return once what `publisher` sends comes out of the broker: a PUB socket drops what it sends too early.

    Raises ScanError after `timeout_s`, and where the broker refuses our keys.
    """
    access.check_answer(out_address)
    with zmq.Context() as context, context.socket(zmq.SUB) as listener:
        listener.subscribe(f" {PROBE} ".encode())
        access.connect(listener, out_address)
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            publisher(PROBE, {})
            if listener.poll(50):
                return
    raise ScanError(f"no broker answers at {out_address}; start the services with `live-bcdi up`")
