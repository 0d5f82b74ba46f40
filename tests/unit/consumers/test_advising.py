"""The advice service without sockets: documents and frames in any order, late, twice or not at all."""

import json
import math
import random

import numpy as np
import pytest

from live_bcdi.steering.tasks import begin_task
from live_bcdi.stream.documents import check_document
from live_bcdi.stream.updates import RecordingSink
from live_bcdi.transport.hdf5 import DATA_PATH, FrameWriter
from live_bcdi.types import Frame
from live_bcdi_consumers.advising import AGAIN_S, GONE_S, LATE_S, Advising

TABLE = {
    "task": "maximise",
    "motor": "x",
    "pixel": [8.0, 8.0],
    "dose_s": 1.0,
    "box": 8,
    "search": {"start": 0.0, "width": 5.0, "limits": [-50.0, 50.0], "tolerance": 0.3},
}
ROCKING = {
    "task": "rocking",
    "seconds": 1.0,
    "wanted": {"dose_s": 10.0, "limits_deg": [-10.0, 10.0]},
}


class Rig:
    def __init__(self):
        self.sink, self.notices, self.now_s = RecordingSink(), [], 1000.0
        self.advising = Advising(self.sink, lambda *words: self.notices.append(words), lambda: self.now_s)

    def start(self, run="r", table=TABLE, num=9):
        self.advising.document("start", {"uid": run, "time": 0.0, "steering": table, "num_points": num})
        self.advising.document(
            "descriptor", {"uid": f"d-{run}", "run_start": run, "name": "primary", "data_keys": {}}
        )

    def event(self, index, x, run="r"):
        data = {"x": x, "comment": "fine", "other": float("nan")}
        doc = {"descriptor": f"d-{run}", "seq_num": index + 1, "data": data, "timestamps": {}}
        self.advising.document("event", doc)

    def frame(self, index, image=None, run="r", angle_deg=0.0):
        image = np.ones((17, 17), np.int32) if image is None else image
        numbers = {"angle_deg": angle_deg, "monitor": 1.0, "timestamp_s": 1.0 + index}
        self.advising.frame(Frame(run=run, index=index, image=image, **numbers))

    def stop(self, run="r"):
        self.advising.document("stop", {"uid": "s", "run_start": run, "time": 1.0})

    def later(self, seconds):
        self.now_s += seconds
        self.advising.work()

    @property
    def newest(self):
        return self.sink.sent[-1].fields


def peak(angle):
    rows, columns = np.indices((17, 17))
    light = np.sinc(angle / 0.7) ** 2 * 300 * np.exp(-((rows - 8) ** 2 + (columns - 8) ** 2) / 8)
    return np.random.default_rng(int(1e3 * (angle + 5))).poisson(light).astype(np.int32)


ANGLES = np.linspace(-1.6, 1.6, 25)


def test_it_says_where_to_begin_and_then_where_to_go_on():
    rig = Rig()
    rig.start()
    assert (rig.newest["what"], rig.newest["values"], rig.newest["frames"]) == ("move", {"x": 0.0}, 0)
    rig.event(0, 0.0)
    assert len(rig.sink.sent) == 1  # where the frame is not, nothing is new
    rig.frame(0)
    assert (rig.newest["values"], rig.newest["frames"]) == ({"x": -5.0}, 1)
    rig.frame(1)
    assert rig.newest["frames"] == 1
    rig.event(1, -5.0)
    assert rig.newest["frames"] == 2


def test_the_order_in_which_things_come_changes_nothing():
    whole = Rig()
    whole.start(table=ROCKING, num=25)
    for index, angle in enumerate(ANGLES):
        whole.frame(index, peak(angle), angle_deg=angle)
    whole.stop()
    mixed, order = Rig(), list(range(25))
    random.Random(0).shuffle(order)
    for index in order[:5]:
        mixed.frame(index, peak(ANGLES[index]), angle_deg=ANGLES[index])  # before the start document
    mixed.start(table=ROCKING, num=25)
    for index in order[5:20]:
        mixed.frame(index, peak(ANGLES[index]), angle_deg=ANGLES[index])
    mixed.stop()
    mixed.stop()
    for index in order:  # the others after the stop, and all again
        mixed.frame(index, peak(ANGLES[index]), angle_deg=ANGLES[index])
    assert whole.newest == mixed.newest
    assert whole.newest["what"] == "scan" and whole.newest["frames"] == 25
    json.dumps(whole.newest, allow_nan=False)


def test_what_the_stream_lost_is_read_from_the_file(tmp_path):
    rig, path = Rig(), tmp_path / "frames.h5"
    with FrameWriter(path, (17, 17), np.dtype(np.int32)) as writer:
        for angle in ANGLES:
            writer.append(peak(angle), angle_deg=float(angle), monitor=1.0, timestamp_s=1.0)
    rig.start(table=ROCKING, num=25)
    rig.advising.document(
        "stream_resource",
        {
            "uid": "f",
            "run_start": "r",
            "uri": f"file://localhost{path}",
            "parameters": {"dataset": "/entry/data/data"},
        },
    )
    for index in range(0, 25, 2):
        rig.frame(index, peak(ANGLES[index]), angle_deg=ANGLES[index])
    rig.stop()
    assert rig.sink.sent == []
    rig.later(0.01)
    rig.later(2 * LATE_S)
    assert rig.newest["what"] == "scan" and rig.newest["frames"] == 25


def test_without_a_file_it_says_what_it_can():
    rig = Rig()
    rig.start(table=ROCKING, num=25)
    for index in range(23):
        rig.frame(index, peak(ANGLES[index]), angle_deg=ANGLES[index])
    rig.stop()
    for _ in range(20):
        rig.later(GONE_S / 10)
    rig.later(GONE_S)
    assert rig.newest["what"] == "scan" and rig.newest["frames"] == 25


def test_a_lost_frame_within_a_search_is_done_without():
    rig = Rig()
    rig.start()
    rig.frame(1)
    rig.event(0, 0.0)
    rig.event(1, -5.0)
    for _ in range(30):
        rig.later(0.1)
    assert rig.newest["frames"] == 2


def test_it_is_said_again_to_who_came_late():
    rig = Rig()
    rig.start()
    rig.later(AGAIN_S / 2)
    assert len(rig.sink.sent) == 1
    rig.later(AGAIN_S)
    assert len(rig.sink.sent) == 2
    assert rig.sink.sent[0] == rig.sink.sent[1]


def test_sweeps_of_a_series_add_up():
    rig, told = Rig(), begin_task({"task": "rocking", **{k: ROCKING[k] for k in ("seconds", "wanted")}})
    assert told is not None
    table = {**ROCKING, "series": "one"}
    for run in ("a", "b"):
        rig.start(run, table, num=25)
        for index, angle in enumerate(ANGLES):
            rig.frame(index, peak(angle), run, angle)
        rig.stop(run)
    assert len(rig.advising._series) == 1
    assert rig.sink.sent[-1].run == "b"


@pytest.mark.parametrize("table", [None, 5, {}, {"task": "dance"}, {"task": "stop", "rule": 3}, [1]])
def test_what_is_no_table_is_told_and_nothing_else(table):
    rig = Rig()
    rig.start(table=table)
    rig.frame(0)
    rig.event(0, 1.0)
    rig.stop()
    rig.later(10.0)
    assert rig.sink.sent == []
    assert "no advice" in rig.notices[0][1]


def test_frames_that_do_not_fit_are_left_out():
    rig = Rig()
    rig.start(table=ROCKING, num=25)
    for index, angle in enumerate(ANGLES):
        rig.frame(index, peak(angle) if index != 7 else np.ones((3, 3), np.int32), angle_deg=angle)
    rig.stop()
    assert "left out" in rig.notices[0][1]
    assert rig.newest["what"] in ("scan", "none")  # an angle is missing: the grid has a hole


def test_runs_that_do_not_ask_cost_nothing():
    rig = Rig()
    for number in range(1000):
        rig.advising.document("start", {"uid": f"r{number}", "time": 0.0})
        rig.frame(0, run=f"r{number}")
    assert not rig.advising._runs and len(rig.advising._early) <= 64
    for number in range(50):
        rig.start(f"s{number}", {**TABLE, "series": f"s{number}"})
    assert len(rig.advising._runs) <= 8 and len(rig.advising._series) <= 8


def test_frames_beyond_the_plan_and_events_nobody_needs_are_not_kept():
    rig = Rig()
    rig.start(table=ROCKING, num=25)
    rig.frame(10**9)
    rig.frame(25)
    for index in range(1000):
        rig.event(index, 1.0)
    known = rig.advising._runs["r"]
    assert not known.frames and not known.positions


ODD = (None, True, 0, -1, 1e300, math.nan, math.inf, "x", [], [1.0, 2.0], {}, {"a": 1}, 10**18)
SEARCH = {
    "task": "search",
    "dose_s": 1.0,
    "search": {"start_deg": 0.0, "limits_deg": [-1, 1], "coarse_deg": 1.0, "fine_deg": 0.1, "pixel": [8, 8]},
}


def hostile(chance):
    """Documents that pass at the wire, and frames, of a few runs, in no order."""
    run = chance.choice("abcdef")
    table = dict(chance.choice([TABLE, ROCKING, SEARCH]))
    if chance.random() < 0.4:
        table[chance.choice(list(table))] = chance.choice(ODD)
    start = {"uid": run, "time": 0.0, "steering": chance.choice([table, table, chance.choice(ODD)])}
    start |= {"num_points": chance.choice([9, *ODD]), "live_bcdi": chance.choice([{}, *ODD])}
    uri = chance.choice(["file://localhost/etc/passwd", "x"])
    return chance.choice(
        [
            ("start", start),
            ("descriptor", {"uid": f"d-{run}", "run_start": run, "name": "primary", "data_keys": {}}),
            *5
            * [
                (
                    "event",
                    {
                        "descriptor": f"d-{run}",
                        "seq_num": chance.randint(0, 9),
                        "data": {"x": chance.choice(ODD)},
                        "timestamps": {},
                    },
                )
            ],
            ("stop", {"uid": "s", "run_start": run}),
            ("stream_resource", {"uid": "f", "run_start": run, "uri": uri, "parameters": {"dataset": DATA_PATH}}),
            *8 * [("frame", run)],
        ]
    )


def test_nothing_that_comes_ends_the_service():
    rig, chance = Rig(), random.Random(0)
    images = (peak(0.0), np.full((17, 17), np.nan), np.full((17, 17), -5), np.zeros((3, 3), int), np.ones((1, 40)))
    for _ in range(2000):
        name, doc = hostile(chance)
        if name == "frame":
            rig.frame(
                chance.choice([*range(9), 10**7]), chance.choice(images), doc, chance.choice([0.0, 0.5, 1e300])
            )
        else:
            check_document(name, doc)
            rig.advising.document(name, doc)
        rig.later(chance.choice([0.0, 0.01, 1.0]))
    assert rig.sink.sent and rig.notices
