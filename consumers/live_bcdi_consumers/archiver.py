"""The archiver: every document to disk first, then to Tiled under `raw/`.

A run that Tiled would not take, or that was cut off with this process, is sent again whole from its journal.
"""

import queue
import threading
from pathlib import Path
from typing import Any

import httpx
from bluesky_tiled_plugins import TiledWriter
from tiled.client.container import Container

from live_bcdi.stream import journal
from live_bcdi.transport.tiled import connect, container
from live_bcdi.transport.zmq import DocumentSubscriber
from live_bcdi.types import ScanError

from .service import Service

BATCH = 20  # documents a request: 14 ms a point in the plan instead of 264 (DESIGN.md)
RETRY_S = 3.0
REFUSALS = (ScanError, httpx.HTTPError, OSError, ValueError, KeyError, RuntimeError)


def run(service: Service) -> None:
    documents = DocumentSubscriber(service.config.stream.documents_out)
    archive = Archive(service)
    sender = threading.Thread(target=archive.send_until_stopped, daemon=True)
    sender.start()
    while not service.stopping.is_set():
        for name, doc in documents.receive(0.2):
            archive.take(name, doc)
        service.beat(detail=archive.status)
    sender.join(timeout=5)


class Archive:
    """Journals in `documents/`, moved to `documents/sent/` once Tiled has the whole run."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._pending = service.folder("documents")
        self._sent = service.folder("documents/sent")
        self._runs: dict[str, str] = {}
        self._queue: queue.SimpleQueue[tuple[str, str, dict[str, Any]]] = queue.SimpleQueue()
        self._root: Container | None = None
        self._writers: dict[str, TiledWriter | None] = {}  # None: gave up live, send it whole after its stop
        self.status = ""

    def take(self, name: str, doc: dict[str, Any]) -> None:
        """Write a document to its run's journal and hand it to the sender."""
        run = journal.run_of(name, doc, self._runs)
        if run is None:
            self._service.log.warning("a %s document of an unknown run was left out", name)
            return
        journal.append(self._pending / f"{run}.jsonl", name, doc)
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
        if name == "start":
            self._writers[run] = self._writer()
        writer = self._writers.get(run)
        if writer is not None:
            try:
                writer(name, doc)
            except REFUSALS as error:
                self._gave_up(run, error)
                writer = None
        if name == "stop":
            del self._writers[run]
            if writer is not None:
                self._done(run)

    def _writer(self) -> TiledWriter | None:
        try:
            self._root = self._root or connect(self._service.config)
            return TiledWriter(container(self._root, "raw"), batch_size=BATCH)
        except REFUSALS as error:
            self._root = None
            self.status = f"Tiled is not there ({type(error).__name__}); documents wait on disk"
            return None

    def _gave_up(self, run: str, error: Exception) -> None:
        self._writers[run], self._root = None, None
        self.status = "Tiled refused documents; they wait on disk"
        self._service.log.warning("Tiled refused run %s (%s); it will be sent again whole", run, error)

    def _send_leftovers(self) -> None:
        waiting = [path for path in sorted(self._pending.glob("*.jsonl")) if path.stem not in self._writers]
        for path in filter(journal.is_complete, waiting):
            writer = self._writer()
            if writer is None or self._service.stopping.is_set():
                return
            try:
                self._send_again(path, writer)
            except REFUSALS as error:
                self._gave_up_again(path.stem, error)
                return

    def _send_again(self, path: Path, writer: TiledWriter) -> None:
        assert self._root is not None, "a writer implies a connection"
        raw = container(self._root, "raw")
        if path.stem in raw:
            raw.delete_contents([path.stem], recursive=True, external_only=False)
        for name, doc in journal.read(path):
            writer(name, doc)
        self._done(path.stem)

    def _gave_up_again(self, run: str, error: Exception) -> None:
        self._root = None
        self.status = "Tiled refuses documents; they wait on disk"
        self._service.log.warning("run %s could not be sent to Tiled yet: %s", run, error)

    def _done(self, run: str) -> None:
        (self._pending / f"{run}.jsonl").replace(self._sent / f"{run}.jsonl")
        self.status = ""
        self._service.log.info("run %s is in Tiled", run, extra={"run": run})
