"""A journal is abandoned when its writer is dead and has not said stop; not before, and nobody else's."""

import signal
import subprocess
import sys

from live_bcdi.stream import journal
from live_bcdi.stream.claim import Claim, abandoned, forget, stop_of

WRITER = """
import sys
from pathlib import Path
from live_bcdi.stream import journal
from live_bcdi.stream.claim import Claim
path = Path(sys.argv[1])
claim = Claim(path)
journal.append(path, "start", {"uid": "run", "time": 5.0})
print("claimed", flush=True)
if sys.stdin.readline() == "release\\n":
    claim.release()
"""


def writer(path):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "claimed\n"
    return process


def test_a_journal_is_abandoned_once_its_writer_is_killed(tmp_path):
    path = tmp_path / "run.jsonl"
    process = writer(path)
    assert abandoned(tmp_path) == []
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert abandoned(tmp_path) == [path]
    stop = stop_of(journal.read(path))
    assert (stop["run_start"], stop["exit_status"], stop["time"]) == ("run", "fail", 5.0)
    forget(path)
    assert abandoned(tmp_path) == []


def test_a_journal_that_was_released_is_not(tmp_path):
    process = writer(tmp_path / "run.jsonl")
    process.communicate("release\n")
    assert list(tmp_path.glob("*.lock")) == []
    assert abandoned(tmp_path) == []


def test_the_lock_of_another_computer_is_not_judged(tmp_path):
    (tmp_path / "run.lock").write_text("elsewhere")
    (tmp_path / "new.lock").write_text("")
    assert abandoned(tmp_path) == []


def test_a_run_is_claimed_once(tmp_path):
    Claim(tmp_path / "run.jsonl")
    assert abandoned(tmp_path) == [tmp_path / "run.jsonl"], "a claim that nobody holds is gone"
    held = Claim(tmp_path / "run.jsonl")
    assert abandoned(tmp_path) == []
    held.release()


def described(name, **keys):
    return ("descriptor", {"uid": name, "name": name, "data_keys": keys})


def resource(uid, key):
    return ("stream_resource", {"uid": uid, "data_key": key})


def datum(stream, resource, count):
    return (
        "stream_datum",
        {"descriptor": stream, "stream_resource": resource, "seq_nums": {"start": count, "stop": count + 1}},
    )


def test_the_stop_counts_what_is_there_whole():
    inside, outside = {"dtype": "number"}, {"external": "STREAM:"}
    documents = [
        ("start", {"uid": "run", "time": 1.0}),
        described("primary", theta=inside, det=outside),
        described("fly", det=outside, angle=outside),
        described("baseline", temperature=inside),
        resource("a", "det"),
        *(datum("primary", "a", count) for count in (1, 2, 3)),
        *(("event", {"descriptor": "primary", "seq_num": count, "time": 2.0}) for count in (1, 2)),
        resource("b", "det"),
        resource("c", "angle"),
        datum("fly", "b", 7),
        datum("fly", "c", 5),
        described("killed", det=outside, angle=outside),
        datum("killed", "b", 7),  # before the angles of the same frames
    ]
    stop = stop_of(documents)
    assert stop["num_events"] == {"primary": 2, "fly": 5, "baseline": 0, "killed": 0}
    assert stop["time"] == 2.0
    assert stop_of(documents[1:2]) is None
    broken = [
        *documents,
        ("event", {"descriptor": "gone", "seq_num": 1}),
        ("stream_datum", {}),
        ("descriptor", {}),
    ]
    assert stop_of(broken)["num_events"] == stop["num_events"]
