"""The journal has every document whatever Tiled does; Tiled has every run whole, once."""

import httpx
import pytest

from live_bcdi.stream import journal
from live_bcdi_consumers import archiver
from live_bcdi_consumers.archiver import MAX_TRIES, Archive


class FakeTiled:
    """Stands for the writer, the client and the container `raw`: takes documents, or raises `trouble`."""

    def __init__(self):
        self.runs: dict = {}
        self.trouble: Exception | None = None

    def __contains__(self, run):
        return run in self.runs

    def delete_contents(self, names, **_):
        for name in names:
            del self.runs[name]

    def __call__(self, name, doc):
        if self.trouble is not None:
            raise self.trouble
        if name == "start":
            assert doc["uid"] not in self.runs, "written twice"
            self.runs[doc["uid"]] = []
        run = doc.get("uid") if name == "start" else doc["run_start"]
        self.runs[run].append(name)


@pytest.fixture
def tiled(monkeypatch):
    fake = FakeTiled()
    monkeypatch.setattr(archiver, "connect", lambda config: fake)
    monkeypatch.setattr(archiver, "container", lambda root, *path: fake)
    monkeypatch.setattr(archiver, "TiledWriter", lambda client, batch_size: fake)
    return fake


def documents(run, events=2):
    yield "start", {"uid": run}
    yield "descriptor", {"uid": f"d-{run}", "run_start": run, "name": "primary"}
    yield "stop", {"uid": f"s-{run}", "run_start": run, "num_events": {"primary": 0}}


def send(archive, docs):
    for name, doc in docs:
        archive.take(name, doc)
        archive._send_live(*archive._queue.get())


def names(folder):
    return sorted(path.stem for path in folder.glob("*.jsonl"))


def test_a_run_goes_to_tiled_while_it_is_measured(service, tiled):
    send(Archive(service), documents("one"))
    assert tiled.runs == {"one": ["start", "descriptor", "stop"]}
    assert names(service.folder("documents/sent")) == ["one"]
    assert names(service.folder("documents")) == []


@pytest.mark.parametrize("trouble", [httpx.ConnectError("gone"), KeyError("odd"), TypeError("odder")])
def test_trouble_within_a_run_costs_nothing(service, tiled, trouble):
    archive = Archive(service)
    docs = list(documents("one"))
    send(archive, docs[:2])
    tiled.trouble = trouble
    send(archive, docs[2:])
    assert names(service.folder("documents")) == ["one"]
    tiled.trouble = None
    archive._send_leftovers()
    assert tiled.runs == {"one": ["start", "descriptor", "stop"]}
    assert names(service.folder("documents/sent")) == ["one"]


def test_a_refused_run_is_put_aside_and_holds_up_nobody(service, tiled):
    archive = Archive(service)
    tiled.trouble = ValueError("never")
    send(archive, documents("bad"))
    for _ in range(MAX_TRIES):
        archive._send_leftovers()
    assert names(service.folder("documents/refused")) == ["bad"]
    tiled.trouble = None
    send(archive, documents("good"))
    assert list(tiled.runs) == ["good"]


def test_killed_in_the_middle_it_knows_the_run_again(service, tiled):
    docs = list(documents("one"))
    send(Archive(service), docs[:2])
    tiled.runs.clear()
    again = Archive(service)
    event = ("event", {"uid": "e", "descriptor": "d-one", "run_start": "one"})
    send(again, [event, docs[2]])
    again._send_leftovers()
    assert tiled.runs == {"one": ["start", "descriptor", "event", "stop"]}


def test_events_that_nobody_wrote_down_are_counted(service, tiled):
    start, descriptor, _ = documents("one")
    event = ("event", {"uid": "e", "descriptor": "d-one", "run_start": "one"})
    stop = ("stop", {"uid": "s", "run_start": "one", "num_events": {"primary": 5}})
    send(Archive(service), [start, descriptor, event, stop])
    assert "events lost while the archiver was away: 4 of primary" in service.updates.sent[-1].fields["message"]


@pytest.mark.parametrize("uid", ["../../escaped", "/etc/passwd", "", "a/b", 5, None, "x" * 200])
def test_a_uid_that_is_no_file_name_is_left_out(service, tiled, uid):
    archive = Archive(service)
    archive.take("start", {"uid": uid})
    assert archive._queue.empty()
    assert list(service.directory.parent.rglob("*escaped*")) == []


def test_what_json_cannot_hold_is_written_as_text(tmp_path):
    journal.append(tmp_path / "run.jsonl", "start", {"uid": "run", "blob": b"\x00\x01"})
    assert next(journal.read(tmp_path / "run.jsonl"))[1]["uid"] == "run"
