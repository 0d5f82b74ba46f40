"""Verbs that measure: bench phasing."""

import os
from pathlib import Path
from typing import Annotated

import typer

from .app import JsonOption, bench_app, print_json, screen


@bench_app.command("phasing")
def bench_phasing(
    shape: Annotated[
        list[str] | None, typer.Option(help="e.g. --shape 128x128x128; several may be given.")
    ] = None,
    scan: Annotated[Path | None, typer.Option(help="A scan to retrieve: its chi and the time to it.")] = None,
    chi: Annotated[
        float | None, typer.Option(help="With --scan: also when one start gets below this chi.")
    ] = None,
    cohere_python: Annotated[
        Path | None, typer.Option(help="A Python that has cohere_core, to run it beside; by default this one.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    as_json: JsonOption = False,
) -> None:
    """What an iteration costs, as a ratio to its two Fourier transforms in the same run."""
    # idle workers of one library's pool must not spin while the next library is timed; read when they are loaded
    os.environ.update(OMP_WAIT_POLICY="passive", KMP_BLOCKTIME="0")
    from . import bench_report

    told = bench_report.measure(shape or ["64x64x64", "128x128x128"], scan, chi, cohere_python, threads=threads)
    if as_json:
        print_json(told)
    else:
        bench_report.show(told, screen, threads, chi)
