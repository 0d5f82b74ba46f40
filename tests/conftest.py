"""One thread each (torch, BLAS and numba oversubscribe two cores), the measured scan, and free ports."""

import os

for _library in ("OMP", "MKL", "OPENBLAS", "NUMBA"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

import random
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of measured data beside the project."""
    path = ROOT.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip("no measured data beside the project (../shared/data)")
    return path


@pytest.fixture(scope="session")
def s0054(shared: Path) -> Path:
    """Folder of scan 54, measured at 34-ID-C."""
    return shared / "34idc_S0054"


@pytest.fixture(scope="session")
def chromium() -> str:
    """Where Debian's Chromium is. A laptop may do without the page's tests, CI may not."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        without = pytest.fail if os.environ.get("CI") else pytest.skip
        without("no chromium on this machine: apt-get install chromium")
    return path


@pytest.fixture(scope="module")
def launch(chromium: str) -> Iterator[Callable[..., Any]]:
    """`launch(*flags)`: a headless Chromium that asks nobody for anything, and draws WebGL by the CPU."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=60_000)  # its own 5 s are short for a browser on a busy machine
    flags = [
        *("--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    ]
    with sync_playwright() as driver:
        yield lambda *more: driver.chromium.launch(executable_path=chromium, args=[*flags, *more])


@pytest.fixture(scope="module")
def browser(launch: Callable[..., Any]) -> Iterator[Any]:
    browser = launch()
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def empty_tiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The client of a Tiled server in this process, whose catalogue is empty when the module begins."""
    from tiled.catalog import from_uri
    from tiled.client import Context, from_context
    from tiled.config import Authentication
    from tiled.server.app import build_app

    folder = tmp_path_factory.mktemp("tiled")
    storage = [str(folder / "data"), f"sqlite:///{folder / 'tables.db'}"]
    catalog = from_uri(str(folder / "catalog.db"), writable_storage=storage, init_if_not_exists=True)
    app = build_app(catalog, authentication=Authentication(single_user_api_key="secret"))
    with Context.from_app(app, api_key="secret") as context:
        yield from_context(context)


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Ports that nobody has, each once: below those that the system lends to outgoing connections, so that none is
    taken by one of these before a test binds it, and of each worker of pytest-xdist its own."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    ports = range(20_000 + worker, 32_000, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
    untried = random.SystemRandom().sample(ports, len(ports))

    def find() -> int:
        while True:
            with socket.socket() as probe, suppress(OSError):
                port = untried.pop()
                probe.bind(("127.0.0.1", port))
                return port

    return find


@pytest.fixture
def free_address(free_port: Callable[[], int]) -> str:
    """A loopback address for one 0MQ socket."""
    return f"tcp://127.0.0.1:{free_port()}"


@pytest.fixture(scope="session")
def gold() -> Callable[[float], Any]:
    """`gold(side_m)`: a scan of 37 angles, 40 x 40 pixels, of a strained block of gold, (002) at 8 keV in pi
    light, by the dynamical model."""
    return _gold


def _gold(side_m: float) -> Any:
    """Made on voxels half as long as a pixel resolves."""
    import numpy as np

    from live_bcdi.dynamical import Characteristics, element, susceptibilities
    from live_bcdi.dynamical.detector import FarField, departures, frame_at, pixel_samples
    from live_bcdi.types import Geometry, RockingScan, Rotation

    constants = susceptibilities(element("Au"), (0, 0, 2), 8.0)
    two_theta_deg = float(np.rad2deg(constants.two_theta))
    pixels, count = 40, 37
    middle = (pixels / 2, pixels / 2)
    geometry = Geometry(
        energy_kev=8.0,
        distance_m=0.95e6 * side_m,  # so that fringes are 2.7 pixels wide
        pixel_um=(55.0, 55.0),
        arm_pixel=middle,
        beam_direction=(0.0, 0.0, 1.0),
        row_direction=(0.0, -1.0, 0.0),
        column_direction=(1.0, 0.0, 0.0),
        sample=(Rotation(motor="theta", axis=(0.0, 1.0, 0.0), angle_deg=two_theta_deg / 2),),
        arm=(Rotation(motor="delta", axis=(0.0, 1.0, 0.0), angle_deg=two_theta_deg),),
        rocking="theta",
    )
    frame = frame_at(geometry, *middle)
    edge = side_m / 24
    edges = np.array([edge, edge, edge / np.tan(frame.two_theta)])
    axes = [(np.arange(n) - n // 2) * d for n, d in zip((48, 30, 40), edges)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    filled = np.ones(x.shape)
    for distance, half in ((x + 0.3 * z, side_m / 2), (y, side_m / 3), (z, side_m / 2)):
        filled *= np.clip((half - np.abs(distance)) / edge + 0.5, 0, 1)
    phase = 0.8 * np.sin(3 * x / side_m) * np.cos(3 * z / side_m) + y * z / (0.4 * side_m) ** 2
    angles = two_theta_deg / 2 + 0.16e-6 / side_m / count * (np.arange(count) - count // 2)
    wave = Characteristics(constants.beams("pi"), edges).march(
        filled * np.exp(1j * phase), filled, departures(geometry, *middle, angles)
    )
    expected = FarField(pixel_samples(geometry, middle, (pixels, pixels)), edges).intensities(wave.eh)
    measured = np.random.default_rng(1).poisson(expected * 1e7 / expected.sum()).astype(np.int32)
    return RockingScan(name="gold", intensity=measured, angles_deg=angles, geometry=geometry)
