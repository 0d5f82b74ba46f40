"""The bytes a browser gets, read here by the layout that the module documents, not by its own code."""

import json
import struct
from typing import Any

import numpy as np
import pytest

from live_bcdi.dashboard.wire import encode
from live_bcdi.stream.updates import Update
from live_bcdi.types import ScanError


def decode(message: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    (length,) = struct.unpack_from("<I", message)
    header = json.loads(message[4 : 4 + length], parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    start = 4 + length
    assert start % 8 == 0
    arrays = {}
    for entry in header["arrays"]:
        assert entry["offset"] % 8 == 0
        count = int(np.prod(entry["shape"]))
        dtype = np.dtype(entry["dtype"]).newbyteorder("<")
        flat = np.frombuffer(message, dtype, count, start + entry["offset"])
        arrays[entry["name"]] = flat.reshape(entry["shape"])
    return header, arrays


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8", ">u2", ">f4", "?", "f2", "i8"])
def test_arrays_come_back_as_they_went(dtype):
    values = (np.arange(15).reshape(3, 5) % 2 if dtype == "?" else np.arange(15).reshape(3, 5)).astype(dtype)
    update = Update(topic="live", run="é", arrays={"odd": values[0, :3], "image": values, "turned": values.T})
    header, arrays = decode(encode(update, published_s=12.5))
    assert (header["topic"], header["run"], header["published_s"]) == ("live", "é", 12.5)
    for name, array in update.arrays.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].shape == array.shape


def test_no_array_and_an_empty_one():
    assert decode(encode(Update(topic="notice"), published_s=0.0))[1] == {}
    empty = np.zeros((0, 4))
    assert decode(encode(Update(topic="live", arrays={"a": empty}), published_s=0.0))[1]["a"].shape == (0, 4)


def test_numbers_that_json_cannot_write_are_null():
    fields = {"chi": float("nan"), "list": [np.float32("inf"), 1], "deep": {"x": np.nan}, "n": np.int64(3)}
    header, _ = decode(encode(Update(topic="result", fields=fields), published_s=0.0))
    assert header["fields"] == {"chi": None, "list": [None, 1], "deep": {"x": None}, "n": 3}


def test_nan_in_an_array_stays():
    phase = np.array([np.nan, 1.0], np.float32)
    _, arrays = decode(encode(Update(topic="estimate", arrays={"phase_0": phase}), published_s=0.0))
    np.testing.assert_array_equal(arrays["phase_0"], phase)


def test_what_a_browser_cannot_hold_is_refused():
    update = Update(topic="estimate", arrays={"density": np.zeros(2, complex)})
    with pytest.raises(ScanError, match="'density' of dtype complex128"):
        encode(update, published_s=0.0)
