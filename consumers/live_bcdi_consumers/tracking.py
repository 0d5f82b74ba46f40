"""The jobs of the live consumer's tracking: how a scan moved from those before it, and what moved within it.

Each scan has a file in `tracks/`, from which the series is made whoever asks; what Tiled is owed of it is a
ticket. All is done from the frames of one scan, so that it can be done again, by refine, where live was killed.
"""

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from live_bcdi.config import OperandoConfig
from live_bcdi.log import about_run
from live_bcdi.metadata import plain
from live_bcdi.priority import hurry
from live_bcdi.stream.claim import Claim
from live_bcdi.stream.run import run_plan
from live_bcdi.stream.state import series_of
from live_bcdi.tracking import follow, track_scan
from live_bcdi.tracking.following import joined, prediction_table, recorded
from live_bcdi.transport.tracks import Track, read_track, series_key, track_arrays, write_track
from live_bcdi.types import RockingScan, ScanError, TrackingResult

from .tickets import Tickets

TRACKS, OWED = "tracks", "outbox/tracking"
KEPT = 100  # scans of a series
_MOST_S = 1e11  # a time beyond it (the year 5138) is none
EDGE = 96  # pixels of the detector about the peak
NICE = 10
QUICK_FRAMES = 100  # longer scans take many seconds, in which others go first
_SAYS = 0.9  # of what is expected before one looks: a frame with a larger error bar has said nothing
_LOOKED_AT = 3 * KEPT  # files, of other series too


def about_scan(start: Mapping[str, Any], settings: OperandoConfig) -> dict[str, Any]:
    """What names a scan and its series, of its start document."""
    plan, started_s = run_plan(start), start.get("time")
    known = isinstance(started_s, int | float) and 0 <= started_s < _MOST_S
    return {
        "run": plan.run,
        "name": plan.name,
        "num": plan.num,
        "series": series_of(start, settings.series),
        "time_s": float(start["time"]) if known else time.time(),
    }


def track_file(storage: Path, about: Mapping[str, Any]) -> Path:
    """Names are in the order in which scans began."""
    return storage / TRACKS / f"{about['time_s']:017.6f}_{about['run']}.h5"


def claim_file(storage: Path, about: Mapping[str, Any]) -> Path:
    """What `stream.claim.Claim` is given by who works at a scan's motion."""
    path = track_file(storage, about)
    folder = path.parent / "claims"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / path.name


def follow_scan(
    about: Mapping[str, Any], scan: RockingScan, corner: tuple[int, int], storage: Path
) -> dict[str, Any]:
    """Keep what a series needs of a scan that is whole, and say how the series is with it: fields of
    `tracking`."""
    hurry(now=True, nice=NICE)
    path = track_file(storage, about)
    if _known(path) is None:
        write_track(path, Track(about=about, record=recorded(scan, corner)))
    return series_fields(storage, str(about["series"]))


def track_frames(
    about: Mapping[str, Any], scan: RockingScan, corner: tuple[int, int], storage: Path
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Keep what moved within a scan that is whole, owe it to Tiled, and say it: fields and arrays of
    `tracking`."""
    hurry(now=len(scan.intensity) <= QUICK_FRAMES, nice=NICE)
    began_s = time.perf_counter()
    path = track_file(storage, about)
    track = _known(path) or Track(about=about, record=recorded(scan, corner))
    if track.within is None:
        track = replace(track, within=_tracked(scan))
        write_track(path, track)
    _owe(storage, path, about)
    return within_parts(track.within, about, len(scan.intensity), time.perf_counter() - began_s, whole=True)


def track_so_far(about: Mapping[str, Any], scan: RockingScan) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What moved within the frames there are; nothing of it is kept."""
    hurry(now=False, nice=NICE)
    began_s = time.perf_counter()
    within, frames = _tracked(scan), len(scan.intensity)
    return within_parts(within, about, frames, time.perf_counter() - began_s, whole=False)


def _tracked(scan: RockingScan) -> TrackingResult | str:
    try:
        return track_scan(scan)
    except ScanError as error:
        return str(error)


def within_parts(
    within: TrackingResult | str | None, about: Mapping[str, Any], frames: int, seconds: float, *, whole: bool
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """As the page is told it. The angle of a frame that says nothing of it is NaN: its error bar is what was
    expected before anyone looked."""
    fields = {"of": "scan", "frames": frames, "num": about["num"], "seconds": seconds, "whole": whole}
    if not isinstance(within, TrackingResult):
        return {**fields, "why": within}, {}
    arrays, table = track_arrays(within)
    shown = {name: values.astype(np.float32) for name, (values, _) in arrays.items()}
    silent = ~(within.std_steps < _SAYS * within.jitter_steps)
    for name in ("found_steps", "std_steps"):
        shown[name] = np.where(silent, np.nan, shown[name])
    return {**fields, **table}, shown


def series_fields(storage: Path, series: str | None = None) -> dict[str, Any]:
    """The newest scans of a series, of that of the newest scan where none is named; empty where there is none."""
    found: list[Track] = []
    for path in sorted((storage / TRACKS).glob("*.h5"), reverse=True)[:_LOOKED_AT]:
        track = _known(path)
        if track is not None and series in (None, track.about["series"]):
            series = str(track.about["series"])
            found.append(track)
        if len(found) == KEPT:
            break
    if not found:
        return {}
    found.reverse()
    records = [track.record for track in found]
    followed = follow(records, [float(track.about["time_s"]) for track in found])
    named = [{key: track.about[key] for key in ("run", "name", "time_s")} for track in found]
    scans = [{**name, **row} for name, row in zip(named, joined(records, followed))]
    told = {"of": "series", "series": series, "scans": scans, "prediction": prediction_table(followed)}
    return dict(plain(told))


def _known(path: Path) -> Track | None:
    """A track that is there; None where there is none that can be read."""
    try:
        return _read(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        return None
    except (ScanError, OSError) as error:
        logging.getLogger("live").warning("a track is left out: %s", error)
        return None


@lru_cache(maxsize=2 * KEPT)
def _read(path: Path, _written: int) -> Track:
    return read_track(path)


def _owe(storage: Path, path: Path, about: Mapping[str, Any]) -> None:
    """Tickets for the scan and for its series as it is now: a series that was not sent yet is replaced."""
    box = storage / OWED
    box.mkdir(parents=True, exist_ok=True)
    tickets = Tickets(box, clean=False)
    told = series_fields(storage, str(about["series"]))
    mine = next((row for row in told["scans"] if row["run"] == about["run"]), None)
    table = {**about, "file": str(path), "motion": mine, "prediction": told["prediction"]}
    tickets.put(path.stem, dict(plain(table)))
    tickets.put(f"series_{series_key(str(about['series']))}", told)


def track_if_missing(start: Mapping[str, Any], scan: RockingScan, settings: OperandoConfig, storage: Path) -> None:
    """What live left undone where it was killed, of a scan that was read from its file. It fails nothing."""
    run = str(start.get("uid"))
    try:
        about = about_scan(start, settings)
        track = _known(track_file(storage, about))
        if track is None or track.within is None:
            claim = Claim(claim_file(storage, about))
            try:
                track_frames(about, scan, (0, 0), storage)
            finally:
                claim.release()
    except BlockingIOError:
        return  # live is at it
    except (ScanError, OSError, ArithmeticError, ValueError) as error:
        about_run("refine", run).warning("its motion is not tracked: %s", error)


def newest_series(storage: Path) -> dict[str, Any]:
    """`series_fields` of the newest scan, nothing where that fails: for a page that nobody has told."""
    with suppress(ScanError, OSError):
        return series_fields(storage)
    return {}


def ready() -> None:
    """Nothing: whoever has done it has loaded what the other jobs need."""
