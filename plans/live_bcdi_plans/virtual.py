"""The virtual beamline as ophyd-async devices: the plans that drive it drive a real one.

RE = RunEngine()
station = VirtualStation(virtual_beamline(config, seed=1), directory=folder, frames_address=address)
call_in_bluesky_event_loop(station.connect())
RE(rocking_scan(station.detector, station.motors["theta"], ..., md={"live_bcdi": station.scan_table("first")}))
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import ophyd
from ophyd_async.core import (
    AsyncStatus,
    Device,
    DeviceMock,
    FlyMotorInfo,
    MovableLogic,
    StandardMovable,
    StandardReadable,
    TimeoutCalculator,
    default_mock_class,
    soft_signal_r_and_setter,
    soft_signal_rw,
)
from ophyd_async.core import StandardReadableFormat as Format

from live_bcdi.metadata import scan_metadata
from live_bcdi.sim.beamline import Beamline, Exposure
from live_bcdi.sim.pace import Pace
from live_bcdi.transport.keys import LOCAL, Access
from live_bcdi.types import BoolArray, Geometry, RockingScan, ScanError, Vector

from .camera import Camera, CameraDetector

SHORTEST_S = 1e-3  # exposure


@dataclass
class _MoveLogic(MovableLogic[float]):
    pace: Pace
    motor: str

    async def check_move(self, new_position: float) -> None:
        self.pace.beamline.axis(self.motor).check(new_position)

    async def stop(self) -> None:
        """Where time does not go by, the plan has seen it arrive: bluesky stops every motor when a plan ends."""
        if self.pace.speed is not None:
            self.pace.go_on()
            self.pace.beamline.axis(self.motor).halt(self.pace.beamline.time_s)
            self.pace.changed()

    async def move(self, new_position: float, timeout: TimeoutCalculator) -> None:
        beamline = self.pace.beamline
        self.pace.go_on()
        if self.pace.speed is None:  # a motor that is on its way gets there first
            beamline.until(beamline.axis(self.motor).end_s)
        await self.setpoint.set(new_position)
        await self.pace.reach(beamline.begin(self.motor, new_position))
        self.pace.changed()


@default_mock_class(DeviceMock)
class VirtualMotor(StandardReadable, StandardMovable[float]):
    """A motor of the beamline, which refuses with ScanError to go beyond its limits. It can be flown."""

    def __init__(self, pace: Pace, motor: str, name: str = "") -> None:
        self._pace, self._motor = pace, motor
        axis = pace.beamline.axis(motor)
        with self.add_children_as_readables(Format.HINTED_SIGNAL):
            self.user_readback, self._set_readback = soft_signal_r_and_setter(float, axis.target, units=axis.unit)
        with self.add_children_as_readables(Format.CONFIG_SIGNAL):
            self.low_limit_travel, _ = soft_signal_r_and_setter(float, axis.limits[0], units=axis.unit)
            self.high_limit_travel, _ = soft_signal_r_and_setter(float, axis.limits[1], units=axis.unit)
        self.user_setpoint = soft_signal_rw(float, axis.target, units=axis.unit)
        self._sweep: FlyMotorInfo | None = None
        pace.tell(self._read_back)
        super().__init__(name=name)

    def _read_back(self) -> None:
        """Where nobody waits for motors, they are where they will be at the next exposure."""
        axis = self._pace.beamline.axis(self._motor)
        under_way = self._pace.speed is not None or self._pace.sweeping.is_set()
        self._set_readback(axis.readback_at(self._pace.beamline.time_s) if under_way else axis.target)

    @cached_property
    def movable_logic(self) -> _MoveLogic:
        return _MoveLogic(
            setpoint=self.user_setpoint, readback=self.user_readback, pace=self._pace, motor=self._motor
        )

    @AsyncStatus.wrap
    async def prepare(self, value: FlyMotorInfo) -> None:
        """Go to where the sweep begins; it is at speed at once. Raises ScanError where it would cross a limit."""
        axis = self._pace.beamline.axis(self._motor)
        axis.check(value.end_position)
        self._sweep = value
        await self.set(value.start_position)
        self._pace.beamline.settle()

    @AsyncStatus.wrap
    async def kickoff(self) -> None:
        assert self._sweep is not None, "prepare comes before kickoff"
        end, within_s = self._sweep.end_position, self._sweep.time_for_move
        self._pace.sweep(lambda: self._pace.beamline.begin(self._motor, end, within_s=within_s))

    @AsyncStatus.wrap
    async def complete(self) -> None:
        """Once the sweep is over, and the detectors that it triggers are done."""
        while self._pace.cameras_armed:
            await asyncio.sleep(0.001)
        beamline = self._pace.beamline
        end_s = beamline.axis(self._motor).end_s
        await self._pace.reach(end_s)
        beamline.until(end_s)
        self._pace.sweeping.clear()
        self._pace.changed()


@dataclass
class _AttenuatorLogic(MovableLogic[float]):
    pace: Pace

    async def check_move(self, new_position: float) -> None:
        if not 0 < new_position <= 1:
            raise ScanError(f"attenuators let through more than 0 and at most 1, not {new_position}")

    async def move(self, new_position: float, timeout: TimeoutCalculator) -> None:
        await self.setpoint.set(new_position)
        self.pace.beamline.attenuate(new_position)
        self.pace.changed()


@default_mock_class(DeviceMock)
class VirtualAttenuator(StandardReadable, StandardMovable[float]):
    """Set it to a transmission; it takes the nearest that it has which is not more, and reads as that."""

    def __init__(self, pace: Pace, name: str = "") -> None:
        self._pace = pace
        with self.add_children_as_readables(Format.HINTED_SIGNAL):
            self.transmission, set_transmission = soft_signal_r_and_setter(float, pace.beamline.transmission)
        self.setpoint = soft_signal_rw(float, pace.beamline.transmission)
        pace.tell(lambda: set_transmission(pace.beamline.transmission))
        super().__init__(name=name)

    @cached_property
    def movable_logic(self) -> _AttenuatorLogic:
        return _AttenuatorLogic(setpoint=self.setpoint, readback=self.transmission, pace=self._pace)


@dataclass
class _ShutterLogic(MovableLogic[bool]):
    pace: Pace

    async def move(self, new_position: bool, timeout: TimeoutCalculator) -> None:
        await self.setpoint.set(new_position)
        self.pace.beamline.shutter_open = new_position
        self.pace.changed()


@default_mock_class(DeviceMock)
class VirtualShutter(StandardReadable, StandardMovable[bool]):
    """True is open."""

    def __init__(self, pace: Pace, name: str = "") -> None:
        self._pace = pace
        with self.add_children_as_readables(Format.HINTED_SIGNAL):
            self.opened, set_opened = soft_signal_r_and_setter(bool, pace.beamline.shutter_open)
        self.setpoint = soft_signal_rw(bool, pace.beamline.shutter_open)
        pace.tell(lambda: set_opened(pace.beamline.shutter_open))
        super().__init__(name=name)

    @cached_property
    def movable_logic(self) -> _ShutterLogic:
        return _ShutterLogic(setpoint=self.setpoint, readback=self.opened, pace=self._pace)


class VirtualRing(StandardReadable):
    """The storage ring's current, the simulated time, and the seconds of full beam that the sample has had.
    bluesky's suspenders watch `for_suspenders`, the current as a signal of classic ophyd: they take no other
    kind."""

    def __init__(self, pace: Pace, name: str = "") -> None:
        self._pace, beamline = pace, pace.beamline
        with self.add_children_as_readables(Format.HINTED_SIGNAL):
            self.current, set_current = soft_signal_r_and_setter(float, beamline.current_ma, units="mA")
        with self.add_children_as_readables():
            self.time, set_time = soft_signal_r_and_setter(float, beamline.time_s, units="s")
            self.dose, set_dose = soft_signal_r_and_setter(float, beamline.dose_s, units="s")

        self.for_suspenders = ophyd.Signal(name="ring_current_ma", value=beamline.current_ma)

        def update() -> None:
            set_current(beamline.current_ma)
            self.for_suspenders.put(beamline.current_ma)
            set_time(beamline.time_s)
            set_dose(beamline.dose_s)

        pace.tell(update)
        super().__init__(name=name)


class VirtualCamera(Camera):
    """What the beamline's detector counts; `acquisitions` are summed to one frame."""

    def __init__(self, pace: Pace, frames_address: str, access: Access = LOCAL) -> None:
        super().__init__(pace.beamline.shape, np.dtype(np.int32), frames_address, access)
        self.pace, self.acquisitions, self.scan_name = pace, 1, "virtual"
        self.kicked_off = asyncio.Event()
        self.seen: Callable[[Exposure], None] = lambda exposure: None

    @property
    def name(self) -> str:
        return self.scan_name

    def bad_pixels(self) -> BoolArray:
        bad = np.zeros(self.pace.beamline.shape, bool)
        for row, column in self.pace.beamline.field.dead:
            bad[row, column] = True
        return bad

    def metadata(self, *, sample: str = "virtual gold", hkl: Vector = (1.0, 1.0, 1.0)) -> Mapping[str, Any]:
        self.pace.arrive()
        beamline = self.pace.beamline
        limit = beamline.config.detector.saturation_counts
        scan = RockingScan(
            name=self.scan_name,
            intensity=np.zeros((0, *self.shape), self.dtype),
            angles_deg=np.zeros(0),
            geometry=beamline.geometry(),
            bad_pixels=self.bad_pixels(),
            saturation_counts=None if limit is None else limit * self.acquisitions,
            exposure_s=self.exposure_s or None,
            hkl=hkl,
            sample=sample,
        )
        return scan_metadata(scan)

    async def take_now(self) -> None:
        self.pace.go_on()
        self.pace.arrive()
        for _ in range(self.number):
            await self._take()

    async def take_when_passing(self) -> None:
        self.pace.cameras_armed += 1
        self.kicked_off.clear()
        try:
            await self.pace.sweeping.wait()
            await self.kicked_off.wait()
            self.pace.begin_sweep()
            for _ in range(self.number):
                await self._take()
        finally:
            self.pace.cameras_armed -= 1

    async def _take(self) -> None:
        """The angle is that in the middle of the exposure."""
        beamline = self.pace.beamline
        exposure = beamline.expose(max(self.exposure_s, SHORTEST_S), acquisitions=self.acquisitions)
        rocking = beamline.axis(beamline.config.diffractometer.rocking)
        angle_deg = rocking.readback_at((exposure.begin_s + exposure.end_s) / 2)
        self.seen(exposure)
        self.keep(exposure.counts, angle_deg=angle_deg, monitor=exposure.monitor)
        await self.pace.reach(exposure.end_s)
        self.pace.changed()


class VirtualDetector(CameraDetector):
    """The detector. Besides what it writes and sends, plans may read the newest frame: its `image` (rows,
    columns), its `monitor` counts, and whether an acquisition was `saturated` in some pixel. A frame is the sum
    of `acquisitions`, each with the saturation limit of the configuration."""

    camera: VirtualCamera

    def __init__(
        self, pace: Pace, *, directory: Path, frames_address: str, access: Access = LOCAL, name: str = ""
    ) -> None:
        camera = VirtualCamera(pace, frames_address, access)
        shape = pace.beamline.shape
        self.image, set_image = soft_signal_r_and_setter(np.ndarray, np.zeros(shape, np.int32))
        self.monitor, set_monitor = soft_signal_r_and_setter(float)
        self.saturated, set_saturated = soft_signal_r_and_setter(bool)

        def show(exposure: Exposure) -> None:
            set_image(exposure.counts)
            set_monitor(exposure.monitor)
            set_saturated(exposure.saturated)

        camera.seen = show
        super().__init__(camera, directory=directory, name=name)

    @AsyncStatus.wrap
    async def kickoff(self) -> None:
        await super().kickoff()
        self.camera.kicked_off.set()


class VirtualStation:
    """Every device of a virtual beamline: `motors` by name, `detector`, `attenuator`, `shutter` and `ring`.
    `speed` is that of `Pace`. No device itself: bluesky would stage it in place of the detector."""

    def __init__(
        self,
        beamline: Beamline,
        *,
        directory: Path,
        frames_address: str,
        access: Access = LOCAL,
        speed: float | None = None,
    ) -> None:
        self.beamline, self.pace, self.config = beamline, Pace(beamline, speed), beamline.config
        self.motors = {motor: VirtualMotor(self.pace, motor, motor) for motor in beamline.axes}
        self.detector = VirtualDetector(
            self.pace,
            directory=directory,
            frames_address=frames_address,
            access=access,
            name=beamline.config.detector.name,
        )
        self.attenuator = VirtualAttenuator(self.pace, "attenuator")
        self.shutter = VirtualShutter(self.pace, "shutter")
        self.ring = VirtualRing(self.pace, "ring")

    async def connect(self) -> None:
        """In the event loop of the RunEngine, which has to be there: `call_in_bluesky_event_loop`."""
        devices: list[Device] = [*self.motors.values(), self.detector, self.attenuator, self.shutter, self.ring]
        await asyncio.gather(*(device.connect() for device in devices))
        self.pace.start_ticking()

    def scan_table(self, name: str, *, sample: str = "virtual gold") -> Mapping[str, Any]:
        """What a plan's `md["live_bcdi"]` says of a scan from where the motors are now; its file is called
        `name`."""
        self.detector.camera.scan_name = name
        return self.detector.camera.metadata(sample=sample)

    def geometry(self) -> Geometry:
        """As the motors' readbacks say."""
        self.pace.arrive()
        return self.beamline.geometry()

    def bad_pixels(self) -> BoolArray:
        """(rows, columns) of the detector."""
        return self.detector.camera.bad_pixels()

    def close(self) -> None:
        """Time no longer goes by, and no frames are sent."""
        self.pace.stop_ticking()
        self.detector.camera.close()
