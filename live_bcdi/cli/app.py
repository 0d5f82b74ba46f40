"""The command itself: its options, errors and output, for the verbs of the modules beside."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ..metadata import plain
from ..types import ScanError

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
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of words.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace the output where it exists.")]
HoldOption = Annotated[
    bool | None,
    typer.Option(help="Keep the page up until Ctrl-C. By default only where standard output is a terminal."),
]


def config_path(name: str) -> Path:
    """The file that `--config` means: a path, or the name of a beamline that ships with the package."""
    if name.endswith(".toml") or "/" in name:
        return Path(name)
    here = Path(__file__).parents[1]
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


def print_json(value: Any) -> None:
    screen.print_json(json.dumps(plain(value), allow_nan=False))


def print_table(table: dict[str, Any], as_json: bool, title: str) -> None:
    if as_json:
        print_json(table)
        return
    shown = Table("", "", title=title, show_header=False, title_justify="left", box=None)
    shown.columns[1].overflow = "fold"
    for key, value in table.items():
        if value is not None:
            shown.add_row(key, f"{value:.6g}" if isinstance(value, float) else str(value))
    screen.print(shown)
