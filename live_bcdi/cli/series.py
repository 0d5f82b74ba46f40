"""The verb that compares the results of one crystal through an experiment: series."""

from pathlib import Path
from typing import Annotated, Any

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
    print_json,
    print_table,
)

_SHOWN = (
    "stimulus",
    "mean_phase_deg",
    "mean_displacement_angstrom",
    "lattice_change",
    "strain_std",
    "order_rad",
    "dislocations",
    "walls",
    "filled_voxels",
)


@app.command()
def series(
    results: Annotated[
        list[str],
        typer.Argument(
            help="Results, in the order of the experiment: files, or uids of runs or their beginnings.",
            autocompletion=files_of(*RESULTS),
        ),
    ],
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            help="A .csv table, a .png, .pdf or .svg figure, or a .vti of the maps; may be given again.",
        ),
    ] = None,
    stimulus: Annotated[
        str, typer.Option(help="What was changed, as the run's metadata call it, e.g. voltage.")
    ] = "",
    values: Annotated[
        str | None, typer.Option(help="Its value for each result, where no metadata say it: 2.5,3,3.5.")
    ] = None,
    overwrite: OverwriteOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Compare results of one crystal, state by state: phase, strain, spacing, order parameter, dislocations."""
    from ..series import study, table
    from ..series_files import check_outputs, read_states, write_outputs

    paths = output or []
    check_outputs(paths, overwrite=overwrite)
    states = read_states(results, stimulus, values, load_config(config_path(config)))
    found = study(states)
    write_outputs(found, paths, stimulus=stimulus, overwrite=overwrite)
    told = table(found)
    if as_json:
        print_json({**told, "files": [str(path) for path in paths]})
        return
    _print(told, paths)


def _print(told: dict[str, Any], paths: list[Path]) -> None:
    rows = told["states"]
    for row in rows:
        print_table({key: row[key] for key in _SHOWN}, False, row["name"])
    lines = [
        f"sign {each['sign']:+d}, {max(each['length_nm']):.0f} nm, {_lived(each)}" for each in told["dislocations"]
    ]
    walls = [f"{max(map(abs, each['jump_rad'])):.1f} rad, {_lived(each)}" for each in told["walls"]]
    summary = {
        "explained": told["explained"],
        "axes from": told["axes_from"],
        "lines": lines or None,
        "walls": walls or None,
        **{f"{key} by stimulus": value for key, value in told["trends"].items()},
        "spacing": told["spacing"],
        "files": [str(path) for path in paths] or None,
    }
    print_table(summary, False, "Series")


def _lived(track: dict[str, Any]) -> str:
    return f"born {track['born'] or 'before'}, healed {track['healed'] or 'never'}"
