"""The network's preview in the stream: of all frames whatever happens to its process, and kept in Tiled."""

import os
import signal

import numpy as np
import pytest

from live_bcdi.config import load_config
from live_bcdi.faults.memory import workers
from live_bcdi.session import play
from live_bcdi.sim import simulate_scan
from live_bcdi.supervisor import Supervisor
from live_bcdi.transport.hdf5 import write_scan
from live_bcdi.transport.tiled import connect, versions

SHAPE = (40, 48, 48)
QUICK = {"starts": 1, "threads": 1, "recipe": "20*ER"}


@pytest.fixture(scope="module")
def scan_file(tmp_path_factory, make_config):
    folder = tmp_path_factory.mktemp("scan")
    settings = load_config(make_config(folder))
    scan, _ = simulate_scan(shape=SHAPE, photons=2e6, strain="weak", seed=4, config=settings)
    write_scan(folder / "small.h5", scan)
    return folder / "small.h5"


@pytest.fixture(scope="module")
def seeing(tmp_path_factory, make_config):
    """The running services with the network."""
    pytest.importorskip("torch")
    path = make_config(tmp_path_factory.mktemp("seeing"), live={"network": True, "track": False}, phasing=QUICK)
    with Supervisor(path) as supervisor:
        yield supervisor, path


def test_a_killed_estimate_costs_no_frame_and_the_scan_has_its_preview_from_a_new_process(
    seeing, scan_file, wait_for, listening
):
    supervisor, path = seeing
    killed = []

    def kill(update):
        half = update.topic == "live" and update.fields["count"] >= SHAPE[0] // 2
        if not killed and (half or update.topic == "estimate"):
            killed.extend(workers(supervisor.pids()["live"]))
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    system = listening(supervisor, kill)
    told = play(system, scan_file, path, rate_hz=10, fly=False)
    assert len(killed) == 1, "the estimate has a process of its own"
    assert (told["live"]["count"], told["live"]["missing"], told["result"]["missing"]) == (SHAPE[0], 0, [])
    seen = wait_for(lambda: list(system.watch(0.1)) and at_the_end(system, told["run"]))
    assert killed[0] not in workers(supervisor.pids()["live"])
    assert seen[-1] == ("preview", SHAPE[0])
    frames = [each for _, each in seen]
    assert frames == sorted(set(frames)), "each is of more frames than the last"
    root = connect(load_config(path))
    (node,) = wait_for(lambda: versions(root, "preview", told["run"])).values()
    std = node["phase_std"].read()
    assert np.isfinite(std).any() and np.nanmin(std) >= 0 and 0 < node.metadata["phase_std_rad"] < np.pi
    from live_bcdi_models.weights import load_weights

    card = load_weights()[1]
    assert node.metadata["provenance"]["network"] == f"{card.network} {card.sha256[:12]}"


def at_the_end(system, run):
    """(kind, frames) of each live estimate, once the last is of all frames."""
    fields = [each.fields for each in system.heard if (each.topic, each.run) == ("estimate", run)]
    seen = [(each["kind"], each["frames"]) for each in fields if each["kind"] != "refined"]
    return seen if seen and seen[-1][1] == SHAPE[0] else None
