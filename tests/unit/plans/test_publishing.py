"""What a RunEngine says is on disk and on its way, and no trouble of ours is one of the plan."""

import json
import logging
import time
from pathlib import Path

import pytest
import zmq
from bluesky import RunEngine
from bluesky.plans import count
from ophyd.sim import det

from live_bcdi.config import load_config
from live_bcdi.stream import journal
from live_bcdi.stream.claim import Claim
from live_bcdi.transport.zmq import decode_document
from live_bcdi_plans.publishing import DocumentPublisher


@pytest.fixture
def config(tmp_path, free_address):
    config = load_config(Path(__file__).resolve().parents[3] / "config" / "34idc.toml")
    return config.changed(stream={"documents_in": free_address}, storage={"directory": str(tmp_path)})


@pytest.fixture
def broker(config):
    """The end that our services listen at."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.subscribe(b"")
        socket.bind(config.stream.documents_in)
        yield socket


@pytest.fixture
def publisher(config):
    with DocumentPublisher(config) as made:
        yield made


def measured(publisher, number=3):
    engine, documents = RunEngine({}), []
    engine.subscribe(lambda name, doc: documents.append((name, doc)))
    engine.subscribe(publisher)
    (run,) = engine(count([det], number))
    return run, [(name, json.loads(json.dumps(doc))) for name, doc in documents]  # tuples are lists on the way


def connected(broker, publisher):
    """Until what is published arrives: 0MQ connects in its own time."""
    deadline_s = time.monotonic() + 10
    while time.monotonic() < deadline_s:
        publisher("probe", {})
        if broker.poll(50):
            while broker.poll(50):
                broker.recv()
            return
    pytest.fail("the publisher did not connect")


def test_a_run_is_on_disk_and_at_the_broker(config, broker, publisher):
    connected(broker, publisher)
    run, documents = measured(publisher)
    assert list(journal.read(config.storage.directory / "journal" / f"{run}.jsonl")) == documents
    got = [decode_document(broker.recv()) for _ in documents if broker.poll(2000)]
    assert got == documents


def test_a_disk_that_cannot_be_written_is_told_once_and_costs_the_plan_nothing(
    config, broker, publisher, monkeypatch, caplog
):
    connected(broker, publisher)
    publisher.folder.rmdir()
    publisher.folder.write_text("not a folder")
    with caplog.at_level(logging.ERROR):
        _, documents = measured(publisher)
    (told,) = caplog.records
    assert told.message.startswith("documents are sent, and wait in memory to be kept:")
    assert [decode_document(broker.recv()) for _ in documents if broker.poll(2000)] == documents


def test_what_a_full_disk_did_not_take_is_written_when_there_is_room(publisher, monkeypatch):
    def full(path, name, doc):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(journal, "append", full)
        first, before = measured(publisher)
        assert list(publisher.folder.glob("*.jsonl")) == []
        assert list(publisher.folder.glob("*.lock")), "the run is not over for who looks after the journals"
    second, after = measured(publisher)
    for run, documents in ((first, before), (second, after)):
        assert list(journal.read(publisher.folder / f"{run}.jsonl")) == documents
    assert list(publisher.folder.glob("*.lock")) == []


def test_a_broker_that_is_gone_is_told_once_and_costs_the_plan_nothing(config, publisher, caplog):
    with zmq.Context() as context:
        with context.socket(zmq.SUB) as broker:
            broker.subscribe(b"")
            broker.bind(config.stream.documents_in)
            connected(broker, publisher)
        deadline_s = time.monotonic() + 10
        while not publisher._monitor.poll(50) and time.monotonic() < deadline_s:
            pass
        with caplog.at_level(logging.ERROR):
            for _ in range(2):
                run, documents = measured(publisher)
        assert [record.message.partition(" at ")[0] for record in caplog.records] == ["the broker"]
    assert list(journal.read(publisher.folder / f"{run}.jsonl")) == documents
    began_s = time.monotonic()
    publisher.close()
    assert time.monotonic() - began_s < 30, "documents that nobody takes must not hold up the end"


def test_what_the_wire_cannot_carry_is_on_disk_and_costs_the_plan_nothing(config, publisher, caplog):
    with caplog.at_level(logging.ERROR):
        for number in range(2):
            publisher("start", {"uid": f"run-{number}", "odd": {1, 2}, "large": 2**80})
    assert len(caplog.records) == 1
    assert "a start document could not be sent" in caplog.text
    assert {path.stem for path in publisher.folder.glob("*.jsonl")} == {"run-0", "run-1"}


def test_a_journal_is_claimed_until_its_stop(publisher):
    """Who looks after the journals may then tell a run that waits from one whose process is gone."""
    publisher("start", {"uid": "run"})
    (lock,) = publisher.folder.glob("*.lock")
    with pytest.raises(BlockingIOError):
        Claim(lock.with_suffix(".jsonl"))
    publisher("stop", {"uid": "s", "run_start": "run"})
    assert list(publisher.folder.glob("*.lock")) == []
    assert [name for name, _ in journal.read(publisher.folder / "run.jsonl")] == ["start", "stop"]
