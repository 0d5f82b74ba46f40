"""How far a job in another process, or on another machine, is: it writes that to a file, which the service reads.

Jobs see the storage folder anyhow, so a file does for the process pool and for a cluster alike. Where it cannot be
written or is not seen, the job is at work and nothing else is known of it.
"""

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from statistics import median
from typing import Any

SAY_S = 0.5
# A pace is known once a share of the work, and some time, went by; what came before (imports, reading) is left
# out.
PACED_SHARE, PACED_S = 0.05, 1.0
LIKE = 1.25  # runs whose numbers of frames differ by less take about as long
REMEMBERED = 5


class FileProgress:
    """In the job: `reconstruct`'s progress into a file, whole or not there, twice a second at most."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next_s = 0.0

    def __call__(self, share: float, text: str) -> None:
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + SAY_S
        partial = self._path.with_suffix(f".{os.getpid()}.partial")
        with suppress(OSError):  # the work does not wait for room to tell of it
            partial.write_text(json.dumps({"share": share, "text": text}), encoding="utf-8")
            partial.replace(self._path)


@dataclass(slots=True)
class JobProgress:
    """In the service: what a job has said. Times are the service's own, so that no other clock matters."""

    name: str
    run: str
    frames: int
    path: Path
    began_s: float
    share: float | None = None
    text: str = ""
    heard_s: float = 0.0
    _first: tuple[float, float] | None = None

    def look(self, now_s: float) -> None:
        """Read what is there; a file that is not, or is no JSON of ours, changes nothing."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            said = json.loads(self.path.read_text(encoding="utf-8"))
            share, text = min(max(float(said["share"]), 0.0), 1.0), str(said["text"])
            if (share, text) != (self.share, self.text):
                self.share, self.text, self.heard_s = share, text, now_s
                self._first = self._first or (now_s, share)

    def left_s(self, now_s: float, usual_s: float | None) -> float | None:
        """Seconds to its end, by its own pace, before that by what such runs took; None where neither is known, or
        it has taken longer than they did. While it says nothing, what is left grows: it is not counted down."""
        if self._first is not None and self.share is not None:
            first, elapsed_s = self._first[1], now_s - self._first[0]
            if self.share - first >= PACED_SHARE and elapsed_s >= PACED_S:
                return elapsed_s * (1 - self.share) / (self.share - first)
        if usual_s is not None and usual_s > now_s - self.began_s:
            return usual_s - (now_s - self.began_s)
        return None

    def fields(self, now_s: float, usual_s: float | None) -> dict[str, Any]:
        """As the update `queue` has it."""
        return {
            "run": self.run,
            "name": self.name,
            "share": self.share,
            "text": self.text,
            "seconds": now_s - self.began_s,
            "quiet_s": now_s - max(self.heard_s, self.began_s),
            "left_s": self.left_s(now_s, usual_s),
        }

    def close(self) -> None:
        """Nobody looks any more."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
            for half in self.path.parent.glob(f"{escape(self.path.stem)}.*.partial"):  # of a job that was ended
                half.unlink(missing_ok=True)


@dataclass(slots=True)
class Durations:
    """How long runs took lately, by their numbers of frames."""

    taken: list[tuple[int, float]] = field(default_factory=list)

    def add(self, frames: object, seconds: object) -> None:
        """What is no number is not remembered."""
        if isinstance(frames, int) and isinstance(seconds, int | float) and frames > 0 and seconds > 0:
            self.taken.append((frames, float(seconds)))

    def usual_s(self, frames: int) -> float | None:
        """The median of the last few of like size; None where there is none."""
        like = [seconds for other, seconds in self.taken if max(other, frames) < LIKE * min(other, frames)]
        return median(like[-REMEMBERED:]) if like else None


def empty(folder: Path) -> Callable[[str], Path]:
    """Clear a folder of what killed jobs left, and name new files in it."""
    for old in folder.iterdir():
        with suppress(OSError):
            old.unlink()
    # a name of its own each time: a job that a killed service left on a cluster writes to the old one
    return lambda run: folder / f"{run}_{time.time_ns()}.json"
