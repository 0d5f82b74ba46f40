"""The beamline's side: a RunEngine in a process of its own, aborted and killed on purpose."""

import json
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

START_S = 60.0


class Scanner:
    """`order` a scan, `said` is what the process said since; `start` it again after it was killed."""

    def __init__(self, config_path: Path, stderr: IO[str]) -> None:
        self._config_path = config_path
        self._stderr = stderr
        self._lines: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int | None:
        """Its process, where it lives."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start the process; it says `{"ready": true}` when it can be told something."""
        self._lines = queue.SimpleQueue()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "live_bcdi_plans.soak", str(self._config_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._listen, args=(self._process, self._lines), daemon=True).start()

    @staticmethod
    def _listen(process: subprocess.Popen[str], lines: "queue.SimpleQueue[dict[str, Any]]") -> None:
        assert process.stdout is not None, "opened as a pipe"
        for line in process.stdout:
            if line.startswith("{"):
                lines.put(json.loads(line))
        process.wait()
        lines.put({"gone": process.returncode})

    def order(self, scan: Path, *, rate_hz: float, fly: bool) -> bool:
        """Measure `scan` now; False where the process is dead."""
        assert self._process is not None and self._process.stdin is not None, "start it first"
        try:
            self._process.stdin.write(json.dumps({"scan": str(scan), "rate": rate_hz, "fly": fly}) + "\n")
            self._process.stdin.flush()
        except OSError:
            return False
        return True

    def said(self) -> list[dict[str, Any]]:
        """What came since the last call."""
        lines = []
        while not self._lines.empty():
            lines.append(self._lines.get())
        return lines

    def send(self, number: signal.Signals) -> bool:
        """A signal; False where the process is dead."""
        if self.pid is None or self._process is None:
            return False
        self._process.send_signal(number)
        return True

    def end(self) -> None:
        """Let it go."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
