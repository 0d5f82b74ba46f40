"""A plan that asks for advice, run by a real RunEngine; what advises is a socket that says what the test wants."""

import json
import math
import time

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import pytest
import zmq
from bluesky import RunEngine
from event_model import DocumentNames, schema_validators
from ophyd_async.core import init_devices
from ophyd_async.sim import SimMotor

from live_bcdi.config import load_config, parse_config
from live_bcdi.stream.updates import Update
from live_bcdi.transport.zmq import encode_update
from live_bcdi.types import ScanError
from live_bcdi_plans.advisor import SILENT_S, Advisor, motor_limits, recommendation

LIMITS = {"theta": (10.0, 12.0)}
WROTE = (10.5, 10.7, 10.9)  # where the plan goes without advice


def config_at(address, **steering):
    return parse_config(
        {
            "beamline": "test",
            "diffractometer": {
                "rocking": "theta",
                "sample": [
                    {"motor": "theta", "axis": "y+", "limits": LIMITS["theta"]},
                    {"motor": "chi", "axis": "z-"},
                ],
            },
            "detector": {"pixel_um": [55, 55], "arm_pixel": [3, 2], "rows": "y-", "columns": "x+"},
            "stream": {"updates_out": address},
            "steering": steering,
        }
    )


class Voice:
    """What the broker would pass on."""

    def __init__(self, address):
        self._socket = zmq.Context.instance().socket(zmq.XPUB)
        self._socket.linger = 0
        self._socket.bind(address)
        self._number = 0

    def wait(self):
        for _ in range(2):  # topics
            assert self._socket.poll(5000)
            self._socket.recv()

    def say(self, run, **fields):
        self._number += 1
        made = {"what": "move", "values": {"theta": 11.0}, "uncertainty": {}, "why": "so", "frames": 1}
        made |= {"made_at_s": time.time() - 1 + 1e-3 * self._number}
        self._socket.send_multipart(encode_update(Update(topic="steering", run=run, fields=made | fields)))

    def live(self):
        self._socket.send_multipart(encode_update(Update(topic="health", fields={"service": "advise"})))

    def close(self):
        self._socket.close()


@pytest.fixture
def rig(free_address):
    voice = Voice(free_address)
    engine, documents = RunEngine({}), []
    engine.subscribe(lambda name, doc: documents.append((name, doc)))
    with init_devices():
        theta = SimMotor(name="theta", initial_value=10.0, instant=True)
        advisor = Advisor(config_at(free_address), timeout_s=0.3, name="advisor")
    voice.wait()
    yield engine, advisor, theta, voice, documents
    advisor.close()
    voice.close()


def goes(advisor, theta, before, places):
    """A plan: to three places, or elsewhere where it is told so. `before` is called with run and number."""

    @bpp.run_decorator()
    def inner(uids):
        for number, place in enumerate(WROTE):
            before("r", number)
            told = yield from recommendation(advisor, "r", frames=1, whats=("move",), ranges=LIMITS)
            yield from bps.mv(theta, place if told is None else told.values["theta"])
            places.append((yield from bps.rd(theta)))

    return inner([])


def events(documents):
    keys = {doc["uid"]: doc for name, doc in documents if name == "descriptor" and doc["name"] == "recommendation"}
    return [doc["data"] for name, doc in documents if name == "event" and doc["descriptor"] in keys]


def test_advice_is_followed_and_recorded(rig):
    engine, advisor, theta, voice, documents = rig
    places = []
    engine(goes(advisor, theta, lambda run, number: voice.say(run, values={"theta": 11.0 + 0.1 * number}), places))
    assert places == pytest.approx([11.0, 11.1, 11.2])
    told = events(documents)
    assert [each["advisor-status"] for each in told] == ["advised"] * 3
    assert json.loads(told[2]["advisor-values"]) == {"theta": 11.2}
    assert told[0]["advisor-what"] == "move" and told[0]["advisor-why"] == "so" and told[0]["advisor-frames"] == 1
    for name, doc in documents:
        schema_validators[DocumentNames[name]].validate(doc)


def test_without_advice_the_plan_goes_on_as_it_was_written(rig):
    engine, advisor, theta, _, documents = rig
    places = []
    engine(goes(advisor, theta, lambda run, number: None, places))
    assert places == pytest.approx(WROTE)
    told = events(documents)
    assert [each["advisor-status"] for each in told] == ["timeout"] * 3
    assert all(each["advisor-waited_s"] >= 0.3 for each in told)


WRONG = (
    {"values": {"theta": math.nan}},
    {"values": {"theta": math.inf}},
    {"values": {"theta": 12.1}},
    {"values": {"theta": 1e300}},
    {"values": {"theta": "11"}},
    {"values": {"theta": [11.0, 99.0]}},
    {"values": {"chi": 0.0}},
    {"values": 5},
    {"what": "explode"},
    {"what": ["move"]},
    {"uncertainty": {"theta": "wide"}},
    {"made_at_s": 0.0},
    {"made_at_s": "now"},
    {"made_at_s": 1e300},
    {"frames": 0},
    {"frames": math.nan},
    {"frames": 2**60},
    {"frames": "many"},
    {"why": {"a": 1}, "values": None},
)


def test_no_limit_is_crossed_whatever_is_said(rig):
    engine, advisor, theta, voice, documents = rig
    advisor.timeout_s = 0.02
    for wrong in WRONG:
        places = []
        engine(goes(advisor, theta, lambda run, number, wrong=wrong: voice.say(run, **wrong), places))
        assert places == pytest.approx(WROTE), wrong
    assert {each["advisor-status"] for each in events(documents)} == {"refused", "timeout"}
    for name, doc in documents:
        schema_validators[DocumentNames[name]].validate(doc)


def test_advice_is_taken_once(rig):
    engine, advisor, theta, voice, documents = rig
    places = []
    at_s = time.time()
    engine(goes(advisor, theta, lambda run, number: voice.say(run, made_at_s=at_s), places))
    assert places == pytest.approx([11.0, *WROTE[1:]])
    assert [each["advisor-status"] for each in events(documents)] == ["advised", "refused", "refused"]
    assert "there before" in events(documents)[2]["advisor-why"]


def test_of_many_the_newest_is_taken_and_that_of_another_run_is_not(rig):
    engine, advisor, theta, voice, _ = rig

    def flood(run, number):
        for place in range(200):
            voice.say(run, values={"theta": 10.0 + 0.005 * place + 0.1 * number})
            voice.say("another", values={"theta": 10.0})

    places = []
    engine(goes(advisor, theta, flood, places))
    # it takes what has come by then, and no older one than it had
    assert all(10.0 <= place <= 11.2 for place in places)


def test_a_service_that_died_is_not_waited_for_again_and_again(rig, monkeypatch):
    engine, advisor, theta, voice, documents = rig
    advisor.timeout_s = 1.0
    monkeypatch.setattr("live_bcdi_plans.advisor.SILENT_S", 0.2)
    places = []
    engine(goes(advisor, theta, lambda run, number: None, places))
    told = events(documents)
    assert places == pytest.approx(WROTE)
    assert sum(each["advisor-waited_s"] for each in told) < 0.9
    voice.live()
    voice.say("r")
    engine(goes(advisor, theta, lambda run, number: None, places))
    assert places[3] == 11.0
    assert SILENT_S > 2  # of a heartbeat a second


def test_limits_are_those_of_the_configuration(free_address):
    assert motor_limits(config_at(free_address)) == LIMITS
    from pathlib import Path

    whole = motor_limits(load_config(Path(__file__).resolve().parents[3] / "config" / "34idc.toml"))
    assert set(whole) == {"theta", "chi", "phi", "x", "y", "z", "delta", "gamma"}
    with pytest.raises(ScanError, match="positive"):
        Advisor(config_at(free_address), timeout_s=math.nan)
