"""A whole system on free ports in a folder of its own."""

import json
import time
import tomllib
from pathlib import Path

import pytest

from live_bcdi.config import parse_config
from live_bcdi.supervisor import Supervisor

BEAMLINE = Path(__file__).resolve().parents[2] / "config" / "34idc.toml"
ADDRESSES = ("documents_in", "documents_out", "updates_in", "updates_out", "frames", "relay")


@pytest.fixture(scope="session")
def wait_for():
    """The first thing that `look` gives which is not empty, asked again and again for so many seconds."""

    def wait(look, seconds=60.0):
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            if found := look():
                return found
            time.sleep(0.05)
        pytest.fail(f"it did not happen in {seconds} s")

    return wait


@pytest.fixture(scope="session")
def make_config(free_port):
    """config/34idc.toml on free ports, storing in `folder`; `tables` are added or take the place of ours."""

    def make(folder: Path, **tables: dict) -> Path:
        added = {
            "stream": {name: f"tcp://127.0.0.1:{free_port()}" for name in ADDRESSES},
            "tiled": {"port": free_port()},
            "page": {"port": free_port()},
            "storage": {"directory": str(folder / "runs")},
            "phasing": {"starts": 2, "threads": 1},
            "operando": {"state": "simulated.photons"},  # what simulated scans say of themselves
            **tables,
        }
        text = BEAMLINE.read_text() + "".join(_table(name, table) for name, table in added.items())
        parse_config(tomllib.loads(text))
        path = folder / "beamline.toml"
        path.write_text(text)
        return path

    return make


def _table(name: str, table: dict) -> str:
    values = [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    return "\n" + "\n".join([f"[{name}]", *values, ""])


@pytest.fixture(scope="session")
def system(tmp_path_factory, make_config):
    """The running services, and the configuration they run with."""
    path = make_config(tmp_path_factory.mktemp("system"))
    with Supervisor(path) as supervisor:
        yield supervisor, path


class Listening:
    """The updates of a system, kept in `heard`, and each shown to `then`."""

    def __init__(self, supervisor, then=lambda update: None):
        self._supervisor, self._then, self.heard = supervisor, then, []

    def watch(self, timeout_s=0.5):
        for update in self._supervisor.watch(timeout_s):
            self.heard.append(update)
            self._then(update)
            yield update


@pytest.fixture(scope="session")
def listening():
    return Listening
