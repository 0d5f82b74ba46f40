"""A recorded scan as a detector that sees what it saw, wherever a simulated motor stands where it stood then.

It is a real ophyd-async device: it writes SWMR HDF5 and emits StreamResource and StreamDatum, and the same frames
go out on the 0MQ frame stream.
"""

import asyncio
import time
from pathlib import Path

import numpy as np
from ophyd_async.core import (
    AsyncStatus,
    DetectorAcquireLogic,
    DetectorDataLogic,
    DetectorTriggerLogic,
    StandardDetector,
    StreamableDataProvider,
    StreamResourceDataProvider,
    StreamResourceInfo,
    observe_value,
    soft_signal_r_and_setter,
    soft_signal_rw,
)
from ophyd_async.sim import SimMotor

from live_bcdi.metadata import file_stem, scan_metadata
from live_bcdi.transport.hdf5 import ANGLE_PATH, DATA_PATH, MONITOR_PATH, FrameWriter
from live_bcdi.transport.keys import LOCAL, Access
from live_bcdi.transport.zmq import FramePublisher
from live_bcdi.types import Frame, RockingScan, ScanError

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


class Camera:
    """The hardware behind `RecordedDetector`: takes a frame, writes it, sends it, and counts.

    Pictures come from the recording, each once a file: the first left of those taken where the axis stands.
    """

    def __init__(self, scan: RockingScan, axis: SimMotor, frames_address: str, access: Access = LOCAL) -> None:
        require_whole(scan)
        self.scan = scan
        self.axis = axis
        self.run, self.exposure_s, self.number = "", 0.0, 1
        self.written, self._set_written = soft_signal_r_and_setter(int)
        self._publisher = FramePublisher(frames_address, access)
        self._writer: FrameWriter | None = None
        self._due_s = 0.0
        self._left: list[int] = []

    def open_file(self, path: Path) -> None:
        image = self.scan.intensity[0]
        self._writer = FrameWriter(path, image.shape, image.dtype, metadata=scan_metadata(self.scan))
        self._left = list(range(len(self.scan.intensity)))
        self._set_written(0)

    def close_file(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def close(self) -> None:
        self.close_file()
        self._publisher.close()

    def wait_for_listener(self, timeout_s: float) -> bool:
        return self._publisher.wait_for_subscriber(timeout_s)

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
        assert self._writer is not None, "prepare opens the file"
        self._left.remove(recorded)
        monitor = float("nan") if self.scan.monitor is None else float(self.scan.monitor[recorded])
        frame = Frame(
            run=self.run,
            index=self._writer.count,
            angle_deg=float(self.scan.angles_deg[recorded]),
            monitor=monitor,
            timestamp_s=time.time(),
            image=self.scan.intensity[recorded],
        )
        self._writer.append(frame.image, angle_deg=frame.angle_deg, monitor=monitor, timestamp_s=frame.timestamp_s)
        self._publisher.send(frame)
        self._set_written(self._writer.count)


def _reached(position: float, angle_deg: float, *, backwards: bool) -> bool:
    return position <= angle_deg if backwards else position >= angle_deg


class _Trigger(DetectorTriggerLogic):
    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        self.by_position = False

    async def prepare_internal(self, num: int, livetime: float, deadtime: float) -> None:
        self.camera.number, self.camera.exposure_s = num, livetime + deadtime
        self.by_position = False

    async def prepare_edge(self, num: int, livetime: float) -> None:
        self.camera.number, self.camera.exposure_s = num, livetime
        self.by_position = True


class _Acquire(DetectorAcquireLogic):
    def __init__(self, camera: Camera, trigger: _Trigger) -> None:
        self.camera, self.trigger = camera, trigger
        self._task: asyncio.Task[None] | None = None

    async def unless_it_fails(self, waiting: asyncio.Task[None]) -> None:
        """Wait for the frames, but no longer than they are taken: ophyd-async waits 10 s for one that failed."""
        assert self._task is not None, "a sweep is armed before it is waited for"
        await asyncio.wait({waiting, self._task}, return_when=asyncio.FIRST_EXCEPTION)
        if self._task.done() and not self._task.cancelled() and self._task.exception():
            waiting.cancel()
            self._task.result()
        await waiting

    async def start_acquiring(self) -> None:
        """Arm for a sweep, or take the exposures at once: one that fails then ends the trigger with its reason."""
        if self.trigger.by_position:
            self._task = asyncio.create_task(self.camera.take_when_passing())
        else:
            self._task = asyncio.create_task(self.camera.take_now())
            await self._task

    async def wait_for_idle(self) -> None:
        if self._task is not None:
            await self._task

    async def ensure_stopped(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None


class _Data(DetectorDataLogic):
    def __init__(self, detector: "RecordedDetector", camera: Camera, directory: Path) -> None:
        self.detector, self.camera, self.directory = detector, camera, directory

    async def prepare_unbounded(self, datakey_name: str) -> StreamableDataProvider:
        self.camera.run = await self.detector.run.get_value()
        path = self.directory / f"{file_stem(self.camera.scan.name)}_{self.camera.run[:8]}.h5"
        self.camera.open_file(path)
        image = self.camera.scan.intensity[0]
        scalars = {"angle": ANGLE_PATH, "monitor": MONITOR_PATH}
        return StreamResourceDataProvider(
            uri=path.as_uri().replace("file:///", "file://localhost/"),
            resources=[
                StreamResourceInfo(
                    data_key=datakey_name,
                    shape=image.shape,
                    chunk_shape=(1, *image.shape),
                    dtype_numpy=image.dtype.str,
                    parameters={"dataset": DATA_PATH},
                ),
                *(
                    StreamResourceInfo(
                        data_key=f"{datakey_name}-{key}",
                        shape=(),
                        chunk_shape=(1024,),
                        dtype_numpy="<f8",
                        parameters={"dataset": dataset},
                    )
                    for key, dataset in scalars.items()
                ),
            ],
            mimetype="application/x-hdf5",
            collections_written_signal=self.camera.written,
        )

    def get_hinted_fields(self, datakey_name: str) -> list[str]:
        return [datakey_name]

    async def stop(self) -> None:
        self.camera.close_file()


class RecordedDetector(StandardDetector):
    """Serves a recorded scan, `axis` being its rocking circle. `run` labels its frames on the side stream; the
    plan sets it. Raises ScanError where frames of the scan are missing."""

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
        self.camera = Camera(scan, axis, frames_address, access)
        self.run = soft_signal_rw(str)
        trigger = _Trigger(self.camera)
        self._acquire = _Acquire(self.camera, trigger)
        self.add_detector_logics(trigger, self._acquire, _Data(self, self.camera, directory))
        super().__init__(name=name)

    @AsyncStatus.wrap
    async def complete(self) -> None:  # type: ignore[override]  # a status without progress
        """As any detector's, but a frame that cannot be taken ends it at once, with its reason."""
        await self._acquire.unless_it_fails(super().complete().task)
