"""The state of a run, from where bluesky puts it."""

import pytest

from live_bcdi.stream.state import find_value, series_of, state_of

START = {
    "uid": "run",
    "time": 100.0,
    "sample": "grain 7",
    "cell": {"cycle": 3},
    "live_bcdi": {"scan": {"sample": "LiCoO2", "hkl": [1.0, 0.0, -5.0], "metadata": {"temperature": 295.5}}},
}


def run(stream, readings, key="voltage", stop_s=200.0):
    """Documents of a run with (time, value) readings of `key` in `stream`."""
    yield "start", START
    yield "descriptor", {"uid": "other", "name": "primary", "data_keys": {"theta": {}}}
    yield "event", {"descriptor": "other", "data": {"theta": 1.0}, "timestamps": {"theta": 1.0}}
    yield "descriptor", {"uid": "d", "name": stream, "data_keys": {key: {}}}
    for time_s, value in readings:
        yield "event", {"descriptor": "d", "data": {key: value}, "timestamps": {key: time_s}}
    yield "stop", {"run_start": "run", "time": stop_s}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sample", "grain 7"),
        ("hkl", [1.0, 0.0, -5.0]),
        ("temperature", 295.5),
        ("cell.cycle", 3),
        ("cell.day", None),
        ("uid.day", None),
        ("voltage", None),
    ],
)
def test_a_name_is_found_in_the_start_document_first_at_its_top(name, value):
    assert find_value(START, name) == value


def test_a_name_with_a_dot_may_be_a_key_itself():
    assert find_value({"cell.cycle": 4, "cell": {"cycle": 3}}, "cell.cycle") == 4


def test_a_series_is_called_by_what_its_runs_have_in_common():
    assert (
        series_of(START, ("sample", "hkl", "cell", "pressure"))
        == 'grain 7, hkl 1 0 -5, cell {"cycle": 3}, no pressure'
    )
    assert series_of({}, ("sample",)) == "no sample"


def test_the_start_document_goes_before_the_events():
    assert state_of(START, run("baseline", [(1.0, 5.0)], "temperature"), "temperature") == {
        "value": 295.5,
        "std": None,
        "readings": 1,
        "from": "start",
    }


def test_baseline_readings_count_alike():
    """One before and one after, however long one of them held."""
    found = state_of(START, run("baseline", [(100.0, 4.0), (199.0, 4.2)]), "voltage")
    assert found["value"] == pytest.approx(4.1)
    assert found["std"] == pytest.approx(0.1)
    assert (found["readings"], found["from"]) == (2, "baseline")


def test_a_monitored_signal_counts_for_as_long_as_it_held():
    """4.0 V from before the start (at 100 s) to 175 s, then 4.4 V to the stop at 200 s."""
    found = state_of(START, run("voltage_monitor", [(20.0, 4.0), (175.0, 4.4)]), "voltage")
    assert found["value"] == pytest.approx(0.75 * 4.0 + 0.25 * 4.4)
    assert found["std"] == pytest.approx((0.75 * 0.1**2 + 0.25 * 0.3**2) ** 0.5)


def test_pages_of_events_and_the_stream_that_says_most():
    page = {"descriptor": "p", "data": {"voltage": [1.0, 2.0, 6.0]}, "timestamps": {"voltage": [1.0, 2.0, 3.0]}}
    documents = [
        *run("baseline", [(1.0, 9.0), (2.0, 9.0)]),
        ("descriptor", {"uid": "p", "name": "primary", "data_keys": {"voltage": {}}}),
        ("event_page", page),
    ]
    found = state_of(START, documents, "voltage")
    assert (found["value"], found["readings"], found["from"]) == (3.0, 3, "primary")


@pytest.mark.parametrize(
    ("documents", "why"),
    [
        ([], "neither the start document nor an event has 'voltage'"),
        (run("baseline", []), "neither the start document nor an event has 'voltage'"),
        (run("baseline", [(1.0, "high"), (2.0, float("nan")), (3.0, True)]), "not numbers"),
        ([("descriptor", {"uid": "d", "data_keys": None}), ("event", {"descriptor": "d"})], "neither"),
        (
            [
                ("descriptor", {"uid": "d", "name": "x", "data_keys": {"voltage": {}}}),
                ("event", {"descriptor": "d"}),
            ],
            "not num",
        ),
    ],
)
def test_what_is_not_known_has_a_reason(documents, why):
    found = state_of(START, documents, "voltage")
    assert found["value"] is None
    assert why in found["why"]


def test_a_state_in_words_has_no_place_on_an_axis():
    assert "'sample' is 'grain 7', not a number" in state_of(START, [], "sample")["why"]
