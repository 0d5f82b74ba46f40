"""Scans on disk: a whole one, or frame by frame while it is measured. docs/file-format.md shows the layout."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..metadata import scan_from_metadata, scan_metadata
from ..types import RockingScan, ScanError
from .files import FRAME_FILTER, clear_errors, new_file, open_file, put, reason, require_space, text
from .foreign import foreign_scan
from .nexus import (
    ANGLE_PATH,
    COMPLETE_PATH,
    DATA_PATH,
    HAVE_PATH,
    MONITOR_PATH,
    SCAN_PATH,
    TIMESTAMP_PATH,
    describe,
    start_entry,
)
from .results import read_result, write_result

__all__ = [
    "ANGLE_PATH",
    "DATA_PATH",
    "MONITOR_PATH",
    "TIMESTAMP_PATH",
    "FrameFile",
    "FrameWriter",
    "read_result",
    "read_scan",
    "write_result",
    "write_scan",
]

_SCALARS_A_CHUNK = 1024


def write_scan(path: Path, scan: RockingScan) -> None:
    """Write a scan as NeXus with CXI names, frames in bitshuffle/LZ4, one chunk a frame.

    `read_scan` gives it back exactly. The file is whole or not there. Raises ScanError where it cannot be
    written (disk full, no such folder) or `scan.metadata` holds what JSON cannot.
    """
    table = scan_metadata(scan)
    with new_file(Path(path)) as file:
        start_entry(file)
        shape = scan.intensity.shape
        file.create_dataset(DATA_PATH, data=scan.intensity, chunks=(1, *shape[1:]), compression=FRAME_FILTER)
        file[DATA_PATH].attrs["units"] = "counts"
        put(file, ANGLE_PATH, scan.angles_deg, units="degree")
        if scan.monitor is not None:
            put(file, MONITOR_PATH, scan.monitor, units="counts")
        if scan.timestamps_s is not None:
            put(file, TIMESTAMP_PATH, scan.timestamps_s, units="s")
        if scan.have is not None:
            put(file, HAVE_PATH, scan.have)
        describe(file, table, scan)


def read_scan(path: Path) -> RockingScan:
    """Read what `write_scan` or `FrameWriter` wrote, or the NeXus/CXI file of another program.

    A file that is still being written gives the frames that are complete. Raises ScanError where it is absent,
    truncated or damaged, or, in one list, for what a rocking scan needs and the file does not have.
    """
    path = Path(path)
    with open_file(path) as file, clear_errors(path, "scan"):
        if SCAN_PATH not in file:
            return foreign_scan(file, path.name)
        count = _complete(file)
        return scan_from_metadata(
            _table(file),
            intensity=file[DATA_PATH][:count],
            angles_deg=file[ANGLE_PATH][:count],
            monitor=_values(file, MONITOR_PATH, count),
            timestamps_s=_values(file, TIMESTAMP_PATH, count),
            have=file[HAVE_PATH][()] if HAVE_PATH in file else None,
        )


def _table(file: h5py.File) -> dict[str, Any]:
    return dict(json.loads(text(file[SCAN_PATH])))


def _complete(file: h5py.File) -> int:
    """Frames that are there with all that belongs to them."""
    return int(file[COMPLETE_PATH][()]) if COMPLETE_PATH in file else len(file[DATA_PATH])


def _values(file: h5py.File, path: str, count: int) -> NDArray[np.float64] | None:
    """One value a frame, NaN for a reading that was lost; None where a detector gave none at all."""
    if path not in file:
        return None
    values = np.asarray(file[path][:count])
    return None if COMPLETE_PATH in file and not np.isfinite(values).any() else values


class FrameWriter:
    """What a detector writes while it scans: SWMR, so that others read frames as they come.

    A frame's angle, monitor and time are flushed before its image, and the number of complete frames after it:
    a reader that goes by that number, or only by the images, never sees a frame without its angle.
    """

    def __init__(
        self,
        path: Path,
        frame_shape: tuple[int, ...],
        dtype: DTypeLike,
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """`metadata` is the table of `scan_metadata`; without it the file holds frames and angles only.

        Raises ScanError where the file exists (raw data are never overwritten), cannot be made, or `metadata`
        lacks a key.
        """
        self._path = Path(path)
        self._count = 0
        rows, columns = frame_shape
        self._shape = (int(rows), int(columns))
        empty = None if metadata is None else _empty_scan(metadata, self._shape, np.dtype(dtype))
        try:
            self._file = h5py.File(self._path, "x", libver="latest")
        except OSError as error:
            raise ScanError(f"{path} cannot be made: {reason(error)}") from error
        try:
            self._make_datasets(np.dtype(dtype))
            if metadata is not None and empty is not None:
                describe(self._file, metadata, empty)
            self._file.swmr_mode = True
        except (OSError, RuntimeError) as error:
            self._file.close()
            raise ScanError(f"{path} cannot be made: {reason(error)}") from error

    def _make_datasets(self, dtype: np.dtype[Any]) -> None:
        start_entry(self._file)
        self._scalars = {
            path: self._file.create_dataset(
                path, (0,), "f8", maxshape=(None,), chunks=(_SCALARS_A_CHUNK,), fillvalue=np.nan
            )
            for path in (ANGLE_PATH, MONITOR_PATH, TIMESTAMP_PATH)
        }
        for path, units in ((ANGLE_PATH, "degree"), (MONITOR_PATH, "counts"), (TIMESTAMP_PATH, "s")):
            self._scalars[path].attrs["units"] = units
        self._frames = self._file.create_dataset(
            DATA_PATH,
            (0, *self._shape),
            dtype,
            maxshape=(None, *self._shape),
            chunks=(1, *self._shape),
            compression=FRAME_FILTER,
        )
        self._frames.attrs["units"] = "counts"
        self._complete = self._file.create_dataset(COMPLETE_PATH, data=np.int64(0))

    @property
    def count(self) -> int:
        """Frames on disk."""
        return self._count

    def append(
        self, image: NDArray[Any], *, angle_deg: float, monitor: float = np.nan, timestamp_s: float
    ) -> None:
        """Write one frame (row, column). Raises ScanError for another shape or dtype, or where the disk is full;
        the frames before it stay readable."""
        if image.shape != self._shape or image.dtype != self._frames.dtype:
            raise ScanError(
                f"{self._path}: frame {self._count} is {image.shape} {image.dtype}, "
                f"the file is for {self._shape} {self._frames.dtype}"
            )
        index = self._count
        require_space(self._path, image.nbytes)
        try:
            for path, value in ((ANGLE_PATH, angle_deg), (MONITOR_PATH, monitor), (TIMESTAMP_PATH, timestamp_s)):
                _append(self._scalars[path], index, value)
            _append(self._frames, index, image)
            self._complete[()] = index + 1
            self._complete.flush()
        except (OSError, RuntimeError) as error:
            raise ScanError(
                f"{self._path}: frame {index} could not be written: {reason(error)}; {index} frames are there"
            ) from error
        self._count = index + 1

    def close(self) -> None:
        """Close the file; again is harmless."""
        try:
            self._file.close()
        except (OSError, RuntimeError) as error:
            raise ScanError(f"{self._path} could not be closed: {reason(error)}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _empty_scan(metadata: Mapping[str, Any], shape: tuple[int, int], dtype: np.dtype[Any]) -> RockingScan:
    return scan_from_metadata(metadata, intensity=np.empty((0, *shape), dtype), angles_deg=np.empty(0))


def _append(dataset: h5py.Dataset, index: int, value: Any) -> None:
    dataset.resize(index + 1, axis=0)
    dataset[index] = value
    dataset.flush()


class FrameFile:
    """Frames by index from a file that may still be growing, in this process or another."""

    def __init__(self, path: Path | str, *, wait_s: float = 2.0) -> None:
        """Tries for `wait_s` seconds where the file is not there yet. Raises ScanError after that, or where it
        is damaged."""
        self._path = Path(path)
        self._file = open_file(self._path, wait_s=wait_s)
        with clear_errors(self._path, "frames"):
            self._frames = self._file[DATA_PATH]
            self._scalars = [self._file.get(path) for path in (ANGLE_PATH, MONITOR_PATH, TIMESTAMP_PATH)]
            self._complete = self._file.get(COMPLETE_PATH)

    def count(self) -> int:
        """Frames that are complete by now."""
        with clear_errors(self._path, "number of frames"):
            if self._complete is None:
                return len(self._frames)
            self._complete.refresh()
            return int(self._complete[()])

    def frame(self, index: int) -> tuple[NDArray[Any], float, float, float]:
        """(image, angle_deg, monitor, timestamp_s) of a complete frame; NaN where there is no such reading."""
        if not 0 <= index < self.count():
            raise ScanError(f"{self._path} has no frame {index}; {self.count()} are complete")
        with clear_errors(self._path, f"frame {index}"):
            self._frames.refresh()
            image = np.asarray(self._frames[index])
            angle_deg, monitor, timestamp_s = (self._value(dataset, index) for dataset in self._scalars)
        return image, angle_deg, monitor, timestamp_s

    def _value(self, dataset: h5py.Dataset | None, index: int) -> float:
        if dataset is None:
            return float("nan")
        dataset.refresh()
        return float(dataset[index])

    def close(self) -> None:
        """Close the file; again is harmless."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
