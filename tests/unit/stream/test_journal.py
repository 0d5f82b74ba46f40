"""What is on disk is what came, up to the last whole line."""

from live_bcdi.stream import journal

DOCUMENTS = [
    ("start", {"uid": "run"}),
    ("descriptor", {"uid": "d", "run_start": "run"}),
    ("stream_resource", {"uid": "r", "run_start": "run"}),
    ("stream_datum", {"uid": "x", "descriptor": "d", "stream_resource": "r"}),
    ("stop", {"uid": "s", "run_start": "run"}),
]


def test_round_trip(tmp_path):
    path = tmp_path / "run.jsonl"
    for number, (name, doc) in enumerate(DOCUMENTS):
        assert not path.exists() or not journal.is_complete(path), number
        journal.append(path, name, doc)
    assert list(journal.read(path)) == DOCUMENTS
    assert journal.is_complete(path)


def test_a_line_cut_off_by_a_crash_is_left_out(tmp_path):
    path = tmp_path / "run.jsonl"
    for name, doc in DOCUMENTS:
        journal.append(path, name, doc)
    path.write_bytes(path.read_bytes()[:-10])
    assert list(journal.read(path)) == DOCUMENTS[:-1]
    assert not journal.is_complete(path)


def test_documents_find_their_run():
    runs = {}
    assert [journal.run_of(name, doc, runs) for name, doc in DOCUMENTS] == ["run"] * 5
    assert journal.run_of("event", {"descriptor": "never seen"}, runs) is None
