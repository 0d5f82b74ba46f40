"""The series that the newest result belongs to, as the page shows it.

All of it is in the results on disk, from where a refine service that was started again has it.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from live_bcdi.config import OperandoConfig
from live_bcdi.operando import Pattern, numbers_of, pattern_of, peak_table, series_fields
from live_bcdi.stream import journal
from live_bcdi.stream.state import series_of, state_of
from live_bcdi.stream.updates import Update
from live_bcdi.transport.results import read_result
from live_bcdi.types import Reconstruction, RockingScan, ScanError

from .service import Service
from .tickets import Tickets

KEPT = 500  # results, of all series
TELL_S = 30.0  # for a page that was started again
JOURNALS = ("documents", "documents/sent", "documents/refused")  # in the order in which they are moved


def operando_table(
    start: Mapping[str, Any], scanned: tuple[RockingScan, Reconstruction], settings: OperandoConfig, storage: Path
) -> dict[str, Any]:
    """What a scan and its result say of a run's place in a series: the table `operando` of its summary."""
    scan, result = scanned
    started_s = start.get("time")
    state = None
    if settings.state is not None:
        found = state_of(start, _documents(storage, str(start.get("uid"))), settings.state)
        state = {"name": settings.state, "unit": settings.unit, **found}
    return {
        "series": series_of(start, settings.series),
        "time_s": float(started_s) if isinstance(started_s, int | float) else time.time(),
        "state": state,
        **numbers_of(result),
        "peak": peak_table(result, scan),
    }


def _documents(storage: Path, run: str) -> Iterator[journal.Document]:
    """What the archiver wrote down of a run; nothing where it has not."""
    for folder in JOURNALS:
        with suppress(OSError):
            yield from journal.read(storage / folder / f"{run}.jsonl")


class Series:
    """Results by run, the newest KEPT; what the page shows of them is sent when it changes."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._results: dict[str, dict[str, Any]] = {}
        self._patterns: dict[str, Pattern | str] = {}
        self._changed = False
        self._next_tell_s = 0.0
        self._fields: dict[str, Any] | None = None
        done = Tickets(service.folder("queue/done"))
        for _, summary in done.read(done.names()[-KEPT:]):
            self.add(summary)

    def add(self, summary: Mapping[str, Any]) -> None:
        """Take a result; those of before there was a table `operando` are left out."""
        if not _is_whole(summary):
            return
        run = str(summary["run"])
        self._patterns.pop(run, None)  # it was refined again
        self._results[run] = dict(summary)
        ordered = sorted(self._results.values(), key=lambda each: float(each["operando"]["time_s"]))
        self._results = {each["run"]: each for each in ordered[-KEPT:]}
        self._changed = True

    def work(self) -> None:
        """One turn: read the pattern of one result that is not known yet, or send the series."""
        if self._changed:
            run = self._unread()
            if run is not None:
                self._patterns[run] = _pattern(self._results[run]["file"])
                return
            self._fields = series_fields(list(self._results.values()), self._patterns)
            self._changed, self._next_tell_s = False, 0.0
        if self._fields is not None and time.monotonic() >= self._next_tell_s:
            self._next_tell_s = time.monotonic() + TELL_S
            newest = str(self._fields["runs"][-1]["run"])
            self._service.updates.send(Update(topic="operando", run=newest, fields=self._fields))

    def _unread(self) -> str | None:
        series = next(reversed(self._results.values()))["operando"]["series"]
        for run, result in reversed(self._results.items()):
            if run not in self._patterns and result["operando"]["series"] == series:
                return run
        return None


def _is_whole(summary: Mapping[str, Any]) -> bool:
    """Whether a summary, which a file holds, is as `refine_run` makes it."""
    table = summary.get("operando")
    if not isinstance(table, dict) or not isinstance(table.get("time_s"), int | float):
        return False
    numbers = ("d_angstrom", "strain_std", "strain_std_error", "intensity")
    return (
        all(isinstance(summary.get(key), str) for key in ("run", "file"))
        and isinstance(table.get("series"), str)
        and isinstance(table.get("state", ""), dict | None)
        and all(isinstance(table.get(key, ""), int | float | None) for key in numbers)
    )


def _pattern(file: str) -> Pattern | str:
    """The pattern of a result file, or why there is none."""
    try:
        volume = read_result(Path(file)).volume
        return "its file has no intensities" if volume is None else pattern_of(volume)
    except ScanError as error:
        return str(error)
