"""`live-bcdi track`: how a crystal moved, in words and as JSON."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from live_bcdi.cli.app import app
from live_bcdi.config import load_config, shipped_configs
from live_bcdi.sim.motion import simulate_moving
from live_bcdi.transport.hdf5 import write_scan

OFFSETS = 0.4 * np.random.default_rng(2).normal(size=48)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One crystal, first jittered and then still."""
    folder = tmp_path_factory.mktemp("scans")
    config = load_config(shipped_configs()["34idc"])
    for name, offsets in (("moving", OFFSETS), ("still", 0 * OFFSETS)):
        write_scan(folder / f"{name}.h5", simulate_moving(config=config, offsets_steps=offsets, photons=1e6)[0])
    return [str(folder / f"{name}.h5") for name in ("moving", "still")]


def test_every_frame_of_every_scan_and_the_next_one_as_json(files):
    done = CliRunner().invoke(app, ["track", *files, "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    moving, still = told["scans"]
    assert moving["within"]["corrected"] and not still["within"]["corrected"]
    found = np.array(moving["within"]["found_steps"], float)
    assert np.corrcoef(found[8:40], OFFSETS[8:40])[0, 1] > 0.9
    for angle, std in zip(still["rotation_mdeg"], still["rotation_std_mdeg"]):
        assert abs(angle) < 1.0 and std > 0
    assert told["prediction"]["scans"] == 2 and told["prediction"]["angle_deg"]["std"] > 0


def test_in_words(files):
    done = CliRunner().invoke(app, ["track", *files])
    assert done.exit_code == 0, done.output
    assert "motion seen: log evidence" in done.stdout and "steps rms, known to" in done.stdout
    assert "Next scan, set up as the last that saw the crystal" in done.stdout and "95 % within" in done.stdout


def test_what_is_no_scan_is_one_sentence(tmp_path):
    (tmp_path / "a.h5").write_text("nothing")
    done = CliRunner().invoke(app, ["track", str(tmp_path / "a.h5")])
    assert "not an HDF5 file" in str(done.exception)
