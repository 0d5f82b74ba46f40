"""What is on disk is what came, up to the last whole line; what is missing of a run can be told."""

import resource
import signal
import sys
import threading

import pytest

from live_bcdi.stream import journal
from live_bcdi.types import ScanError

DOCUMENTS = [
    ("start", {"uid": "run"}),
    ("descriptor", {"uid": "d", "run_start": "run"}),
    ("stream_resource", {"uid": "r", "run_start": "run"}),
    ("stream_datum", {"uid": "x", "descriptor": "d", "stream_resource": "r"}),
    ("stop", {"uid": "s", "run_start": "run"}),
]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.jsonl"


def write(path, documents):
    for name, doc in documents:
        journal.append(path, name, doc)


def test_round_trip(path):
    for number, (name, doc) in enumerate(DOCUMENTS):
        assert not path.exists() or not journal.is_complete(path), number
        journal.append(path, name, doc)
    assert list(journal.read(path)) == DOCUMENTS == journal.read_run(path)
    assert journal.is_complete(path)
    assert journal.is_journal(path)


@pytest.mark.parametrize("cut", [1, 10, 30])
def test_a_line_cut_off_by_a_crash_is_left_out_and_spoils_no_other(path, cut):
    write(path, DOCUMENTS)
    path.write_bytes(path.read_bytes()[:-cut])
    if cut > 1:
        assert list(journal.read(path)) == DOCUMENTS[:-1]
        assert not journal.is_complete(path)
    journal.append(path, *DOCUMENTS[-1])
    assert journal.is_complete(path)
    assert journal.in_order(journal.read(path)) == DOCUMENTS


@pytest.mark.parametrize("already", [0, 3])
def test_a_full_disk_leaves_the_journal_as_it_was(path, already):
    """Part of a line fits, of which nothing stays: neither at once nor when the file is closed."""
    write(path, DOCUMENTS[:already])
    before = path.read_bytes() if already else b""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))
    try:
        with pytest.raises(OSError):
            journal.append(path, "start", {"uid": "x" * 100})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.exists() == bool(already)
    assert not already or path.read_bytes() == before


def test_what_json_cannot_hold_is_written_as_text(path):
    journal.append(path, "start", {"uid": "run", "blob": b"\x00\x01"})
    assert next(journal.read(path))[1]["uid"] == "run"


def test_documents_find_their_run():
    runs = {}
    assert [journal.run_of(name, doc, runs) for name, doc in DOCUMENTS] == ["run"] * 5
    assert journal.run_of("event", {"descriptor": "never seen"}, runs) is None


def test_a_journal_takes_each_document_once_also_after_a_restart(path):
    kept = journal.Journal(path)
    assert [kept.add(*each) for each in DOCUMENTS] == [True] * 5
    assert [kept.add(*each) for each in DOCUMENTS] == [False] * 5
    again = journal.Journal(path)
    assert [again.add(*each) for each in DOCUMENTS] == [False] * 5
    assert again.complete and len(again) == 5
    assert list(journal.read(path)) == DOCUMENTS


def test_one_thread_may_ask_whether_it_is_complete_while_another_adds(path):
    kept = journal.Journal(path)
    switch_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    adding = threading.Thread(target=lambda: [kept.add("event", {"uid": f"e{n}"}) for n in range(2000)])
    try:
        adding.start()
        while adding.is_alive():
            assert not kept.complete
    finally:
        adding.join()
        sys.setswitchinterval(switch_s)


@pytest.mark.parametrize("text", ["", "{}\n", "[1, 2]\n", '["event", {}]\n', "\x89HDF\r\n", '["start", 5]\n'])
def test_another_file_is_no_journal(path, text):
    path.write_text(text)
    assert not journal.is_journal(path)
    with pytest.raises(ScanError, match="is no journal of a run: it holds 0 start documents"):
        journal.read_run(path)


def test_two_runs_in_one_file_are_no_journal_of_a_run(path):
    write(path, [*DOCUMENTS, ("start", {"uid": "another"})])
    with pytest.raises(ScanError, match="it holds 2 start documents"):
        journal.read_run(path)


def descriptor(name, **keys):
    return "descriptor", {"uid": f"d-{name}", "run_start": "run", "name": name, "data_keys": keys}


def event(name, number):
    return "event", {"uid": f"{name}{number}", "descriptor": f"d-{name}", "seq_num": number}


def datum(name, key, first, behind):
    refers = {"descriptor": f"d-{name}", "stream_resource": f"r-{key}"}
    spans = {"seq_nums": {"start": first, "stop": behind}, "indices": {"start": first - 1, "stop": behind - 1}}
    return "stream_datum", {"uid": f"{key}{first}", **refers, **spans}


def a_resource(key):
    return "stream_resource", {"uid": f"r-{key}", "run_start": "run", "data_key": key}


OUTSIDE = {"external": "STREAM:"}
TWO_STREAMS = [
    ("start", {"uid": "run"}),
    descriptor("primary", theta={}, det=OUTSIDE),
    descriptor("fly", panda=OUTSIDE),
    a_resource("det"),
    a_resource("panda"),
    *(event("primary", number) for number in (1, 2, 3)),
    datum("primary", "det", 1, 3),
    datum("primary", "det", 3, 4),
    datum("fly", "panda", 1, 51),
    ("stop", {"uid": "s", "run_start": "run", "num_events": {"primary": 3, "fly": 50}}),
]


@pytest.mark.parametrize(
    ("lost", "counts"),
    [
        ([], {}),
        ([5], {"primary": 1}),
        ([5, 7], {"primary": 2}),
        ([8], {"det": 2}),
        ([10], {"panda": 50}),
        ([4], {"panda": 50}),
        ([1], {"primary": 3}),
        ([2], {"fly": 50}),
        ([5, 9, 10], {"primary": 1, "det": 1, "panda": 50}),
        ([11], {}),
    ],
)
def test_what_is_missing_is_counted_a_stream_and_a_data_key(lost, counts):
    kept = [each for number, each in enumerate(TWO_STREAMS) if number not in lost]
    assert journal.missing(kept) == counts
    assert journal.missing([*kept, *kept]) == counts, "documents that came twice do not stand for others"


def follows(documents):
    order = journal.InOrder()
    return [order.follows(name, doc) for name, doc in documents]


def test_the_order_of_the_runengine_is_in_order():
    assert all(follows(TWO_STREAMS))


@pytest.mark.parametrize("lost", range(11))
def test_after_a_lost_document_the_order_is_broken_or_the_stop_tells_it(lost):
    kept = [each for number, each in enumerate(TWO_STREAMS) if number != lost]
    assert not all(follows(kept)) or journal.missing(kept)


@pytest.mark.parametrize("turned", [False, True])
def test_of_a_point_that_was_read_again_the_newer_event_stands(turned):
    first, second = (
        ("event", {"uid": uid, "descriptor": "d", "seq_num": 4, "time": time_s})
        for uid, time_s in (("a", 1.0), ("b", 2.0))
    )
    assert journal.in_order([second, first] if turned else [first, second]) == [second]


@pytest.mark.parametrize("place", range(10))
def test_two_documents_that_changed_places(place):
    """Either order is as good as the other, or it is seen to be wrong; put in order, they are right again."""
    swapped = list(TWO_STREAMS)
    swapped[place], swapped[place + 1] = swapped[place + 1], swapped[place]
    assert all(follows(swapped)) == (place in (1, 2, 3, 4, 7, 9)), "those that do not refer to each other"
    assert all(follows(journal.in_order(swapped)))


def test_the_runs_of_documents_long_past_are_forgotten(monkeypatch):
    """A service runs for months: what it remembers of each run must not add up."""
    monkeypatch.setattr(journal, "MOST_KNOWN", 20)
    runs: dict[str, str] = {}
    for number in range(100):
        journal.run_of("descriptor", {"uid": f"d{number}", "run_start": f"run{number}"}, runs)
        assert journal.run_of("event", {"descriptor": f"d{number}"}, runs) == f"run{number}"
        assert len(runs) <= 20
    assert journal.run_of("event", {"descriptor": "d95"}, runs) == "run95"
    assert journal.run_of("event", {"descriptor": "d0"}, runs) is None


def test_runs_in_a_folder_are_those_with_a_journal_there(tmp_path):
    for name in ("one.jsonl", "two.jsonl", "two.lock", "three.jsonl.partial"):
        (tmp_path / name).touch()
    (tmp_path / "sent").mkdir()
    assert journal.runs_in(tmp_path) == {"one", "two"}
    assert journal.runs_in(tmp_path, ".lock") == {"two"}
    assert journal.runs_in(tmp_path / "sent") == journal.runs_in(tmp_path / "nowhere") == set()
