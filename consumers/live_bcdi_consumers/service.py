"""The life of one service process: configuration, log, heartbeat, an end on SIGTERM or when its parent dies."""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from live_bcdi import log
from live_bcdi.config import Config, load_config
from live_bcdi.stream.updates import Update
from live_bcdi.transport.keys import access_of
from live_bcdi.transport.zmq import UpdatePublisher

SERVICES = ("broker", "tiled_server", "archiver", "recorder", "live", "advise", "refine", "page")  # in this order
BEAT_S = 1.0


class Service:
    """What every wiring file gets: `config`, `updates`, `stopping`, and `beat()` to call in its loop.

    `failed` says that it ended by itself: the process leaves with a status, and the supervisor starts it again.
    """

    def __init__(self, name: str, config: Config) -> None:
        self.name = name
        self.config = config
        self.stopping = threading.Event()
        self.failed = False
        self.updates = UpdatePublisher(config.stream.updates_in, access_of(config.stream))
        self.log = logging.getLogger(name)
        self._last_beat_s = 0.0
        self._said = ("", "")

    def thread(self, work: Callable[..., object], *arguments: Any) -> threading.Thread:
        """A thread whose end, unless we are stopping, ends the service: half a service must not look whole."""

        def run() -> None:
            try:
                work(*arguments)
            finally:
                self.failed |= not self.stopping.is_set()
                self.stopping.set()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    @property
    def directory(self) -> Path:
        """Where this installation keeps its files."""
        return self.config.storage.directory.absolute()

    def folder(self, name: str) -> Path:
        """A folder under `directory`, made where it is not there."""
        path = self.directory / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def beat(self, state: str = "ready", detail: str = "") -> None:
        """Say that this service lives; at once where `state` or `detail` changed, else once a second."""
        now_s = time.monotonic()
        if (state, detail) == self._said and now_s - self._last_beat_s < BEAT_S:
            return
        self._said, self._last_beat_s = (state, detail), now_s
        fields = {"service": self.name, "pid": os.getpid(), "state": state, "detail": detail}
        self.updates.send(Update(topic="health", fields={**fields, "time_s": time.time()}))

    def notice(self, level: str, message: str, run: str = "") -> None:
        """One line for the people at the page, and for the log."""
        log.about_run(self.name, run).log(logging.getLevelNamesMapping()[level.upper()], message)
        fields = {"service": self.name, "level": level, "message": message}
        self.updates.send(Update(topic="notice", run=run, fields=fields))


def start_service(name: str, config_path: Path, *, supervised: bool) -> Service:
    """Configure this process as service `name`. With `supervised`, it ends when its standard input closes."""
    config = load_config(config_path)
    log.configure(name, config.storage.directory, config.log_level)
    service = Service(name, config)

    def stop(signum: int, _frame: object) -> None:
        service.stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if supervised:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    return service


def _end_with_stdin() -> None:
    """The supervisor holds the other end; when it is gone, however it went, nobody is left to serve."""
    os.read(sys.stdin.fileno(), 1)  # not sys.stdin.read(): its lock would be held when the interpreter ends
    os.kill(os.getpid(), signal.SIGTERM)
