"""Between scans the network adapts to the last one: in a process of its own, at the lowest priority, which is
killed when the next scan begins. What was learnt is on disk as a whole, or not at all.
"""

from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

from live_bcdi.config import LiveConfig, Preprocessing
from live_bcdi.jobs import JobPool
from live_bcdi.log import about_run
from live_bcdi.phasing import Pattern
from live_bcdi.preprocess import diffraction_volume
from live_bcdi.stream.live import LiveRun
from live_bcdi.types import RockingScan, ScanError

from .service import Service

FOLDER = "adapted"
NICE = 19


class Between:
    """What the live consumer does after a scan where `[live] network` and `adapt` ask for it; `folder` is where
    the adapted networks are, None where they do not."""

    def __init__(self, service: Service) -> None:
        self._service = service
        settings = service.config.live
        self.folder: Path | None = service.folder(FOLDER) if settings.adapt else None
        self._pool: JobPool | None = None
        self._future: tuple[str, Future[dict[str, Any]]] | None = None

    def begin(self, live: LiveRun) -> None:
        """Adapt to a run that is over."""
        if self.folder is None:
            return
        self.stop()
        settings, plan = self._service.config.live, live.plan
        try:
            scan = live.snapshot(settings.edge_voxels)
        except ScanError:
            return  # no frame of it is known
        self._pool = JobPool(workers=1, threads=1, nice=NICE)
        self._future = (plan.run, self._pool.submit(adapt_to_scan, self.folder, scan, settings))

    def stop(self) -> None:
        """At once; what was not finished is not learnt."""
        if self._future is not None:
            run, _ = self._future
            about_run(self._service.name, run).info("the network is not adapted to it: the next run begins")
        self._future = None
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def collect(self) -> None:
        """Say what came of it, once."""
        if self._future is None or not self._future[1].done():
            return
        (run, job), self._future = self._future, None
        log = about_run(self._service.name, run)
        error = CancelledError("its process was stopped") if job.cancelled() else job.exception()
        if error is not None:  # of any kind: analysis ends no consumer
            log.warning("the network is not adapted to it: %s", error)
        else:
            told = job.result()
            words = "adapted" if told["kept"] else "not adapted"
            text = "the network is %s to it in %.0f s, %d times in all: %s"
            log.info(text, words, told["seconds"], told["times"], told["why"], extra={"fields": told})
        self.stop()


def adapt_to_scan(folder: Path, scan: RockingScan, settings: LiveConfig) -> dict[str, Any]:
    """Adapts the newest network in `folder` to a scan; what happened, as `keeping.adapt_next` says it."""
    from live_bcdi_models.adapting import (
        Effort,
    )
    from live_bcdi_models.keeping import (
        adapt_next,
    )

    edge = settings.edge_voxels
    volume = diffraction_volume(scan, Preprocessing(shape=(edge, edge, edge)))
    pattern = Pattern(intensity=volume.intensity, mask=volume.mask)
    return adapt_next(folder, pattern, scan.name, Effort(seconds=settings.adapt_s), settings.weights)
