"""What the live consumer does about motion: how each scan moved once all its frames are there, and, as far as that
is cheap, what moved within the frames so far. In processes of their own: nothing waits for it.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import BrokenExecutor, Future
from contextlib import suppress
from typing import Any

from live_bcdi.jobs import JobPool
from live_bcdi.log import about_run
from live_bcdi.stream.claim import Claim
from live_bcdi.stream.updates import Update
from live_bcdi.types import RockingScan, ScanError

from .pacing import Pace
from .service import Service
from .tracking import (
    EDGE,
    NICE,
    TRACKS,
    about_scan,
    claim,
    follow_scan,
    newest_series,
    ready,
    tidy,
    track_frames,
    track_so_far,
)
from .watched import Watched

FIRST_FRAMES = 24  # of a scan; with fewer a frame's angle is anybody's guess
GROWN = 1.25  # the frames since the last look
MOST_FRAMES = 128  # the cost goes with the cube of their number: of longer scans at the end only
LOOK_S, TELL_S = 2.0, 30.0
LATER_BYTES = 1 << 28  # of frames that wait for it; those of one scan may be more
MAX_LOST = 2  # processes, by one scan; refine tracks it later


class Follower:
    """`look` at every run in turn, `collect` what came of it. Of two processes one at most looks at angles, which
    takes long, so that a scan's place in its series is known at once. A scan is claimed while it is worked at, or
    waits for it: of one that is not any more refine takes care."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._on = service.config.live.track
        self._storage = service.directory
        tidy(self._storage)
        self._pool = JobPool(workers=2, threads=1, nice=NICE, hurrying=True)
        self._jobs: list[tuple[str, Watched | None, float, Future[Any]]] = []
        self._later: list[tuple[Watched, tuple[dict[str, Any], RockingScan, tuple[int, int]]]] = []
        self._runs: list[Watched] = []
        self._claims: dict[str, Claim] = {}
        self._about: dict[str, dict[str, Any]] = {}
        self._pace = Pace()
        self._series: dict[str, Any] = {}
        self._written_ns, self._next_look_s, self._next_tell_s = 0, 0.0, 0.0
        self._warm = False

    def begin(self, start: Mapping[str, Any]) -> None:
        """A run begins; its process is to be there before its end."""
        if not self._on:
            return
        about = about_scan(start, self._service.config.operando)
        self._about = {**dict(list(self._about.items())[-9:]), about["run"]: about}
        if not self._warm:
            self._ask_for_series()

    def _ask_for_series(self) -> None:
        self._warm = True
        self._submit("series", None, newest_series, self._storage)

    def look(self, runs: Iterable[Watched]) -> None:
        """Begin what is due."""
        if not self._on:
            return
        now_s, self._runs = time.monotonic(), list(runs)
        for watched in self._runs:
            about = self._about.get(watched.live.plan.run)
            if about is not None:
                self._look(watched, about, now_s)
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
            scan = self._scan(watched)
            if scan is not None:
                self._submit("so far", watched, track_so_far, about, *scan)
                self._pool.submit(ready)  # the other process, which the end of the scan may need

    def _begin_whole(self, watched: Watched, about: dict[str, Any]) -> None:
        scan, run = self._scan(watched), watched.live.plan.run
        if scan is None:
            return
        if run not in self._claims:
            with suppress(OSError):  # without one refine may do it as well
                self._claims[run] = claim(self._storage, run)
        self._submit("series", watched, follow_scan, about, *scan, self._storage)

    def _keep_for_later(self, watched: Watched) -> None:
        """Its angles are next; of too many scans refine gets the oldest."""
        scan, about = self._scan(watched), self._about.get(watched.live.plan.run)
        if scan is not None and about is not None:
            self._later.append((watched, (about, *scan)))
        while len(self._later) > 1 and sum(part.intensity.nbytes for _, (_, part, _) in self._later) > LATER_BYTES:
            del self._later[0]

    def _begin_later(self) -> None:
        if self._later and all(what == "series" for what, *_ in self._jobs):
            watched, arguments = self._later.pop()
            self._submit("frames", watched, track_frames, *arguments, self._storage)

    def _release_what_is_over(self) -> None:
        """Nobody is at it, and nothing of it waits: a run that is not watched any more is not begun again."""
        at_work = [watched for _, watched, *_ in self._jobs] + [watched for watched, _ in self._later]
        at_work += [watched for watched in self._runs if not watched.followed]
        names = {watched.live.plan.run for watched in at_work if watched is not None}
        for run in self._claims.keys() - names:
            self._claims.pop(run).release()

    def _scan(self, watched: Watched) -> Any:
        try:
            return watched.live.around_peak(EDGE)
        except ScanError:
            return None  # the window moved to where no frame is known

    def _submit(self, what: str, watched: Watched | None, job: Callable[..., Any], *arguments: Any) -> None:
        future = self._pool.submit(job, *arguments)
        self._jobs.append((what, watched, time.monotonic(), future))

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
        return any(what == "series" for what, *_ in self._jobs)

    def collect(self) -> None:
        """Tell what was found."""
        done = [job for job in self._jobs if job[3].done()]
        self._jobs = [job for job in self._jobs if not job[3].done()]
        for what, watched, began_s, future in done:
            self._take(what, watched, began_s, future)
        self._begin_later()
        self._release_what_is_over()
        if self._series and time.monotonic() >= self._next_tell_s:
            self._tell_series()

    def _take(self, what: str, watched: Watched | None, began_s: float, future: Future[Any]) -> None:
        now_s, error = time.monotonic(), future.exception()
        run = "" if watched is None else watched.live.plan.run
        if what == "so far":
            self._pace.took(began_s, now_s, now_s - began_s)
        if error is not None:
            self._failed(what, watched, error)
        elif what == "series":
            self._series = future.result()
            if self._series:
                self._tell_series()
        else:
            fields, arrays = future.result()
            self._service.updates.send(Update(topic="tracking", run=run, fields=fields, arrays=arrays))
        if watched is not None and error is None:
            self._say(what, watched, now_s)
        if watched is not None and watched.followed and what == "series":
            self._keep_for_later(watched)

    def _failed(self, what: str, watched: Watched | None, error: BaseException) -> None:
        """Once more in a new process where the last was killed; of whole scans refine has another try."""
        run = "" if watched is None else watched.live.plan.run
        about_run(self._service.name, run).warning("its motion (%s) is not known: %s", what, error)
        if watched is not None and isinstance(error, BrokenExecutor) and watched.trackers_lost < MAX_LOST:
            watched.trackers_lost += 1
            watched.followed = False

    def _say(self, what: str, watched: Watched, now_s: float) -> None:
        newest_s = watched.live.newest_s
        if what != "so far" and newest_s is not None:
            fields = {"last_frame_to_motion_s": now_s - newest_s, "motion": what}
            text = "its motion (%s) is known %.2f s after its last frame"
            log = about_run(self._service.name, watched.live.plan.run)
            log.info(text, what, now_s - newest_s, extra={"fields": fields})

    def _tell_series(self) -> None:
        self._next_tell_s = time.monotonic() + TELL_S
        newest = str(self._series["scans"][-1]["run"])
        self._service.updates.send(Update(topic="tracking", run=newest, fields=self._series))

    def stop(self) -> None:
        """What was not finished refine does."""
        self._pool.shutdown()
        for held in self._claims.values():
            held.release()
