"""Malformed messages of detectors: refused in one way, before memory is asked for."""

import struct
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from live_bcdi.transport.pvaccess import exposure
from live_bcdi.transport.stream2 import decode_message, middle_s, pixels
from live_bcdi.transport.zmq import WireError

cbor2 = pytest.importorskip("cbor2")
pytest.importorskip("dectris.compression")

IMAGE = np.arange(35, dtype="<u2").reshape(5, 7)
RAW = IMAGE.tobytes()
GOOD = {"type": "image", "series_id": 1, "image_id": 0, "data": {}}
fuzz = settings(derandomize=True, max_examples=200, deadline=None)


def array(shape=(5, 7), tag=69, data=RAW):
    return cbor2.CBORTag(40, [list(shape), cbor2.CBORTag(tag, data)])


def packed(algorithm, data, shape=(5, 7), elem_size=2):
    return array(shape, data=cbor2.CBORTag(56500, [algorithm, elem_size, data]))


MESSAGES = {
    "nothing": b"",
    "text": b"hello",
    "nested 10,000 deep": b"\x81" * 10_000 + b"\xf6",
    "nested without end": b"\x9f" * 10_000,
    "tags in tags": b"\xc1" * 10_000 + b"\x00",
    "an array of 2**62 items": b"\x9b" + struct.pack(">Q", 1 << 62),
    "bytes of 2**62": b"\x5b" + struct.pack(">Q", 1 << 62),
    "text of 2**62": b"\x7b" + struct.pack(">Q", 1 << 62),
    "a map of 2**62": b"\xbb" + struct.pack(">Q", 1 << 62),
    "a table that holds itself": b"\xd8\x1c\xa1\x61a\xd8\x1d\x00",
    "a number of a million digits": b"\xc2\x5a" + struct.pack(">I", 1 << 19) + b"\xff" * (1 << 19),
    "a power that fills memory": b"\xc4\x82\x1b" + b"\x7f" + b"\xff" * 7 + b"\x01",
    "a regular expression": cbor2.dumps(cbor2.CBORTag(35, "(" * 1000)),
    "a date that is none": cbor2.dumps({**GOOD, "series_date": "x"})[:-3],
    "no type": cbor2.dumps({"series_id": 1}),
    "another type": cbor2.dumps({**GOOD, "type": "stop"}),
    "type is a list": cbor2.dumps({**GOOD, "type": ["image"]}),
    "negative series": cbor2.dumps({**GOOD, "series_id": -1}),
    "huge series": cbor2.dumps({**GOOD, "series_id": 1 << 70}),
    "image is True": cbor2.dumps({**GOOD, "image_id": True}),
    "image is NaN": cbor2.dumps({**GOOD, "image_id": float("nan")}),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_no_message_of_stream2(name):
    with pytest.raises(WireError):
        decode_message(MESSAGES[name])


PIXELS = {
    "nothing": None,
    "a list": [1, 2],
    "plain bytes": RAW,
    "another tag": cbor2.CBORTag(41, [[5, 7], RAW]),
    "no type": cbor2.CBORTag(40, [[5, 7], RAW]),
    "a type nobody knows": array(tag=99),
    "one axis": array((35,)),
    "three axes": array((5, 7, 1)),
    "a negative edge": array((-5, -7)),
    "no pixels": array((0, 7)),
    "a huge shape": array((1 << 40, 1 << 40)),
    "a fractional shape": array((5.0, 7.0)),
    "too few bytes": array(data=RAW[:-1]),
    "too many bytes": array(data=RAW + b"x"),
    "text for bytes": array(data="x" * 70),
    "an algorithm nobody knows": packed("zip", b"x" * 20),
    "lz4 of garbage": packed("lz4", struct.pack(">QI", 70, 70) + b"\xff" * 50),
    "bslz4 of garbage": packed("bslz4", struct.pack(">QI", 70, 8192) + b"\xff" * 50),
    "bslz4 that ends": packed("bslz4", struct.pack(">QI", 70, 8192)),
    "bslz4 that says gigabytes": packed("bslz4", struct.pack(">QI", 1 << 33, 8192) + b"\xff" * 50),
    "bslz4 in huge blocks": packed("bslz4", struct.pack(">QI", 70, 0xFFFFFFFF) + b"\xff" * 50),
    "bslz4 in blocks of none": packed("bslz4", struct.pack(">QI", 70, 0) + b"\xff" * 50),
    "a huge element": packed("bslz4", struct.pack(">QI", 70, 8192) + b"\xff" * 50, elem_size=1 << 40),
    "a negative element": packed("bslz4", struct.pack(">QI", 70, 8192) + b"\xff" * 50, elem_size=-1),
    "compression of nothing": array(data=cbor2.CBORTag(56500, None)),
    "compression of two": array(data=cbor2.CBORTag(56500, ["lz4", 2])),
    "compression of text": packed("lz4", "x" * 50),
}


@pytest.mark.parametrize("name", PIXELS)
def test_no_pixels_of_stream2(name):
    with pytest.raises(WireError):
        pixels(PIXELS[name])


def test_the_same_form_is_taken_where_nothing_is_wrong():
    np.testing.assert_array_equal(pixels(array()), IMAGE)
    assert decode_message(cbor2.dumps(GOOD))["image_id"] == 0


@pytest.mark.parametrize("time", [None, [], [1], [1, 0], ["x", 1], [1 << 4000, 1], [float("inf"), 1], {}])
def test_a_time_that_is_none_is_not_known(time):
    table = {"series_date": datetime.now(UTC), "start_time": time, "stop_time": [1, 1]}
    assert not np.isfinite(middle_s(table))


@fuzz
@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(message):
    try:
        table = decode_message(message)
    except WireError:
        return
    assert table["type"] in ("start", "image", "end")


@fuzz
@given(st.data())
def test_a_damaged_image_is_an_image_or_refused(data):
    message = bytearray(cbor2.dumps({**GOOD, "data": {"a": array()}}))
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    try:
        table = decode_message(bytes(message))
        found = table.get("data")
        image = pixels(found["a"]) if isinstance(found, dict) and "a" in found else IMAGE
    except WireError:
        return
    assert image.ndim == 2


def ntndarray(**changes):
    """What p4p gives, as far as we look at it."""
    stamp = SimpleNamespace(secondsPastEpoch=1_700_000_000, nanoseconds=5)
    fields = {
        "dimension": [SimpleNamespace(size=7), SimpleNamespace(size=5)],
        "value": IMAGE.ravel(),
        "codec": SimpleNamespace(name="", parameters=None),
        "uniqueId": 3,
        "dataTimeStamp": stamp,
        "timeStamp": stamp,
    }
    return SimpleNamespace(**{**fields, **changes})


def codec(name, parameters=6):
    return SimpleNamespace(name=name, parameters=parameters)


def sizes(*edges):
    return [SimpleNamespace(size=edge) for edge in edges]


BYTES = np.full(60, 255, np.uint8)
ARRAYS = {
    "no dimension": {"dimension": []},
    "three dimensions": {"dimension": sizes(7, 5, 3)},
    "a negative dimension": {"dimension": sizes(-7, -5)},
    "a huge dimension": {"dimension": sizes(1 << 40, 1 << 40)},
    "a dimension of text": {"dimension": sizes("x", 5)},
    "no value": {"value": None},
    "a value of text": {"value": np.array(["x"] * 35)},
    "a value of objects": {"value": np.array([None] * 35)},
    "too few pixels": {"value": IMAGE.ravel()[:-1]},
    "no codec": {"codec": None},
    "a codec nobody knows": {"codec": codec("zip"), "value": BYTES},
    "a codec of no type": {"codec": codec("lz4", 99), "value": BYTES},
    "lz4 of garbage": {"codec": codec("lz4"), "value": BYTES},
    "bslz4 of garbage": {"codec": codec("bslz4"), "value": BYTES},
    "blosc of garbage": {"codec": codec("blosc"), "value": BYTES},
    "blosc that says gigabytes": {
        "codec": codec("blosc"),
        "value": np.frombuffer(
            b"\x02\x01\x21\x02" + struct.pack("<III", 0xFFFFFFF0, 8192, 60) + b"\xff" * 44, "u1"
        ),
    },
    "lz4 of gigabytes": {"codec": codec("lz4"), "dimension": sizes(1 << 16, 1 << 16), "value": BYTES},
    "number is text": {"uniqueId": "x"},
    "number is infinite": {"uniqueId": float("inf")},
    "a time of text": {"dataTimeStamp": "now"},
}


@pytest.mark.parametrize("name", ARRAYS)
def test_no_picture_of_pvaccess(name):
    pytest.importorskip("p4p")
    with pytest.raises(WireError):
        exposure(ntndarray(**ARRAYS[name]))


def test_the_same_array_is_taken_where_nothing_is_wrong():
    pytest.importorskip("p4p")
    np.testing.assert_array_equal(exposure(ntndarray()).image, IMAGE)
