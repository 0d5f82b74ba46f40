"""Runs from start to stop, as tickets: whatever was missed is found in the journals, or by its file."""

import math
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

from live_bcdi.stream import journal
from live_bcdi.stream.run import is_rocking_run, run_plan
from live_bcdi.transport.frames import FrameFile, parts_of
from live_bcdi.types import ScanError

from .backlog import Backlog
from .files import frame_file_of, recorded_file
from .service import Service
from .tickets import Tickets

LOOK_BACK_S = 5.0
LOOK_FOR_RECORDED_S = 0.3
NAMELESS_S = 60.0  # the archiver may be away as well, and takes the file's name from the RunEngine's journal later
QUIET_S = 600.0  # a file that has not grown for so long is of a scan that ended, though nobody saw it end
FORGOTTEN_S = 86400.0  # nor does a run go on that said nothing for a day, and whose file is not there
NOTE_AGAIN_S = 5.0


class Runs:
    """A run under way is a ticket in `queue/open/`: its start document, its file of frames. At its stop, or when
    it is seen to be over, the backlog gets it. A document that comes again changes nothing."""

    def __init__(self, service: Service, backlog: Backlog) -> None:
        self._service, self._backlog = service, backlog
        self._open = Tickets(service.folder("queue/open"))
        documents = service.folder("documents")
        self._journals = (documents, documents / "sent", documents / "refused")
        self._known: dict[str, str] = {}
        self._unnoted: deque[tuple[str, str, dict[str, Any], float | None]] = deque()
        self._note_again_s = 0.0
        self._next_look_s = self._next_recorded_s = 0.0
        self._recorded = service.config.stream.recorded
        self._not_ours: set[str] = set()
        self._find_missed()

    @property
    def under_way(self) -> bool:
        """Whether a run is measured now, as far as we know."""
        return bool(self._open.names())

    def document(self, name: str, doc: dict[str, Any], heard_s: float | None = None) -> None:
        """Follow a run; `heard_s` is when its stop was heard. On a full disk it is kept until it can be noted."""
        run = journal.run_of(name, doc, self._known)
        if run is None or name not in ("start", "stream_resource", "stop"):
            return
        self._unnoted.append((run, name, doc, heard_s))
        if time.monotonic() >= self._note_again_s:
            self._note()

    def work(self) -> None:
        """Note what a full disk did not take, and look for runs whose end was not heard."""
        now_s = time.monotonic()
        if self._unnoted and now_s >= self._note_again_s:
            self._note()
        try:
            self._look(now_s)
        except OSError as error:
            self._not_noted(error)

    def _look(self, now_s: float) -> None:
        if not self._unnoted and now_s >= self._next_look_s:
            self._next_look_s = now_s + LOOK_BACK_S
            self._find_missed()
            self._look_back()
        if self._recorded and now_s >= self._next_recorded_s:
            self._next_recorded_s = now_s + LOOK_FOR_RECORDED_S
            self._look_for_recorded()

    def _note(self) -> None:
        while self._unnoted:
            try:
                self._follow(*self._unnoted[0])
            except OSError as error:
                self._not_noted(error, self._unnoted[0][0])
                return
            self._unnoted.popleft()
        self._note_again_s = 0.0

    def _not_noted(self, error: OSError, run: str = "") -> None:
        """Say it once, and try again in a while."""
        if not self._note_again_s:
            self._service.notice("error", f"the run is not noted on disk yet: {error}", run)
        self._note_again_s = time.monotonic() + NOTE_AGAIN_S

    def _follow(self, run: str, name: str, doc: dict[str, Any], heard_s: float | None) -> None:
        opened = dict(self._open.read([run])).get(run)
        if name == "start":
            if is_rocking_run(doc) and not self._backlog.has(run):
                new = {"file": self._recorded_file(doc), "tries": 0, "heard_s": None}
                self._open.put(run, {**new, **(opened or {}), "start": doc})
        elif opened is not None and name == "stop":
            self._stopped(run, {**opened, "heard_s": heard_s}, _time_of(doc))
        elif opened is not None and not self._recorded and (path := frame_file_of(doc)):
            self._named(run, {**opened, "file": path})

    def _named(self, run: str, ticket: dict[str, Any]) -> None:
        """Its file is known: it may be what a run that has stopped waits for."""
        if "stopped_s" in ticket:
            self._over(run, ticket, ticket["stopped_s"])
        else:
            self._open.put(run, ticket)

    def _recorded_file(self, start: dict[str, Any]) -> str | None:
        """Where the recorder keeps the frames; None where the documents name the detector's own file."""
        try:
            return str(recorded_file(self._service.folder("frames"), start)) if self._recorded else None
        except ScanError:
            return None  # live says what the start document lacks

    def _stopped(self, run: str, ticket: dict[str, Any], stopped_s: float) -> None:
        """The run is over, or will be once its file is known, and the recorder has finished it."""
        if ticket["file"] is None or self._recorded:
            self._open.put(run, {**ticket, "stopped_s": stopped_s})
        else:
            self._over(run, ticket, stopped_s)

    def _over(self, run: str, ticket: dict[str, Any], stopped_s: float) -> None:
        self._backlog.add(run, ticket, stopped_s)
        self._open.drop(run)

    def _find_missed(self) -> None:
        """Open a ticket for every journal that no ticket stands for: a run measured while we were away, or whose
        start went past us with a broker that died."""
        known = self._backlog.runs() | set(self._open.names()) | self._not_ours
        for run in set().union(*map(journal.runs_in, self._journals)) - known:
            documents = [each for each in self._journalled(run) if each[0] in ("start", "stream_resource")]
            if any(name == "start" and not is_rocking_run(doc) for name, doc in documents):
                self._not_ours.add(run)
            for name, doc in documents:
                self.document(name, doc)

    def _look_back(self) -> None:
        """Owe open runs whose stop went past us: it is in the journal, or their file is full or long quiet."""
        for run, ticket in self._open:
            documents = self._journalled(run)
            if "stopped_s" not in ticket and any(name == "stop" for name, _ in documents):
                for name, doc in documents:  # its file may be what went past us, too
                    self.document(name, doc)
            elif "stopped_s" in ticket and ticket["file"] is None:
                self._look_for_name(run, ticket, documents)
            elif _is_over(ticket) or self._open.age_s(run) > FORGOTTEN_S:
                self._over(run, ticket, ticket.get("stopped_s") or time.time())

    def _look_for_name(self, run: str, ticket: dict[str, Any], documents: list[journal.Document]) -> None:
        """Of a run whose stop was heard, but not its file; in the end it is given up, with that as the reason."""
        for name, doc in documents:
            if name == "stream_resource":
                self.document(name, doc)
        if self._open.age_s(run) > NAMELESS_S:
            self._over(run, ticket, ticket["stopped_s"])

    def _look_for_recorded(self) -> None:
        for run, ticket in self._open:
            if "stopped_s" in ticket and _is_over(ticket):
                self._over(run, ticket, ticket["stopped_s"])

    def _journalled(self, run: str) -> list[tuple[str, dict[str, Any]]]:
        """What the archiver wrote down of a run."""
        told: list[tuple[str, dict[str, Any]]] = []
        for folder in self._journals:
            with suppress(FileNotFoundError):  # it moves them
                told += journal.read(folder / f"{run}.jsonl")
        return told


def _time_of(document: dict[str, Any]) -> float:
    """When a document says that it was made; now, where it does not say."""
    said = document.get("time")
    return float(said) if isinstance(said, int | float) else time.time()


def _is_over(ticket: dict[str, Any]) -> bool:
    """Whether a run's file is finished, holds all its frames, or has not grown for long."""
    if ticket["file"] is None:
        return False
    try:
        newest_s = max(path.stat().st_mtime for path in parts_of(Path(ticket["file"])))
        if time.time() - newest_s > QUIET_S:
            return True
        with FrameFile(ticket["file"], wait_s=0.0) as frames:
            return frames.finished or frames.count() >= run_plan(ticket["start"]).num
    except (OSError, ScanError):
        return time.time() - ticket.get("stopped_s", math.inf) > QUIET_S
