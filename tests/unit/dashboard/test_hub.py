"""What the hub keeps, whom it tells, and that nobody can make it grow."""

import asyncio
import json
import struct
import threading
from typing import Any

import numpy as np
import pytest

from live_bcdi.dashboard import Hub
from live_bcdi.dashboard.hub import NOTICES, RUNS
from live_bcdi.stream.updates import Update
from live_bcdi.types import ScanError


def header(message: bytes) -> dict[str, Any]:
    (length,) = struct.unpack_from("<I", message)
    return dict(json.loads(message[4 : 4 + length]))


async def take_all(hub: Hub) -> list[dict[str, Any]]:
    """What a browser that connects now is told at once."""
    told = []
    with hub.mailbox() as mailbox:
        while (message := await mailbox.take(0.01)) is not None:
            told.append(header(message))
    return told


def live(run: str, count: int) -> Update:
    return Update(topic="live", run=run, fields={"count": count}, arrays={"image": np.zeros((4, 4))})


def test_a_page_opened_late_is_told_the_state():
    hub = Hub()
    for name in ("live", "refine"):
        hub.publish(Update(topic="health", fields={"service": name, "state": "starting"}))
        hub.publish(Update(topic="health", fields={"service": name, "state": "ready"}))
    hub.publish(Update(topic="run", run="a", fields={"state": "started", "name": "S1", "num": 3}))
    for count in range(1, 4):
        hub.publish(live("a", count))
    for kind, chi in (("live", 0.3), ("live", 0.2), ("refined", 0.01)):
        hub.publish(Update(topic="estimate", run="a", fields={"kind": kind, "chi": chi}))
    hub.publish(Update(topic="run", run="a", fields={"state": "stopped", "exit_status": "success"}))
    hub.publish(Update(topic="result", run="a", fields={"chi": 0.01}))
    hub.publish(Update(topic="notice", fields={"message": "one"}))
    hub.publish(Update(topic="notice", fields={"message": "two"}))

    told = asyncio.run(take_all(hub))
    by_topic = {topic: [each["fields"] for each in told if each["topic"] == topic] for topic in
                {each["topic"] for each in told}}  # fmt: skip
    assert [fields["state"] for fields in by_topic["health"]] == ["ready", "ready"]
    assert by_topic["live"] == [{"count": 3}]
    assert by_topic["estimate"] == [{"kind": "live", "chi": 0.2}, {"kind": "refined", "chi": 0.01}]
    assert by_topic["result"] == [{"chi": 0.01}]
    assert [fields["message"] for fields in by_topic["notice"]] == ["one", "two"]
    (run,) = by_topic["run"]
    assert run["name"] == "S1" and run["state"] == "stopped" and run["exit_status"] == "success"


def test_a_run_that_nobody_announced_is_announced_by_its_frames():
    hub = Hub()
    hub.publish(live("b", 7))
    hub.publish(live("b", 8))
    runs = [each for each in asyncio.run(take_all(hub)) if each["topic"] == "run"]
    assert [each["run"] for each in runs] == ["b"]
    assert runs[0]["fields"]["state"] == "started"


def test_memory_is_bounded():
    hub = Hub()
    for number in range(500):
        hub.publish(Update(topic="run", run=str(number), fields={"state": "started"}))
        hub.publish(live(str(number), 1))
        hub.publish(Update(topic="notice", fields={"message": str(number)}))
    told = asyncio.run(take_all(hub))
    assert [each["run"] for each in told if each["topic"] == "run"] == [str(n) for n in range(500 - RUNS, 500)]
    messages = [each["fields"]["message"] for each in told if each["topic"] == "notice"]
    assert messages == [str(n) for n in range(500 - NOTICES, 500)]
    assert len(told) == RUNS + NOTICES + 1


def test_a_slow_reader_gets_the_latest_of_each_kind_and_starves_none():
    async def slow() -> list[tuple[str, object]]:
        hub = Hub()
        seen = []
        with hub.mailbox() as mailbox:
            for turn in range(200):
                hub.publish(live("a", turn))
                if turn == 100:
                    hub.publish(Update(topic="estimate", run="a", fields={"kind": "live", "count": turn}))
                if turn % 10 == 9:  # ten times slower than what is published
                    message = header(await mailbox.take(1.0) or b"")
                    seen.append((message["topic"], message["fields"].get("count")))
        return seen

    seen = asyncio.run(slow())
    counts = [count for topic, count in seen if topic == "live"]
    assert counts == sorted(counts) and counts[-1] in (189, 199)
    assert ("estimate", 100) in seen
    assert len(seen) == 20


def test_publishing_from_other_threads_wakes_a_waiting_reader():
    async def read() -> dict[str, object]:
        hub = Hub()
        newest: dict[str, object] = {}
        threads = [
            threading.Thread(target=lambda name=name: [hub.publish(health(name, n)) for n in range(300)])
            for name in "abcd"
        ]
        with hub.mailbox() as mailbox:
            assert await mailbox.take(0.0) is None
            for thread in threads:
                thread.start()
            while set(newest.values()) != {299} or len(newest) < 4:
                message = await mailbox.take(20.0)
                assert message is not None, f"a wake-up was lost; newest {newest}"
                fields = header(message)["fields"]
                newest[fields["service"]] = fields["state"]
        for thread in threads:
            thread.join()
        return newest

    def health(name: str, number: int) -> Update:
        return Update(topic="health", fields={"service": name, "state": number})

    assert asyncio.run(read()) == dict.fromkeys("abcd", 299)


def test_a_wake_up_for_what_was_already_seen_ends_no_waiting():
    async def read() -> bytes | None:
        hub = Hub()
        with hub.mailbox() as mailbox:
            taking = asyncio.create_task(mailbox.take(20.0))
            for _ in range(20):
                await asyncio.sleep(0)
            mailbox.wake()
            for _ in range(20):
                await asyncio.sleep(0)
            hub.publish(Update(topic="health", fields={"service": "a"}))
            return await taking

    assert asyncio.run(read()) is not None


def test_health_tells_ages():
    now = [100.0]
    hub = Hub(clock_s=lambda: now[0])
    hub.publish(Update(topic="health", fields={"service": "live", "pid": 7, "state": "ready"}))
    now[0] = 104.0
    hub.publish(Update(topic="run", run="a", fields={"state": "started", "name": "S1", "chi": float("nan")}))
    now[0] = 105.5
    report = hub.health()
    assert report["services"] == {"live": {"service": "live", "pid": 7, "state": "ready", "age_s": 5.5}}
    assert report["age_s"] == {"health": 5.5, "run": 1.5}
    assert report["run"]["name"] == "S1" and report["run"]["run"] == "a" and report["run"]["chi"] is None
    json.dumps(report, allow_nan=False)


def test_an_unknown_topic_is_refused():
    with pytest.raises(ScanError, match="no topic 'gossip'"):
        Hub().publish(Update(topic="gossip"))


def test_health_tells_what_is_advised_of_the_newest_run_only():
    def advice(run, of, *rules):
        return Update(topic="advice", run=run, fields={"of": of, "advice": [{"rule": rule} for rule in rules]})

    hub = Hub()
    assert hub.health()["advice"] == []
    hub.publish(Update(topic="run", run="a", fields={"state": "started"}))
    hub.publish(advice("a", "scan", "saturated"))
    hub.publish(advice("a", "result", "scatter", "counts"))
    assert [each["rule"] for each in hub.health()["advice"]] == ["saturated", "scatter", "counts"]
    hub.publish(advice("a", "scan"))
    assert [each["rule"] for each in hub.health()["advice"]] == ["scatter", "counts"]
    hub.publish(Update(topic="run", run="b", fields={"state": "started"}))
    assert hub.health()["advice"] == []
