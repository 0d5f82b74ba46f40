"""A recorded scan as a beamline: a motor that stops where it stopped then, a detector that sees what it saw.

They are real ophyd-async devices: the detector writes SWMR HDF5 and emits StreamResource and StreamDatum, and
the same frames go out on the 0MQ frame stream.
"""

import asyncio
import time
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np
from ophyd_async.core import (
    DetectorAcquireLogic,
    DetectorDataLogic,
    DetectorTriggerLogic,
    MovableLogic,
    SignalR,
    StandardDetector,
    StreamableDataProvider,
    StreamResourceDataProvider,
    StreamResourceInfo,
    TimeoutCalculator,
    observe_value,
    soft_signal_r_and_setter,
    soft_signal_rw,
)
from ophyd_async.sim import SimMotor

from live_bcdi.metadata import file_stem, scan_metadata
from live_bcdi.transport.hdf5 import ANGLE_PATH, DATA_PATH, MONITOR_PATH, FrameWriter
from live_bcdi.transport.zmq import FramePublisher
from live_bcdi.types import Frame, RockingScan


class RecordedAxis(SimMotor):
    """A rotation whose readback, after a step, is the recorded angle nearest to what was asked for."""

    def __init__(self, angles_deg: np.ndarray, name: str = "") -> None:
        self._angles_deg = np.asarray(angles_deg, float)
        super().__init__(name=name, instant=True, initial_value=float(angles_deg[0]), units="deg")

    @property
    def sweeping(self) -> bool:
        """Whether it was prepared for a sweep; then it goes where it is sent."""
        return self._fly_info is not None

    @cached_property
    def movable_logic(self) -> MovableLogic[float]:
        return _SettleOnRecorded(self, super().movable_logic, self._angles_deg)


class _SettleOnRecorded(MovableLogic[float]):
    def __init__(self, axis: RecordedAxis, motion: MovableLogic[float], angles_deg: np.ndarray) -> None:
        super().__init__(setpoint=motion.setpoint, readback=motion.readback)
        self._axis, self._motion, self._angles_deg = axis, motion, angles_deg

    async def stop(self) -> None:
        await self._motion.stop()

    async def move(self, new_position: float, timeout: TimeoutCalculator) -> None:
        await self._motion.move(new_position, timeout)
        if not self._axis.sweeping:
            nearest = self._angles_deg[np.argmin(np.abs(self._angles_deg - new_position))]
            self._axis._user_readback_set(float(nearest))


class Camera:
    """The hardware behind `RecordedDetector`: takes a frame, writes it, sends it, and counts.

    Pictures come from the recording: the one whose angle is nearest to where the axis is.
    """

    def __init__(self, scan: RockingScan, axis: RecordedAxis, frames_address: str) -> None:
        self.scan = scan
        self.axis = axis
        self.run, self.exposure_s, self.number = "", 0.0, 1
        self.written, self._set_written = soft_signal_r_and_setter(int)
        self._publisher = FramePublisher(frames_address)
        self._writer: FrameWriter | None = None
        self._due_s = 0.0

    def open_file(self, path: Path) -> None:
        image = self.scan.intensity[0]
        self._writer = FrameWriter(path, image.shape, image.dtype, metadata=scan_metadata(self.scan))
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
            self._take(await self.axis.user_readback.get_value())

    async def take_when_passing(self) -> None:
        """One exposure at each recorded angle as the axis passes it, as a position-compare box would fire."""
        waiting = list(self.scan.angles_deg)
        backwards = waiting[-1] < waiting[0]
        async for position in observe_value(self.axis.user_readback):
            while waiting and (position <= waiting[0] if backwards else position >= waiting[0]):
                self._take(waiting.pop(0))
                await asyncio.sleep(0)
            if not waiting:
                return

    def _take(self, angle_deg: float) -> None:
        assert self._writer is not None, "prepare opens the file"
        recorded = int(np.argmin(np.abs(self.scan.angles_deg - angle_deg)))
        monitor = float("nan") if self.scan.monitor is None else float(self.scan.monitor[recorded])
        frame = Frame(
            run=self.run,
            index=self._writer.count,
            angle_deg=float(angle_deg),
            monitor=monitor,
            timestamp_s=time.time(),
            image=self.scan.intensity[recorded],
        )
        self._writer.append(frame.image, angle_deg=frame.angle_deg, monitor=monitor, timestamp_s=frame.timestamp_s)
        self._publisher.send(frame)
        self._set_written(self._writer.count)


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

    async def start_acquiring(self) -> None:
        take = self.camera.take_when_passing if self.trigger.by_position else self.camera.take_now
        self._task = asyncio.create_task(take())

    async def wait_for_idle(self) -> None:
        if self._task is not None:
            await self._task

    async def ensure_stopped(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
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
    """Serves a recorded scan. `run` labels its frames on the side stream; the plan sets it."""

    def __init__(
        self, scan: RockingScan, axis: RecordedAxis, *, directory: Path, frames_address: str, name: str = ""
    ) -> None:
        self.camera = Camera(scan, axis, frames_address)
        self.run = soft_signal_rw(str)
        trigger = _Trigger(self.camera)
        self.add_detector_logics(trigger, _Acquire(self.camera, trigger), _Data(self, self.camera, directory))
        super().__init__(name=name)

    @property
    def frames_written(self) -> SignalR[int]:
        return self.camera.written
