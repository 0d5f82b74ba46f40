"""The live consumer: frames into a growing volume, and an estimate of the crystal while they come.

Intake has the thread to itself; the estimate runs in a process of its own, one at a time, always on the newest
volume. What the stream loses is refilled from the detector's file at `stop`.
"""

import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import zmq

from live_bcdi.estimate import LiveEstimate, live_estimate, warm_up
from live_bcdi.jobs import JobPool
from live_bcdi.log import about_run
from live_bcdi.stream import journal
from live_bcdi.stream.live import LiveRun
from live_bcdi.stream.run import is_rocking_run, run_plan
from live_bcdi.stream.updates import Update
from live_bcdi.transport.hdf5 import FrameFile
from live_bcdi.transport.keys import access_of
from live_bcdi.transport.zmq import DocumentSubscriber, FrameSubscriber
from live_bcdi.types import Frame, ScanError

from .files import frame_file_of, recorded_file
from .service import Service
from .views import estimate_update

EARLY_FRAMES = 64  # frames may overtake their start document, which follows within milliseconds, at 1,000 a second
LAST_FRAMES_S = 2.0


def run(service: Service) -> None:
    access = access_of(service.config.stream)
    documents = DocumentSubscriber(service.config.stream.documents_out, access)
    frames = FrameSubscriber(service.config.stream.own_frames, access=access)
    poller = zmq.Poller()
    for socket in (documents.socket, frames.socket):
        poller.register(socket, zmq.POLLIN)
    watch = Watch(service)
    try:
        while not service.stopping.is_set():
            poller.poll(50)
            for name, doc in documents.receive(0):
                if name == "stop":
                    _take_what_waits(frames, watch, str(doc.get("run_start")))
                watch.document(name, doc)
            _take(frames, watch)  # after the documents: frames must not overtake the start of their run
            watch.tell()
            service.beat(detail=watch.detail)
    finally:
        frames.close()
        watch.estimator.shutdown()


def _take(frames: FrameSubscriber, watch: "Watch") -> None:
    for frame in frames.receive(0):
        watch.frame(frame)


def _take_what_waits(frames: FrameSubscriber, watch: "Watch", run: str) -> None:
    """A run's frames were sent before its stop, on another socket; what takes longer is refilled from the file,
    which the recorder may need a moment to finish."""
    until_s = time.monotonic() + LAST_FRAMES_S
    waiting = True
    while waiting and time.monotonic() < until_s:
        waiting = watch.is_being_recorded(run)
        for frame in frames.receive(0.02):
            waiting = True
            watch.frame(frame)


@dataclass(slots=True)
class _Current:
    live: LiveRun
    told_count: int = -1
    estimated_count: int = 0
    previous: LiveEstimate | None = None


class Watch:
    """The newest run; an older one is dropped when the next starts (its refinement does not depend on us)."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.estimator = JobPool(workers=1, threads=1)
        self.estimator.submit(warm_up)
        self._current: _Current | None = None
        self._early: deque[Frame] = deque(maxlen=EARLY_FRAMES)
        self._future: tuple[_Current, Future[LiveEstimate]] | None = None
        self._runs: dict[str, str] = {}
        self._files: dict[str, str] = {}
        self._next_tell_s = 0.0
        self.detail = ""

    def document(self, name: str, doc: dict[str, Any]) -> None:
        run = journal.run_of(name, doc, self._runs)
        if name == "start" and is_rocking_run(doc):
            self._start(doc)
        elif name == "stream_resource" and run is not None and (path := frame_file_of(doc)):
            self._files.setdefault(run, path)
        elif name == "stop" and run is not None:
            self._stop(run, doc)

    def _start(self, doc: dict[str, Any]) -> None:
        try:
            plan = run_plan(doc)
            self._current = _Current(live=LiveRun(plan, time.monotonic))
            if self._service.config.stream.recorded:
                self._files[plan.run] = str(recorded_file(self._service.folder("frames"), doc))
        except ScanError as error:
            self._service.notice("error", str(error), run=str(doc.get("uid", "")))
            return
        fields = {"state": "started", "name": plan.name, "sample": plan.scan.get("sample"), "num": plan.num}
        span = {"hkl": plan.scan.get("hkl"), "start_deg": plan.start_deg, "stop_deg": plan.stop_deg}
        self._service.updates.send(Update(topic="run", run=plan.run, fields={**fields, **span}))
        early = list(self._early)
        self._early.clear()
        for frame in early:
            if frame.run == plan.run:
                self.frame(frame)

    def is_being_recorded(self, run: str) -> bool:
        """Whether the recorder is still at the frames of the present run."""
        current = self._current
        if not self._service.config.stream.recorded or current is None or current.live.plan.run != run:
            return False
        try:
            with FrameFile(self._files[run], wait_s=0.0) as store:
                return not store.finished
        except ScanError:
            return True  # it has no frame yet

    def frame(self, frame: Frame) -> None:
        current = self._current
        if current is None or frame.run != current.live.plan.run:
            self._early.append(frame)
            return
        try:
            current.live.add(frame)
        except ScanError as error:
            self._service.notice("warning", str(error), run=frame.run)

    def _stop(self, run: str, doc: dict[str, Any]) -> None:
        path = self._files.pop(run, None)
        current = self._current
        if current is None or current.live.plan.run != run:
            return
        self._refill(current.live, path)
        seen = current.live.assembler
        about_run("live", run).info(
            "stop: %d of %d frames, %d refilled, %d duplicates, missing %s",
            *(seen.count, current.live.plan.num, seen.refilled, seen.duplicates, seen.missing),
        )
        current.told_count = seen.count
        self._service.updates.send(current.live.update(at_peak=True))
        fields = {"state": "stopped", "name": current.live.plan.name, "exit_status": doc.get("exit_status")}
        self._service.updates.send(Update(topic="run", run=run, fields=fields))

    def _refill(self, live: LiveRun, path: str | None) -> None:
        if not live.assembler.missing:
            return
        try:
            if path is None:
                raise ScanError("its documents name no frame file")
            with FrameFile(path) as store:
                live.finish(store)
        except ScanError as error:
            missing = live.assembler.missing
            self._service.notice("error", f"frames {missing} could not be refilled: {error}", live.plan.run)

    def tell(self) -> None:
        """Send what is new to the page, at its pace, and keep one estimate going."""
        now_s = time.monotonic()
        self._collect()
        current = self._current
        if current is None or now_s < self._next_tell_s:
            return
        self._next_tell_s = now_s + 1 / self._service.config.live.page_hz
        count = current.live.assembler.count
        self.detail = f"{current.live.plan.name}: {count} of {current.live.plan.num} frames"
        if count > current.told_count:
            current.told_count = count
            self._service.updates.send(current.live.update())
        if self._future is None and count > current.estimated_count:
            self._estimate(current, count)

    def _estimate(self, current: _Current, count: int) -> None:
        current.estimated_count = count
        settings = self._service.config.live
        scan = current.live.snapshot(settings.edge_voxels)
        job = self.estimator.submit(
            live_estimate,
            scan,
            previous=current.previous,
            edge=settings.edge_voxels,
            iterations=settings.iterations,
        )
        self._future = (current, job)

    def _collect(self) -> None:
        if self._future is None or not self._future[1].done():
            return
        current, job = self._future
        self._future = None
        if error := job.exception():
            level = "debug" if isinstance(error, ScanError) else "warning"  # too few counts yet: say nothing
            about_run("live", current.live.plan.run).log(
                {"debug": 10, "warning": 30}[level], "no live estimate: %s", error
            )
            return
        current.previous = job.result()
        if current is self._current:
            self._service.updates.send(
                estimate_update(current.live.plan, current.estimated_count, current.previous)
            )
