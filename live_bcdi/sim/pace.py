"""How fast a simulated beamline's time goes by, for the devices and servers that stand before it."""

import asyncio
import time
from collections.abc import Callable

import numpy as np

from ..types import ScanError
from .beamline import Beamline

TICK_S = 0.1


class Pace:
    """Lets the time of a simulated beamline go by: at `speed` simulated seconds a second, or, with None, only as
    exposures need it, so that motors that are moved before the same exposure move together."""

    def __init__(self, beamline: Beamline, speed: float | None = None) -> None:
        if speed is not None and not (np.isfinite(speed) and speed > 0):
            raise ScanError(f"a virtual beamline runs at a positive speed, or, with None, at once; not {speed}")
        self.beamline, self.speed = beamline, speed
        self.sweeping = asyncio.Event()
        self.cameras_armed = 0
        self._sweep: Callable[[], object] | None = None
        self._listeners: list[Callable[[], None]] = []
        self._begun: tuple[float, float] | None = None
        self._ticking: asyncio.Task[None] | None = None

    def tell(self, listener: Callable[[], None]) -> None:
        """Have it called when something may have changed."""
        self._listeners.append(listener)

    def changed(self) -> None:
        for listener in self._listeners:
            listener()

    def go_on(self) -> None:
        """Let the clock catch up with real time, from the first call on. During a sweep its frames are the clock:
        they follow each other without a gap."""
        if self.speed is not None and not (self.cameras_armed and self.sweeping.is_set()):
            begun_s, simulated_s = self._begun = self._begun or (time.monotonic(), self.beamline.time_s)
            self.beamline.until(simulated_s + (time.monotonic() - begun_s) * self.speed)

    def sweep(self, begin: Callable[[], object]) -> None:
        """Let an axis `begin` to sweep, once the first of the cameras that it triggers is there."""
        self._sweep = begin
        if not self.cameras_armed:
            self.begin_sweep()
        self.sweeping.set()

    def arrive(self) -> None:
        """Where time does not go by, let the motors get to where plans were told that they are."""
        if self.speed is None:
            self.beamline.settle()

    def begin_sweep(self) -> None:
        if self._sweep is not None:
            self.go_on()
            self._sweep()
            self._sweep = None

    async def reach(self, time_s: float) -> None:
        """Wait until real time has come so far; not at all where there is none."""
        await asyncio.sleep(0)
        if self.speed is None or self._begun is None:
            return
        begun_s, simulated_s = self._begun
        due_s = begun_s + (time_s - simulated_s) / self.speed
        while (left_s := due_s - time.monotonic()) > 0:
            await asyncio.sleep(min(left_s, TICK_S))
            self.go_on()
            self.changed()
        self.go_on()

    def start_ticking(self) -> None:
        """Without being asked, so that whoever waits for the beam sees it come back."""
        if self.speed is not None and self._ticking is None:
            self._ticking = asyncio.create_task(self._tick())

    def stop_ticking(self) -> None:
        """From any thread."""
        if self._ticking is not None:
            self._ticking.get_loop().call_soon_threadsafe(self._ticking.cancel)
            self._ticking = None

    async def _tick(self) -> None:
        while True:
            self.go_on()
            self.changed()
            await asyncio.sleep(TICK_S)
