"""The command itself: its options, errors and output, for the verbs of the modules beside."""

import gc
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from glob import escape, glob
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from ..config import find_config, shipped_configs
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

# typer has no public name for it: click's own once, and now a copy of it
_UsageError: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")

DEFAULT_CONFIG = "34idc"
config_path = find_config  # the file that --config means
SCANS, RESULTS = (".h5", ".cxi", ".nxs", ".npy", ".npz"), (".cxi", ".h5")


def _files(incomplete: str, *suffixes: str) -> list[str]:
    found = sorted(glob(f"{escape(incomplete)}*"))  # noqa: PTH207  it keeps what was typed, as ./
    return [name for name in found if not suffixes or Path(name).suffix in suffixes]


def files_of(*suffixes: str) -> Callable[[str], list[str]]:
    """Completes the names of files with such a suffix; nothing where a folder begins so, which the shell knows."""

    def complete(incomplete: str) -> list[str]:
        folders = any(Path(name).is_dir() for name in _files(incomplete))
        return [] if folders else _files(incomplete, *suffixes)

    return complete


def _configurations(incomplete: str) -> list[str]:
    return [name for name in shipped_configs() if name.startswith(incomplete)] + _files(incomplete, ".toml")


ConfigOption = Annotated[
    str,
    typer.Option(
        "--config",
        "-c",
        help="A beamline's TOML file, or the name of one that ships: 34idc.",
        autocompletion=_configurations,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of words.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace the output where it exists.")]
HoldOption = Annotated[
    bool | None,
    typer.Option(help="Keep the page up until Ctrl-C. By default only where standard output is a terminal."),
]


def main() -> None:
    """Entry point: what is wrong with input or options is one line on stderr and exit status 2, and nothing on
    standard output, also with `--json`. Anything else is our fault."""
    try:
        status = app(prog_name="live-bcdi", standalone_mode=False)
    except ScanError as error:
        _refuse(str(error), 2)
    except _UsageError as error:
        _refuse(_in_a_line(error), error.exit_code)
    except typer.Abort:
        status = 130
    finally:
        gc.freeze()  # looking through all modules for garbage before they go is half a second of every command
    sys.exit(status or 0)


def _in_a_line(error: Any) -> str:
    """What typer says of wrong options, in a box, without the box; empty where it has printed its help already."""
    said = " ".join(error.format_message().split())
    return f"{said} (`{error.ctx.command_path} --help` says what there is)" if said and error.ctx else said


def _refuse(why: str, status: int) -> NoReturn:
    if why:
        errors.print(f"live-bcdi: {why}", style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(status)


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Those that were."""
    return {name: value for name, value in options.items() if value is not None}


@contextmanager
def progress_bar(what: str, *, quiet: bool) -> Iterator[Callable[[float, str], None]]:
    """A bar on stderr, with the time remaining; what to tell it."""
    with Progress(console=errors, disable=quiet or not errors.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda share, text: bar.update(task, completed=share, description=text)


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
            shown.add_row(key, Text(_in_words(value)))
    screen.print(shown)


def _in_words(value: Any) -> str:
    """Numbers to six digits, a list in a line or, of sentences, one a line."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_in_words(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return ("\n" if any(isinstance(each, str) for each in value) else ", ").join(map(_in_words, value))
    return str(value)
