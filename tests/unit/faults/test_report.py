"""The report counts runs, not findings, and what is still owed is missing only in the end."""

from pathlib import Path

import pytest

from live_bcdi.faults.oracle import Fate, Fault, Finding, Run
from live_bcdi.faults.report import MUST_BE_ZERO, report


def run(number, *, settled_s=None, fate=Fate.COMPLETE, faults=()):
    return Run(
        **{"number": number, "file": Path("a"), "num": 16, "fly": False, "uid": f"run{number}", "told": 16},
        **{"fate": fate, "ended_s": 10.0, "settled_s": settled_s, "faults": list(faults)},
    )


RUNS = [
    run(0, settled_s=12.0),
    run(1, settled_s=14.0, fate=Fate.ABORTED, faults=["abort"]),
    run(2, settled_s=30.0, fate=Fate.KILLED, faults=["kill_plan", "kill live"]),
    run(3),
]


def told(findings=(), *, over=True, owed=(), left=()):
    return report(RUNS, findings, owed=owed, faults={"abort": 1, "kill live": 0}, left=left, memory={}, over=over)


def test_of_a_soak_without_loss():
    table = told()
    assert table["wrong"] == []
    assert {key: table[key] for key in MUST_BE_ZERO} == dict.fromkeys(MUST_BE_ZERO, 0)
    assert (table["scans"], table["runs_complete"], table["runs_aborted"], table["runs_killed"]) == (4, 2, 1, 1)
    assert (table["runs_without_fault"], table["faults_done"], table["frames"]) == (2, 1, 64)
    assert table["recovery_s"]["with_faults"] == {"runs": 2, "p50": 12.0, "p99": 19.84, "max": 20.0}
    assert table["recovery_s"]["without"] == {"runs": 1, "p50": 2.0, "p99": 2.0, "max": 2.0}


def test_what_is_owed_is_missing_in_the_end():
    assert told(owed=[RUNS[3]], over=False)["wrong"] == []
    table = told(owed=[RUNS[3]])
    assert table["results_missing"] == 1
    assert "run3" in table["wrong"][0]


@pytest.mark.parametrize(
    ("fault", "key"),
    [
        (Fault.LOST, "frames_lost"),
        (Fault.MISSING, "results_missing"),
        (Fault.WRONG, "results_wrong"),
        (Fault.TWICE, "results_twice"),
        (Fault.RAW, "raw_incomplete"),
    ],
)
def test_each_finding_is_told_and_counted_once_a_run(fault, key):
    findings = [Finding(run="run1", fault=fault, what="scan 1: so", frames=fault is Fault.LOST)] * 2
    table = told(findings)
    assert table[key] == (2 if fault is Fault.LOST else 1)
    assert len(table["wrong"]) == 2
    assert {other for other in MUST_BE_ZERO if table[other]} == {key}


def test_what_is_left_behind_is_told():
    table = told(left=["process 5", "outbox/a.json"])
    assert table["left_behind"] == 2
    assert table["wrong"] == ["left behind: process 5", "left behind: outbox/a.json"]
