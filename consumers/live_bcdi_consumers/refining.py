"""The job of the refine consumer: frames of a finished run in, a result file out. Runs in a worker process."""

import math
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from live_bcdi.advice import Advice, ResultFacts, advise_result
from live_bcdi.climbing import wanted
from live_bcdi.config import Config
from live_bcdi.estimate import pattern_facts
from live_bcdi.metadata import file_stem
from live_bcdi.phasing import Pattern
from live_bcdi.pipeline import Progress, reconstruct_as_configured
from live_bcdi.stream.assembler import Assembler
from live_bcdi.stream.run import run_plan
from live_bcdi.transport.hdf5 import FrameFile, write_result
from live_bcdi.transport.images import read_image
from live_bcdi.types import FloatArray, Outcome, Reconstruction, RockingScan, ScanError

from .estimating import initial_guess
from .series import operando_table
from .views import limit_nm


def refine_run(
    ticket: Mapping[str, Any], results: Path, config: Config, progress: Progress | None = None
) -> dict[str, Any]:
    """The job: frames of a finished run -> result file.

    Returns the summary that is published: run, name, chi, resolution_nm, frames, num, missing, seconds, file, the
    `rung` that it is to be taken to or None, the table `operando`, and `advice`, which is told apart. `progress`
    is picklable. Raises ScanError as its parts do.
    """
    began_s = time.perf_counter()
    if not results.is_dir():  # said now, and not after the work
        raise ScanError(
            f"{results} is not there on {socket.gethostname()}, which refines: workers of [jobs] scheduler must"
            " see [storage] directory and the detector's files by the same paths"
        )
    assembler = scan_of(ticket)
    scan = assembler.scan()
    dark = None if config.preprocess.dark is None else read_image(config.preprocess.dark)
    guess = initial_guess() if config.jobs.network else None
    result = reconstruct_as_configured([scan], config, dark=dark, guess=guess, progress=progress)
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
        "operando": operando_table(ticket["start"], (scan, result), config.operando, results.parent),
        "seconds": time.perf_counter() - began_s,
        "file": str(path),
        "rung": None if (rung := wanted(result, config)) is None else rung.value,
        "advice": _advice(result),
    }


def scan_of(ticket: Mapping[str, Any]) -> Assembler:
    """All that the file has of a run that ended."""
    assembler = Assembler(run_plan(ticket["start"]))
    with FrameFile(ticket["file"]) as store:
        assembler.refill(store)
    return assembler


def _advice(result: Reconstruction) -> tuple[Advice, ...]:
    """What the result says of its scan; nothing where no start gave an object."""
    volume, resolution, agreement = result.volume, result.resolution, result.agreement
    if volume is None or result.outcome is Outcome.DIVERGED:
        return ()
    halves = agreement.correlation if agreement is not None else None
    figures = [] if resolution is None else [resolution.resolution_nm]
    figures += [] if halves is None else [halves.resolution_nm["0.5"]]
    limit = limit_nm(result)
    return advise_result(
        ResultFacts(
            pattern=pattern_facts(Pattern(intensity=volume.intensity, mask=volume.mask)),
            chi_starts=result.chi_starts,
            first_mode=result.metrics.get("first_mode", math.nan) if len(result.chi_starts) > 1 else math.nan,
            resolution_nm=max((each for each in figures if math.isfinite(each)), default=math.nan),
            limit_nm=math.nan if limit is None else limit,
        )
    )


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
