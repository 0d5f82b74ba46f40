"""One command for all services: start them in order, watch them, restart what dies, leave nothing behind."""

import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from live_bcdi_consumers.service import SERVICES

from .config import Config, load_config
from .dashboard import page_key
from .jobs import require_dask
from .stream.updates import Update
from .transport.keys import access_of
from .transport.sources import require_source
from .transport.zmq import UpdatePublisher, UpdateSubscriber, check_free
from .types import ScanError

logger = logging.getLogger("supervisor")

START_S = 90.0  # imports of torch-sized libraries on a cold disk with two cores
END_S = 10.0
SILENT_S = 90.0  # a service beats every second; Tiled's client may keep one waiting for half a minute
_STDERR = 2
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0


@dataclass(slots=True)
class _Child:
    name: str
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    start_again_s: float = 0.0
    ready: bool = False
    started_s: float = field(default_factory=time.monotonic)
    heard_s: float = field(default_factory=time.monotonic)


class Supervisor:
    """Use as a context manager: services run inside, and are gone after, however one leaves.

    Raises ScanError on entry where a port is taken, and where a service does not come up.
    """

    def __init__(self, config_path: Path, *, stderr: IO[str] | None = None) -> None:
        """`stderr` is where the services' own goes; by default to ours."""
        self.config = load_config(config_path)
        self._stderr = stderr
        self._config_path = config_path
        self._children = [_Child(name) for name in services_of(self.config)]
        self._updates: UpdateSubscriber | None = None
        self._say: UpdatePublisher | None = None

    def __enter__(self) -> "Supervisor":
        check_ports(self.config)
        stream, access = self.config.stream, access_of(self.config.stream)
        self._updates = UpdateSubscriber(stream.updates_out, access=access)
        self._say = UpdatePublisher(stream.updates_in, access)
        try:
            for child in self._children:
                self._start(child)
            self._wait_until_ready()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._end()

    def pids(self) -> dict[str, int]:
        """Process ids of the services that run."""
        return {child.name: child.process.pid for child in self._children if child.process is not None}

    def watch(self, timeout_s: float = 0.5) -> Iterator[Update]:
        """Updates within `timeout_s`; on the way, restart what died. Call it in a loop."""
        assert self._updates is not None, "use the supervisor as a context manager"
        updates = list(self._updates.receive(timeout_s))
        for update in updates:
            self._note(update)
        for child in self._children:
            self._keep_alive(child)
        yield from updates

    def _note(self, update: Update) -> None:
        if update.topic != "health" or update.fields.get("state") == "failed":
            return
        for child in self._children:
            if child.name == update.fields.get("service"):
                child.ready, child.heard_s = True, time.monotonic()

    def _start(self, child: _Child) -> None:
        command = (sys.executable, "-m", "live_bcdi.cli", "service")
        # A session of its own: Ctrl-C reaches the supervisor alone, which then ends its services in order.
        child.process = subprocess.Popen(
            [*command, child.name, "--supervised", "--config", str(self._config_path)],
            stdin=subprocess.PIPE,
            stdout=self._stderr or _STDERR,  # ours is for what the command prints: one JSON value, with --json
            stderr=self._stderr,
            start_new_session=True,
        )
        child.started_s = child.heard_s = time.monotonic()

    def _wait_until_ready(self) -> None:
        deadline_s = time.monotonic() + START_S
        while not all(child.ready for child in self._children):
            for _ in self.watch(0.2):
                pass
            late = [child.name for child in self._children if not child.ready]
            dead = [child.name for child in self._children if child.restarts > 2 and not child.ready]
            if dead or time.monotonic() > deadline_s:
                log = self.config.storage.directory / "log"
                raise ScanError(f"{', '.join(dead or late)} did not come up; the reason is in {log}")

    def _keep_alive(self, child: _Child) -> None:
        if child.process is None:
            if time.monotonic() >= child.start_again_s:
                self._start(child)
            return
        silent_s = time.monotonic() - child.heard_s
        if child.process.poll() is None and silent_s > SILENT_S:
            logger.error("%s said nothing for %.0f s and is killed", child.name, silent_s)
            child.process.kill()
            child.process.wait()
        status = child.process.poll()
        if status is None:
            return
        if time.monotonic() - child.started_s > LONGEST_PAUSE_S:
            child.restarts = 0
        pause_s = min(FIRST_PAUSE_S * 2**child.restarts, LONGEST_PAUSE_S)
        self._lost(child, f"{child.name} ended with status {status}; starting it again in {pause_s:.1f} s")
        child.process, child.restarts = None, child.restarts + 1
        child.start_again_s = time.monotonic() + pause_s

    def _lost(self, child: _Child, message: str) -> None:
        logger.error(message)
        assert self._say is not None, "use the supervisor as a context manager"
        health = {"service": child.name, "pid": None, "state": "failed", "detail": message, "time_s": time.time()}
        self._say.send(Update(topic="health", fields=health))
        notice = {"service": "supervisor", "level": "error", "message": message}
        self._say.send(Update(topic="notice", fields=notice))

    def _end(self) -> None:
        running = [child.process for child in reversed(self._children) if child.process is not None]
        for process in running:
            process.terminate()
        deadline_s = time.monotonic() + END_S
        for process in running:
            try:
                process.wait(max(0.0, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                logger.warning("process %d did not end in %.0f s and was killed", process.pid, END_S)
                process.kill()
                process.wait()
        for link in (self._updates, self._say):
            if link is not None:
                link.close()
        self._updates = self._say = None


def services_of(config: Config) -> list[str]:
    """What runs for a beamline: no Tiled where a site has its own, no recorder for a detector of our own form, and
    advice where it is asked for."""
    left_out = {
        "tiled_server": config.tiled.uri is not None,
        "recorder": not config.stream.recorded,
        "advise": not config.steering.advise,
    }
    return [name for name in SERVICES if not left_out.get(name, False)]


def check_ports(config: Config) -> None:
    """Raises ScanError that names the first address of `config` which is taken, and the key to change, or the
    package that its source of frames lacks, or what is wrong with the page's key."""
    stream = config.stream
    require_source(stream)
    if config.jobs.scheduler is not None:
        require_dask()
    for key in ("documents_in", "documents_out", "updates_in", "updates_out"):
        check_free(getattr(stream, key), f"[stream] {key}", access_of(stream))
    if stream.recorded:
        check_free(stream.relay, "[stream] relay", access_of(stream))
    if config.tiled.uri is None:
        _check_port("127.0.0.1", config.tiled.port, "[tiled] port")
    _check_port(config.page.host, config.page.port, "[page] port")
    page_key(config)


def _check_port(host: str, port: int, key: str) -> None:
    with socket.socket() as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ScanError(
                f"port {port} on {host} cannot be opened ({error.strerror}); another live-bcdi may be running: "
                f"stop it, or set another {key} in the configuration"
            ) from None
