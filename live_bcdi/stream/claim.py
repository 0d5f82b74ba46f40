"""Who writes a run's journal: a lock beside it that goes with the process, however it ends.

A RunEngine that is killed sends no stop document, and nobody could tell it from one that waits. The lock can.
"""

import fcntl
import platform
import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from .journal import Document, runs_in

_EVENTS = ""  # stands beside the data keys in files for all that are in the events themselves
REASON = "the RunEngine's process ended within the run"


class Claim:
    """Held from a run's start to its stop by who writes `<run>.jsonl`. Raises OSError where it cannot be had."""

    def __init__(self, journal: Path) -> None:
        self._path = _lock_of(journal)
        self._file = self._path.open("a", encoding="utf-8")
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._file.truncate(0)
        self._file.write(platform.node())
        self._file.flush()

    def release(self) -> None:
        """The run is over."""
        self._path.unlink(missing_ok=True)
        self._file.close()


def abandoned(folder: Path) -> list[Path]:
    """Journals in `folder` whose writers died on this computer: locks of others cannot be judged from here."""
    locks = [folder / f"{run}.lock" for run in runs_in(folder, ".lock")]
    return [path.with_suffix(".jsonl") for path in locks if _is_dead(path)]


def forget(journal: Path) -> None:
    """Nobody will write this journal on."""
    _lock_of(journal).unlink(missing_ok=True)


def _lock_of(journal: Path) -> Path:
    return journal.with_suffix(".lock")


def _is_dead(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            if file.read() != platform.node():
                return False
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # it is held, or just taken away
        return False
    return True


def stop_of(documents: Iterable[Document]) -> dict[str, Any] | None:
    """The stop document that a dead RunEngine owes: it counts what is there whole. None without a start."""
    known = _Known()
    for name, doc in documents:
        with suppress(KeyError, TypeError, ValueError):  # of a line that was cut off, or refers to one
            known.take(name, doc)
    if not known.run:
        return None
    return {
        "uid": str(uuid.uuid4()),
        "run_start": known.run,
        "time": known.last_s or time.time(),
        "exit_status": "fail",
        "reason": REASON,
        "num_events": {stream: min(came.values(), default=0) for stream, came in known.counts.items()},
    }


class _Known:
    """What a journal tells of a run; `counts`: stream -> its events, or a data key in a file -> how many came."""

    def __init__(self) -> None:
        self.run, self.last_s = "", 0.0
        self.counts: dict[str, dict[str, int]] = {}
        self._streams: dict[str, str] = {}
        self._keys: dict[str, str] = {}

    def take(self, name: str, doc: Mapping[str, Any]) -> None:
        """Raises KeyError, TypeError or ValueError for a document that is not whole."""
        self.last_s = max(self.last_s, float(doc.get("time") or 0.0))
        if name == "start":
            self.run = str(doc["uid"])
        elif name == "descriptor":
            self._streams[doc["uid"]] = doc["name"]
            for key, about in doc["data_keys"].items():
                self.counts.setdefault(doc["name"], {}).setdefault(key if "external" in about else _EVENTS, 0)
        elif name == "stream_resource":
            self._keys[doc["uid"]] = doc["data_key"]
        elif name == "event":
            self.counts[self._streams[doc["descriptor"]]][_EVENTS] = int(doc["seq_num"])
        elif name == "stream_datum":
            part = self._keys[doc["stream_resource"]]
            self.counts[self._streams[doc["descriptor"]]][part] = int(doc["seq_nums"]["stop"]) - 1
