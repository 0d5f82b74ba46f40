"""Verbs for the running system: up, replay, demo, results; and, hidden, what it starts itself."""

import importlib
import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress
from rich.table import Table

from .. import log
from ..config import load_config
from ..stream.updates import Update
from ..types import ScanError
from .app import (
    DEFAULT_CONFIG,
    SCANS,
    ConfigOption,
    HoldOption,
    JsonOption,
    app,
    config_path,
    errors,
    files_of,
    print_json,
    print_table,
    screen,
)


@app.command()
def up(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Start every service and keep it running until Ctrl-C."""
    from ..dashboard import page_address
    from ..supervisor import Supervisor

    path = config_path(config)
    settings = load_config(path)
    log.configure("supervisor", settings.storage.directory, settings.log_level)
    with stop_on_sigterm() as leaving, Supervisor(path) as supervisor:
        leaving.status = 0
        if as_json:
            told = {"beamline": settings.beamline, "page": page_address(settings), "pids": supervisor.pids()}
            print_json(told)
        else:
            screen.print(f"live_bcdi is up for {settings.beamline}: {page_address(settings)}   (Ctrl-C ends it)")
        while True:
            for _ in supervisor.watch():
                pass


@dataclass(slots=True)
class _Leaving:
    """The exit status of who is interrupted now: 0 where there was nothing left to finish."""

    status: int = 130


@contextmanager
def stop_on_sigterm() -> Iterator[_Leaving]:
    """Make SIGTERM and Ctrl-C leave the block in order, and the command with the status that the block has set."""
    import signal

    def leave(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, leave)
    leaving = _Leaving()
    try:
        yield leaving
    except KeyboardInterrupt:
        logging.getLogger("supervisor").info("ending")
        raise typer.Exit(leaving.status) from None
    finally:
        signal.signal(signal.SIGTERM, before)


@app.command()
def replay(
    scan: Annotated[
        Path,
        typer.Argument(
            help="A recorded scan, as `live-bcdi import` writes it, or a journal of documents.",
            autocompletion=files_of(*SCANS, ".jsonl"),
        ),
    ],
    rate: Annotated[float, typer.Option(min=0.0, help="Frames a second; 0 is as fast as it goes.")] = 0.0,
    fly: Annotated[bool, typer.Option("--fly", help="Sweep the axis instead of stepping it.")] = False,
    hold: HoldOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Play a recorded scan through the whole live path: detector, RunEngine, consumers, Tiled, page.

    Of a journal that a RunEngine kept, the documents are sent again, for services that missed them.
    """
    from ..stream import journal
    from ..transport.hdf5 import read_scan

    if scan.suffix == ".jsonl" or journal.is_journal(scan):
        if rate or fly:
            raise ScanError(f"{scan} is a journal: its documents are sent as they are, without --rate and --fly")
        journal.read_run(scan)
        with _session(config, hold) as system:
            told = _send_again(system, scan, config, quiet=as_json)
            print_table(told, as_json, f"Sent again {scan}")
        return
    read_scan(scan)  # say now, and not from a service, what is wrong with the file
    with _session(config, hold) as system:
        told = _play(system, scan, config, rate, fly=fly, quiet=as_json)
        print_table(told, as_json, f"Replayed {scan}")


@app.command()
def demo(
    rate: Annotated[float, typer.Option(min=0.0, help="Frames a second; 0 is as fast as it goes.")] = 20.0,
    seed: Annotated[int, typer.Option(help="Which crystal.")] = 0,
    fly: Annotated[bool, typer.Option("--fly", help="Sweep the axis instead of stepping it.")] = False,
    operando: Annotated[bool, typer.Option("--operando", help="An experiment on the virtual beamline.")] = False,
    states: Annotated[int, typer.Option(min=3, help="Of the experiment.")] = 6,
    hold: HoldOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Measure a simulated crystal live, and compare what comes out with the truth; or, with --operando, charge and
    discharge one on a beamline where it drifts."""
    from ..sim import compare_with_truth, simulate_scan
    from ..transport.hdf5 import read_result, write_scan

    if operando:
        if fly:
            raise ScanError("the experiment steps its axis: leave out --fly")
        with _session(config, hold) as system:
            _show_experiment(system, config, {"states": states, "rate_hz": rate, "seed": seed}, as_json=as_json)
        return
    settings = load_config(config_path(config))
    scan, truth = simulate_scan(seed=seed, config=settings)
    path = settings.storage.directory / "demo" / f"{scan.name}.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_scan(path, scan)
    with _session(config, hold) as system:
        table = _play(system, path, config, rate, fly=fly, quiet=as_json)
        truth_table = compare_with_truth(read_result(Path(table["file"])), truth)
        print_table({**table, **truth_table}, as_json, "A simulated crystal, measured live, against the truth")


def _show_experiment(system: Any, config: str, how: dict[str, Any], *, as_json: bool) -> None:
    from ..session import play_experiment

    with _shown(system, quiet=as_json) as watched:
        steps = play_experiment(watched, config_path(config), **how)
    first = steps[0]["result"]["operando"]["d_angstrom"]
    told = [
        {
            "run": step["run"],
            "volts": step["volts"],
            "strain": step["strain"],
            "found": step["result"]["operando"]["d_angstrom"] / first - 1,
            **{key: step["result"].get(key) for key in ("chi", "resolution_nm", "file")},
        }
        for step in steps
    ]
    if as_json:
        print_json(told)
        return
    columns = ("run", "V", "strain", "found", "chi", "resolution (nm)")
    shown = Table(*columns, title="A crystal, charged and discharged", title_justify="left", box=None)
    for each in told:
        numbers = (f"{each[key]:.4g}" for key in ("volts", "strain", "found", "chi", "resolution_nm"))
        shown.add_row(each["run"][:8], *numbers)
    screen.print(shown)


@contextmanager
def _session(config: str, hold: bool | None) -> Iterator[Any]:
    """A running system; kept up after the block while someone is there to look at its page."""
    from ..dashboard import page_address
    from ..session import running_system
    from ..supervisor import Supervisor

    path = config_path(config)
    settings = load_config(path)
    log.configure("session", settings.storage.directory, settings.log_level)
    with stop_on_sigterm() as leaving, running_system(path) as system:
        errors.print(f"page: {page_address(settings)}")
        yield system
        leaving.status = 0
        if isinstance(system, Supervisor) and (sys.stdout.isatty() if hold is None else hold):
            errors.print(f"the page stays up at {page_address(settings)}; Ctrl-C ends it")
            while True:
                for _ in system.watch():
                    pass


class _Shown:
    """A `session.Watcher` that shows what passes on a bar."""

    def __init__(self, system: Any, bar: Progress) -> None:
        self._system, self._bar = system, bar
        self._task = bar.add_task("waiting for the scan", total=None)

    def watch(self, timeout_s: float = 0.5) -> Iterator[Update]:
        for update in self._system.watch(timeout_s):
            if update.topic == "live":
                count, num = update.fields.get("count"), update.fields.get("num")
                doing = "frames" if count != num else "refining"
                self._bar.update(self._task, completed=count, total=num, description=doing)
            yield update


@contextmanager
def _shown(system: Any, *, quiet: bool) -> Iterator[Any]:
    """A bar on stderr, where that is a terminal and the services, whose log is there too, are not our own."""
    from ..supervisor import Supervisor

    if quiet or isinstance(system, Supervisor) or not errors.is_terminal:
        yield system
        return
    with Progress(console=errors, transient=True) as bar:
        yield _Shown(system, bar)


def _send_again(system: Any, file: Path, config: str, *, quiet: bool) -> dict[str, Any]:
    from ..session import send_again

    with _shown(system, quiet=quiet) as watched:
        told = send_again(watched, file, config_path(config))
    result = told.pop("result")
    frames = {"frames": f"{result['frames']}/{result['num']}"} if "frames" in result else {}
    return {**told, **frames, **{key: result.get(key) for key in ("missing", "chi", "seconds", "file", "tiled")}}


def _play(system: Any, scan: Path, config: str, rate: float, *, fly: bool, quiet: bool) -> dict[str, Any]:
    from ..session import play

    with _shown(system, quiet=quiet) as watched:
        told = play(watched, scan, config_path(config), rate_hz=rate, fly=fly)
    live, result = told["live"], told["result"]
    return {
        "run": told["run"],
        "frames": f"{result['frames']}/{result['num']}",
        "frame_totals_equal": result.get("frame_totals_equal"),
        **{key: live.get(key) for key in ("refilled", "bragg_deg", "q_invA", "d_angstrom", "rate_hz")},
        **{key: result.get(key) for key in ("chi", "resolution_nm", "seconds", "file", "tiled")},
    }


@app.command()
def results(
    run: Annotated[str | None, typer.Argument(help="Uid of a run, or its beginning; all without.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """List the results in Tiled, or print those of one run."""
    from ..transport.tiled import connect
    from ..transport.tiled import results as find

    found = find(connect(load_config(config_path(config))), run)
    if run is not None and not found:
        raise ScanError(f"no result of a run {run!r}; `live-bcdi results` lists what is there")
    tables = [{"path": path, **dict(node.metadata)} for path, node in found]
    if as_json:
        print_json(tables)
    elif run is not None:
        for table in tables:
            print_table(table, False, table["path"])
    else:
        _list(tables)


def _list(tables: list[dict[str, Any]]) -> None:
    columns = ("path", "name", "frames", "num", "chi", "resolution_nm", "voxel_nm")
    shown = Table(box=None)
    for column in columns:  # a path is for copying: folded, and never cut
        width = {"path": 16, "name": 12}.get(column)
        shown.add_column(column, overflow="fold", no_wrap=width is None, min_width=width)
    for table in tables:
        values = [table.get(key) for key in columns]
        shown.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in values))
    screen.print(shown)


@app.command(hidden=True)
def acquire(
    scan: Path,
    rate: float = 0.0,
    fly: Annotated[bool, typer.Option("--fly")] = False,
    config: str = DEFAULT_CONFIG,
) -> None:
    """The beamline's side of `replay`: only the RunEngine and its devices, or the sender of a journal."""
    from live_bcdi_plans.replay import replay as measure
    from live_bcdi_plans.replay import send_again

    from ..stream import journal
    from ..transport.hdf5 import read_scan

    settings = load_config(config_path(config))
    log.configure("acquire", settings.storage.directory, settings.log_level, stderr=False)
    if scan.suffix == ".jsonl" or journal.is_journal(scan):
        documents = journal.read_run(scan)
        send_again(documents, settings)
        print(json.dumps({"run": documents[0][1]["uid"]}))
        return
    print(json.dumps({"run": measure(read_scan(scan), settings, rate_hz=rate, fly=fly)}))


@app.command(hidden=True)
def service(
    name: str, config: str = DEFAULT_CONFIG, supervised: Annotated[bool, typer.Option("--supervised")] = False
) -> None:
    """One service in this process."""
    from live_bcdi_consumers.service import SERVICES, start_service

    if name not in SERVICES:
        raise ScanError(f"no service {name!r}; they are {', '.join(SERVICES)}")
    # of Tiled's client, which reads it once: we try again ourselves, and who waits for it is silent
    os.environ.setdefault("TILED_RETRY_TIMEOUT", "10")
    module = importlib.import_module(f"live_bcdi_consumers.{name}")
    running = start_service(name, config_path(config), supervised=supervised)
    module.run(running)
    if running.failed:
        sys.exit(1)
