"""What the live consumer does about motion: how each scan moved once all its frames are there, and, as far as that
is cheap, what moved within the frames so far. In processes of their own: nothing waits for it.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import BrokenExecutor, Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from live_bcdi.jobs import JobPool
from live_bcdi.log import about_run
from live_bcdi.stream.claim import Claim
from live_bcdi.stream.updates import Update
from live_bcdi.types import ScanError, TrackingResult

from .pacing import Pace
from .service import Service
from .tracking import (
    EDGE,
    NICE,
    TRACKS,
    Measured,
    Undecided,
    about_scan,
    claim,
    decide_frames,
    find_frames,
    follow_scan,
    keep_frames,
    newest_series,
    ready,
    tidy,
    track_so_far,
)
from .watched import Watched

FIRST_FRAMES = 24  # of a scan; with fewer a frame's angle is anybody's guess
GROWN = 1.25  # the frames since the last look
MOST_FRAMES = 128  # the cost goes with the cube of their number: of longer scans at the end only
LOOK_S, TELL_S = 2.0, 30.0
LATER_BYTES = 1 << 28  # of frames that wait for it; those of one scan may be more
LATER_SHARE = 4  # of [live] memory_mb, at most a quarter
MAX_LOST = 2  # processes, by one scan; refine tracks it later


@dataclass(slots=True, eq=False)
class _Whole:
    """A scan all of whose frames are there, until what moved is told and kept; `ours` to keep where nobody else is
    at it. `followed` is whether its place in the series is kept, `lost` how many processes it cost."""

    measured: Measured
    newest_s: float | None
    ours: bool
    followed: bool = False
    within: TrackingResult | str | None = None
    lost: int = 0

    @property
    def bytes(self) -> int:
        return self.measured.scan.intensity.nbytes


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    what: str  # series, frames, decided, keep, so far
    run: str
    began_s: float
    future: Future[Any]


class Follower:
    """`look` at every run in turn, `collect` what came of it. Of two processes one at most looks at angles, which
    takes long, so that a scan's place in its series is known at once. A scan is claimed until what was found is
    kept: of one that is not any more refine takes care."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._on = service.config.live.track
        self._storage = service.directory
        tidy(self._storage)
        self._pool = JobPool(workers=2, threads=1, nice=NICE, hurrying=True)
        self._jobs: list[_Job] = []
        self._whole: dict[str, _Whole] = {}
        self._later: list[str] = []
        self._begun: deque[str] = deque(maxlen=20)
        self._claims: dict[str, Claim] = {}
        self._about: dict[str, dict[str, Any]] = {}
        self._pace = Pace()
        self._series: dict[str, Any] = {}
        self._written_ns, self._next_look_s, self._next_tell_s = 0, 0.0, 0.0
        self._warm = False

    def begin(self, start: Mapping[str, Any]) -> None:
        """A run begins; its processes are to be there before its end."""
        if not self._on:
            return
        about = about_scan(start, self._service.config.operando)
        self._about = {**dict(list(self._about.items())[-9:]), about["run"]: about}
        if not self._warm:
            self._warm = True
            self._ask_for_series()
            self._pool.submit(ready)  # the other process

    def _ask_for_series(self) -> None:
        self._submit("series", "", newest_series, self._storage)

    def look(self, runs: Iterable[Watched]) -> None:
        """Begin what is due."""
        if not self._on:
            return
        now_s = time.monotonic()
        for watched in runs:
            about = self._about.get(watched.live.plan.run)
            if about is not None:
                self._look(watched, about, now_s)
        self._begin_later()
        self._look_at_folder(now_s)

    def _look(self, watched: Watched, about: dict[str, Any], now_s: float) -> None:
        count, num = watched.live.assembler.count, watched.live.plan.num
        if watched.done or count == num:
            if count and not watched.followed:
                watched.followed = True
                self._begin_whole(watched, about)
            return
        due = max(FIRST_FRAMES, GROWN * watched.tracked_count) <= count <= MOST_FRAMES
        if due and not self._jobs and self._pace.allows(now_s, watched.live.last_in_s()):
            watched.tracked_count = count
            measured = self._measured(watched, about)
            if measured is not None:
                self._submit("so far", watched.live.plan.run, track_so_far, measured)

    def _begin_whole(self, watched: Watched, about: dict[str, Any]) -> None:
        """Its place in the series at once, its angles as soon as there is a process for them; of too many scans
        refine gets the oldest."""
        measured, run = self._measured(watched, about), watched.live.plan.run
        if measured is None:
            return
        with suppress(OSError):  # somebody else is at it, and keeps it
            self._claims[run] = claim(self._storage, run)
        whole = _Whole(
            measured=measured,
            newest_s=watched.live.newest_s,
            ours=run in self._claims,
        )
        self._whole[run] = whole
        self._begun.append(run)
        if whole.ours:
            self._submit("series", run, follow_scan, measured, self._storage)
        self._later.append(run)
        most = min(LATER_BYTES, self._service.config.live.memory_mb * 1e6 / LATER_SHARE)
        while len(self._later) > 1 and sum(self._whole[each].bytes for each in self._later) > most:
            self._give_up(self._later[0])

    def _begin_later(self) -> None:
        """Beside a look at fewer frames, which may take as long, once the other process is free."""
        busy = {job.what for job in self._jobs}
        if self._later and not {"frames", "decided"} & busy and not {"series", "so far"} <= busy:
            run = self._later.pop()
            self._submit("frames", run, find_frames, self._whole[run].measured)

    def _keep(self, run: str, whole: _Whole) -> None:
        self._submit("keep", run, keep_frames, whole.measured.about, whole.within, self._storage)

    def _give_up(self, run: str) -> None:
        """Refine has another try."""
        self._whole.pop(run, None)
        self._later = [each for each in self._later if each != run]

    def _release_what_is_over(self) -> None:
        names = {job.run for job in self._jobs} | self._whole.keys()
        for run in self._claims.keys() - names:
            self._claims.pop(run).release()

    @property
    def held_bytes(self) -> int:
        """What scans take that wait here, or are worked at."""
        return sum(whole.bytes for whole in self._whole.values())

    def _measured(self, watched: Watched, about: Mapping[str, Any]) -> Measured | None:
        try:
            scan, corner = watched.live.around_peak(EDGE)
        except ScanError:
            return None  # the window moved to where no frame is known
        return Measured(about=about, scan=scan, corner=corner, settings=self._service.config.preprocess)

    def _submit(self, what: str, run: str, job: Callable[..., Any], *arguments: Any) -> None:
        future = self._pool.submit(job, *arguments)
        self._jobs.append(_Job(what=what, run=run, began_s=time.monotonic(), future=future))

    def _look_at_folder(self, now_s: float) -> None:
        """Ask for the series where refine has tracked a scan that we did not, or at first where there is one."""
        if now_s < self._next_look_s or self._jobs:
            return
        self._next_look_s = now_s + LOOK_S
        with suppress(OSError):
            tracks = self._service.folder(TRACKS)  # made again where somebody tidied it away
            written_ns = tracks.stat().st_mtime_ns
            if written_ns != self._written_ns and any(tracks.glob("[0-9]*.h5")):
                self._ask_for_series()
            self._written_ns = written_ns

    @property
    def is_awaited(self) -> bool:
        """Whether a scan's motion is to be told of soon."""
        return any(job.what in ("series", "frames", "decided") for job in self._jobs)

    def collect(self) -> None:
        """Tell what was found."""
        done = [job for job in self._jobs if job.future.done()]
        self._jobs = [job for job in self._jobs if not job.future.done()]
        for job in done:
            self._take(job)
        self._begin_later()
        self._release_what_is_over()
        if self._series and time.monotonic() >= self._next_tell_s:
            self._tell_series()

    def _take(self, job: _Job) -> None:
        now_s, error = time.monotonic(), job.future.exception()
        whole = self._whole.get(job.run)
        if job.what == "so far":
            self._pace.took(job.began_s, now_s, now_s - job.began_s)
        if error is not None:
            self._failed(job, whole, error)
            return
        if job.what == "series":
            self._series = job.future.result()
            if self._series:
                self._tell_series()
        elif job.what in ("frames", "decided"):
            self._take_frames(job, whole)
        elif job.what == "so far" and job.run not in self._begun:  # else it is old, and may come after the whole
            self._tell_frames(job.run, *job.future.result())
        if whole is not None:
            self._go_on(job, whole, now_s)

    def _take_frames(self, job: _Job, whole: _Whole | None) -> None:
        """The angles are told at once, and again when it is decided whether they are to be corrected."""
        found, told = job.future.result()
        self._tell_frames(job.run, *told)
        if isinstance(found, Undecided):
            if whole is not None:
                self._submit("decided", job.run, decide_frames, found)
        elif whole is not None:
            whole.within = found

    def _go_on(self, job: _Job, whole: _Whole, now_s: float) -> None:
        """What was found is kept once both are known, its place in the series before its angles."""
        whole.followed |= job.what == "series"
        if job.what in ("series", "frames"):
            self._say(job, whole, now_s)
        if job.what == "keep" or (whole.within is not None and not whole.ours):
            self._give_up(job.run)
        elif whole.followed and whole.within is not None:
            self._keep(job.run, whole)

    def _failed(self, job: _Job, whole: _Whole | None, error: BaseException) -> None:
        """Once more in a new process where the last was killed; of whole scans refine has another try."""
        log = about_run(self._service.name, job.run)
        log.warning("its motion (%s) is not known: %s", job.what, error)
        if whole is None or job.what == "so far":
            return
        whole.lost += 1
        if not isinstance(error, BrokenExecutor) or whole.lost > MAX_LOST:
            self._give_up(job.run)
        elif job.what in ("frames", "decided"):
            self._later.append(job.run)
        elif job.what == "series":
            self._submit("series", job.run, follow_scan, whole.measured, self._storage)
        else:
            self._keep(job.run, whole)

    def _say(self, job: _Job, whole: _Whole, now_s: float) -> None:
        if whole.newest_s is not None:
            delay_s = now_s - whole.newest_s
            fields = {"last_frame_to_motion_s": delay_s, "motion": job.what}
            text = "its motion (%s) is known %.2f s after its last frame"
            about_run(self._service.name, job.run).info(text, job.what, delay_s, extra={"fields": fields})

    def _tell_frames(self, run: str, fields: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
        self._service.updates.send(Update(topic="tracking", run=run, fields=fields, arrays=arrays))

    def _tell_series(self) -> None:
        self._next_tell_s = time.monotonic() + TELL_S
        newest = str(self._series["scans"][-1]["run"])
        self._service.updates.send(Update(topic="tracking", run=newest, fields=self._series))

    def stop(self) -> None:
        """What was not finished refine does."""
        self._pool.shutdown()
        for held in self._claims.values():
            held.release()
