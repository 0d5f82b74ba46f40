"""One thread each (torch, BLAS and numba oversubscribe two cores), the measured scan, and free ports."""

import os

for _library in ("OMP", "MKL", "OPENBLAS", "NUMBA"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

import random
import shutil
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

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


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Ports that nobody has, each once: below those that the system lends to outgoing connections, so that none is
    taken by one of these before a test binds it."""
    untried = random.SystemRandom().sample(range(20_000, 32_000), 12_000)

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
