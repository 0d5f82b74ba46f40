"""A scan of another program, by whatever says what it is: a SPEC file, NeXus, or the user."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py

from ..config import Config, FilesConfig
from ..types import RockingScan, ScanError, Vector
from .described import read_described_scan
from .hdf5 import read_scan
from .spec import read_spec_scan


def gather(
    source: Path,
    config: Config,
    *,
    scan: int | None = None,
    files: Mapping[str, Any] | None = None,
    hkl: Vector | None = None,
    sample: str | None = None,
) -> RockingScan:
    """Scan number `scan` of the SPEC file in folder `source`. Without one frames by the configuration's `[files]`
    with `files` over it; where both are empty, a NeXus file as it is. Raises ScanError as these do."""
    files = files or {}
    if scan is not None:
        if files:
            raise ScanError(f"--scan takes all from the SPEC file; leave out {', '.join(sorted(files))}")
        return read_spec_scan(source, scan, config, hkl=hkl, sample=sample)
    if source.is_dir() and "angles" not in files and config.files.angles is None and list(source.glob("*.spec")):
        raise ScanError(f"{source} has a SPEC file: give the number of a scan of it, --scan")
    if source.is_file() and h5py.is_hdf5(source) and not files and config.files == FilesConfig():
        return _of_nexus(source, hkl, sample)
    motors = {**config.files.motors, **files.get("motors", {})}
    settings = config.changed(files={**files, "motors": motors})
    return read_described_scan(source, settings, hkl=hkl, sample=sample)


def _of_nexus(path: Path, hkl: Vector | None, sample: str | None) -> RockingScan:
    try:
        found = read_scan(path)
    except ScanError as error:
        raise ScanError(f"{error}. Or say where things are: --frames, --angles, --motor") from None
    return replace(found, hkl=hkl or found.hkl, sample=found.sample if sample is None else sample)
