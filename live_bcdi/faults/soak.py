"""Many small scans through the real system, with faults; what was lost in the end."""

import json
import logging
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..stream.updates import Update
from ..supervisor import Supervisor
from ..types import ScanError
from .checker import Checker
from .material import Material, write_configs
from .memory import Memory, alive, workers
from .oracle import Fate, Oracle, Run, leftovers, owed
from .relay import Relay
from .report import report
from .saboteur import Moment, Saboteur, choose
from .scanner import START_S, Scanner

RATES_HZ = (0.0, 0.0, 100.0, 40.0)
FLY_SHARE = 0.25
AHEAD = (0, 1, 2, 3, 5, 8)  # runs whose result may be owed when the next begins
OWED_S = 30.0  # longer than that no scan waits for the results of those before
SCAN_S = 60.0
SETTLE_S = 120.0
LOOK_S, MEMORY_S = 0.25, 2.0
TELL_EVERY = 50

logger = logging.getLogger("faults")
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """`calm`: so many scans first in which no process is ended, to see its memory; `seconds` ends it early."""

    scans: int = 1000
    seed: int = 0
    seconds: float | None = None
    calm: int = 0


def new_folder(keep: Path | None) -> Path:
    """An empty folder for a soak, a temporary one where `keep` is None. Raises ScanError where there are files."""
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="live-bcdi-faults-"))
    keep.mkdir(parents=True, exist_ok=True)
    if any(keep.iterdir()):
        raise ScanError(f"{keep} is not empty; a soak wants a folder of its own")
    return keep


def soak(beamline: Path, settings: Settings, folder: Path, *, keep: bool, say: Say) -> dict[str, Any]:
    """Measure with faults on a system of its own, configured as `beamline` on free ports; the report.

    All files are in `folder`, which goes in the end where nothing is wrong, unless one would `keep` it: then
    `report["wrong"]` is empty. `report.json` in it is written as the soak goes on, `faults.jsonl` has a line a
    fault. Raises ScanError where the system does not come up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    services, detector = write_configs(folder, beamline)
    told = _Soak(folder, services, detector, settings, say).run()
    if not keep and not told["wrong"]:
        shutil.rmtree(folder)
    return told


class _Soak:
    def __init__(self, folder: Path, services: Path, detector: Path, settings: Settings, say: Say) -> None:
        self._folder, self._settings, self._say = folder, settings, say
        self._config_path = services
        self._material = Material(folder / "scans", services)
        config = self._material.config
        self._storage = config.storage.directory
        self._chance = random.Random(settings.seed)
        self._memory = Memory()
        self._oracle = Oracle(self._storage, self._material)
        self._checker = Checker(config, self._oracle)
        frames = Material.frames_of(detector)
        self._relay = Relay(frames, config.stream.frames, settings.seed)
        self._words = (folder / "stderr.log").open("a", encoding="utf-8")
        self._scanner = Scanner(detector, self._words)
        self._runs: list[Run] = []
        self._owed: list[Run] = []
        self._current: Run | None = None
        self._ready = False
        self._next_look_s = self._next_memory_s = 0.0
        self._pids: set[int] = set()

    def run(self) -> dict[str, Any]:
        self._began_s = time.monotonic()
        try:
            with self._words, ExitStack() as stack:
                self._system = stack.enter_context(Supervisor(self._config_path, stderr=self._words))
                self._names = sorted(self._system.pids())
                stack.enter_context(self._relay)
                stack.enter_context(self._checker)
                stack.callback(self._scanner.end)
                self._saboteur = Saboteur(self._system, self._scanner, self._relay, self._folder / "faults.jsonl")
                stack.callback(self._saboteur.end)
                self._measure()
                self._settle()
        finally:
            told = self._write_report(over=True)
        return told

    def _measure(self) -> None:
        for number in range(self._settings.scans):
            seconds = self._settings.seconds
            if seconds is not None and time.monotonic() - self._began_s > seconds:
                return
            self._scan(number)
            if (number + 1) % TELL_EVERY == 0:
                self._tell()

    def _scan(self, number: int) -> None:
        """One scan with its faults; the seed decides about all that is not a matter of timing."""
        chance = self._chance
        file, rate_hz = chance.choice(self._material.files), chance.choice(RATES_HZ)
        num = len(self._material.scan(file).intensity)
        run = Run(number=number, file=file, num=num, fly=chance.random() < FLY_SHARE)
        calm = number < self._settings.calm
        faults = choose(chance, num, self._names, calm=calm)
        ahead = chance.choice(AHEAD)
        self._pump_until(lambda: len(self._owed) <= ahead, OWED_S)
        self._have_scanner()
        run.faults = [f"{fault.kind} {fault.target}".strip() for fault in faults]
        self._runs.append(run)
        self._current = run
        self._saboteur.arm(faults, number)
        if not self._scanner.order(file, rate_hz=rate_hz, fly=run.fly):
            self._ends(Fate.KILLED)
        if not self._pump_until(lambda: self._current is None, SCAN_S):
            logger.error("scan %d did not end in %.0f s; its RunEngine is killed", number, SCAN_S)
            self._scanner.end()
            self._pump_until(lambda: self._current is None, SCAN_S)

    def _have_scanner(self) -> None:
        """Raises ScanError where the RunEngine's process does not come up."""
        deadline_s = time.monotonic() + 3 * START_S
        while self._scanner.pid is None or not self._ready:
            if time.monotonic() > deadline_s:
                raise ScanError(f"the RunEngine's process does not come up; see {self._folder / 'stderr.log'}")
            if self._scanner.pid is None:
                self._ready = False
                self._scanner.start()
            self._pump()

    def _pump_until(self, done: Callable[[], bool], timeout_s: float) -> bool:
        deadline_s = time.monotonic() + timeout_s
        while not done():
            if time.monotonic() > deadline_s:
                return False
            self._pump()
        return True

    def _pump(self) -> None:
        for update in self._system.watch(0.03):
            self._hear(update)
        for line in self._scanner.said():
            self._take(line)
        self._saboteur.tick()
        now_s = time.monotonic()
        if now_s >= self._next_look_s:
            self._next_look_s = now_s + LOOK_S
            self._look()
        if now_s >= self._next_memory_s:
            self._next_memory_s = now_s + MEMORY_S
            self._weigh()

    def _hear(self, update: Update) -> None:
        """The result is known and not in Tiled yet: the moment while it is delivered."""
        if update.topic == "result" and not update.fields.get("tiled"):
            for run in self._owed:
                if run.uid == update.run:
                    self._saboteur.happens(run.number, Moment.RESULT, run.num, run.uid)

    def _take(self, line: Mapping[str, Any]) -> None:
        """What the RunEngine's process said."""
        run = self._current
        self._ready |= "ready" in line
        if run is None:
            return
        if "run" in line:
            run.uid = line["run"]
            self._saboteur.happens(run.number, Moment.FRAME, 0, run.uid)
        elif "frames" in line:
            run.told = line["frames"]
            self._saboteur.happens(run.number, Moment.FRAME, run.told, run.uid)
        elif "stop" in line:
            run.fate = Fate.COMPLETE if line["stop"] == "success" else Fate.ABORTED
        elif "done" in line or "failed" in line:
            self._ends(run.fate if run.uid else Fate.KILLED)
        elif "gone" in line:
            self._ends(Fate.KILLED if run.fate is Fate.UNDER_WAY else run.fate)

    def _ends(self, fate: Fate) -> None:
        run = self._current
        assert run is not None, "there is a scan"
        run.fate, run.ended_s = fate, time.monotonic()
        self._current = None
        if run.uid:
            self._owed.append(run)
        self._saboteur.happens(run.number, Moment.STOP, run.num, run.uid)

    def _look(self) -> None:
        for run in self._oracle.settled(self._owed):
            run.settled_s = time.monotonic()
            self._owed.remove(run)
            self._checker.check(run)

    def _weigh(self) -> None:
        scans = len(self._runs)
        for name, pid in self._system.pids().items():
            self._memory.note(name, pid, scans)
            for worker in workers(pid):
                self._memory.note(f"{name} worker", worker, scans)
        if self._scanner.pid is not None:
            self._memory.note("RunEngine", self._scanner.pid, scans)

    def _settle(self) -> None:
        """All faults over: everything that is owed must come now."""
        self._saboteur.end()
        self._pump_until(lambda: not self._owed, SETTLE_S)
        self._pump_until(lambda: not owed(self._storage), SETTLE_S / 4)
        self._pump_until(lambda: self._checker.checked + len(self._owed) >= len(self._began()), SETTLE_S)
        self._say("all faults are over; looking at every run in Tiled")
        self._checker.last_look(self._began())

    def _began(self) -> list[Run]:
        return [run for run in self._runs if run.uid]

    def _tell(self) -> None:
        told = self._write_report(over=False)
        counts = ", ".join(
            f"{key.replace('_', ' ')} {told[key]}"
            for key in ("owed", "frames_lost", "results_missing", "results_wrong")
        )
        self._say(f"{told['scans']} scans in {told['seconds']:.0f} s, {told['faults_done']} faults: {counts}")

    def _write_report(self, *, over: bool) -> dict[str, Any]:
        told = report(
            self._runs,
            self._checker.findings,
            owed=self._owed,
            faults=self._saboteur.done if hasattr(self, "_saboteur") else {},
            left=[*leftovers(self._storage), *self._still_alive()] if over else [],
            memory=self._memory.report(),
            over=over,
        )
        told |= {
            **{f"given_{key}": value for key, value in asdict(self._settings).items()},
            "seconds": round(time.monotonic() - self._began_s, 1),
            "disk_mb": round(
                sum(path.stat().st_size for path in self._storage.rglob("*") if path.is_file()) / 1e6, 1
            ),
            "stream": {key: getattr(self._relay, key) for key in ("passed", "dropped", "repeated", "delayed")},
            "folder": str(self._folder),
        }
        (self._folder / "report.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
        return told

    def _still_alive(self) -> list[str]:
        return [f"process {pid}" for pid in self._memory.pids() if alive(pid)]
