"""The faults are the seed's, and are really done: to processes that sleep."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from live_bcdi.faults.saboteur import CALM, Fault, Kind, Moment, Saboteur, choose

SERVICES = ("broker", "refine")


def faults(seed, *, calm=False):
    chance = random.Random(seed)
    return [choose(chance, 20, SERVICES, calm=calm) for _ in range(300)]


def test_the_same_seed_gives_the_same_faults():
    assert faults(1) == faults(1) != faults(2)


def test_every_kind_comes_and_calm_scans_keep_their_processes():
    assert {fault.kind for scan in faults(0) for fault in scan} == set(Kind)
    assert {fault.kind for scan in faults(0, calm=True) for fault in scan} == set(CALM)
    assert any(not scan for scan in faults(0)), "there are controls"
    assert any(len(scan) > 1 for scan in faults(0)), "some come together"


class Sleepers:
    def __init__(self):
        command = [sys.executable, "-c", "import time; time.sleep(60)"]
        self.processes = {name: subprocess.Popen(command) for name in SERVICES}

    def pids(self):
        return {name: process.pid for name, process in self.processes.items() if process.poll() is None}


class Nobody:
    bad = False

    def send(self, number):
        return False


@pytest.fixture
def sleepers():
    services = Sleepers()
    yield services
    for process in services.processes.values():
        process.kill()
        process.wait()


def state_of(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_kill_is_done_at_its_frame_and_not_before(sleepers, tmp_path):
    saboteur = Saboteur(sleepers, Nobody(), Nobody(), tmp_path / "log")
    saboteur.arm([Fault(kind=Kind.KILL, target="broker", moment=Moment.FRAME, frame=3)], scan=7)
    saboteur.happens(7, Moment.FRAME, 2, "run")
    saboteur.happens(6, Moment.FRAME, 9, "another")
    saboteur.tick()
    assert set(sleepers.pids()) == {"broker", "refine"}
    saboteur.happens(7, Moment.FRAME, 3, "run")
    saboteur.tick()
    assert sleepers.processes["broker"].wait(5) == -signal.SIGKILL
    assert set(sleepers.pids()) == {"refine"}
    assert saboteur.done == {"kill broker": 1}
    line = json.loads((tmp_path / "log").read_text())
    assert (line["run"], line["scan"], line["target"], line["done"]) == ("run", 7, "broker", True)


def test_a_stalled_service_goes_on_in_time(sleepers, tmp_path):
    saboteur = Saboteur(sleepers, Nobody(), Nobody(), tmp_path / "log")
    pid = sleepers.pids()["refine"]
    saboteur.arm([Fault(kind=Kind.STALL, target="refine", for_s=0.3)], scan=0)
    saboteur.tick()
    assert wait_for_state(pid, "T")
    deadline_s = time.monotonic() + 10
    while state_of(pid) == "T" and time.monotonic() < deadline_s:
        saboteur.tick()
        time.sleep(0.02)
    assert state_of(pid) != "T"


def test_at_the_end_nobody_stays_stalled(sleepers, tmp_path):
    saboteur = Saboteur(sleepers, Nobody(), Nobody(), tmp_path / "log")
    pid = sleepers.pids()["refine"]
    saboteur.arm([Fault(kind=Kind.STALL, target="refine", for_s=60)], scan=0)
    saboteur.tick()
    assert wait_for_state(pid, "T")
    saboteur.end()
    assert wait_for_state(pid, "S")


def wait_for_state(pid, state):
    deadline_s = time.monotonic() + 5
    while state_of(pid) != state and time.monotonic() < deadline_s:
        time.sleep(0.01)
    return state_of(pid) == state


def test_a_fault_that_nobody_is_there_for_is_told_as_not_done(sleepers, tmp_path):
    saboteur = Saboteur(sleepers, Nobody(), Nobody(), tmp_path / "log")
    saboteur.arm([Fault(kind=Kind.KILL, target="page")], scan=0)
    saboteur.tick()
    assert saboteur.done == {"kill page": 0}
    assert json.loads((tmp_path / "log").read_text())["done"] is False
