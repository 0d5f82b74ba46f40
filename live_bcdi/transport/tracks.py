"""What is known of the motion of one scan, as a file and as it lies in Tiled.

Both hold the fields of the dataclasses by their names, so that a new field needs nothing here. docs/tiled.md and
docs/file-format.md show them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import h5py
import numpy as np
from numpy.typing import NDArray
from tiled.client.container import Container

from ..metadata import plain
from ..tracking.following import ScanRecord
from ..types import ScanError, TrackingResult
from .files import clear_errors, new_file, open_file, text
from .stored import Arrays
from .tiled import SERIES, store, versions

_KIND = "live_bcdi track"
_KEPT = 5  # versions of a series in Tiled: each has all of it, and who reads one has time for it
_COLUMNS = {
    "strain": "1",
    "strain_std": "1",
    "counts_ratio": "1",
    "angle_deg": "degree",
    "angle_std_deg": "degree",
    "row": "pixel",
    "row_std": "pixel",
    "column": "pixel",
    "column_std": "pixel",
}
_UNITS = {"deg": "degree", "steps": "rocking steps", "row": "pixel", "column": "pixel", "mdeg": "millidegree"}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Track:
    """One scan: what it is (`about`: run, name, series, time_s), its `record` for the series or why there is none,
    and the motion within it, None while that is not known, or why it cannot be."""

    about: Mapping[str, Any]
    record: ScanRecord | str
    within: TrackingResult | str | None = None


def write_track(path: Path, track: Track) -> None:
    """The file is whole or not there; what is there is replaced. Raises StorageError where it cannot be
    written."""
    with new_file(Path(path)) as file:
        file.attrs["kind"] = _KIND
        for name, value in track.about.items():
            file.attrs[f"about {name}"] = value
        _put(file, "record", track.record)
        if track.within is not None:
            _put(file, "within", track.within)


def read_track(path: Path, *, around: bool = False) -> Track:
    """What `write_track` wrote; what is `around` the peak, half a megabyte, only where it is asked for. Raises
    ScanError where the file is absent, damaged or something else."""
    path = Path(path)
    with open_file(path) as file, clear_errors(path, "track"):
        if text(file.attrs.get("kind", "")) != _KIND:
            raise ScanError(f"{path} is not a track of live_bcdi")
        about = {
            name.removeprefix("about "): _plain(value) for name, value in file.attrs.items() if name != "kind"
        }
        record = _get(file, "record", ScanRecord, without=() if around else ("around",))
        within = _get(file, "within", TrackingResult) if "within" in file else None
        return Track(about=about, record=record, within=within)


def track_series(path: Path) -> str:
    """The series of a track, without the rest. Raises ScanError as `read_track` does."""
    with open_file(path) as file, clear_errors(path, "track"):
        return text(file.attrs["about series"])


def _put(parent: h5py.Group, name: str, value: Any) -> None:
    """A dataclass as a group, a tuple of arrays as one with numbers for names, everything else as a dataset."""
    if hasattr(value, "__dataclass_fields__"):
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
    elif isinstance(value, tuple) and any(isinstance(each, np.ndarray) for each in value):
        parts = {str(number): each for number, each in enumerate(value)}
    else:
        big = isinstance(value, np.ndarray) and value.size > 1000
        parent.create_dataset(name, data=value, **({"compression": "gzip"} if big else {}))
        return
    group = parent.create_group(name)
    for key, part in parts.items():
        if part is not None:
            _put(group, key, part)


def _get(parent: h5py.Group, name: str, kind: Any, *, without: Sequence[str] = ()) -> Any:
    stored = parent.get(name)
    if isinstance(stored, h5py.Dataset):
        value = stored[()]
        return tuple(value.tolist()) if get_origin(kind) is tuple else _plain(value)
    if stored is None:
        return None
    if get_origin(kind) is tuple:
        return tuple(stored[number][()] for number in sorted(stored))
    if _may_lack(kind):
        kind = next(each for each in get_args(kind) if each is not type(None))
    hints = get_type_hints(kind)
    known = [field.name for field in fields(kind) if field.name in stored or _may_lack(hints[field.name])]
    return kind(**{key: _get(stored, key, hints[key]) for key in known if key not in without})


def _may_lack(kind: Any) -> bool:
    return isinstance(kind, UnionType) and type(None) in get_args(kind)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return value.item() if isinstance(value, np.generic) else value


def track_arrays(within: TrackingResult) -> tuple[Arrays, dict[str, Any]]:
    """The arrays, one value a frame, with their units, and the numbers of the motion within a scan."""
    arrays: Arrays = {}
    table: dict[str, Any] = {}
    for field in fields(within):
        value = getattr(within, field.name)
        if isinstance(value, np.ndarray):
            arrays[field.name] = (value, {"units": _unit(field.name), "axes": "frame"})
        elif value is not None:
            table[field.name] = value
    return arrays, dict(plain(table))


def _unit(name: str) -> str:
    words = name.removesuffix("_std").split("_")
    return next((unit for part, unit in _UNITS.items() if part in words), "1")


def store_track(
    root: Container, ticket: Mapping[str, Any], track: Track | Mapping[str, Any], *, finished_s: float
) -> str:
    """Into Tiled, beside those that are there: the track of a scan at `tracking/<run>/<version>`, with what
    `ticket` says of it, or a series at `series/<key>/<version>`, of which the newest few stay. The path of it."""
    if not isinstance(track, Track):
        columns, named = series_arrays(track["scans"])
        table = {"series": track["series"], "prediction": track["prediction"], **named, "finished": finished_s}
        return store(root, (SERIES, series_key(str(track["series"]))), columns, table, keep=_KEPT)
    arrays, numbers = track_arrays(track.within) if isinstance(track.within, TrackingResult) else ({}, {})
    why = track.within if isinstance(track.within, str) else None
    record_why = track.record if isinstance(track.record, str) else None
    table = {**ticket, **numbers, "why": why, "no_record_why": record_why, "finished": finished_s}
    return store(root, ("tracking", str(ticket["run"])), arrays, table)


def series_arrays(scans: Sequence[Mapping[str, Any]]) -> tuple[Arrays, dict[str, Any]]:
    """A column a number, NaN where a scan has none, and lists of what is no number: run, name, reasons."""
    arrays: Arrays = {"time_s": (_column([row["time_s"] for row in scans]), {"units": "s", "axes": "scan"})}
    for at in (1, 2):
        for part in ("", "_std"):
            values = [None if (pair := row[f"rotation{part}_mdeg"]) is None else pair[at - 1] for row in scans]
            arrays[f"rotation_{at}{part}_mdeg"] = (_column(values), {"units": "millidegree", "axes": "scan"})
    for name, unit in _COLUMNS.items():
        arrays[name] = (_column([row[name] for row in scans]), {"units": unit, "axes": "scan"})
    return arrays, {name: [row[name] for row in scans] for name in ("run", "name", "reasons")}


def _column(values: Sequence[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], np.float64)


def series_key(series: str) -> str:
    """A series' name as a place in Tiled: its words, and a checksum, as different names may have the same."""
    words = re.sub(r"[^a-z0-9]+", "-", series.lower()).strip("-")[:60]
    return f"{words}-{sha256(series.encode()).hexdigest()[:8]}"


def read_series(root: Container, series: str) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
    """The newest of a series in Tiled by its name ("gold, hkl 1 1 1"): metadata, the prediction for the next scan
    among them, and a column a number. Raises ScanError where there is none."""
    found = versions(root, SERIES, series_key(series))
    if not found:
        raise ScanError(f"Tiled has no series {series!r}; the page and the results' `operando` say their names")
    newest = list(found.values())[-1]
    return dict(newest.metadata), {name: np.asarray(node.read()) for name, node in newest.items()}
