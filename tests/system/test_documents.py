"""Documents that are lost, late or sent twice, and plans that do not end as planned, with real processes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pytest

from live_bcdi.config import load_config
from live_bcdi.session import play
from live_bcdi.sim import simulate_scan
from live_bcdi.stream import journal
from live_bcdi.supervisor import Supervisor
from live_bcdi.transport.hdf5 import read_result, write_scan
from live_bcdi.transport.tiled import connect, results
from live_bcdi.types import ScanError
from live_bcdi_plans.replay import send_again

FRAMES = 32
RATE_HZ = 12.0


@pytest.fixture(scope="module")
def scan_file(tmp_path_factory, make_config):
    folder = tmp_path_factory.mktemp("scan")
    config = load_config(make_config(folder))
    scan, _ = simulate_scan(shape=(FRAMES, 32, 32), photons=1e6, strain="weak", seed=1, config=config)
    write_scan(folder / "small.h5", scan)
    return folder / "small.h5"


@pytest.fixture(scope="module")
def undisturbed(system, scan_file):
    """The result of the scan when nothing goes wrong."""
    return read_result(play(system[0], scan_file, system[1], rate_hz=0, fly=False)["result"]["file"])


class Saboteur:
    """Passes updates on, and kills services when so many frames are in."""

    def __init__(self, supervisor, names, frames=10):
        self.supervisor, self.names, self.frames = supervisor, list(names), frames

    def watch(self, timeout_s=0.5):
        for update in self.supervisor.watch(timeout_s):
            if update.topic == "live" and update.fields["count"] >= self.frames:
                while self.names:
                    os.kill(self.supervisor.pids()[self.names.pop()], signal.SIGKILL)
            yield update


def eventually(supervisor, look, seconds=60.0):
    """What `look` finds, once it finds something; the supervisor restarts what is dead meanwhile."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(ScanError, KeyError, OSError):
            if found := look():
                return found
        list(supervisor.watch(0.2))
    pytest.fail("it did not happen in time")


def whole_in_tiled(config, run, frames=FRAMES):
    """Whether `raw/<run>` has every event and every frame, each once, and its stop."""
    raw = connect(config)["raw", run]
    if not raw.metadata.get("stop"):
        return False
    stream = raw["primary"]
    numbers = stream["seq_num"].read().tolist()
    return numbers == list(range(1, frames + 1)) and stream[config.detector.name].shape[0] == frames


def check(supervisor, path, told, undisturbed):
    """The result is that of the undisturbed scan, and Tiled has the run and the result."""
    config, run = load_config(path), told["run"]
    assert told["result"]["missing"] == []
    np.testing.assert_array_equal(read_result(told["result"]["file"]).density, undisturbed.density)
    assert eventually(supervisor, lambda: whole_in_tiled(config, run))
    assert len(eventually(supervisor, lambda: results(connect(config), run))) == 1


@pytest.mark.parametrize("killed", [["broker"], ["archiver"], ["tiled_server"]])
def test_a_service_killed_in_the_middle_of_a_scan(system, scan_file, undisturbed, killed):
    """The broker takes documents with it, and the archiver misses those that come while it is away: both come from
    the RunEngine's journal."""
    supervisor, path = system
    saboteur = Saboteur(supervisor, killed)
    told = play(saboteur, scan_file, path, rate_hz=RATE_HZ, fly=False)
    assert saboteur.names == [], "it was killed"
    check(supervisor, path, told, undisturbed)


def acquire(scan, path, *options):
    command = [sys.executable, "-m", "live_bcdi.cli", "acquire", str(scan), "--config", str(path)]
    return subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result_of(supervisor, path, run):
    done = load_config(path).storage.directory / "queue" / "done"
    return eventually(supervisor, lambda: [json.loads(each.read_text()) for each in done.glob(f"*_{run}.json")])[0]


def test_a_scan_that_is_aborted_has_a_result_that_names_what_is_missing(system, scan_file):
    supervisor, path = system
    folder = load_config(path).storage.directory / "journal"
    before = set(folder.glob("*.jsonl"))
    plan = acquire(scan_file, path, "--rate", "12")
    (kept,) = eventually(supervisor, lambda: set(folder.glob("*.jsonl")) - before)
    eventually(supervisor, lambda: [name for name, _ in journal.read(kept)].count("event") >= 20)
    plan.send_signal(signal.SIGTERM)
    eventually(supervisor, lambda: plan.poll() is not None)
    plan.communicate()
    stop = list(journal.read(kept))[-1][1]
    assert (stop["exit_status"], stop["reason"]) == ("abort", "the scan was stopped before its end")
    summary = result_of(supervisor, path, kept.stem)
    assert 20 <= summary["frames"] < FRAMES
    assert summary["missing"] == list(range(summary["frames"], FRAMES))


def test_two_runs_at_once_are_both_whole(system, scan_file, undisturbed, make_config, free_port, tmp_path):
    """Two RunEngines with a frame stream each; one of them is not seen live, and both come from their files."""
    supervisor, path = system
    config = load_config(path)
    other = tmp_path / "other.toml"
    other.write_text(path.read_text().replace(config.stream.frames, f"tcp://127.0.0.1:{free_port()}"))
    plans = [acquire(scan_file, each, "--rate", "12") for each in (path, other)]
    eventually(supervisor, lambda: all(plan.poll() is not None for plan in plans))
    runs = [json.loads(plan.communicate()[0].splitlines()[-1])["run"] for plan in plans]
    for run in runs:
        told = {"run": run, "result": result_of(supervisor, path, run)}
        check(supervisor, path, told, undisturbed)


def test_documents_twice_and_in_any_order_are_one_run_and_one_result(system, scan_file, undisturbed):
    """Of a run that the services have not seen: the documents of another, under other uids."""
    supervisor, path = system
    config = load_config(path)
    documents = renamed(sorted((config.storage.directory / "journal").glob("*.jsonl"), key=os.path.getmtime)[-1])
    run = documents[0][1]["uid"]
    shuffled = [*documents, *random.Random(1).sample(documents, 30)]
    random.Random(1).shuffle(shuffled)
    send_again(shuffled, config)
    check(supervisor, path, {"run": run, "result": result_of(supervisor, path, run)}, undisturbed)
    send_again(documents, config)
    send_again(shuffled, config)
    list(supervisor.watch(1.0))
    check(supervisor, path, {"run": run, "result": result_of(supervisor, path, run)}, undisturbed)


def renamed(path):
    """The documents of a whole run with new uids throughout."""
    text = path.read_text()
    documents = [json.loads(line) for line in text.splitlines()]
    assert documents[-1][1]["exit_status"] == "success"
    for name, doc in documents:
        if name in ("start", "descriptor", "stream_resource"):
            text = text.replace(doc["uid"], doc["uid"][::-1])
    return [tuple(json.loads(line)) for line in text.splitlines()]


def test_a_journal_of_a_run_that_nobody_saw_is_sent_again(system, scan_file, undisturbed, make_config, tmp_path):
    """To services that can read the frames, and have nothing of the journal: those of another computer."""
    told = play(system[0], scan_file, system[1], rate_hz=0, fly=False)
    kept = load_config(system[1]).storage.directory / "journal" / f"{told['run']}.jsonl"
    there = make_config(tmp_path)
    with Supervisor(there) as supervisor:
        sent = [replayed(supervisor, kept, there) for _ in range(2)]
    assert [each["already"] for each in sent] == [False, True]
    for each in sent:
        assert (each["run"], each["frames"]) == (told["run"], f"{FRAMES}/{FRAMES}")
        assert each["raw"] == f"raw/{told['run']}"
        assert each["tiled"] == f"refined/{told['run']}/1"
    np.testing.assert_array_equal(read_result(sent[0]["file"]).density, undisturbed.density)


def replayed(supervisor, kept, path):
    command = [sys.executable, "-m", "live_bcdi.cli", "replay", str(kept), "--config", str(path), "--json"]
    replay = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    eventually(supervisor, lambda: replay.poll() is not None)
    out, said = replay.communicate()
    assert replay.returncode == 0, said
    return json.loads(out)
