"""The archiver: every document to disk first, then to Tiled under `raw/`.

A run that Tiled would not take, or that was cut off with this process, is sent again whole from its journal.
"""

import queue
from pathlib import Path
from typing import Any

import httpx
from bluesky_tiled_plugins import TiledWriter
from tiled.client.container import Container

from live_bcdi.stream import journal
from live_bcdi.transport.keys import access_of
from live_bcdi.transport.tiled import connect, container
from live_bcdi.transport.zmq import DocumentSubscriber
from live_bcdi.types import ScanError

from .service import Service

BATCH = 20  # documents a request: 14 ms a point in the plan instead of 264 (DESIGN.md)
RETRY_S = 3.0
MAX_TRIES = 5  # a run that a reachable Tiled refused so often is put aside
AWAY = (httpx.TransportError, ScanError, ConnectionError)  # Tiled is not there: wait for it, however long


def run(service: Service) -> None:
    documents = DocumentSubscriber(service.config.stream.documents_out, access_of(service.config.stream))
    archive = Archive(service)
    sender = service.thread(archive.send_until_stopped)
    while not service.stopping.is_set():
        for name, doc in documents.receive(0.2):
            archive.take(name, doc)
        service.beat(detail=archive.status)
    sender.join(timeout=5)


class Archive:
    """Journals in `documents/`, moved to `documents/sent/` once Tiled has the whole run, or to `refused/`."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._pending = service.folder("documents")
        self._sent = service.folder("documents/sent")
        self._refused = service.folder("documents/refused")
        self._runs: dict[str, str] = {}
        for path in self._pending.glob("*.jsonl"):
            self._runs |= journal.known_runs(path)
        self._queue: queue.SimpleQueue[tuple[str, str, dict[str, Any]]] = queue.SimpleQueue()
        self._root: Container | None = None
        self._writers: dict[str, TiledWriter] = {}  # of the runs that go to Tiled while they are measured
        self._tries: dict[str, int] = {}
        self.status = ""

    def take(self, name: str, doc: dict[str, Any]) -> None:
        """Write a document to its run's journal and hand it to the sender."""
        run = journal.run_of(name, doc, self._runs)
        if run is None:
            self._service.log.warning("a %s document of an unknown run was left out", name)
            return
        path = self._pending / f"{run}.jsonl"
        journal.append(path, name, doc)
        if name == "stop" and (missing := journal.missing_events(path)):
            counts = ", ".join(f"{count} of {stream}" for stream, count in missing.items())
            self._service.notice("warning", f"events lost while the archiver was away: {counts}", run)
        self._queue.put((run, name, doc))

    def send_until_stopped(self) -> None:
        """The sender's thread: live documents as they come, and what is left over every few seconds."""
        self._send_leftovers()
        while not self._service.stopping.is_set():
            try:
                run, name, doc = self._queue.get(timeout=RETRY_S)
            except queue.Empty:
                self._send_leftovers()
                continue
            self._send_live(run, name, doc)

    def _send_live(self, run: str, name: str, doc: dict[str, Any]) -> None:
        """A document to the writer of its run; a run whose writer failed waits for its stop, to be sent whole."""
        if name == "start":
            self._open(run)
        writer = self._writers.get(run)
        if writer is None:
            return
        try:
            writer(name, doc)
        except Exception as error:  # noqa: BLE001  whatever a server or its client raises, the journal has it all
            del self._writers[run]
            self._not_taken(run, error)
            return
        if name == "stop":
            del self._writers[run]
            self._done(run)

    def _open(self, run: str) -> None:
        try:
            self._writers[run] = self._writer()
        except Exception as error:  # noqa: BLE001  as above
            self._not_taken(run, error)

    def _writer(self) -> TiledWriter:
        self._root = self._root or connect(self._service.config)
        return TiledWriter(container(self._root, "raw"), batch_size=BATCH)

    def _send_leftovers(self) -> None:
        """Every finished run that Tiled does not have; one that it refuses does not hold up the others."""
        for path in sorted(self._pending.glob("*.jsonl")):
            if path.stem in self._writers or not journal.is_complete(path) or self._service.stopping.is_set():
                continue
            try:
                self._send_again(path)
            except AWAY as error:
                self._not_taken(path.stem, error)
                return
            except Exception as error:  # noqa: BLE001  a reachable Tiled refuses this run
                self._not_taken(path.stem, error)
                self._count_refusal(path)

    def _send_again(self, path: Path) -> None:
        writer = self._writer()
        assert self._root is not None, "a writer implies a connection"
        raw = container(self._root, "raw")
        if path.stem in raw:
            raw.delete_contents([path.stem], recursive=True, external_only=False)
        for name, doc in journal.read(path):
            writer(name, doc)
        self._done(path.stem)

    def _not_taken(self, run: str, error: Exception) -> None:
        self._root = None
        status = f"Tiled did not take documents ({type(error).__name__}); they wait on disk"
        if status != self.status:
            self._service.log.warning("run %s waits on disk for Tiled: %s", run, error)
        self.status = status

    def _count_refusal(self, path: Path) -> None:
        self._tries[path.stem] = self._tries.get(path.stem, 0) + 1
        if self._tries[path.stem] >= MAX_TRIES:
            path.replace(self._refused / path.name)
            self._service.notice("error", f"Tiled refused the documents, kept in {self._refused}", path.stem)

    def _done(self, run: str) -> None:
        (self._pending / f"{run}.jsonl").replace(self._sent / f"{run}.jsonl")
        self.status = ""
        self._service.log.info("run %s is in Tiled", run, extra={"run": run})
