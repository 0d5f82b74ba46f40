"""Processes as Linux shows them: who belongs to whom, and what memory each holds over the scans."""

from collections import defaultdict
from pathlib import Path

import numpy as np

FEWEST_SCANS = 30  # a line through fewer says nothing
WARM_UP = 10  # scans of a process that fill its caches


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def children(pid: int) -> list[int]:
    """Processes that a process started."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").glob("*/children"))
        return [int(child) for task in tasks for child in task.read_text().split()]
    except OSError:
        return []


def workers(pid: int) -> list[int]:
    """Worker processes of a service's pool."""
    return [child for child in children(pid) if b"spawn_main" in _command(child)]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def resident_mb(pid: int) -> float | None:
    """Resident memory in MB; None where the process is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return None
    return pages * 4096 / 1e6


class Memory:
    """Resident memory of every process, by name and process id, over the number of scans measured."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, int], list[tuple[int, float]]] = defaultdict(list)

    def note(self, name: str, pid: int, scans: int) -> None:
        """Look at a process now."""
        size_mb = resident_mb(pid)
        if size_mb:
            self._seen[name, pid].append((scans, size_mb))

    def pids(self) -> set[int]:
        """All processes that were looked at."""
        return {pid for _, pid in self._seen}

    def report(self) -> dict[str, dict[str, float | int | None]]:
        """Of each name: largest MB, how many processes, and of the one that saw most scans, after the first few
        that fill its caches, the MB first and last, the scans, and the growth in MB per 100 scans."""
        told = {}
        for name in sorted({name for name, _ in self._seen}):
            lives = [seen for (other, _), seen in self._seen.items() if other == name]
            longest = max(lives, key=lambda seen: seen[-1][0] - seen[0][0])
            largest_mb = round(max(size for seen in lives for _, size in seen), 1)
            told[name] = {"max_mb": largest_mb, "processes": len(lives), **_growth(longest)}
        return told


def _growth(seen: list[tuple[int, float]]) -> dict[str, float | int | None]:
    scans, sizes = np.array([each for each in seen if each[0] >= seen[0][0] + WARM_UP] or seen[-1:]).T
    span = int(scans[-1] - scans[0])
    slope = None if span < FEWEST_SCANS else round(100 * float(np.polyfit(scans, sizes, 1)[0]), 2)
    ends = {"first_mb": round(float(sizes[0]), 1), "last_mb": round(float(sizes[-1]), 1)}
    return {**ends, "scans": span, "mb_per_100_scans": slope}
