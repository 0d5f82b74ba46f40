"""What a report is made of: a result, and the scan that it came from where that is to be had."""

import json
from dataclasses import dataclass
from typing import Any

from ..catalogue import Result, Run, open_run
from ..config import Config
from ..pipeline import provenance
from ..types import Reconstruction, RockingScan, ScanError


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """A run, which of its results, and that result whole. `scan` is None where the frames cannot be had or are not
    those that the result was made of; `remark` says why."""

    run: Run
    stored: Result
    result: Reconstruction
    scan: RockingScan | None
    remark: str

    def settings(self, table: str) -> dict[str, Any]:
        """A table of the configuration the result was made with; empty where it does not say."""
        return dict(json.loads(self.result.provenance.get(table, "{}")))


def gather(source: str, version: str | None, config: Config) -> Material:
    """Of a result's file, or of a run by the beginning of its uid: its newest result without a `version`.

    Raises ScanError where there is no such result, or it cannot be read.
    """
    run = open_run(source, config=config)
    stored = run.result(version)
    result = stored.reconstruction()
    scan, remark = _scan(run, result)
    return Material(run=run, stored=stored, result=result, scan=scan, remark=remark)


def _scan(run: Run, result: Reconstruction) -> tuple[RockingScan | None, str]:
    """The frames that the result was made of, or why they are left out; neither for what never had a scan."""
    if not run.uid and "frames" not in run.metadata:
        return None, ""
    try:
        scan = run.scan()
    except ScanError as error:
        return None, f"What only the frames show is left out: {error}."
    if _others(scan, result):
        return None, (
            f"The frames of {scan.name} are not those that this result was made of (another checksum): what only"
            " they show is left out."
        )
    return scan, ""


def _others(scan: RockingScan, result: Reconstruction) -> bool:
    """By the checksum, where it is that of this scan alone, as read."""
    made_of = result.provenance.get("input_sha256")
    dark = json.loads(result.provenance.get("preprocessing", "{}")).get("dark")
    if made_of is None or dark is not None or "summed" in result.provenance:
        return False
    return provenance(scan)["input_sha256"] != made_of
