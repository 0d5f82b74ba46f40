"""A detector of our own as an ophyd-async device: it writes SWMR HDF5 and emits StreamResource and StreamDatum,
and the same frames go out on the 0MQ frame stream. What it sees, a `Camera` knows."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ophyd_async.core import (
    AsyncStatus,
    DetectorAcquireLogic,
    DetectorDataLogic,
    DetectorTriggerLogic,
    StandardDetector,
    StreamableDataProvider,
    StreamResourceDataProvider,
    StreamResourceInfo,
    soft_signal_r_and_setter,
    soft_signal_rw,
)

from live_bcdi.metadata import file_stem
from live_bcdi.transport.hdf5 import ANGLE_PATH, DATA_PATH, MONITOR_PATH, FrameWriter
from live_bcdi.transport.keys import LOCAL, Access
from live_bcdi.transport.zmq import FramePublisher
from live_bcdi.types import Frame


class Camera(ABC):
    """The hardware behind a `CameraDetector`: takes frames of one `shape` and `dtype`, writes them, sends them,
    and counts them."""

    def __init__(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], frames_address: str, access: Access = LOCAL
    ) -> None:
        self.shape, self.dtype = shape, dtype
        self.run, self.exposure_s, self.number = "", 0.0, 1
        self.written, self._set_written = soft_signal_r_and_setter(int)
        self._publisher = FramePublisher(frames_address, access)
        self._writer: FrameWriter | None = None

    @property
    @abstractmethod
    def name(self) -> str:
        """Of the scan: what its file is called."""

    @abstractmethod
    def metadata(self) -> Mapping[str, Any]:
        """The table of `live_bcdi.metadata.scan_metadata` for the file that is opened now."""

    @abstractmethod
    async def take_now(self) -> None:
        """`number` exposures of `exposure_s`."""

    @abstractmethod
    async def take_when_passing(self) -> None:
        """`number` exposures of `exposure_s` while the axis sweeps, triggered by its position."""

    def open_file(self, path: Path) -> None:
        self._writer = FrameWriter(path, self.shape, self.dtype, metadata=self.metadata())
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

    def keep(self, image: NDArray[Any], *, angle_deg: float, monitor: float) -> None:
        """Write and send a frame that was taken."""
        assert self._writer is not None, "prepare opens the file"
        frame = Frame(
            run=self.run,
            index=self._writer.count,
            angle_deg=angle_deg,
            monitor=monitor,
            timestamp_s=time.time(),
            image=image,
        )
        self._writer.append(frame.image, angle_deg=angle_deg, monitor=monitor, timestamp_s=frame.timestamp_s)
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
    def __init__(self, detector: "CameraDetector", camera: Camera, directory: Path) -> None:
        self.detector, self.camera, self.directory = detector, camera, directory

    async def prepare_unbounded(self, datakey_name: str) -> StreamableDataProvider:
        self.camera.run = await self.detector.run.get_value()
        path = self.directory / f"{file_stem(self.camera.name)}_{self.camera.run[:8]}.h5"
        self.camera.open_file(path)
        scalars = {"angle": ANGLE_PATH, "monitor": MONITOR_PATH}
        return StreamResourceDataProvider(
            uri=path.as_uri().replace("file:///", "file://localhost/"),
            resources=[
                StreamResourceInfo(
                    data_key=datakey_name,
                    shape=self.camera.shape,
                    chunk_shape=(1, *self.camera.shape),
                    dtype_numpy=self.camera.dtype.str,
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


class CameraDetector(StandardDetector):
    """What a camera sees, for plans. `run` labels its frames on the side stream; the plan sets it."""

    def __init__(self, camera: Camera, *, directory: Path, name: str = "") -> None:
        self.camera = camera
        self.run = soft_signal_rw(str)
        trigger = _Trigger(camera)
        self._acquire = _Acquire(camera, trigger)
        self.add_detector_logics(trigger, self._acquire, _Data(self, camera, directory))
        super().__init__(name=name)

    @AsyncStatus.wrap
    async def complete(self) -> None:  # type: ignore[override]  # a status without progress
        """As any detector's, but a frame that cannot be taken ends it at once, with its reason."""
        await self._acquire.unless_it_fails(super().complete().task)
