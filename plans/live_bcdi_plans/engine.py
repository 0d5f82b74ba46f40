"""A RunEngine in a process of its own: a signal ends the run in order, and an error of ours is one sentence."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from bluesky import RunEngine
from bluesky.utils import FailedStatus, MsgGenerator, RunEngineInterrupted

from live_bcdi.types import ScanError

RETRY_S = 0.02


class AbortOnSignal:
    """For `RunEngine(context_managers=[AbortOnSignal])`: SIGTERM and Ctrl-C abort the run instead of pausing it,
    because nobody is at a prompt to resume it. Devices are unstaged, and the stop document says "abort"."""

    def __init__(self, engine: RunEngine) -> None:
        self._engine = engine
        self._over = threading.Event()
        self._asked = False

    def __enter__(self) -> None:
        self._before = {each: signal.signal(each, self._ask) for each in (signal.SIGTERM, signal.SIGINT)}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        """In a thread, because `abort` waits for the engine's loop and a handler must not wait."""
        if not self._asked:
            self._asked = True
            threading.Thread(target=self._abort, daemon=True).start()

    def _abort(self) -> None:
        while not self._over.wait(RETRY_S):
            if self._engine.state != "idle":  # else it has not begun yet
                self._engine.abort()
                return


def execute(engine: RunEngine, plan: MsgGenerator[Any]) -> str:
    """Run a plan of one run; its uid. Raises ScanError where it was aborted, and where a device failed with one,
    in place of bluesky's `FailedStatus`."""
    newest: dict[str, Any] = {}
    try:
        engine(plan, newest.__setitem__)
    except (RunEngineInterrupted, FailedStatus) as error:
        # An exposure that is cancelled by the abort may fail while the detector is unstaged.
        aborted = newest.get("stop", {}).get("exit_status") == "abort"
        if aborted or isinstance(error, RunEngineInterrupted):
            raise ScanError("the scan was stopped before its end; its file has the frames until then") from None
        raise (scan_error(error) or error) from None
    return str(newest["start"]["uid"])


def scan_error(error: BaseException | None) -> ScanError | None:
    """The ScanError that `error` is, or that it was raised from: bluesky wraps what a device raises."""
    while error is not None and not isinstance(error, ScanError):
        error = error.__cause__ or error.__context__
    return error
