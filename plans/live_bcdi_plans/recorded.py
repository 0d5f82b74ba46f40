"""A recorded scan as a detector that sees what it saw, wherever a simulated motor stands where it stood then."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ophyd_async.core import observe_value
from ophyd_async.sim import SimMotor

from live_bcdi.metadata import scan_metadata
from live_bcdi.transport.keys import LOCAL, Access
from live_bcdi.types import RockingScan, ScanError

from .camera import Camera, CameraDetector

ENCODER_DEG = 1e-7  # positions closer than this are the same: no encoder of a sample stage tells them apart


def require_whole(scan: RockingScan) -> None:
    """Raise ScanError where frames are missing: a detector cannot show what it did not record, and a file that it
    writes frame after frame has no place for a gap."""
    if scan.have is not None and not np.all(scan.have):
        missing = np.flatnonzero(~np.asarray(scan.have, bool)).tolist()
        raise ScanError(
            f"{scan.name}: frames {missing} were never recorded, so the scan cannot be played; "
            "analyse it as it is with `live-bcdi phase`"
        )


class RecordedCamera(Camera):
    """Pictures come from the recording, each once a file: the first left of those taken where the axis stands."""

    def __init__(self, scan: RockingScan, axis: SimMotor, frames_address: str, access: Access = LOCAL) -> None:
        require_whole(scan)
        super().__init__(scan.intensity.shape[1:], scan.intensity.dtype, frames_address, access)
        self.scan, self.axis = scan, axis
        self._due_s = 0.0
        self._left: list[int] = []

    @property
    def name(self) -> str:
        return self.scan.name

    def metadata(self) -> Mapping[str, Any]:
        return scan_metadata(self.scan)

    def open_file(self, path: Path) -> None:
        super().open_file(path)
        self._left = list(range(len(self.scan.intensity)))

    async def take_now(self) -> None:
        """`number` exposures where the axis stands, no faster than one every `exposure_s`."""
        for _ in range(self.number):
            self._due_s = max(self._due_s + self.exposure_s, time.monotonic())
            await asyncio.sleep(self._due_s - time.monotonic())
            self._take(self._recorded_at(await self.axis.user_readback.get_value()))

    async def take_when_passing(self) -> None:
        """Every exposure in its turn as the axis reaches its angle, as a position-compare box would fire."""
        angles_deg = self.scan.angles_deg
        backwards = angles_deg[-1] < angles_deg[0]
        async for position in observe_value(self.axis.user_readback):
            while self._left and _reached(position, angles_deg[self._left[0]], backwards=backwards):
                self._take(self._left[0])
                await asyncio.sleep(0)
            if not self._left:
                return

    def _recorded_at(self, angle_deg: float) -> int:
        for index in self._left:
            if abs(self.scan.angles_deg[index] - angle_deg) <= ENCODER_DEG:
                return index
        raise ScanError(
            f"{self.scan.name} has no frame left that was recorded at {angle_deg} deg; "
            "step through its own angles with `rocking_list_scan`"
        )

    def _take(self, recorded: int) -> None:
        self._left.remove(recorded)
        monitor = float("nan") if self.scan.monitor is None else float(self.scan.monitor[recorded])
        self.keep(self.scan.intensity[recorded], angle_deg=float(self.scan.angles_deg[recorded]), monitor=monitor)


def _reached(position: float, angle_deg: float, *, backwards: bool) -> bool:
    return position <= angle_deg if backwards else position >= angle_deg


class RecordedDetector(CameraDetector):
    """Serves a recorded scan, `axis` being its rocking circle. Raises ScanError where frames of the scan are
    missing."""

    def __init__(
        self,
        scan: RockingScan,
        axis: SimMotor,
        *,
        directory: Path,
        frames_address: str,
        access: Access = LOCAL,
        name: str = "",
    ) -> None:
        super().__init__(RecordedCamera(scan, axis, frames_address, access), directory=directory, name=name)
