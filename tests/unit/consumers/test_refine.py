"""Whatever dies between a start and a result, the run is refined once somebody is there again."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from live_bcdi.cli import config_path
from live_bcdi.config import load_config
from live_bcdi.metadata import scan_metadata
from live_bcdi.sim import simulate_scan
from live_bcdi.stream import journal
from live_bcdi.stream.fakes import RUN, start_document
from live_bcdi.transport.hdf5 import DATA_PATH, FrameWriter, read_result
from live_bcdi.types import StorageError
from live_bcdi_consumers.refine import Refiner
from live_bcdi_consumers.tickets import Tickets


class Outbox:
    """A delivery that keeps what it gets."""

    def __init__(self):
        self.got = []

    def accept(self, name, summary):
        self.got.append(summary)


@pytest.fixture(scope="module")
def scan():
    settings = load_config(config_path("34idc"))
    return simulate_scan(shape=(16, 32, 32), photons=1e5, strain="weak", seed=1, config=settings)[0]


@pytest.fixture
def documents(scan, tmp_path):
    """Start, resource and stop of a run whose frames are on disk."""
    path = tmp_path / "frames.h5"
    with FrameWriter(path, scan.intensity.shape[1:], scan.intensity.dtype, metadata=scan_metadata(scan)) as file:
        for index, image in enumerate(scan.intensity):
            file.append(image, angle_deg=float(scan.angles_deg[index]), monitor=1.0, timestamp_s=float(index))
    resource = {
        "uid": "r",
        "run_start": RUN,
        "uri": f"file://localhost{path}",
        "parameters": {"dataset": DATA_PATH},
    }
    stop = {"run_start": RUN, "uid": "s"}
    return [("start", start_document(scan)), ("stream_resource", resource), ("stop", stop)]


@pytest.fixture
def refiner(service):
    made = []

    def make():
        made.append(Refiner(service))
        return made[-1]

    yield make
    for each in made:
        each.pool.shutdown()


def worked(refiner, seconds=60.0):
    """The outbox after the refiner has done what it can."""
    outbox = Outbox()
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        refiner.work(outbox)
        if outbox.got or not (refiner.busy or refiner._queue.names()):
            return outbox
        time.sleep(0.05)
    pytest.fail("the refiner did not come to an end")


def test_a_run_is_refined(refiner, documents):
    one = refiner()
    for name, doc in documents:
        one.document(name, doc)
    (summary,) = worked(one).got
    assert (summary["run"], summary["frames"], summary["missing"]) == (RUN, 16, [])
    assert len(one._done.names()) == 1
    assert one._queue.names() == one._open.names() == []


def test_a_run_is_refined_with_what_the_configuration_says(refiner, documents, service):
    preprocess = {"shape": (16, 24, 20), "aliens": True}
    service.config = service.config.changed(preprocess=preprocess, crystal={"window": "blackman"})
    one = refiner()
    for name, doc in documents:
        one.document(name, doc)
    result = read_result(Path(worked(one).got[0]["file"]))
    assert result.density.shape == (16, 24, 20)
    assert json.loads(result.provenance["preprocessing"])["aliens"]
    assert json.loads(result.provenance["crystal"])["window"] == "blackman"


def test_killed_between_start_and_stop_with_the_archiver_awake(refiner, documents, service):
    for name, doc in documents[:2]:
        refiner().document(name, doc)
    for name, doc in documents:  # what the archiver wrote down meanwhile
        journal.append(service.folder("documents") / f"{RUN}.jsonl", name, doc)
    assert worked(refiner()).got[0]["frames"] == 16


def test_away_for_the_whole_run(refiner, documents, service):
    for name, doc in documents:
        journal.append(service.folder("documents/sent") / f"{RUN}.jsonl", name, doc)
    assert worked(refiner()).got[0]["frames"] == 16
    assert worked(refiner()).got == [], "a run that is done is not done again"


def test_nobody_saw_the_stop_of_a_whole_scan(refiner, documents):
    for name, doc in documents[:2]:
        refiner().document(name, doc)
    assert worked(refiner()).got[0]["frames"] == 16


def test_nobody_saw_the_stop_of_an_aborted_scan(refiner, documents, tmp_path):
    start = documents[0][1]
    start["live_bcdi"]["planned"]["num"] = 20
    for name, doc in documents[:2]:
        refiner().document(name, doc)
    assert worked(refiner()).got == [], "it may still be measured"
    long_ago = time.time() - 3600
    os.utime(tmp_path / "frames.h5", (long_ago, long_ago))
    assert worked(refiner()).got[0]["missing"] == [16, 17, 18, 19]


def test_a_worker_that_always_dies_is_given_up(refiner, documents, service, monkeypatch):
    monkeypatch.setattr("live_bcdi_consumers.refine.refine_run", kill_worker)
    one = refiner()
    for name, doc in documents:
        one.document(name, doc)
    assert worked(one).got == []
    assert "lost its process 3 times" in service.updates.sent[-1].fields["error"]
    assert len(one._failed.names()) == 1


def kill_worker(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_full_disk_keeps_the_ticket(refiner, documents, service, monkeypatch):
    monkeypatch.setattr("live_bcdi_consumers.refine.refine_run", no_room)
    one = refiner()
    for name, doc in documents:
        one.document(name, doc)
    outbox = Outbox()
    one.work(outbox)
    while one.busy:
        one.work(outbox)
    assert len(one._queue.names()) == 1
    assert "the disk is full" in service.updates.sent[-1].fields["message"]
    monkeypatch.undo()
    one._pause_until_s = 0.0
    assert worked(one).got[0]["frames"] == 16


def no_room(*_):
    raise StorageError("result.cxi could not be written: the disk is full")


@pytest.mark.parametrize("text", ["", "{", "[1]", "null"])
def test_an_unreadable_ticket_is_put_aside_and_holds_up_nobody(tmp_path, text):
    tickets = Tickets(tmp_path)
    tickets.put("2_good", {"a": 1})
    (tmp_path / "1_bad.json").write_text(text)
    assert list(tickets) == [("2_good", {"a": 1})]
    assert (tmp_path / "1_bad.unreadable").read_text() == text


def test_foreign_and_hostile_documents_are_passed_by(refiner, documents):
    one = refiner()
    for doc in ({}, {"uid": "../../x"}, {"uid": RUN}, {"uid": RUN, "live_bcdi": [1]}, {"uid": 5, "live_bcdi": {}}):
        one.document("start", doc)
    one.document("stop", {"run_start": "never-started"})
    one.document("descriptor", {})
    for name, doc in documents:
        one.document(name, doc)
    assert worked(one).got[0]["frames"] == 16
