"""Which frame of which run a detector's picture is, and at what angle: by what detectors and plans really do."""

import numpy as np
import pytest

from live_bcdi.stream.fakes import RUN, small_scan, start_document
from live_bcdi.stream.sources import HELD_BYTES, Exposure, Labeller

SCAN = small_scan(num=5, shape=(3, 4))
START = start_document(SCAN)
STOP = {"run_start": RUN, "uid": "stop", "exit_status": "success"}
STEPS = {"uid": "d", "run_start": RUN, "name": "primary", "data_keys": {"theta": {}}}
FLIGHT = {"uid": "d", "run_start": RUN, "name": "primary", "data_keys": {"det": {}}}
MONITOR = {"uid": "m", "run_start": RUN, "name": "theta_monitor", "data_keys": {"theta": {}}}


def picture(number, series=0, time_s=2e9, value=None, dtype=np.uint16, shape=(3, 4)):
    return Exposure(
        number=number,
        series=series,
        timestamp_s=time_s,
        image=np.full(shape, number if value is None else value, dtype),
    )


def event(number, theta):
    return {"descriptor": "d", "seq_num": number, "data": {"theta": theta}, "timestamps": {"theta": 0.0}}


def position(time_s, theta):
    return {"descriptor": "m", "seq_num": 1, "data": {"theta": theta}, "timestamps": {"theta": time_s}}


@pytest.fixture
def said():
    return []


@pytest.fixture
def counting(said):
    return Labeller(said.append)


@pytest.fixture
def series(said):
    return Labeller(said.append, series=True)


def started(labels, *descriptors):
    labels.document("start", START)
    for descriptor in descriptors or (FLIGHT,):
        labels.document("descriptor", descriptor)
    return labels


def indices(labels):
    return [(frame.index, int(frame.image[0, 0])) for frame in labels.ready()]


def test_a_run_begins_with_the_first_picture_after_its_start(counting, said):
    counting.take(picture(41, time_s=1.0))  # what a subscription begins with: long before the run
    started(counting)
    for number in (1000, 1001, 1002):
        counting.take(picture(number))
    assert indices(counting) == [(0, 1000 % 65536), (1, 1001), (2, 1002)]
    assert said == []


def test_pictures_that_overtake_the_start_document_are_of_the_run(counting):
    for number in (7, 8):
        counting.take(picture(number, time_s=START["time"] + number - 7))
    started(counting)
    counting.take(picture(9))
    assert indices(counting) == [(0, 7), (1, 8), (2, 9)]


def test_one_series_for_the_run_armed_before_it_starts(series):
    series.armed(3, 5)
    series.take(picture(0, series=3))  # overtakes
    started(series)
    series.take(picture(1, series=3))
    assert indices(series) == [(0, 0), (1, 1)]


def test_a_series_that_ended_before_the_run_is_of_no_run(series, said):
    series.armed(3, 1)
    series.take(picture(0, series=3, value=99))
    series.ended(3)
    started(series)
    series.armed(4, 5)
    series.take(picture(0, series=4))
    assert indices(series) == [(0, 0)]
    assert said == []


@pytest.mark.parametrize("pictures", [1, 2])
def test_a_series_an_angle_counts_on_and_a_lost_one_leaves_its_place(series, said, pictures):
    started(series)
    for number in (10, 11, 13):
        series.armed(number, pictures)
        series.take(picture(0, series=number, value=number))
        series.ended(number)
    places = [number * pictures for number in (0, 1, 3)]
    assert indices(series) == [(place, 10 + place // pictures) for place in places if place < 5]
    assert any("did not come before" in text or "not one of the 5" in text for text in said)


def test_two_runs_in_one_series_go_on_counting(series):
    series.armed(3, 100)
    started(series)
    for number in (0, 1):
        series.take(picture(number, series=3))
    series.document("stop", STOP)
    list(series.ready())
    started(series)
    for number in (2, 3):
        series.take(picture(number, series=3))
    assert indices(series) == [(0, 2), (1, 3)]


def test_another_series_repeats_gaps_and_types_are_said_once_and_lose_nothing_else(series, said):
    series.armed(3, 5)
    started(series)
    series.take(picture(0, series=3))
    for _ in range(3):
        series.take(picture(0, series=2, value=77))  # of an earlier one
        series.take(picture(0, series=3, value=78))  # again
        series.take(picture(1, series=3, dtype=np.uint32))
        series.take(picture(1, series=3, shape=(4, 3)))
    series.take(picture(3, series=3))
    series.take(picture(1, series=3))  # late, not lost
    assert indices(series) == [(0, 0), (3, 3), (1, 1)]
    for text in (
        "picture 0 of series 2 is not one",
        "came again",
        "uint32, the first was",
        "frames 1 to 2 did not",
    ):
        assert sum(text in line for line in said) == 1
    assert len(said) == 4
    series.document("stop", STOP)
    assert "a repeated frame 3 times" in said[-1]


def test_a_start_message_that_was_lost_costs_nothing_in_one_series(series):
    started(series)
    series.take(picture(0, series=3))
    series.take(picture(1, series=3))
    assert [index for index, _ in indices(series)] == [0, 1]


def test_the_angle_is_that_of_the_frames_own_event(counting):
    started(counting, STEPS)
    counting.take(picture(0))
    counting.take(picture(1))
    assert list(counting.ready()) == []
    counting.document("event", event(1, -0.0987))
    frames = list(counting.ready())
    assert [(frame.index, frame.angle_deg) for frame in frames] == [(0, -0.0987)]
    counting.document("event", event(3, 0.01))  # the second's event was lost: its planned angle stands
    assert [(frame.index, frame.angle_deg) for frame in counting.ready()] == [(1, SCAN.angles_deg[1])]


def test_angles_listed_in_the_plan_hold_where_no_event_says_better(counting):
    angles = [-0.1, -0.04, 0.0, 0.07, 0.1]
    counting.document("start", {**START, "plan_args": {"angles": angles}})
    counting.document("descriptor", FLIGHT)
    for number in range(5):
        counting.take(picture(number))
    assert [frame.angle_deg for frame in counting.ready()] == angles


def test_a_monitored_motor_is_interpolated_to_the_middle_of_the_exposure(said):
    counting = Labeller(said.append, clock_s=lambda: 100.9)
    counting.document("start", {**START, "time": 99.5})
    for descriptor in (FLIGHT, MONITOR):
        counting.document("descriptor", descriptor)
    counting.document("event", position(100.0, 0.0))
    counting.take(picture(0, time_s=100.25))
    assert list(counting.ready()) == [], "the motor has not been there yet"
    counting.document("event", position(101.0, 1.0))
    counting.document("event", position(102.0, 5.0))
    counting.take(picture(1, time_s=101.5))
    # exact: 0.25 and 0.5 have no rounding in binary
    assert [frame.angle_deg for frame in counting.ready()] == [0.25, 3.0]


def clocked(said, now_s, **options):
    labels = Labeller(said.append, clock_s=lambda: now_s, **options)
    labels.document("start", {**START, "time": 100.0})
    for descriptor in (FLIGHT, MONITOR):
        labels.document("descriptor", descriptor)
    for time_s, theta in ((100.0, 0.0), (101.0, 1.0), (102.0, 2.0)):
        labels.document("event", position(time_s, theta))
    return labels


@pytest.mark.parametrize(("time_s", "now_s"), [(90.0, 100.5), (100.5, 95.0), (100.5, 104.0)])
def test_a_clock_that_is_off_gives_the_planned_angle_and_is_said_with_its_number(said, time_s, now_s):
    labels = clocked(said, now_s)
    labels.take(picture(0, time_s=time_s))
    (frame,) = labels.ready()
    assert frame.angle_deg == SCAN.angles_deg[0]
    assert frame.timestamp_s == time_s
    assert f"seems to be {now_s - time_s:.1f} s behind" in said[0]


def test_a_clock_that_agrees_gives_the_interpolated_angle(said):
    labels = clocked(said, 100.6)
    labels.take(picture(0, time_s=100.5))
    assert [frame.angle_deg for frame in labels.ready()] == [0.5]
    assert said == []


def test_a_file_may_be_read_long_after(said):
    labels = clocked(said, 500.0, prompt=False)
    labels.take(picture(0, time_s=100.5))
    assert [frame.angle_deg for frame in labels.ready()] == [0.5]
    assert said == []


def test_the_monitor_is_that_of_the_frames_own_event(said):
    labels = Labeller(said.append, monitor="i0")
    started(labels, {**STEPS, "data_keys": {"theta": {}, "i0": {}}})
    for number in range(3):
        labels.take(picture(number))
    assert list(labels.ready()) == []
    for number, value in ((1, 100.0), (2, float("nan"))):
        labels.document("event", {**event(number, 0.0), "data": {"theta": 0.0, "i0": value}})
    np.testing.assert_array_equal([frame.monitor for frame in labels.ready()], [100.0, np.nan])
    labels.document("stop", STOP)
    assert [frame.index for frame in labels.ready()] == [2]


def test_a_monitor_that_no_event_has_holds_nothing_up(said):
    labels = started(Labeller(said.append, monitor="i0"))
    labels.take(picture(0))
    (frame,) = labels.ready()
    assert np.isnan(frame.monitor)


def test_a_stop_lets_go_what_waits_for_its_angle(counting, said):
    started(counting, STEPS)
    counting.take(picture(0))
    counting.document("stop", STOP)
    (frame,) = counting.ready()
    assert frame.angle_deg == SCAN.angles_deg[0]
    assert "no document said its angle" in said[0]
    counting.take(picture(1))
    assert list(counting.ready()) == []


def test_what_waits_is_bounded(said):
    """By bytes: large pictures are few."""
    scan = small_scan(num=20, shape=(1, 1))
    labels = Labeller(said.append)
    labels.document("start", start_document(scan))
    labels.document("descriptor", STEPS)
    large = np.broadcast_to(np.uint16(0), (1, HELD_BYTES // 8))  # a quarter of what may wait, and no memory
    for number in range(10):
        labels.take(Exposure(number=number, timestamp_s=2e9, image=large))
    assert [frame.index for frame in labels.ready()] == list(range(6))
    assert len(said) == 1


def test_documents_of_another_run_change_nothing(counting):
    started(counting, STEPS)
    counting.document("descriptor", {**STEPS, "uid": "e", "run_start": "other"})
    counting.document("event", {**event(1, 3.0), "descriptor": "e"})
    counting.document("stop", {**STOP, "run_start": "other"})
    counting.take(picture(0))
    assert list(counting.ready()) == []
    assert counting.run == RUN
