"""`live-bcdi up --json`, and `live-bcdi doctor` beside it."""

import json
import signal
import subprocess
import sys

import pytest

from live_bcdi.doctor import examine


@pytest.fixture
def up(tmp_path, make_config):
    """A system that a command keeps up: its process, its configuration, and where its errors go."""
    path = make_config(tmp_path)
    command = (sys.executable, "-m", "live_bcdi.cli", "up", "--json", "--config", str(path))
    with (tmp_path / "errors").open("w") as stderr:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, start_new_session=True
        )
    yield process, path
    process.terminate()
    process.wait(30)


def test_it_knows_the_system_that_runs(up):
    """Ports held by it are no problem, its Tiled takes its key, each service has an age; and on standard output of
    the command is one JSON value, whatever the services say."""
    process, path = up
    lines = []
    while not lines or lines[-1] != "}\n":
        lines.append(process.stdout.readline())
        assert lines[-1], "it ended"
    told = json.loads("".join(lines))
    assert told["beamline"] == "34-ID-C"
    found = examine(path)
    assert [finding for finding in found if finding.status == "problem"] == []
    said = {finding.check: finding.what for finding in found}
    assert "All 6 run" in said["services"]
    assert "those of the live-bcdi that runs" in said["ports"]
    assert "takes our key" in said["Tiled"]
    assert "Running for:" in said["restarts"]
    assert all(name in said["restarts"] for name in told["pids"])
    process.send_signal(signal.SIGTERM)
    assert process.stdout.read() == ""
    assert process.wait(30) == 0
