"""A worker may die; the pool, the next job and the jobs beside it must not."""

import os
import signal
import time
from concurrent.futures import BrokenExecutor
from concurrent.futures.process import BrokenProcessPool

import pytest

from live_bcdi import jobs
from live_bcdi.cli import config_path
from live_bcdi.config import load_config
from live_bcdi.jobs import DaskJobs, JobPool, SchedulerAway, default_workers, open_jobs
from live_bcdi.types import ScanError


@pytest.fixture
def pool():
    made = JobPool(workers=1, threads=1)
    yield made
    made.shutdown()


def test_a_job_runs_in_another_process(pool):
    assert pool.submit(os.getpid).result(60) != os.getpid()


def test_a_killed_worker_costs_its_job_only(pool):
    worker = pool.submit(os.getpid).result(60)
    job = pool.submit(time.sleep, 60)
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(BrokenProcessPool):
        job.result(60)
    assert pool.submit(pow, 2, 5).result(60) == 32


def test_an_error_in_a_job_is_the_jobs(pool):
    with pytest.raises(ZeroDivisionError):
        pool.submit(divmod, 1, 0).result(60)
    assert pool.submit(pow, 2, 5).result(60) == 32


def test_shutdown_does_not_wait_for_what_runs(pool):
    worker = pool.submit(os.getpid).result(60)
    pool.submit(time.sleep, 600)
    pool.shutdown()
    for _ in range(100):
        if not alive(worker):
            return
        time.sleep(0.1)
    pytest.fail("the worker still runs after 10 s")


def alive(pid):
    try:
        os.waitpid(pid, os.WNOHANG)
        os.kill(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        return False
    return True


def test_a_killed_worker_costs_nobody_else():
    pool = JobPool(workers=2)
    try:
        first, second = pool.submit(pid_after, 1.0), pool.submit(pid_after, 1.0)
        workers = {first.result(60), second.result(60)}
        assert len(workers) == 2, "each has a process of its own"
        victim, other = pool.submit(die), pool.submit(pid_after, 1.0)
        with pytest.raises(BrokenExecutor):
            victim.result(60)
        assert other.result(60) in workers
        again = [pool.submit(pid_after, 0.5).result(60) for _ in range(2)]
        assert all(pid not in workers or pid == other.result() for pid in again)
    finally:
        pool.shutdown()


def pid_after(seconds):
    time.sleep(seconds)
    return os.getpid()


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def test_each_gpu_has_one_worker_and_the_others_see_none():
    pool = JobPool(workers=3, devices=("0", "GPU-5"), nice=7)
    try:
        futures = [pool.submit(what_it_sees, 1.0) for _ in range(3)]
        assert [future.result(60) for future in futures] == [("0", 7), ("GPU-5", 7), ("", 7)]
    finally:
        pool.shutdown()


def what_it_sees(seconds):
    time.sleep(seconds)
    return os.environ.get("CUDA_VISIBLE_DEVICES"), os.nice(0)


@pytest.mark.parametrize(
    ("cores", "gib", "threads", "gpus", "gpu_only", "workers"),
    [
        (2, 24, 2, 0, False, 1),
        (1, 2, 2, 0, False, 1),
        (64, 256, 4, 0, False, 16),
        (64, 16, 1, 0, False, 4),
        (64, 256, 4, 2, False, 16),
        (2, 8, 1, 4, False, 4),
        (64, 256, 4, 2, True, 2),
    ],
)
def test_workers_by_what_the_machine_has(monkeypatch, cores, gib, threads, gpus, gpu_only, workers):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": gib * 2**18}.__getitem__)
    assert default_workers(threads, gpus, gpu_only=gpu_only) == workers


def test_the_configuration_says_where(monkeypatch):
    monkeypatch.setattr("live_bcdi.phasing.devices.cuda_devices", lambda: ("0", "1"))
    config = load_config(config_path("34idc"))
    for device, workers, places in (("auto", 3, 3), ("cuda", None, 2), ("cpu", 1, 1)):
        pool = open_jobs(config.changed(phasing={"device": device}, jobs={"workers": workers}))
        assert pool.places() == places
        pool.shutdown()
    with pytest.raises(ScanError, match=r"'dask:8786' is no address of a dask scheduler; .*tcp://host:8786"):
        config.changed(jobs={"scheduler": "dask:8786"})


def test_dask_that_is_not_installed_is_one_clear_error(monkeypatch):
    monkeypatch.setattr(jobs, "find_spec", lambda name: None)
    config = load_config(config_path("34idc")).changed(jobs={"scheduler": "tcp://127.0.0.1:8786"})
    with pytest.raises(ScanError, match=r"pip install 'live_bcdi\[dask\]'"):
        open_jobs(config)


def test_a_scheduler_that_does_not_answer_is_one_clear_error(free_address, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(jobs, "CONNECT_S", 1.0)
    dask = DaskJobs(free_address)
    for ask in (dask.places, lambda: dask.submit(os.getpid)):
        with pytest.raises(
            SchedulerAway, match=rf"scheduler at {free_address} cannot be reached .*\[jobs\] scheduler"
        ):
            ask()
    dask.shutdown()


@pytest.fixture
def cluster():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as running:
        running.wait_for_workers(2, timeout=60)
        yield running


def test_a_dask_cluster_does_the_same(cluster, monkeypatch):
    monkeypatch.setattr(jobs, "CONNECT_S", 2.0)
    dask = DaskJobs(cluster.scheduler_address)
    assert dask.places() == 2
    assert DaskJobs(cluster.scheduler_address, most=1).places() == 1
    both = [dask.submit(pid_after, 1.0) for _ in range(2)]
    assert len({future.result(60) for future in both} - {os.getpid()}) == 2, "equal jobs are still two jobs"
    with pytest.raises(ZeroDivisionError):
        dask.submit(divmod, 1, 0).result(60)
    cluster.scheduler.allowed_failures = 0
    with pytest.raises(BrokenExecutor, match="all those workers died"):
        dask.submit(die).result(60)
    cluster.scheduler.allowed_failures = 3  # else the end of the cluster is a death of its workers
    left = dask.submit(time.sleep, 60)
    cluster.close()
    with pytest.raises(SchedulerAway, match="while a job ran"):
        left.result(60)
    with pytest.raises(SchedulerAway):
        dask.places()
    dask.shutdown()
