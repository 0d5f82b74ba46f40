"""The jobs of the live consumer's tracking: how a scan moved from those before it, and what moved within it.

Each scan has a file in `tracks/`, from which the series is made whoever asks; what Tiled is owed of it is a
ticket. All is done from the frames of one scan, so that it can be done again, by refine, where live was killed.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from live_bcdi.config import OperandoConfig
from live_bcdi.log import about_run
from live_bcdi.metadata import plain
from live_bcdi.priority import hurry
from live_bcdi.stream.claim import Claim
from live_bcdi.stream.journal import runs_in
from live_bcdi.stream.run import run_plan
from live_bcdi.stream.state import series_of
from live_bcdi.tracking import follow, track_scan
from live_bcdi.tracking.following import JUDGED_WITH, ScanRecord, joined, prediction_table, recorded
from live_bcdi.transport.tracks import Track, read_track, series_key, track_arrays, track_series, write_track
from live_bcdi.types import RockingScan, ScanError, TrackingResult

from .tickets import Tickets

TRACKS, CLAIMS, OWED = "tracks", "claims", "outbox/tracking"
KEPT = 100  # newest scans of a series, besides its first
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
    """The scan's file where there is one: of a start without a time nobody knows the name. Names are in the order
    in which scans began."""
    folder, run = storage / TRACKS, str(about["run"])
    known = next(folder.glob(f"[0-9]*_{escape(run)}.h5"), None)
    return known or folder / f"{about['time_s']:017.6f}_{run}.h5"


def claim(storage: Path, run: str) -> Claim:
    """To be held by who works at a scan's motion. What was half written is of who was killed before, and goes.
    Raises OSError where somebody is at it."""
    folder = storage / TRACKS
    (folder / CLAIMS).mkdir(parents=True, exist_ok=True)
    held = Claim(folder / CLAIMS / f"{run}.jsonl")
    for half in folder.glob(f".*_{escape(run)}.*.partial.h5"):
        half.unlink(missing_ok=True)
    return held


def tidy(storage: Path) -> None:
    """Take away what those who were killed left: their claims, and files and tickets half written."""
    Tickets(storage / OWED)
    folder = storage / TRACKS
    half = {path.name.split("_", 1)[1].split(".", 1)[0] for path in folder.glob(".*_*.partial.h5")}
    for run in half | runs_in(folder / CLAIMS, ".lock"):
        with suppress(OSError):
            claim(storage, run).release()


def follow_scan(
    about: Mapping[str, Any], scan: RockingScan, corner: tuple[int, int], storage: Path
) -> dict[str, Any]:
    """Keep what a series needs of a scan that is whole, and say how the series is with it: fields of
    `tracking`."""
    hurry(now=True, nice=NICE)
    _keep_record(track_file(storage, about), about, scan, corner)
    return series_fields(storage, str(about["series"]))


def _keep_record(path: Path, about: Mapping[str, Any], scan: RockingScan, corner: tuple[int, int]) -> Track:
    track = _known(path)
    if track is None:
        track = Track(about=about, record=recorded(scan, corner))
        write_track(path, track)
    return track


def track_frames(
    about: Mapping[str, Any], scan: RockingScan, corner: tuple[int, int], storage: Path
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Keep what moved within a scan that is whole, owe it to Tiled, and say it: fields and arrays of
    `tracking`."""
    hurry(now=len(scan.intensity) <= QUICK_FRAMES, nice=NICE)
    began_s = time.perf_counter()
    within = _keep_frames(about, scan, corner, storage)
    return within_parts(within, about, len(scan.intensity), time.perf_counter() - began_s, whole=True)


def _keep_frames(
    about: Mapping[str, Any], scan: RockingScan, corner: tuple[int, int], storage: Path
) -> TrackingResult | str:
    """The tickets come before the file: who is killed in between does it again, as the file does not say it."""
    path = track_file(storage, about)
    track = _keep_record(path, about, scan, corner)
    within = _tracked(scan, corner) if track.within is None else track.within
    _owe(storage, path, track.about)
    if track.within is None:
        write_track(path, replace(track, within=within))
    return within


def track_so_far(
    about: Mapping[str, Any], scan: RockingScan, corner: tuple[int, int]
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What moved within the frames there are; nothing of it is kept."""
    hurry(now=False, nice=NICE)
    began_s = time.perf_counter()
    within, frames = _tracked(scan, corner), len(scan.intensity)
    return within_parts(within, about, frames, time.perf_counter() - began_s, whole=False)


def _tracked(scan: RockingScan, corner: tuple[int, int]) -> TrackingResult | str:
    """Rows and columns are those of the detector, of which `scan` has the part that begins at `corner`."""
    try:
        within = track_scan(scan)
    except ScanError as error:
        return str(error)
    return replace(within, row=within.row + corner[0], column=within.column + corner[1])


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
    """The first dozen and the newest scans of a series, of that of the newest scan where none is named, with what
    moved from the very first; empty where there is none."""
    paths = sorted((storage / TRACKS).glob("[0-9]*.h5"))
    newest: list[Track] = []
    before = len(paths)
    while before > max(len(paths) - _LOOKED_AT, 0) and len(newest) < KEPT + JUDGED_WITH:
        before -= 1
        track = _known(paths[before])
        if track is not None and series in (None, track.about["series"]):
            series = str(track.about["series"])
            newest.insert(0, track)
    if not newest:
        return {}
    first = _first(paths[:before], str(series))
    found = [*first, *newest]
    records = [track.record for track in found]
    followed = follow(records, [float(track.about["time_s"]) for track in found])
    named = [{key: track.about[key] for key in ("run", "name", "time_s")} for track in found]
    rows = [{**name, **row} for name, row in zip(named, joined(records, followed))]
    # those before the newest are there for these to be judged by
    scans = rows[: len(first)] + rows[len(first) :][-KEPT:]
    told = {"of": "series", "series": series, "scans": scans, "prediction": prediction_table(followed)}
    return dict(plain(told))


def _first(paths: Sequence[Path], series: str) -> list[Track]:
    """As many as a series begins with for it to be known what is usual, of those with a peak."""
    found: list[Track] = []
    for path in paths:
        with suppress(ScanError, OSError):
            track = _known(path) if _series(path) == series else None
            if track is not None and isinstance(track.record, ScanRecord):
                found.append(track)
        if len(found) == JUDGED_WITH:
            break
    return found


@lru_cache(maxsize=100_000)
def _series(path: Path) -> str:
    return track_series(path)


def _known(path: Path) -> Track | None:
    """A track that is there; None where there is none that can be read."""
    try:
        return _read(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        return None
    except (ScanError, OSError) as error:
        logging.getLogger("live").warning("a track is left out: %s", error)
        return None


@lru_cache(maxsize=2 * _LOOKED_AT)
def _read(path: Path, _written: int) -> Track:
    return read_track(path)


def _owe(storage: Path, path: Path, about: Mapping[str, Any]) -> None:
    """Tickets for the scan and for its series as it is now: what was not sent yet of a series before is not."""
    box = storage / OWED
    box.mkdir(parents=True, exist_ok=True)
    tickets = Tickets(box, clean=False)
    name = f"series_{series_key(str(about['series']))}"
    before = [each for each in tickets.names() if each.startswith(name)]
    told = series_fields(storage, str(about["series"]))
    mine = next((row for row in told.get("scans", ()) if row["run"] == about["run"]), None)
    table = {**about, "file": str(path), "motion": mine, "prediction": told.get("prediction")}
    tickets.put(path.stem, dict(plain(table)))
    if told:
        tickets.put(f"{name}_{time.time_ns()}", told)
        for each in before:
            tickets.drop(each)


def track_if_missing(start: Mapping[str, Any], scan: RockingScan, settings: OperandoConfig, storage: Path) -> None:
    """What live left undone where it was killed, of a scan that was read from its file. It fails nothing."""
    run = str(start.get("uid"))
    try:
        about = about_scan(start, settings)
        track = _known(track_file(storage, about))
        if track is None or track.within is None:
            held = claim(storage, run)
            try:
                _keep_frames(about, scan, (0, 0), storage)
            finally:
                held.release()
    except BlockingIOError:
        return  # live is at it
    except Exception as error:  # noqa: BLE001  the result is on disk, and is not to be refused for this
        about_run("refine", run).warning("its motion is not tracked: %s", str(error) or type(error).__name__)


def newest_series(storage: Path) -> dict[str, Any]:
    """`series_fields` of the newest scan, nothing where that fails: for a page that nobody has told."""
    with suppress(ScanError, OSError):
        return series_fields(storage)
    return {}


def ready() -> None:
    """Nothing: whoever has done it has loaded what the other jobs need."""
