"""The motion of each scan: told once it is whole, kept on disk, owed to Tiled, found by refine where live was
killed."""

import json
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest

from live_bcdi.stream.fakes import frames_of, small_scan, start_document
from live_bcdi.stream.live import LiveRun
from live_bcdi.stream.run import run_plan
from live_bcdi.transport.tracks import read_track
from live_bcdi_consumers import delivery as delivering
from live_bcdi_consumers import following as module
from live_bcdi_consumers import tracking
from live_bcdi_consumers.delivery import Delivery
from live_bcdi_consumers.following import Follower
from live_bcdi_consumers.tickets import Tickets
from live_bcdi_consumers.watched import Watched

NUM = 30


class Here:
    """A pool that does jobs at once, in this process, or fails them."""

    def __init__(self, **settings):
        self.errors = []
        self.done = []

    def shutdown(self):
        """Nothing runs."""

    def submit(self, job, *arguments, **more):
        future = Future()
        self.done.append(job.__name__)
        if self.errors:
            future.set_exception(self.errors.pop(0))
        else:
            future.set_result(job(*arguments, **more))
        return future


@pytest.fixture
def follower(service, monkeypatch):
    monkeypatch.setattr(module, "JobPool", Here)
    monkeypatch.setattr(tracking, "hurry", lambda **settings: None)
    service.folder("outbox")
    return Follower(service)


def uid(number):
    return f"{number:08d}-0000-4000-8000-000000000000"


def measured(number, frames=NUM):
    """A scan with a peak, the start document of its run, and the run with so many of its frames."""
    scan = small_scan(num=NUM, shape=(16, 18))
    axes = [np.exp(-((np.arange(n) - n / 2) ** 2) / 8) for n in scan.intensity.shape]
    pattern = 200 * axes[0][:, None, None] * axes[1][:, None] * axes[2]
    counts = np.random.default_rng(number).poisson(pattern).astype(scan.intensity.dtype)
    scan.intensity[:] = counts
    start = {**start_document(scan, uid(number)), "time": 1.79e9 + 60 * number}
    live = LiveRun(run_plan(start), clock_s=lambda: 0.0)
    for frame in list(frames_of(scan, uid(number)))[:frames]:
        live.add(frame)
    return scan, start, Watched(live=live)


def turn(follower, watched):
    follower.look([watched])
    follower.collect()
    follower.collect()


def told(service, of):
    return [each for each in service.updates.sent if each.topic == "tracking" and each.fields["of"] == of]


def test_a_whole_scan_is_told_once_kept_and_owed(follower, service):
    for number in (1, 2):
        _, start, watched = measured(number)
        follower.begin(start)
        for _ in range(3):
            turn(follower, watched)
    series = told(service, "series")[-1]
    assert [row["run"] for row in series.fields["scans"]] == [uid(1), uid(2)] and series.run == uid(2)
    assert [each.run for each in told(service, "scan")] == [uid(1), uid(2)]
    assert follower._pool.done.count("follow_scan") == follower._pool.done.count("track_frames") == 2
    files = sorted((service.directory / "tracks").glob("*.h5"))
    assert [read_track(path).about["run"] for path in files] == [uid(1), uid(2)]
    owed = dict(Tickets(service.directory / "outbox/tracking"))
    assert sum(name.startswith("series_") for name in owed) == 1 and len(owed) == 3
    json.dumps(list(owed.values()), allow_nan=False)


def test_nothing_is_begun_while_a_scan_has_few_frames_or_where_it_is_switched_off(follower, service):
    _, start, watched = measured(1, frames=10)
    follower.begin(start)
    turn(follower, watched)
    assert "track_so_far" not in follower._pool.done and not told(service, "scan")
    service.config = service.config.changed(live={"track": False})
    off = Follower(service)
    _, start, watched = measured(1)
    off.begin(start)
    turn(off, watched)
    assert off._pool.done == []


def test_frames_so_far_are_told_and_not_kept(follower, service):
    _, start, watched = measured(1, frames=25)
    follower.begin(start)
    for _ in range(3):
        turn(follower, watched)
    (update,) = told(service, "scan")
    assert update.fields["frames"] == 25 and update.fields["whole"] is False and update.fields["num"] == NUM
    assert not list((service.directory / "tracks").glob("*.h5"))


@pytest.mark.parametrize("deaths, known", [(1, True), (2, True), (5, False)])
def test_a_process_that_dies_is_asked_again_but_not_for_ever(follower, service, deaths, known):
    _, start, watched = measured(1)
    follower.begin(start)
    turn(follower, watched)
    service.updates.sent.clear()
    scan, start, watched = measured(2)
    follower.begin(start)
    follower._pool.errors = [BrokenProcessPool("killed")] * deaths
    for _ in range(8):
        turn(follower, watched)
    assert bool([each for each in told(service, "scan") if each.run == uid(2)]) == known
    if not known:  # refine has the frames
        tracking.track_if_missing(start, scan, service.config.operando, service.directory)
        files = sorted((service.directory / "tracks").glob("*.h5"))
        assert read_track(files[-1]).about["run"] == uid(2)


def test_refine_leaves_alone_what_live_is_at_and_takes_what_it_left(follower, service):
    """Its place in the series is known, its angles are not: that is worked at for as long as the claim is held."""
    scan, start, watched = measured(1)
    follower.begin(start)
    follower.look([watched])
    (path,) = (service.directory / "tracks").glob("*.h5")
    tracking.track_if_missing(start, scan, service.config.operando, service.directory)
    assert read_track(path).within is None
    follower.stop()
    tracking.track_if_missing(start, scan, service.config.operando, service.directory)
    assert read_track(path).within is not None
    assert not list((service.directory / "tracks/claims").iterdir())


def test_one_scan_at_a_time_has_its_angles_looked_at_the_newest_first(follower, service, monkeypatch):
    """Three scans end while the angles of the first are looked at."""
    begun, running = [], [Future(), Future()]

    def submit(job, *arguments, **more):
        if job is tracking.track_frames:
            begun.append(arguments[0]["run"])
            return running[len(begun) - 1]
        return Here().submit(job, *arguments, **more)

    monkeypatch.setattr(follower._pool, "submit", submit)
    for number in (1, 2, 3):
        _, start, watched = measured(number)
        follower.begin(start)
        turn(follower, watched)
    assert begun == [uid(1)] and [row["run"] for row in follower._series["scans"]] == [uid(1), uid(2), uid(3)]
    running[0].set_result(({"of": "scan", "whole": True}, {}))
    turn(follower, watched)
    assert begun == [uid(1), uid(3)]
    assert len(list((service.directory / "tracks/claims").iterdir())) == 2


def test_refine_leaves_alone_what_is_known_and_fails_nothing(follower, service, monkeypatch):
    scan, start, watched = measured(1)
    follower.begin(start)
    turn(follower, watched)
    (path,) = (service.directory / "tracks").glob("*.h5")
    before = path.stat().st_mtime_ns
    tracking.track_if_missing(start, scan, service.config.operando, service.directory)
    assert path.stat().st_mtime_ns == before
    path.write_bytes(b"damaged")
    tracking.track_if_missing(start, scan, service.config.operando, service.directory)
    assert read_track(path).within is not None
    tracking.track_if_missing({"uid": "x"}, scan, service.config.operando, service.directory)


def test_a_damaged_track_is_left_out_of_its_series(follower, service):
    for number in (1, 2, 3):
        _, start, watched = measured(number)
        follower.begin(start)
        turn(follower, watched)
    second = sorted((service.directory / "tracks").glob("*.h5"))[1]
    second.write_bytes(b"damaged")
    runs = [row["run"] for row in tracking.series_fields(service.directory)["scans"]]
    assert runs == [uid(1), uid(3)]


def test_tiled_gets_it_when_it_is_there_and_the_newest_of_a_series_only(follower, service, monkeypatch):
    stored = []

    def store(root, ticket, track, *, finished_s):
        stored.append(ticket.get("run", "series"))
        return "there"

    def away(config):
        raise ConnectionError("Tiled is away")

    monkeypatch.setattr(delivering, "store_track", store)
    monkeypatch.setattr(delivering, "connect", away)
    delivery = Delivery(service)
    for number in (1, 2):
        _, start, watched = measured(number)
        follower.begin(start)
        turn(follower, watched)
        delivery.work()
    assert stored == [] and delivery.owed() == 3
    monkeypatch.setattr(delivering, "connect", lambda config: "root")
    monkeypatch.setattr(delivering, "require_answer", lambda config: None)
    delivery._next_s = 0.0
    delivery.work()
    assert stored == [uid(1), uid(2), "series"] and delivery.owed() == 0


def test_a_ticket_that_was_replaced_meanwhile_is_not_dropped(service):
    box = Tickets(service.folder("box"))
    box.put("series", {"scans": 1})
    box.put("series", {"scans": 2})
    box.drop_if("series", {"scans": 1})
    assert box.names() == ["series"]
    box.drop_if("series", {"scans": 2})
    assert box.names() == []


@pytest.mark.parametrize("time", [float("nan"), float("inf"), -1.0, 1e300, "now", None])
def test_a_start_without_a_time_that_makes_sense_does_not_spoil_its_series(follower, service, time):
    for number, said in ((1, 1.79e9), (2, time)):
        _, start, watched = measured(number)
        follower.begin({**start, "time": said})
        turn(follower, watched)
    runs = [row["run"] for row in tracking.series_fields(service.directory)["scans"]]
    assert sorted(runs) == [uid(1), uid(2)]
