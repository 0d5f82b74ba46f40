"""The process that runs the plan: however it ends, the run has a stop document, and a person one line."""

import signal
import subprocess
import sys
import time

import pytest

from live_bcdi.config import load_config
from live_bcdi.sim import simulate_scan
from live_bcdi.transport.hdf5 import read_scan, write_scan
from live_bcdi.transport.zmq import DocumentSubscriber

RATE_HZ = 4.0
FULL_DISK = "import live_bcdi.transport.files as files; files.RESERVE_BYTES = 10**18; "


def command(code: str, *arguments):
    called = [sys.executable, "-c", f"{code}from live_bcdi import cli; cli.main()", *map(str, arguments)]
    return subprocess.Popen(called, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def beamline(tmp_path, make_config):
    """(configuration, scan file, what comes out of a broker)."""
    config = make_config(tmp_path)
    settings = load_config(config)
    scan, _ = simulate_scan(shape=(40, 32, 32), photons=1e5, strain="weak", seed=1, config=settings)
    write_scan(tmp_path / "scan.h5", scan)
    broker = command("", "service", "broker", "--config", config)
    documents = DocumentSubscriber(settings.stream.documents_out)
    yield config, tmp_path / "scan.h5", documents
    documents.close()
    broker.terminate()
    broker.communicate(timeout=20)


def until(documents, wanted, count=1, seconds=60):
    """Documents up to the `count`-th called `wanted`."""
    got = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for name, doc in documents.receive(0.1):
            got.append((name, doc))
            if [name for name, _ in got].count(wanted) >= count and name == wanted:
                return got
    pytest.fail(f"no {wanted} in {seconds} s, only {[name for name, _ in got]}")


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_aborts_the_run_in_order(beamline, end):
    config, scan, documents = beamline
    acquire = command("", "acquire", scan, "--rate", RATE_HZ, "--config", config)
    before = until(documents, "event", count=3)
    acquire.send_signal(end)
    (*_, (_, stop)) = until(documents, "stop", seconds=10)
    _, said = acquire.communicate(timeout=20)
    assert (stop["exit_status"], stop["run_start"]) == ("abort", before[0][1]["uid"])
    assert acquire.returncode == 2, said
    assert said.strip().splitlines()[-1].startswith("live-bcdi: the scan was stopped before its end")
    assert "Traceback" not in said
    (path,) = (load_config(config).storage.directory / "frames").glob("*.h5")
    assert 3 <= len(read_scan(path).intensity) < 40


def test_a_signal_during_a_sweep_aborts_it_too(beamline):
    config, scan, documents = beamline
    acquire = command("", "acquire", scan, "--rate", RATE_HZ, "--fly", "--config", config)
    until(documents, "descriptor")
    time.sleep(1.0)
    acquire.send_signal(signal.SIGTERM)
    (*_, (_, stop)) = until(documents, "stop", seconds=10)
    _, said = acquire.communicate(timeout=20)
    assert stop["exit_status"] == "abort"
    assert acquire.returncode == 2, said
    assert "Traceback" not in said


def test_a_full_disk_is_one_line_and_a_failed_run(beamline):
    """What the writer raises in the detector comes through the RunEngine as its own sentence."""
    config, scan, documents = beamline
    acquire = command(FULL_DISK, "acquire", scan, "--config", config)
    (*_, (_, stop)) = until(documents, "stop")
    _, said = acquire.communicate(timeout=20)
    assert stop["exit_status"] == "fail"
    assert acquire.returncode == 2, said
    assert "the disk is full" in said.strip().splitlines()[-1]
    assert "the disk is full" in stop["reason"]
    assert "Traceback" not in said
