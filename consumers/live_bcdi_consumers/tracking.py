"""The jobs of the live consumer's tracking: how a scan moved from those before it, and what moved within it.

Each scan has a file in `tracks/`, from which the series is made whoever asks; what Tiled is owed of it is a
ticket. All is done from the frames of one scan, so that it can be done again, by refine, where live was killed.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from live_bcdi.config import Config, OperandoConfig, Preprocessing
from live_bcdi.metadata import plain
from live_bcdi.priority import hurry
from live_bcdi.stream.claim import Claim
from live_bcdi.stream.journal import runs_in
from live_bcdi.stream.live import LiveRun
from live_bcdi.stream.run import run_plan
from live_bcdi.stream.state import series_of
from live_bcdi.tracking import follow, record_scan, track_scan
from live_bcdi.tracking.following import (
    JUDGED_WITH,
    ScanRecord,
    beside,
    first_seen,
    is_pulled_at,
    joined,
    prediction_table,
)
from live_bcdi.tracking.scan import Found, look_at
from live_bcdi.transport.hdf5 import FrameFile
from live_bcdi.transport.images import as_counted
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


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Measured:
    """A scan to be worked at elsewhere: what it is (`about_scan`), its frames about the peak, whose first pixel is
    `corner`, and what is to be corrected in them."""

    about: Mapping[str, Any]
    scan: RockingScan
    corner: tuple[int, int]
    settings: Preprocessing


def follow_scan(measured: Measured, storage: Path) -> dict[str, Any]:
    """Keep what a series needs of a scan that is whole, and say how the series is with it: fields of
    `tracking`."""
    hurry(now=True, nice=NICE)
    _keep_record(measured, storage)
    return series_fields(storage, str(measured.about["series"]))


def _keep_record(measured: Measured, storage: Path) -> None:
    path = track_file(storage, measured.about)
    if _known(path) is None:
        write_track(path, Track(about=measured.about, record=_record(measured, path)))


def _record(measured: Measured, path: Path) -> ScanRecord | str:
    try:
        scan = as_counted(measured.scan, measured.settings, measured.corner)
        own = record_scan(scan, measured.corner, measured.settings)
    except ScanError as error:
        return str(error)
    before = [each for each in sorted(path.parent.glob("[0-9]*.h5")) if each < path]
    first = _reference(before, str(measured.about["series"]), own)
    return own if first is None else beside(first, own)


def _reference(paths: Sequence[Path], series: str, own: ScanRecord) -> ScanRecord | None:
    """The first of a series with its surroundings, where `own` is to be compared with it."""
    begun = _first(paths, series)
    at = first_seen([track.record for _, track in begun])
    if at is None:
        return None
    path, track = begun[at]
    if not isinstance(track.record, ScanRecord) or not is_pulled_at(track.record, own):
        return None
    with suppress(ScanError, OSError):
        record = read_track(path, around=True).record
        return record if isinstance(record, ScanRecord) else None
    return None


Parts = tuple[dict[str, Any], dict[str, NDArray[Any]]]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Undecided:
    """What was found of the angles of a scan, and in how many seconds."""

    found: Found
    about: Mapping[str, Any]
    corner: tuple[int, int]
    seconds: float


def find_frames(measured: Measured) -> tuple[Undecided | str, Parts]:
    """What moved within a scan that is whole, or why nobody knows, to be told at once: fields and arrays of
    `tracking`. Whether it is to be corrected takes more time (`decide_frames`)."""
    hurry(now=len(measured.scan.intensity) <= QUICK_FRAMES, nice=NICE)
    began_s, frames = time.perf_counter(), len(measured.scan.intensity)
    try:
        found = look_at(as_counted(measured.scan, measured.settings, measured.corner))
    except ScanError as error:
        seconds = time.perf_counter() - began_s
        return str(error), within_parts(str(error), measured.about, frames, seconds, whole=True)
    told, seconds = _on_detector(found.undecided(), measured.corner), time.perf_counter() - began_s
    seen = Undecided(found=found, about=measured.about, corner=measured.corner, seconds=seconds)
    return seen, within_parts(told, measured.about, frames, seconds, whole=True)


def decide_frames(seen: Undecided) -> tuple[TrackingResult, Parts]:
    """The same, decided, to be kept (`keep_frames`) and to be told."""
    began_s = time.perf_counter()
    within = _on_detector(seen.found.decided(0), seen.corner)
    seconds = seen.seconds + time.perf_counter() - began_s
    return within, within_parts(within, seen.about, len(within.angles_deg), seconds, whole=True)


def track_so_far(measured: Measured) -> Parts:
    """What moved within the frames there are; nothing of it is kept."""
    hurry(now=False, nice=NICE)
    began_s = time.perf_counter()
    within, frames = _tracked(measured), len(measured.scan.intensity)
    return within_parts(within, measured.about, frames, time.perf_counter() - began_s, whole=False)


def _tracked(measured: Measured) -> TrackingResult | str:
    try:
        within = track_scan(as_counted(measured.scan, measured.settings, measured.corner))
    except ScanError as error:
        return str(error)
    return _on_detector(within, measured.corner)


def _on_detector(within: TrackingResult, corner: tuple[int, int]) -> TrackingResult:
    """Rows and columns are those of the detector."""
    return replace(within, row=within.row + corner[0], column=within.column + corner[1])


def keep_frames(about: Mapping[str, Any], within: TrackingResult | str, storage: Path) -> None:
    """Keep what moved within a scan that was followed, and owe it to Tiled. The tickets come before the file: who
    is killed in between does it again, as the file does not say it. Raises ScanError where nobody followed it."""
    path = track_file(storage, about)
    track = read_track(path, around=True)
    _owe(storage, path, track.about)
    if track.within is None:
        write_track(path, replace(track, within=within))


def within_parts(
    within: TrackingResult | str | None, about: Mapping[str, Any], frames: int, seconds: float, *, whole: bool
) -> Parts:
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
    first = [track for _, track in _first(paths[:before], str(series))]
    found = [*first, *newest]
    records = [track.record for track in found]
    followed = follow(records, [float(track.about["time_s"]) for track in found])
    named = [{key: track.about[key] for key in ("run", "name", "time_s")} for track in found]
    rows = [{**name, **row} for name, row in zip(named, joined(records, followed))]
    # those before the newest are there for these to be judged by
    scans = rows[: len(first)] + rows[len(first) :][-KEPT:]
    told = {"of": "series", "series": series, "scans": scans, "prediction": prediction_table(followed)}
    return dict(plain(told))


def _first(paths: Sequence[Path], series: str) -> list[tuple[Path, Track]]:
    """As many as a series begins with for it to be known what is usual, of those with a peak."""
    found: list[tuple[Path, Track]] = []
    for path in paths:
        with suppress(ScanError, OSError):
            track = _known(path) if _series(path) == series else None
            if track is not None and isinstance(track.record, ScanRecord):
                found.append((path, track))
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


def is_tracked(start: Mapping[str, Any], settings: OperandoConfig, storage: Path) -> bool:
    """Whether all is known, and owed to Tiled, of the motion of a run. Raises ScanError for a start document that
    is none."""
    track = _known(track_file(storage, about_scan(start, settings)))
    return track is not None and track.within is not None


def is_claimed(storage: Path, run: str) -> bool:
    """Whether somebody is at it."""
    try:
        claim(storage, run).release()
    except OSError:
        return True
    return False


def track_run(start: Mapping[str, Any], file: str, config: Config) -> None:
    """Do what live left undone where it was killed, from the run's file of frames: the same frames about the peak,
    and as little memory. Raises BlockingIOError where somebody is at it, ScanError where the file cannot be
    read."""
    storage, about = config.storage.directory, about_scan(start, config.operando)
    held = claim(storage, str(about["run"]))
    try:
        if is_tracked(start, config.operando, storage):
            return
        live = LiveRun(run_plan(start), time.monotonic, limit_bytes=int(config.live.memory_mb * 1e6), least=EDGE)
        with FrameFile(file) as store:
            live.finish(store)
        scan, corner = live.around_peak(EDGE)
        measured = Measured(about=about, scan=scan, corner=corner, settings=config.preprocess)
        _keep_record(measured, storage)
        keep_frames(about, _tracked(measured), storage)
    finally:
        held.release()


def newest_series(storage: Path) -> dict[str, Any]:
    """`series_fields` of the newest scan, nothing where that fails: for a page that nobody has told."""
    with suppress(ScanError, OSError):
        return series_fields(storage)
    return {}


def ready() -> None:
    """Nothing: whoever has done it has loaded what the other jobs need."""
