"""What ten browsers cost the intake of frames, what they cost the page's memory, and how heavy the page is.

    python benchmarks/page_browsers.py [--rate 1000] [--seconds 5] [--repeats 3] [--browsers 10]

The real services take frames of 256 x 256, in turn without a browser and with ten. Browsers are websockets on a
process of their own which reads and throws away: those of a beamline are on other computers. Two of the ten read
nothing at all.
"""

import argparse
import multiprocessing
import select
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import zmq
from _system import FLAGS, write_config
from page_latency import Services
from playwright.sync_api import sync_playwright

from live_bcdi.config import Config, load_config
from live_bcdi.faults.memory import resident_mb
from live_bcdi.metadata import scan_metadata
from live_bcdi.stream.run import KEY, planned_metadata
from live_bcdi.supervisor import Supervisor
from live_bcdi.transport.zmq import FramePublisher, UpdateSubscriber, encode_document
from live_bcdi.types import Frame, RockingScan

EDGE = 256
STUCK = 2


def read(host: str, port: int, count: int, ready: Event, ending: Event) -> None:
    """Open so many websockets; read all but `STUCK` of them until told to end."""
    sockets = [socket.create_connection((host, port)) for _ in range(count)]
    for one in sockets:
        one.sendall(
            f"GET /ws HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        one.recv(100)
    ready.set()
    buffer = bytearray(1 << 20)
    while not ending.is_set():
        for one in select.select(sockets[STUCK:], [], [], 0.1)[0]:
            one.recv_into(buffer)


@contextmanager
def browsers(config: Config, count: int) -> Iterator[None]:
    context = multiprocessing.get_context("spawn")
    ready, ending = context.Event(), context.Event()
    process = context.Process(target=read, args=(config.page.host, config.page.port, count, ready, ending))
    process.start()
    try:
        ready.wait(30)
        yield
    finally:
        ending.set()
        process.join()


class Detector:
    """Sends runs of frames to the services, and sees what the live one makes of them."""

    def __init__(self, config: Config, num: int, rate_hz: float) -> None:
        self.num, self.rate_hz = num, rate_hz
        self._frames = FramePublisher(config.stream.frames)
        self._documents: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUB)
        self._documents.connect(config.stream.documents_in)
        self._updates = UpdateSubscriber(config.stream.updates_out, topics=("live", "run"))
        positions = {circle.motor: 10.0 for circle in (*config.diffractometer.sample, *config.diffractometer.arm)}
        self._scan = RockingScan(
            name="browsers",
            intensity=np.empty((0, EDGE, EDGE), np.uint16),
            angles_deg=np.empty(0),
            geometry=config.geometry(positions, energy_kev=9.0, distance_m=1.0),
            hkl=(1.0, 1.0, 1.0),
        )
        self._images = [
            np.random.default_rng(seed).poisson(0.5, (EDGE, EDGE)).astype(np.uint16) for seed in range(4)
        ]
        self._frames.wait_for_subscriber(20.0)

    def close(self) -> None:
        self._frames.close()
        self._updates.close()
        self._documents.close(linger=0)

    def _say(self, name: str, **doc: object) -> None:
        self._documents.send(b" ".join([b"", name.encode(), encode_document(doc)]))

    def measure(self) -> tuple[float, int]:
        """Frames a second that went into the volume, and how many of them never did."""
        run = str(uuid.uuid4())
        planned = planned_metadata(scan_metadata(self._scan), num=self.num, start_deg=-0.3, stop_deg=0.3)
        self._say("start", uid=run, time=time.time(), **{KEY: planned})
        while not any(update.run == run for update in self._updates.receive(0.1)):
            pass
        began_s = time.monotonic()
        for index in range(self.num):
            time.sleep(max(began_s + index / self.rate_hz - time.monotonic(), 0.0))
            numbers = {
                "angle_deg": 0.6 * index / self.num - 0.3,
                "monitor": float("nan"),
                "timestamp_s": time.time(),
            }
            self._frames.send(Frame(run=run, index=index, image=self._images[index % 4], **numbers))
        self._say("stop", uid=str(uuid.uuid4()), run_start=run, time=time.time(), exit_status="abort")
        while True:
            for update in self._updates.receive(0.1):
                if update.topic == "live" and update.run == run:
                    fields = update.fields
                elif update.run == run and update.fields.get("state") == "stopped":
                    return float(fields["rate_hz"]), self.num - int(fields["received"])


def weight(config: Config) -> int:
    """Bytes of a cold load, with headers."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page()
        requests = []
        page.on("requestfinished", lambda request: requests.append(request))
        page.goto(f"http://{config.page.host}:{config.page.port}")
        page.wait_for_selector("#services li")
        sizes = [request.sizes() for request in requests]
        browser.close()
    return sum(size["responseBodySize"] + size["responseHeadersSize"] for size in sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=1000.0, help="frames a second")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--browsers", type=int, default=10)
    given = parser.parse_args()
    rates: dict[int, list[float]] = {0: [], given.browsers: []}
    with tempfile.TemporaryDirectory(prefix="live-bcdi-browsers-") as folder:
        path = write_config(Path(folder))
        config = load_config(path)
        with Supervisor(path) as supervisor, Services(supervisor):
            print(f"the page weighs {weight(config) / 1e3:.0f} kB")
            with closing(Detector(config, round(given.rate * given.seconds), given.rate)) as detector:
                detector.measure()  # whatever is done the first time
                for _ in range(given.repeats):
                    for count, measured in rates.items():
                        with browsers(config, count):
                            rate_hz, lost = detector.measure()
                            memory_mb = resident_mb(supervisor.pids()["page"]) or float("nan")
                        measured.append(rate_hz)
                        print(
                            f"{count:>3} browsers: {rate_hz:.1f} frames/s, {lost} lost, page {memory_mb:.0f} MB",
                            flush=True,
                        )
    none, some = (float(np.median(measured)) for measured in rates.values())
    print(f"median with {given.browsers} over without: {some / none:.4f}")


if __name__ == "__main__":
    main()
