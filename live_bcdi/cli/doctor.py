"""The verb that looks for what is wrong: doctor."""

import os
import sys
import threading
from typing import TYPE_CHECKING

import typer
from rich.table import Table
from rich.text import Text

from .app import DEFAULT_CONFIG, ConfigOption, JsonOption, app, config_path, errors, print_json, screen
from .live import stop_on_sigterm

if TYPE_CHECKING:
    from ..doctor import Finding

_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


@app.command()
def doctor(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Look at this machine and a beamline's configuration, and say what is wrong and what to do about it.

    Nothing is changed. The exit status is 1 where something is a problem.
    """
    from ..doctor import examine

    with stop_on_sigterm(), errors.status("", spinner="line") as shown:
        found = examine(config_path(config), lambda check: shown.update(f"looking at: {check}"))
    counts = {status: sum(finding.status == status for finding in found) for status in _STYLES}
    if as_json:
        print_json({**counts, "findings": found})
    else:
        _show(found)
        screen.print(", ".join(f"{status}: {number}" for status, number in counts.items()))
    _leave(1 if counts["problem"] else 0)


def _show(found: list["Finding"]) -> None:
    table = Table("", "", "", show_header=False, box=None)
    table.columns[2].overflow = "fold"
    for finding in found:
        style = _STYLES[finding.status]
        table.add_row(f"[{style}]{finding.status}[/]", finding.check, Text(finding.what))
        if finding.do:
            table.add_row("", "", Text(f"→ {finding.do}", style="bold"))
    screen.print(table)


def _leave(status: int) -> None:
    """End with `status`, also where a check was left behind, which may hold a lock that HDF5 wants at its end."""
    from ..doctor.finding import THREAD

    if any(thread.name == THREAD for thread in threading.enumerate()):
        sys.stdout.flush()
        os._exit(status)
    raise typer.Exit(status)
