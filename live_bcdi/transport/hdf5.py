"""Scans on disk: a whole one, or frame by frame while it is measured (`frames.py`). docs/file-format.md shows the
layout."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..metadata import scan_from_metadata, scan_metadata
from ..types import Reconstruction, RockingScan
from .files import FRAME_FILTER, clear_errors, new_file, nexus_group, open_file, put, text
from .foreign import foreign_scan
from .frames import FrameFile, FrameWriter, RunLabel
from .nexus import (
    ANGLE_PATH,
    COMPLETE_PATH,
    DATA_PATH,
    HAVE_PATH,
    JOULE_A_KEV,
    MONITOR_PATH,
    SCAN_PATH,
    TIMESTAMP_PATH,
    describe,
    start_entry,
)
from .results import put_result, read_result, write_result

__all__ = [
    "ANGLE_PATH",
    "DATA_PATH",
    "MONITOR_PATH",
    "TIMESTAMP_PATH",
    "FrameFile",
    "FrameWriter",
    "RunLabel",
    "read_result",
    "read_scan",
    "write_nxcxi",
    "write_result",
    "write_scan",
]


def write_scan(path: Path, scan: RockingScan) -> None:
    """Write a scan as NeXus with CXI names, frames in bitshuffle/LZ4, one chunk a frame.

    `read_scan` gives it back exactly. The file is whole or not there. Raises ScanError where it cannot be
    written (disk full, no such folder) or `scan.metadata` holds what JSON cannot.
    """
    table = scan_metadata(scan)
    with new_file(Path(path)) as file:
        _put_scan(file, scan, table)


def write_nxcxi(path: Path, scan: RockingScan, reconstruction: Reconstruction, *, run: str) -> None:
    """Write a scan and its result into one file that `read_scan` and `read_result` both read; `run` is the uid.

    Frames are `detector_1` and `data_1` as in a scan's file, what was phased is `detector_2` and `data_2`, and the
    rest has the names of a result's file. Errors as `write_scan`.
    """
    table = scan_metadata(scan)
    with new_file(Path(path)) as file:
        _put_scan(file, scan, table)
        entry = file["entry"]
        put_result(entry, reconstruction, detector=2)
        put(nexus_group(entry, "raw", "NXcollection"), "run", run)
        beam = entry["instrument/beam"]
        put(beam, "energy", scan.geometry.energy_kev * JOULE_A_KEV, units="J")  # as CXI has it, in SI units
        entry["instrument/beam_1"] = h5py.SoftLink(beam.name)
        if scan.timestamps_s is not None and np.isfinite(scan.timestamps_s).any():
            put(entry, "start_time", _iso(float(np.nanmin(scan.timestamps_s))))
            put(entry, "end_time", _iso(float(np.nanmax(scan.timestamps_s))))


def _iso(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat()


def _put_scan(file: h5py.File, scan: RockingScan, table: Mapping[str, Any]) -> None:
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
        if COMPLETE_PATH not in file:
            return _whole_scan(file)
    with FrameFile(path) as frames:
        return frames.scan()


def _whole_scan(file: h5py.File) -> RockingScan:
    return scan_from_metadata(
        dict(json.loads(text(file[SCAN_PATH]))),
        intensity=file[DATA_PATH][()],
        angles_deg=file[ANGLE_PATH][()],
        monitor=file[MONITOR_PATH][()] if MONITOR_PATH in file else None,
        timestamps_s=file[TIMESTAMP_PATH][()] if TIMESTAMP_PATH in file else None,
        have=file[HAVE_PATH][()] if HAVE_PATH in file else None,
    )
