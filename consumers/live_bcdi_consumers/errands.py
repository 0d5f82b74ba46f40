"""What is done for a run once its result is told: an errand a ticket, each kind by one process at a time, that is
there only while it is needed.

A ticket stands for an errand until that is done, or cannot be, so that it does not matter who is killed when.
"""

import time
from concurrent.futures import BrokenExecutor, Future
from enum import Enum, auto
from typing import Any, Protocol

from live_bcdi.jobs import JobPool
from live_bcdi.log import about_run
from live_bcdi.types import ScanError, StorageError

from .service import Service
from .tickets import Tickets

LOOK_S = 2.0  # live is mostly done with a scan's motion by then
QUIET_S = 3.0  # after who goes first was last at work: longer than until motion is looked at
PAUSE_S = 10.0  # until a full disk is looked at again
MAX_TRIES = 3


class Look(Enum):
    """What a ticket asks for now."""

    DO = auto()
    LATER = auto()
    DONE = auto()


class Errand(Protocol):
    """One kind. `folder` has its tickets, `newest_first` says in which order they go, `waits_for_room` whether a
    full disk is waited for, `given_up` what is said of one that cannot be done."""

    folder: str
    newest_first: bool
    waits_for_room: bool
    given_up: str

    def ticket(self, run: dict[str, Any], summary: dict[str, Any] | None) -> dict[str, Any] | None:
        """What is owed to a run that was refined, or, without a summary, could not be; None where nothing is."""

    def look(self, ticket: dict[str, Any]) -> Look:
        """Raises ScanError, KeyError or TypeError for a ticket that is none."""

    def pool(self) -> JobPool: ...

    def begin(self, pool: JobPool, name: str, ticket: dict[str, Any]) -> Future[Any]: ...

    def done(self, name: str, found: Any) -> None:
        """Take what a job found. OSError where the disk is full: it is given again."""

    def left(self, name: str, *, over: bool) -> None:
        """A job is no longer at work; with `over` it will not be again."""


class Errands:
    """`add` what is to be done, and `work` in turn."""

    def __init__(self, service: Service, errand: Errand) -> None:
        self._service, self._errand = service, errand
        self._tickets = Tickets(service.folder(errand.folder))
        self._pool: JobPool | None = None
        self._job: tuple[str, Future[Any]] | None = None
        self._next_s = self._settle_s = 0.0
        self._tries: dict[str, int] = {}  # also of those that a full disk did not let be noted

    @property
    def busy(self) -> bool:
        return self._job is not None

    def add(self, name: str, run: dict[str, Any], summary: dict[str, Any] | None) -> None:
        """Owe what a run asks for: its ticket, and what there is to say of its result where there is one. OSError
        where the disk is full."""
        ticket = self._errand.ticket(run, summary)
        if ticket is not None:
            self._tickets.put(name, {**ticket, "tries": 0})
            self._next_s = max(self._next_s, time.monotonic() + LOOK_S)

    def work(self, *, free: bool = True) -> None:
        """One turn. Where not `free`, others go first: what is at work is ended, and goes on from what it kept
        once they are done."""
        now_s = time.monotonic()
        if self._job is not None and self._job[1].done() and now_s >= self._settle_s:
            self._settle(*self._job)
        if not free:
            self._next_s = max(self._next_s, now_s + QUIET_S)
            self._interrupt()
        elif self._job is None and now_s >= self._next_s:
            self._next_s = now_s + LOOK_S
            self._begin_one()

    def _interrupt(self) -> None:
        if self._job is not None and not self._job[1].done():
            self.stop()

    def _begin_one(self) -> None:
        names = self._tickets.names()
        for name, ticket in self._tickets.read(reversed(names) if self._errand.newest_first else names):
            try:
                look = self._errand.look(ticket)
                if look is Look.DO:
                    self._pool = self._pool or self._errand.pool()
                    self._job = name, self._errand.begin(self._pool, name, ticket)
                    return
            except (ScanError, KeyError, TypeError) as error:
                self._give_up(name, f"its ticket is none: {error}")
                continue
            if look is Look.DONE:
                self._tickets.drop(name)
        if not self._tickets.names():
            self.stop()

    def _settle(self, name: str, future: Future[Any]) -> None:
        error = future.exception()
        if error is not None:
            self._job = None
            self._failed(name, error)
            return
        try:
            self._errand.done(name, future.result())
        except OSError as full:
            about_run(self._service.name, name).warning("what was found is not noted yet: %s", full)
            self._settle_s = time.monotonic() + PAUSE_S
            return
        except (ScanError, KeyError, TypeError, ValueError) as wrong:
            self._job = None
            self._give_up(name, f"what was found is no result: {type(wrong).__name__} {wrong}")
            return
        self._job = None
        self._forget(name)

    def _failed(self, name: str, error: BaseException) -> None:
        found = dict(self._tickets.read([name])).get(name)
        noted = int(found.get("tries", 0)) if found is not None else MAX_TRIES
        tries = 1 + max(noted, self._tries.get(name, 0))
        if isinstance(error, StorageError) and self._errand.waits_for_room:
            self._next_s = time.monotonic() + PAUSE_S
        elif found is None or isinstance(error, BlockingIOError):  # somebody else is at it
            self._errand.left(name, over=found is None)
        elif isinstance(error, BrokenExecutor | MemoryError | OSError) and tries < MAX_TRIES:
            self._errand.left(name, over=False)
            self._put_again(name, {**found, "tries": tries})
        else:
            self._give_up(name, str(error) or type(error).__name__)

    def _put_again(self, name: str, ticket: dict[str, Any]) -> None:
        self._tries[name] = ticket["tries"]
        try:
            self._tickets.put(name, ticket)
        except OSError as error:
            about_run(self._service.name, name).warning("that it was tried is not noted: %s", error)

    def _give_up(self, name: str, why: str) -> None:
        about_run(self._service.name, name).warning("%s: %s", self._errand.given_up, why)
        self._forget(name)

    def _forget(self, name: str) -> None:
        self._tickets.drop(name)
        self._tries.pop(name, None)
        self._errand.left(name, over=True)

    def stop(self) -> None:
        """What was not finished is in its ticket."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        if self._job is not None:
            name, self._job = self._job[0], None
            self._errand.left(name, over=False)
