"""The verb that gives a result to other programs: export."""

from pathlib import Path
from typing import Annotated

import typer

from ..config import load_config
from ..types import ScanError
from .app import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    OverwriteOption,
    app,
    config_path,
    print_table,
)


@app.command("export")
def export_result(
    source: Annotated[str, typer.Argument(help="A run's uid, or its beginning, or a result file.")],
    to: Annotated[str, typer.Option("--to", help="vti (ParaView), nxcxi (with the frames), or cxi.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; by default NAME_RUN_VERSION, here.")
    ] = None,
    version: Annotated[
        str | None, typer.Option("--result", help="Which result of the run, e.g. 2; by default the newest.")
    ] = None,
    overwrite: OverwriteOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Write a result for other programs: VTK ImageData, NeXus with the frames, or CXI."""
    from ..catalogue import open_run
    from ..export import ENDINGS, export

    form = next((each for each in ENDINGS if each == to), None)
    if form is None:
        raise ScanError(f"--to {to!r} is no form; it is one of {', '.join(ENDINGS)}")
    run = open_run(source, config=load_config(config_path(config)))
    told = export(run, form, output, version=version, overwrite=overwrite)
    print_table({**told, "arrays": told["arrays"] if as_json else ", ".join(told["arrays"])}, as_json, "Export")
