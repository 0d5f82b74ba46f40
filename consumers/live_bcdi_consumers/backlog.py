"""What refine owes, in order: the newest run first; a bounded number of them waits, the rest is put off."""

import math
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from live_bcdi.stream.run import run_plan
from live_bcdi.stream.updates import Update
from live_bcdi.types import ScanError

from .service import Service
from .tickets import Tickets

_RECENT = 20
_MOST_S = 1e11  # a time beyond it (the year 5138) is none


class Backlog:
    """Runs to refine are tickets in `queue/`; beyond `most`, the oldest lie in `queue/later/`; what became of them
    is in `queue/done/` and `queue/failed/`. A name begins with the time when its run stopped."""

    def __init__(self, service: Service, most: int) -> None:
        self._service, self._most = service, most
        self._waiting = Tickets(service.folder("queue"))
        self._later = Tickets(service.folder("queue/later"))
        self._done = Tickets(service.folder("queue/done"))
        self._failed = Tickets(service.folder("queue/failed"))
        self._close_what_is_done(Tickets(service.folder("outbox")))
        self._refined = {_run_in(name) for name in self._done.names()}

    def _close_what_is_done(self, outbox: Tickets) -> None:
        """Who was killed between two notes left both: a run whose result is owed to Tiled, or was, is refined."""
        done = set(self._done.names())
        results = {name: summary for name, summary in outbox if summary.get("kind", "refined") == "refined"}
        for name, summary in results.items():
            if name not in done:
                self._done.put(name, summary)
        for owed in (self._waiting, self._later):
            for name in done.union(results).intersection(owed.names()):
                owed.drop(name)

    def has(self, run: str) -> bool:
        """Whether a run is refined or will be; one that failed may come again."""
        owed = (*self._waiting.names(), *self._later.names())
        return run in self._refined or any(_run_in(name) == run for name in owed)

    def runs(self) -> set[str]:
        """All runs that a ticket stands for."""
        owed = (*self._waiting.names(), *self._later.names(), *self._failed.names())
        return self._refined | {_run_in(name) for name in owed}

    def add(self, run: str, ticket: Mapping[str, Any], stopped_s: float) -> None:
        """Owe the refinement of a run that stopped then, once; without a frame file it is given up at once."""
        if self.has(run):
            return
        stamp = stopped_s if math.isfinite(stopped_s) and 0 <= stopped_s < _MOST_S else time.time()
        name = f"{stamp:017.6f}_{run}"
        if ticket["file"] is None:
            self.give_up(name, ticket, "its documents name no frame file that we can read")
            return
        self._waiting.put(name, ticket)
        for old in self._failed.names():
            if _run_in(old) == run:
                self._failed.drop(old)

    def next(self, running: Collection[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """(name, ticket) of those that wait, the newest first. With nothing else to do, of those put off."""
        for put_off in (False, True):
            if put_off and (names := self._later.names()) and not (set(self._waiting.names()) - set(running)):
                self._later.move(names[-1], self._waiting)
            names = [name for name in reversed(self._waiting.names()) if name not in running]
            if names:
                yield from self._waiting.read(names)
                return

    def put_off(self, running: Collection[str]) -> None:
        """Keep the newest `most` of those that wait, and put the others off; say so once until all are done."""
        waiting = [name for name in self._waiting.names() if name not in running]
        surplus = waiting[: max(0, len(waiting) - self._most)]
        if surplus and not self._later.names():
            self._service.notice(
                "warning",
                f"runs come faster than they are refined: of those that wait the newest {self._most} go first,"
                " the others when nothing else waits",
            )
        for name in surplus:
            self._waiting.move(name, self._later)

    def again(self, name: str, ticket: Mapping[str, Any]) -> None:
        """Note what changed of a ticket that waits."""
        self._waiting.put(name, ticket)

    def refined(self, name: str, summary: Mapping[str, Any]) -> None:
        self._done.put(name, summary)
        self._waiting.drop(name)
        self._refined.add(_run_in(name))

    def durations(self) -> list[tuple[Any, Any]]:
        """(planned frames, seconds) of the runs that were refined last."""
        newest = self._done.names()[-_RECENT:]
        return [(summary.get("num"), summary.get("seconds")) for _, summary in self._done.read(newest)]

    def give_up(self, name: str, ticket: Mapping[str, Any], reason: str) -> None:
        start = ticket["start"]
        scan, _ = planned_of(start)
        self._failed.put(name, {**ticket, "error": reason})
        self._waiting.drop(name)
        self._service.notice("error", f"no result for {scan}: {reason}", start["uid"])
        self._service.updates.send(
            Update(topic="result", run=start["uid"], fields={"name": scan, "error": reason})
        )

    def counts(self, running: Collection[str]) -> dict[str, int]:
        """Fields of the update `queue`."""
        waiting = [name for name in self._waiting.names() if name not in running]
        return {"running": len(running), "waiting": len(waiting), "later": len(self._later.names())}


def planned_of(start: Mapping[str, Any]) -> tuple[str, int]:
    """Name and number of frames of a run; "a run" of none, where its start document does not say."""
    with suppress(ScanError):
        plan = run_plan(start)
        return plan.name, plan.num
    return "a run", 0


def _run_in(name: str) -> str:
    return Path(name).name.partition("_")[2]
