"""Checks of the storage folder: room, speed against the detector's last scan, and what the file system can do."""

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from .finding import Findings, ok, probe, problem, warning

CHECK = "disk"
LEAST_BYTES, FEW_BYTES = 1 << 30, 20 << 30
LEAST_FILES, FEW_FILES = 1000, 50_000
PIECE_BYTES = 4 << 20
WRITE_BYTES, WRITE_S = 128 << 20, 3.0
SPARE = 1.5  # others write beside the detector
_NEWEST = 5  # files, of which some may be damaged
PROBE_S = 40.0  # two processes, imports on a cold disk


def existing(directory: Path) -> Path:
    """The folder, or the nearest above it that is there: nothing is made that stays."""
    path = directory.absolute()
    while not path.is_dir() and path != path.parent:
        path = path.parent
    return path


def room(directory: Path) -> Findings:
    """Free bytes and files of the storage folder's disk, and whether it takes files."""
    folder = existing(directory)
    if directory.exists() and not directory.is_dir():
        return [problem(CHECK, f"{directory} is a file.", "Choose another [storage] directory.")]
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        what = f"Nothing can be written to {folder} ({error.strerror})."
        return [problem(CHECK, what, "Have its owner allow it, or choose another [storage] directory.")]
    disk = os.statvfs(folder)
    free, files = disk.f_bavail * disk.f_frsize, disk.f_favail if disk.f_files else FEW_FILES
    do = "Make room, or choose another [storage] directory; frames, journals and results all lie there."
    if free < FEW_BYTES:
        say = problem if free < LEAST_BYTES else warning
        return [say(CHECK, f"{folder} has {free / 1e9:.1f} GB left.", do)]
    if files < FEW_FILES:
        say = problem if files < LEAST_FILES else warning
        return [say(CHECK, f"The disk of {folder} takes {files} more files.", do)]
    return [ok(CHECK, f"{folder} has {free / 1e9:.0f} GB left.")]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """Bytes a second of the last scan that has time stamps, as its frames lie on disk and as they came."""

    file: Path
    on_disk_s: float
    raw_s: float


def last_pace(directory: Path) -> Pace | None:
    """The detector's rate, from its newest file with two frames or more; None where there is none."""
    import numpy as np

    from ..transport.files import opened
    from ..transport.nexus import DATA_PATH, TIMESTAMP_PATH

    files = sorted((directory / "frames").glob("*.h5"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in files[:_NEWEST]:
        try:
            with opened(path) as file:
                frames, stamps = file[DATA_PATH], np.asarray(file[TIMESTAMP_PATH], float)
                stored, raw = frames.id.get_storage_size(), frames.nbytes
        except (OSError, KeyError, RuntimeError, ValueError):
            continue
        known = stamps[np.isfinite(stamps)]
        if len(known) > 1 and (seconds := float(np.ptp(known))) > 0:
            a_second = (len(known) - 1) / seconds / len(known)
            return Pace(file=path, on_disk_s=stored * a_second, raw_s=raw * a_second)
    return None


def speed(directory: Path, pace: Pace | None) -> Findings:
    """How fast bytes that do not compress reach the disk, against what the detector's last scan needed."""
    bytes_s = write_speed(existing(directory))
    said = f"It takes {bytes_s / 1e6:.0f} MB/s"
    if pace is None:
        return [ok(CHECK, f"{said}; no scan is there to say what the detector needs.")]
    needs = f"{pace.file.name} needed {pace.on_disk_s / 1e6:.1f} MB/s, {pace.raw_s / 1e6:.1f} before compression"
    do = "Choose a faster disk for [storage] directory, or fewer frames a second."
    if bytes_s < pace.on_disk_s:
        return [problem(CHECK, f"{said}, and {needs}.", do)]
    if bytes_s < SPARE * pace.on_disk_s:
        return [warning(CHECK, f"{said}, little more than enough: {needs}.", do)]
    free = os.statvfs(existing(directory))
    hours = free.f_bavail * free.f_frsize / pace.on_disk_s / 3600
    return [ok(CHECK, f"{said}; {needs}, for which there is room for {hours:.0f} h.")]


def write_speed(folder: Path) -> float:
    """Bytes a second that reach the disk under `folder`, from a file without a name."""
    piece = os.urandom(PIECE_BYTES)
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        began_s, written = time.monotonic(), 0
        room = os.statvfs(folder)
        most = min(WRITE_BYTES, room.f_bavail * room.f_frsize // 4)
        while written < most and time.monotonic() - began_s < WRITE_S:
            written += file.write(piece)
            os.fsync(file.fileno())
        return written / max(time.monotonic() - began_s, 1e-6)


def growing_files(directory: Path) -> Findings:
    """Whether one process can read a file that another writes, and locks hold between processes."""
    found = []
    beside = existing(directory)
    with tempfile.TemporaryDirectory(
        prefix=".live-bcdi-doctor-", dir=beside, ignore_cleanup_errors=True
    ) as folder:
        status, said = probe(["swmr", folder], PROBE_S)
        if status:
            what = f"A file that grows cannot be read beside its writer: {_why(said)}."
            do = "Choose a local disk (or one with POSIX writes, not NFS or SMB) for [storage] directory."
            found.append(problem(CHECK, what, do))
        status, said = probe(["lock", folder], PROBE_S)
        if status:
            what = f"A lock does not hold between processes: {_why(said)}."
            do = "Choose another disk for [storage] directory: without locks a dead RunEngine looks alive."
            found.append(problem(CHECK, what, do))
    return found or [ok(CHECK, "It takes files that are read while they grow (SWMR), and locks.")]


def _why(said: str) -> str:
    return next(reversed(said.splitlines()), f"no end in {PROBE_S:.0f} s")
