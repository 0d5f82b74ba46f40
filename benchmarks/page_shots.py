"""Pictures of the live page in headless Chromium.

    python benchmarks/page_shots.py OUT [--measured FOLDER_OF_TIFFS] [--only during] [--without-webgl]

Each scene is fed to a real server (uvicorn, websocket) and photographed on a desk and on a phone, dark and light.
"""

import argparse
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tifffile
from _system import FLAGS
from playwright.sync_api import Browser, Page, sync_playwright

from live_bcdi.advice import Advice
from live_bcdi.dashboard import Hub, fake_feed, page_server
from live_bcdi.dashboard.fake_feed import FakeScan

SATURATED = Advice(
    rule="saturated",
    level="warning",
    what="Attenuate the beam, or shorten the exposure, and measure again.",
    why="12 pixels reached the detector's limit of 2.36e+05 counts. They are left out, and the peak's middle holds"
    " most of the crystal's shape.",
)
OFF_RANGE = Advice(
    rule="off_range",
    level="info",
    what="Centre the next scan at 0.318 deg.",
    why="The peak is 0.11 deg off the middle of 0.05 to 0.35 deg, more than 25% of it: one side of the pattern is"
    " measured less far.",
)
COUNTS = Advice(
    rule="counts",
    level="warning",
    what="Count 4.3 times as long, or sum repeats of the scan.",
    why="2.4e+05 counts in all and strong strain (asymmetry 0.18): with 1e5 counts 4 of 20 such simulated crystals"
    " were found, with 1e6 18.",
)
STEP = Advice(
    rule="step",
    level="error",
    what="Halve the rocking step.",
    why="Oversampling along the rocking axis is 1.7: below 2, phases are not determined.",
)
SIZES = {"desk": (1600, 1000), "phone": (400, 800)}
SCHEMES = ("dark", "light")
WITHOUT_WEBGL = ["--disable-3d-apis"]


def measured_scan(folder: Path) -> FakeScan:
    """The frames of a folder of TIFFs; the crystal shown with them stays the invented one."""
    frames = np.stack([tifffile.imread(path) for path in sorted(folder.glob("*.tif"))])
    angles_deg = -0.279996 + 0.22 + 0.0050024 * np.arange(len(frames))
    return FakeScan(frames=frames.astype(np.int32), angles_deg=angles_deg, voxel_nm=(15.1, 5.0, 5.0))


@contextmanager
def served(hub: Hub) -> Iterator[str]:
    """The page on a free port, in a thread; its address."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = page_server(hub, title="34-ID-C", port=port)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def during(hub: Hub, scan: FakeScan) -> None:
    middle = len(scan.frames) // 2
    _publish(hub, fake_feed.heartbeats())
    hub.publish(fake_feed.notice("live", "info", "volume grows", run=scan.run))
    hub.publish(fake_feed.run_started(scan))
    for index in range(0, middle + 1, 4):
        hub.publish(fake_feed.live(scan, index))
    hub.publish(fake_feed.live(scan, middle, missing=(10, 11, 18)))
    hub.publish(fake_feed.live_estimate(scan, middle + 1))
    hub.publish(fake_feed.advice(scan, "scan", SATURATED, OFF_RANGE))
    hub.publish(fake_feed.queue(fake_feed.job(scan, name="S0053"), waiting=2))


def smooth(hub: Hub, scan: FakeScan) -> None:
    """As it should be: nothing was lost."""
    _publish(hub, fake_feed.heartbeats())
    hub.publish(fake_feed.run_started(scan))
    hub.publish(fake_feed.live(scan, len(scan.frames) // 2))
    hub.publish(fake_feed.live_estimate(scan, len(scan.frames) // 2))
    hub.publish(fake_feed.queue())


def refined(hub: Hub, scan: FakeScan) -> None:
    during(hub, scan)
    hub.publish(fake_feed.live(scan, len(scan.frames) - 1, refilled=3))
    hub.publish(fake_feed.run_stopped(scan))
    hub.publish(fake_feed.refined_estimate(scan))
    hub.publish(fake_feed.queue())
    hub.publish(fake_feed.advice(scan, "result", COUNTS, STEP))
    hub.publish(fake_feed.result(scan))
    hub.publish(fake_feed.notice("refine", "info", "result written", run=scan.run))


def missing(hub: Hub, scan: FakeScan) -> None:
    """The file had one of the three frames that the stream lost."""
    during(hub, scan)
    hub.publish(fake_feed.live(scan, len(scan.frames) - 1, missing=(10, 18), refilled=1))
    hub.publish(fake_feed.run_stopped(scan))
    silent = fake_feed.job(scan, quiet_s=95.0, seconds=130.0)
    hub.publish(
        fake_feed.queue(silent, fake_feed.job(scan, None, run="a", name="S0052"), waiting=2, later=5, outbox=1)
    )


def dead(hub: Hub, scan: FakeScan) -> None:
    during(hub, scan)
    _publish(hub, fake_feed.heartbeats(failed="live", busy="refine"))
    message = "live ended with status -9; starting it again in 0.5 s"
    hub.publish(fake_feed.notice("supervisor", "error", message))
    hub.publish(fake_feed.notice("refine", "warning", "2 result(s) wait on disk for Tiled: no route"))
    time.sleep(3.5)


def empty(hub: Hub, scan: FakeScan) -> None:
    _publish(hub, fake_feed.heartbeats())


def series(hub: Hub, scan: FakeScan) -> None:
    """Six states of a battery, the last of which has its result."""
    refined(hub, scan)
    hub.publish(fake_feed.series())


def series_by_time(hub: Hub, scan: FakeScan) -> None:
    """Many runs, of which two did not say their state."""
    refined(hub, scan)
    states = [2.5 + 0.05 * min(number, 60 - number) for number in range(60)]
    hub.publish(fake_feed.series([None if number in (7, 31) else state for number, state in enumerate(states)]))


def motion(hub: Hub, scan: FakeScan) -> None:
    """A crystal that turns within its scan, and drifts through a series, one scan of which had no beam."""
    refined(hub, scan)
    hub.publish(fake_feed.turned(scan))
    hub.publish(fake_feed.motion())


def motion_lost(hub: Hub, scan: FakeScan) -> None:
    """While it is scanned; the newest scan that ended did not see the crystal."""
    during(hub, scan)
    hub.publish(fake_feed.turned(scan, len(scan.frames) // 2))
    hub.publish(fake_feed.motion(8, lost=True))


SCENES: dict[str, Callable[[Hub, FakeScan], None]] = {
    "empty": empty,
    "during": during,
    "smooth": smooth,
    "refined": refined,
    "strain": refined,
    "missing": missing,
    "dead": dead,
    "series": series,
    "motion": motion,
    "motion_lost": motion_lost,
    "series_by_time": series_by_time,
}


def _publish(hub: Hub, updates: Iterator[fake_feed.Update]) -> None:
    for update in updates:
        hub.publish(update)


def photograph(browser: Browser, scan: FakeScan, out: Path, scenes: list[str]) -> None:
    for scene in scenes:
        hub = Hub()
        with served(hub) as address:
            SCENES[scene](hub, scan)
            for device, (width, height) in SIZES.items():
                for scheme in SCHEMES:
                    page = browser.new_page(
                        viewport={"width": width, "height": height},
                        color_scheme=scheme,  # type: ignore[arg-type]
                        device_scale_factor=2 if device == "phone" else 1,
                    )
                    _open(page, address)
                    if scene == "strain":
                        page.get_by_role("button", name="strain").click()
                        page.wait_for_timeout(300)
                    page.screenshot(path=out / f"{scene}_{device}_{scheme}.png", full_page=True)
                    page.close()


def _open(page: Page, address: str) -> None:
    page.on("console", lambda message: print(f"console: {message.text}"))
    page.on("pageerror", lambda error: print(f"error: {error}"))
    page.goto(address)
    page.wait_for_selector("body:not(.lost)")
    page.wait_for_timeout(600)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--measured", type=Path, help="folder of TIFF frames")
    parser.add_argument("--only", choices=list(SCENES), action="append")
    parser.add_argument("--without-webgl", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    scan = measured_scan(options.measured) if options.measured else fake_feed.simulated_scan()
    with sync_playwright() as playwright:
        flags = FLAGS + (WITHOUT_WEBGL if options.without_webgl else [])
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        photograph(browser, scan, options.out, options.only or list(SCENES))
        browser.close()


if __name__ == "__main__":
    main()
