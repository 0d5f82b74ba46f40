"""Checks of what is left to do, and of how often services had to be started again."""

import json
import os
import re
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

from .finding import Findings, ok, warning
from .network import Heard

CHECK = "backlog"
TAIL_BYTES = 1 << 20  # of a log
DAY_S = 86400.0
MANY_RESTARTS = 3
_ENDED = re.compile(r"(\w+) ended with status")

_REFUSED = {  # folder of what is put aside -> what it is, and what to do
    "queue/failed": (
        "run(s) without a result",
        "Do what the reason says; then `live-bcdi replay` of its journal, or `live-bcdi phase` of its file.",
    ),
    "outbox/refused": (
        "result(s) that Tiled refused",
        "Tiled's own log has the reason; move the files back one folder, and start the services again.",
    ),
    "documents/refused": (
        "run(s) whose documents Tiled refused",
        "Tiled's own log has the reason; move the files back one folder, and start the services again.",
    ),
}
_WAITING = {
    "queue": "run(s) to refine",
    "queue/later": "run(s) put off",
    "queue/dynamical": "result(s) to refine further",
    "outbox": "result(s) for Tiled",
    "outbox/dynamical": "result(s) of the theory they needed, for Tiled",
    "outbox/tracking": "scan(s) and series whose motion is for Tiled",
    "documents": "run(s) for Tiled",
}


def backlog(directory: Path, heard: Heard) -> Findings:
    """What was refused or failed, and what waits while nobody works."""
    found = []
    for folder, (what, do) in _REFUSED.items():
        if files := _tickets(directory / folder):
            reason = _reason(files[-1])
            found.append(warning(CHECK, f"{len(files)} {what} in {directory / folder}{reason}.", do))
    for folder in _WAITING:
        if files := sorted((directory / folder).glob("*.unreadable")):
            do = "They were damaged by something else; look at them, and remove them."
            found.append(warning(CHECK, f"{len(files)} ticket(s) in {directory / folder} cannot be read.", do))
    waiting = {what: len(_tickets(directory / folder)) for folder, what in _WAITING.items()}
    counts = ", ".join(f"{number} {what}" for what, number in waiting.items() if number)
    if counts and not heard:
        do = "`live-bcdi up` takes them up; nothing is lost."
        found.append(warning(CHECK, f"This waits, and no service runs: {counts}.", do))
    return found or [ok(CHECK, f"Under way: {counts}." if counts else "Nothing is owed.")]


def _tickets(folder: Path) -> list[Path]:
    """Oldest first: names of tickets begin with the time."""
    return sorted(path for path in folder.glob("*.json*") if path.suffix in (".json", ".jsonl"))


def _reason(ticket: Path) -> str:
    if ticket.suffix != ".json":
        return ""
    try:
        error = json.loads(ticket.read_text(encoding="utf-8")).get("error")
    except (OSError, ValueError, AttributeError):
        return ""
    return f"; the newest says: {str(error).rstrip('.')}" if error else ""


def restarts(directory: Path, heard: Heard, now_s: float | None = None) -> Findings:
    """How long each service has run, and how often one ended by itself in a day, from the supervisor's log."""
    now_s = time.time() if now_s is None else now_s
    ended = Counter[str]()
    for record in _records(directory / "log" / "supervisor.jsonl"):
        if (match := _ENDED.match(str(record.get("message")))) and now_s - _time_s(record) < DAY_S:
            ended[match[1]] += 1
    if often := {name: number for name, number in ended.items() if number >= MANY_RESTARTS}:
        counts = ", ".join(f"{name} {number} times" for name, number in often.items())
        do = f"The reason is in {directory / 'log'}/SERVICE.jsonl."
        return [warning("restarts", f"In the last day these ended by themselves: {counts}.", do)]
    few = ", ".join(f"{name} {number}" for name, number in ended.items()) or "none"
    ages = {name: process_age_s(fields.get("pid")) for name, fields in heard.items()}
    running = ", ".join(f"{name} {_age(age_s)}" for name, age_s in ages.items() if age_s is not None)
    return [ok("restarts", f"Services that ended by themselves in the last day: {few}.")] + (
        [ok("restarts", f"Running for: {running}.")] if running else []
    )


def process_age_s(pid: object) -> float | None:
    """Seconds since process `pid` began; None where it is not one of ours on this computer."""
    folder = Path(f"/proc/{pid}")
    try:
        if b"live_bcdi" not in (folder / "cmdline").read_bytes():
            return None
        began_ticks = int((folder / "stat").read_text().rpartition(")")[2].split()[19])  # proc(5): starttime
        up_s = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return up_s - began_ticks / os.sysconf("SC_CLK_TCK")


def _records(log: Path) -> list[dict[str, object]]:
    """The newest records of a log; what is no record is left out."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            found.append(record)
    return found


def _time_s(record: dict[str, object]) -> float:
    try:
        return datetime.fromisoformat(str(record.get("time"))).timestamp()
    except ValueError:
        return 0.0


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
