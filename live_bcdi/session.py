"""One scan played through the running system, or through one started for it, and what came out."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from .config import load_config
from .stream.updates import Update
from .supervisor import Supervisor
from .transport.zmq import UpdateSubscriber
from .types import ScanError

LISTEN_S = 2.5  # two heartbeats: who is up has spoken by then
DELIVERY_S = 60.0  # a result that Tiled has not taken by then is reported as waiting on disk


class Watcher(Protocol):
    """Updates of the running system."""

    def watch(self, timeout_s: float = 0.5) -> Iterator[Update]: ...


class _Attached:
    """A system that someone else supervises."""

    def __init__(self, address: str) -> None:
        self._updates = UpdateSubscriber(address)

    def watch(self, timeout_s: float = 0.5) -> Iterator[Update]:
        return self._updates.receive(timeout_s)


@contextmanager
def running_system(config_path: Path) -> Iterator[Watcher]:
    """The system that is up with this configuration, or one that lives as long as the block."""
    attached = _Attached(load_config(config_path).stream.updates_out)
    deadline_s = time.monotonic() + LISTEN_S
    while time.monotonic() < deadline_s:
        if any(update.topic == "health" for update in attached.watch(0.2)):
            yield attached
            return
    with Supervisor(config_path) as supervisor:
        yield supervisor


def play(system: Watcher, scan_file: Path, config_path: Path, *, rate_hz: float, fly: bool) -> dict[str, Any]:
    """Measure `scan_file` again through `system`; what the services said of it in the end.

    Keys: run, live (fields of the last `live` update), result (fields of the `result` update). Raises ScanError
    where the plan failed or the refinement said that there is no result.
    """
    command = [sys.executable, "-m", "live_bcdi.cli", "acquire", str(scan_file), "--config", str(config_path)]
    plan = subprocess.Popen(
        [*command, "--rate", str(rate_hz), *(["--fly"] if fly else [])], stdout=subprocess.PIPE, text=True
    )
    told = _Told()
    try:
        while plan.poll() is None:
            told.take(system.watch(0.2))
        if plan.returncode:
            raise ScanError(f"the plan ended with status {plan.returncode}; its message is above")
        assert plan.stdout is not None, "opened as a pipe"
        run = str(json.loads(plan.stdout.read().splitlines()[-1])["run"])
    finally:
        if plan.poll() is None:
            plan.terminate()
            plan.wait()
    return told.wait_for(run, system)


class _Told:
    """What was said of each run; the newest of each topic."""

    def __init__(self) -> None:
        self._said: dict[tuple[str, str], dict[str, Any]] = {}

    def take(self, updates: Iterator[Update]) -> None:
        for update in updates:
            if update.topic in ("live", "result"):
                self._said[update.run, update.topic] = dict(update.fields)

    def wait_for(self, run: str, system: Watcher) -> dict[str, Any]:
        delivered_by_s = None
        while True:
            self.take(system.watch(0.2))
            result = self._said.get((run, "result"))
            if result is None:
                continue
            if result.get("error"):
                raise ScanError(f"no result of run {run[:8]}: {result['error']}")
            delivered_by_s = delivered_by_s or time.monotonic() + DELIVERY_S
            if result.get("tiled") or time.monotonic() > delivered_by_s:
                return {"run": run, "live": self._said.get((run, "live"), {}), "result": result}
