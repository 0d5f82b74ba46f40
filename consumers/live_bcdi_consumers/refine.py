"""The refine consumer: at `stop`, the whole scan from its file to a result on disk, then to Tiled.

A ticket on disk stands for every run that is under way, waits or is done, so that a killed process, a killed
worker, a full disk or an absent Tiled delays a result and never loses it. What was missed is found in the
archiver's journals.
"""

import time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from live_bcdi.jobs import JobPool
from live_bcdi.log import about_run
from live_bcdi.stream import journal
from live_bcdi.stream.run import is_rocking_run, run_plan
from live_bcdi.stream.updates import Update
from live_bcdi.transport.hdf5 import FrameFile
from live_bcdi.transport.keys import access_of
from live_bcdi.transport.zmq import DocumentSubscriber
from live_bcdi.types import ScanError, StorageError

from .delivery import Delivery
from .files import frame_file_of
from .refining import refine_run
from .service import Service
from .tickets import Tickets

MAX_TRIES = 3  # a job that ends its worker three times will do so again
LOOK_BACK_S = 20.0
QUIET_S = 600.0  # a file that has not grown for so long is of a scan that ended, though nobody saw it end
DISK_FULL_S = 30.0


def run(service: Service) -> None:
    documents = DocumentSubscriber(service.config.stream.documents_out, access_of(service.config.stream))
    refiner = Refiner(service)
    delivery = Delivery(service)
    try:
        while not service.stopping.is_set():
            for name, doc in documents.receive(0.1):
                refiner.document(name, doc)
            refiner.work(delivery)
            delivery.work()
            service.beat("busy" if refiner.busy else "ready", refiner.detail)
    finally:
        refiner.pool.shutdown()


class Refiner:
    """Runs under way are tickets in `queue/open/`, runs to refine in `queue/` (one at a time, oldest first), and
    what became of them in `queue/done/` and `queue/failed/`."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.pool = JobPool(workers=1, threads=service.config.phasing.threads)
        self._open = Tickets(service.folder("queue/open"))
        self._queue = Tickets(service.folder("queue"))
        self._done = Tickets(service.folder("queue/done"))
        self._failed = Tickets(service.folder("queue/failed"))
        self._documents = service.folder("documents")
        self._results = service.folder("results")
        self._runs: dict[str, str] = {}
        self._job: tuple[str, dict[str, Any], Future[dict[str, Any]]] | None = None
        self._pause_until_s = 0.0
        self._next_look_s = 0.0
        self._find_missed()
        self.detail = ""

    @property
    def busy(self) -> bool:
        return self._job is not None

    def document(self, name: str, doc: dict[str, Any]) -> None:
        """Follow a run from its start to its stop."""
        run = journal.run_of(name, doc, self._runs)
        if run is None:
            return
        try:
            self._follow(run, name, doc)
        except OSError as error:
            self._service.notice("error", f"the run could not be noted and is looked for later: {error}", run)

    def _follow(self, run: str, name: str, doc: dict[str, Any]) -> None:
        if name == "start" and is_rocking_run(doc):
            self._open.put(run, {"start": doc, "file": None, "tries": 0})
        elif name == "stream_resource" and (path := frame_file_of(doc)):
            for ticket in self._opened(run):
                self._open.put(run, {**ticket, "file": path})
        elif name == "stop":
            for ticket in self._opened(run):
                self._enqueue(run, ticket)

    def _opened(self, run: str) -> list[dict[str, Any]]:
        return [ticket for name, ticket in self._open if name == run]

    def _enqueue(self, run: str, ticket: dict[str, Any]) -> None:
        name = f"{float(ticket['start'].get('time') or 0):017.6f}_{run}"
        if ticket["file"] is None:
            self._give_up(name, ticket, "its documents name no frame file")
        else:
            self._queue.put(name, ticket)
        self._open.drop(run)

    def _find_missed(self) -> None:
        """Open a ticket for every journal that no ticket stands for: a run measured while we were away."""
        known = set(self._open.names())
        for tickets in (self._queue, self._done, self._failed):
            known |= {name.partition("_")[2] for name in tickets.names()}
        for path in self._documents.rglob("*.jsonl"):
            if path.stem not in known:
                for name, doc in journal.read(path):
                    if name in ("start", "stream_resource"):
                        self.document(name, doc)

    def _look_back(self) -> None:
        """Enqueue open runs whose stop went past us: it is in the journal, or their file is full or long quiet."""
        for run, ticket in self._open:
            found = [path for path in self._documents.rglob(f"{run}.jsonl") if journal.is_complete(path)]
            if found or _is_over(ticket):
                self._enqueue(run, ticket)

    def work(self, delivery: Delivery) -> None:
        """One turn: take in a finished job, start the next, look for what was missed."""
        if self._job is not None and self._job[2].done():
            name, ticket, future = self._job
            self._job = None
            self._finish(name, ticket, future, delivery)
        now_s = time.monotonic()
        if now_s >= self._next_look_s:
            self._next_look_s = now_s + LOOK_BACK_S
            self._look_back()
        if self._job is None and now_s >= self._pause_until_s:
            for name, ticket in self._queue:
                self._begin(name, ticket)
                break
        waiting = len(self._queue.names()) - self.busy
        self.detail = f"{waiting} waiting" if waiting else ""

    def _begin(self, name: str, ticket: dict[str, Any]) -> None:
        about_run("refine", ticket["start"]["uid"]).info("refinement begins")
        job = self.pool.submit(refine_run, ticket, self._results, self._service.config)
        self._job = (name, ticket, job)

    def _finish(
        self, name: str, ticket: dict[str, Any], future: Future[dict[str, Any]], delivery: Delivery
    ) -> None:
        error = future.exception()
        run = ticket["start"]["uid"]
        if error is None:
            summary = future.result()
            delivery.accept(name, summary)
            self._done.put(name, summary)
            self._queue.drop(name)
        elif isinstance(error, StorageError):
            self._pause_until_s = time.monotonic() + DISK_FULL_S
            self._service.notice("error", f"{error} (tried again every {DISK_FULL_S:.0f} s)", run)
        elif isinstance(error, BrokenProcessPool) and ticket["tries"] + 1 < MAX_TRIES:
            self._queue.put(name, {**ticket, "tries": ticket["tries"] + 1})
            self._service.notice(
                "warning", "the refinement lost its process (out of memory?); it starts again", run
            )
        else:
            died = isinstance(error, BrokenProcessPool)
            reason = f"its refinement lost its process {MAX_TRIES} times (out of memory?)" if died else str(error)
            self._give_up(name, ticket, reason)
            self._queue.drop(name)

    def _give_up(self, name: str, ticket: dict[str, Any], reason: str) -> None:
        start = ticket["start"]
        scan = str(start["live_bcdi"]["scan"].get("name", ""))
        self._failed.put(name, {**ticket, "error": reason})
        self._service.notice("error", f"no result for {scan}: {reason}", start["uid"])
        self._service.updates.send(
            Update(topic="result", run=start["uid"], fields={"name": scan, "error": reason})
        )


def _is_over(ticket: dict[str, Any]) -> bool:
    """Whether a run's file holds all its frames, or has not grown for long."""
    if ticket["file"] is None:
        return False
    try:
        if time.time() - Path(ticket["file"]).stat().st_mtime > QUIET_S:
            return True
        with FrameFile(ticket["file"], wait_s=0.0) as frames:
            return frames.count() >= run_plan(ticket["start"]).num
    except (OSError, ScanError):
        return False
