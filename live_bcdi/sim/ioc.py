"""The virtual beamline as EPICS PVs, for clients that know nothing of us: motor records, an areaDetector, a few
more.

Needs caproto (`pip install live_bcdi[epics]`). Channel Access, on loopback unless asked otherwise. Names and
enums of the detector are those of areaDetector's cam1: and HDF1:, as far as ophyd-async and ophyd ask for them.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Any

from ..types import ScanError
from .beamline import Beamline
from .ioc_detector import DetectorRecords
from .pace import TICK_S, Pace
from .records import Records, chosen

LOOPBACK = ("127.0.0.1",)
_SHUTTER = ("Closed", "Open")
_WIDE = 1e9  # of limits where there are none: a record with limits 0, 0 has none, but clients compare


class MotorRecord:
    """The fields of EPICS' motor record that clients use, for one motor: dial and user positions are the same."""

    def __init__(self, records: Records, pace: Pace, motor: str) -> None:
        self._pace, self._motor = pace, motor
        axis = pace.beamline.axis(motor)
        low, high = (max(min(each, _WIDE), -_WIDE) for each in axis.limits)
        name = f"{motor}."
        said = {"units": axis.unit, "precision": 6, "lower_ctrl_limit": low, "upper_ctrl_limit": high}
        records.add(f"{name}VAL", axis.target, put=self._move, cls_kwargs=said)
        records.alias(motor, f"{name}VAL")
        self._readbacks = [records.add(f"{name}{each}", axis.target, cls_kwargs=said) for each in ("RBV", "DRBV")]
        self._done, self._moving = records.add(f"{name}DMOV", 1), records.add(f"{name}MOVN", 0)
        records.add(f"{name}STOP", 0, put=self._stop)
        for field, value in (("LLM", low), ("HLM", high), ("DLLM", low), ("DHLM", high), ("OFF", 0.0)):
            records.add(f"{name}{field}", value)
        for field in ("VELO", "VMAX", "VBAS"):
            records.add(f"{name}{field}", axis.speed * (pace.speed or 1.0))
        for field in ("MRES", "ERES", "UREV", "RDBD"):
            records.add(f"{name}{field}", 1e-6)
        for field, number in (("SREV", 200), ("PREC", 6), ("HLS", 0), ("LLS", 0), ("LVIO", 0), ("MSTA", 0)):
            records.add(f"{name}{field}", number)
        records.add(f"{name}ACCL", 0.0)
        for field, text in (("EGU", axis.unit), ("DESC", motor), ("OUT", ""), ("RTYP", "motor")):
            records.add(f"{name}{field}", text)
        for field, pair in (("FOFF", ("Variable", "Frozen")), ("SET", ("Use", "Set")), ("DIR", ("Pos", "Neg"))):
            records.choice(f"{name}{field}", pair)
        records.choice(f"{name}SPMG", ("Stop", "Pause", "Move", "Go"), value=3)
        records.choice(f"{name}CNEN", ("Disable", "Enable"), value=1)
        for field in ("HOMF", "HOMR", "JOGF", "JOGR", "TWF", "TWR", "TDIR"):
            records.add(f"{name}{field}", 0)
        records.add(f"{name}TWV", 1.0)

    async def _move(self, instance: Any, target: float) -> float:
        """Until it stands: whoever waits for the put is told then. Beyond a limit the put fails, and nothing
        moves."""
        beamline = self._pace.beamline
        self._pace.go_on()
        end_s = beamline.begin(self._motor, float(target))
        await instance.write(target, verify_value=False)
        await self._done.write(0)
        await self._moving.write(1)
        while beamline.time_s < end_s and beamline.axis(self._motor).end_s >= end_s:  # else it was stopped
            await self._pace.reach(min(end_s, beamline.time_s + TICK_S * (self._pace.speed or 1.0)))
            await self.read_back()
        await self.read_back()
        await self._moving.write(0)
        await self._done.write(1)
        return beamline.axis(self._motor).target

    async def _stop(self, instance: Any, value: int) -> int:
        if value:
            self._pace.go_on()
            self._pace.beamline.axis(self._motor).halt(self._pace.beamline.time_s)
            await self.read_back()
        return 0

    async def read_back(self) -> None:
        position = self._pace.beamline.readback(self._motor)
        for record in self._readbacks:
            if record.value != position:
                await record.write(position)


class BeamRecords:
    """Attenuator, shutter and ring."""

    def __init__(self, records: Records, pace: Pace) -> None:
        self._pace, beamline = pace, pace.beamline
        records.add("Transmission", beamline.transmission, put=self._attenuate)
        self._transmission = records.add("Transmission_RBV", beamline.transmission)
        records.choice("Shutter", _SHUTTER, value=1, put=self._shut)
        self._shutter = records.choice("Shutter_RBV", _SHUTTER, value=1)
        self._ring = records.add("RingCurrent", beamline.current_ma)
        self._time, self._dose = records.add("Time", 0.0), records.add("Dose", 0.0)

    async def _attenuate(self, instance: Any, value: float) -> float:
        await self._transmission.write(self._pace.beamline.attenuate(float(value)))
        return value

    async def _shut(self, instance: Any, value: Any) -> Any:
        self._pace.beamline.shutter_open = chosen(value, _SHUTTER) == "Open"
        await self._shutter.write(value)
        return value

    async def read_back(self) -> None:
        beamline = self._pace.beamline
        await self._ring.write(beamline.current_ma)
        await self._time.write(beamline.time_s)
        await self._dose.write(beamline.dose_s)


class VirtualIoc:
    """The PVs of a beamline, all beginning with `prefix`, whose time goes by at `speed` simulated seconds a
    second.

    Motors are `<prefix><motor>`, the detector is `<prefix>cam1:`, `<prefix>HDF1:` and `<prefix>image1:`; and
    there are `Transmission`, `Shutter`, `RingCurrent`, `Time`, `Dose` and the newest frame's `Monitor` and
    `Saturated`.
    """

    def __init__(self, beamline: Beamline, *, prefix: str = "VB:", speed: float = 1.0) -> None:
        self.pace, self.records = Pace(beamline, speed), Records(prefix)
        self._motors = [MotorRecord(self.records, self.pace, motor) for motor in beamline.axes]
        self._beam = BeamRecords(self.records, self.pace)
        self.detector = DetectorRecords(self.records, self.pace)

    async def run(self, interfaces: Sequence[str] = LOOPBACK, *, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until cancelled; `ready` is called once clients can connect. Raises ScanError where no address
        can be bound."""
        from caproto.asyncio.server import start_server

        async def started(_library: Any) -> None:
            ready()

        if set(interfaces) <= set(LOOPBACK):  # where nobody listens for a server's beacons
            os.environ.setdefault("EPICS_CAS_AUTO_BEACON_ADDR_LIST", "NO")
        ticking = asyncio.create_task(self._tick())
        try:
            await start_server(self.records.pvdb, interfaces=list(interfaces), startup_hook=started)
        except OSError as error:
            raise ScanError(f"EPICS cannot be served at {', '.join(interfaces)}: {error}") from None
        finally:
            ticking.cancel()
            self.detector.close()

    async def _tick(self) -> None:
        while True:
            self.pace.go_on()
            for motor in self._motors:
                await motor.read_back()
            await self._beam.read_back()
            await asyncio.sleep(TICK_S)
