"""The page during and after a real run through the whole live path: the README's picture.

    python benchmarks/live_picture.py OUT [SCAN.h5] [--rate 20] [--config 34idc]

Without a scan it measures the demo's crystal. OUT gets during.png and page.png.
"""

import argparse
import threading
from pathlib import Path

from playwright.sync_api import sync_playwright

from live_bcdi.cli import config_path
from live_bcdi.config import Config, load_config
from live_bcdi.session import play, running_system
from live_bcdi.sim import simulate_scan
from live_bcdi.transport.hdf5 import read_scan, write_scan

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


def photograph(url: str, path: Path) -> None:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.goto(url)
        page.wait_for_timeout(1500)
        height = page.evaluate("document.querySelector('main').getBoundingClientRect().bottom + 10")
        page.screenshot(path=path, clip={"x": 0, "y": 0, "width": 1600, "height": height})
        browser.close()


def demo_scan(settings: Config, folder: Path) -> Path:
    scan, _ = simulate_scan(seed=0, config=settings)
    write_scan(folder / "demo.h5", scan)
    return folder / "demo.h5"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("scan", type=Path, nargs="?")
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--config", default="34idc")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    path = config_path(given.config)
    settings = load_config(path)
    url = f"http://{settings.page.host}:{settings.page.port}"
    scan = given.scan or demo_scan(settings, given.out)
    middle_s = 2 + 0.65 * len(read_scan(scan).angles_deg) / given.rate  # the plan takes two seconds to begin
    with running_system(path) as system:
        shutter = threading.Timer(middle_s, photograph, (url, given.out / "during.png"))
        shutter.start()
        print(play(system, scan, path, rate_hz=given.rate, fly=False)["result"])
        shutter.join()
        photograph(url, given.out / "page.png")


if __name__ == "__main__":
    main()
