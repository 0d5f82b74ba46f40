"""An archive of scans, analysed again: what is done is skipped, so that whatever ended it, it goes on from there.

There is no list of what is done. A result's file name holds a checksum of the scan and of all settings that its
numbers depend on, and a file is whole or not there.
"""

import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .cleaning import without_dark
from .config import Config
from .jobs import Jobs, SchedulerAway
from .metadata import file_stem
from .pipeline import provenance, reconstruct_as_configured
from .storage import reason
from .transport.archive import Source
from .transport.hdf5 import write_result
from .transport.images import read_image
from .types import ScanError, StorageError

Tell = Callable[[int, str], None]
LOST = "its refinement lost its process (out of memory?)"
TOO_LARGE = "bin or cut the volume ([preprocess] binning, shape)"


@dataclass(slots=True)
class Outcome:
    """What became of a batch: a table a scan, `done` and `skipped` as `analyse` returns them."""

    done: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.done) + len(self.skipped) + len(self.failed)


def analyse(source: Source, folder: Path, config: Config) -> dict[str, Any]:
    """The job: a scan to a result in `folder`, unless it is there. Runs in a worker process.

    Returns source, name, file, and, where it was made now, chi, resolution_nm and seconds. Raises ScanError as its
    parts do.
    """
    began_s = time.perf_counter()
    scan = source.read(config)
    if config.preprocess.dark is not None:
        scan = without_dark(scan, read_image(config.preprocess.dark))
    key = settings_key(provenance(scan)["input_sha256"], config, scan.metadata)
    path = folder / f"{file_stem(scan.name)}_{key[:16]}.cxi"
    told = {"source": str(source), "name": scan.name, "file": str(path)}
    if path.exists():
        return told
    result = reconstruct_as_configured([scan], config)
    links = {} if source.path is None else {"frames": str(source.path)}
    write_result(path, result, scan_name=scan.name, run=source.run, links=links)
    resolution_nm = None if result.resolution is None else result.resolution.resolution_nm
    return {**told, "chi": result.chi, "resolution_nm": resolution_nm, "seconds": time.perf_counter() - began_s}


def settings_key(input_sha256: str, config: Config, metadata: Mapping[str, Any] | None = None) -> str:
    """A checksum of a scan's and of every setting that its result depends on, what the CIF file holds among them,
    the configuration's or that of the run's `metadata`. The number of threads is none, and the dark frame is in
    the scan's."""
    sample = config.sample
    table = {
        "input": input_sha256,
        "phasing": config.phasing.model_dump(mode="json", exclude={"threads"}),
        "preprocess": config.preprocess.model_dump(mode="json", exclude={"dark"}),
        "crystal": config.crystal.model_dump(mode="json"),
        "sample": [sample.formula, sample.density_g_cm3, sample.hkl],
        "cif": [_held(sample.cif), _held((metadata or {}).get("cif"))],
        "rung": [config.dynamical.tolerance, config.diffractometer.polarisation],
        "live_bcdi": version("live_bcdi"),
    }
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()


def _held(cif: object) -> str:
    """A checksum of the file, or its name where it cannot be read."""
    try:
        return hashlib.sha256(Path(str(cif)).read_bytes()).hexdigest()
    except (OSError, ValueError):
        return str(cif)


def run_batch(sources: Sequence[Source], folder: Path, config: Config, jobs: Jobs, tell: Tell) -> Outcome:
    """Every scan of `sources` to a result in `folder`; `tell` hears how many are through, and of the last one.

    A scan that cannot be analysed is in `failed` with the reason, and holds up no other; one that ended its worker
    or its memory is tried once more, alone. Raises StorageError where the disk is full, SchedulerAway where the
    cluster is gone, and ScanError where `folder` cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ScanError(f"{folder} cannot be made: {reason(error)}; give another --output") from None
    batch = _Batch(folder.absolute(), config, jobs, tell)
    again = batch.run(sources)
    if jobs.alone_helps:
        again = [left for source in again for left in batch.run([source])]
    for source, why in batch.lost.items():
        if source in again:
            batch.fail(source, f"{why}; {TOO_LARGE}")
    return batch.outcome


class _Batch:
    def __init__(self, folder: Path, config: Config, jobs: Jobs, tell: Tell) -> None:
        self._folder, self._config, self._jobs, self._tell = folder, config, jobs, tell
        self.outcome = Outcome()
        self.lost: dict[Source, str] = {}

    def run(self, sources: Sequence[Source]) -> list[Source]:
        """As many at a time as there are places; those that ended their worker or its memory."""
        waiting = deque(sources)
        running: dict[Future[dict[str, Any]], Source] = {}
        again: list[Source] = []
        while waiting or running:
            places = self._jobs.places() if waiting else 0
            while waiting and len(running) < places:
                source = waiting.popleft()
                running[self._jobs.submit(analyse, source, self._folder, self._config)] = source
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in [each for each in running if each in finished]:
                source = running.pop(future)
                if not self._settle(source, future):
                    again.append(source)
        return again

    def _settle(self, source: Source, future: Future[dict[str, Any]]) -> bool:
        """Note what became of a scan; False where it may be tried again."""
        error = future.exception()
        if isinstance(error, StorageError | SchedulerAway):
            raise error
        if isinstance(error, BrokenExecutor | MemoryError):
            self.lost[source] = LOST if isinstance(error, BrokenExecutor) else f"it ran out of memory ({error})"
            return False
        if error is not None:
            self.fail(source, str(error) if isinstance(error, ScanError) else f"{type(error).__name__}: {error}")
            return True
        told = future.result()
        (self.outcome.done if "chi" in told else self.outcome.skipped).append(told)
        self._tell(self.outcome.count, told["name"])
        return True

    def fail(self, source: Source, why: str) -> None:
        self.outcome.failed.append({"source": str(source), "error": why})
        self._tell(self.outcome.count, str(source))
