"""From a scan's last frame to the preview of all its frames, through the real services, scan after scan.

python benchmarks/preview_latency.py --scans 10

Detector, RunEngine, broker, live service, refinement and Tiled run at once. `published` is from the last frame's
own time stamp to the estimate of all frames at a subscriber of the broker; `stored` to `preview/<uid>/1` in Tiled,
which is asked every 50 ms; `refreshed` counts the previews of fewer frames before.
"""

import argparse
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from _system import Hearing, last_frame_s, said, write_config

from live_bcdi.config import Config, load_config
from live_bcdi.session import play
from live_bcdi.sim import simulate_scan
from live_bcdi.stream.updates import Update
from live_bcdi.supervisor import Supervisor
from live_bcdi.transport.hdf5 import write_scan
from live_bcdi.transport.tiled import connect, versions

STORED_S = 30.0


class Previews:
    """Estimates as they come, with when; and when Tiled had the preview of the newest run."""

    def __init__(self, config: Config) -> None:
        self._root = connect(config)
        self.estimates: list[tuple[float, str, dict[str, Any]]] = []
        self.stored: dict[str, float] = {}

    def take(self, at_s: float, update: Update) -> None:
        if update.topic == "estimate" and update.fields["kind"] != "refined":
            self.estimates.append((at_s, update.run, dict(update.fields)))

    def ask(self) -> None:
        time.sleep(0.05)
        whole = {run for _, run, fields in list(self.estimates) if fields["frames"] == fields["num"]}
        for run in whole - set(self.stored):
            with suppress(KeyError):
                if versions(self._root, "preview", run):
                    self.stored[run] = time.time()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=10)
    parser.add_argument("--rate", type=float, default=20.0, help="frames a second")
    parser.add_argument("--edge", type=int, default=64)
    given = parser.parse_args()
    published, stored, refreshes = [], [], []
    with tempfile.TemporaryDirectory(prefix="live-bcdi-preview-") as folder:
        path = write_config(Path(folder), "[live]\nnetwork = true\n[phasing]\nthreads = 1\nstarts = 1\n")
        config = load_config(path)
        scan, _ = simulate_scan(shape=(given.edge,) * 3, photons=2e6, strain="medium", seed=0, config=config)
        write_scan(Path(folder) / "scan.h5", scan)
        print(f"{given.edge}^3 at {given.rate:g} frames/s\n\n| scan | kind | published, ms | stored, ms |", end="")
        print(" at work, ms | refreshed | frames | load |\n|---" + "|---" * 7 + "|")
        with Supervisor(path) as supervisor:
            previews = Previews(config)
            with Hearing(config, previews.take, previews.ask) as hearing:
                for number in range(1, given.scans + 1):
                    told = play(supervisor, Path(folder) / "scan.h5", path, rate_hz=given.rate, fly=False)
                    ours = [(at_s, fields) for at_s, run, fields in previews.estimates if run == told["run"]]
                    whole = [(at_s, fields) for at_s, fields in ours if fields["frames"] == fields["num"]]
                    hearing.wait_for(lambda: told["run"] in previews.stored, STORED_S)  # noqa: B023
                    last_s = last_frame_s(config, told["run"])
                    at_s, fields = whole[0]
                    published.append(at_s - last_s)
                    stored.append(previews.stored.get(told["run"], float("nan")) - last_s)
                    refreshes.append(sum(each["kind"] == "preview" for _, each in ours) - len(whole))
                    print(
                        f"| {number} | {fields['kind']} | {1e3 * published[-1]:.0f} | {1e3 * stored[-1]:.0f} |"
                        f" {1e3 * fields['seconds']:.0f} | {refreshes[-1]} |"
                        f" {told['live']['count']} of {told['live']['num']} | {os.getloadavg()[0]:.1f} |",
                        flush=True,
                    )
    print(f"\npublished: {said(published)}\nstored: {said(stored)}")
    print(f"refreshed during a scan: {min(refreshes)} to {max(refreshes)} times")


if __name__ == "__main__":
    main()
