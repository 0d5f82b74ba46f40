"""Heavy work in processes of its own, behind `concurrent.futures.Executor`.

A worker that dies (out of memory, kill -9) costs its job and not the pool: the next submit gets a new one.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import ParamSpec, TypeVar

from threadpoolctl import threadpool_limits

P = ParamSpec("P")
T = TypeVar("T")


class JobPool:
    """`workers` processes of `threads` threads each. Jobs must be importable functions of picklable arguments."""

    def __init__(self, *, workers: int = 1, threads: int = 1) -> None:
        self._workers, self._threads = workers, threads
        self._executor = self._new()

    def _new(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self._workers,
            mp_context=multiprocessing.get_context("spawn"),  # threads and sockets do not survive a fork
            initializer=_prepare_worker,
            initargs=(self._threads,),
        )

    def submit(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Like `Executor.submit`; starts a new pool where the old one broke."""
        try:
            return self._executor.submit(job, *args, **kwargs)
        except BrokenProcessPool:
            self._executor.shutdown(wait=False)
            self._executor = self._new()
            return self._executor.submit(job, *args, **kwargs)

    def shutdown(self) -> None:
        """Stop now: what runs is killed, what waits is dropped."""
        workers = list((self._executor._processes or {}).values())
        self._executor.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.kill()


def _prepare_worker(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the service; it ends its workers itself
    threadpool_limits(threads)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
