"""Documents on disk, one JSON array `[name, document]` a line, so that nothing received is lost with a process."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_UID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


def append(path: Path, name: str, doc: Mapping[str, Any]) -> None:
    """Add a document; on disk for good once it is the `stop`."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps([name, doc], default=str) + "\n")
        if name == "stop":
            file.flush()
            os.fsync(file.fileno())


def read(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The documents; a last line that was cut off by a crash is left out."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            try:
                name, doc = json.loads(line)
            except ValueError:
                return
            yield name, doc


def known_runs(path: Path) -> dict[str, str]:
    """What `run_of` remembered of the documents in a journal."""
    runs: dict[str, str] = {}
    for name, doc in read(path):
        run_of(name, doc, runs)
    return runs


def missing_events(path: Path) -> dict[str, int]:
    """Stream name -> events that the stop document counts and the journal does not hold; empty where none are."""
    streams: dict[str, str] = {}
    held: dict[str, int] = {}
    counted: dict[str, int] = {}
    for name, doc in read(path):
        if name == "descriptor":
            streams[doc["uid"]] = doc["name"]
        elif name == "event":
            stream = streams.get(doc["descriptor"], "?")
            held[stream] = held.get(stream, 0) + 1
        elif name == "stop":
            counted = dict(doc.get("num_events") or {})
    return {name: count - held[name] for name, count in counted.items() if name in held and held[name] < count}


def is_complete(path: Path) -> bool:
    """Whether the run's `stop` document came."""
    return any(name == "stop" for name, _ in read(path))


def run_of(name: str, doc: Mapping[str, Any], runs: dict[str, str]) -> str | None:
    """The run uid that a document belongs to; `runs` remembers, from descriptor or resource uid to run uid.

    None where the document refers to something never seen, or a uid is not one: uids become file names.
    """
    if name == "start":
        run = doc.get("uid")
    elif name in ("descriptor", "resource", "stream_resource", "stop"):
        run = doc.get("run_start")
    else:
        run = runs.get(str(doc.get("descriptor") or doc.get("resource")))
    if not isinstance(run, str) or not _UID.fullmatch(run):
        return None
    if name in ("descriptor", "resource", "stream_resource"):
        runs[str(doc.get("uid"))] = run
    return run
