"""The refine consumer: at `stop`, the whole scan from its file to a result on disk, then to Tiled.

A ticket on disk stands for every run that is under way, waits or is done, so that a killed process, a killed
worker, a full disk or an absent Tiled delays a result and never loses it. What was missed is found in the
archiver's journals.
"""

import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future
from dataclasses import dataclass
from typing import Any

from live_bcdi.jobs import Jobs, SchedulerAway, open_jobs
from live_bcdi.log import about_run
from live_bcdi.stream.updates import Update
from live_bcdi.transport.files import has_room
from live_bcdi.transport.keys import access_of
from live_bcdi.transport.zmq import DocumentSubscriber
from live_bcdi.types import StorageError

from .backlog import Backlog, planned_of
from .delivery import Delivery
from .dynamical import Dynamical
from .errands import Errands
from .motion import Motion
from .progress import Durations, FileProgress, JobProgress, empty
from .refining import refine_run
from .runs import Runs
from .series import Series
from .service import Service
from .views import advice_update

MAX_TRIES = 3  # a job that ends its worker, or its memory, three times will do so again
PAUSE_S = 10.0  # until a full disk or an absent scheduler is looked at again
TELL_S = 5.0
TELL_RUNNING_S = 1.0
Over = Callable[[str, dict[str, Any], dict[str, Any] | None], None]
Also = Callable[[float], list[dict[str, Any]]]
NICE = 5  # frames are taken in, and shown, before anything is computed of those that are there


def run(service: Service) -> None:
    documents = DocumentSubscriber(service.config.stream.documents_out, access_of(service.config.stream))
    backlog = _open_backlog(service)
    if backlog is None:
        return
    runs = Runs(service, backlog)
    series = Series(service)
    delivery = Delivery(service)
    dynamical = Dynamical(service, delivery.accept_dynamical)
    motion, further = Errands(service, Motion(service)), Errands(service, dynamical)

    def over(name: str, ticket: dict[str, Any], summary: dict[str, Any] | None) -> None:
        for errands in (motion, further):
            errands.add(name, ticket, summary)

    jobs = open_jobs(service.config, nice=NICE)
    refiner = Refiner(service, backlog, jobs, series.add, over, dynamical.jobs)
    try:
        while not service.stopping.is_set():
            for name, doc in documents.receive(0.1):
                runs.document(name, doc, heard_s=time.time())
            runs.work()
            refiner.work(delivery)
            delivery.work()
            series.work()
            motion.work()
            further.work(free=refiner.idle and not motion.busy and not runs.under_way)
            service.beat("busy" if refiner.busy else "ready", refiner.detail)
    finally:
        refiner.jobs.shutdown()
        motion.stop()
        further.stop()


def _open_backlog(service: Service) -> Backlog | None:
    """The backlog, once the disk has room for what a killed process left half noted; None where we end before."""
    said = False
    while not service.stopping.is_set():
        try:
            return Backlog(service, service.config.jobs.waiting)
        except OSError as error:
            if not said:
                service.notice("error", f"what is refined cannot be noted: {error} (tried again until it can)")
            said = True
        service.beat("busy", "the disk is full")
        service.stopping.wait(1.0)
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Running:
    ticket: dict[str, Any]
    future: Future[dict[str, Any]]
    progress: JobProgress


class Refiner:
    """Takes runs from the backlog, as many at a time as there are places. One that ended its worker or its memory
    is tried again alone: what it lacked, others may have had."""

    def __init__(
        self,
        service: Service,
        backlog: Backlog,
        jobs: Jobs,
        refined: Callable[[dict[str, Any]], None],
        over: Over,
        also: Also = lambda now_s: [],
    ) -> None:
        """`refined` is told the summary of each result that is on disk, and noted; `over` the name, the ticket and
        the summary of each run that was refined, or without a summary given up, before that is noted. `also` has
        what else is at work, for the page."""
        self._service, self._backlog, self.jobs = service, backlog, jobs
        self._refined, self._over, self._also = refined, over, also
        self._results = service.folder("results")
        self._progress_file = empty(service.folder("progress"))
        self._durations = Durations()
        for frames, seconds in backlog.durations():
            self._durations.add(frames, seconds)
        self._running: dict[str, _Running] = {}
        self._pause_until_s = 0.0
        self._problem = ""
        self._disk_full = False
        self._told: dict[str, int] = {}
        self._next_tell_s = 0.0
        self.detail = ""

    @property
    def busy(self) -> bool:
        return bool(self._running)

    @property
    def idle(self) -> bool:
        """Whether no run waits either, as last told."""
        return not any(self._told.get(name) for name in ("running", "waiting", "later"))

    def work(self, delivery: Delivery) -> None:
        """One turn: take in finished jobs, put off what is too much, start what there is a place for."""
        if time.monotonic() >= self._pause_until_s:
            for name in [name for name, job in self._running.items() if job.future.done()]:
                self._settle(name, delivery)
        self._backlog.put_off(self._running)
        if time.monotonic() >= self._pause_until_s:
            self._begin_what_fits()
        self._tell(delivery)

    def _settle(self, name: str, delivery: Delivery) -> None:
        """What became of a job, on disk; where the disk is full, the job stays and is settled later."""
        job = self._running[name]
        try:
            self._finish(name, job, delivery)
        except OSError as error:
            self._pause(f"a result could not be noted: {error}", job.ticket, disk_full=True)
        else:
            job.progress.close()
            del self._running[name]

    def _finish(self, name: str, job: _Running, delivery: Delivery) -> None:
        error, ticket = job.future.exception(), job.ticket
        if error is None:
            summary = _with_delays(job.future.result(), ticket)
            advice = summary.pop("advice", ())
            self._over(name, ticket, summary)
            delivery.accept(name, summary)
            self._backlog.refined(name, summary)
            self._service.updates.send(advice_update(summary["run"], "result", advice))
            self._durations.add(summary.get("num"), summary.get("seconds"))
            self._refined(summary)
            self._problem = ""
            _log(summary)
        elif isinstance(error, StorageError):
            self._pause(str(error), ticket, disk_full=True)
        elif isinstance(error, SchedulerAway):
            self._pause(str(error), ticket)
        elif not isinstance(error, BrokenExecutor | MemoryError):
            self._over(name, ticket, None)
            self._backlog.give_up(name, ticket, str(error) or type(error).__name__)
        elif ticket["tries"] + 1 < MAX_TRIES:
            self._backlog.again(name, {**ticket, "tries": ticket["tries"] + 1})
            self._service.notice("warning", f"{_lost(error)}; it starts again", ticket["start"]["uid"])
        else:
            self._over(name, ticket, None)
            self._backlog.give_up(name, ticket, f"{_lost(error)}, {MAX_TRIES} times: {TOO_LARGE}")

    def _begin_what_fits(self) -> None:
        if self._disk_full:
            self._disk_full = not has_room(self._results)
            self._pause_until_s = time.monotonic() + PAUSE_S if self._disk_full else 0.0
        for name, ticket in () if self._disk_full else self._backlog.next(self._running):
            try:
                if not self._fits(ticket):
                    return
                progress = self._progress_of(ticket)
                told = FileProgress(progress.path)
                job = self.jobs.submit(refine_run, ticket, self._results, self._service.config, told)
            except SchedulerAway as error:
                self._pause(str(error), ticket)
                return
            about_run("refine", ticket["start"]["uid"]).info("refinement begins")
            self._running[name] = _Running(ticket=ticket, future=job, progress=progress)

    def _progress_of(self, ticket: dict[str, Any]) -> JobProgress:
        run = str(ticket["start"]["uid"])
        name, frames = planned_of(ticket["start"])
        return JobProgress(name, run, frames, path=self._progress_file(run), began_s=time.monotonic())

    def _fits(self, ticket: dict[str, Any]) -> bool:
        if not self._running:
            return True
        wants_all = any(each["tries"] for each in (ticket, *(job.ticket for job in self._running.values())))
        return not (wants_all and self.jobs.alone_helps) and len(self._running) < self.jobs.places()

    def _pause(self, problem: str, ticket: dict[str, Any], *, disk_full: bool = False) -> None:
        """Begin nothing for a while; say why once, and not at every look."""
        self._pause_until_s = time.monotonic() + PAUSE_S
        self._disk_full |= disk_full
        if problem != self._problem:
            self._service.notice("error", f"{problem} (tried again every {PAUSE_S:.0f} s)", ticket["start"]["uid"])
        self._problem = problem

    def _tell(self, delivery: Delivery) -> None:
        counts = {**self._backlog.counts(self._running), "outbox": delivery.owed()}
        waiting = counts["waiting"] + counts["later"]
        self.detail = f"{waiting} waiting" if waiting else ""
        now_s = time.monotonic()
        if counts != self._told or now_s >= self._next_tell_s:
            self._told, jobs = counts, [*self._jobs(now_s), *self._also(now_s)]
            self._next_tell_s = now_s + (TELL_RUNNING_S if jobs else TELL_S)
            self._service.updates.send(Update(topic="queue", fields={**counts, "jobs": jobs}))

    def _jobs(self, now_s: float) -> list[dict[str, Any]]:
        """What is known of each refinement at work."""
        told = []
        for job in self._running.values():
            job.progress.look(now_s)
            told.append(job.progress.fields(now_s, self._durations.usual_s(job.progress.frames)))
        return told


def _log(summary: dict[str, Any]) -> None:
    """One line of a result, in words and as fields."""
    names = ("file", "frames", "num", "chi", "seconds", "stop_to_result_s", "last_frame_to_result_s")
    fields = {name: summary.get(name) for name in names}
    chi = "unknown" if fields["chi"] is None else f"{fields['chi']:.4g}"
    stop, last = (f"{fields[name]:.1f} s" if fields[name] is not None else "unknown" for name in names[-2:])
    about_run("refine", summary["run"]).info(
        "result written: %s, %s of %s frames, chi %s; %s after the stop, %s after the last frame",
        *(fields["file"], fields["frames"], fields["num"], chi, stop, last),
        extra={"fields": fields},
    )


TOO_LARGE = "bin or cut the volume ([preprocess] binning, shape), or run fewer at a time ([jobs] workers)"


def _lost(error: BaseException) -> str:
    """What a refinement lacked."""
    if isinstance(error, MemoryError):
        return f"the refinement ran out of memory ({error})" if str(error) else "the refinement ran out of memory"
    return "the refinement lost its process (out of memory?)"


def _with_delays(summary: dict[str, Any], ticket: dict[str, Any]) -> dict[str, Any]:
    """With the seconds to the result from hearing of the stop, and from the last frame's own time; None where they
    are not known, or clocks that differ make nonsense of them."""
    now_s = time.time()

    def since(then_s: float | None) -> float | None:
        return None if then_s is None or not 0 <= now_s - then_s < _LONGEST_S else now_s - then_s

    delays = {"stop_to_result_s": since(ticket.get("heard_s"))}
    return {**summary, **delays, "last_frame_to_result_s": since(summary.get("last_frame_s"))}


_LONGEST_S = 30 * 86400.0  # a time stamp older than that is not of this epoch
