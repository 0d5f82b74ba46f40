"""The HDF5 file that someone else is writing: areaDetector's NDFileHDF5 in SWMR mode, found through the documents.

Documents name the file: StreamResource (ophyd-async), or Resource with an AD_HDF5 spec (classic ophyd). Its rows
are the run's frames; where NDArrayUniqueId is beside them, what the file plugin dropped leaves its place.
"""

import logging
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np

from ..storage import reason
from ..stream.sources import LATE_S, Exposure, Labeller, Tell
from ..types import Frame
from .files import opened
from .nexus import DATA_PATH

_ATTRIBUTES = "/entry/instrument/NDAttributes"
_UNIQUE_ID = f"{_ATTRIBUTES}/NDArrayUniqueId"
_SECONDS, _NANOSECONDS = f"{_ATTRIBUTES}/NDArrayEpicsTSSec", f"{_ATTRIBUTES}/NDArrayEpicsTSnSec"
EPICS_EPOCH_S = 631_152_000  # 1990-01-01, from where EPICS counts
OWED_S = 30.0  # how long a frame that the documents announced is waited for, since the newest
SKIP_S = 2.0  # a row that cannot be read for so long is left out
_BATCH = 32  # rows a turn
_FAULTS = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError)

logger = logging.getLogger(__name__)


class SwmrSource:
    """A `FrameSource` of `dataset` in the file that a run's documents name, followed while it grows.

    `path_map` says where a folder of the host that writes is seen here: the longest that fits counts.
    """

    socket = None
    rereads = True

    def __init__(
        self,
        tell: Tell,
        dataset: str | None = None,
        path_map: Mapping[str, str] | None = None,
        monitor: str | None = None,
    ) -> None:
        self.labels = Labeller(tell, first=0, monitor=monitor, prompt=False)
        self._dataset = dataset or DATA_PATH
        self._path_map = dict(path_map or {})
        self._forget()

    def _forget(self) -> None:
        self._path: Path | None = None
        self._resource, self._frames_a_datum = "", 1
        self._announced = 0
        self._growing: _Growing | None = None

    def document(self, name: str, doc: Mapping[str, Any]) -> None:
        """Learn of the run, its file, and how many frames are in it."""
        before = self.labels.run
        self.labels.document(name, doc)
        if self.labels.run != before:
            self.close()
            self._forget()
        try:
            self._learn(name, doc)
        except _FAULTS as error:
            text = f"one {name} document cannot be used: {type(error).__name__}: {error}"
            self.labels.complaints.say("a document that cannot be used", text)

    def _learn(self, name: str, doc: Mapping[str, Any]) -> None:
        if name in ("stream_resource", "resource") and doc.get("run_start") == self.labels.run:
            self._find(name, doc)
        elif name == "stream_datum" and doc.get("stream_resource") == self._resource:
            self._announced = max(self._announced, int(doc["indices"]["stop"]))
        elif name == "datum" and doc.get("resource") == self._resource:
            point = int((doc.get("datum_kwargs") or {}).get("point_number", 0))
            self._announced = max(self._announced, (point + 1) * self._frames_a_datum)

    def _find(self, name: str, doc: Mapping[str, Any]) -> None:
        found = _named(doc, self._dataset) if name == "stream_resource" else _named_by_resource(doc)
        if found is None:
            return
        if self._path is not None:
            text = f"the documents name several files, {self._path} is taken: set [stream] channel to its dataset"
            self.labels.complaints.say("a second file", text)
            return
        self._path = Path(self._here(found))
        self._resource = str(doc["uid"])
        self._frames_a_datum = int((doc.get("resource_kwargs") or {}).get("frame_per_point", 1))

    def _here(self, path: str) -> str:
        """The path as this host sees it."""
        for there in sorted(self._path_map, key=len, reverse=True):
            folder = there.rstrip("/")
            if path == folder or path.startswith(folder + "/"):
                return self._path_map[there].rstrip("/") + path[len(folder) :]
        return path

    def receive(self, timeout_s: float) -> Iterator[Frame]:
        """Frames that are new in the file."""
        yield from self.labels.ready()
        if not self._take() and timeout_s:
            time.sleep(timeout_s)
            self._take()
        yield from self.labels.ready()

    def _take(self) -> bool:
        """Whether there was anything new."""
        if self._path is None:
            return False
        try:
            if self._growing is None:
                self._growing = _Growing(self._path, self._dataset)
            exposures = self._growing.read()
        except _FAULTS as error:
            self._say(error)
            return False
        for exposure in exposures:
            self.labels.take(exposure)
        if self._growing.fault is not None:
            self._say(self._growing.fault)
        return bool(exposures)

    def _say(self, error: BaseException) -> None:
        logger.debug("%s: %s", self._path, error)
        if isinstance(error, FileNotFoundError) and not self._announced:
            return  # it is made with its first frame
        hint = "; if another host wrote it, say where with [stream] path_map" if not self._is_there() else ""
        text = f"{self._path} cannot be followed now: {reason(error)}{hint}; it is tried again"
        self.labels.complaints.say("a file that could not be read", text)

    def _is_there(self) -> bool:
        return self._path is not None and self._path.exists()

    def late_s(self) -> float:
        rows = 0 if self._growing is None else self._growing.rows
        return OWED_S if self._announced > rows else LATE_S

    def close(self) -> None:
        """Close the file; again is harmless."""
        if self._growing is not None:
            self._growing.close()
            self._growing = None


def _named(resource: Mapping[str, Any], dataset: str) -> str | None:
    """The path in a StreamResource document of HDF5 frames in `dataset`."""
    uri = urlparse(str(resource.get("uri", "")))
    said = (resource.get("parameters") or {}).get("dataset")
    if uri.scheme != "file" or str(said).strip("/") != dataset.strip("/"):
        return None
    return unquote(uri.path)


def _named_by_resource(resource: Mapping[str, Any]) -> str | None:
    """The path in a Resource document of areaDetector's HDF5 plugin, by classic ophyd."""
    if not str(resource.get("spec", "")).startswith("AD_HDF5"):
        return None
    return str(PurePosixPath(str(resource.get("root") or "/")) / str(resource["resource_path"]))


class _Growing:
    """One file and how many of its rows were read. Raises what h5py raises where it cannot be opened."""

    def __init__(self, path: Path, dataset: str) -> None:
        self._path, self._file = path, opened(path)
        try:
            self._frames = self._file[dataset]
            self._beside = {name: self._file.get(name) for name in (_UNIQUE_ID, _SECONDS, _NANOSECONDS)}
        except BaseException:
            self._file.close()
            raise
        self.rows = 0
        self.fault: BaseException | None = None
        self._first: int | None = None
        self._since_s = math.nan  # when the next row was first seen to be there but not readable

    def read(self) -> list[Exposure]:
        """Rows that are new, some of them; `fault` says what is in the way of the next."""
        self.fault = None
        for dataset in (self._frames, *self._beside.values()):
            if dataset is not None and self._file.swmr_mode:
                dataset.refresh()
        exposures = []
        for row in range(self.rows, min(len(self._frames), self.rows + _BATCH)):
            try:
                exposures.append(self._exposure(row))
                self._since_s = math.nan
            except _FAULTS as error:
                self.fault = error
                if not self._is_hopeless():
                    break
            self.rows = row + 1
        return exposures

    def _is_hopeless(self) -> bool:
        now_s = time.monotonic()
        if math.isnan(self._since_s):
            self._since_s = now_s
        return now_s - self._since_s > SKIP_S

    def _exposure(self, row: int) -> Exposure:
        number = self._value(_UNIQUE_ID, row)
        if number is not None and self._first is None:
            self._first = int(number) - row
        seconds, nanoseconds = self._value(_SECONDS, row), self._value(_NANOSECONDS, row)
        known = seconds is not None and nanoseconds is not None and seconds > 0
        self._require_on_disk(row)
        image = np.asarray(self._frames[row]).squeeze()
        if image.ndim != 2:
            raise ValueError(f"a frame is {image.shape}, not (rows, columns)")
        return Exposure(
            number=row if number is None or self._first is None else int(number) - self._first,
            timestamp_s=EPICS_EPOCH_S + seconds + nanoseconds * 1e-9 if known else math.nan,
            image=image,
        )

    def _require_on_disk(self, row: int) -> None:
        """HDF5 reads zeros beyond the end of a file: a copy cut short, or a file system that is behind."""
        if self._frames.chunks is not None:
            chunk = self._frames.id.get_chunk_info_by_coord((row,) + (0,) * (self._frames.ndim - 1))
            if chunk.byte_offset is None or chunk.byte_offset + chunk.size > self._path.stat().st_size:
                raise ValueError(f"frame {row} is not whole on disk")

    def _value(self, name: str, row: int) -> Any:
        """What is beside a row; None where the file has no such dataset. Raises ValueError where it lags."""
        dataset = self._beside[name]
        if dataset is None:
            return None
        if len(dataset) <= row:
            raise ValueError(f"{name} has {len(dataset)} rows yet, {row + 1} frames are there")
        return dataset[row]

    def close(self) -> None:
        self._file.close()
