"""What plans that align share: moves that are refused beyond the limits, exposures in light that the detector
stands, and an Event for each of them and for each decision."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import numpy as np
from bluesky.utils import FailedStatus, MsgGenerator, RunEngineControlException
from ophyd_async.core import (
    DetectorTrigger,
    FlyMotorInfo,
    SignalR,
    StandardDetector,
    StandardMovable,
    StandardReadable,
    TriggerInfo,
    soft_signal_r_and_setter,
)
from ophyd_async.plan_stubs import ensure_connected

from live_bcdi.config import Config
from live_bcdi.types import BoolArray, FrameArray, Geometry, ScanError

from .advisor import motor_limits
from .engine import scan_error
from .rocking import labelled, move, to_its_end, unrepeated, until_done

STREAM = "recommendation"
_NO_BEAM = 0.05  # of the monitor's counts that are expected
_DIMMER, _TIMES = 16.0, 5  # after a saturated exposure, and how often
_SAFE = 0.1  # of saturation: the next exposure may be brighter


class PlanDetector(Protocol):
    """A detector whose newest frame plans may read: `image` (rows, columns), `monitor` counts, `saturated`."""

    image: SignalR[np.ndarray]
    monitor: SignalR[float]
    saturated: SignalR[bool]


class Station(Protocol):
    """Devices that align a crystal, as `virtual.VirtualStation` has them; `motors` by the names of `config`. Its
    detector is a `PlanDetector` and a StandardDetector that can be triggered by the rocking circle's position."""

    config: Config
    motors: Mapping[str, Any]
    detector: Any
    attenuator: Any

    def geometry(self) -> Geometry: ...

    def bad_pixels(self) -> BoolArray: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How to look. Sweeps take `sweep_s` and are `coarse_deg` long at first, `fine_deg` at last; exposures of
    standing motors take `look_s`. A search is made at each of `transmissions` in turn. `across` is the rotation
    besides the rocking circle. The peak is expected to be `rocking_width_deg` wide (standard deviation, within a
    factor of two), the beam `beam_um` (at half of its maximum, along the detector's columns and rows). `pixel` is
    the middle of the detector by default. The monitor counts `monitor_hz` in the full beam. Motors come to
    every place from `run_up_deg`, `run_up_um` below it, more than their play. It takes `most` exposures, and no
    more."""

    sweep_s: float = 1.0
    look_s: float = 0.3
    coarse_deg: float = 1.6
    fine_deg: float = 0.1
    transmissions: tuple[float, ...] = (0.02, 1.0)
    across: str | None = None
    rocking_width_deg: float = 0.03
    beam_um: tuple[float, float] = (12.0, 12.0)
    angle_tolerance_deg: float = 0.0015
    place_tolerance_um: float = 0.7
    pixel: tuple[float, float] | None = None
    pixel_tolerance: float = 1.0
    monitor_hz: float = 1e6
    run_up_deg: float = 0.1
    run_up_um: float = 10.0
    most: int = 80

    def __post_init__(self) -> None:
        positive = {name: value for name, value in asdict(self).items() if isinstance(value, float)}
        for name, value in positive.items():
            if not 0 < value < math.inf:
                raise ScanError(f"settings of an alignment: {name} is a positive number, not {value}")
        if not self.transmissions or not all(0 < each <= 1 for each in self.transmissions):
            raise ScanError(f"transmissions are above 0 and at most 1, not {self.transmissions}")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Shot:
    """What one exposure counted, with `dose_s` seconds of full beam by the monitor."""

    image: FrameArray
    dose_s: float


class Decision(StandardReadable):
    """What was done and found, for the Events: NaN and "" where there is nothing to say."""

    def __init__(self, name: str = "decision") -> None:
        with self.add_children_as_readables():
            self.what, self._set_what = soft_signal_r_and_setter(str, "")
            self.motor, self._set_motor = soft_signal_r_and_setter(str, "")
            self.why, self._set_why = soft_signal_r_and_setter(str, "")
            for number in ("low", "high", "position", "std", "counts", "row", "column", "transmission", "dose_s"):
                signal, setter = soft_signal_r_and_setter(float, math.nan)
                setattr(self, number, signal)
                setattr(self, f"_set_{number}", setter)
            self.exposures, self._set_exposures = soft_signal_r_and_setter(int, 0)
        super().__init__(name=name)

    _numbers = ("low", "high", "position", "std", "counts", "row", "column", "transmission", "dose_s")

    def say(self, what: str, *, exposures: int, motor: str = "", why: str = "", **numbers: float) -> None:
        self._set_what(what)
        self._set_motor(motor)
        self._set_why(why)
        self._set_exposures(exposures)
        for number in self._numbers:
            getattr(self, f"_set_{number}")(float(numbers.get(number, math.nan)))


class Alignment:
    """One alignment under way: where the motors were (`home`), and what it cost so far."""

    def __init__(self, station: Station, settings: Settings, home: Mapping[str, float]) -> None:
        self.station, self.settings, self.home = station, settings, dict(home)
        self.config, self.detector = station.config, station.detector
        self.geometry, self.bad = station.geometry(), station.bad_pixels()
        self.shape: tuple[int, int] = self.bad.shape
        self.pixel = settings.pixel or (self.shape[0] / 2, self.shape[1] / 2)
        self.rocking = self.config.diffractometer.rocking
        self.limits = motor_limits(self.config)
        self.decision = Decision()
        self.transmission, self.exposures, self.dose_s = 1.0, 0, 0.0
        self._stage = {axis.motor for axis in self.config.diffractometer.stage}
        self._declared = False

    @classmethod
    def of(cls, station: Station, settings: Settings) -> MsgGenerator["Alignment"]:
        """Raises ScanError where a pixel is chosen that the detector does not have."""
        home = {}
        for name, motor in station.motors.items():
            home[name] = float((yield from bps.rd(motor)))
        work = cls(station, settings, home)
        if not all(0 <= place < edge for place, edge in zip(work.pixel, work.shape)):
            raise ScanError(f"pixel {work.pixel} is not on a detector of {work.shape}; choose one that is")
        return work

    # motors

    def run_up(self, motor: str) -> float:
        return self.settings.run_up_um if motor in self._stage else self.settings.run_up_deg

    def within(self, motor: str) -> tuple[float, float]:
        """The limits that leave room to come from below. Raises ScanError for a motor without any."""
        if motor not in self.limits:
            raise ScanError(f"{motor} has no limits in the configuration, and is not moved without")
        low, high = self.limits[motor]
        return low + self.run_up(motor), high

    def check(self, places: float | list[float], motor: str) -> None:
        """Raises ScanError where a place cannot be come to from below within the limits."""
        low, high = self.within(motor)
        for place in np.atleast_1d(places):
            if not low <= place <= high:
                raise ScanError(
                    f"{motor} would go to {place:.6g}, beyond {low:.6g} to {high:.6g}, its limits with room"
                    " to come from below; choose a smaller range, or begin elsewhere"
                )

    def go(self, motor: str, place: float) -> MsgGenerator[None]:
        """From below, for the motor's play."""
        self.check(place, motor)
        device = self.station.motors[motor]
        yield from move(device, place - self.run_up(motor))
        yield from move(device, place)

    def go_home(self) -> MsgGenerator[None]:
        """The motors that have moved, to where they were."""
        for name, motor in self.station.motors.items():
            if abs((yield from bps.rd(motor)) - self.home[name]) > 1e-6:
                yield from bps.mv(motor, self.home[name])

    # light

    def attenuate(self, transmission: float) -> MsgGenerator[None]:
        yield from bps.mv(self.station.attenuator, min(transmission, 1.0))
        self.transmission = float((yield from bps.rd(self.station.attenuator)))

    def brighter(self, shot: Shot, seconds: float) -> MsgGenerator[None]:
        """As bright as the detector stands, where the next exposure may see ten times as much."""
        limit = self.config.detector.saturation_counts
        if limit is not None:
            rate = max(float(np.where(self.bad, 0, shot.image).max()), 1.0) / shot.dose_s
            yield from self.attenuate(_SAFE * limit / (rate * seconds))

    # exposures

    def shot(self, seconds: float, sweep_to: float | None = None) -> MsgGenerator[Shot]:
        """Count while the motors stand, or while the rocking circle turns from where it is. What is saturated is
        taken again in less light. Raises ScanError where there is no beam."""
        begin = float((yield from bps.rd(self.station.motors[self.rocking])))
        for _ in range(_TIMES):
            if self.exposures >= self.settings.most:
                raise ScanError(f"{self.exposures} exposures were taken without an end; look at the sample first")
            if sweep_to is None:
                yield from self._counted(self.detector, seconds)
            else:
                self.check([begin, sweep_to], self.rocking)
                motion = FlyMotorInfo(start_position=begin, end_position=sweep_to, time_for_move=seconds)
                yield from self._counted(self.detector, seconds, self.station.motors[self.rocking], motion)
            image = yield from bps.rd(self.detector.image)
            monitor = float((yield from bps.rd(self.detector.monitor)))
            saturated = yield from bps.rd(self.detector.saturated)
            shot = Shot(image=np.asarray(image), dose_s=max(monitor, 1.0) / self.settings.monitor_hz)
            self.exposures += 1
            self.dose_s += shot.dose_s
            if shot.dose_s < _NO_BEAM * seconds * self.transmission:
                raise ScanError("the monitor counts next to nothing: see to beam and shutter, and align again")
            if not saturated:
                return shot
            yield from self.tell("saturated")
            yield from self.attenuate(self.transmission / _DIMMER)
            if sweep_to is not None:
                yield from self.go(self.rocking, begin)
        raise ScanError("the detector is saturated behind all attenuators; take a shorter exposure")

    def _counted(
        self,
        detector: StandardDetector,
        seconds: float,
        axis: StandardMovable[float] | None = None,
        motion: FlyMotorInfo | None = None,
    ) -> MsgGenerator[None]:
        kind = DetectorTrigger.INTERNAL if axis is None else DetectorTrigger.EXTERNAL_EDGE
        once = TriggerInfo(trigger=kind, number_of_events=1, livetime=seconds)
        moving = [] if axis is None else [axis]
        yield from bps.checkpoint()
        if axis is not None:
            yield from to_its_end(lambda group: bps.prepare(axis, motion, group=group))
        yield from to_its_end(lambda group: bps.prepare(detector, once, group=group))
        if not self._declared:
            yield from bps.declare_stream(detector, name="primary", collect=True)
            self._declared = True
        yield from unrepeated(_taken(detector, moving))

    def tell(self, what: str, **said: Any) -> MsgGenerator[None]:
        """One Event: what was done or decided, and where every motor is."""
        self.decision.say(
            what, exposures=self.exposures, transmission=self.transmission, dose_s=self.dose_s, **said
        )
        yield from bps.create(STREAM)
        for device in (self.decision, *self.station.motors.values()):
            yield from bps.read(device)
        yield from bps.save()


def _taken(detector: StandardDetector, moving: list[Any]) -> MsgGenerator[None]:
    begun = yield from bps.kickoff_all(detector, *moving, wait=False)
    yield from until_done(*begun)
    ending = yield from bps.complete_all(detector, *moving, wait=False)
    yield from until_done(*ending)
    yield from bps.collect(detector)


def as_one_run(
    work: Alignment, plan: str, args: Mapping[str, Any], md: Mapping[str, Any] | None, doing: MsgGenerator[Any]
) -> MsgGenerator[Any]:
    """`doing` as one run. Where it fails, the motors go home and the attenuator to where it was; where somebody
    stops it, they stay."""
    before = float((yield from bps.rd(work.station.attenuator)))
    work.transmission = before
    metadata = {
        "plan_name": plan,
        "plan_args": dict(args),
        "detectors": [work.detector.name],
        "motors": list(work.station.motors),
        **(md or {}),
    }

    def failed(error: Exception) -> MsgGenerator[None]:
        status = getattr(error, "exit_status", "fail")
        if not isinstance(error, RunEngineControlException):
            yield from work.tell("failed", why=str(scan_error(error) or error))
            yield from work.go_home()
            yield from bps.mv(work.station.attenuator, before)
        yield from bps.close_run(exit_status=status, reason=str(scan_error(error) or error))

    def run() -> MsgGenerator[Any]:
        uid: str = yield from bps.open_run(metadata)
        return (
            yield from bpp.contingency_wrapper(
                labelled(work.detector, uid, doing), except_plan=failed, else_plan=bps.close_run
            )
        )

    yield from ensure_connected(work.decision)
    try:
        return (yield from bpp.stage_wrapper(run(), [work.detector]))
    except FailedStatus as error:
        raise (scan_error(error) or error) from None
