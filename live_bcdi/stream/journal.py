"""Documents on disk, one JSON array `[name, document]` a line, so that nothing received is lost with a process."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def append(path: Path, name: str, doc: Mapping[str, Any]) -> None:
    """Add a document; on disk for good once it is the `stop`."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps([name, doc]) + "\n")
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


def is_complete(path: Path) -> bool:
    """Whether the run's `stop` document came."""
    return any(name == "stop" for name, _ in read(path))


def run_of(name: str, doc: Mapping[str, Any], runs: dict[str, str]) -> str | None:
    """The run uid that a document belongs to; `runs` remembers, from descriptor or resource uid to run uid.

    None where the document refers to something never seen.
    """
    if name == "start":
        return str(doc["uid"])
    if name == "descriptor":
        runs[doc["uid"]] = doc["run_start"]
        return str(doc["run_start"])
    if name in ("resource", "stream_resource") and doc.get("run_start"):
        runs[doc["uid"]] = doc["run_start"]
        return str(doc["run_start"])
    if name == "stop":
        return str(doc["run_start"])
    return runs.get(doc.get("descriptor") or doc.get("resource") or "")
