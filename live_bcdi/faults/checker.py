"""The oracle in a thread of its own, so that nobody waits for Tiled while it is away on purpose."""

import logging
import queue
import threading

import httpx
from tiled.client.container import Container
from tiled.client.utils import ClientError

from ..config import Config
from ..transport.tiled import connect
from ..types import ScanError
from .oracle import Fault, Finding, Oracle, Run

AWAY = (httpx.TransportError, ConnectionError, ClientError, ScanError)
RETRY_S = 1.0

logger = logging.getLogger("faults")


class Checker:
    """`check` what settled; `findings` grows. Use as a context manager."""

    def __init__(self, config: Config, oracle: Oracle) -> None:
        self.findings: list[Finding] = []
        self.checked = 0
        self._config, self._oracle = config, oracle
        self._runs: queue.SimpleQueue[Run | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._root: Container | None = None

    def __enter__(self) -> "Checker":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._runs.put(None)
        self._thread.join(timeout=60)

    def check(self, run: Run) -> None:
        """Look at the result of a settled run, soon."""
        self._runs.put(run)

    def _work(self) -> None:
        while (run := self._runs.get()) is not None:
            self.findings += self._result(run)
            self.checked += 1

    def _result(self, run: Run) -> list[Finding]:
        """Again where Tiled went away meanwhile; it is wrong only if it is wrong twice."""
        for last in (False, False, False, True):
            try:
                self._root = self._root or connect(self._config)
                return self._oracle.result(run, self._root)
            except AWAY as error:
                self._root = None
                logger.info("run %s is looked at again: %s", run.uid[:8], error)
                if last:
                    return [Finding(run=run.uid, fault=Fault.WRONG, what=f"scan {run.number}: {error}")]
                threading.Event().wait(RETRY_S * 5)
        raise AssertionError("unreachable")

    def last_look(self, runs: list[Run]) -> None:
        """When all is done: what came later than the result. In the caller's thread, with Tiled up."""
        root = connect(self._config)
        for run in runs:
            self.findings += self._raw(run, root)
            self.findings += self._oracle.versions(run, root)

    def _raw(self, run: Run, root: Container) -> list[Finding]:
        try:
            return self._oracle.raw(run, root)
        except AWAY as error:
            return [Finding(run=run.uid, fault=Fault.RAW, what=f"scan {run.number}: cannot be read: {error}")]
