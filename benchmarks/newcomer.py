"""A newcomer's path, timed: clone to the crystal on the screen, and own frames to a result.

    python benchmarks/newcomer.py FOLDER [--from REPOSITORY] [--measured FOLDER_OF_S0054]
                                  [--steps clone install demo own] [--json]

Every command is one of README or docs/how-to/archive.md, run in FOLDER by the clone's own environment; the page is
watched by headless Chromium. What earlier calls with the same FOLDER found is kept in FOLDER/newcomer.json.
"""

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import tifffile
from playwright.sync_api import Page, sync_playwright

from live_bcdi.config import find_config, load_config
from live_bcdi.sim import Truth, compare_with_truth, simulate_scan
from live_bcdi.transport.hdf5 import read_result
from live_bcdi.types import RockingScan

STEPS = ("clone", "install", "demo", "own")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
DRAWN = """label => {
    const shown = document.querySelector('#estimate-label').textContent;
    return shown.startsWith(label) && document.querySelector('#crystal-panel canvas').toDataURL().length > 3000;
}"""  # an empty canvas is a PNG of some hundred bytes

Rows = list[dict[str, object]]


def timed(command: str, folder: Path) -> float:
    began = time.perf_counter()
    subprocess.run(shlex.split(command), cwd=folder, env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def clone(folder: Path, repository: str) -> Rows:
    return [{"what": "git clone", "commands": 1, "s": timed(f"git clone -q {repository} live_bcdi", folder)}]


def install(folder: Path) -> Rows:
    """`make.py` sets up before it does anything; then help is all that it has to do."""
    command = "python3 make.py demo --help"
    rows: Rows = [{"what": "make.py installs", "commands": 1, "s": timed(command, folder / "live_bcdi")}]
    return [
        *rows,
        {"what": "the same, installed already", "commands": 1, "s": timed(command, folder / "live_bcdi")},
    ]


def demo(folder: Path) -> Rows:
    """From `python3 make.py demo`, installed, to what the page shows."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        page = browser.new_page(viewport={"width": 1600, "height": 1000}, bypass_csp=True)  # ours, to look
        began = time.perf_counter()
        with running("python3 make.py demo --hold", folder / "live_bcdi") as lines:
            address = next(found[1] for line in lines if (found := re.match(r"page: (\S+)", line)))
            rows: Rows = [{"what": "the page's address", "s": time.perf_counter() - began}]
            page.goto(address)
            for what in _seen(page, folder):
                rows.append({"what": what, "s": time.perf_counter() - began})
        browser.close()
    return rows


def _seen(page: Page, folder: Path) -> Iterator[str]:
    page.wait_for_function("/\\d/.test(document.querySelector('#count').textContent)", timeout=120_000)
    yield "the first frame on the page"
    page.wait_for_function(DRAWN, arg="live estimate", timeout=120_000, polling="raf")
    yield "the first crystal on the page"
    page.screenshot(path=folder / "crystal.png")
    page.wait_for_function(DRAWN, arg="refined", timeout=120_000, polling="raf")
    yield "the refined crystal on the page"
    page.screenshot(path=folder / "refined.png")


@contextmanager
def running(command: str, folder: Path) -> Iterator[Iterator[str]]:
    """A command and the lines of its standard error; Ctrl-C at the end of the block."""
    with subprocess.Popen(
        shlex.split(command),
        cwd=folder,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None, "opened as a pipe"
        try:
            yield iter(process.stderr)
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.stderr.read()


def own(folder: Path, measured: Path | None) -> Rows:
    """Frames as programs of a beamline leave them, each to a result that is compared with the truth where it is
    known."""
    scan, truth = simulate_scan(config=load_config(find_config("34idc")), seed=0)
    place = folder / "own"
    place.mkdir(exist_ok=True)
    config = _beamline(place, scan)
    (tiffs, angles), whole = _tiffs(place, scan), _hdf5(place, scan)
    motors = " ".join(f"--motor {name}={angle!r}" for name, angle in _still(scan).items())
    geometry = scan.geometry
    told = f"--angles {angles} --energy-kev {geometry.energy_kev!r} --distance-m {geometry.distance_m!r} {motors}"
    rows = _to_result(place, "TIFFs alone", f"{tiffs} {told} --config {config.name}", truth)
    rows += _to_result(place, "HDF5 of its own paths", f"{whole.name} --config {config.name}", truth)
    if measured is not None:
        rows += _to_result(place, "SPEC and TIFFs, measured", f"{measured.resolve()} --scan 54", None)
    return rows


def _to_result(place: Path, what: str, source: str, truth: Truth | None) -> Rows:
    name = re.sub(r"\W", "_", what)
    verbs = {
        "import": f"import {source} --overwrite -o {name}.h5",
        "phase": f"phase {name}.h5 --overwrite",
        "figure": f"figure {name}_result.cxi --overwrite",
    }
    command = place.parent / "live_bcdi" / ".venv" / "bin" / "live-bcdi"
    seconds = {verb: timed(f"{command.resolve()} {rest}", place) for verb, rest in verbs.items()}
    result = read_result(place / f"{name}_result.cxi")
    error = None if truth is None else compare_with_truth(result, truth)["phase_rms_rad"]
    facts = {"chi": result.chi, "phase_rms_rad": error, **{f"{verb}_s": each for verb, each in seconds.items()}}
    return [{"what": what, "commands": len(verbs), "s": sum(seconds.values()), **facts}]


def _still(scan: RockingScan) -> dict[str, float]:
    circles = (*scan.geometry.sample, *scan.geometry.arm)
    return {circle.motor: circle.angle_deg for circle in circles if circle.motor != scan.geometry.rocking}


def _tiffs(place: Path, scan: RockingScan) -> tuple[str, str]:
    folder = place / "frames"
    folder.mkdir(exist_ok=True)
    for index, image in enumerate(scan.intensity):
        tifffile.imwrite(folder / f"gold_{index:04d}.tif", image)
    np.savetxt(place / "angles.txt", scan.angles_deg)
    return "frames", "angles.txt"


def _hdf5(place: Path, scan: RockingScan) -> Path:
    with h5py.File(place / "own.h5", "w") as file:
        file["detector/counts"] = scan.intensity
        file["motors/th"] = scan.angles_deg
        file["mono/energy"] = scan.geometry.energy_kev * 1000
        file["mono/energy"].attrs["units"] = "eV"
        for motor, angle_deg in _still(scan).items():
            file[f"motors/{motor}"] = angle_deg
    return place / "own.h5"


def _beamline(place: Path, scan: RockingScan) -> Path:
    """34-ID-C with the pixel that the simulated arm points at, and where `_hdf5` puts things; its only volume
    needs no name."""
    row, column = scan.geometry.arm_pixel
    text = re.sub(r"(?m)^arm_pixel.*$", f"arm_pixel = [{row}, {column}]", find_config("34idc").read_text())
    motors = "\n".join(f'{motor} = "/motors/{motor}"' for motor in _still(scan))
    text += f"""
[files]
angles = "/motors/th"
energy_kev = "/mono/energy"
distance_m = {scan.geometry.distance_m!r}

[files.motors]
{motors}
"""
    (place / "mine.toml").write_text(text)
    return place / "mine.toml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--from", dest="repository", default=str(Path(__file__).resolve().parents[1]))
    parser.add_argument("--measured", type=Path)
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    kept = asked.folder / "newcomer.json"
    found: dict[str, Rows] = json.loads(kept.read_text()) if kept.exists() else {}
    steps: dict[str, Callable[[], Rows]] = {
        "clone": lambda: clone(asked.folder, asked.repository),
        "install": lambda: install(asked.folder),
        "demo": lambda: demo(asked.folder),
        "own": lambda: own(asked.folder, asked.measured),
    }
    for step in asked.steps:
        found[step] = steps[step]()
        kept.write_text(json.dumps(found))
    if asked.json:
        print(json.dumps(found, indent=2))
        return
    print("| step | what | commands | s | chi | phase rms, rad |\n|---|---|---|---|---|---|")
    for step in filter(found.get, STEPS):
        for row in found[step]:
            numbers = [f"{row[key]:.3g}" if row.get(key) is not None else "" for key in ("chi", "phase_rms_rad")]
            print(
                f"| {step} | {row['what']} | {row.get('commands', '')} | {row['s']:.1f} | {' | '.join(numbers)} |"
            )


if __name__ == "__main__":
    main()
