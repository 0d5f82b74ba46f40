"""Documents on disk, one JSON array `[name, document]` a line, so that nothing received is lost with a process.

Documents may come twice, in any order, or not at all. A run is whole when every document that its `stop` counts is
there; `in_order` is then what the RunEngine sent, or what is as good.
"""

import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

from ..types import ScanError
from .documents import DOCUMENT_NAMES, UID

Document: TypeAlias = tuple[str, dict[str, Any]]
REFERRED_TO = ("descriptor", "resource", "stream_resource")  # what others name by its uid

MOST_KNOWN = 10_000  # descriptors and resources: those of a thousand runs
MOST_EVENTS = 1_000_000  # of one datum; a number beyond it is a mistake that would take all memory

_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, IndexError)  # a document is what somebody sent
_RANK = {"start": 0, "descriptor": 1, "resource": 2, "stream_resource": 2, "datum": 3, "datum_page": 3, "stop": 6}


def append(path: Path, name: str, doc: Mapping[str, Any]) -> None:
    """Add a document; on disk for good once it is the `stop`.

    Raises OSError where the disk is full; the journal is then as it was.
    """
    line = json.dumps([name, doc], default=str).encode() + b"\n"
    with path.open("a+b", buffering=0) as file:  # a buffer would be written once more when it is closed
        end = file.seek(0, os.SEEK_END)
        if end and _last_byte(file.fileno(), end) != b"\n":
            line = b"\n" + line  # whoever wrote before us was killed within a line
        try:
            if file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if name == "stop":
                os.fsync(file.fileno())
        except OSError:
            os.ftruncate(file.fileno(), end)
            if not end:
                path.unlink(missing_ok=True)
            raise


def _last_byte(descriptor: int, end: int) -> bytes:
    return os.pread(descriptor, 1, end - 1)


def read(path: Path) -> Iterator[Document]:
    """The documents; a line that was cut off by a crash is left out."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                name, doc = json.loads(line)
            except (ValueError, TypeError, RecursionError):
                continue
            if isinstance(name, str) and name in DOCUMENT_NAMES and isinstance(doc, dict):
                yield name, doc


def is_journal(path: Path) -> bool:
    """Whether a file begins as a journal does, with the start document of a run."""
    try:
        with path.open("rb") as file:
            begins = file.read(2)
        return begins == b"[" + b'"' and next(read(path), ("", {}))[0] == "start"
    except OSError:
        return False


def read_run(path: Path) -> list[Document]:
    """The documents of one run, each once and in order. Raises ScanError where `path` is no journal of one."""
    try:
        documents = list(in_order(read(path)))
    except OSError as error:
        raise ScanError(f"{path} cannot be read: {error.strerror}") from None
    starts = [doc for name, doc in documents if name == "start"]
    if len(starts) != 1:
        raise ScanError(f"{path} is no journal of a run: it holds {len(starts)} start documents, not 1")
    if not UID.fullmatch(str(starts[0].get("uid"))):
        raise ScanError(f"{path} is no journal of a run: the uid of its start document is no uid")
    return documents


def key_of(name: str, doc: Mapping[str, Any]) -> str:
    """What two copies of a document have in common and no other has."""
    uid = doc.get("uid") or doc.get("datum_id")
    return f"{name} {json.dumps(uid, default=str) if isinstance(uid, str | list) else _text(doc)}"


def _text(doc: Mapping[str, Any]) -> str:
    return json.dumps(doc, sort_keys=True, default=str)


def runs_in(folder: Path, suffix: str = ".jsonl") -> set[str]:
    """Runs that have a journal in `folder`; none where it is not there. Some folders grow for ever, and are looked
    at every few seconds."""
    try:
        names = os.listdir(folder)  # noqa: PTH208  a third of the time that 20,000 paths take
    except FileNotFoundError:
        return set()
    return {name.removesuffix(suffix) for name in names if name.endswith(suffix)}


class Journal:
    """One run's documents in a file, each once. `add` is for one thread at a time; others may look on.

    `runs` is taught what `run_of` would have remembered of them.
    """

    def __init__(self, path: Path, runs: dict[str, str] | None = None) -> None:
        self.path = path
        self._keys: set[str] = set()
        self._names: set[str] = set()
        for name, doc in read(path) if path.exists() else ():
            self._note(name, key_of(name, doc))
            if runs is not None:
                run_of(name, doc, runs)

    def _note(self, name: str, key: str) -> None:
        self._keys.add(key)
        self._names.add(name)

    def add(self, name: str, doc: Mapping[str, Any]) -> bool:
        """Append a document; False where it is there already. Raises OSError as `append` does."""
        key = key_of(name, doc)
        if key in self._keys:
            return False
        append(self.path, name, doc)
        self._note(name, key)
        return True

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def complete(self) -> bool:
        """Whether the run's start and stop came."""
        return {"start", "stop"} <= self._names

    def move(self, folder: Path) -> None:
        """Put the file into another folder."""
        self.path = self.path.replace(folder / self.path.name)


def is_complete(path: Path) -> bool:
    """Whether the run's `stop` document came."""
    return any(name == "stop" for name, _ in read(path))


def known_runs(path: Path) -> dict[str, str]:
    """What `run_of` remembered of the documents in a journal."""
    runs: dict[str, str] = {}
    for name, doc in read(path):
        run_of(name, doc, runs)
    return runs


def in_order(documents: Iterable[Document]) -> list[Document]:
    """Each document once: start, descriptors and resources as they came, events by number, stop.

    Of two events of one number the newer stands: a RunEngine that was paused reads a point again.
    """
    once: dict[str, Document] = {}
    for name, doc in documents:
        key = f"event {doc.get('descriptor')} {doc.get('seq_num')}" if name == "event" else key_of(name, doc)
        if key not in once or _time_s(doc) > _time_s(once[key][1]):
            once[key] = (name, doc)
    return sorted(once.values(), key=lambda item: (_RANK.get(item[0], 4), _number(item[1])))


def _time_s(doc: Mapping[str, Any]) -> float:
    time_s = doc.get("time")
    return time_s if isinstance(time_s, int | float) else 0.0


def _number(doc: Mapping[str, Any]) -> int:
    """What an event or a datum counts by; documents of another kind stay as they are."""
    try:
        number = doc["indices"]["start"] if "stream_resource" in doc else doc.get("seq_num", 0)
        return int(number[0] if isinstance(number, list) else number)
    except _MALFORMED:
        return 0


def missing(documents: Iterable[Document]) -> dict[str, int]:
    """What the stop document counts and `documents` do not hold, as `Held.missing`."""
    held = Held()
    for name, doc in documents:
        held.take(name, doc)
    return held.missing


class Held:
    """The event numbers that are there of one run: of a stream's events, and of each data key in a file."""

    def __init__(self) -> None:
        self._streams: dict[str, str] = {}
        self._keys: dict[str, str] = {}
        self._described: dict[str, dict[str, set[int]]] = {}
        self._counted: dict[str, int] = {}

    def take(self, name: str, doc: Mapping[str, Any]) -> None:
        """Count a document; a malformed one counts for nothing."""
        with suppress(*_MALFORMED):
            if name == "descriptor":
                self._describe(doc)
            elif name == "stream_resource":
                self._keys[doc["uid"]] = doc["data_key"]
            elif name == "stop":
                counts = dict(doc.get("num_events") or {})
                self._counted = {stream: count for stream, count in counts.items() if isinstance(count, int)}
            elif name in ("event", "event_page", "stream_datum"):
                stream = self._streams.get(doc["descriptor"], "")
                part = self._keys.get(doc["stream_resource"], "") if name == "stream_datum" else stream
                if (numbers := self._described.get(stream, {}).get(part)) is not None:
                    numbers.update(_numbers(doc))

    def _describe(self, doc: Mapping[str, Any]) -> None:
        stream, keys = doc["name"], doc.get("data_keys") or {}
        self._streams[doc["uid"]] = stream
        outside = [key for key, about in keys.items() if str(about.get("external", "")).startswith("STREAM")]
        events = [stream] if len(outside) < len(keys) or not keys else []
        parts = self._described.setdefault(stream, {})
        for part in (*events, *outside):
            parts.setdefault(part, set())

    @property
    def missing(self) -> dict[str, int]:
        """Stream -> events, data key -> frames or readings of a file that did not come though the stop document
        counts them. Empty where nothing is missing, and where there is no stop."""
        lacks: dict[str, int] = {}
        for stream, count in self._counted.items():
            for part, numbers in self._described.get(stream, {stream: set()}).items():
                if (lost := count - len(numbers)) > 0:
                    lacks[part] = lost
        return lacks


def _numbers(doc: Mapping[str, Any]) -> Sequence[int]:
    """The event numbers that a document is of. Raises one of `_MALFORMED`."""
    if "seq_num" in doc:
        return [
            int(number) for number in (doc["seq_num"] if isinstance(doc["seq_num"], list) else [doc["seq_num"]])
        ]
    numbers = range(doc["seq_nums"]["start"], doc["seq_nums"]["stop"])
    if len(numbers) > MOST_EVENTS:
        raise ValueError(f"a datum of {len(numbers)} events")
    return numbers


class InOrder:
    """Whether the documents of a run come as the RunEngine sends them, none left out and none behind another."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._next: dict[str, int] = {}

    def follows(self, name: str, doc: Mapping[str, Any]) -> bool:
        """Whether this one may come now; once one may not, nothing that comes later mends the order."""
        if name in ("event", "event_page", "stream_datum"):
            try:
                return self._counts_on(doc)
            except _MALFORMED:
                return False
        if name == "start" or not self._known:
            began = bool(self._known)
            self._known.add(str(doc.get("uid")))
            return name == "start" and not began
        self._known.add(str(doc.get("uid")))
        return True

    def _counts_on(self, doc: Mapping[str, Any]) -> bool:
        numbers = _numbers(doc)
        source = str(doc.get("stream_resource") or doc["descriptor"])
        expected = self._next.get(source, 1)
        self._next[source] = numbers[-1] + 1 if numbers else expected
        return {source, doc["descriptor"]} <= self._known and (not numbers or numbers[0] == expected)


def run_of(name: str, doc: Mapping[str, Any], runs: dict[str, str]) -> str | None:
    """The run uid that a document belongs to; `runs` remembers, from descriptor or resource uid to run uid, the
    newest `MOST_KNOWN`.

    None where the document refers to something never seen, or a uid is not one: uids become file names.
    """
    if name == "start":
        run = doc.get("uid")
    elif name in (*REFERRED_TO, "stop"):
        run = doc.get("run_start")
    else:
        run = runs.get(str(doc.get("descriptor") or doc.get("resource")))
    if not isinstance(run, str) or not UID.fullmatch(run):
        return None
    if name in REFERRED_TO:
        runs[str(doc.get("uid"))] = run
        if len(runs) > MOST_KNOWN:
            for uid in list(runs)[: MOST_KNOWN // 10]:
                runs.pop(uid, None)
    return run
