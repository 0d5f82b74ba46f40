"""Frames out of Event documents, as bluesky makes them and as they look behind msgpack."""

import numpy as np
import pytest

from live_bcdi.stream.fakes import RUN, small_scan, start_document
from live_bcdi.stream.inline import DocumentSource

SCAN = small_scan(num=4, shape=(3, 5))
ARRAY = {"dtype": "array", "shape": [3, 5], "dtype_numpy": "<i4"}
KEYS = {
    "det_image": ARRAY,
    "det_total": {"dtype": "number", "shape": []},
    "theta": {"dtype": "number", "shape": []},
}
DESCRIPTOR = {"uid": "d", "run_start": RUN, "name": "primary", "data_keys": KEYS}


def event(number, image, key="det_image"):
    return {
        "descriptor": "d",
        "seq_num": number,
        "data": {key: image, "theta": 0.01 * number},
        "timestamps": {key: 100.0 + number, "theta": 99.0},
    }


@pytest.fixture
def said():
    return []


def begun(said, descriptor=DESCRIPTOR, key=None):
    source = DocumentSource(said.append, key)
    source.document("start", start_document(SCAN))
    source.document("descriptor", descriptor)
    return source


@pytest.mark.parametrize("form", [np.asarray, np.ndarray.tolist, lambda image: image[None].tolist()])
def test_every_event_has_its_frame_with_its_own_angle(said, form):
    source = begun(said)
    for number, image in enumerate(SCAN.intensity, start=1):
        source.document("event", event(number, form(image)))
    frames = list(source.receive(0))
    for index, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.image, SCAN.intensity[index])
        assert frame.image.dtype == np.int32
        assert (frame.index, frame.angle_deg, frame.timestamp_s) == (index, 0.01 * (index + 1), 101.0 + index)
    assert len(frames) == 4
    assert said == []


def test_a_page_of_events_is_as_many_frames(said):
    source = begun(said)
    page = {
        "descriptor": "d",
        "seq_num": [1, 2],
        "data": {"det_image": SCAN.intensity[:2].tolist(), "theta": [0.3, 0.4]},
        "timestamps": {"det_image": [1.0, 2.0], "theta": [1.0, 2.0]},
    }
    source.document("event_page", page)
    assert [(frame.index, frame.angle_deg) for frame in source.receive(0)] == [(0, 0.3), (1, 0.4)]


def test_lost_repeated_and_broken_events_are_said_once_and_the_others_arrive(said):
    source = begun(said)
    for number in (2, 2, 4):
        source.document("event", event(number, SCAN.intensity[number - 1]))
    for image in ("text", None, [[1, 2], [3]], [1, 2, 3]):
        source.document("event", event(3, image))
    assert [frame.index for frame in source.receive(0)] == [1, 3]
    for text in ("frames 0 to 0 did not", "came again", "is no picture"):
        assert sum(text in line for line in said) == 1, (text, said)


def test_of_two_pictures_one_must_be_chosen(said):
    two = {**DESCRIPTOR, "data_keys": {"a": ARRAY, "b": ARRAY, "c": {**ARRAY, "external": "FILESTORE:"}}}
    source = begun(said, two)
    source.document("event", event(1, SCAN.intensity[0], "a"))
    assert list(source.receive(0)) == []
    assert "2 pictures (a, b): set [stream] channel" in said[0]
    source = begun(said, two, "b")
    source.document("event", event(1, SCAN.intensity[0], "b"))
    assert [frame.index for frame in source.receive(0)] == [0]


def test_pictures_of_another_run_are_not_taken(said):
    source = begun(said, {**DESCRIPTOR, "run_start": "another"})
    source.document("event", event(1, SCAN.intensity[0]))
    assert list(source.receive(0)) == []


def test_documents_that_make_no_sense_end_nothing(said):
    source = begun(said)
    for broken in (
        {"descriptor": "d"},
        {"descriptor": "d", "seq_num": "x", "data": {"theta": "y"}, "timestamps": {}},
        {"descriptor": "d", "seq_num": None, "data": 5, "timestamps": 6},
        {"descriptor": "d", "seq_num": float("inf"), "data": {"det_image": [[1, 2], [3, 4]]}, "timestamps": None},
    ):
        source.document("event", broken)
        source.document("event_page", broken)
    for broken in ({"data_keys": 5}, {"data_keys": {"a": 5}}, {"data_keys": {"a": {"shape": 3}}}, {}):
        source.document("descriptor", {"uid": "e", "run_start": RUN, "name": "primary", **broken})
    source.document("event", event(1, SCAN.intensity[0]))
    assert [frame.index for frame in source.receive(0)] == [0]
    assert sum("is no picture" in line for line in said) == 1


def test_events_of_an_earlier_run_are_not_of_the_next(said):
    source = begun(said)
    source.document("start", {**start_document(SCAN), "uid": "next"})
    source.document("event", event(1, SCAN.intensity[0]))
    source.document("descriptor", {**DESCRIPTOR, "uid": "e", "run_start": "next"})
    source.document("event", {**event(1, SCAN.intensity[1]), "descriptor": "e"})
    (frame,) = source.receive(0)
    assert frame.run == "next"
    np.testing.assert_array_equal(frame.image, SCAN.intensity[1])
