"""What goes in comes out; what is not of the documented form is refused and harms nothing."""

import pickle
import time
import weakref
from dataclasses import replace

import msgpack
import numpy as np
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from live_bcdi.stream.fakes import frames_of, small_scan
from live_bcdi.stream.updates import Update
from live_bcdi.transport import zmq as wire
from live_bcdi.types import ScanError

FRAME = frames_of(small_scan(num=2, shape=(5, 7)))[1]
FRAME_PARTS = [bytes(part) for part in wire.encode_frame(FRAME)]


def test_a_frame_survives_the_wire():
    back = wire.decode_frame(FRAME_PARTS)
    np.testing.assert_array_equal(back.image, FRAME.image)
    assert back.image.dtype == FRAME.image.dtype
    for name in ("run", "index", "angle_deg", "monitor", "timestamp_s"):
        assert getattr(back, name) == getattr(FRAME, name)


def test_a_frame_of_another_byte_order_has_this_machines_once_it_is_here():
    """Compiled code takes no other, and refuses it within a scan."""
    other = replace(FRAME, image=FRAME.image.astype(FRAME.image.dtype.newbyteorder("S")))
    back = wire.decode_frame([bytes(part) for part in wire.encode_frame(other)])
    assert back.image.dtype.isnative
    np.testing.assert_array_equal(back.image, FRAME.image)


def test_an_update_survives_the_wire():
    arrays = {"a": np.arange(6, dtype="<f4").reshape(2, 3), "b": np.array([True, False]), "none": np.zeros((0, 3))}
    update = Update(
        topic="live", run="r", fields={"x": np.float64(1.5), "n": np.int32(3), "s": "é"}, arrays=arrays
    )
    back = wire.decode_update([bytes(part) for part in wire.encode_update(update)])
    assert back.fields == {"x": 1.5, "n": 3, "s": "é"}
    for name, array in arrays.items():
        np.testing.assert_array_equal(back.arrays[name], array)


def header(**change):
    table = {**msgpack.unpackb(FRAME_PARTS[1]), **change}
    return [FRAME_PARTS[0], msgpack.packb(table), *FRAME_PARTS[2:]]


HOSTILE = {
    "empty": [],
    "no header": FRAME_PARTS[:1],
    "no buffer": FRAME_PARTS[:2],
    "two buffers": [*FRAME_PARTS, b"x"],
    "truncated buffer": [*FRAME_PARTS[:2], FRAME_PARTS[2][:-1]],
    "truncated header": [FRAME_PARTS[0], FRAME_PARTS[1][:-3], FRAME_PARTS[2]],
    "header is text": [FRAME_PARTS[0], b"hello", FRAME_PARTS[2]],
    "header is a list": [FRAME_PARTS[0], msgpack.packb([1, 2]), FRAME_PARTS[2]],
    "header is huge": [FRAME_PARTS[0], msgpack.packb("x" * (1 << 21)), FRAME_PARTS[2]],
    "topic is not text": [b"\xff", *FRAME_PARTS[1:]],
    "another topic": [b"live", *FRAME_PARTS[1:]],
    "huge shape": header(arrays=[["image", "<i4", [1 << 40, 1 << 40]]]),
    "negative shape": header(arrays=[["image", "<i4", [-5, -7]]]),
    "wrong dtype": header(arrays=[["image", "<f8", [5, 7]]]),
    "object dtype": header(arrays=[["image", "|O", [5, 7]]]),
    "no such dtype": header(arrays=[["image", "<q99", [5, 7]]]),
    "three axes": header(arrays=[["image", "<i4", [5, 7, 1]]]),
    "negative index": header(index=-1),
    "index is text": header(index="1"),
    "NaN angle": header(angle_deg=float("nan")),
    "angle is None": header(angle_deg=None),
    "unknown key": header(surprise=1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_frame_is_refused(name):
    with pytest.raises(wire.WireError):
        wire.decode_frame(HOSTILE[name])


@given(st.lists(st.binary(max_size=64), max_size=5))
def test_any_bytes_are_refused_in_one_way(parts):
    for decode in (wire.decode_frame, wire.decode_update):
        with pytest.raises(wire.WireError):
            decode(parts)


@given(st.binary(max_size=200))
def test_any_bytes_are_no_document(message):
    with pytest.raises(wire.WireError):
        wire.decode_document(message)


def test_a_document_survives_the_form_of_the_bluesky_publisher():
    form = {"uid": "u", "descriptor": "d", "seq_num": 1, "timestamps": {}}
    message = b" event " + wire.encode_document({**form, "data": {"x": np.float64(2.0), "y": np.arange(3)}})
    assert wire.decode_document(message) == ("event", {**form, "data": {"x": 2.0, "y": [0, 1, 2]}})


def test_a_pickle_is_no_document():
    with pytest.raises(wire.WireError):
        wire.decode_document(b" ".join([b"", b"start", pickle.dumps({"uid": "u"})]))


def test_frames_cross_a_socket_and_bad_messages_are_skipped(caplog, free_address):
    publisher, subscriber = wire.FramePublisher(free_address), wire.FrameSubscriber(free_address)
    try:
        assert publisher.wait_for_subscriber(5.0)
        publisher._socket.send_multipart(HOSTILE["huge shape"])
        publisher.send(FRAME)
        frame = next(received(subscriber))
        np.testing.assert_array_equal(frame.image, FRAME.image)
        assert "dropped a message" in caplog.text
    finally:
        publisher.close()
        subscriber.close()


def received(subscriber):
    for _ in range(50):
        yield from subscriber.receive(0.1)
    pytest.fail("nothing came in 5 s")


def test_a_scan_without_listeners_goes_on(free_address):
    publisher = wire.FramePublisher(free_address)
    assert not publisher.wait_for_subscriber(0.05)
    for _ in range(5000):
        publisher.send(FRAME)
    publisher.close()


def test_a_port_in_use_is_one_clear_error():
    with zmq.Context() as context, context.socket(zmq.PUB) as taken:
        port = taken.bind_to_random_port("tcp://127.0.0.1")
        message = r"\[stream\] documents_in .*cannot be opened.*stop it, or set another"
        with pytest.raises(ScanError, match=message):
            wire.check_free(f"tcp://127.0.0.1:{port}", "[stream] documents_in")
        with pytest.raises(ScanError, match="is another scan running"):
            wire.FramePublisher(f"tcp://127.0.0.1:{port}")


def test_a_document_that_nobody_would_take_is_not_sent(monkeypatch):
    monkeypatch.setattr(wire, "MAX_DOCUMENT_BYTES", 1000)
    with pytest.raises(ValueError, match="a document of 2"):
        wire.encode_document({"uid": "x" * 2000})


def test_a_subscriber_that_does_not_read_costs_the_sender_a_bounded_memory(monkeypatch, free_address):
    """Frames are sent without a copy: one that 0MQ holds is still referred to."""
    monkeypatch.setattr(wire, "FRAMES_TO_SEND_BYTES", 20 << 20)
    held = []
    publisher = wire.FramePublisher(free_address)
    with zmq.Context() as context, context.socket(zmq.SUB) as deaf:
        deaf.rcvhwm, deaf.linger = 1, 0
        deaf.subscribe(b"")
        deaf.connect(free_address)
        assert publisher.wait_for_subscriber(5.0)
        for index in range(100):
            frame = replace(FRAME, index=index, image=np.zeros((512, 512), np.int32))
            held.append(weakref.ref(frame.image))
            publisher.send(frame)
        del frame
        still = sum(one() is not None for one in held)
        assert 8 <= still < 60  # 20 are the bound; the operating system's own buffers have taken some more
    publisher.close()


def test_what_subscribers_say_does_not_pile_up_in_the_sender(free_address):
    publisher = wire.FramePublisher(free_address)
    with zmq.Context() as context, context.socket(zmq.XSUB) as talker:
        talker.linger = 0
        talker.connect(free_address)
        for word in range(300):
            talker.send(b"\x01" + bytes(str(word), "ascii"))
        assert publisher.wait_for_subscriber(5.0)
        for _ in range(50):
            publisher.send(FRAME)
            time.sleep(0.001)
        assert not publisher._socket.poll(200)
    publisher.close()


def test_a_flood_of_bad_messages_is_a_line_a_second(free_address, caplog):
    publisher, subscriber = wire.FramePublisher(free_address), wire.FrameSubscriber(free_address)
    try:
        assert publisher.wait_for_subscriber(5.0)
        for _ in range(500):
            publisher._socket.send_multipart([b"frame", b""])
        publisher.send(FRAME)
        began_s = time.monotonic()
        next(received(subscriber))
        lines = [record.getMessage() for record in caplog.records if "dropped a message" in record.getMessage()]
        assert 1 <= len(lines) <= 2 + (time.monotonic() - began_s)
    finally:
        publisher.close()
        subscriber.close()
