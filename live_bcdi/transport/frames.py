"""Frames on disk while they come: a writer that others may read beside, and a reader of all that a run left.

A run has one file, or several parts where its writer was killed and another went on: `scan.h5`, `scan_2.h5`, ...
docs/file-format.md shows the layout.
"""

import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..metadata import scan_from_metadata
from ..storage import reason
from ..types import RockingScan, ScanError
from .files import FRAME_FILTER, clear_errors, open_file, require_space, text
from .nexus import (
    ANGLE_PATH,
    COMPLETE_PATH,
    DATA_PATH,
    FINISHED_PATH,
    INDEX_PATH,
    MONITOR_PATH,
    RUN_PATH,
    SCAN_PATH,
    TIMESTAMP_PATH,
    describe,
    start_entry,
)

_SCALARS_A_CHUNK = 1024
_READINGS = {ANGLE_PATH: "degree", MONITOR_PATH: "counts", TIMESTAMP_PATH: "s"}


@dataclass(frozen=True, kw_only=True, slots=True)
class RunLabel:
    """Whose frames a file holds. `origin` is what the detector counts for the run's frame 0 (series, number), kept
    for a writer that goes on after another was killed."""

    run: str
    origin: tuple[int, int] | None = None


class FrameWriter:
    """What a detector writes while it scans: SWMR, so that others read frames as they come.

    A frame's angle, monitor, time and index are flushed before its image, and the number of complete frames after
    it: a reader that goes by that number, or only by the images, never sees a frame without its angle.
    """

    def __init__(
        self,
        path: Path,
        frame_shape: tuple[int, ...],
        dtype: DTypeLike,
        *,
        metadata: Mapping[str, Any] | None = None,
        label: RunLabel | None = None,
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
        if self._path.exists():
            raise ScanError(f"{path} cannot be made: it exists, and raw data are never overwritten")
        beside = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}.partial")
        try:
            self._file = h5py.File(beside, "x", libver="latest")
        except OSError as error:
            raise ScanError(f"{path} cannot be made: {reason(error)}") from error
        try:
            self._make_datasets(np.dtype(dtype))
            if label is not None:
                self._file[RUN_PATH] = json.dumps({"run": label.run, "origin": label.origin})
            if metadata is not None and empty is not None:
                describe(self._file, metadata, empty)
            self._file.swmr_mode = True
            beside.rename(self._path)  # it is never seen half made, also where this process is killed now
        except (OSError, RuntimeError) as error:
            self._file.close()
            beside.unlink(missing_ok=True)
            raise ScanError(f"{path} cannot be made: {reason(error)}") from error

    def _make_datasets(self, dtype: np.dtype[Any]) -> None:
        start_entry(self._file)
        self._scalars = [self._column(path, "f8", fillvalue=np.nan) for path in _READINGS]
        for dataset, units in zip(self._scalars, _READINGS.values()):
            dataset.attrs["units"] = units
        self._scalars.append(self._column(INDEX_PATH, "i8", fillvalue=-1))
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
        self._finished = self._file.create_dataset(FINISHED_PATH, data=np.int8(0))

    def _column(self, path: str, dtype: str, *, fillvalue: float) -> h5py.Dataset:
        return self._file.create_dataset(
            path, (0,), dtype, maxshape=(None,), chunks=(_SCALARS_A_CHUNK,), fillvalue=fillvalue
        )

    @property
    def count(self) -> int:
        """Frames on disk."""
        return self._count

    def append(
        self,
        image: NDArray[Any],
        *,
        angle_deg: float,
        monitor: float = np.nan,
        timestamp_s: float,
        index: int | None = None,
    ) -> None:
        """Write one frame (row, column), by default the next of its run. Raises ScanError for another shape or
        dtype, or where the disk is full; the frames before it stay readable."""
        if image.shape != self._shape or image.dtype != self._frames.dtype:
            raise ScanError(
                f"{self._path}: frame {self._count} is {image.shape} {image.dtype}, "
                f"the file is for {self._shape} {self._frames.dtype}"
            )
        row = self._count
        require_space(self._path, image.nbytes)
        try:
            for dataset, value in zip(
                self._scalars, (angle_deg, monitor, timestamp_s, row if index is None else index)
            ):
                _append(dataset, row, value)
            _append(self._frames, row, image)
            self._complete[()] = row + 1
            self._complete.flush()
        except (OSError, RuntimeError) as error:
            raise ScanError(
                f"{self._path}: frame {row} could not be written: {reason(error)}; {row} frames are there"
            ) from error
        self._count = row + 1

    def finish(self) -> None:
        """Say in the file that no frame of its run is to come, and close it."""
        with clear_errors(self._path, "end"):
            self._finished[()] = 1
        self.close()

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


def _append(dataset: h5py.Dataset, row: int, value: Any) -> None:
    """`dataset[row] = value` and a flush, by the calls below h5py's own, which cost less."""
    values = np.asarray(value, order="C")
    dataset.id.set_extent((row + 1, *values.shape))
    place = dataset.id.get_space()
    place.select_hyperslab((row, *(0,) * values.ndim), (1, *values.shape))
    dataset.id.write(h5py.h5s.create_simple((1, *values.shape)), place, values)
    dataset.flush()


def run_label(path: Path) -> RunLabel | None:
    """Whose frames a file holds; None where it does not say. Raises ScanError where it cannot be read."""
    with open_file(path) as file:
        return _label(file, path)


def _label(file: h5py.File, path: Path) -> RunLabel | None:
    if RUN_PATH not in file:
        return None
    with clear_errors(path, "run"):
        table = json.loads(text(file[RUN_PATH]))
        origin = table["origin"]
        return RunLabel(run=table["run"], origin=None if origin is None else (int(origin[0]), int(origin[1])))


def part_path(first: Path, number: int) -> Path:
    """Part `number` (from 1) of a run whose file is `first`."""
    return first if number == 1 else first.with_name(f"{first.stem}_{number}{first.suffix}")


def parts_of(first: Path) -> list[Path]:
    """The files of a run, as far as their names tell, whose first is `first`. It need not be there."""
    paths = [first]
    while (further := part_path(first, len(paths) + 1)).exists():
        paths.append(further)
    return paths


class _Part:
    """One file: where it has which frame, as far as they are complete."""

    def __init__(self, path: Path, wait_s: float) -> None:
        self.path = path
        self.file = open_file(path, wait_s=wait_s)
        with clear_errors(path, "frames"):
            self.label = _label(self.file, path)
            self.frames = self.file[DATA_PATH]
            self.dtype: np.dtype[Any] = self.frames.dtype.newbyteorder("=")  # as frames of the stream have it
            self._complete, self._index, self._finished = (
                self.file.get(name) for name in (COMPLETE_PATH, INDEX_PATH, FINISHED_PATH)
            )
            self._columns = [self.file.get(name) for name in _READINGS]
            if self._columns[0] is None:
                raise KeyError(f"no {ANGLE_PATH}")
        self.index: NDArray[np.int64] = np.empty(0, np.int64)
        self.readings: list[NDArray[np.float64]] = [np.empty(0)] * len(_READINGS)

    def look(self) -> None:
        """Take note of the frames that are new."""
        with clear_errors(self.path, "number of frames"):
            count = self._count()
            if count == len(self.index):
                return
            for dataset in (self.frames, self._index, *self._columns):
                if dataset is not None and self._complete is not None:
                    dataset.refresh()
            self.readings = [
                np.full(count, np.nan) if dataset is None else np.asarray(dataset[:count], np.float64)
                for dataset in self._columns
            ]
            self.index = np.arange(count) if self._index is None else np.asarray(self._index[:count])

    def _count(self) -> int:
        if self._complete is None:
            return len(self.frames)
        self._complete.refresh()
        return int(self._complete[()])

    def finished(self) -> bool:
        """Whether the writer said that there is no more."""
        if self._finished is None:
            return False
        with clear_errors(self.path, "end"):
            self._finished.refresh()
            return bool(self._finished[()])


class FrameFile:
    """Frames by index from a file that may still be growing, in this process or another, and its later parts."""

    def __init__(self, path: Path | str, *, wait_s: float = 2.0) -> None:
        """Tries for `wait_s` seconds where the file is not there yet. Raises ScanError after that, or where it
        is damaged or holds no angles."""
        self._path = Path(path)
        self._parts: list[_Part] = []
        self._places: dict[int, tuple[_Part, int]] = {}
        try:
            self._parts.extend(_parts(self._path, wait_s))
        except BaseException:
            self.close()
            raise

    def indices(self) -> set[int]:
        """Frames that are complete by now."""
        for part in self._parts:
            known = len(part.index)
            part.look()
            for row in range(known, len(part.index)):
                self._places.setdefault(int(part.index[row]), (part, row))
        return set(self._places)

    def count(self) -> int:
        """How many frames are complete by now."""
        return len(self.indices())

    @property
    def finished(self) -> bool:
        """Whether the writer said that no frame of the run is to come."""
        return self._parts[-1].finished()

    @property
    def label(self) -> RunLabel | None:
        """Whose frames these are, where the file says it."""
        return self._parts[0].label

    def frame(self, index: int) -> tuple[NDArray[Any], float, float, float]:
        """(image, angle_deg, monitor, timestamp_s) of a complete frame; NaN where there is no such reading."""
        if index not in self._places and index not in self.indices():
            raise ScanError(f"{self._path} has no frame {index}; {len(self._places)} are complete")
        part, row = self._places[index]
        with clear_errors(part.path, f"frame {index}"):
            image = np.asarray(part.frames[row], part.dtype)
        angle_deg, monitor, timestamp_s = (float(column[row]) for column in part.readings)
        return image, angle_deg, monitor, timestamp_s

    def scan(self) -> RockingScan:
        """All that is there as a scan; up to the last frame, those that never came are not in `have` and stand at
        an angle between their neighbours'. Raises ScanError where the file does not say what was measured."""
        indices = sorted(self.indices())
        with clear_errors(self._path, "scan"):
            table = json.loads(text(self._parts[0].file[SCAN_PATH]))
            size = indices[-1] + 1 if indices else 0
            have = np.zeros(size, bool)
            have[indices] = True
            angles_deg, monitor, timestamps_s = self._columns(have)
            missing = np.flatnonzero(~have)
            angles_deg[missing] = np.interp(missing, indices, angles_deg[indices]) if indices else []
            return scan_from_metadata(
                table,
                intensity=self._images(size),
                angles_deg=angles_deg,
                monitor=monitor if np.isfinite(monitor).any() else None,
                timestamps_s=timestamps_s if np.isfinite(timestamps_s).any() else None,
                have=None if have.all() else have,
            )

    def _columns(self, have: NDArray[np.bool_]) -> NDArray[np.float64]:
        values = np.full((len(_READINGS), len(have)), np.nan)
        for index, (part, row) in self._places.items():
            values[:, index] = [column[row] for column in part.readings]
        return values

    def _images(self, size: int) -> NDArray[Any]:
        """One read for a file that has every frame in its place, as nearly all do."""
        first = next((part for part in self._parts if len(part.index)), self._parts[0])
        if np.array_equal(first.index, np.arange(size)):
            return np.asarray(first.frames[:size], first.dtype)
        images = np.zeros((size, *first.frames.shape[1:]), first.dtype)
        for index, (part, row) in self._places.items():
            images[index] = part.frames[row]
        return images

    def close(self) -> None:
        """Close the file; again is harmless."""
        for part in self._parts:
            part.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _parts(path: Path, wait_s: float) -> Iterator[_Part]:
    """The file, and those beside it that go on with its run."""
    first = _Part(path, wait_s)
    yield first
    if first.label is None:
        return
    for further in parts_of(path)[1:]:
        part = _Part(further, wait_s)
        if part.label is None or part.label.run != first.label.run:
            part.file.close()
            return
        yield part
