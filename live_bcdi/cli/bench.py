"""Verbs that measure: bench phasing, bench stream, bench preview, bench faults."""

import os
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import log
from ..types import ScanError
from .app import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    bench_app,
    config_path,
    errors,
    print_json,
    print_table,
    screen,
)


class PreviewPart(StrEnum):
    """What `bench preview` measures."""

    STRAIN = "strain"
    PARTIAL = "partial"
    GUARD = "guard"
    GUIDED = "guided"
    FIT = "fit"
    TABLE = "table"
    ALARM = "alarm"
    CALIBRATION = "calibration"
    SCAN = "scan"


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


@bench_app.command("stream")
def bench_stream(
    shape: Annotated[
        str | None, typer.Option(help="Of a frame, e.g. 1024x1024; by default three detectors in turn.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="With --shape: of its pixels.")] = "uint16",
    rate: Annotated[float, typer.Option(min=0.1, help="With --shape: frames a second.")] = 200.0,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long frames are sent.")] = 10.0,
    memory_mb: Annotated[
        float | None,
        typer.Option(help="\\[live] memory_mb; by default enough for whole frames of a small detector."),
    ] = None,
    network: Annotated[
        bool | None, typer.Option(help="\\[live] network; by default as the configuration has it.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Frames a second into a live volume and a compressed file, what was lost, how late, and what it cost."""
    from .. import bench_stream as bench
    from ..config import load_config
    from .live import stop_on_sigterm

    told = []
    settings = load_config(config_path(config))
    if network is not None:
        settings = settings.changed(live={"network": network})
    with stop_on_sigterm() as leaving:
        for case in bench.cases(shape, dtype, rate, seconds, memory_mb):
            told.append(bench.measure(case, settings))
        leaving.status = 0
    if as_json:
        print_json(told)
        return
    for table in told:
        flat = {key: value for key, value in table.items() if not isinstance(value, dict)}
        parts = {
            f"{key} {of}": part
            for key, value in table.items()
            if isinstance(value, dict)
            for of, part in value.items()
        }
        print_table({**flat, **parts}, False, str(flat.pop("detector")))


@bench_app.command("preview")
def bench_preview(
    crystals: Annotated[int, typer.Option(min=1, help="Simulated crystals of each kind.")] = 16,
    part: Annotated[
        PreviewPart, typer.Option(help="What is measured; `fit` fits what the uncertainty is made of.")
    ] = PreviewPart.STRAIN,
    output: Annotated[Path, typer.Option(help="Folder for tables and figures.")] = Path("preview"),
    scan: Annotated[Path | None, typer.Option(help="With --part scan: the measured scan.")] = None,
    edge: Annotated[int, typer.Option(min=32, max=128, help="With --part table: voxels an axis.")] = 64,
    seconds: Annotated[
        float | None,
        typer.Option(min=0, help="With --part table: begin no crystal after so long; the same command goes on."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """The network's preview against plain iterations for as long, on crystals of families it was not shown."""
    try:
        from live_bcdi_models import alarm_judged, arriving, calibration, judging, table
    except ImportError as error:
        raise ScanError(f"{error.name} is not installed; pip install 'live_bcdi[network]'") from None
    measure: Mapping[PreviewPart, Callable[[int], dict[str, Any]]] = {
        PreviewPart.STRAIN: judging.by_strain,
        PreviewPart.PARTIAL: partial(arriving.simulated, output=output),
        PreviewPart.GUARD: judging.guard,
        PreviewPart.GUIDED: judging.guided,
        PreviewPart.FIT: judging.fit,
        PreviewPart.ALARM: partial(alarm_judged.measure, output=output),
        PreviewPart.CALIBRATION: partial(calibration.measure, output=output),
        PreviewPart.SCAN: lambda count: arriving.measured(_given(scan), output=output),
        PreviewPart.TABLE: partial(table.measure, output=output, edge=edge, seconds=seconds),
    }
    told = measure[part](crystals)
    if as_json:
        print_json(told)
        return
    for title, part_of_it in told.items():
        print_table(part_of_it, False, title)


def _given(scan: Path | None) -> Path:
    if scan is None:
        raise ScanError("--part scan shows a measured scan; give it too, with --scan FILE")
    return scan


@bench_app.command("faults")
def bench_faults(
    scans: Annotated[int, typer.Option(min=1, help="Small scans to measure.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of scans and faults.")] = 0,
    seconds: Annotated[float | None, typer.Option(min=0, help="Begin no scan after so long.")] = None,
    calm: Annotated[int, typer.Option(min=0, help="Scans first in which nothing is killed, to see memory.")] = 0,
    keep: Annotated[
        Path | None, typer.Option(help="A folder for all files; else kept only after a fault.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Kill, stall and cut off parts of a running system while it measures, and say what was lost."""
    from ..config import load_config
    from ..faults import Settings, new_folder, soak
    from . import bench_report
    from .live import stop_on_sigterm

    load_config(config_path(config))  # what is wrong with it, before there is a folder
    folder = new_folder(keep)
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
