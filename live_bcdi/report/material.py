"""What a report is made of: a result, and the scan that it came from where that is to be had."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import Config
from ..offline import is_run
from ..pipeline import provenance
from ..transport.hdf5 import read_result, read_scan
from ..transport.results import Origin, read_origin
from ..transport.tiled import connect, read_raw_scan
from ..transport.tiled import results as results_in_tiled
from ..types import Reconstruction, RockingScan, ScanError


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """A result, where it lies and what it says of its origin. `scan` is None where the frames cannot be had or are
    not those that the result was made of; `remark` says why."""

    path: Path
    result: Reconstruction
    origin: Origin
    scan: RockingScan | None
    remark: str

    def settings(self, table: str) -> dict[str, Any]:
        """A table of the configuration the result was made with; empty where it does not say."""
        return dict(json.loads(self.result.provenance.get(table, "{}")))


def gather(source: str, config: Config) -> Material:
    """Of a result's file, or of the newest result of the run whose uid begins with `source`.

    Raises ScanError where there is no such result, or it cannot be read.
    """
    path = _newest_result(source, config) if is_run(source) else Path(source)
    result, origin = read_result(path), read_origin(path)
    try:
        return Material(path=path, result=result, origin=origin, scan=_scan(result, origin, config), remark="")
    except ScanError as error:
        return Material(path=path, result=result, origin=origin, scan=None, remark=str(error))


def _newest_result(run: str, config: Config) -> Path:
    """In the storage folder, where services write it; else where Tiled says it was written."""
    here = list((config.storage.directory / "results").glob(f"*_{run[:8]}*.cxi"))
    mine = [path for path in here if read_origin(path).run.startswith(run)]
    if mine:
        return max(mine, key=lambda path: path.stat().st_mtime)
    found = results_in_tiled(connect(config), run)
    if not found:
        raise ScanError(f"no result of a run {run!r}; `live-bcdi results` lists what is there")
    path = Path(str(found[-1][1].metadata.get("file", "")))
    if not path.is_file():
        raise ScanError(f"the result of run {run!r} was written to {path}, which is not there; give its file")
    return path


def _scan(result: Reconstruction, origin: Origin, config: Config) -> RockingScan | None:
    """The frames that the result was made of; None for what never had a scan.

    Of several scans that were summed, the first. Raises ScanError where they cannot be had, or are others now.
    """
    if origin.frames is not None:
        scan = read_scan(origin.frames)
    elif origin.run:
        scan = read_raw_scan(connect(config), origin.run.split()[0])
    elif "frames" in origin.links:
        raise ScanError(
            f"The frames are not at {origin.links['frames']} any more: what only they show is left out."
        )
    else:
        return None
    _check_same(scan, result)
    return scan


def _check_same(scan: RockingScan, result: Reconstruction) -> None:
    """By the checksum, where it is that of this scan alone, as read."""
    made_of = result.provenance.get("input_sha256")
    dark = json.loads(result.provenance.get("preprocessing", "{}")).get("dark")
    if made_of is None or dark is not None or "summed" in result.provenance:
        return
    if provenance(scan)["input_sha256"] != made_of:
        raise ScanError(
            f"The frames of {scan.name} are not those that this result was made of (another checksum): what only"
            " they show is left out."
        )
