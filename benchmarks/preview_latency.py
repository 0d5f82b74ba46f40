"""From a scan's last frame to the preview of all its frames, through the real services, scan after scan.

python benchmarks/preview_latency.py --scans 10

Detector, RunEngine, broker, live service, refinement and Tiled run at once. `published` is from the last frame's
own time stamp to the estimate of all frames at a subscriber of the broker; `stored` to `preview/<uid>/1` in Tiled,
which is asked every 50 ms; `refreshed` counts the previews of fewer frames before.
"""

import argparse
import os
import socket
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from live_bcdi.cli import config_path
from live_bcdi.config import Config, load_config
from live_bcdi.session import play
from live_bcdi.sim import simulate_scan
from live_bcdi.supervisor import Supervisor
from live_bcdi.transport.hdf5 import read_scan, write_scan
from live_bcdi.transport.tiled import connect, versions
from live_bcdi.transport.zmq import UpdateSubscriber

ADDRESSES = ("documents_in", "documents_out", "updates_in", "updates_out", "frames")
STORED_S = 30.0


class Listener:
    """Estimates as they come, with when; and when Tiled had the preview of the newest run."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._ending = threading.Event()
        self.estimates: list[tuple[float, str, dict[str, Any]]] = []
        self.stored: dict[str, float] = {}
        self._threads = [threading.Thread(target=work) for work in (self._listen, self._ask)]

    def __enter__(self) -> "Listener":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _listen(self) -> None:
        updates = UpdateSubscriber(self._config.stream.updates_out)
        while not self._ending.is_set():
            for update in updates.receive(0.05):
                if update.topic == "estimate" and update.fields["kind"] != "refined":
                    self.estimates.append((time.time(), update.run, dict(update.fields)))
        updates.close()

    def _ask(self) -> None:
        root = connect(self._config)
        while not self._ending.wait(0.05):
            whole = {run for _, run, fields in list(self.estimates) if fields["frames"] == fields["num"]}
            for run in whole - set(self.stored):
                with suppress(KeyError):
                    if versions(root, "preview", run):
                        self.stored[run] = time.time()

    def wait_for_store(self, run: str) -> float:
        until_s = time.time() + STORED_S
        while run not in self.stored and time.time() < until_s:
            time.sleep(0.05)
        return self.stored.get(run, float("nan"))


def write_config(folder: Path) -> Path:
    """34-ID-C's on free ports, storing in `folder`, with the network."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(len(ADDRESSES) + 2)]
    *ports, tiled, page = (probe.getsockname()[1] for probe in probes)
    for probe in probes:
        probe.close()
    stream = "".join(f'{name} = "tcp://127.0.0.1:{port}"\n' for name, port in zip(ADDRESSES, ports))
    text = config_path("34idc").read_text(encoding="utf-8")
    text += f"\n[stream]\n{stream}[tiled]\nport = {tiled}\n[page]\nport = {page}\n[live]\nnetwork = true\n"
    text += f'[storage]\ndirectory = "{folder}/runs"\n[phasing]\nthreads = 1\nstarts = 1\n'
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
    return f"p50 {np.percentile(ms, 50):.0f}, p95 {np.percentile(ms, 95):.0f}, worst {ms.max():.0f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=10)
    parser.add_argument("--rate", type=float, default=20.0, help="frames a second")
    parser.add_argument("--edge", type=int, default=64)
    given = parser.parse_args()
    published, stored, refreshes = [], [], []
    with tempfile.TemporaryDirectory(prefix="live-bcdi-preview-") as folder:
        path = write_config(Path(folder))
        config = load_config(path)
        scan, _ = simulate_scan(shape=(given.edge,) * 3, photons=2e6, strain="medium", seed=0, config=config)
        write_scan(Path(folder) / "scan.h5", scan)
        print(f"{given.edge}^3 at {given.rate:g} frames/s\n\n| scan | kind | published, ms | stored, ms |", end="")
        print(" at work, ms | refreshed | frames | load |\n|---" + "|---" * 7 + "|")
        with Supervisor(path) as supervisor, Listener(config) as listener:
            for number in range(1, given.scans + 1):
                told = play(supervisor, Path(folder) / "scan.h5", path, rate_hz=given.rate, fly=False)
                ours = [(at_s, fields) for at_s, run, fields in listener.estimates if run == told["run"]]
                whole = [(at_s, fields) for at_s, fields in ours if fields["frames"] == fields["num"]]
                last_s, stored_s = last_frame_s(config, told["run"]), listener.wait_for_store(told["run"])
                at_s, fields = whole[0]
                published.append(at_s - last_s)
                stored.append(stored_s - last_s)
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
