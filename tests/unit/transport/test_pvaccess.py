"""NTNDArray from a pvAccess server over real sockets: plain, compressed, lost, repeated, broken, gone."""

import time
from types import SimpleNamespace

import lz4.block
import numcodecs.blosc
import numpy as np
import pytest
from p4p import Value
from p4p.nt import NTNDArray
from p4p.server import Server
from p4p.server.thread import SharedPV

from live_bcdi.sim.stream2 import compress
from live_bcdi.stream.fakes import RUN, small_scan, start_document
from live_bcdi.transport import pvaccess
from live_bcdi.transport.pvaccess import PvaSource, exposure
from live_bcdi.transport.zmq import WireError
from live_bcdi.types import ScanError

NUM, SHAPE = 4, (30, 41)
NAME = "SIM:Pva1:Image"
START = start_document(small_scan(num=NUM, shape=SHAPE))
DESCRIPTOR = {"uid": "d", "run_start": RUN, "name": "primary", "data_keys": {"det": {}}}
TRUTH = np.random.default_rng(1).poisson(3.0, (NUM, *SHAPE)).astype("u2")

PACK = {
    "": lambda image: image,
    "lz4": lambda image: lz4.block.compress(image.tobytes(), store_size=False),
    "bslz4": lambda image: compress(image, "bslz4")[12:],  # without the head of HDF5's filter
    "blosc": lambda image: numcodecs.blosc.compress(image.tobytes(), b"lz4", 5, 1),
}


def ntndarray(image, number, packing="", time_s=0.0, **change):
    """As ADCore's converter fills it: sizes from the fastest axis, a codec with pvData's number of the type."""
    data = PACK[packing](image)
    fields = {
        "value": data.ravel() if packing == "" else np.frombuffer(data, "u1"),
        "uniqueId": number,
        "dimension": [{"size": size, "fullSize": size, "binning": 1} for size in reversed(image.shape)],
        "dataTimeStamp": {"secondsPastEpoch": int(time_s), "nanoseconds": round(time_s % 1 * 1e9)},
        "codec": {
            "name": packing,
            "parameters": {"u1": 5, "u2": 6, "u4": 7}[image.dtype.str[1:]] if packing else None,
        },
        **change,
    }
    code = {"u1": "ubyteValue", "u2": "ushortValue", "u4": "uintValue"}[fields["value"].dtype.str[1:]]
    return Value(NTNDArray.buildType(), {**fields, "value": (code, fields["value"])})


@pytest.fixture
def said():
    return []


@pytest.fixture
def pv():
    return SharedPV(initial=ntndarray(np.full(SHAPE, 9, "u2"), 999, time_s=1.0))


@pytest.fixture
def server(pv, monkeypatch):
    with Server(providers=[{NAME: pv}], isolate=True) as made:
        for key, value in made.conf().items():
            monkeypatch.setenv(key, value)
        yield made


@pytest.fixture
def source(server, said):
    made = PvaSource(NAME, said.append)
    until = time.monotonic() + 5
    while not made._connected and time.monotonic() < until:
        list(made.receive(0.01))
    yield made
    made.close()


def begin(source):
    source.document("start", START)
    source.document("descriptor", DESCRIPTOR)


def collected(source, count, timeout_s=5.0):
    frames, until = {}, time.monotonic() + timeout_s
    while len(frames) < count and time.monotonic() < until:
        frames |= {frame.index: frame for frame in source.receive(0.05)}
    assert len(frames) == count, f"{len(frames)} of {count} frames came"
    return frames


@pytest.mark.parametrize("codec", PACK)
def test_frames_come_plain_and_compressed_and_the_old_one_is_of_no_run(source, pv, said, codec):
    begin(source)
    for number, image in enumerate(TRUTH):
        pv.post(ntndarray(image, 1000 + number, codec, time_s=2e9 + number + 0.25))
    frames = collected(source, NUM)
    for index, image in enumerate(TRUTH):
        np.testing.assert_array_equal(frames[index].image, image)
        assert frames[index].image.dtype == np.uint16
        assert frames[index].timestamp_s == 2e9 + index + 0.25
        assert frames[index].run == RUN
    assert said == []


def test_lost_repeated_and_broken_frames_are_said_once_and_the_others_arrive(source, pv, said):
    begin(source)
    pv.post(ntndarray(TRUTH[0], 5))
    pv.post(ntndarray(TRUTH[0], 5))
    pv.post(ntndarray(TRUTH[1], 6, dimension=[{"size": 7}]))
    pv.post(ntndarray(TRUTH[1].astype("u4"), 6))
    pv.post(ntndarray(TRUTH[3], 8))
    frames = collected(source, 2)
    assert sorted(frames) == [0, 3]
    np.testing.assert_array_equal(frames[3].image, TRUTH[3])
    for text in (
        "came again",
        "an image is (rows, columns), not (7,)",
        "uint32, the first",
        "frames 1 to 2 did not",
    ):
        assert sum(text in line for line in said) == 1, (text, said)
    assert len(said) == 4


def test_a_detector_that_goes_away_is_said(source, server, said):
    server.stop()
    until = time.monotonic() + 5
    while not said and time.monotonic() < until:
        list(source.receive(0.05))
    assert said == [f"{NAME} is not connected; it is waited for"]


def test_a_subscription_within_a_run_begins_with_an_old_frame_that_is_left_out(server, pv, said):
    source = PvaSource(NAME, said.append)
    begin(source)
    assert said == [f"{NAME} is not connected; it is waited for"]
    until = time.monotonic() + 5
    while not source._connected and time.monotonic() < until:
        assert list(source.receive(0.01)) == []
    pv.post(ntndarray(TRUTH[0], 1000))
    np.testing.assert_array_equal(collected(source, 1)[0].image, TRUTH[0])
    source.close()


HOSTILE = {
    "three axes": {"dimension": [{"size": 3}, {"size": 41}, {"size": 30}]},
    "no axes": {"dimension": []},
    "negative": {"dimension": [{"size": -41}, {"size": -30}]},
    "too large": {"dimension": [{"size": 2_000_000_000}, {"size": 2_000_000_000}]},
    "jpeg": {"codec": {"name": "jpeg", "parameters": 6}},
    "no type": {"codec": {"name": "lz4", "parameters": None}},
    "not lz4": {"codec": {"name": "lz4", "parameters": 6}, "value": np.full(100, 255, "u1")},
    "not bslz4": {"codec": {"name": "bslz4", "parameters": 6}, "value": np.full(100, 255, "u1")},
    "not blosc": {"codec": {"name": "blosc", "parameters": 6}, "value": np.full(100, 255, "u1")},
    "a bomb": {
        "codec": {"name": "blosc", "parameters": 6},
        "value": np.frombuffer(numcodecs.blosc.compress(bytes(10_000_000), b"lz4", 5), "u1"),
    },
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_array_is_refused(name):
    with pytest.raises(WireError):
        exposure(ntndarray(TRUTH[0], 1, **HOSTILE[name]))


def test_something_else_is_no_array():
    with pytest.raises(WireError, match="not an NTNDArray"):
        exposure(7.0)


def test_a_missing_package_is_one_clear_error(monkeypatch):
    monkeypatch.setattr(pvaccess, "_missing", ImportError("No module named 'p4p'"))
    with pytest.raises(ScanError, match=r"pip install live_bcdi\[pvaccess\]"):
        PvaSource(NAME, print)


def test_large_frames_wait_in_no_more_bytes_than_small_ones(source, monkeypatch):
    monkeypatch.setattr(pvaccess, "HELD_BYTES", 3 * 800)
    for number in range(10):
        source._put(SimpleNamespace(value=np.full(100, number, np.int64)))
    assert [int(each.value[0]) for each in source._came] == [7, 8, 9], "the newest stay"
