"""The `live-bcdi` command. Verbs only parse, call, and print; what they call lives elsewhere."""

import importlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from . import log
from .config import Config, load_config
from .metadata import plain
from .types import ScanError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="Bragg coherent diffraction imaging while the scan runs.",
)
bench_app = typer.Typer(no_args_is_help=True, help="Measure speed and memory on this machine.")
app.add_typer(bench_app, name="bench")
screen = Console()
errors = Console(stderr=True)

DEFAULT_CONFIG = "34idc"
ConfigOption = Annotated[
    str, typer.Option("--config", "-c", help="A beamline's TOML file, or the name of one that ships: 34idc.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of words.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace the output where it exists.")]
HoldOption = Annotated[
    bool | None,
    typer.Option(help="Keep the page up until Ctrl-C. By default only where standard output is a terminal."),
]


def config_path(name: str) -> Path:
    """The file that `--config` means: a path, or the name of a beamline that ships with the package."""
    if name.endswith(".toml") or "/" in name:
        return Path(name)
    here = Path(__file__).parent
    shipped = [here / "beamlines" / f"{name}.toml", here.parent / "config" / f"{name}.toml"]
    found = [path for path in shipped if path.exists()]
    if not found:
        raise ScanError(f"no beamline {name!r} ships with live_bcdi; give the path of a TOML file")
    return found[0]


def main() -> None:
    """Entry point: a `ScanError` is one line on stderr and exit status 2, anything else is our fault."""
    try:
        app(standalone_mode=True)
    except ScanError as error:
        errors.print(f"live-bcdi: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)


def _print_json(value: Any) -> None:
    screen.print_json(json.dumps(plain(value), allow_nan=False))


def _print(table: dict[str, Any], as_json: bool, title: str) -> None:
    if as_json:
        _print_json(table)
        return
    shown = Table("", "", title=title, show_header=False, title_justify="left", box=None)
    shown.columns[1].overflow = "fold"
    for key, value in table.items():
        if value is not None:
            shown.add_row(key, f"{value:.6g}" if isinstance(value, float) else str(value))
    screen.print(shown)


@app.command("import")
def import_scan(
    folder: Annotated[Path, typer.Argument(help="Folder with the SPEC file and the TIFF frames.")],
    scan: Annotated[int, typer.Option(help="Scan number in the SPEC file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="NeXus file to write.")],
    hkl: Annotated[tuple[float, float, float] | None, typer.Option(help="Reflection, e.g. --hkl 1 1 1.")] = None,
    sample: Annotated[str | None, typer.Option(help="What the crystal is.")] = None,
    overwrite: OverwriteOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Gather a SPEC scan and its TIFF frames into one NeXus/CXI file."""
    from .transport.files import check_output
    from .transport.hdf5 import write_scan
    from .transport.spec import read_spec_scan

    check_output(output, overwrite=overwrite)
    found = read_spec_scan(folder, scan, load_config(config_path(config)), hkl=hkl, sample=sample)
    write_scan(output, found)
    table = {
        "name": found.name,
        "frames": len(found.intensity),
        "shape": list(found.intensity.shape),
        "total_counts": int(found.intensity.sum(dtype="int64")),
        "max_counts": int(found.intensity.max()),
        "bad_pixels": 0 if found.bad_pixels is None else int(found.bad_pixels.sum()),
        "file": str(output),
    }
    _print(table, as_json, f"Imported scan {scan}")


@app.command()
def phase(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="A scan (NeXus/CXI), a centred pattern (.npy, .npz), or a run's uid. Several scans are summed."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Result file; by default SOURCE_result.cxi.")
    ] = None,
    overwrite: OverwriteOption = False,
    recipe: Annotated[
        str | None,
        typer.Option(help="e.g. '3*(20*ER+180*HIO(beta=0.9))+20*ER'; where empty, from the data."),
    ] = None,
    starts: Annotated[int | None, typer.Option(min=1, help="Random starts.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random choice.")] = None,
    budget: Annotated[
        str | None, typer.Option(help="Wall time, e.g. 5s or 2min; the best so far is kept.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    aliens: Annotated[bool | None, typer.Option(help="Mask intensity of other crystals.")] = None,
    background: Annotated[str | None, typer.Option(help="Counts a voxel to take off, or 'corners'.")] = None,
    shape: Annotated[str | None, typer.Option(help="Of the volume, after binning: 128,128,128.")] = None,
    binning: Annotated[str | None, typer.Option("--bin", help="Voxels summed along each axis: 2,1,1.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Retrieve a recorded scan, as the live path does; what no option says is the configuration's."""
    from .offline import phase_to_file

    phasing = {"recipe": recipe, "starts": starts, "seed": seed, "device": device}
    preprocess = {
        "aliens": aliens,
        "background": background,
        "shape": None if shape is None else shape.split(","),
        "binning": None if binning is None else binning.split(","),
    }
    settings = load_config(config_path(config)).changed(phasing=_given(phasing), preprocess=_given(preprocess))
    budget_s = None if budget is None else seconds(budget)
    with _progress(quiet=as_json) as tell:
        table = phase_to_file(sources, output, settings, overwrite=overwrite, budget_s=budget_s, progress=tell)
    _print(table, as_json, "Reconstruction")


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[float, str], None]]:
    """A bar on stderr; what to tell it."""
    with Progress(console=errors, disable=quiet, transient=True) as bar:
        task = bar.add_task("phase retrieval", total=1.0)
        yield lambda share, text: bar.update(task, completed=share, description=text)


def seconds(text: str) -> float:
    """'5', '5s', '1.5min' or '1h' in seconds."""
    units = {"": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0}
    number = text.strip().rstrip("abcdefghijklmnopqrstuvwxyz").strip()
    unit = text.strip()[len(number) :].strip()
    try:
        return float(number) * units[unit]
    except (ValueError, KeyError):
        raise ScanError(f"{text!r} is not a time; write it like 5s, 2min or 1h") from None


@app.command()
def figure(
    result: Annotated[Path, typer.Argument(help="A result, as `live-bcdi phase` writes it.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A .png, .pdf or .svg; by default RESULT.png.")
    ] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draw a result on one page: slices, strain, how sure they are, how it was made."""
    from .figure import facts, save_figure
    from .transport.hdf5 import read_result

    found = read_result(result)
    path = output or result.with_suffix(".png")
    save_figure(found, path, overwrite=overwrite)
    _print({**facts(found), "file": str(path)}, as_json, "Figure")


@app.command()
def up(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Start every service and keep it running until Ctrl-C."""
    from .supervisor import Supervisor

    path = config_path(config)
    settings = load_config(path)
    log.configure("supervisor", settings.storage.directory, settings.log_level)
    with stop_on_sigterm() as leaving, Supervisor(path) as supervisor:
        leaving.status = 0
        screen.print(f"live_bcdi is up for {settings.beamline}: {_page(settings)}   (Ctrl-C ends it)")
        while True:
            for _ in supervisor.watch():
                pass


def _page(settings: Config) -> str:
    return f"http://{settings.page.host}:{settings.page.port}"


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
    scan: Annotated[Path, typer.Argument(help="A recorded scan, as `live-bcdi import` writes it.")],
    rate: Annotated[float, typer.Option(min=0.0, help="Frames a second; 0 is as fast as it goes.")] = 0.0,
    fly: Annotated[bool, typer.Option("--fly", help="Sweep the axis instead of stepping it.")] = False,
    hold: HoldOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Play a recorded scan through the whole live path: detector, RunEngine, consumers, Tiled, page."""
    from .transport.hdf5 import read_scan

    read_scan(scan)  # say now, and not from a service, what is wrong with the file
    with _session(config, hold) as system:
        _print(_play(system, scan, config, rate, fly), as_json, f"Replayed {scan}")


@app.command()
def demo(
    rate: Annotated[float, typer.Option(min=0.0, help="Frames a second; 0 is as fast as it goes.")] = 20.0,
    seed: Annotated[int, typer.Option(help="Which crystal.")] = 0,
    fly: Annotated[bool, typer.Option("--fly", help="Sweep the axis instead of stepping it.")] = False,
    hold: HoldOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Measure a simulated crystal live, and compare what comes out with the truth."""
    from .sim import compare_with_truth, simulate_scan
    from .transport.hdf5 import read_result, write_scan

    settings = load_config(config_path(config))
    scan, truth = simulate_scan(seed=seed, config=settings)
    path = settings.storage.directory / "demo" / f"{scan.name}.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_scan(path, scan)
    with _session(config, hold) as system:
        table = _play(system, path, config, rate, fly)
        truth_table = compare_with_truth(read_result(Path(table["file"])), truth)
        _print({**table, **truth_table}, as_json, "A simulated crystal, measured live, against the truth")


@contextmanager
def _session(config: str, hold: bool | None) -> Iterator[Any]:
    """A running system; kept up after the block while someone is there to look at its page."""
    from .session import running_system
    from .supervisor import Supervisor

    path = config_path(config)
    settings = load_config(path)
    log.configure("session", settings.storage.directory, settings.log_level)
    with stop_on_sigterm() as leaving, running_system(path) as system:
        errors.print(f"page: {_page(settings)}")
        yield system
        leaving.status = 0
        if isinstance(system, Supervisor) and (sys.stdout.isatty() if hold is None else hold):
            errors.print(f"the page stays up at {_page(settings)}; Ctrl-C ends it")
            while True:
                for _ in system.watch():
                    pass


def _play(system: Any, scan: Path, config: str, rate: float, fly: bool) -> dict[str, Any]:
    from .session import play

    told = play(system, scan, config_path(config), rate_hz=rate, fly=fly)
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
    from .transport.tiled import connect
    from .transport.tiled import results as find

    found = find(connect(load_config(config_path(config))), run)
    if run is not None and not found:
        raise ScanError(f"no result of a run {run!r}; `live-bcdi results` lists what is there")
    tables = [{"path": path, **dict(node.metadata)} for path, node in found]
    if as_json:
        _print_json(tables)
    elif run is not None:
        for table in tables:
            _print(table, False, table["path"])
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
    from . import cli_bench

    told = cli_bench.measure(shape or ["64x64x64", "128x128x128"], scan, chi, cohere_python, threads=threads)
    if as_json:
        _print_json(told)
    else:
        cli_bench.show(told, screen, threads, chi)


@app.command(hidden=True)
def acquire(
    scan: Path,
    rate: float = 0.0,
    fly: Annotated[bool, typer.Option("--fly")] = False,
    config: str = DEFAULT_CONFIG,
) -> None:
    """The beamline's side of `replay`: only the RunEngine and its devices."""
    from live_bcdi_plans.replay import replay as measure

    from .transport.hdf5 import read_scan

    settings = load_config(config_path(config))
    log.configure("acquire", settings.storage.directory, settings.log_level, stderr=False)
    print(json.dumps({"run": measure(read_scan(scan), settings, rate_hz=rate, fly=fly)}))


@app.command(hidden=True)
def service(
    name: str, config: str = DEFAULT_CONFIG, supervised: Annotated[bool, typer.Option("--supervised")] = False
) -> None:
    """One service in this process."""
    from live_bcdi_consumers.service import start_service

    from .supervisor import SERVICES

    if name not in SERVICES:
        raise ScanError(f"no service {name!r}; they are {', '.join(SERVICES)}")
    module = importlib.import_module(f"live_bcdi_consumers.{name}")
    running = start_service(name, config_path(config), supervised=supervised)
    module.run(running)
    if running.failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
