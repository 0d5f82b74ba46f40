"""Runs whose motion nobody found, as live was killed: refine's service finds it, once their result is told.

A ticket in `queue/motion/` stands for every run until its motion is known and owed to Tiled, so that it does not
matter who is killed when, or holds its claim at the moment.
"""

import time
from concurrent.futures import BrokenExecutor, Future
from typing import Any

from live_bcdi.jobs import JobPool
from live_bcdi.log import about_run
from live_bcdi.types import ScanError, StorageError

from .service import Service
from .tickets import Tickets
from .tracking import NICE, is_claimed, is_tracked, track_run

LOOK_S = 2.0  # live is mostly done by then
PAUSE_S = 10.0  # until a full disk is looked at again
MAX_TRIES = 3


class Untracked:
    """`add` runs that were refined, or could not be; `work` in turn: one at a time, in a process that is there
    only while it is needed."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._tickets = Tickets(service.folder("queue/motion"))
        self._pool: JobPool | None = None
        self._job: tuple[str, Future[None]] | None = None
        self._next_s = 0.0

    def add(self, name: str, ticket: dict[str, Any]) -> None:
        """Of a run with a start document and a file. OSError where the disk is full."""
        if self._service.config.live.track and ticket.get("file"):
            self._tickets.put(name, {"start": ticket["start"], "file": str(ticket["file"]), "tries": 0})
            self._next_s = time.monotonic() + LOOK_S

    def work(self) -> None:
        """One turn."""
        if self._job is not None and self._job[1].done():
            self._settle(*self._job)
            self._job = None
        if self._job is None and time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + LOOK_S
            self._begin_one()

    def _begin_one(self) -> None:
        for name, ticket in self._tickets:
            try:
                known = is_tracked(ticket["start"], self._service.config.operando, self._service.directory)
                run = str(ticket["start"]["uid"])
            except (ScanError, KeyError, TypeError) as error:
                self._drop(name, f"its ticket is none: {error}")
                continue
            # asked also where all is known: it takes away the claim of who was killed before letting go
            if is_claimed(self._service.directory, run):
                continue
            if known:
                self._tickets.drop(name)
            else:
                self._begin(name, ticket)
                return
        if not self._tickets.names():
            self.stop()

    def _begin(self, name: str, ticket: dict[str, Any]) -> None:
        self._pool = self._pool or JobPool(workers=1, threads=1, nice=NICE)
        self._job = name, self._pool.submit(track_run, ticket["start"], ticket["file"], self._service.config)

    def _settle(self, name: str, future: Future[None]) -> None:
        error = future.exception()
        if error is None:
            self._tickets.drop(name)
            return
        found = dict(self._tickets.read([name])).get(name)
        if found is None or isinstance(error, BlockingIOError):  # live is at it
            return
        tries = int(found["tries"]) + 1
        if isinstance(error, StorageError):
            self._next_s = time.monotonic() + PAUSE_S
        elif isinstance(error, BrokenExecutor | MemoryError | OSError) and tries < MAX_TRIES:
            self._put_again(name, {**found, "tries": tries})
        else:
            self._drop(name, str(error) or type(error).__name__)

    def _put_again(self, name: str, ticket: dict[str, Any]) -> None:
        try:
            self._tickets.put(name, ticket)
        except OSError as error:
            about_run(self._service.name, name).warning("that its motion was tried is not noted: %s", error)

    def _drop(self, name: str, why: str) -> None:
        about_run(self._service.name, name).warning("its motion is not tracked: %s", why)
        self._tickets.drop(name)

    def stop(self) -> None:
        """What was not finished is in its ticket."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
