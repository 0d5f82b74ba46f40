"""Heavy work on executors of `concurrent.futures`: processes of this machine, or a dask cluster's workers.

A worker that dies (out of memory, kill -9) costs its own job, as `BrokenExecutor`, and no other; the next job in
its place gets a new process. docs/jobs.md says who uses this how.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from multiprocessing.connection import wait
from typing import Any, ParamSpec, Protocol, TypeVar

from threadpoolctl import threadpool_limits

from .config import Config
from .priority import give_way
from .types import ScanError

P = ParamSpec("P")
T = TypeVar("T")

MEMORY_A_WORKER = 4 * 2**30  # bytes; several starts at 256^3, with what is made of them
CONNECT_S = 4.0  # a service that waits longer looks silent on the page


class SchedulerAway(ScanError):
    """The dask scheduler cannot be reached, or went away under a job: the job is to be given again."""


class Jobs(Protocol):
    """Where jobs run. They must be importable functions of picklable arguments."""

    alone_helps: bool
    """Whether a job that ran out of memory may fit once no other runs beside it."""

    def places(self) -> int:
        """How many jobs run at a time, now; more are accepted and wait."""
        ...

    def submit(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Like `Executor.submit`. A worker that was lost is `BrokenExecutor`."""
        ...

    def shutdown(self) -> None:
        """Stop now: what runs is given up, what waits is dropped."""
        ...


def open_jobs(config: Config, *, workers: int | None = None, nice: int = 0) -> Jobs:
    """The executor of `[jobs]`; `workers` takes the place of the number there. `nice` (0 to 19) gives others on
    the same machine, or cluster, the right of way. Raises ScanError where dask is asked for and not installed."""
    if config.jobs.scheduler is not None:
        return DaskJobs(config.jobs.scheduler, most=workers or config.jobs.workers, priority=-nice)
    return open_pool(config, workers=workers, nice=nice)


def open_pool(config: Config, *, workers: int | None = None, nice: int = 0) -> "JobPool":
    """As `open_jobs`, of this machine whether or not there is a cluster."""
    from .phasing.devices import cuda_devices  # seconds of imports, that who only asks for dask does without

    threads = config.phasing.threads
    devices = () if config.phasing.device == "cpu" else cuda_devices()
    most = workers or config.jobs.workers
    most = most or default_workers(threads, len(devices), gpu_only=config.phasing.device == "cuda")
    return JobPool(workers=most, threads=threads, devices=devices, nice=nice)


def default_workers(threads: int, gpus: int, *, gpu_only: bool = False) -> int:
    """One a GPU, and those that cores and memory (4 GiB each) allow; without a GPU at least one."""
    if gpu_only and gpus:
        return gpus
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, gpus, min(cores // threads, memory // MEMORY_A_WORKER))


class JobPool:
    """`workers` processes of `threads` threads each. The first of them have a CUDA device of `devices` each for
    themselves, and get jobs first; where there are devices, the others see none. `hurrying` until a job says
    otherwise (`live_bcdi.priority.hurry`) they give nobody the right of way."""

    alone_helps = True

    def __init__(
        self,
        *,
        workers: int = 1,
        threads: int = 1,
        devices: Sequence[str] = (),
        nice: int = 0,
        hurrying: bool = False,
    ) -> None:
        pinned = [*devices, *[""] * workers][:workers] if devices else [None] * workers
        self._workers = [
            _Worker(partial(_prepare_worker, threads, device, nice, hurrying=hurrying)) for device in pinned
        ]

    def places(self) -> int:
        return len(self._workers)

    def submit(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        least_busy = min(self._workers, key=_Worker.load)
        return least_busy.submit(job, *args, **kwargs)

    def shutdown(self) -> None:
        for worker in self._workers:
            worker.shutdown()


class _Worker:
    """One process, and a new one where it died. An executor each: the death of a worker breaks its whole executor,
    and with it every job that runs there."""

    def __init__(self, prepare: Callable[[], None]) -> None:
        self._prepare = prepare
        self._executor = self._new()
        self._futures: list[Future[Any]] = []

    def _new(self) -> ProcessPoolExecutor:
        # threads and sockets do not survive a fork
        return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=self._prepare)

    def load(self) -> int:
        """Jobs that it has not finished."""
        self._futures = [future for future in self._futures if not future.done()]
        return len(self._futures)

    def submit(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        try:
            future = self._executor.submit(job, *args, **kwargs)
        except BrokenExecutor:
            self._executor.shutdown(wait=False)
            self._executor = self._new()
            future = self._executor.submit(job, *args, **kwargs)
        self._futures.append(future)
        return future

    def shutdown(self) -> None:
        processes = list((self._executor._processes or {}).values())
        self._executor.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()


def _prepare_worker(threads: int, device: str | None, nice: int, *, hurrying: bool) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the service; it ends its workers itself
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device  # read when CUDA is first used
    give_way(nice, hurrying=hurrying)
    threadpool_limits(threads)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


class DaskJobs:
    """The workers of a dask cluster, one job each. Dask itself gives the job of a lost worker to another one,
    three times, before that is an error; what runs at `shutdown` runs on to its end there, for nothing."""

    alone_helps = False

    def __init__(self, address: str, *, most: int | None = None, priority: int = 0) -> None:
        """Connects when there is something to do. Raises ScanError where dask.distributed is not installed."""
        require_dask()
        self._address, self._most, self._priority = address, most, priority
        self._client: Any = None  # distributed.Client, which is not typed

    def places(self) -> int:
        """As many as there are workers, at most `[jobs] workers`, and at least one, for clusters that start
        workers when there is work. Raises SchedulerAway."""
        try:
            workers = len(self._connected().scheduler_info()["workers"])
        except OSError as error:
            self.shutdown()
            raise self._away(error) from None
        return max(1, workers if self._most is None else min(workers, self._most))

    def submit(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As `Jobs.submit`. Raises SchedulerAway, and so does the future where that happens later."""
        executor = self._connected().get_executor(pure=False)
        theirs = executor.submit(partial(job, *args, **kwargs), priority=self._priority)
        ours: Future[T] = Future()
        ours.set_running_or_notify_cancel()
        theirs.add_done_callback(partial(self._pass_on, ours))
        return ours

    def shutdown(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            with suppress(OSError, AssertionError):  # it may not be there to say goodbye to
                client.close(timeout=CONNECT_S)

    def _connected(self) -> Any:
        from distributed import Client

        if self._client is not None and self._client.status != "running":
            self.shutdown()
        if self._client is None:
            try:
                connect: Any = Client
                self._client = connect(self._address, timeout=CONNECT_S, set_as_default=False, name="live_bcdi")
            except (OSError, ValueError) as error:
                raise self._away(error) from None
        return self._client

    def _pass_on(self, ours: Future[T], theirs: Future[T]) -> None:
        from distributed import KilledWorker

        if theirs.cancelled():
            ours.set_exception(self._away("it went away while a job ran"))
        elif (error := theirs.exception()) is None:
            ours.set_result(theirs.result())
        else:
            ours.set_exception(BrokenExecutor(str(error)) if isinstance(error, KilledWorker) else error)

    def _away(self, why: object) -> SchedulerAway:
        return SchedulerAway(
            f"the dask scheduler at {self._address} cannot be reached ({why or 'no answer'}); start it, or correct"
            " [jobs] scheduler"
        )


def require_dask() -> None:
    """Raises ScanError where dask.distributed is not installed."""
    if find_spec("distributed") is None:
        raise ScanError("[jobs] scheduler needs dask.distributed: pip install 'live_bcdi[dask]'")
