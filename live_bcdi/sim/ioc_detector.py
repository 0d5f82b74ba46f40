"""areaDetector's driver and HDF5 plugin, as far as clients ask for them, before a virtual beamline's detector."""

import asyncio
import time
from pathlib import Path
from typing import Any

import numpy as np

from .areadetector import SimulatedHdfPlugin
from .beamline import Exposure
from .pace import Pace
from .records import Records, as_characters, as_text, chosen

_YES_NO = ("No", "Yes")
_TYPES = ("Int8", "UInt8", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64", "Float32", "Float64")
_MODES = ("Single", "Multiple", "Continuous")
_STATES = (
    *("Idle", "Acquire", "Readout", "Correct", "Saving", "Aborting", "Error", "Waiting", "Initializing"),
    *("Disconnected", "Aborted"),
)
_COMPRESSIONS = ("None", "N-bit", "szip", "zlib", "Blosc", "BSLZ4", "LZ4", "JPEG")


class DetectorRecords:
    """cam1:, HDF1: and image1: of a detector that counts int32."""

    def __init__(self, records: Records, pace: Pace) -> None:
        self._pace, self._acquiring = pace, asyncio.Event()
        self._file: SimulatedHdfPlugin | None = None
        self._captured = 0
        self._array_base(records, "cam1:", "CAM")
        self._driver(records)
        self._array_base(records, "HDF1:", "HDF")
        self._plugin(records)
        rows, columns = pace.beamline.shape
        self._image = records.add(
            "image1:ArrayData", np.zeros(rows * columns, np.int32).tolist(), max_length=rows * columns
        )
        self._monitor = records.add("Monitor", 0.0)
        self._saturated = records.choice("Saturated", _YES_NO)

    def _array_base(self, records: Records, at: str, port: str) -> None:
        rows, columns = self._pace.beamline.shape
        for name, text in (("PortName", port), ("ADCoreVersion", "3.12.1"), ("DriverVersion", "1.0")):
            records.add(f"{at}{name}_RBV", text)
        records.text(f"{at}NDAttributesFile")
        for name, size in (("X", columns), ("Y", rows), ("Z", 0), ("0", columns), ("1", rows), ("2", 0)):
            records.add(f"{at}ArraySize{name}_RBV", size)
        records.add(f"{at}UniqueId_RBV", 0)
        records.choice(f"{at}ColorMode_RBV", ("Mono",))
        records.choice(f"{at}DataType_RBV", _TYPES, value=_TYPES.index("Int32"))

    def _driver(self, records: Records) -> None:
        at = "cam1:"
        self._counter = records.pair(f"{at}ArrayCounter", records.add, 0)
        self._acquire_s = records.pair(f"{at}AcquireTime", records.add, 1.0)
        records.pair(f"{at}AcquirePeriod", records.add, 0.0)
        self._number = records.pair(f"{at}NumImages", records.add, 1)
        self._exposures = records.pair(f"{at}NumExposures", records.add, 1)
        self._mode = records.pair(f"{at}ImageMode", records.choice, _MODES)
        records.pair(f"{at}TriggerMode", records.choice, ("Internal", "External"))
        self._state = records.choice(f"{at}DetectorState_RBV", _STATES)
        records.choice(f"{at}Acquire", _YES_NO, put=self._acquire)
        self._acquire_rbv = records.choice(f"{at}Acquire_RBV", _YES_NO)
        records.choice(f"{at}WaitForPlugins", _YES_NO)
        for name, text in (("Manufacturer", "live_bcdi"), ("Model", "virtual"), ("SerialNumber", "0")):
            records.add(f"{at}{name}_RBV", text)
        for name in ("SDKVersion", "FirmwareVersion"):
            records.add(f"{at}{name}_RBV", "1")

    def _plugin(self, records: Records) -> None:
        at = "HDF1:"
        records.pair(f"{at}NDArrayPort", records.add, "CAM")
        records.pair(f"{at}EnableCallbacks", records.choice, ("Disable", "Enable"), value=1)
        for name in ("NDArrayAddress", "QueueSize", "ArrayCounter", "NumExtraDims", "NumCapture"):
            records.pair(f"{at}{name}", records.add, 0)
        records.pair(f"{at}NumFramesChunks", records.add, 1)
        for name in ("PositionMode", "SWMRMode", "ChunkSizeAuto", "LazyOpen"):
            records.pair(f"{at}{name}", records.choice, _YES_NO)
        records.pair(f"{at}Compression", records.choice, _COMPRESSIONS)
        records.pair(f"{at}FileWriteMode", records.choice, ("Single", "Capture", "Stream"))
        records.pair(f"{at}XMLFileName", records.text)
        records.choice(f"{at}FlushNow", _YES_NO)
        records.choice(f"{at}AutoIncrement", _YES_NO)
        self._file_number = records.add(f"{at}FileNumber", 0)
        records.add(f"{at}CreateDirectory", 0)
        self._path = records.text(f"{at}FilePath_RBV")
        records.text(f"{at}FilePath", put=self._put_path)
        self._path_exists = records.choice(f"{at}FilePathExists_RBV", _YES_NO)
        self._name = records.pair(f"{at}FileName", records.text)
        self._template = records.pair(f"{at}FileTemplate", records.text)
        self._full_name = records.text(f"{at}FullFileName_RBV")
        self._number_captured = records.add(f"{at}NumCaptured_RBV", 0)
        records.choice(f"{at}Capture", _YES_NO, put=self._capture)
        self._capturing = records.choice(f"{at}Capture_RBV", _YES_NO)
        rows, columns = self._pace.beamline.shape
        records.add(f"{at}ArraySize0", columns)
        records.add(f"{at}ArraySize1", rows)

    async def _put_path(self, instance: Any, value: Any) -> Any:
        path = as_text(value)
        await self._path.write(as_characters(path))
        await self._path_exists.write(int(Path(path).is_dir()))
        return value

    async def _capture(self, instance: Any, value: Any) -> Any:
        """Frames from now on go to a new file, which is opened with the first."""
        self.close()
        if chosen(value, _YES_NO) == "Yes":
            folder, name = as_text(self._path.value), as_text(self._name.value)
            template = as_text(self._template.value) or "%s%s.h5"
            parts = (folder, name, int(self._file_number.value))[: template.count("%")]
            await self._full_name.write(as_characters(template % parts))
            self._captured = 0
            await self._number_captured.write(0)
        await self._capturing.write(value)
        return value

    async def _acquire(self, instance: Any, value: Any) -> Any:
        """Take the frames; whoever waits for the put is told when they are taken. 0 ends it before."""
        if chosen(value, _YES_NO) == "No":
            self._acquiring.clear()
            return value
        self._acquiring.set()
        await self._acquire_rbv.write(1)
        await self._state.write("Acquire")
        try:
            taken = 0
            while self._acquiring.is_set() and taken != self._wanted():
                await self._take()
                taken += 1
        finally:
            self._acquiring.clear()
            await self._acquire_rbv.write(0)
            await self._state.write("Idle")
        return 0

    def _wanted(self) -> int:
        """Number of frames; -1 is for ever."""
        mode = chosen(self._mode.value, _MODES)
        return {"Single": 1, "Multiple": int(self._number.value)}.get(mode, -1)

    async def _take(self) -> None:
        self._pace.go_on()
        exposure = self._pace.beamline.expose(
            float(self._acquire_s.value), acquisitions=max(int(self._exposures.value), 1)
        )
        await self._pace.reach(exposure.end_s)
        await self._show(exposure)
        self._write(exposure)
        await self._counter.write(int(self._counter.value) + 1)
        if self._file is not None:
            await self._number_captured.write(self._captured)

    async def _show(self, exposure: Exposure) -> None:
        await self._image.write(exposure.counts.ravel())
        await self._monitor.write(exposure.monitor)
        await self._saturated.write(int(exposure.saturated))

    def _write(self, exposure: Exposure) -> None:
        if chosen(self._capturing.value, _YES_NO) == "No":
            return
        if self._file is None:
            path = Path(as_text(self._full_name.value))
            self._file = SimulatedHdfPlugin(path, self._pace.beamline.shape, np.int32)
        self._file.write(exposure.counts, number=self._captured, time_s=time.time())
        self._captured += 1

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
