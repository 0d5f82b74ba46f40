"""Scans on disk: a whole one, or frame by frame while it is measured (`frames.py`). docs/file-format.md shows the
layout."""

import json
from pathlib import Path

import h5py

from ..metadata import scan_from_metadata, scan_metadata
from ..types import RockingScan
from .files import FRAME_FILTER, clear_errors, new_file, open_file, put, text
from .foreign import foreign_scan
from .frames import FrameFile, FrameWriter, RunLabel
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
    "RunLabel",
    "read_result",
    "read_scan",
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
