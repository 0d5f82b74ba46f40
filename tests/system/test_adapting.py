"""Between scans the network adapts, in a process that may be killed at any time."""

import json
import os
import signal

import pytest

from live_bcdi.config import load_config
from live_bcdi.faults.memory import workers
from live_bcdi.session import play
from live_bcdi.sim import simulate_scan
from live_bcdi.supervisor import Supervisor
from live_bcdi.transport.hdf5 import write_scan
from live_bcdi.transport.tiled import connect, versions

SHAPE = (40, 48, 48)
LIVE = {"track": False, "network": True, "adapt": True, "adapt_s": 5}


def said(settings, run):
    """What the live consumer's log says of adapting to a run."""
    lines = map(json.loads, (settings.storage.directory / "log" / "live.jsonl").read_text().splitlines())
    return [line["message"] for line in lines if line.get("run") == run and "adapted to it" in line["message"]]


@pytest.mark.timeout(900)  # beside two busy processes of others an adaptation, which gives way, is slow
def test_a_killed_adaptation_costs_nothing_and_the_next_scan_is_previewed_with_the_newest(
    tmp_path, make_config, wait_for
):
    pytest.importorskip("torch")
    from live_bcdi_models.weights import load_weights, named

    path = make_config(tmp_path, live=LIVE, phasing={"starts": 1, "threads": 1, "recipe": "20*ER"})
    settings = load_config(path)
    scan, _ = simulate_scan(shape=SHAPE, photons=2e6, strain="weak", seed=4, config=settings)
    write_scan(tmp_path / "small.h5", scan)
    states = settings.storage.directory / "adapted"
    with Supervisor(path) as supervisor:
        live = supervisor.pids()["live"]

        def scanned():
            return play(supervisor, tmp_path / "small.h5", path, rate_hz=30, fly=False)["run"]

        def others():
            return set(workers(live)) - {estimator}

        (estimator,) = wait_for(lambda: workers(live))
        first = scanned()
        (adapting,) = wait_for(others)
        os.kill(adapting, signal.SIGKILL)
        (why,) = wait_for(lambda: said(settings, first), 300)
        assert "the network is not adapted to it" in why and not list(states.glob("0*"))

        second = scanned()
        (why,) = wait_for(lambda: said(settings, second), 300)
        assert "free voxels are" in why, "it was judged"
        card = load_weights(states / "000001" / "preview.safetensors")[1]
        assert card.notes["adapted"]["times"] == (0 if "not adapted" in why else 1)

        third = scanned()
        root = connect(settings)
        (node,) = wait_for(lambda: versions(root, "preview", third)).values()
        used = card if card.notes["adapted"]["times"] else load_weights()[1]
        assert node.metadata["provenance"]["network"] == named(used)
        assert supervisor.pids()["live"] == live
