"""Growth of memory is a slope that is known here, and a process that ended is no longer alive."""

import os
import subprocess
import sys

from live_bcdi.faults import memory
from live_bcdi.faults.memory import Memory, alive, resident_mb


def test_growth_is_that_of_the_process_that_saw_most_scans(monkeypatch):
    sizes = {}
    monkeypatch.setattr(memory, "resident_mb", lambda pid: sizes[pid])
    weighed = Memory()
    for scan in range(100):
        sizes[1] = 200 + 0.5 * scan + (50 if scan < 5 else 0)
        weighed.note("live", 1, scan)
    for scan in range(100, 120):
        sizes[2] = 100
        weighed.note("live", 2, scan)
    told = weighed.report()["live"]
    assert (told["first_mb"], told["last_mb"], told["max_mb"]) == (205, 249.5, 252)
    assert (told["processes"], told["scans"], told["mb_per_100_scans"]) == (2, 89, 50.0)


def test_too_few_scans_say_nothing_of_growth(monkeypatch):
    monkeypatch.setattr(memory, "resident_mb", lambda pid: 100.0)
    weighed = Memory()
    for scan in range(20):
        weighed.note("page", 1, scan)
    assert weighed.report()["page"]["mb_per_100_scans"] is None


def test_memory_and_life_of_real_processes():
    assert resident_mb(os.getpid()) > 10
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert alive(child.pid)
    assert child.pid in memory.children(os.getpid())
    child.kill()
    while alive(child.pid):
        pass
    assert resident_mb(child.pid) in (None, 0.0)
    child.wait()
    assert not alive(child.pid)
