"""What is put aside, and what had to be started again."""

import json
import subprocess
import sys
import time

import pytest

from live_bcdi.doctor import owed

RUNS = {"refine": {"service": "refine", "pid": 1, "state": "ready"}}


def test_nothing_is_owed(tmp_path):
    (told,) = owed.backlog(tmp_path, {})
    assert (told.status, told.what) == ("ok", "Nothing is owed.")


@pytest.mark.parametrize("folder", ["queue/failed", "outbox/refused", "documents/refused"])
def test_what_was_put_aside(tmp_path, folder):
    (tmp_path / folder).mkdir(parents=True)
    name = "1_run.jsonl" if folder.startswith("documents") else "1_run.json"
    (tmp_path / folder / name).write_text(json.dumps({"error": "the scan has two frames"}))
    (told,) = owed.backlog(tmp_path, RUNS)
    assert told.status == "warning"
    assert f"1 {owed._REFUSED[folder][0]}" in told.what
    assert ("two frames" in told.what) == (not folder.startswith("documents"))
    assert told.do


def test_what_waits_while_nobody_works(tmp_path):
    (tmp_path / "queue" / "later").mkdir(parents=True)
    for name in ("queue/1_a.json", "queue/2_b.json", "queue/later/3_c.json"):
        (tmp_path / name).write_text("{}")
    (told,) = owed.backlog(tmp_path, {})
    assert (told.status, "2 run(s) to refine, 1 run(s) put off" in told.what) == ("warning", True)
    assert "live-bcdi up" in told.do
    assert [finding.status for finding in owed.backlog(tmp_path, RUNS)] == ["ok"]
    (tmp_path / "queue" / "4_d.unreadable").write_text("{")
    assert "cannot be read" in owed.backlog(tmp_path, RUNS)[0].what


def test_services_that_end_again_and_again(tmp_path):
    now_s = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(now_s - 60))
    old = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(now_s - 2 * owed.DAY_S))
    line = "live ended with status -9; starting it again in 0.5 s"
    (tmp_path / "log").mkdir()
    log = tmp_path / "log" / "supervisor.jsonl"
    records = [{"time": old, "message": line}] * 5 + [{"time": stamp, "message": line}] * 2
    log.write_text("cut off}\n[]\n" + "".join(json.dumps(record) + "\n" for record in records))
    (told,) = owed.restarts(tmp_path, {}, now_s)
    assert (told.status, "live 2" in told.what) == ("ok", True)
    with log.open("a") as file:
        file.write(json.dumps(records[-1]) + "\n")
    (told,) = owed.restarts(tmp_path, {}, now_s)
    assert (told.status, "live 3 times" in told.what) == ("warning", True)


def test_the_age_of_a_process_of_ours():
    with subprocess.Popen([sys.executable, "-c", "input()  # live_bcdi"], stdin=subprocess.PIPE) as process:
        until_s = time.monotonic() + 20
        while owed.process_age_s(process.pid) is None and time.monotonic() < until_s:
            time.sleep(0.01)  # between fork and exec it is not yet of that name
        assert 0 <= owed.process_age_s(process.pid) < 60
        process.kill()
    assert owed.process_age_s(process.pid) is None
    assert owed.process_age_s(None) is None
