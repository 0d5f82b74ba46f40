"""The archiver: every document to disk first, each once, then to Tiled under `raw/`.

A run goes to Tiled while it is measured as long as its documents come in order. One that Tiled would not take,
that was cut off with this process, or whose documents came late, is sent again whole from its journal. What did
not come at all is taken from the RunEngine's own journal where it was written on this computer.
"""

import os
import queue
import threading
import time
import warnings
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from bluesky_tiled_plugins import TiledWriter
from tiled.client.container import Container

from live_bcdi.stream import claim, journal
from live_bcdi.stream.journal import Journal
from live_bcdi.transport.keys import access_of
from live_bcdi.transport.tiled import connect, container
from live_bcdi.transport.zmq import DocumentSubscriber
from live_bcdi.types import ScanError

from .files import written_s
from .service import Service

BATCH = 20  # documents a request: 14 ms a point in the plan instead of 264 (DESIGN.md)
RETRY_S = 3.0
LATE_S = 5.0  # documents that are missing at the stop may still be on their way
HOLD_S, MOST_HELD = 60.0, 10_000  # for documents that come before what they refer to
MAX_TRIES = 5  # a run that a reachable Tiled refused so often is put aside
KEPT = 16  # journals of runs in Tiled that are kept at hand, for documents that come again
AWAY = (httpx.TransportError, ScanError, ConnectionError)  # Tiled is not there: wait for it, however long


def run(service: Service) -> None:
    documents = DocumentSubscriber(service.config.stream.documents_out, access_of(service.config.stream))
    archive = Archive(service)
    sender = service.thread(archive.send_until_stopped)
    while not service.stopping.is_set():
        for name, doc in documents.receive(0.2):
            archive.take(name, doc)
        archive.drop_orphans()
        service.beat(detail=archive.status)
    sender.join(timeout=5)


@dataclass(slots=True)
class _Live:
    """A run that goes to Tiled while it is measured."""

    writer: TiledWriter
    order: journal.InOrder = field(default_factory=journal.InOrder)
    held: journal.Held = field(default_factory=journal.Held)
    sent: int = 0


class Archive:
    """Journals in `documents/`, moved to `documents/sent/` once Tiled has the whole run, or to `refused/`."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._pending = service.folder("documents")
        self._sent = service.folder("documents/sent")
        self._refused = service.folder("documents/refused")
        self._runs: dict[str, str] = {}
        self._held: deque[tuple[float, str, dict[str, Any]]] = deque(maxlen=MOST_HELD)
        self._journals: dict[str, Journal] = {}
        self._lock = threading.Lock()  # for the journals: one thread adds to them, the other moves them
        self._know_again()
        self._newest_s: dict[str, float] = {}
        self._queue: queue.SimpleQueue[tuple[str, str, dict[str, Any]]] = queue.SimpleQueue()
        self._root: Container | None = None
        self._live: dict[str, _Live] = {}
        self._tries: dict[str, int] = {}
        self._taken: dict[str, int] = {}  # size of the RunEngine's journals when we last read them
        self._next_look_s = 0.0
        self._disk_full = False
        self.status = ""

    def _know_again(self) -> None:
        """Read what is pending, the newest last, since `run_of` forgets the oldest. After days without Tiled there
        are thousands of runs: who is silent meanwhile is killed."""
        for path in sorted(self._pending.glob("*.jsonl"), key=written_s):
            self._journals[path.stem] = Journal(path, self._runs)
            self._service.beat(detail="reads the runs that Tiled does not have")

    def take(self, name: str, doc: dict[str, Any]) -> None:
        """Write a document that is new to its run's journal and hand it to the sender."""
        run = journal.run_of(name, doc, self._runs)
        if run is not None:
            self._keep(run, name, doc)
        elif name in ("start", "stop", *journal.REFERRED_TO):
            self._service.log.warning("a %s document without a run was left out", name)
        else:
            self._held.append((time.monotonic() + HOLD_S, name, doc))
        if name in journal.REFERRED_TO and self._held:
            held = list(self._held)
            self._held.clear()
            for _, late_name, late in held:
                self.take(late_name, late)

    def _keep(self, run: str, name: str, doc: dict[str, Any], *, send: bool = True) -> bool:
        """Whether the document is on disk."""
        try:
            with self._lock:
                new = self._add(run, name, doc)
            written, self._disk_full = True, False
        except OSError as error:
            new, written = True, False
            if not self._disk_full:
                self._service.notice("error", f"documents cannot be written to {self._pending}: {error}", run)
            self._disk_full = True
        if new and send:
            self._newest_s[run] = time.monotonic()
            self._queue.put((run, name, doc))
        return written

    def _add(self, run: str, name: str, doc: dict[str, Any]) -> bool:
        """Whether the document is new; a run in Tiled of which something new comes is owed to Tiled again."""
        kept = self._journal_of(run)
        new = kept.add(name, doc)
        if new and kept.path.parent != self._pending:
            kept.move(self._pending)
        return new

    def _journal_of(self, run: str) -> Journal:
        if run not in self._journals:
            names = [folder / f"{run}.jsonl" for folder in (self._pending, self._sent, self._refused)]
            self._journals[run] = Journal(next((path for path in names if path.exists()), names[0]))
        return self._journals[run]

    def drop_orphans(self) -> None:
        """Give up documents whose descriptor or resource did not come."""
        dropped = 0
        while self._held and self._held[0][0] < time.monotonic():
            self._held.popleft()
            dropped += 1
        if dropped:
            self._service.log.warning("%d documents of unknown runs were left out", dropped)

    def send_until_stopped(self) -> None:
        """The sender's thread: live documents as they come, and what is left over every few seconds."""
        while not self._service.stopping.is_set():
            if time.monotonic() >= self._next_look_s:
                self._take_from_runengine()
                self._send_leftovers()
                self._next_look_s = time.monotonic() + RETRY_S
            try:
                run, name, doc = self._queue.get(timeout=RETRY_S / 10)
            except queue.Empty:
                continue
            self._send_live(run, name, doc)

    def _send_live(self, run: str, name: str, doc: dict[str, Any]) -> None:
        """A document to the writer of its run; a run whose writer failed waits for its stop, to be sent whole."""
        if name == "start" and self._begins(run):
            self._open(run)
        live = self._live.get(run)
        if live is None:
            return
        live.held.take(name, doc)
        if not live.order.follows(name, doc) or live.held.missing:
            del self._live[run]
            return
        try:
            live.writer(name, doc)
            live.sent += 1
            if name == "stop":
                self._fit(run, doc)
        except Exception as error:  # noqa: BLE001  whatever a server or its client raises, the journal has it all
            del self._live[run]
            self._not_taken(run, error)
            return
        if name == "stop":
            del self._live[run]
            self._done(run, live.sent)

    def _begins(self, run: str) -> bool:
        """Whether a start document is the first that came, where others were not sent, and not the last that is
        looked at of a run that is whole by now: that is sent whole, or was."""
        with self._lock:
            kept = self._journal_of(run)
            path = kept.path
            return not kept.complete and (
                not path.exists() or next(journal.read(path), ("start", {}))[0] == "start"
            )

    def _open(self, run: str) -> None:
        try:
            self._live[run] = _Live(self._writer())
        except Exception as error:  # noqa: BLE001  as above
            self._not_taken(run, error)

    def _writer(self) -> TiledWriter:
        self._root = self._root or connect(self._service.config)
        return TiledWriter(container(self._root, "raw"), batch_size=BATCH)

    def _take_from_runengine(self) -> None:
        """What did not come of runs that are over, from the journal that the RunEngine wrote beside ours."""
        self._stop_for_the_dead()
        folder = self._service.folder("journal")
        done = journal.runs_in(self._sent) | journal.runs_in(self._refused)
        for run in journal.runs_in(folder) - (done - journal.runs_in(self._pending)):
            path = folder / f"{run}.jsonl"
            with suppress(OSError):  # taken away, or not ours to read
                size = path.stat().st_size
                if self._taken.get(run) == size or self._is_coming(run) or not _is_over(path):
                    continue
                self._live.pop(run, None)
                told = [each for each in journal.read(path) if journal.run_of(*each, self._runs) == run]
                if all([self._keep(run, name, doc, send=False) for name, doc in told]):
                    self._taken[run] = size

    def _stop_for_the_dead(self) -> None:
        """A RunEngine that was killed leaves runs without a stop; whoever waits for one gets it from here."""
        for path in claim.abandoned(self._service.folder("journal")):
            documents = list(journal.read(path)) if path.exists() else []
            stop = claim.stop_of(documents)
            with suppress(OSError):  # a full disk: at the next look
                if stop is not None and not any(name == "stop" for name, _ in documents):
                    journal.append(path, "stop", stop)
                    self._service.notice("warning", claim.REASON, path.stem)
                claim.forget(path)

    def _is_coming(self, run: str) -> bool:
        return time.monotonic() - self._newest_s.get(run, -LATE_S) < LATE_S

    def _send_leftovers(self) -> None:
        """Every finished run that Tiled does not have; one that it refuses does not hold up the others."""
        for run in sorted(self._journals):
            kept = self._journals.get(run)  # one that is done may be forgotten on the way
            if kept is None or run in self._live or kept.path.parent != self._pending or not kept.complete:
                continue
            if self._service.stopping.is_set():
                return
            try:
                self._send_again(run, kept)
            except AWAY as error:
                self._not_taken(run, error)
                return
            except Exception as error:  # noqa: BLE001  a reachable Tiled refuses this run
                self._not_taken(run, error)
                self._count_refusal(run, kept)

    def _send_again(self, run: str, kept: Journal) -> None:
        with self._lock:
            size, documents = len(kept), journal.in_order(journal.read(kept.path))
        lacks = journal.missing(documents)
        if lacks and self._is_coming(run):
            return
        writer = self._writer()
        assert self._root is not None, "a writer implies a connection"
        raw = container(self._root, "raw")
        if run in raw:
            if lacks and raw[run].metadata.get("stop"):  # it has all that came; our disk was full then
                self._done(run, size)
                return
            raw.delete_contents([run], recursive=True, external_only=False)
        for name, doc in documents:
            writer(name, doc)
        self._fit(run, documents[-1][1])
        self._done(run, size)
        if lacks:
            counts = ", ".join(f"{count} of {part}" for part, count in lacks.items())
            self._service.notice(
                "warning",
                f"events were lost on their way: {counts}; where the RunEngine runs, send them again with"
                f" `live-bcdi replay journal/{run}.jsonl` (in its storage folder)",
                run,
            )

    def _fit(self, run: str, stop: dict[str, Any]) -> None:
        """A run that was cut off may have a frame in its file that no document tells of, for which Tiled would
        read none of them: it is given the shape that the file has, with a note of it."""
        if stop.get("exit_status") == "success" or self._root is None:
            return
        try:
            with warnings.catch_warnings(action="ignore"):  # that this is done here and not in the server
                container(self._root, "raw")[run].validate(try_reading=False)
        except AWAY:
            raise
        except Exception as error:  # noqa: BLE001  a file that is not to be had here, or is none of HDF5
            self._service.log.warning("the frames of run %s may not be read from Tiled: %s", run, error)

    def _not_taken(self, run: str, error: Exception) -> None:
        self._root = None
        status = f"Tiled did not take documents ({type(error).__name__}); they wait on disk"
        if status != self.status:
            self._service.log.warning("run %s waits on disk for Tiled: %s", run, error)
        self.status = status

    def _count_refusal(self, run: str, kept: Journal) -> None:
        self._tries[run] = self._tries.get(run, 0) + 1
        if self._tries[run] >= MAX_TRIES:
            del self._tries[run]
            with self._lock:
                kept.move(self._refused)
            self._service.notice("error", f"Tiled refused the documents, kept in {self._refused}", run)

    def _done(self, run: str, sent: int) -> None:
        """Tiled has `sent` documents of a run; where more came meanwhile, it is sent again. A journal that a full
        disk left with fewer waits for what the RunEngine's has, or a replay."""
        with self._lock:
            kept = self._journal_of(run)
            if len(kept) == sent:
                kept.move(self._sent)
                self._forget_old()
        self._tries.pop(run, None)
        self.status = ""
        self._service.log.info("run %s is in Tiled", run, extra={"run": run})

    def _forget_old(self) -> None:
        done = [run for run, kept in self._journals.items() if kept.path.parent != self._pending]
        for run in done[:-KEPT]:
            del self._journals[run]
            self._taken.pop(run, None)
            self._newest_s.pop(run, None)


def _is_over(path: Path) -> bool:
    """Whether a journal that the RunEngine writes ends with a stop document, seen without reading it all."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 2**16))
        lines = file.read().splitlines()
    return bool(lines) and lines[-1].startswith(b'["stop"')
