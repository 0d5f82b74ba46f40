"""Results from disk to Tiled. What Tiled does not take waits in `outbox/`; what it refuses is put aside."""

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from tiled.client.container import Container

from live_bcdi.stream.updates import Update
from live_bcdi.transport.hdf5 import read_result
from live_bcdi.transport.tiled import connect, require_answer, store_result
from live_bcdi.transport.tracks import Track, read_track, store_track
from live_bcdi.types import Reconstruction, ScanError

from .estimating import OWED
from .service import Service
from .tickets import Tickets
from .tracking import OWED as TRACKS_OWED
from .views import refined_update

RETRY_S = 3.0
MAX_TRIES = 5  # refusals of one result by a Tiled that answers
AWAY = (httpx.TransportError, ConnectionError)


class Delivery:
    """Tickets in `outbox/` are results that are owed to Tiled, in `outbox/dynamical/` those of the theory that
    they needed, in `outbox/previews/` the live service's previews, in `outbox/tracking/` what it found of the
    motion; those it refuses go to `outbox/refused/`, and say their kind, so that they may come back by `outbox/`.
    A preview's file goes when Tiled has it."""

    def __init__(self, service: Service) -> None:
        self._service = service
        folders = {"tracking": TRACKS_OWED, "refined": "outbox", "dynamical": "outbox/dynamical", "preview": OWED}
        # the smallest first
        self._boxes = {kind: Tickets(service.folder(folder)) for kind, folder in folders.items()}
        self._refused = Tickets(service.folder("outbox/refused"))
        self._tries: dict[str, int] = {}
        self._next_s = 0.0
        self._known: set[str] = set()
        self._said = ""
        self._root: Container | None = None
        self._to_show: list[tuple[str, dict[str, Any]]] = []

    def accept(self, name: str, summary: dict[str, Any]) -> None:
        """Owe a result to Tiled and show it to the page at once."""
        self._accept("refined", name, summary)
        self._show()
        self._service.updates.send(Update(topic="result", run=summary["run"], fields=summary))

    def accept_dynamical(self, name: str, summary: dict[str, Any]) -> None:
        """The same of one that stands beside a result; it is shown in the next turn of `work`, since who owes it
        notes first that it is done."""
        self._accept("dynamical", f"{name}_dynamical", summary)

    def _accept(self, kind: str, name: str, summary: dict[str, Any]) -> None:
        self._boxes[kind].put(name, {**summary, "kind": kind})
        self._next_s = 0.0
        self._to_show.append((kind, summary))

    def _show(self) -> None:
        while self._to_show:
            kind, summary = self._to_show.pop(0)
            result = self._read(summary)
            if result is not None:
                self._service.updates.send(refined_update(summary, result, kind))

    def owed(self) -> int:
        """Results that Tiled has not taken yet."""
        return sum(len(box.names()) for box in self._boxes.values())

    def work(self) -> None:
        """Every few seconds, and once there is a new preview or track, send what waits."""
        self._show()
        quick = {*self._boxes["preview"].names(), *self._boxes["tracking"].names()}
        new, self._known = quick - self._known, quick
        if time.monotonic() < self._next_s and not new:
            return
        self._next_s = time.monotonic() + RETRY_S
        waiting = [(box, *ticket) for box in self._boxes.values() for ticket in box]
        if not waiting:
            self._said = ""
            return
        try:
            root = self._connected()
            for box, name, summary in waiting:
                self._deliver(root, box, name, summary)
        except (ScanError, *AWAY) as error:
            self._root = None
            self._say(f"{len(waiting)} result(s) wait on disk for Tiled: {error}")

    def _connected(self) -> Container:
        """One client for all deliveries: each takes memory that it does not give back."""
        if self._root is None:
            self._root = connect(self._service.config)
        else:
            require_answer(self._service.config)
        return self._root

    def _kind_of(self, box: Tickets, summary: Mapping[str, Any]) -> str:
        """What a ticket says: one that was refused may lie in another box than its own."""
        said = str(summary.get("kind"))
        return said if said in self._boxes else next(kind for kind, each in self._boxes.items() if each is box)

    def _deliver(self, root: Container, box: Tickets, name: str, summary: dict[str, Any]) -> None:
        kind = self._kind_of(box, summary)
        found = self._read_track(summary) if kind == "tracking" else self._read(summary)
        if found is None:
            self._put_aside(kind, box, name, summary)
            return
        if isinstance(found, Track) and found.within is None:
            return  # who is at it writes the file after the ticket, or was killed: refine comes to it
        try:
            tiled = self._store(root, kind, summary, found)
        except AWAY:
            raise
        except Exception as error:  # noqa: BLE001  whatever a server that answers finds wrong, the file is on disk
            self._say(f"Tiled did not take the {kind} result of {_name_of(summary)}: {error}")
            self._tries[name] = self._tries.get(name, 0) + 1
            if self._tries[name] >= MAX_TRIES:
                self._put_aside(kind, box, name, summary)
            return
        box.drop(name)
        if kind == "preview":
            Path(summary["file"]).unlink(missing_ok=True)
        elif kind == "refined":
            told = {**summary, "tiled": tiled}
            self._service.updates.send(Update(topic="result", run=summary["run"], fields=told))
        elif kind == "dynamical":
            words = f"refined by the theory that it needs ({summary['rung']}), beside the result: {tiled}"
            self._service.notice("info", words, summary["run"])

    def _store(self, root: Container, kind: str, summary: dict[str, Any], found: Any) -> str:
        """Where it is in Tiled."""
        if kind == "tracking":
            return store_track(root, summary, found, finished_s=time.time())
        said = {name: value for name, value in summary.items() if name != "kind"}
        about = {**said, "raw": f"raw/{summary['run']}", "finished": time.time()}
        return store_result(root, summary["run"], found, about, kind=kind)

    def _put_aside(self, kind: str, box: Tickets, name: str, summary: dict[str, Any]) -> None:
        self._tries.pop(name, None)
        if kind == "preview":  # the refined result is on its way
            box.drop(name)
        else:
            with suppress(OSError):  # moving needs no room; most tickets say it from the beginning
                box.put(name, {**summary, "kind": kind})
            box.move(name, self._refused)
        where = summary.get("file", self._refused.folder)
        self._service.notice("error", f"the result stays on disk only: {where}", summary.get("run", ""))

    def _read(self, summary: Mapping[str, Any]) -> Reconstruction | None:
        """The result file; None, and said so, where someone damaged or moved it."""
        try:
            return read_result(Path(summary["file"]))
        except ScanError as error:
            self._service.notice("error", str(error), summary["run"])
            return None

    def _read_track(self, summary: Mapping[str, Any]) -> Track | Mapping[str, Any] | None:
        """The track of a scan, or of a series what the ticket has of it itself."""
        if "file" not in summary:
            return summary
        try:
            return read_track(Path(summary["file"]))
        except ScanError as error:
            self._service.notice("error", str(error), summary["run"])
            return None

    def _say(self, message: str) -> None:
        """Once, not every few seconds."""
        if message != self._said:
            self._service.notice("warning", message)
        self._said = message


def _name_of(summary: Mapping[str, Any]) -> str:
    return str(summary.get("name") or summary.get("series") or "a run")
