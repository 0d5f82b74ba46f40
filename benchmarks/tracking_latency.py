"""From a scan's last frame to its motion on the page, through the real services, scan after scan.

    python benchmarks/tracking_latency.py --scans 10 [--without]

Detector, RunEngine, broker, live service, refinement and Tiled run at once. From the last frame's own time stamp
to the update at a subscriber of the broker, as the page's server is one: `motion` of the series with the scan and
the next one foretold, `angles` of the track within the scan. `frames` is from each frame's time stamp to the
update `live` that shows it, for what it costs the intake: the same `--without` tracking is to be compared with.
"""

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
from _system import Hearing, last_frame_s, said, write_config

from live_bcdi.config import load_config
from live_bcdi.session import play
from live_bcdi.sim.motion import simulate_moving
from live_bcdi.stream.updates import Update
from live_bcdi.supervisor import Supervisor
from live_bcdi.transport.hdf5 import write_scan

AWAITED_S = 30.0


class Motion:
    """Updates of motion, and of frames, with when they came."""

    def __init__(self) -> None:
        self.told: list[tuple[float, Update]] = []
        self.frames: list[tuple[float, float]] = []
        self.waiting = 0

    def take(self, at_s: float, update: Update) -> None:
        if update.topic == "tracking":
            self.told.append((at_s, update))
        stamped = update.fields.get("frame_time_s") if update.topic == "live" else None
        if stamped is not None:
            self.frames.append((at_s, stamped))
            self.waiting = max(self.waiting, update.fields["waiting"])

    def whole_s(self, run: str, of: str) -> float | None:
        """When the motion of a whole run was told."""
        for at_s, update in list(self.told):
            whole = any(row["run"] == run for row in update.fields.get("scans", ())) or (
                update.run == run and update.fields.get("whole")
            )
            if update.fields["of"] == of and whole:
                return at_s
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=10)
    parser.add_argument("--rate", type=float, default=20.0, help="frames a second")
    parser.add_argument("--edge", type=int, default=64)
    parser.add_argument("--jitter", type=float, default=0.3, help="of the angles, in rocking steps")
    parser.add_argument("--without", action="store_true", help="tracking, for what it costs the frames")
    given = parser.parse_args()
    motion = Motion()
    motions: list[float] = []
    angles: list[float] = []
    with tempfile.TemporaryDirectory(prefix="live-bcdi-tracking-") as folder:
        tracked = "false" if given.without else "true"
        path = write_config(Path(folder), f"[live]\ntrack = {tracked}\n[phasing]\nthreads = 1\nstarts = 2\n")
        config = load_config(path)
        offsets = given.jitter * np.random.default_rng(1).normal(size=given.edge)
        scan, _ = simulate_moving(
            config=config, offsets_steps=offsets, detector=(given.edge, given.edge), photons=1e6
        )
        write_scan(Path(folder) / "scan.h5", scan)
        print(
            f"{given.edge}^3 at {given.rate:g} frames/s\n\n| scan | motion, ms | angles, ms | at work on them, ms",
            end="",
        )
        print(" | looks before | frames | load |\n|---" + "|---" * 6 + "|")
        with Supervisor(path) as supervisor, Hearing(config, motion.take) as hearing:
            for number in range(1, given.scans + 1):
                told = play(supervisor, Path(folder) / "scan.h5", path, rate_hz=given.rate, fly=False)
                if given.without:
                    continue
                run, last_s = told["run"], last_frame_s(config, told["run"])
                for found, of in ((motions, "series"), (angles, "scan")):
                    hearing.wait_for(lambda: motion.whole_s(run, of) is not None, AWAITED_S)  # noqa: B023
                    found.append((motion.whole_s(run, of) or float("nan")) - last_s)
                within = [each.fields for _, each in motion.told if each.run == run and "whole" in each.fields]
                print(
                    f"| {number} | {1e3 * motions[-1]:.0f} | {1e3 * angles[-1]:.0f} |"
                    f" {1e3 * within[-1]['seconds']:.0f} | {sum(not each['whole'] for each in within)} |"
                    f" {told['live']['count']} of {told['live']['num']} | {os.getloadavg()[0]:.1f} |",
                    flush=True,
                )
    if motions:
        print(f"\nmotion: {said(motions)}\nangles: {said(angles)}")
    print(f"frames: {said([at - stamped for at, stamped in motion.frames])}, at most {motion.waiting} waiting")


if __name__ == "__main__":
    main()
