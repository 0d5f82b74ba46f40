"""stream2 from the simulated detector over a real socket; what is lost or broken is said once, harming no more."""

import time

import cbor2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from live_bcdi.config import parse_config
from live_bcdi.sim.stream2 import SimulatedEiger, encode_array
from live_bcdi.stream.fakes import RUN, small_scan, start_document
from live_bcdi.supervisor import check_ports
from live_bcdi.transport import stream2
from live_bcdi.transport.stream2 import Stream2Source, decode_message, pixels
from live_bcdi.transport.zmq import WireError
from live_bcdi.types import ScanError

NUM, SHAPE = 6, (40, 50)
START = start_document(small_scan(num=NUM, shape=SHAPE))
DESCRIPTOR = {"uid": "d", "run_start": RUN, "name": "primary", "data_keys": {"det": {}}}
STOP = {"uid": "s", "run_start": RUN}


def images(dtype="<u2"):
    values = np.random.default_rng(0).poisson(3.0, (NUM, *SHAPE)).astype(dtype)
    if values.dtype.kind == "u":
        values[:, 7, :] = np.iinfo(values.dtype).max  # a gap between modules
    return values


@pytest.fixture
def said():
    return []


@pytest.fixture
def source(free_address, said):
    made = Stream2Source(free_address, said.append)
    yield made
    made.close()


def collected(source, count, timeout_s=5.0):
    """Frames by index, until there are `count`."""
    frames, until = {}, time.monotonic() + timeout_s
    while len(frames) < count and time.monotonic() < until:
        frames |= {frame.index: frame for frame in source.receive(0.05)}
    assert len(frames) == count, f"{len(frames)} of {count} frames came"
    return frames


def begin(source):
    source.document("start", START)
    source.document("descriptor", DESCRIPTOR)


@pytest.mark.parametrize("compression", ["bslz4", "lz4", "none"])
@pytest.mark.parametrize("dtype", ["u1", "<u2", "<u4", "<f4"])
def test_every_pixel_type_comes_through_every_compression(source, free_address, said, compression, dtype):
    truth = images(dtype)
    with SimulatedEiger(free_address, compression=compression) as detector:
        detector.arm(NUM, SHAPE)
        begin(source)
        for number, image in enumerate(truth):
            message = {"threshold_1": image}
            detector.send(detector.image_message(message, start_s=number, stop_s=number + 0.5))
        detector.disarm()
        frames = collected(source, NUM)
    for index, image in enumerate(truth):
        np.testing.assert_array_equal(frames[index].image, image)
        assert frames[index].image.dtype == image.dtype
        # the detector's clock is 20 ns fine, a float of seconds since 1970 0.2 us
        assert frames[index].timestamp_s == pytest.approx(detector.armed_s + index + 0.25, abs=1e-6)
        assert frames[index].run == RUN
    assert said == []


def test_a_threshold_is_chosen_and_without_a_choice_the_first_is_taken_and_said(free_address, said):
    low, high = images(), images() // 2
    for channel, expected in (("threshold_2", high), (None, low)):
        source = Stream2Source(free_address, said.append, channel)
        with SimulatedEiger(free_address, channels=("threshold_1", "threshold_2")) as detector:
            detector.arm(1, SHAPE)
            begin(source)
            detector.send(detector.image_message({"threshold_1": low[0], "threshold_2": high[0]}))
            np.testing.assert_array_equal(collected(source, 1)[0].image, expected[0])
        source.close()
    assert len(said) == 1
    assert "'threshold_1' is taken" in said[0]


def test_the_right_channel_is_asked_for(free_address, said):
    source = Stream2Source(free_address, said.append, "threshold_9")
    with SimulatedEiger(free_address) as detector:
        detector.arm(1, SHAPE)
        begin(source)
        detector.send(detector.image_message({"threshold_1": images()[0]}))
        until = time.monotonic() + 5
        while not said and time.monotonic() < until:
            assert list(source.receive(0.05)) == []
    source.close()
    assert "no channel 'threshold_9'; there are ['threshold_1']" in said[0]


def test_broken_and_foreign_messages_are_said_once_each_and_the_others_arrive(source, free_address, said):
    truth = images()
    with SimulatedEiger(free_address) as detector:
        detector.arm(NUM, SHAPE)
        begin(source)
        messages = [detector.image_message({"threshold_1": image}) for image in truth]
        wrong = cbor2.dumps(
            {**cbor2.loads(messages[1]), "data": {"threshold_1": encode_array(images("<u4")[1], "lz4")}}
        )
        other = cbor2.dumps({**cbor2.loads(messages[1]), "series_id": 999})
        for message in (messages[0], wrong, messages[0], messages[2][:-40], messages[2][:-40], other, messages[1]):
            detector.send(message)
        for message in messages[3:]:
            detector.send(message)  # the third never comes
        frames = collected(source, NUM - 1)
    assert sorted(frames) == [0, 1, 3, 4, 5]
    for index, frame in frames.items():
        np.testing.assert_array_equal(frame.image, truth[index])
    for text in (
        "not CBOR",
        "uint32, the first was",
        "frame 0 came again",
        "series 999 is not",
        "frames 2 to 2 did not",
    ):
        assert sum(text in line for line in said) == 1, (text, said)
    assert len(said) == 5
    source.document("stop", STOP)
    assert "cannot be read 2 times" in said[-1]


def image_table(**change):
    with_channel = {
        "type": "image",
        "series_id": 1,
        "image_id": 0,
        "data": {"t": encode_array(images()[0], "bslz4")},
    }
    return {**with_channel, **change}


HOSTILE_MESSAGES = {
    "empty": b"",
    "text": b"hello",
    "a list": cbor2.dumps([1, 2]),
    "no type": cbor2.dumps({"series_id": 1}),
    "stream1": b'{"htype":"dheader-1.0","series":1}',
    "no series": cbor2.dumps({"type": "end"}),
    "negative image": cbor2.dumps(image_table(image_id=-1)),
    "image is true": cbor2.dumps(image_table(image_id=True)),
    "huge series": cbor2.dumps(image_table(series_id=1 << 70)),
    "endless nesting": b"\x81" * 5000,
    "an array of 2^63": b"\x9b" + b"\x7f" + b"\xff" * 7,
    "bytes of 2^63": b"\x5b" + b"\x7f" + b"\xff" * 7,
}


@pytest.mark.parametrize("name", HOSTILE_MESSAGES)
def test_a_hostile_message_is_refused(name):
    with pytest.raises(WireError):
        decode_message(HOSTILE_MESSAGES[name])


def array_of(shape, data, tag=69):
    return cbor2.CBORTag(40, [shape, cbor2.CBORTag(tag, data)])


def packed(algorithm, elem_size, data):
    return cbor2.CBORTag(56500, [algorithm, elem_size, data])


BOMB = (1 << 60).to_bytes(8, "big") + (8192).to_bytes(4, "big") + b"x" * 20
SMALL = (4).to_bytes(8, "big") + (8192).to_bytes(4, "big")
HOSTILE_PIXELS = {
    "no array": 7,
    "no typed array": cbor2.CBORTag(40, [[1, 2], [1, 2]]),
    "another tag": cbor2.CBORTag(41, [[1, 2], b"1234"]),
    "not a pair": cbor2.CBORTag(40, 5),
    "unknown type": array_of([1, 2], b"1234", tag=76),
    "too short": array_of([1, 2], b"123"),
    "too long": array_of([1, 2], b"12345"),
    "one axis": array_of([2], b"1234"),
    "three axes": array_of([1, 1, 2], b"1234"),
    "negative edges": array_of([-1, -2], b"1234"),
    "no pixels": array_of([0, 2], b""),
    "huge": array_of([1 << 40, 1 << 40], b"1234"),
    "not bytes": array_of([1, 2], "1234"),
    "a bomb": array_of([1, 2], packed("bslz4", 2, BOMB)),
    "cut off": array_of([1, 2], packed("bslz4", 2, SMALL)),
    "unknown algorithm": array_of([1, 2], packed("zip", 2, SMALL)),
    "negative element": array_of([1, 2], packed("bslz4", -2, SMALL)),
    "huge element": array_of([1, 2], packed("bslz4", 1 << 62, SMALL)),
    "compressed text": array_of([1, 2], packed("lz4", 0, "1234")),
    "compressed of two": array_of([1, 2], cbor2.CBORTag(56500, ["lz4", SMALL])),
}


@pytest.mark.parametrize("name", HOSTILE_PIXELS)
def test_hostile_pixels_are_refused(name):
    with pytest.raises(WireError):
        pixels(HOSTILE_PIXELS[name])


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_in_one_way(message):
    with pytest.raises(WireError):
        decode_message(message)


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_flipped_byte_is_refused_or_gives_an_image_and_nothing_else(place, value):
    message = bytearray(cbor2.dumps(image_table(data={"t": encode_array(images()[0][:8, :9], "bslz4")})))
    message[place % len(message)] = value
    try:
        table = decode_message(bytes(message))
        data = table.get("data")
        image = pixels(data.get("t") if isinstance(data, dict) else None)
    except WireError:
        return
    assert image.ndim == 2


def test_big_endian_pixels_are_turned_round():
    image = pixels(array_of([1, 2], b"\x01\x02\x03\x04", tag=65))
    assert image.tolist() == [[0x0102, 0x0304]]
    assert image.dtype.isnative


def test_a_missing_package_is_one_clear_error(monkeypatch, free_address):
    monkeypatch.setattr(stream2, "_missing", ImportError("No module named 'cbor2'"))
    with pytest.raises(ScanError, match=r"pip install live_bcdi\[stream2\]"):
        Stream2Source(free_address, print)
    with pytest.raises(ScanError, match="cbor2"):  # before any service starts
        check_ports(
            parse_config(
                {
                    "beamline": "x",
                    "diffractometer": {"rocking": "theta", "sample": [{"motor": "theta", "axis": "y+"}]},
                    "detector": {"pixel_um": [55, 55], "arm_pixel": [3, 2], "rows": "y-", "columns": "x+"},
                    "stream": {"source": "stream2"},
                }
            )
        )


def test_a_name_that_is_no_address_is_one_clear_error():
    with pytest.raises(ScanError, match="is no address of stream2"):
        Stream2Source("13SIM1:Pva1:Image", print)
