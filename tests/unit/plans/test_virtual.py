"""The virtual beamline's devices, driven by a real RunEngine."""

from pathlib import Path

import bluesky.plan_stubs as bps
import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.run_engine import call_in_bluesky_event_loop
from bluesky.suspenders import SuspendFloor
from bluesky.utils import FailedStatus

from live_bcdi.config import load_config
from live_bcdi.sim.hazards import Hazards
from live_bcdi.sim.pace import Pace
from live_bcdi.sim.scenes import virtual_beamline
from live_bcdi.stream.run import KEY
from live_bcdi.transport.hdf5 import read_scan
from live_bcdi.transport.zmq import FrameSubscriber
from live_bcdi.types import ScanError
from live_bcdi_plans.engine import scan_error
from live_bcdi_plans.rocking import fly_rocking_scan, rocking_scan
from live_bcdi_plans.virtual import VirtualStation

CONFIG = load_config(Path(__file__).resolve().parents[3] / "config" / "34idc.toml")
SHAPE = (48, 48)


@pytest.fixture
def station_of(tmp_path, free_address):
    made = []

    def make(speed=None, **how):
        beamline = virtual_beamline(CONFIG, **{"shape": SHAPE, "strain": "none", **how})
        engine = RunEngine({})
        station = VirtualStation(beamline, directory=tmp_path, frames_address=free_address, speed=speed)
        call_in_bluesky_event_loop(station.connect())
        made.append(station)
        return engine, station

    yield make
    for station in made:
        station.close()


def scan(station, plan, half_deg=0.1, num=21, exposure=0.1):
    axis = station.motors["theta"]
    middle = yield from bps.rd(axis)
    md = {KEY: dict(station.scan_table("crystal"))}
    yield from bps.mv(station.attenuator, 0.02)
    return (yield from plan(station.detector, axis, middle - half_deg, middle + half_deg, num, exposure, md))


@pytest.mark.parametrize("plan", [rocking_scan, fly_rocking_scan])
@pytest.mark.parametrize("speed", [None, 20.0])
def test_a_rocking_scan_sees_the_crystal(station_of, tmp_path, free_address, plan, speed):
    engine, station = station_of(speed)
    middle = station.beamline.readback("theta")
    listener = FrameSubscriber(free_address)
    assert station.detector.camera.wait_for_listener(5.0)
    engine(scan(station, plan))
    (path,) = tmp_path.glob("crystal_*.h5")
    measured = read_scan(path)
    counts = measured.intensity.sum(axis=(1, 2))
    assert len(counts) == 21
    assert np.average(measured.angles_deg, weights=np.square(counts)) == pytest.approx(middle, abs=0.01)
    assert measured.monitor == pytest.approx(np.full(21, 1e6 / 64 * 0.1), rel=0.2)
    assert measured.saturation_counts == CONFIG.detector.saturation_counts
    assert measured.bad_pixels.sum() == len(set(station.beamline.field.dead))
    frames = []
    while len(frames) < 21:
        frames += listener.receive(0.1)
    listener.close()
    assert np.array_equal(np.stack([frame.image for frame in frames]), measured.intensity)
    step = 0.2 / 20 if plan is rocking_scan else 0.2 / 21
    assert np.diff(measured.angles_deg) == pytest.approx(np.full(20, step), rel=1e-6)


def test_two_scans_are_two_files(station_of, tmp_path):
    engine, station = station_of()
    for plan in (fly_rocking_scan, rocking_scan, fly_rocking_scan):
        engine(scan(station, plan, num=9))
    assert [len(read_scan(path).intensity) for path in tmp_path.glob("*.h5")] == [9, 9, 9]


def test_plans_may_read_the_newest_frame(station_of):
    engine, station = station_of(peak_hz=5e4)
    seen = {}

    def look():
        yield from scan(station, rocking_scan, num=3)
        for name in ("image", "monitor", "saturated"):
            seen[name] = yield from bps.rd(getattr(station.detector, name))

    engine(look())
    assert seen["image"].shape == SHAPE and seen["image"].sum() > 0
    assert seen["monitor"] > 0 and not seen["saturated"]


@pytest.mark.parametrize("target", [71.0, float("nan"), float("inf")])
def test_motors_refuse_what_is_beyond_their_limits(station_of, target):
    engine, station = station_of()
    before = station.beamline.positions
    with pytest.raises(FailedStatus) as failed:
        engine(bps.mv(station.motors["theta"], target))
    assert isinstance(scan_error(failed.value), ScanError)
    assert station.beamline.positions == before


def test_motors_that_are_moved_together_move_together(station_of):
    engine, station = station_of()
    theta, x = station.motors["theta"], station.motors["x"]
    start = station.beamline.readback("theta")

    def moves():
        yield from bps.mv(theta, start + 1, x, 100.0)
        assert (yield from bps.rd(theta)) == start + 1
        yield from scan(station, rocking_scan, half_deg=1e-9, num=3)
        yield from bps.mv(theta, start - 1)
        yield from bps.mv(theta, start)  # which takes as long as the way there and back

    engine(moves())
    assert station.beamline.readback("theta") != start  # still on its way, on the beamline's clock
    station.beamline.settle()
    assert station.beamline.readback("theta") == start
    assert station.beamline.time_s == pytest.approx(2 + 0.3 + 2 + 1, abs=1e-6)


def test_backlash_is_there_for_plans_too(station_of):
    engine, station = station_of(hazards=Hazards(backlash=0.02))
    theta, start = station.motors["theta"], station.beamline.readback("theta")
    for way, error in ((-1.0, 0.01), (1.0, -0.01)):
        engine(bps.mv(theta, start + way))
        engine(bps.mv(theta, start))
        station.beamline.settle()
        assert station.beamline.miss(station.beamline.field.grains[0]).rocking_deg == pytest.approx(error)


def test_attenuator_and_shutter(station_of):
    engine, station = station_of()
    engine(bps.mv(station.attenuator, 0.02, station.shutter, False))
    assert station.beamline.transmission == 1 / 64 and not station.beamline.shutter_open
    for wrong in (0.0, 1.5, float("nan")):
        with pytest.raises(FailedStatus):
            engine(bps.mv(station.attenuator, wrong))


def test_a_suspender_waits_for_the_beam(station_of):
    """A trip in the middle of a scan: the frames after it are taken in light again."""
    engine, station = station_of(100.0, hazards=Hazards(trip_every_s=40.0, trip_s=20.0), seed=2)
    begin_s, end_s = station.beamline.course.trips[0]
    assert begin_s < 200
    engine.install_suspender(SuspendFloor(station.ring.for_suspenders, 50.0, sleep=0.0))
    times = []

    def look():
        for _ in range(round(begin_s / 2) + 20):
            yield from bps.checkpoint()
            yield from bps.sleep(0.02)
            times.append(station.beamline.time_s)

    engine(look())
    inside = [time for time in times if begin_s + 20 < time < end_s - 20]
    engine.clear_suspenders()
    assert not inside and times[-1] > end_s


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan")])
def test_time_goes_forward(speed):
    with pytest.raises(ScanError, match="positive speed"):
        Pace(virtual_beamline(CONFIG, shape=SHAPE), speed)
