"""The verb that reports: report."""

from pathlib import Path
from typing import Annotated

import typer

from ..config import load_config
from .app import DEFAULT_CONFIG, ConfigOption, JsonOption, OverwriteOption, app, config_path, print_table


@app.command()
def report(
    source: Annotated[str, typer.Argument(help="A result's file, or a run's uid, or its beginning.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="An .html file; by default RESULT_report.html, of a run NAME_RUN_VERSION_report.html.",
        ),
    ] = None,
    version: Annotated[
        str | None, typer.Option("--result", help="Which result of the run, e.g. 2; by default the newest.")
    ] = None,
    pdf: Annotated[Path | None, typer.Option(help="Write a PDF as well.")] = None,
    overwrite: OverwriteOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Report a result: data, recipe, fit, resolution, crystal, a methods paragraph; one HTML file, and a PDF."""
    from ..report import write_report

    settings = load_config(config_path(config))
    table = write_report(source, output, settings, version=version, pdf=pdf, overwrite=overwrite)
    print_table(table, as_json, "Report")
