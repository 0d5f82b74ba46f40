"""A RunEngine that measures what it is told: one process for many scans, as a beamline's is.

`python -m live_bcdi_plans.soak CONFIG` takes a JSON object a line, `{"scan": path, "rate": Hz, "fly": bool}`, and
says, a line each: `{"ready": true}` once, then `{"run": uid}`, `{"frames": count}` as they are documented,
`{"stop": exit status}`, and in the end `{"done": uid}` or `{"failed": why}`. SIGTERM aborts the scan under way.
"""

import json
import signal
import sys
from pathlib import Path
from typing import Any

from bluesky import RunEngine

from live_bcdi import log
from live_bcdi.config import Config, load_config
from live_bcdi.transport.hdf5 import read_scan
from live_bcdi.types import ScanError

from .replay import new_engine, replay


def main() -> None:
    """Measure until standard input ends."""
    config = load_config(Path(sys.argv[1]))
    log.configure("acquire", config.storage.directory, config.log_level, stderr=False)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # between two scans; within one it aborts
    engine = new_engine(config)
    _say(ready=True)
    for line in sys.stdin:
        try:
            _say(done=_measure(json.loads(line), config, engine))
        except ScanError as error:
            _say(failed=str(error))


def _measure(order: dict[str, Any], config: Config, engine: RunEngine) -> str:
    scan = read_scan(Path(order["scan"]))
    return replay(scan, config, rate_hz=order["rate"], fly=order["fly"], told=_Teller(), engine=engine)


class _Teller:
    """Says how far the run is, from its documents."""

    def __init__(self) -> None:
        self._frames = 0

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        if name == "start":
            _say(run=doc["uid"])
        elif name == "stream_datum" and doc["indices"]["stop"] > self._frames:
            self._frames = doc["indices"]["stop"]
            _say(frames=self._frames)
        elif name == "stop":
            _say(stop=doc["exit_status"])


def _say(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
