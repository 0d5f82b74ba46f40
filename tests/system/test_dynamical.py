"""A gold crystal of a micrometre through the live path: refined by the theory that it needs after its result is
told, beside it, though refine is killed in the middle."""

import os
import signal
from dataclasses import replace

import numpy as np
import pytest

from live_bcdi.catalogue import open_run
from live_bcdi.config import load_config
from live_bcdi.session import play
from live_bcdi.supervisor import Supervisor
from live_bcdi.transport.hdf5 import write_scan
from live_bcdi.transport.history import list_runs
from live_bcdi.transport.tiled import connect, versions
from live_bcdi_consumers.history import TiledHistory

RECIPE = "2*(20*ER + 80*HIO(beta=0.9) + ShrinkWrap(sigma=1.0, threshold=0.15)) + 50*ER"
TABLES = {
    "phasing": {"starts": 1, "threads": 1, "recipe": RECIPE},
    "preprocess": {"binning": [1, 1, 1]},
    "dynamical": {"epochs": 100, "smoothings": [6.0]},
}


class Listening:
    """The updates of a system, each shown to `then`."""

    def __init__(self, supervisor, then):
        self._supervisor, self._then = supervisor, then

    def watch(self, timeout_s=0.5):
        for update in self._supervisor.watch(timeout_s):
            self._then(update)
            yield update


@pytest.fixture(scope="module")
def refined(tmp_path_factory, make_config, gold):
    """The run, the configuration, and what the page was told: of the job, before and after refine was killed while
    it was at the twin, and of estimates."""
    folder = tmp_path_factory.mktemp("dynamical")
    scan = replace(gold(1e-6), hkl=(0.0, 0.0, 2.0), metadata={"formula": "Au"})
    write_scan(folder / "gold.h5", scan)
    path = make_config(folder, **TABLES)
    before, after, estimates, killed = [], [], [], []
    with Supervisor(path) as supervisor:

        def note(update):
            if update.topic == "estimate":
                estimates.append((update.run, update.fields["kind"], update.fields.get("rung")))
            for job in update.fields.get("jobs", ()) if update.topic == "queue" else ():
                if job["name"].endswith("(dynamical)"):
                    (after if killed else before).append(job["text"])
            if before and before[-1].startswith("twin") and not killed:
                killed.append(supervisor.pids()["refine"])
                os.kill(killed[0], signal.SIGKILL)

        listening = Listening(supervisor, note)
        run = play(listening, folder / "gold.h5", path, rate_hz=60, fly=False)["run"]

        def until(look):
            for _ in listening.watch(0.1):
                pass
            return look()

        yield run, path, (before, after, estimates, killed), until


def test_it_is_beside_its_result_though_refine_was_killed(refined, wait_for):
    run, path, (before, after, estimates, killed), until = refined
    root = connect(load_config(path))
    wait_for(lambda: until(lambda: versions(root, "dynamical", run)))
    assert killed and before[-1].startswith("twin")
    assert not any(text.startswith("retrieved, ") for text in after), "what was done is not done again"
    wait_for(lambda: until(lambda: (run, "dynamical", "dynamical") in estimates))
    found = open_run(run, config=path)
    kinematical, further = found.result(), found.result(kind="dynamical")
    assert further.metadata["rung"] == kinematical.metadata["rung"] == "dynamical"
    assert further.metadata["started_from"] == kinematical.metadata["file"]
    assert further.metadata["chi"] < kinematical.metadata["chi"]
    assert kinematical.metadata["recipe"].startswith("2*(20*ER + 80*HIO") and list(found.results["refined"]) == [
        "1"
    ]
    assert list(found.results["dynamical"]) == ["1"]


def test_the_archive_shows_both(refined):
    run, path, *_ = refined
    (row,), _ = list_runs(connect(load_config(path)))
    assert [each["version"] for each in row["results"]] == ["1", "dynamical/1"]
    history = TiledHistory(load_config(path))
    plain, further = history.result(run), history.result(f"{run}/dynamical/1")
    assert (plain.fields["kind"], plain.fields["version"]) == ("refined", "1")
    assert (further.fields["kind"], further.fields["version"]) == ("dynamical", "dynamical/1")
    change = history.difference(run, f"{run}/dynamical/1")
    assert change.fields["notes"][0].startswith("One of them is kinematical")
    assert np.isfinite(change.fields["correlation"])
