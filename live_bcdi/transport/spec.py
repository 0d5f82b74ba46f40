"""A SPEC scan and its TIFF frames into a `RockingScan`. silx parses SPEC, tifffile the frames."""

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from silx.io.specfile import Scan, SfErrColNotFound, SfErrFileOpen, SfErrMotorNotFound, SpecFile

from ..config import Config, SpecConfig
from ..types import FrameArray, RockingScan, ScanError, Vector
from .images import bad_pixels, by_number, flatfield, ranges, read_frames

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]


def read_spec_scan(
    folder: Path, scan: int, config: Config, *, hkl: Vector | None = None, sample: str | None = None
) -> RockingScan:
    """Read scan number `scan` of the one SPEC file in `folder`, with its frames `*_S0054_*.tif` below it.

    Counts stay as they are on disk. `bad_pixels` are those marked in `dark.tif` and those that count nothing in
    `whitefield.tif`, where these lie in `folder`; the latter is also the `flatfield`. `metadata` keeps the SPEC
    command, `frame_totals` (the counter of every frame's sum) and `frame_total_mismatches`. Where a scan number
    comes twice, the last is read. Raises ScanError that names the file, motor, counter or frame that is at fault.
    """
    if config.spec is None:
        raise ScanError(f"the configuration of {config.beamline} has no [spec] table, so SPEC files mean nothing")
    names = config.spec
    spec_path, table = _open_scan(folder, scan)
    points = _Points(table, names, f"{spec_path.name} scan {scan}")
    angles_deg = points.angles_deg(config.diffractometer.rocking)
    frames = read_frames(_frame_paths(folder, scan, len(angles_deg)))
    totals = points.counter("frame_total")
    count_time_s = points.count_time_s()
    name = f"{spec_path.stem}_S{scan:04d}"
    limit = config.detector.saturation_counts
    return RockingScan(
        name=name,
        intensity=frames,
        angles_deg=angles_deg,
        geometry=config.geometry(
            points.motors(),
            energy_kev=points.motor(names.energy_kev, "energy_kev"),
            distance_m=points.motor(names.distance_mm, "distance_mm") / 1000,
        ),
        monitor=points.counter("monitor"),
        timestamps_s=points.timestamps_s(),
        bad_pixels=bad_pixels(folder, frames.shape[1:]),
        flatfield=flatfield(folder, frames.shape[1:]),
        saturation_counts=None if limit is None else limit * names.acquisitions_per_frame,
        exposure_s=None if count_time_s is None else count_time_s * names.acquisitions_per_frame,
        hkl=hkl or config.sample.hkl,
        sample=config.sample.name if sample is None else sample,
        metadata={"spec": points.header(spec_path.name, scan)} | _compared(frames, totals, name),
    )


def _open_scan(folder: Path, number: int) -> tuple[Path, Scan]:
    paths = sorted(folder.glob("*.spec"))
    if len(paths) != 1:
        found = ", ".join(path.name for path in paths) or "none"
        raise ScanError(f"{folder} must hold one SPEC file (*.spec); there are {len(paths)}: {found}")
    try:
        file = SpecFile(str(paths[0]))
    except SfErrFileOpen:
        raise ScanError(f"{paths[0]} is not a SPEC file: it has no #F header and no scan") from None
    numbers = [int(known) for known in file.list()]
    if not numbers:
        raise ScanError(f"{paths[0]} is a SPEC file without scans")
    times = numbers.count(number)
    if not times:
        raise ScanError(f"{paths[0]} has no scan {number}; it has {ranges(sorted(set(numbers)))}")
    if times > 1:
        log.warning("%s has scan %d %d times; the last is read", paths[0].name, number, times)
    _check_numbers(paths[0], number, times)
    return paths[0], file[f"{number}.{times}"]


def _check_numbers(path: Path, number: int, occurrence: int) -> None:
    """Refuse positions and points of the scan that are not all numbers: silx reads `nan` and words as 0."""
    seen, current = 0, False
    with path.open(encoding="utf-8", errors="replace") as lines:
        for at, line in enumerate(lines, start=1):
            if line.startswith("#S"):
                ours = line.split()[1:2] == [str(number)]
                seen += ours
                current = ours and seen == occurrence
            elif current and (line.startswith("#P") or line[0] not in "#@\n") and not _is_numbers(line):
                raise ScanError(f"{path}, line {at}, is not all numbers; mend it: {line.strip()[:60]}")


def _is_numbers(line: str) -> bool:
    words = [word for word in line.split() if not word.startswith("#P") and word != "\\"]  # MCA lines go on
    try:
        return bool(np.isfinite([float(word) for word in words]).all())
    except ValueError:
        return False


class _Points:
    """One scan of a SPEC file; every look-up fails with the name that is missing and the key that asks for it."""

    def __init__(self, table: Scan, names: SpecConfig, where: str) -> None:
        self._table = table
        self._names = names
        self._where = where

    def motor(self, label: str, key: str) -> float:
        try:
            return float(self._table.motor_position_by_name(label))
        except (SfErrMotorNotFound, SfErrColNotFound):
            raise ScanError(
                f"{self._where} has no position of {label!r} in its #O and #P lines; check [spec] {key}"
            ) from None

    def motors(self) -> dict[str, float]:
        return {motor: self.motor(label, f"motors.{motor}") for motor, label in self._names.motors.items()}

    def column(self, label: str, key: str) -> Floats:
        if label not in self._table.labels:
            raise ScanError(f"{self._where} has no column {label!r} in its #L line; check [spec] {key}")
        try:
            values = np.asarray(self._table.data_column_by_name(label), np.float64)
        except SfErrColNotFound:
            values = np.empty(0)
        if not len(values):
            raise ScanError(f"{self._where} has no points: it was stopped before the first")
        return values

    def angles_deg(self, rocking: str) -> Floats:
        if rocking not in self._names.motors:
            raise ScanError(f"[spec] motors must name the SPEC motor of the rocking circle {rocking!r}")
        return self.column(self._names.motors[rocking], f"motors.{rocking}")

    def counter(self, key: str) -> Floats | None:
        label = getattr(self._names, key)
        return None if label is None else self.column(label, key)

    def timestamps_s(self) -> Floats | None:
        """SPEC's Epoch column counts from the time in the file's #E line."""
        start = self._table.file_header_dict.get("E")
        if start is None or "Epoch" not in self._table.labels:
            return None
        return self.column("Epoch", "Epoch") + float(start)

    def count_time_s(self) -> float | None:
        """Seconds of one acquisition, from the #T line; None where SPEC counted to a monitor value."""
        words = str(self._table.scan_header_dict.get("T", "")).split()
        try:
            return float(words[0])
        except (IndexError, ValueError):
            return None

    def header(self, file: str, number: int) -> dict[str, object]:
        known = self._table.scan_header_dict
        return {
            "file": file,
            "scan": number,
            "command": " ".join(str(known.get("S", "")).split()[1:]),
            "date": str(known.get("D", "")),
            "count_time_s": self.count_time_s(),
        }


def _frame_paths(folder: Path, scan: int, points: int) -> list[Path]:
    """The scan's TIFF files in the order of the number that ends their names."""
    numbered = by_number(folder.rglob(f"*_S{scan:04d}_*.tif*"))
    if not numbered:
        raise ScanError(f"{folder} has no frames of scan {scan}: no file *_S{scan:04d}_*.tif in it or below")
    if len(numbered) != points:
        first = min(numbered)
        gone = sorted(set(range(first, first + points)) - set(numbered))
        hint = f"; there is no frame {ranges(gone)}" if gone else "; a SPEC line with too few numbers is no point"
        raise ScanError(f"scan {scan} has {points} SPEC points but {len(numbered)} frames{hint}")
    return list(numbered.values())


def _compared(frames: FrameArray, totals: Floats | None, name: str) -> dict[str, object]:
    """The beamline's own sum of every frame, and how many of our frames have another."""
    if totals is None:
        return {}
    sums = frames.sum(axis=(1, 2), dtype=np.float64)
    wrong = [int(index) for index in np.flatnonzero(sums != totals)]
    if wrong:
        log.warning("%s: the sum of frame %s is not the one SPEC recorded", name, ranges(wrong))
    return {"frame_totals": totals.tolist(), "frame_total_mismatches": len(wrong)}
