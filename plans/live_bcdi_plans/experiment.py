"""An experiment on the virtual beamline through the whole live path: states, a quick look at each, a scan at
each."""

from collections.abc import Sequence
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import numpy as np
from bluesky import RunEngine
from bluesky.run_engine import call_in_bluesky_event_loop
from bluesky.utils import MsgGenerator
from ophyd_async.core import TriggerInfo

from live_bcdi.config import Config
from live_bcdi.sim.experiment import Step, charging
from live_bcdi.sim.scattering import rocking_step_deg
from live_bcdi.steering.rocking import PreScan, advise_centre
from live_bcdi.stream.run import KEY
from live_bcdi.transport.keys import access_of
from live_bcdi.types import ScanError

from .engine import execute
from .publishing import DocumentPublisher
from .replay import BROKER_S, LISTEN_S, new_engine, wait_for_broker
from .rocking import rocking_scan
from .virtual import VirtualStation

FRAMES, EXPOSURE_S, ACQUISITIONS = 64, 0.5, 20
LOOKS, LOOK_DEG, LOOK_S, LOOK_TRANSMISSION = 31, 0.2, 0.2, 0.0625
_RUN_UP_STEPS = 3.0  # from below, beyond the backlash


def experiment(config: Config, *, states: int, rate_hz: float = 0.0, seed: int = 0) -> list[dict[str, Any]]:
    """Charge and discharge a virtual crystal in `states` states, at `rate_hz` frames a second (0: as fast as it
    goes); of each state the uid of its `run`, its `volts`, and the mean `strain` that is true.

    Documents go to the broker and frames to `<storage>/frames`, as of `replay`. Raises ScanError where no broker
    answers, for fewer than three states, and where the crystal is not seen any more.
    """
    if rate_hz < 0:
        raise ScanError(f"a rate is 0 (as fast as it goes) or positive, not {rate_hz}")
    directory = config.storage.directory.absolute() / "frames"
    directory.mkdir(parents=True, exist_ok=True)
    beamline, steps = charging(config, states=states, seed=seed)
    with DocumentPublisher(config) as publisher:
        wait_for_broker(publisher, config.stream.documents_out, BROKER_S, access_of(config.stream))
        engine = new_engine(config)
        engine.subscribe(publisher)
        station = VirtualStation(
            beamline,
            directory=directory,
            frames_address=config.stream.frames,
            access=access_of(config.stream),
            speed=rate_hz * EXPOSURE_S or None,
        )
        try:
            call_in_bluesky_event_loop(station.connect())
            station.detector.camera.wait_for_listener(LISTEN_S)
            return _measure(engine, station, steps)
        finally:
            station.close()


def _measure(engine: RunEngine, station: VirtualStation, steps: Sequence[Step]) -> list[dict[str, Any]]:
    done = []
    for number, step in enumerate(steps):
        step.begin(station.beamline)
        looks: list[Any] = []
        execute(engine, look(station, looks))
        centre_deg = advise_centre(_pre_scan(station, looks))
        run = execute(engine, scan(station, centre_deg, name=f"charge-{number:02d}", md={"voltage": step.volts}))
        done.append({"run": run, "volts": step.volts, "strain": step.strain})
    return done


def look(station: VirtualStation, seen: list[Any]) -> MsgGenerator[str]:
    """Short exposures about where the rocking circle is; `seen` gets the angle and the image of each. It is a run
    of its own, which is not taken for a rocking scan."""
    detector, axis = station.detector, station.motors[station.beamline.config.diffractometer.rocking]

    def looks() -> MsgGenerator[str]:
        yield from bps.mv(station.attenuator, LOOK_TRANSMISSION)
        middle = yield from bps.rd(axis)
        uid: str = yield from bps.open_run({"plan_name": "look", "scan_name": detector.camera.scan_name})
        yield from bps.abs_set(detector.run, uid, wait=True)
        yield from bps.prepare(detector, TriggerInfo(number_of_events=1, livetime=LOOK_S), wait=True)
        angles = middle + np.linspace(-LOOK_DEG, LOOK_DEG, LOOKS)
        yield from bps.mv(axis, float(2 * angles[0] - angles[1]))
        for angle in angles:
            yield from bps.mv(axis, float(angle))
            yield from bps.trigger_and_read([detector, axis])
            seen.append(((yield from bps.rd(axis)), (yield from bps.rd(detector.image))))
        yield from bps.close_run()
        return uid

    station.detector.camera.scan_name = "look"
    station.detector.camera.acquisitions = 1
    return (yield from bpp.stage_wrapper(looks(), [detector]))


def _pre_scan(station: VirtualStation, looks: Sequence[Any]) -> PreScan:
    angles, images = zip(*looks, strict=True)
    return PreScan(
        frames=np.stack(images),
        angles_deg=np.array(angles),
        seconds=np.full(len(angles), LOOK_S),
        transmission=np.full(len(angles), station.beamline.transmission),
        saturation_counts=station.beamline.config.detector.saturation_counts,
    )


def scan(station: VirtualStation, centre_deg: float, *, name: str, md: dict[str, Any]) -> MsgGenerator[str]:
    """A rocking scan about an angle, in the full beam, approached from below."""
    axis = station.motors[station.beamline.config.diffractometer.rocking]
    step_deg = rocking_step_deg(station.beamline.geometry())
    start_deg = centre_deg - step_deg * (FRAMES // 2)
    station.detector.camera.acquisitions = ACQUISITIONS
    yield from bps.mv(station.attenuator, 1.0)
    yield from bps.mv(axis, centre_deg)
    table = {KEY: dict(station.scan_table(name)), "sample": "virtual gold", **md}
    yield from bps.mv(axis, start_deg - _RUN_UP_STEPS * step_deg)
    stop_deg = start_deg + step_deg * (FRAMES - 1)
    uid = yield from rocking_scan(station.detector, axis, start_deg, stop_deg, FRAMES, EXPOSURE_S, table)
    yield from bps.mv(axis, centre_deg)  # where the next look begins
    return uid
