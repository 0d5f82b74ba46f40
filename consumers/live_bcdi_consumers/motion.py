"""The errand of runs whose motion nobody found, as live was killed: refine's service finds it.

A ticket in `queue/motion/` stands for every run until its motion is known and owed to Tiled, whoever holds its
claim at the moment.
"""

from concurrent.futures import Future
from typing import Any

from live_bcdi.jobs import JobPool

from .errands import Look
from .service import Service
from .tracking import NICE, is_claimed, is_tracked, track_run


class Motion:
    """An `Errand`. Its tickets are {start, file}."""

    folder = "queue/motion"
    newest_first = False
    waits_for_room = True
    given_up = "its motion is not tracked"

    def __init__(self, service: Service) -> None:
        self._service = service

    def ticket(self, run: dict[str, Any], summary: dict[str, Any] | None) -> dict[str, Any] | None:
        if not self._service.config.live.track or not run.get("file"):
            return None
        return {"start": run["start"], "file": str(run["file"])}

    def look(self, ticket: dict[str, Any]) -> Look:
        known = is_tracked(ticket["start"], self._service.config.operando, self._service.directory)
        # asked also where all is known: it takes away the claim of who was killed before letting go
        if is_claimed(self._service.directory, str(ticket["start"]["uid"])):
            return Look.LATER
        return Look.DONE if known else Look.DO

    def pool(self) -> JobPool:
        return JobPool(workers=1, threads=1, nice=NICE)

    def begin(self, pool: JobPool, name: str, ticket: dict[str, Any]) -> Future[None]:
        return pool.submit(track_run, ticket["start"], ticket["file"], self._service.config)

    def done(self, name: str, found: None) -> None:
        """It is kept, and owed, where it was found."""

    def left(self, name: str, *, over: bool) -> None:
        """Nothing is kept of it."""
