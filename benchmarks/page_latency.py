"""From a frame's own time stamp to its pixels on the screen, the whole system and the browser on this machine.

    python benchmarks/page_latency.py [--rate 10] [--frames 200] [--only refining]

The detector, the RunEngine, every service with Tiled, and headless Chromium run at once. Each case is a scan:
`alone`; `refining`, while the scan before it is refined; `turning`, while somebody turns the crystal's surface
without a pause. Chromium has no graphics card here: WebGL is computed by the same two cores.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from _system import FLAGS, Watching, write_config
from playwright.sync_api import Page, sync_playwright

from live_bcdi.config import load_config
from live_bcdi.sim import simulate_scan
from live_bcdi.supervisor import Supervisor
from live_bcdi.transport.hdf5 import write_scan

# Pixels are handed over in one screen frame, and on the screen at the latest when the next one begins.
WATCH = """() => {
  const delay = document.getElementById("delay");
  window.drawn = [];
  new MutationObserver(() => {
    const { published, stamped } = delay.dataset;
    const drawn = Date.now() / 1000;
    requestAnimationFrame(() => window.drawn.push([stamped, published, drawn, Date.now() / 1000].map(Number)));
  }).observe(delay, { attributeFilter: ["data-index"] });
  window.estimates = 0;
  new MutationObserver(() => window.estimates++).observe(
    document.getElementById("estimate-label"), { childList: true, characterData: true, subtree: true });
}"""
TURN = """() => {
  const canvas = document.querySelector("#surface-panel canvas");
  setInterval(() => canvas.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" })), 33);
}"""


class Services(Watching):
    """The services, watched in a thread of their own; what `refine` does."""

    def __init__(self, supervisor: Supervisor) -> None:
        super().__init__(self._watch)
        self._supervisor = supervisor
        self.refining = False
        self.refined = 0

    def _watch(self) -> None:
        for update in self._supervisor.watch(0.1):
            if update.topic == "queue":
                self.refining = update.fields["running"] + update.fields["waiting"] > 0
            if update.topic == "result" and "tiled" in update.fields:
                self.refined += 1

    def await_(self, done: Callable[[], bool]) -> None:
        if not self.wait_for(done, 200.0):
            sys.exit("the system did not do in time what was measured")


@contextmanager
def plan(scan: Path, config: Path, rate_hz: float) -> Iterator[subprocess.Popen[bytes]]:
    """The RunEngine's process."""
    command = [sys.executable, "-m", "live_bcdi.cli", "acquire", str(scan), "--config", str(config)]
    process = subprocess.Popen([*command, "--rate", str(rate_hz)], stdout=subprocess.DEVNULL)
    try:
        yield process
        if process.wait():
            sys.exit("the plan failed; its message is above")
    finally:
        process.kill()


def measure(case: str, page: Page, services: Services, scan: Path, config: Path, rate_hz: float) -> None:
    """One scan, and a line of what was seen of it."""
    before = services.refined
    if case == "refining":
        with plan(scan, config, 0.0):
            pass
        services.await_(lambda: services.refining)
    settings = load_config(config)
    page.goto(f"http://{settings.page.host}:{settings.page.port}")
    page.wait_for_selector("#services li[data-service=live]")
    page.evaluate(WATCH)
    if case == "turning":
        page.evaluate(TURN)
    busy: list[bool] = []
    with plan(scan, config, rate_hz) as process:
        while process.poll() is None:
            busy.append(services.refining)
            page.wait_for_timeout(100)
    stamps_s = np.asarray(page.evaluate("window.drawn"))
    shown = page.locator("#delay").get_attribute("title")
    estimates = page.evaluate("window.estimates")
    page.goto("about:blank")
    services.await_(lambda: services.refined > before + (case == "refining"))
    stamps_s = stamps_s[np.isfinite(stamps_s).all(axis=1)]
    report(case, stamps_s, estimates, float(np.mean(busy)))
    print(f"           the page itself says: {shown}", flush=True)


def report(case: str, stamps_s: np.ndarray, estimates: int, busy: float) -> None:
    steps = 1e3 * np.diff(stamps_s, axis=1)
    whole = 1e3 * (stamps_s[:, -1] - stamps_s[:, 0])
    parts = " ".join(f"{np.percentile(step, 50):>5.0f}/{np.percentile(step, 95):<4.0f}" for step in steps.T)
    print(
        f"{case:>10} {len(stamps_s):>6} {estimates:>9} {100 * busy:>6.0f} % {np.percentile(whole, 50):>5.0f} "
        f"{np.percentile(whole, 95):>5.0f} {whole.max():>5.0f}    {parts}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=10.0, help="frames a second")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--edge", type=int, default=256, help="pixels of a frame's edge")
    parser.add_argument("--only", choices=["alone", "refining", "turning"], action="append")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="live-bcdi-latency-") as folder, sync_playwright() as driver:
        config = write_config(Path(folder))
        settings = load_config(config)
        scan, _ = simulate_scan(shape=(given.frames, given.edge, given.edge), photons=1e7, seed=0, config=settings)
        write_scan(Path(folder) / "scan.h5", scan)
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        with Supervisor(config) as supervisor, Services(supervisor) as services:
            print(f"{given.rate:g} frames/s of {given.edge} x {given.edge}; ms from the time stamp to the screen")
            print("      case frames estimates refining   p50   p95   max  to server  to canvas  to screen")
            for case in given.only or ["alone", "refining", "turning"]:
                measure(case, page, services, Path(folder) / "scan.h5", config, given.rate)
        browser.close()


if __name__ == "__main__":
    main()
