"""What a run promises when it starts: the documented key `live_bcdi` of the bluesky start document.

`{"scan": <scan_metadata>, "planned": {"num": frames, "start_deg": first angle, "stop_deg": last angle}}`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..metadata import check_scan_metadata
from ..types import ScanError

KEY = "live_bcdi"
FEWEST_FRAMES = 3  # two angles do not tell an even step from an uneven one
MOST_FRAMES = 100_000  # a number beyond it is a mistake that would take all memory


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan:
    """A rocking scan about to happen: `scan` is the table of `live_bcdi.metadata.scan_metadata`."""

    run: str
    scan: Mapping[str, Any]
    num: int
    start_deg: float
    stop_deg: float

    @property
    def name(self) -> str:
        return str(self.scan["name"])


def planned_metadata(scan: Mapping[str, Any], *, num: int, start_deg: float, stop_deg: float) -> dict[str, object]:
    """The value of the start document's `live_bcdi` key. Raises one ScanError that lists what is missing."""
    table: dict[str, object] = {
        "scan": dict(scan),
        "planned": {"num": int(num), "start_deg": float(start_deg), "stop_deg": float(stop_deg)},
    }
    _checked(table, "the plan's metadata")
    return table


def is_rocking_run(start: Mapping[str, Any]) -> bool:
    """Whether a start document announces a scan that is ours to analyse."""
    return KEY in start


def run_plan(start: Mapping[str, Any]) -> RunPlan:
    """The plan of a start document. Raises one ScanError that lists what is missing."""
    run = str(start.get("uid", ""))
    table = start.get(KEY)
    if not run or not isinstance(table, Mapping):
        raise ScanError(f"start document {run or '(no uid)'} has no {KEY!r} key; use the plans of live_bcdi_plans")
    planned = _checked(table, f"start document of run {run[:8]}")
    return RunPlan(run=run, scan=table["scan"], **planned)


def _checked(table: Mapping[str, Any], what: str) -> dict[str, Any]:
    problems = []
    scan, planned = (_table(table.get(key)) for key in ("scan", "planned"))
    try:
        check_scan_metadata(scan)
    except ScanError as error:
        problems.append(str(error))
    if scan.get("hkl") is None:
        problems.append("missing key 'hkl': give it to `live-bcdi import --hkl`, or set [sample] hkl")
    for key in ("num", "start_deg", "stop_deg"):
        value = planned.get(key)
        if not isinstance(value, int | float) or not math.isfinite(value):
            problems.append(f"planned.{key} is {value!r}")
    if not problems and not FEWEST_FRAMES <= planned["num"] <= MOST_FRAMES:
        problems.append(
            f"a rocking scan has {FEWEST_FRAMES} to {MOST_FRAMES} frames, planned.num is {planned['num']}"
        )
    if problems:
        raise ScanError(f"{what}: " + "; ".join(problems))
    return {"num": int(planned["num"]), "start_deg": planned["start_deg"], "stop_deg": planned["stop_deg"]}


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
