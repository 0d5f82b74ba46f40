"""Refinements and batches as processes: killed, crowded, on a full disk, on a cluster. Every result comes."""

import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from live_bcdi.config import load_config
from live_bcdi.offline import phase_to_file
from live_bcdi.session import play
from live_bcdi.sim import simulate_scan
from live_bcdi.supervisor import Supervisor
from live_bcdi.transport.hdf5 import read_result, write_scan

SLOW = "10*(20*ER + 80*HIO(beta=0.9) + ShrinkWrap(sigma=1.5, threshold=0.1))"


@pytest.fixture(scope="module")
def archive(tmp_path_factory, make_config):
    """Four small scans."""
    folder = tmp_path_factory.mktemp("archive")
    config = load_config(make_config(tmp_path_factory.mktemp("beamline")))
    for seed in range(4):
        scan, _ = simulate_scan(shape=(16, 32, 32), photons=1e6, strain="weak", seed=seed, config=config)
        write_scan(folder / f"{seed}.h5", scan)
    return folder


def start(*arguments):
    command = [sys.executable, "-m", "live_bcdi.cli", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_batch_killed_at_work_goes_on_where_it_was(tmp_path, archive, make_config, wait_for):
    config = make_config(tmp_path, phasing={"starts": 1, "threads": 1, "recipe": SLOW})
    output = tmp_path / "results"
    command = ("batch", archive, "--output", output, "--workers", 1, "--config", config, "--json")
    killed = start(*command)
    try:
        wait_for(lambda: list(output.glob("*.cxi")))
        workers = [int(pid) for pid in _children(killed.pid)]
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
    before = {path.name: path.stat().st_mtime_ns for path in output.glob("*.cxi")}
    assert 1 <= len(before) < 4, "it was killed at work"
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    again = start(*command)
    told = json.loads(again.communicate(timeout=120)[0])
    assert again.returncode == 0
    assert (told["done"] + told["skipped"], told["failed"]) == (4, 0)
    assert told["skipped"] >= len(before)
    after = {path.name: path.stat().st_mtime_ns for path in output.glob("*.cxi")}
    assert len(after) == 4
    assert {name: after[name] for name in before} == before, "what was done was not done again"


def _children(pid):
    return subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout.split()


class Refine:
    """What the running system says of its refinements; a RunEngine that measures what it is told."""

    def __init__(self, supervisor, config):
        self._supervisor = supervisor
        self.queue, self.results, self.notices = [], {}, []
        self._engine = subprocess.Popen(
            [sys.executable, "-m", "live_bcdi_plans.soak", str(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._engine.stdout.readline()  # it is ready

    def measure(self, scan):
        """A scan as fast as it goes; the uid of its run."""
        self._engine.stdin.write(json.dumps({"scan": str(scan), "rate": 0, "fly": False}) + "\n")
        self._engine.stdin.flush()
        while "done" not in (line := json.loads(self._engine.stdout.readline())):
            assert "failed" not in line, line
        return line["done"]

    def listen_until(self, look, seconds=90.0):
        deadline = time.monotonic() + seconds
        while not look():
            assert time.monotonic() < deadline, "it did not happen in time"
            for update in self._supervisor.watch(0.1):
                if update.topic == "queue":
                    self.queue.append(dict(update.fields))
                elif update.topic == "result":
                    self.results.setdefault(update.run, dict(update.fields))
                elif update.topic == "notice" and update.fields["service"] == "refine":
                    self.notices.append(update.fields["message"])

    def close(self):
        self._engine.kill()
        self._engine.communicate()


def test_runs_faster_than_refinement_and_a_full_disk(tmp_path, archive, make_config):
    """Six runs while the first is refined, two of which may wait; then the disk is full for refine."""
    slow = {"starts": 2, "threads": 1, "recipe": f"2*({SLOW})"}
    config = make_config(tmp_path, phasing=slow, jobs={"workers": 1, "waiting": 2})
    storage = load_config(config).storage.directory
    with Supervisor(config) as supervisor:
        refine = Refine(supervisor, config)
        try:
            runs = [refine.measure(archive / f"{number % 4}.h5") for number in range(6)]
            refine.listen_until(lambda: len(refine.results) == 6)
            _check_order(refine, runs)
            last = _on_a_full_disk(refine, supervisor.pids()["refine"], archive / "0.h5", storage)
        finally:
            refine.close()
    assert not list((storage / "queue").glob("*.json"))
    assert len(list((storage / "queue" / "done").glob("*.json"))) == 7
    with_the_same_frames = refine.results[runs[0]]["file"], refine.results[last]["file"]
    np.testing.assert_array_equal(*(read_result(Path(file)).density for file in with_the_same_frames))


def _check_order(refine, runs):
    order = [runs.index(run) for run in refine.results]
    assert order[0] == 0, "what runs is not interrupted"
    assert max(counts["waiting"] for counts in refine.queue) == 2
    assert max(counts["later"] for counts in refine.queue) >= 2, "the others were put off"
    assert order[-2:] == [2, 1] or order[-3:] == [3, 2, 1], "of those put off, the oldest comes last"
    assert len([message for message in refine.notices if "runs come faster" in message]) == 1
    assert refine.queue[-1]["later"] == refine.queue[-1]["waiting"] == 0
    for result in refine.results.values():
        assert result["stop_to_result_s"] <= result["last_frame_to_result_s"] < 300


def _on_a_full_disk(refine, pid, scan, storage):
    """Neither the refine service nor its worker can write a byte, until they can again; the run of it."""
    family = [pid, *(int(child) for child in _children(pid))]
    before = [resource.prlimit(each, resource.RLIMIT_FSIZE) for each in family]
    for each, (_, hard) in zip(family, before):
        resource.prlimit(each, resource.RLIMIT_FSIZE, (0, hard))
    run = refine.measure(scan)
    refine.listen_until(lambda: any("not noted on disk" in message for message in refine.notices))
    assert run not in refine.results
    for each, limits in zip(family, before):
        resource.prlimit(each, resource.RLIMIT_FSIZE, limits)
    refine.listen_until(lambda: run in refine.results)
    assert "error" not in refine.results[run]
    assert Path(f"/proc/{pid}").exists(), "it is the same process: it did not die of it"
    return run


def test_a_dask_cluster_gives_the_same_bits_and_a_batch_finds_the_run_in_tiled(tmp_path, archive, make_config):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        config = make_config(tmp_path, jobs={"scheduler": cluster.scheduler_address})
        with Supervisor(config) as supervisor:
            assert not _workers_of(supervisor.pids()["refine"])
            told = play(supervisor, archive / "0.h5", config, rate_hz=0, fly=False)
            query = "tiled:name=* since=2026-01-01"
            batch = start("batch", query, "--config", config, "--output", tmp_path / "again", "--json")
            again = json.loads(batch.communicate(timeout=120)[0])
            none = start("batch", "tiled:sample=unobtainium", "--config", config)
            assert none.wait(60) == 2
    here = phase_to_file(str(archive / "0.h5"), tmp_path / "here.cxi", load_config(config))
    (found,) = again["results"]
    assert found["source"] == f"run {told['run'][:8]}"
    expected = read_result(Path(here["file"])).density
    for file in (told["result"]["file"], found["file"]):
        np.testing.assert_array_equal(read_result(Path(file)).density, expected)


def _workers_of(pid):
    return [child for child in _children(pid) if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
