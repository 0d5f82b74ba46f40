"""The refine consumer: at `stop`, the whole scan from its file to a result on disk, then to Tiled.

A ticket on disk stands for every job and every delivery that is not done, so that a killed process, a killed
worker or an absent Tiled delays a result and never loses it.
"""

import json
import time
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from tiled.client.container import Container

from live_bcdi.config import PhasingConfig
from live_bcdi.jobs import JobPool
from live_bcdi.log import about_run
from live_bcdi.pipeline import reconstruct
from live_bcdi.refraction import Material, corrected, material_of
from live_bcdi.stream import journal
from live_bcdi.stream.assembler import Assembler
from live_bcdi.stream.run import is_rocking_run, run_plan
from live_bcdi.stream.updates import Update
from live_bcdi.transport.hdf5 import FrameFile, read_result, write_result
from live_bcdi.transport.tiled import connect, store_result
from live_bcdi.transport.zmq import DocumentSubscriber
from live_bcdi.types import Reconstruction, RockingScan, ScanError

from .files import frame_file_of
from .service import Service
from .views import refined_update

RETRY_S = 3.0
MAX_TRIES = 3  # a job that ends its worker three times will do so again


def run(service: Service) -> None:
    documents = DocumentSubscriber(service.config.stream.documents_out)
    refiner = Refiner(service)
    try:
        while not service.stopping.is_set():
            for name, doc in documents.receive(0.1):
                refiner.document(name, doc)
            refiner.work()
            service.beat("busy" if refiner.busy else "ready", refiner.detail)
    finally:
        refiner.pool.shutdown()


def refine_run(
    ticket: Mapping[str, Any], results: Path, settings: PhasingConfig, material: Material | None = None
) -> dict[str, Any]:
    """The job: frames of a finished run -> result file. Runs in a worker process.

    Returns the summary that is published: run, name, chi, resolution_nm, frames, num, missing, seconds, file.
    """
    began_s = time.perf_counter()
    assembler = Assembler(run_plan(ticket["start"]))
    with FrameFile(ticket["file"]) as store:
        assembler.refill(store)
    scan = assembler.scan()
    result = reconstruct(
        scan, recipe=settings.recipe, starts=settings.starts, seed=settings.seed, threads=settings.threads
    )
    result = corrected(result, scan.geometry, material)
    plan = assembler.plan
    path = _free_path(results, f"{plan.name}_{plan.run[:8]}")
    write_result(path, result, scan_name=scan.name, run=plan.run, links={"frames": str(ticket["file"])})
    return {
        "run": plan.run,
        "name": plan.name,
        "chi": result.chi,
        "resolution_nm": None if result.resolution is None else result.resolution.resolution_nm,
        "frames": assembler.count,
        "num": plan.num,
        "missing": assembler.missing,
        "frame_totals_equal": _totals_equal(scan),
        "seconds": time.perf_counter() - began_s,
        "file": str(path),
    }


def _totals_equal(scan: RockingScan) -> str | None:
    """How many frames hold as many counts as the beamline's own counter said; None where it did not say."""
    said = scan.metadata.get("frame_totals")
    if said is None:
        return None
    totals = scan.intensity.sum(axis=(1, 2), dtype=np.int64)
    return f"{int((totals == np.asarray(said)[: len(totals)]).sum())}/{len(totals)}"


def _free_path(folder: Path, stem: str) -> Path:
    """Nothing is overwritten: a second result of a run gets the next number."""
    number = 1
    while (path := folder / f"{stem}_{number}.cxi").exists():
        number += 1
    return path


class Refiner:
    """Tickets in `queue/` are runs to refine, one at a time, oldest first; those in `outbox/` go to Tiled."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.pool = JobPool(workers=1, threads=service.config.phasing.threads)
        self._queue = service.folder("queue")
        self._outbox = service.folder("outbox")
        self._results = service.folder("results")
        self._runs: dict[str, str] = {}
        self._open: dict[str, dict[str, Any]] = {}
        self._job: tuple[Path, Future[dict[str, Any]]] | None = None
        self._next_delivery_s = 0.0
        self._refusal = ""
        self.detail = ""

    @property
    def busy(self) -> bool:
        return self._job is not None

    def document(self, name: str, doc: dict[str, Any]) -> None:
        run = journal.run_of(name, doc, self._runs)
        if name == "start" and is_rocking_run(doc):
            self._open[str(run)] = {"start": doc, "file": None, "tries": 0}
        elif run not in self._open:
            return
        elif name == "stream_resource" and (path := frame_file_of(doc)):
            self._open[run]["file"] = path
        elif name == "stop":
            self._enqueue(run, {**self._open.pop(run), "stop": doc})

    def _enqueue(self, run: str, ticket: dict[str, Any]) -> None:
        if ticket["file"] is None:
            self._failed(run, ticket, "its documents name no frame file")
            return
        _write_json(self._queue / f"{ticket['start']['time']:.6f}_{run}.json", ticket)

    def work(self) -> None:
        """One turn: take in a finished job, start the next, deliver."""
        if self._job is not None and self._job[1].done():
            path, future = self._job
            self._job = None
            self._finish(path, future)
        waiting = sorted(self._queue.glob("*.json"))
        if self._job is None and waiting:
            self._begin(waiting[0])
        self.detail = f"{len(waiting)} waiting" if waiting else ""
        if time.monotonic() >= self._next_delivery_s:
            self._deliver()
            self._next_delivery_s = time.monotonic() + RETRY_S

    def _begin(self, path: Path) -> None:
        ticket = _read_json(path)
        run = ticket["start"]["uid"]
        if ticket["tries"] >= MAX_TRIES:
            path.unlink()
            self._failed(run, ticket, f"its refinement ended the worker {MAX_TRIES} times (out of memory?)")
            return
        _write_json(path, {**ticket, "tries": ticket["tries"] + 1})
        about_run("refine", run).info("refinement begins")
        config = self._service.config
        material = material_of(config.sample.formula, config.sample.density_g_cm3)
        job = self.pool.submit(refine_run, ticket, self._results, config.phasing, material)
        self._job = (path, job)

    def _finish(self, path: Path, future: Future[dict[str, Any]]) -> None:
        error = future.exception()
        if error is None:
            summary = future.result()
            _write_json(self._outbox / path.name, summary)
            path.unlink()
            self._publish(summary)
            self._next_delivery_s = 0.0
            return
        run = _read_json(path)["start"]["uid"]
        if isinstance(error, ScanError | ValueError | ArithmeticError):
            ticket = _read_json(path)
            path.unlink()
            self._failed(run, ticket, str(error))
        else:  # the worker died, or the disk is full: the ticket stays, and is tried again
            self._service.notice("warning", f"refinement was interrupted ({error}); it starts again", run)

    def _publish(self, summary: dict[str, Any]) -> None:
        result = self._read(summary)
        if result is not None:
            self._service.updates.send(refined_update(summary, result))
            self._service.updates.send(Update(topic="result", run=summary["run"], fields=summary))

    def _read(self, summary: dict[str, Any]) -> Reconstruction | None:
        """The result file; None, and said so, where someone damaged or moved it."""
        try:
            return read_result(Path(summary["file"]))
        except ScanError as error:
            self._service.notice("error", str(error), summary["run"])
            return None

    def _failed(self, run: str, ticket: Mapping[str, Any], reason: str) -> None:
        name = str(ticket["start"].get("live_bcdi", {}).get("scan", {}).get("name", ""))
        self._service.notice("error", f"no result for {name}: {reason}", run)
        self._service.updates.send(Update(topic="result", run=run, fields={"name": name, "error": reason}))

    def _deliver(self) -> None:
        waiting = sorted(self._outbox.glob("*.json"))
        if not waiting:
            self._refusal = ""
            return
        try:
            root = connect(self._service.config)
            for path in waiting:
                self._deliver_one(root, path)
        except (ScanError, httpx.HTTPError, OSError, ValueError, KeyError) as error:
            message = f"results wait on disk for Tiled: {error}"
            if message != self._refusal:  # once, not every few seconds
                self._service.notice("warning", message)
            self._refusal = message

    def _deliver_one(self, root: Container, path: Path) -> None:
        summary = _read_json(path)
        result = self._read(summary)
        if result is None:
            path.rename(path.with_suffix(".unreadable"))
            return
        tiled = store_result(root, summary["run"], result, _metadata(summary, result))
        path.unlink()
        self._service.updates.send(Update(topic="result", run=summary["run"], fields={**summary, "tiled": tiled}))


def _metadata(summary: Mapping[str, Any], result: Reconstruction) -> dict[str, Any]:
    lab = result.lab
    return {
        **summary,
        "raw": f"raw/{summary['run']}",
        "finished": time.time(),
        "recipe": result.recipe,
        "seed": result.seed,
        "outcome": result.outcome.value,
        "chi_starts": list(result.chi_starts),
        "metrics": dict(result.metrics),
        "provenance": dict(result.provenance),
        "voxel_nm": None if lab is None else lab.voxel_nm,
        "q_invA": None if lab is None else [float(value) for value in lab.q_centre_invA],
        "convention": "S = s exp(-i h.u); displacement in angstrom along +h; strain = d u_h / d x_h",
    }


def _write_json(path: Path, table: Mapping[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(table), encoding="utf-8")
    partial.replace(path)


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))
