"""What benchmarks of the whole system share: its configuration, and how it is watched while it runs."""

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import numpy as np

from live_bcdi.cli import config_path
from live_bcdi.config import Config
from live_bcdi.stream.updates import Update
from live_bcdi.transport.hdf5 import read_scan
from live_bcdi.transport.zmq import UpdateSubscriber

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
ADDRESSES = ("documents_in", "documents_out", "updates_in", "updates_out", "frames")


class Watching:
    """Does each of its `turns` again and again, in a thread of its own, until the block ends."""

    def __init__(self, *turns: Callable[[], None]) -> None:
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._repeat, args=(turn,)) for turn in turns]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, turn: Callable[[], None]) -> None:
        while not self._ending.is_set():
            turn()

    def wait_for(self, done: Callable[[], bool], seconds: float) -> bool:
        """Whether it was done in time, and while all threads were there."""
        until_s = time.monotonic() + seconds
        while not done():
            if time.monotonic() > until_s or not all(thread.is_alive() for thread in self._threads):
                return False
            time.sleep(0.05)
        return True


class Hearing(Watching):
    """Gives every update of the broker to `hear`, with when it came, as the page's server gets them."""

    def __init__(self, config: Config, hear: Callable[[float, Update], None], *turns: Callable[[], None]) -> None:
        super().__init__(self._listen, *turns)
        self._updates = UpdateSubscriber(config.stream.updates_out)
        self._hear = hear

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        self._updates.close()

    def _listen(self) -> None:
        for update in self._updates.receive(0.02):
            self._hear(time.time(), update)


def write_config(folder: Path, tables: str = "[phasing]\nthreads = 1\n") -> Path:
    """34-ID-C's on free ports, storing in `folder`, with `tables` besides."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(len(ADDRESSES) + 2)]
    *ports, tiled, page = (probe.getsockname()[1] for probe in probes)
    for probe in probes:
        probe.close()
    stream = "".join(f'{name} = "tcp://127.0.0.1:{port}"\n' for name, port in zip(ADDRESSES, ports))
    text = config_path("34idc").read_text(encoding="utf-8")
    text += f"\n[stream]\n{stream}[tiled]\nport = {tiled}\n[page]\nport = {page}\n"
    text += f'[storage]\ndirectory = "{folder}/runs"\n{tables}'
    (folder / "beamline.toml").write_text(text, encoding="utf-8")
    return folder / "beamline.toml"


def last_frame_s(config: Config, run: str) -> float:
    """The last frame's own time stamp."""
    (path,) = (config.storage.directory / "frames").glob(f"*_{run[:8]}.h5")
    timestamps_s = read_scan(path).timestamps_s
    if timestamps_s is None:
        raise SystemExit("the detector gave no time stamps")
    return float(np.nanmax(timestamps_s))


def said(values_s: list[float]) -> str:
    ms = 1e3 * np.asarray(values_s)
    return f"p50 {np.nanpercentile(ms, 50):.0f}, p95 {np.nanpercentile(ms, 95):.0f}, worst {np.nanmax(ms):.0f} ms"
