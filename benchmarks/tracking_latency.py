"""From a scan's last frame to its motion on the page, through the real services, scan after scan.

    python benchmarks/tracking_latency.py --scans 10 [--without]

Detector, RunEngine, broker, live service, refinement and Tiled run at once. From the last frame's own time stamp
to the update at a subscriber of the broker, as the page's server is one: `motion` of the series with the scan and
the next one foretold, `angles` of the track within the scan. `frames` is from each frame's time stamp to the
update `live` that shows it, for what it costs the intake: the same `--without` tracking is to be compared with.
"""

import argparse
import os
import socket
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from live_bcdi.cli import config_path
from live_bcdi.config import Config, load_config
from live_bcdi.session import play
from live_bcdi.sim.motion import simulate_moving
from live_bcdi.stream.updates import Update
from live_bcdi.supervisor import Supervisor
from live_bcdi.transport.hdf5 import read_scan, write_scan
from live_bcdi.transport.zmq import UpdateSubscriber

ADDRESSES = ("documents_in", "documents_out", "updates_in", "updates_out", "frames")
AWAITED_S = 30.0


class Listener:
    """Updates of motion, and of frames, with when they came."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._ending = threading.Event()
        self.told: list[tuple[float, Update]] = []
        self.frames: list[tuple[float, float]] = []
        self.waiting = 0
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> "Listener":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ending.set()
        self._thread.join()

    def _listen(self) -> None:
        updates = UpdateSubscriber(self._config.stream.updates_out)
        while not self._ending.is_set():
            for update in updates.receive(0.02):
                if update.topic == "tracking":
                    self.told.append((time.time(), update))
                stamped = update.fields.get("frame_time_s") if update.topic == "live" else None
                if stamped is not None:
                    self.frames.append((time.time(), stamped))
                    self.waiting = max(self.waiting, update.fields["waiting"])
        updates.close()

    def wait_for(self, run: str, of: str) -> float:
        """When the motion of a whole run was told; NaN where it was not."""
        until_s = time.time() + AWAITED_S
        while time.time() < until_s:
            for at_s, update in list(self.told):
                whole = any(row["run"] == run for row in update.fields.get("scans", ())) or (
                    update.run == run and update.fields.get("whole")
                )
                if update.fields["of"] == of and whole:
                    return at_s
            time.sleep(0.05)
        return float("nan")


def write_config(folder: Path, *, track: bool) -> Path:
    """34-ID-C's on free ports, storing in `folder`."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(len(ADDRESSES) + 2)]
    *ports, tiled, page = (probe.getsockname()[1] for probe in probes)
    for probe in probes:
        probe.close()
    stream = "".join(f'{name} = "tcp://127.0.0.1:{port}"\n' for name, port in zip(ADDRESSES, ports))
    text = config_path("34idc").read_text(encoding="utf-8")
    text += f"\n[stream]\n{stream}[tiled]\nport = {tiled}\n[page]\nport = {page}\n"
    text += f"[live]\ntrack = {'true' if track else 'false'}\n"
    text += f'[storage]\ndirectory = "{folder}/runs"\n[phasing]\nthreads = 1\nstarts = 2\n'
    (folder / "beamline.toml").write_text(text, encoding="utf-8")
    return folder / "beamline.toml"


def last_frame_s(config: Config, run: str) -> float:
    (path,) = (config.storage.directory / "frames").glob(f"*_{run[:8]}.h5")
    timestamps_s = read_scan(path).timestamps_s
    if timestamps_s is None:
        raise SystemExit("the detector gave no time stamps")
    return float(np.nanmax(timestamps_s))


def said(values_s: list[float]) -> str:
    ms = 1e3 * np.asarray(values_s)
    return f"p50 {np.nanpercentile(ms, 50):.0f}, p95 {np.nanpercentile(ms, 95):.0f}, worst {np.nanmax(ms):.0f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=10)
    parser.add_argument("--rate", type=float, default=20.0, help="frames a second")
    parser.add_argument("--edge", type=int, default=64)
    parser.add_argument("--jitter", type=float, default=0.3, help="of the angles, in rocking steps")
    parser.add_argument("--without", action="store_true", help="tracking, for what it costs the frames")
    given = parser.parse_args()
    motions, angles = [], []
    with tempfile.TemporaryDirectory(prefix="live-bcdi-tracking-") as folder:
        path = write_config(Path(folder), track=not given.without)
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
        with Supervisor(path) as supervisor, Listener(config) as listener:
            for number in range(1, given.scans + 1):
                told = play(supervisor, Path(folder) / "scan.h5", path, rate_hz=given.rate, fly=False)
                if given.without:
                    continue
                run, last_s = told["run"], last_frame_s(config, told["run"])
                motions.append(listener.wait_for(run, "series") - last_s)
                angles.append(listener.wait_for(run, "scan") - last_s)
                within = [
                    update.fields for _, update in listener.told if update.run == run and "whole" in update.fields
                ]
                print(
                    f"| {number} | {1e3 * motions[-1]:.0f} | {1e3 * angles[-1]:.0f} |"
                    f" {1e3 * within[-1]['seconds']:.0f} | {sum(not each['whole'] for each in within)} |"
                    f" {told['live']['count']} of {told['live']['num']} | {os.getloadavg()[0]:.1f} |",
                    flush=True,
                )
    if motions:
        print(f"\nmotion: {said(motions)}\nangles: {said(angles)}")
    print(f"frames: {said([at - stamped for at, stamped in listener.frames])}, at most {listener.waiting} waiting")


if __name__ == "__main__":
    main()
