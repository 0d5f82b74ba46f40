"""The verb that takes a result to the theory that its crystal needs: refine-dynamical."""

from pathlib import Path
from typing import Annotated

import typer

from ..config import load_config
from .app import (
    DEFAULT_CONFIG,
    RESULTS,
    ConfigOption,
    JsonOption,
    OverwriteOption,
    app,
    config_path,
    files_of,
    given,
    print_table,
    progress_bar,
)


@app.command("refine-dynamical")
def refine_dynamical(
    source: Annotated[
        str,
        typer.Argument(
            help="A run's uid, or its beginning, or a result file of `live-bcdi phase`.",
            autocompletion=files_of(*RESULTS),
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Result file; by default RESULT_dynamical.cxi.")
    ] = None,
    overwrite: OverwriteOption = False,
    version: Annotated[
        str | None, typer.Option("--result", help="Which result of the run, e.g. 2; by default the newest.")
    ] = None,
    rung: Annotated[
        str | None,
        typer.Option(help="auto (what the crystal needs), kinematical, refraction, refracted-model, dynamical."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the frames, of each attempt.")] = None,
    angles: Annotated[
        float | None, typer.Option(help="How far the rocking angles may be off, in steps; else they stay.")
    ] = None,
    formula: Annotated[str | None, typer.Option(help="What the crystal is, e.g. Au.")] = None,
    cif: Annotated[Path | None, typer.Option(help="Its structure, for what is not known by its formula.")] = None,
    hkl: Annotated[tuple[float, float, float] | None, typer.Option(help="Reflection, e.g. --hkl 1 1 1.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Refine a result by the theory that its crystal needs: refraction, or two coupled beams (docs/dynamical.md).

    The new result is beside the old one, which stays. Killed, it goes on where it was when it is called again.
    """
    from ..refinery import refine_dynamical

    sample = given({"formula": formula, "cif": cif, "hkl": hkl})
    chosen = {"rung": rung, "epochs": epochs, "angle_prior_steps": angles}
    settings = load_config(config_path(config)).changed(dynamical=given(chosen))
    with progress_bar("refinement", quiet=as_json) as tell:
        table = refine_dynamical(
            source, output, settings, sample=sample, version=version, overwrite=overwrite, progress=tell
        )
    print_table(table, as_json, "Refinement")
