"""The soak in figures."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .oracle import Fate, Fault, Finding, Run

MUST_BE_ZERO = (
    "frames_lost",
    "results_missing",
    "results_wrong",
    "results_twice",
    "raw_incomplete",
    "left_behind",
)


def report(
    runs: Sequence[Run],
    findings: Sequence[Finding],
    *,
    owed: Sequence[Run],
    faults: Mapping[str, int],
    left: Sequence[str],
    over: bool,
    memory: Mapping[str, Any],
) -> dict[str, Any]:
    """A table of plain values; `wrong` is what must not be. What is `owed` is missing once all is `over`."""
    of = Counter({fault: len({finding.run for finding in findings if finding.fault is fault}) for fault in Fault})
    fates = Counter(run.fate for run in runs if run.uid)
    never = owed if over else []
    told = {
        "scans": len(runs),
        "runs_complete": fates[Fate.COMPLETE],
        "runs_aborted": fates[Fate.ABORTED],
        "runs_killed": fates[Fate.KILLED],
        "runs_not_begun": sum(not run.uid for run in runs),
        "runs_without_fault": sum(not run.faults for run in runs),
        "faults_done": sum(faults.values()),
        "faults": dict(sorted(faults.items())),
        "owed": len(owed),
        "frames": sum(run.told for run in runs),
        "frames_lost": sum(finding.frames for finding in findings if finding.fault is Fault.LOST),
        "results_missing": of[Fault.MISSING] + len(never),
        "results_wrong": of[Fault.WRONG],
        "results_twice": of[Fault.TWICE],
        "raw_incomplete": of[Fault.RAW],
        "left_behind": len(left),
        "recovery_s": _recovery(runs),
        "memory_mb": dict(memory),
    }
    wrong = [f"{finding.fault}, {finding.what}, run {finding.run}" for finding in findings]
    wrong += [f"{Fault.MISSING}, scan {run.number}: nothing came, run {run.uid} ({run.fate})" for run in never]
    wrong += [f"left behind: {what}" for what in left]
    return {**told, "wrong": wrong}


def _recovery(runs: Sequence[Run]) -> dict[str, dict[str, float | int | None]]:
    """Seconds from the end of the plan to the result in Tiled, of runs with faults and without."""
    told = {}
    for name, chosen in (("with_faults", True), ("without", False)):
        times = [run.settled_s - run.ended_s for run in runs if run.settled_s and bool(run.faults) is chosen]
        p50, p99 = (round(float(np.percentile(times, at)), 2) if times else None for at in (50, 99))
        told[name] = {"runs": len(times), "p50": p50, "p99": p99, "max": round(max(times), 2) if times else None}
    return told
