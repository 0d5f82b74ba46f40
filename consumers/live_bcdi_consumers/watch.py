"""The runs that are being measured: several at once, each to its own stop, and from the middle where it began
without us.

Documents and frames may come twice, late, out of order or not at all. What the stream lost is read from the
detector's file, a few frames at a time, so that those that come need not wait.
"""

import heapq
import math
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from live_bcdi.advice import advise_scan
from live_bcdi.estimate import LiveEstimate
from live_bcdi.jobs import JobPool
from live_bcdi.log import about_run
from live_bcdi.stream import journal, pixels
from live_bcdi.stream.live import LiveRun
from live_bcdi.stream.run import is_rocking_run, run_plan
from live_bcdi.stream.updates import Update
from live_bcdi.transport.hdf5 import FrameFile
from live_bcdi.types import Frame, ScanError

from .between import Between
from .estimating import NICE, OPEN_RUNS, estimate_run, keep_preview, prepare, say_if_lost
from .files import frame_file_of, recorded_file, written_s
from .following import Follower
from .pacing import Pace
from .service import Service
from .views import advice_update, estimate_update
from .watched import Watched

EARLY_FRAMES, EARLY_BYTES = 256, 1 << 28  # that overtook their start document, which follows within milliseconds
UNKNOWN_S = 0.5  # frames that wait longer are of a run that began without us
SILENT_S = 60.0  # a run without frames for so long is put aside when another starts; its next frame brings it back
RECORDED_S = 2.0  # the recorder may need a moment to finish its file
SLICE_S = 0.02  # of a turn for reading the file
NEWEST = 2 * OPEN_RUNS  # journals among which that of a run under way is; thousands may wait for Tiled
OVER = 1000  # runs whose late frames are known to be late
ADVISE_S = 1.0
MAX_WORKERS_LOST = 3  # by the estimates of one run: the next would be lost too


class Watch:
    """Takes documents and frames; `work` and `tell` are to be called in turn with them."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.estimator = JobPool(workers=1, threads=1, nice=NICE, hurrying=True)  # while it loads
        settings = service.config.live
        self._prepared: Future[str] | None = self.estimator.submit(
            prepare, network=settings.network, weights=settings.weights
        )
        self.between = Between(service)
        self.follower = Follower(service)
        pixels.warm_up()
        self._open: dict[str, Watched] = {}
        self._over: deque[str] = deque(maxlen=OVER)
        self._early: deque[tuple[float, Frame]] = deque()
        self._looked_s: dict[str, float] = {}
        self._pace = Pace()
        self._future: tuple[Watched, float, float, Future[LiveEstimate]] | None = None
        self._uids: dict[str, str] = {}
        self._next_tell_s = 0.0
        self.detail = ""

    def document(self, name: str, doc: dict[str, Any]) -> None:
        """Take a document; of a run that is not known, the journal is asked for those before it."""
        run = journal.run_of(name, doc, self._uids)
        if run is None:
            self._seek(str(doc.get("descriptor")))
        elif name != "start" and run not in self._open and run not in self._over:
            self._pick_up(run)
        if run is not None:
            self._learn(run, name, doc)

    def _learn(self, run: str, name: str, doc: dict[str, Any]) -> None:
        if name == "start" and run not in self._open and run not in self._over:
            self._start(run, doc)
        watched = self._open.get(run)
        if watched is None:
            return
        if name == "stream_resource" and (path := frame_file_of(doc)):
            watched.path = watched.path or path
        elif name == "stop" and not watched.done:
            watched.stop, watched.stop_s = doc, time.monotonic()
            watched.close()  # opened anew, as the detector left it

    def _start(self, run: str, doc: dict[str, Any]) -> None:
        settings = self._service.config.live
        try:
            if not is_rocking_run(doc):
                self._over.append(run)
                return
            plan = run_plan(doc)
            live = LiveRun(plan, time.monotonic, limit_bytes=self._limit_bytes(1), least=2 * settings.edge_voxels)
        except ScanError as error:
            self._over.append(run)
            self._service.notice("error", str(error), run=run)
            return
        self.between.stop()
        self._make_room()
        recorded = self._service.config.stream.recorded
        path = str(recorded_file(self._service.folder("frames"), doc)) if recorded else None
        self._open[run] = Watched(live=live, path=path, active_s=time.monotonic())
        self.follower.begin(doc)
        for watched in self._open.values():
            watched.live.limit(self._limit_bytes(len(self._open)))
        fields = {"state": "started", "name": plan.name, "sample": plan.scan.get("sample"), "num": plan.num}
        span = {"hkl": plan.scan.get("hkl"), "start_deg": plan.start_deg, "stop_deg": plan.stop_deg}
        self._service.updates.send(Update(topic="run", run=run, fields={**fields, **span}))
        early = [frame for _, frame in self._early if frame.run == run]
        self._early = deque((came_s, frame) for came_s, frame in self._early if frame.run != run)
        for frame in early:
            self.frame(frame)

    def _limit_bytes(self, runs: int) -> int:
        most = self._service.config.live.memory_mb * 1e6
        return int(max(most - self.follower.held_bytes, most / 2) / runs)

    def _make_room(self) -> None:
        """Put aside runs that are told to the end, those long silent, and the oldest of too many."""
        now_s = time.monotonic()
        for run, watched in list(self._open.items()):
            silent = now_s - max(watched.active_s, watched.live.newest_s or 0.0) > SILENT_S
            if watched.done or (silent and watched.stop is None):
                self._put_aside(run)
        while len(self._open) >= OPEN_RUNS:
            run = next(iter(self._open))
            self._service.notice("warning", f"{OPEN_RUNS} runs are watched at once; this one no longer", run)
            self._put_aside(run)
            self._over.append(run)

    def _put_aside(self, run: str) -> None:
        watched = self._open.pop(run)
        watched.close()
        if watched.done:
            self._over.append(run)

    def _seek(self, descriptor: str) -> None:
        """Pick up the run of an event whose descriptor is not known."""
        if time.monotonic() < self._looked_s.get("", 0.0):
            return
        self._looked_s[""] = time.monotonic() + 1.0
        journals = self._service.folder("documents").glob("*.jsonl")
        for path in heapq.nlargest(NEWEST, journals, key=written_s):
            known = path.stem in self._open or path.stem in self._over
            with suppress(FileNotFoundError):  # the archiver moves them
                if not known and descriptor in journal.known_runs(path):
                    self._pick_up(path.stem)

    def _pick_up(self, run: str) -> None:
        """Learn of a run what the archiver has of it, if it has; asked for once a second."""
        if time.monotonic() < self._looked_s.get(run, 0.0):
            return
        if len(self._looked_s) > OVER:
            self._looked_s.clear()
        self._looked_s[run] = time.monotonic() + 1.0
        folder = self._service.directory / "documents"
        found = [path for path in (folder / f"{run}.jsonl", folder / "sent" / f"{run}.jsonl") if path.exists()]
        for name, doc in _documents(found):
            if (of := journal.run_of(name, doc, self._uids)) is not None:
                self._learn(of, name, doc)
        if run in self._open:
            about_run(self._service.name, run).info("picked up: its start was missed")

    def frame(self, frame: Frame) -> None:
        """Take a frame; one of a run that is not known waits for its start document, or for `work`."""
        watched = self._open.get(frame.run)
        if watched is None:
            if frame.run not in self._over:
                self._early.append((time.monotonic(), frame))
                while len(self._early) > EARLY_FRAMES or self._early_bytes() > EARLY_BYTES:
                    self._early.popleft()
            return
        try:
            watched.live.add(frame)
        except ScanError as error:
            self._service.notice("warning", str(error), run=frame.run)

    def _early_bytes(self) -> int:
        return sum(frame.image.nbytes for _, frame in self._early)

    def work(self, *, idle: bool) -> bool:
        """A little of what can wait: runs that began without us, frames that were lost, runs that ended. `idle`
        says that no frame waits. True where there is more to do."""
        before_s = time.monotonic() - UNKNOWN_S
        for run in {frame.run for came_s, frame in self._early if came_s < before_s}:
            if journal.run_of("start", {"uid": run}, {}) is not None:
                self._pick_up(run)
        more = False
        for watched in list(self._open.values()):
            if watched.stop is not None and not watched.done:
                more |= not self._ended(watched)
            elif idle and not watched.done:
                more |= not self._caught_up(watched)
        return more

    def _caught_up(self, watched: Watched) -> bool:
        """Refill while the run goes on; a file that cannot be read now is asked again a second later."""
        now_s = time.monotonic()
        if watched.path is None or now_s < watched.open_again_s:
            return True
        try:
            if watched.refill(SLICE_S):
                watched.open_again_s = now_s + 0.1  # frames of the stream are ahead of the file
        except ScanError as error:
            watched.close()
            watched.open_again_s = now_s + 1.0
            about_run(self._service.name, watched.live.plan.run).debug("cannot be refilled yet: %s", error)
        return watched.open_again_s > now_s

    def _ended(self, watched: Watched) -> bool:
        """Refill after the stop, and say how it ended. False where that takes another turn."""
        try:
            if self._is_being_recorded(watched) or not watched.refill(SLICE_S):
                return False
        except ScanError as error:
            missing = watched.live.assembler.missing
            text = f"frames {missing} could not be refilled: {error}"
            self._service.notice("error", text, watched.live.plan.run)
        self._finish(watched)
        return True

    def _is_being_recorded(self, watched: Watched) -> bool:
        """Whether the recorder is still at the frames of a run that stopped a moment ago."""
        if not self._service.config.stream.recorded or watched.path is None:
            return False
        if not watched.live.assembler.missing or time.monotonic() > watched.stop_s + RECORDED_S:
            return False
        try:
            with FrameFile(watched.path, wait_s=0.0) as store:
                return not store.finished
        except ScanError:
            return True  # it has no frame yet

    def _finish(self, watched: Watched) -> None:
        watched.close()
        watched.done = True
        live, seen = watched.live, watched.live.assembler
        watched.told_count = seen.count
        update = live.update(at_peak=True)
        watched.log_stop(update.fields)
        self._service.updates.send(update)
        exit_status = (watched.stop or {}).get("exit_status")
        fields = {"state": "stopped", "name": live.plan.name, "exit_status": exit_status}
        self._service.updates.send(Update(topic="run", run=live.plan.run, fields=fields))

    @property
    def _shown(self) -> Watched | None:
        """The run that the page is shown: the newest under way, or the last."""
        runs = list(self._open.values())
        return next((watched for watched in reversed(runs) if not watched.done), runs[-1] if runs else None)

    def tell(self, waiting: int = 0) -> None:
        """Send what is new to the page, at its pace, and keep one estimate going."""
        now_s = time.monotonic()
        self._collect()
        self.between.collect()
        self.follower.collect()
        self.follower.look(self._open.values())
        shown = self._shown
        if shown is not None and not shown.done:
            shown.most_waiting = max(shown.most_waiting, waiting)
        if shown is None:
            return
        if self._future is None:
            self._refresh(shown, now_s)
        if now_s < self._next_tell_s:
            return
        count = shown.live.assembler.count
        self.detail = f"{shown.live.plan.name}: {count} of {shown.live.plan.num} frames"
        if count > shown.told_count:  # a frame that comes after a pause is shown at once
            self._next_tell_s = now_s + 1 / self._service.config.live.page_hz
            shown.told_count = count
            self._service.updates.send(shown.live.update(at_peak=shown.done, waiting=waiting))
        if now_s >= shown.advise_s:
            shown.advise_s = now_s + ADVISE_S
            self._advise(shown)
        self._say_about_network(shown)
        self._keep(shown)

    @property
    def is_estimating(self) -> bool:
        """Whether an estimate is under way, or a scan's motion, which is to be told of soon."""
        return self._future is not None or self.follower.is_awaited

    def until_tell_s(self) -> float:
        """How long until there is something to tell; infinity where that takes another frame."""
        shown = self._shown
        if shown is None or shown.live.assembler.count <= shown.told_count:
            return math.inf
        return max(0.0, self._next_tell_s - time.monotonic())

    def _advise(self, watched: Watched) -> None:
        """Say what to change, once and when it is something else."""
        pattern = None if watched.previous is None else watched.previous.pattern
        facts = watched.live.facts(ended=watched.done, pattern=pattern)
        advice = () if facts is None else advise_scan(facts)
        if facts is not None and advice != watched.advice:
            watched.advice = advice
            self._service.updates.send(advice_update(watched.live.plan.run, "scan", advice))

    def _refresh(self, watched: Watched, now_s: float) -> None:
        """Begin an estimate of what is new, when it is time; of all frames, once and at once."""
        count = watched.live.assembler.count
        whole = watched.done or count == watched.live.plan.num
        if count <= watched.estimated_count and (watched.estimated_whole or not whole or not count):
            return
        if not whole and not self._pace.allows(now_s, watched.live.last_in_s()):
            return
        watched.estimated_count, watched.estimated_whole = count, whole
        settings = self._service.config.live
        try:
            scan = watched.live.snapshot(settings.edge_voxels)
        except ScanError:
            return  # the window moved to where no frame is known yet
        run = watched.live.plan.run
        adapted = self.between.folder
        job = self.estimator.submit(estimate_run, run, scan, settings=settings, whole=whole, adapted=adapted)
        self._future = (watched, now_s, watched.live.newest_s or now_s, job)

    def _keep(self, watched: Watched) -> None:
        """Owe the preview of a whole run to Tiled."""
        seen, last = watched.live.assembler, watched.previous
        if watched.kept or not watched.done or last is None or last.phase_std_rad is None:
            return
        if self._future is None and watched.estimated_whole and watched.estimated_count == seen.count:
            watched.kept = True
            plan = watched.live.plan
            summary = {"run": plan.run, "name": plan.name, "frames": last.frames, "num": plan.num}
            summary |= {"missing": seen.missing, "seconds": last.seconds}
            directory, crystal = self._service.directory, self._service.config.crystal
            job = self.estimator.submit(keep_preview, summary, directory, crystal)
            job.add_done_callback(partial(say_if_lost, plan.run))
            if all(other.done for other in self._open.values()):
                self.between.begin(watched.live)

    def _say_about_network(self, watched: Watched) -> None:
        """Once why there is none, and once a run why it was not asked in the end: few frames are often refused."""
        why, run, last = "", "", watched.previous
        if self._prepared is not None and self._prepared.done():
            why, self._prepared = str(self._prepared.exception() or self._prepared.result()), None
        elif watched.estimated_whole and self._future is None and last is not None and not watched.refused:
            watched.refused, why, run = bool(last.unlike), last.unlike, watched.live.plan.run
        if why:
            self._service.notice("info", f"no network's preview, the estimate is by iterations: {why}", run)

    def _collect(self) -> None:
        if self._future is None or not self._future[3].done():
            return
        watched, began_s, newest_s, job = self._future
        self._future = None
        now_s, error = time.monotonic(), job.exception()
        self._pace.took(began_s, now_s, now_s - began_s if error else job.result().cpu_s)
        plan = watched.live.plan
        if error is not None:
            if isinstance(error, BrokenExecutor) and watched.workers_lost < MAX_WORKERS_LOST:
                watched.workers_lost += 1
                watched.estimated_count, watched.estimated_whole = 0, False  # once more, in a new process
            elif watched.estimated_whole:
                watched.previous = None  # of a part of the frames: not to be kept as that of all
            level = 10 if isinstance(error, ScanError) else 30  # too few counts yet: say nothing
            about_run("live", plan.run).log(level, "no live estimate: %s", error)
            return
        watched.previous, lag_s = job.result(), now_s - newest_s
        watched.preview_lag_s = lag_s
        if watched.estimated_whole:
            fields = {"frames": watched.estimated_count, "num": plan.num, "last_frame_to_preview_s": lag_s}
            text = "preview of %d of %d frames, %.1f s after the last"
            about_run("live", plan.run).info(text, *fields.values(), extra={"fields": fields})
        if watched is self._shown:
            self._service.updates.send(
                estimate_update(plan, watched.estimated_count, watched.previous, lag_s=lag_s)
            )
        if watched.done and watched is not self._shown:  # the next run began before this was whole
            self._refresh(watched, now_s)
        self._keep(watched)


def _documents(paths: list[Path]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What a journal holds, if there is one; it may be moved while one looks for it."""
    try:
        yield from journal.read(paths[0]) if paths else ()
    except FileNotFoundError:
        return
