"""One scan played through the running system, or through one started for it, and what came out."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from .config import Config, StreamConfig, load_config
from .stream import journal
from .stream.run import is_rocking_run
from .stream.updates import Update
from .supervisor import Supervisor
from .transport.keys import access_of
from .transport.tiled import connect, results
from .transport.zmq import UpdateSubscriber
from .types import ScanError

LISTEN_S = 2.5  # two heartbeats: who is up has spoken by then
DELIVERY_S = 60.0  # a result that Tiled has not taken by then is reported as waiting on disk
SILENT_S = 60.0  # no heartbeat of anybody: the system is gone
IDLE_S = 90.0  # refine is ready, with nothing to do, and no result came: it will not come
ABORT_S = 10.0


class Watcher(Protocol):
    """Updates of the running system."""

    def watch(self, timeout_s: float = 0.5) -> Iterator[Update]: ...


class _Attached:
    """A system that someone else supervises."""

    def __init__(self, stream: StreamConfig) -> None:
        access = access_of(stream)
        access.check_answer(stream.updates_out)
        self._updates = UpdateSubscriber(stream.updates_out, access=access)

    def watch(self, timeout_s: float = 0.5) -> Iterator[Update]:
        return self._updates.receive(timeout_s)

    def close(self) -> None:
        self._updates.close()


@contextmanager
def running_system(config_path: Path) -> Iterator[Watcher]:
    """The system that is up with this configuration, or one that lives as long as the block.

    Raises ScanError where one is up that refuses our keys.
    """
    attached = _Attached(load_config(config_path).stream)
    try:
        deadline_s = time.monotonic() + LISTEN_S
        while time.monotonic() < deadline_s:
            if any(update.topic == "health" for update in attached.watch(0.2)):
                yield attached
                return
    finally:
        attached.close()
    with Supervisor(config_path) as supervisor:
        yield supervisor


def play(system: Watcher, scan_file: Path, config_path: Path, *, rate_hz: float, fly: bool) -> dict[str, Any]:
    """Measure `scan_file` again through `system`; what the services said of it in the end.

    Keys: run, live (fields of the last `live` update), result (fields of the `result` update). Raises ScanError
    where the plan failed or the refinement said that there is no result.
    """
    told = _Told()
    options = ["--rate", str(rate_hz), *(["--fly"] if fly else [])]
    run = _acquire(system, told, "acquire", str(scan_file), "--config", str(config_path), *options)["run"]
    return told.wait_for(run, system)


def play_experiment(
    system: Watcher, config_path: Path, *, states: int, rate_hz: float, seed: int
) -> list[dict[str, Any]]:
    """Charge and discharge a crystal on the virtual beamline through `system`; of each state what was true of it
    (`plans.experiment`) and what `play` gives. Raises ScanError as `play` does."""
    told = _Told()
    options = ["--states", str(states), "--rate", str(rate_hz), "--seed", str(seed)]
    steps = _acquire(system, told, "experiment", "--config", str(config_path), *options)["steps"]
    return [{**step, **told.wait_for(step["run"], system)} for step in steps]


def send_again(system: Watcher, journal_file: Path, config_path: Path) -> dict[str, Any]:
    """Send the documents of a journal through `system`; what came of it.

    Keys: run, documents (how many), already (whether there was a result before), raw (where the run is in Tiled,
    or None), result (as of `play`; empty for a run that is not ours to refine). Raises ScanError as `play` does.
    """
    documents, config = journal.read_run(journal_file), load_config(config_path)
    start = documents[0][1]
    before = _result_of(config, start["uid"])
    told = _Told()
    run = _acquire(system, told, "acquire", str(journal_file), "--config", str(config_path))["run"]
    result = before
    if before is None:
        result = told.wait_for(run, system)["result"] if is_rocking_run(start) else {}
    whole = any(name == "stop" for name, _ in documents)
    raw = _wait_for_raw(config, run, system) if whole else None
    return {"run": run, "documents": len(documents), "already": before is not None, "raw": raw, "result": result}


def _result_of(config: Config, run: str) -> dict[str, Any] | None:
    """The newest result of a run, as Tiled has it, or else as refine noted it on this computer."""
    with suppress(ScanError):
        for path, node in reversed(results(connect(config), run)):
            return {**node.metadata, "tiled": path}
    for ticket in sorted((config.storage.directory / "queue" / "done").glob(f"*_{run}.json")):
        with suppress(OSError, ValueError):
            return dict(json.loads(ticket.read_text(encoding="utf-8")))
    return None


def _wait_for_raw(config: Config, run: str, system: Watcher) -> str | None:
    """Where Tiled has the run, to its stop; None where it does not in time."""
    until_s = time.monotonic() + DELIVERY_S
    while time.monotonic() < until_s:
        with suppress(ScanError, KeyError):
            if connect(config)["raw", run].metadata.get("stop"):
                return f"raw/{run}"
        for _ in system.watch(1.0):
            pass
    return None


def _acquire(system: Watcher, told: "_Told", *verb: str) -> dict[str, Any]:
    """Let a RunEngine's process measure or send, and listen meanwhile; the JSON that it says last."""
    plan = subprocess.Popen(
        [sys.executable, "-m", "live_bcdi.cli", *verb],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for us; the plan is told once, and ends its run
    )
    try:
        while plan.poll() is None:
            told.take(system.watch(0.2))
        if plan.returncode:
            raise ScanError(f"the plan ended with status {plan.returncode}; its message is above")
        assert plan.stdout is not None, "opened as a pipe"
        return dict(json.loads(plan.stdout.read().splitlines()[-1]))
    finally:
        _end(plan)


def _end(plan: subprocess.Popen[str]) -> None:
    """Let a plan that still runs abort its run and close its file."""
    if plan.poll() is None:
        plan.terminate()
        try:
            plan.wait(ABORT_S)
        except subprocess.TimeoutExpired:
            plan.kill()
            plan.wait()


class _Told:
    """What was said of each run; the newest of each topic."""

    def __init__(self) -> None:
        self._said: dict[tuple[str, str], dict[str, Any]] = {}
        self._heard_s = self._busy_s = time.monotonic()

    def take(self, updates: Iterator[Update]) -> None:
        for update in updates:
            if update.topic in ("live", "result"):
                self._said[update.run, update.topic] = dict(update.fields)
            elif update.topic == "health":
                self._hear(update.fields)

    def _hear(self, health: Mapping[str, Any]) -> None:
        self._heard_s = time.monotonic()
        if health.get("service") == "refine" and (health.get("state") != "ready" or health.get("detail")):
            self._busy_s = self._heard_s

    def _check_hope(self, run: str) -> None:
        """Raises ScanError where nobody is left to make the result of a run."""
        now_s = time.monotonic()
        if now_s - self._heard_s > SILENT_S:
            raise ScanError(f"run {run[:8]}: no service has said anything for {SILENT_S:.0f} s; is the system up?")
        if now_s - self._busy_s > IDLE_S:
            raise ScanError(f"run {run[:8]}: refine has nothing to do and no result came; its log says why")

    def wait_for(self, run: str, system: Watcher) -> dict[str, Any]:
        """What was said of the run in the end. Raises ScanError where there is and will be no result."""
        delivered_by_s = None
        self._busy_s = time.monotonic()
        while True:
            self.take(system.watch(0.2))
            result = self._said.get((run, "result"))
            if result is None:
                self._check_hope(run)
                continue
            if result.get("error"):
                raise ScanError(f"no result of run {run[:8]}: {result['error']}")
            delivered_by_s = delivered_by_s or time.monotonic() + DELIVERY_S
            if result.get("tiled") or time.monotonic() > delivered_by_s:
                return {"run": run, "live": self._said.get((run, "live"), {}), "result": result}
