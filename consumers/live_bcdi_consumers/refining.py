"""The job of the refine consumer: frames of a finished run in, a result file out. Runs in a worker process."""

import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from live_bcdi.config import Config
from live_bcdi.metadata import file_stem
from live_bcdi.pipeline import reconstruct_as_configured
from live_bcdi.stream.assembler import Assembler
from live_bcdi.stream.run import run_plan
from live_bcdi.transport.hdf5 import FrameFile, write_result
from live_bcdi.transport.images import read_image
from live_bcdi.types import FloatArray, RockingScan, ScanError


def refine_run(ticket: Mapping[str, Any], results: Path, config: Config) -> dict[str, Any]:
    """The job: frames of a finished run -> result file.

    Returns the summary that is published: run, name, chi, resolution_nm, frames, num, missing, seconds, file.
    Raises ScanError as its parts do.
    """
    began_s = time.perf_counter()
    if not results.is_dir():  # said now, and not after the work
        raise ScanError(
            f"{results} is not there on {socket.gethostname()}, which refines: workers of [jobs] scheduler must"
            " see [storage] directory and the detector's files by the same paths"
        )
    assembler = Assembler(run_plan(ticket["start"]))
    with FrameFile(ticket["file"]) as store:
        assembler.refill(store)
    scan = assembler.scan()
    dark = None if config.preprocess.dark is None else read_image(config.preprocess.dark)
    result = reconstruct_as_configured([scan], config, dark=dark)
    plan = assembler.plan
    path = _free_path(results, f"{file_stem(plan.name)}_{plan.run[:8]}")
    write_result(path, result, scan_name=scan.name, run=plan.run, links={"frames": str(ticket["file"])})
    return {
        "run": plan.run,
        "name": plan.name,
        "chi": result.chi,
        "resolution_nm": None if result.resolution is None else result.resolution.resolution_nm,
        "frames": assembler.count,
        "num": plan.num,
        "missing": assembler.missing,
        "last_frame_s": _newest(assembler.timestamps_s),
        "frame_totals_equal": _totals_equal(scan),
        "seconds": time.perf_counter() - began_s,
        "file": str(path),
    }


def _newest(timestamps_s: FloatArray) -> float | None:
    known = timestamps_s[np.isfinite(timestamps_s)]
    return float(known.max()) if len(known) else None


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
