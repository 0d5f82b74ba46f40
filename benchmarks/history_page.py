"""The page of earlier runs against a real Tiled with many: how long it takes, how it looks, and whether the
live page waits for it.

    python benchmarks/history_page.py OUT [--runs 3000] [--without-webgl]

The runs are invented, the crystals `fake_feed`'s; everything else is what runs at a beamline. OUT gets pictures.
"""

import argparse
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import uvicorn
from _system import FLAGS
from playwright.sync_api import Browser, sync_playwright
from tiled.catalog import from_uri
from tiled.client.container import Container
from tiled.config import Authentication
from tiled.server.app import build_app

from live_bcdi.cli import config_path
from live_bcdi.config import Config, StorageConfig, TiledConfig, load_config
from live_bcdi.dashboard import Hub, fake_feed, page_server
from live_bcdi.strain import crystal_support, displacement_angstrom, strain_along
from live_bcdi.transport.tiled import connect, make_api_key, store_result
from live_bcdi.types import ComplexArray, LabImage, Outcome, Reconstruction
from live_bcdi_consumers.history import TiledHistory

SIZES = {"desk": (1600, 1000), "laptop": (1280, 800), "phone": (400, 800)}
Q_INVA = np.array(fake_feed.Q_INVA)


@contextmanager
def serving(server: uvicorn.Server) -> Iterator[None]:
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def tiled_server(folder: Path, config: Config) -> uvicorn.Server:
    storage = [str(folder / "data"), f"sqlite:///{folder / 'tables.db'}"]
    catalog = from_uri(str(folder / "catalog.db"), writable_storage=storage, init_if_not_exists=True)
    app = build_app(catalog, authentication=Authentication(single_user_api_key=make_api_key(config)))
    return uvicorn.Server(uvicorn.Config(app, port=config.tiled.port, log_level="warning"))


def crystal(state: float, edge: int) -> ComplexArray:
    """The invented crystal, a little larger and more strained at one end the higher `state` is."""
    density = fake_feed.crystal((edge,) * 3, (5.0,) * 3, 3.1 * edge * (1 + 0.03 * state))
    x, y, z = np.meshgrid(*[(np.arange(edge) - edge // 2) / edge] * 3, indexing="ij", sparse=True)
    return np.asarray(density * np.exp(1j * state * 25 * (x + 0.3 * y + z) ** 2))


def refined(state: float, edge: int) -> Reconstruction:
    density = crystal(state, edge).astype(np.complex64)
    support = crystal_support(density)
    q_invA = Q_INVA / (1 + 4e-4 * state)
    lab = LabImage(
        density=density,
        support=support,
        displacement_angstrom=displacement_angstrom(density, support, float(np.linalg.norm(q_invA))),
        strain=strain_along(density, support, q_invA, 5.0),
        voxel_nm=5.0,
        q_centre_invA=q_invA,
    )
    return Reconstruction(
        density=density[:4],
        support=support[:4],
        chi=0.0118 + 0.002 * state,
        chi_starts=(0.0118,),
        metrics={},
        recipe="3*(20*ER + 180*HIO(beta=0.9)) + 20*ER",
        seed=0,
        outcome=Outcome.DONE,
        lab=lab,
    )


def fill(root: Container, runs: int, edge: int) -> list[str]:
    """Runs every ten minutes; the last few are refined, the last one twice."""
    raw, now_s = root.create_container("raw"), time.time()
    uids = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(runs)]
    for number, uid in enumerate(uids):
        scan = {"name": f"S{number:04d}", "sample": "gold nanocrystal", "hkl": [1.0, 1.0, 1.0]}
        start = {"uid": uid, "time": now_s - 600 * (runs - number)}
        start["live_bcdi"] = {"scan": scan, "planned": {"num": 61}}
        raw.create_container(uid, metadata={"start": start, "stop": {"exit_status": "success"}})
    for number, uid in enumerate([*uids[-6:], uids[-1]]):
        about = {
            "name": f"S{uids.index(uid):04d}",
            "frames": 61,
            "num": 61,
            "finished": now_s,
            "file": str(number),
        }
        store_result(root, uid, refined(number / 5, edge), about)
    return uids


def measure(address: str, uids: list[str]) -> None:
    """How long each answer takes, and how long the page's own health is kept waiting meanwhile."""
    a, b = uids[-5], uids[-1]
    for name, path in (
        ("newest 20 runs", "runs"),
        ("20 runs after 2000", "runs?skip=2000"),
        ("filter", f"runs?text=S{len(uids) // 2:04d}"),
        ("a result", f"result?place={a}"),
        ("the difference", f"difference?a={a}&b={b}"),
        ("the difference again", f"difference?a={a}&b={b}"),
    ):
        waits: list[float] = []
        done = threading.Event()
        watcher = threading.Thread(target=_watch, args=(f"{address}/health", waits, done))
        watcher.start()
        began_s = time.perf_counter()
        response = httpx.get(f"{address}/history/{path}", timeout=60)
        seconds = time.perf_counter() - began_s
        done.set()
        watcher.join()
        size = f"{len(response.content) / 1e6:.2f} MB"
        print(f"{name:22s} {seconds:6.2f} s  {size:8s} /health within {max(waits) * 1e3:.0f} ms")


def _watch(address: str, waits: list[float], done: threading.Event) -> None:
    with httpx.Client() as client:
        while not done.is_set() or not waits:
            began_s = time.perf_counter()
            client.get(address)
            waits.append(time.perf_counter() - began_s)
            time.sleep(0.01)


def photograph(browser: Browser, address: str, query: str, out: Path, name: str) -> None:
    for device, (width, height) in SIZES.items():
        for scheme in ("dark", "light"):
            page = browser.new_page(
                viewport={"width": width, "height": height},
                color_scheme=scheme,  # type: ignore[arg-type]
                device_scale_factor=2 if device == "phone" else 1,
            )
            page.on("console", lambda message: print(f"console: {message.text}"))
            page.on("pageerror", lambda error: print(f"error: {error}"))
            page.goto(f"{address}/history{query}")
            page.wait_for_selector("#runs li, #runs-why:not(:empty)")
            if "b=" in query:
                page.wait_for_selector("#registration:has-text('moved'), #d-why:not(:empty), .why:not(:empty)")
            page.wait_for_timeout(500)
            page.screenshot(path=out / f"{name}_{device}_{scheme}.png", full_page=True)
            page.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--edge", type=int, default=96)
    parser.add_argument("--without-webgl", action="store_true")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = {"storage": StorageConfig(directory=folder), "tiled": TiledConfig(port=free_port())}
        config = load_config(config_path("34idc")).model_copy(update=settings)
        port = free_port()
        address = f"http://127.0.0.1:{port}"
        page = page_server(Hub(), title="34-ID-C", port=port, history=TiledHistory(config))
        with serving(page), sync_playwright() as driver:
            flags = FLAGS + (["--disable-3d-apis"] if given.without_webgl else [])
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
            with serving(tiled_server(folder, config)):
                uids = fill(connect(config), given.runs, given.edge)
                measure(address, uids)
                shots = {
                    "chosen": f"?a={uids[-5]}&b={uids[-1]}",
                    "phase": f"?a={uids[-5]}&b={uids[-1]}/1&by=phase",
                    "one": f"?a={uids[-1]}",
                    "refused": f"?a={uids[0]}&b={uids[-1]}/9",
                }
                for scene, query in shots.items():
                    photograph(browser, address, query, given.out, scene)
            began_s = time.perf_counter()
            print(
                httpx.get(f"{address}/history/runs", timeout=60).json(), f"{time.perf_counter() - began_s:.2f} s"
            )
            photograph(browser, address, f"?a={uids[-2]}&b={uids[-1]}", given.out, "away")
            browser.close()


if __name__ == "__main__":
    main()
