"""Which faults, when, and doing them. Chosen by a seed before a scan, done at a moment of it, each one logged."""

import json
import os
import random
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from .memory import workers
from .relay import Relay
from .scanner import Scanner


class Kind(StrEnum):
    """What goes wrong."""

    KILL = "kill"  # SIGKILL of a service
    KILL_WORKER = "kill_worker"  # SIGKILL of a process that a service computes in
    STALL = "stall"  # SIGSTOP of a service, SIGCONT seconds later
    TILED_AWAY = "tiled_away"  # Tiled killed whenever it comes up, for seconds
    ABORT = "abort"  # SIGTERM of the plan
    KILL_PLAN = "kill_plan"  # SIGKILL of the RunEngine's process: the run never has a stop document
    BAD_STREAM = "bad_stream"  # frames lost, repeated and out of order on their way to the live view


class Moment(StrEnum):
    """When."""

    BEFORE = "before"  # before the scan is ordered
    FRAME = "frame"  # when so many frames are documented; 0 is the start document
    STOP = "stop"  # after the plan has ended
    RESULT = "result"  # while its result is delivered


WEIGHTS = {
    Kind.KILL: 30,
    Kind.KILL_WORKER: 10,
    Kind.STALL: 12,
    Kind.TILED_AWAY: 3,
    Kind.ABORT: 14,
    Kind.KILL_PLAN: 6,
    Kind.BAD_STREAM: 25,
}
CALM = (Kind.STALL, Kind.ABORT, Kind.BAD_STREAM)  # after which every process is still the same one
FAULTS_A_SCAN = {0: 55, 1: 32, 2: 10, 3: 3}  # number: weight; the scans without are the controls
WITH_WORKERS = ("refine", "live")
LONGEST_DELAY_S, LONGEST_STALL_S, LONGEST_AWAY_S = 1.5, 5.0, 12.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One fault: `frame` for `Moment.FRAME`, `delay_s` after the moment, `for_s` where it lasts."""

    kind: Kind
    target: str = ""
    moment: Moment = Moment.BEFORE
    frame: int = 0
    delay_s: float = 0.0
    for_s: float = 0.0


def choose(chance: random.Random, frames: int, services: Sequence[str], *, calm: bool) -> list[Fault]:
    """Faults of a scan of `frames` frames; `calm` without those that end a process."""
    count = chance.choices(list(FAULTS_A_SCAN), list(FAULTS_A_SCAN.values()))[0]
    weights = {kind: weight for kind, weight in WEIGHTS.items() if kind in CALM or not calm}
    kinds = chance.choices(list(weights), list(weights.values()), k=count)
    return [_fault(kind, chance, frames, services) for kind in kinds]


def _fault(kind: Kind, chance: random.Random, frames: int, services: Sequence[str]) -> Fault:
    if kind is Kind.BAD_STREAM:
        return Fault(kind=kind)
    if kind in (Kind.ABORT, Kind.KILL_PLAN):
        return Fault(kind=kind, moment=Moment.FRAME, frame=chance.randrange(frames))
    target = {Kind.KILL_WORKER: WITH_WORKERS, Kind.TILED_AWAY: ("tiled_server",)}.get(kind, tuple(services))
    return Fault(
        kind=kind,
        target=chance.choice(target),
        moment=chance.choice([Moment.BEFORE, Moment.FRAME, Moment.FRAME, Moment.STOP, Moment.RESULT]),
        frame=chance.randrange(frames),
        delay_s=chance.uniform(0, LONGEST_DELAY_S),
        for_s=chance.uniform(1, LONGEST_AWAY_S if kind is Kind.TILED_AWAY else LONGEST_STALL_S),
    )


class Services(Protocol):
    """The running services, by name."""

    def pids(self) -> dict[str, int]: ...


@dataclass(slots=True)
class _Armed:
    fault: Fault
    scan: int
    run: str = ""
    due_s: float | None = None
    until_s: float | None = None  # of one that lasts


class Saboteur:
    """`arm` the faults of a scan, tell what `happens`, and call `tick` often."""

    def __init__(self, services: Services, scanner: Scanner, relay: Relay, log: Path) -> None:
        self.done: dict[str, int] = {}
        self._services, self._scanner, self._relay = services, scanner, relay
        self._log = log
        self._armed: list[_Armed] = []
        self._stopped: set[int] = set()

    def arm(self, faults: Sequence[Fault], scan: int) -> None:
        """The faults of a scan that is about to be ordered."""
        self._relay.bad = any(fault.kind is Kind.BAD_STREAM for fault in faults)
        if self._relay.bad:
            self._note(Fault(kind=Kind.BAD_STREAM), scan, "", done=True)
        others = [fault for fault in faults if fault.kind is not Kind.BAD_STREAM]
        # what the last scan never came to is due no more; its result may still come
        self._armed = [each for each in self._armed if each.due_s is not None or _of_result(each)]
        self._armed += [_Armed(fault, scan) for fault in others]
        self.happens(scan, Moment.BEFORE)

    def happens(self, scan: int, moment: Moment, frame: int = 0, run: str = "") -> None:
        """A moment of a scan has come."""
        for each in self._armed:
            fault = each.fault
            if each.scan == scan and each.due_s is None and fault.moment is moment and frame >= fault.frame:
                each.run = run
                in_scan = fault.kind in (Kind.ABORT, Kind.KILL_PLAN)
                each.due_s = time.monotonic() + (0.0 if in_scan else fault.delay_s)

    def tick(self) -> None:
        """Do what is due, end what has lasted long enough."""
        now_s = time.monotonic()
        for each in [each for each in self._armed if each.due_s is not None and each.due_s <= now_s]:
            if each.until_s is None:
                each.until_s = now_s + each.fault.for_s
                self._note(each.fault, each.scan, each.run, done=self._do(each.fault))
            elif each.fault.kind is Kind.TILED_AWAY:
                self._kill(each.fault.target)
            if now_s >= each.until_s or each.fault.kind not in (Kind.STALL, Kind.TILED_AWAY):
                self._armed.remove(each)
                self._go_on()

    def end(self) -> None:
        """No fault goes on after this."""
        self._armed.clear()
        self._relay.bad = False
        self._go_on()

    def _do(self, fault: Fault) -> bool:
        """False where there was nobody to do it to."""
        if fault.kind is Kind.ABORT:
            return self._scanner.send(signal.SIGTERM)
        if fault.kind is Kind.KILL_PLAN:
            return self._scanner.send(signal.SIGKILL)
        pid = self._services.pids().get(fault.target)
        if fault.kind is Kind.KILL_WORKER:
            return any([_signalled(worker, signal.SIGKILL) for worker in workers(pid or 0)])
        if fault.kind is Kind.STALL and pid is not None:
            self._stopped.add(pid)
            return _signalled(pid, signal.SIGSTOP)
        return self._kill(fault.target)

    def _kill(self, name: str) -> bool:
        pid = self._services.pids().get(name)
        return pid is not None and _signalled(pid, signal.SIGKILL)

    def _go_on(self) -> None:
        """Let those go on that no armed fault still stalls."""
        stalled = {each.fault.target for each in self._armed if each.until_s and each.fault.kind is Kind.STALL}
        kept = {pid for name, pid in self._services.pids().items() if name in stalled}
        for pid in self._stopped - kept:
            _signalled(pid, signal.SIGCONT)
        self._stopped &= kept

    def _note(self, fault: Fault, scan: int, run: str, *, done: bool) -> None:
        name = f"{fault.kind} {fault.target}".strip()
        self.done[name] = self.done.get(name, 0) + done
        line: Mapping[str, Any] = {"time": time.time(), "scan": scan, "run": run, **asdict(fault), "done": done}
        with self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _of_result(armed: _Armed) -> bool:
    return armed.fault.moment in (Moment.STOP, Moment.RESULT)


def _signalled(pid: int, number: signal.Signals) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False
