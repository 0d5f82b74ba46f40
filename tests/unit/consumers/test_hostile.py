"""Documents, updates and tickets that mean nothing: whoever uses them says so, and lives."""

import json
from concurrent.futures import Future

import numpy as np
import pytest

from live_bcdi.dashboard import Hub
from live_bcdi.metadata import scan_metadata
from live_bcdi.sim import hostile
from live_bcdi.stream.fakes import frames_of, small_scan, start_document
from live_bcdi.stream.updates import TOPICS, Update
from live_bcdi.types import ScanError
from live_bcdi_consumers import watch as watching
from live_bcdi_consumers.archiver import Archive
from live_bcdi_consumers.backlog import Backlog
from live_bcdi_consumers.files import frame_file_of
from live_bcdi_consumers.runs import Runs
from live_bcdi_consumers.tickets import Tickets

SCAN = small_scan(num=5, shape=(5, 7))
NONSENSE = hostile.nonsense(scan_metadata(SCAN))
SNARLS = {
    "numbers": 5,
    "text": "x",
    "None": None,
    "tables": {"a": {"b": [1]}},
    "lists": [[1], "x", None],
    "NaN": float("nan"),
    "long text": "x" * 100_000,
}


def every_document():
    return [pytest.param(run, id=name) for name, run in NONSENSE.items()]


@pytest.mark.parametrize("run", every_document())
def test_refine_gives_it_up(service, run, monkeypatch):
    monkeypatch.setattr("live_bcdi_consumers.runs.NAMELESS_S", -1.0)  # nobody else will name its file
    monkeypatch.setattr("live_bcdi_consumers.runs.LOOK_BACK_S", 0.0)
    backlog = Backlog(service, 5)
    runs = Runs(service, backlog)
    for name, doc in run:
        runs.document(name, doc, heard_s=0.0)
        runs.work()
    Runs(service, backlog).work()  # as after a restart
    assert not list((service.directory / "queue" / "open").glob("*.json"))


@pytest.mark.parametrize("run", every_document())
def test_live_says_so_and_goes_on_with_the_next(service, run, monkeypatch):
    monkeypatch.setattr(watching, "JobPool", _NoPool)
    monkeypatch.setattr("live_bcdi_consumers.following.JobPool", _NoPool)
    watch = watching.Watch(service)
    for name, doc in run:
        watch.document(name, doc)
        watch.tell(0)
    watch.document("start", start_document(SCAN))
    for frame in frames_of(SCAN):
        watch.frame(frame)
    watch._next_tell_s = 0.0
    watch.tell(0)
    assert [update.fields["count"] for update in service.updates.sent if update.topic == "live"][-1] == 5


class _NoPool:
    """No process: what is estimated does not matter here."""

    def __init__(self, **settings):
        pass

    def submit(self, job, *arguments, **options):
        return Future()


@pytest.mark.parametrize("run", every_document())
def test_the_archiver_keeps_it(service, run):
    archive = Archive(service)
    for name, doc in run:
        archive.take(name, doc)
    inside = [path for path in service.directory.rglob("*") if path.is_file()]
    assert inside
    assert all(path.parent.name == "documents" for path in inside)


@pytest.mark.parametrize("uri", ["file://[/x", "file://localhost/%00", "http://127.0.0.1/x", "", "::", "file:"])
def test_an_odd_uri_names_no_frames(uri):
    path = frame_file_of({"uri": uri, "parameters": {"dataset": "/entry/data/data"}})
    assert path in (None, "")


@pytest.mark.parametrize("snarl", SNARLS)
@pytest.mark.parametrize("topic", TOPICS)
def test_the_page_survives_any_field(topic, snarl):
    hub = Hub()
    known = ("service", "state", "detail", "time_s", "count", "num", "received", "lost", "kind", "waiting", "peak")
    more = ("level", "message", "error", "chi", "seconds", "lag_s", "exit_status", "stop_to_result_s", "skipped")
    value = SNARLS[snarl]
    for fields in ({}, {key: value for key in (*known, *more)}):
        for run in ("", "x", "x" * 1000):
            try:
                hub.publish(Update(topic=topic, run=run, fields=fields, arrays={"image": np.zeros((0, 3))}))
            except ScanError:
                continue
    assert json.dumps(hub.health())
    assert hub.metrics.expose("")


def test_a_flood_of_names_takes_no_more_room():
    hub = Hub()
    for number in range(2000):
        for topic, key in (("health", "service"), ("estimate", "kind"), ("run", "name"), ("notice", "message")):
            try:
                hub.publish(Update(topic=topic, run=f"run-{number}", fields={key: f"name-{number}"}))
            except ScanError:
                continue
    assert len(hub._slots) < 200


@pytest.mark.parametrize("content", [b"", bytes(10), b"5", b"[]", b"\xff", b"[" * 100_000, b'{"a":', b"null"])
def test_a_damaged_ticket_is_put_aside(tmp_path, content):
    (tmp_path / "1_one.json").write_bytes(content)
    tickets = Tickets(tmp_path)
    tickets.put("2_two", {"good": 1})
    assert list(tickets) == [("2_two", {"good": 1})]
    assert [path.name for path in tmp_path.glob("*.unreadable")] == ["1_one.unreadable"]
