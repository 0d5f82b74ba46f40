"""The verb that says how a crystal moved: track."""

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import typer

from ..config import load_config
from .app import (
    DEFAULT_CONFIG,
    SCANS,
    ConfigOption,
    JsonOption,
    app,
    config_path,
    files_of,
    print_json,
    print_table,
)


@app.command()
def track(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Scans (NeXus/CXI), or uids of runs or their beginnings; of one crystal, in the order of time.",
            autocompletion=files_of(*SCANS),
        ),
    ],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Say how a crystal moved within each scan and from one to the next, and where it will be at the one after.

    With --json there is every frame: found_steps and std_steps are how far the crystal was from the motor's angle.
    """
    from ..tracked import track_sources

    told = track_sources(sources, load_config(config_path(config)))
    if as_json:
        print_json(told)
        return
    for scan in told["scans"]:
        print_table(_scan(scan), False, scan["name"])
    if "prediction" in told:
        print_table(_next(told["prediction"]), False, "Next scan, set up as the last that saw the crystal")


def _scan(scan: Mapping[str, Any]) -> dict[str, Any]:
    within = scan["within"]
    return {
        "no good": scan["reasons"] or None,
        "peak": _place(scan),
        "turned (mdeg)": _sure(scan["rotation_mdeg"], scan["rotation_std_mdeg"]),
        "spacing": None if scan["strain"] is None else f"{scan['strain']:.3g} ± {scan['strain_std']:.1g}",
        "counts": None if scan["counts_ratio"] is None else f"{scan['counts_ratio']:.4g} of the first's",
        "within": within.get("why") or within["reason"],
        "off the motor": None if "why" in within else _off(within),
    }


def _place(scan: Mapping[str, Any]) -> str | None:
    if scan["angle_deg"] is None:
        return None
    parts = (("angle_deg", "angle_std_deg", "°"), ("row", "row_std", ""), ("column", "column_std", ""))
    angle, row, column = (f"{scan[name]:.6g} ± {scan[std]:.2g}{unit}" for name, std, unit in parts)
    return f"{angle}, row {row}, column {column}"


def _sure(values: Any, std: Any) -> str | None:
    return None if values is None else ", ".join(f"{one:.4g} ± {two:.2g}" for one, two in zip(values, std))


def _off(within: Mapping[str, Any]) -> str:
    """Of the frames that say more than was known before."""
    found, std = np.asarray(within["found_steps"]), np.asarray(within["std_steps"])
    known = std < 0.9 * within["jitter_steps"]
    if not known.any():
        return "no frame tells"
    return (
        f"{np.sqrt(np.mean(found[known] ** 2)):.3g} steps rms, known to {np.median(std[known]):.2g},"
        f" in {known.sum()} of {len(found)} frames"
    )


def _next(told: Mapping[str, Any]) -> dict[str, Any]:
    names = ("angle_deg", "row", "column", "rotation_1_mdeg", "rotation_2_mdeg", "strain", "counts_ratio")
    table: dict[str, Any] = {"lost": told["lost"] or None}
    for name in names:
        number = told.get(name)
        if number is not None and number["std"] is not None:
            table[name] = f"{number['value']:.6g} ± {number['std']:.2g}, 95 % within {number['std2']:.2g}"
    unseen = f", from before the last {told['unseen']}" if told["unseen"] else ""
    return {**table, "from": f"{told['scans']} scans{unseen}"}
