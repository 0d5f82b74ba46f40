"""Verbs that measure: bench phasing, bench faults."""

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from .. import log
from .app import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    bench_app,
    config_path,
    errors,
    print_json,
    screen,
)


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


@bench_app.command("faults")
def bench_faults(
    scans: Annotated[int, typer.Option(min=1, help="Small scans to measure.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of scans and faults.")] = 0,
    seconds: Annotated[float | None, typer.Option(help="Begin no scan after so long.")] = None,
    calm: Annotated[int, typer.Option(min=0, help="Scans first in which nothing is killed, to see memory.")] = 0,
    keep: Annotated[
        Path | None, typer.Option(help="A folder for all files; else kept only after a fault.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Kill, stall and cut off parts of a running system while it measures, and say what was lost."""
    from ..faults import Settings, soak
    from . import bench_report
    from .live import stop_on_sigterm

    folder = Path(tempfile.mkdtemp(prefix="live-bcdi-faults-")) if keep is None else keep
    log.configure("faults", folder, stderr=False)
    settings = Settings(scans=scans, seed=seed, seconds=seconds, calm=calm)
    with stop_on_sigterm() as leaving:
        told = soak(config_path(config), settings, folder, keep=keep is not None, say=errors.print)
        leaving.status = 0
    if as_json:
        print_json(told)
    else:
        bench_report.show_faults(told, screen)
    if told["wrong"]:
        errors.print(f"the files are in {folder}", soft_wrap=True)
        raise typer.Exit(1)
