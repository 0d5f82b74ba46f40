"""A worker may die; the pool and the next job must not."""

import os
import signal
import time
from concurrent.futures.process import BrokenProcessPool

import pytest

from live_bcdi.jobs import JobPool


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
