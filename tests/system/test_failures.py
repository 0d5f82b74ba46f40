"""What goes wrong at a beamline: an absent Tiled, a killed process, a taken port. Nothing received is lost."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from live_bcdi.config import load_config
from live_bcdi.session import play
from live_bcdi.sim import simulate_scan
from live_bcdi.supervisor import Supervisor
from live_bcdi.transport.hdf5 import read_result, write_scan
from live_bcdi.transport.tiled import connect, results
from live_bcdi.types import ScanError


def process(*arguments, **kwargs):
    """As in a terminal: who runs the tests with `&` has a shell that ignores Ctrl-C, and the child would too."""
    command = [sys.executable, "-m", "live_bcdi.cli", *map(str, arguments)]
    return subprocess.Popen(command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **kwargs)


@pytest.fixture(scope="module")
def scan_file(tmp_path_factory, make_config):
    folder = tmp_path_factory.mktemp("scan")
    scan, _ = simulate_scan(
        shape=(32, 32, 32), photons=1e6, strain="weak", seed=1, config=load_config(make_config(folder))
    )
    write_scan(folder / "small.h5", scan)
    return folder / "small.h5"


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children_of(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout.split()
    return [int(child) for child in found]


def family_of(pids: list[int]) -> list[int]:
    """The processes and all that they started."""
    return [member for pid in pids for member in (pid, *family_of(children_of(pid)))]


def gone(pids: list[int], seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.1)
    return False


def test_results_and_documents_wait_for_an_absent_tiled(
    tmp_path, scan_file, make_config, free_port, monkeypatch, wait_for
):
    monkeypatch.setattr("live_bcdi.session.DELIVERY_S", 1.0)
    port = free_port()
    monkeypatch.setenv("LIVE_BCDI_TILED_API_KEY", "5" * 64)
    config = make_config(tmp_path, tiled={"uri": f"http://127.0.0.1:{port}/api/v1", "port": port})
    with pytest.raises(ScanError, match=r"Tiled at .* cannot be reached .*live-bcdi up"):
        connect(load_config(config))
    with Supervisor(config) as supervisor:
        told = play(supervisor, scan_file, config, rate_hz=0, fly=False)
        assert "tiled" not in told["result"]
        written = read_result(told["result"]["file"])
        server = process("service", "tiled_server", "--config", config)
        try:
            root = wait_for(lambda: reached(config))
            (path, node) = wait_for(lambda: results(root, told["run"]))[0]
            np.testing.assert_array_equal(node["density"].read(), written.density)
            raw = wait_for(lambda: "raw" in root and told["run"] in root["raw"] and root["raw"][told["run"]])
            wait_for(lambda: raw.refresh().metadata.get("stop"))
            assert raw["primary"]["timepix"].shape[0] == 32
            assert path == f"refined/{told['run']}/1"
        finally:
            server.terminate()
            server.wait()


def reached(config):
    try:
        return connect(load_config(config))
    except ScanError:
        return None


def test_a_refinement_killed_at_work_is_done_again(tmp_path, scan_file, make_config):
    """Both kills that happen: the worker (out of memory), and the service with it."""
    slow = {
        "starts": 4,
        "threads": 1,
        "recipe": "20*(20*ER + 80*HIO(beta=0.9) + ShrinkWrap(sigma=1.5, threshold=0.1))",
    }
    config = make_config(tmp_path, phasing=slow)
    killed = []
    with Supervisor(config) as supervisor:

        class Saboteur:
            """Passes updates on; kills the worker when it is first seen at work, then the service."""

            def watch(self, timeout_s=0.5):
                for update in supervisor.watch(timeout_s):
                    fields = update.fields
                    busy = update.topic == "health" and fields["service"] == "refine" and fields["state"] == "busy"
                    if busy and len(killed) < 2:
                        workers = [pid for pid in children_of(fields["pid"]) if is_worker(pid)]
                        victim = workers[0] if not killed and workers else fields["pid"]
                        os.kill(victim, signal.SIGKILL)
                        killed.append(victim)
                    yield update

        told = play(Saboteur(), scan_file, config, rate_hz=0, fly=False)
        again = play(supervisor, scan_file, config, rate_hz=0, fly=False)
    assert len(killed) == 2
    first, second = read_result(told["result"]["file"]), read_result(again["result"]["file"])
    np.testing.assert_array_equal(first.density, second.density)


def is_worker(pid: int) -> bool:
    return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_however_the_supervisor_ends_nothing_is_left_behind(tmp_path, make_config, end):
    config = make_config(tmp_path)
    up = process("up", "--config", config, stdout=subprocess.PIPE, text=True)
    try:
        assert "is up" in up.stdout.readline()
        family = family_of(children_of(up.pid))
        assert len(family) >= 6
        up.send_signal(end)
        up.wait(20)
        assert gone(family)
        assert up.returncode == (-signal.SIGKILL if end == signal.SIGKILL else 0), "a clean end is not an error"
    finally:
        up.kill()


def test_a_port_in_use_is_one_clear_error(tmp_path, make_config):
    config = make_config(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", load_config(config).page.port))
        taken.listen()
        up = process("up", "--config", config, stderr=subprocess.PIPE, text=True)
        _, said = up.communicate(timeout=60)
    assert up.returncode == 2
    assert said.strip().splitlines()[-1].startswith("live-bcdi: port")
    assert "[page] port" in said
    assert "Traceback" not in said


def test_replay_without_a_broker_says_what_to_start(tmp_path, scan_file, make_config, monkeypatch):
    from live_bcdi.transport.hdf5 import read_scan
    from live_bcdi_plans import replay

    monkeypatch.setattr(replay, "BROKER_S", 0.5)
    with pytest.raises(ScanError, match=r"no broker answers at .*live-bcdi up"):
        replay.replay(read_scan(scan_file), load_config(make_config(tmp_path)))


def test_a_document_cut_off_with_the_archiver_is_sent_again(tmp_path, scan_file, make_config, wait_for):
    """The archiver dies between two documents of a run: the journal has all, Tiled gets the whole run once."""
    config = make_config(tmp_path)
    with Supervisor(config) as supervisor:
        told = play(supervisor, scan_file, config, rate_hz=0, fly=False)
        storage = load_config(config).storage.directory
        sent = storage / "documents" / "sent" / f"{told['run']}.jsonl"
        wait_for(lambda: sent.exists() and [sent])
        os.kill(supervisor.pids()["archiver"], signal.SIGKILL)
        sent.rename(storage / "documents" / sent.name)  # as if it had died before it noted the delivery
        deadline = time.monotonic() + 60
        while not sent.exists() and time.monotonic() < deadline:
            list(supervisor.watch())
        root = connect(load_config(config))
        assert sent.exists()
        assert root["raw"][told["run"]]["primary"]["timepix"].shape[0] == 32
        assert [json.loads(line)[0] for line in sent.read_text().splitlines()].count("start") == 1


def test_services_killed_in_the_middle_of_a_scan_lose_nothing(tmp_path, scan_file, make_config):
    """SIGKILL of every consumer at mid-scan: the result holds every frame, and the page's live view goes on."""
    config = make_config(tmp_path)
    killed = []
    with Supervisor(config) as supervisor:

        class Saboteur:
            """Passes updates on; kills the consumers when a third of the frames are in."""

            def watch(self, timeout_s=0.5):
                for update in supervisor.watch(timeout_s):
                    if update.topic == "live" and update.fields["count"] >= 10 and not killed:
                        for name in ("live", "refine", "archiver"):
                            os.kill(supervisor.pids()[name], signal.SIGKILL)
                            killed.append(name)
                    yield update

        told = play(Saboteur(), scan_file, config, rate_hz=8, fly=False)
        assert len(killed) == 3
        assert told["result"]["frames"] == 32
        again = play(supervisor, scan_file, config, rate_hz=0, fly=False)
        assert again["live"]["count"] == 32, "stray frames of the first run must not stop the live view"
    first, second = (read_result(each["result"]["file"]) for each in (told, again))
    np.testing.assert_array_equal(first.density, second.density)


def test_an_owed_refinement_does_not_keep_the_system_from_starting(tmp_path, scan_file, make_config, wait_for):
    slow = {
        "starts": 4,
        "threads": 1,
        "recipe": "40*(20*ER + 80*HIO(beta=0.9) + ShrinkWrap(sigma=1.5, threshold=0.1))",
    }
    config = make_config(tmp_path, phasing=slow)
    with Supervisor(config) as supervisor:
        acquire = process("acquire", scan_file, "--config", config)
        while acquire.poll() is None:
            list(supervisor.watch())
        storage = load_config(config).storage.directory
        wait_for(lambda: list((storage / "queue").glob("*.json")))
    with Supervisor(config) as supervisor:
        assert list((storage / "queue").glob("*.json")), "the ticket is still there, and the system is up"


def test_ctrl_c_in_a_replay_ends_the_run_and_is_no_success(tmp_path, scan_file, make_config, wait_for):
    config = make_config(tmp_path)
    replay = process(
        *("replay", scan_file, "--rate", 2, "--config", config, "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    documents = load_config(config).storage.directory / "documents"
    try:
        wait_for(lambda: [path for path in documents.glob("*.jsonl") if "stream_datum" in path.read_text()])
        replay.send_signal(signal.SIGINT)
        out, _ = replay.communicate(timeout=40)
    finally:
        replay.kill()
    assert (replay.returncode, out) == (130, "")
    (path,) = documents.rglob("*.jsonl")
    name, stop = json.loads(path.read_text().splitlines()[-1])
    assert (name, stop["exit_status"]) == ("stop", "abort")
