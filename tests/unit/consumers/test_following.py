"""The motion of each scan: told once it is whole, kept on disk, owed to Tiled, found by refine where live was
killed."""

import json
import shutil
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from live_bcdi.faults.oracle import leftovers
from live_bcdi.metadata import scan_metadata
from live_bcdi.stream.fakes import frames_of, small_scan, start_document
from live_bcdi.stream.live import LiveRun
from live_bcdi.stream.run import run_plan
from live_bcdi.tracking import record_scan
from live_bcdi.transport.hdf5 import FrameWriter
from live_bcdi.transport.tracks import Track, read_track, write_track
from live_bcdi.types import ScanError
from live_bcdi_consumers import delivery as delivering
from live_bcdi_consumers import errands as errand_module
from live_bcdi_consumers import following as module
from live_bcdi_consumers import tracking
from live_bcdi_consumers.delivery import Delivery
from live_bcdi_consumers.errands import Errands
from live_bcdi_consumers.following import Follower
from live_bcdi_consumers.motion import Motion
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
            try:
                future.set_result(job(*arguments, **more))
            except Exception as error:  # noqa: BLE001  as an executor does
                future.set_exception(error)
        return future


@pytest.fixture(autouse=True)
def jobs_here(monkeypatch):
    monkeypatch.setattr(module, "JobPool", Here)
    monkeypatch.setattr("live_bcdi_consumers.motion.JobPool", Here)


@pytest.fixture
def follower(service, monkeypatch):
    monkeypatch.setattr(tracking, "hurry", lambda **settings: None)
    service.folder("outbox")
    return Follower(service)


def uid(number):
    return f"{number:08d}-0000-4000-8000-000000000000"


def work_of(service, start, scan, corner=(0, 0)):
    """What is given to a job."""
    about = tracking.about_scan(start, service.config.operando)
    return tracking.Measured(about=about, scan=scan, corner=corner, settings=service.config.preprocess)


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
    for _ in ("found", "decided", "kept"):
        follower.collect()


def refined(service, start, scan):
    """As refine does it, once its result is told."""
    path = service.folder("frames") / f"{start['uid']}.h5"
    if not path.exists():
        shape, metadata = scan.intensity.shape[1:], scan_metadata(scan)
        with FrameWriter(path, shape, scan.intensity.dtype, metadata=metadata) as file:
            for index, image in enumerate(scan.intensity):
                angle = float(scan.angles_deg[index])
                file.append(image, angle_deg=angle, monitor=np.nan, timestamp_s=float(index))
    errands = Errands(service, Motion(service))
    errands.add(str(start["uid"]), {"start": start, "file": path}, None)
    errands._next_s = 0.0
    errands.work()
    errands.work()
    return errands


def tracked(work):
    return tracking.decide_frames(tracking.find_frames(work)[0])[0]


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
    scans = told(service, "scan")
    assert [each.run for each in scans] == [uid(1), uid(1), uid(2), uid(2)], "first undecided"
    assert ["is being tested" in each.fields["reason"] for each in scans] == [True, False, True, False]
    np.testing.assert_array_equal(scans[0].arrays["found_steps"], scans[1].arrays["found_steps"])
    assert all(follower._pool.done.count(job) == 2 for job in ("follow_scan", "find_frames", "decide_frames"))
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
        refined(service, start, scan)
        files = sorted((service.directory / "tracks").glob("*.h5"))
        assert read_track(files[-1]).about["run"] == uid(2)


def test_refine_leaves_alone_what_live_is_at_and_takes_what_it_left(follower, service):
    """Its place in the series is known, its angles are not: that is worked at for as long as the claim is held."""
    scan, start, watched = measured(1)
    follower.begin(start)
    follower.look([watched])
    (path,) = (service.directory / "tracks").glob("*.h5")
    refined(service, start, scan)
    assert read_track(path).within is None
    follower.stop()
    refined(service, start, scan)
    assert read_track(path).within is not None
    assert not list((service.directory / "tracks/claims").iterdir())


def test_one_scan_at_a_time_has_its_angles_looked_at_the_newest_first(follower, service, monkeypatch):
    """Three scans end while the angles of the first are looked at."""
    begun, running = [], [Future(), Future()]

    def submit(job, *arguments, **more):
        if job is tracking.find_frames:
            begun.append(arguments[0].about["run"])
            return running[len(begun) - 1]
        return Here().submit(job, *arguments, **more)

    monkeypatch.setattr(follower._pool, "submit", submit)
    for number in (1, 2, 3):
        _, start, watched = measured(number)
        follower.begin(start)
        turn(follower, watched)
    assert begun == [uid(1)] and [row["run"] for row in follower._series["scans"]] == [uid(1), uid(2), uid(3)]
    running[0].set_result(("nothing", ({"of": "scan", "whole": True}, {})))
    turn(follower, watched)
    assert begun == [uid(1), uid(3)]
    assert len(list((service.directory / "tracks/claims").iterdir())) == 2


def test_refine_leaves_alone_what_is_known_and_fails_nothing(follower, service, monkeypatch):
    scan, start, watched = measured(1)
    follower.begin(start)
    turn(follower, watched)
    (path,) = (service.directory / "tracks").glob("*.h5")
    before = path.stat().st_mtime_ns
    refined(service, start, scan)
    assert path.stat().st_mtime_ns == before
    path.write_bytes(b"damaged")
    refined(service, start, scan)
    assert read_track(path).within is not None
    refined(service, {"uid": "x"}, scan)


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


def test_a_series_that_was_owed_while_it_was_delivered_is_still_owed(follower, service, monkeypatch):
    """Also one with a NaN in it, which is not equal to itself."""
    monkeypatch.setattr(delivering, "connect", lambda config: "root")
    monkeypatch.setattr(delivering, "require_answer", lambda config: None)
    box, lengths = Tickets(service.folder("outbox/tracking")), []
    box.put("series_0", {"series": "gold", "scans": [float("nan")]})

    def store(root, ticket, track, *, finished_s):
        lengths.append(len(track["scans"]))
        if len(lengths) == 1:
            box.put("series_1", {"series": "gold", "scans": [1, 2]})
            box.drop("series_0")
        return "there"

    monkeypatch.setattr(delivering, "store_track", store)
    delivery = Delivery(service)
    delivery.work()
    assert lengths == [1] and box.names() == ["series_1"]
    delivery.work()
    delivery.work()
    assert lengths == [1, 2] and box.names() == []


def test_a_ticket_is_written_again_where_another_process_cleaned_the_folder(service, monkeypatch):
    box, cleaned = Tickets(service.folder("box")), []
    replace_ = Path.replace

    def replaced(path, target):
        if not cleaned:
            cleaned.append(Tickets(box.folder))
        return replace_(path, target)

    monkeypatch.setattr(Path, "replace", replaced)
    box.put("a", {"scans": 1})
    assert dict(box) == {"a": {"scans": 1}} and not list(box.folder.glob("*.partial"))


class Killed(BaseException):
    """As kill -9: nothing is tidied after it, but what `finally` does here."""


def test_who_is_killed_writing_the_file_leaves_the_series_as_it_was_and_nothing_behind(follower, service):
    for number in (1, 2):
        _, start, watched = measured(number)
        follower.begin(start)
        turn(follower, watched)
    folder = service.directory / "tracks"
    first = min(folder.glob("*.h5"))
    half = first.with_name(f".{first.stem}.4711-0a1b2c3d.partial.h5")
    half.write_bytes(first.read_bytes())
    follower.stop()
    assert [row["run"] for row in tracking.series_fields(service.directory)["scans"]] == [uid(1), uid(2)]
    dead = folder / "claims" / f"{uid(2)}.lock"
    dead.write_text("")
    (service.directory / "outbox/tracking/series_1.4711.partial").write_text("{")
    held = tracking.claim(service.directory, uid(3))
    writing = folder / f".1_{uid(3)}.4712-0a1b2c3d.partial.h5"
    writing.write_bytes(b"of one who is at it")
    Follower(service)
    assert not half.exists() and not dead.exists() and writing.exists()
    held.release()
    scan, start, _ = measured(3)
    refined(service, start, scan)
    assert not [path for path in leftovers(service.directory) if "partial" in path or "lock" in path]


def leftovers_of_tracks(service):
    return [path for path in leftovers(service.directory) if path.startswith("tracks")]


def test_a_scan_reaches_tiled_though_who_tracked_it_was_killed_at_any_write(follower, service, monkeypatch):
    scan, start, _ = measured(1)
    about = tracking.about_scan(start, service.config.operando)
    put, write, calls = Tickets.put, tracking.write_track, []

    def counted(work, at):
        def done(*arguments):
            calls.append(at)
            if len(calls) == at_most[0]:
                raise Killed
            work(*arguments)

        return done

    monkeypatch.setattr(Tickets, "put", counted(put, "ticket"))
    monkeypatch.setattr(tracking, "write_track", counted(write, "file"))
    monkeypatch.setattr(delivering, "connect", lambda config: "root")
    monkeypatch.setattr(delivering, "require_answer", lambda config: None)
    for at in (1, 2, 3, 4):
        at_most, stored = [at], []
        monkeypatch.setattr(delivering, "store_track", lambda root, ticket, track, **more: stored.append(track))  # noqa: B023
        calls.clear()
        with pytest.raises(Killed):
            refined(service, start, scan)
        delivery = Delivery(service)
        delivery.work()
        assert not [each for each in stored if isinstance(each, Track)], "it is not whole"
        at_most[0] = 0
        refined(service, start, scan)
        delivery._next_s = 0.0
        delivery.work()
        (track,) = [each for each in stored if isinstance(each, Track)]
        assert track.within is not None and delivery.owed() == 0
        tracking.track_file(service.directory, about).unlink()


def test_places_on_the_detector_are_those_of_the_whole_detector(service):
    """Of a large one the follower sees a window."""
    scan, start, _ = measured(1)
    whole = np.zeros((NUM, 140, 150), scan.intensity.dtype)
    whole[:, 100:116, 20:38] = scan.intensity
    arm_pixel = (scan.geometry.arm_pixel[0] + 100, scan.geometry.arm_pixel[1] + 20)
    large = replace(
        scan,
        intensity=whole,
        bad_pixels=None,
        flatfield=None,
        geometry=replace(scan.geometry, arm_pixel=arm_pixel),
    )
    start = {**start_document(large, uid(1)), "time": 1.79e9}
    live = LiveRun(run_plan(start), clock_s=lambda: 0.0)
    for frame in frames_of(large, uid(1)):
        live.add(frame)
    part, corner = live.around_peak(96)
    assert corner[0] > 0
    service.folder("tracks")
    work = work_of(service, start, part, corner)
    tracking.follow_scan(work, service.directory)
    within = tracked(work)
    tracking.keep_frames(work.about, within, service.directory)
    track = read_track(tracking.track_file(service.directory, work.about))
    middle = NUM // 2
    assert abs(track.within.row[middle] - 108) < 1 and abs(track.within.column[middle] - 29) < 1
    assert abs(track.within.row[middle] - track.record.view.origin[1]) < 1
    _, arrays = tracking.track_so_far(work)
    assert abs(arrays["row"][middle] - 108) < 1


def test_refine_goes_on_to_give_way_and_no_error_of_tracking_refuses_its_result(service, monkeypatch):
    hurried = []
    monkeypatch.setattr(tracking, "hurry", lambda **settings: hurried.append(settings))
    scan, start, _ = measured(1)
    monkeypatch.setattr(tracking, "series_fields", lambda *arguments: {})
    refined(service, start, scan)
    assert not hurried and list(Tickets(service.directory / "outbox/tracking").names()) != []

    def wrong(*arguments):
        raise IndexError

    scan, start, _ = measured(2)
    monkeypatch.setattr(tracking, "track_scan", wrong)
    refined(service, start, scan)
    assert not leftovers_of_tracks(service)


def test_a_scan_that_nobody_watches_any_more_is_left_to_refine(follower, service):
    scan, start, watched = measured(1)
    follower.begin(start)
    follower._pool.errors = [BrokenProcessPool("killed")]
    follower._warm = True
    turn(follower, watched)
    follower.look([])
    follower.collect()
    refined(service, start, scan)
    (path,) = (service.directory / "tracks").glob("*.h5")
    assert read_track(path).within is not None


def test_frames_that_wait_take_so_much_memory_and_no_more(follower, service, monkeypatch):
    monkeypatch.setattr(follower, "_begin_later", lambda: None)
    monkeypatch.setattr(module, "LATER_BYTES", 2 * measured(1)[0].intensity.nbytes)
    for number in range(1, 5):
        _, start, watched = measured(number)
        follower.begin(start)
        turn(follower, watched)
    follower.look([])
    follower.collect()
    assert follower._later == [uid(3), uid(4)]
    assert sorted(follower._claims) == [uid(3), uid(4)]


def test_who_tidies_the_tracks_away_ends_nothing(follower, service):
    _, start, watched = measured(1)
    follower.begin(start)
    turn(follower, watched)
    shutil.rmtree(service.directory / "tracks")
    follower._next_look_s = 0.0
    follower.look([])
    _, start, watched = measured(2)
    follower.begin(start)
    turn(follower, watched)
    assert [row["run"] for row in tracking.series_fields(service.directory)["scans"]] == [uid(2)]


def test_many_files_are_read_once(service, monkeypatch):
    """Also those of other series, in which one looks for a rare one."""
    read, folder = [], service.folder("tracks")
    for number in range(tracking._LOOKED_AT + 50):
        (folder / f"{number:04d}_x.h5").write_text("")

    def track_of(path, **more):
        read.append(path)
        return Track(about={"run": "x", "name": "x", "series": "common", "time_s": 1.0}, record="none")

    monkeypatch.setattr(tracking, "read_track", track_of)
    for _ in range(3):
        tracking.series_fields(service.directory, "rare")
    assert len(read) == tracking._LOOKED_AT


def test_a_long_series_goes_on_from_its_very_first_scan(service, monkeypatch):
    """Of the crystal that went by 1e-5 in strain each scan the hundredth has gone as far as if all were there, and
    what is said of a scan is said for good. Scans of another series lie between."""
    monkeypatch.setattr(tracking, "KEPT", 5)
    scan, _, _ = measured(1)
    record, told = record_scan(scan), {}
    folder = service.folder("tracks")
    for number in range(48):
        peak = replace(record.peak, h_invA=record.peak.h_invA / (1 + 1e-5 * number))
        facts = record.facts
        if number % 9 == 8:
            facts = replace(facts, hot=facts.hot + 50)
        name = "gold" if number % 4 else "other"
        about = {"run": uid(number), "name": "x", "series": name, "time_s": 1e9 + number}
        write_track(
            folder / f"{1e9 + number:017.6f}_{uid(number)}.h5",
            Track(about=about, record=replace(record, peak=peak, facts=facts)),
        )
        for row in tracking.series_fields(service.directory, "gold").get("scans", []):
            at = int(row["run"].split("-")[0])
            assert row["strain"] == pytest.approx(1e-5 * (at - 1) / (1 + 1e-5), rel=1e-6, abs=1e-12)
            if number >= 20:  # the first dozen are known
                assert told.setdefault(at, row["reasons"]) == row["reasons"]
    rows = tracking.series_fields(service.directory, "gold")["scans"]
    gold = [number for number in range(48) if number % 4]
    assert [int(row["run"].split("-")[0]) for row in rows] == gold[:12] + gold[-5:]
    assert {at for at, reasons in told.items() if reasons} == {at for at in gold if at % 9 == 8}


@pytest.mark.parametrize("time", [float("nan"), float("inf"), -1.0, 1e300, "now", None])
def test_a_start_without_a_time_that_makes_sense_does_not_spoil_its_series(follower, service, time):
    for number, said in ((1, 1.79e9), (2, time)):
        scan, start, watched = measured(number)
        follower.begin({**start, "time": said})
        turn(follower, watched)
        refined(service, {**start, "time": said}, scan)
    runs = [row["run"] for row in tracking.series_fields(service.directory)["scans"]]
    assert sorted(runs) == [uid(1), uid(2)]
    assert len(list((service.directory / "tracks").glob("*.h5"))) == 2, "refine finds the file of live"


def test_refine_waits_for_who_is_at_it_and_does_it_when_that_one_is_killed(follower, service):
    """The claim of a killed process is free; nothing but the ticket remembers the run."""
    scan, start, watched = measured(1)
    follower.begin(start)
    follower.look([watched])
    waiting = refined(service, start, scan)
    assert waiting._tickets.names() == [uid(1)] and waiting._pool is None, "live is at it"
    follower._claims.pop(uid(1))._file.close()
    again = Errands(service, Motion(service))  # refine was killed too
    for _ in range(3):
        again._next_s = 0.0
        again.work()
    assert again._tickets.names() == [] and again._pool is None
    (path,) = (service.directory / "tracks").glob("*.h5")
    assert read_track(path).within is not None
    assert len(dict(Tickets(service.directory / "outbox/tracking"))) == 2, "the scan and its series, once"


def test_who_is_killed_with_all_done_but_to_let_go_leaves_no_claim(service):
    scan, start, _ = measured(1)
    refined(service, start, scan)
    tracking.claim(service.directory, uid(1))._file.close()  # what a killed process leaves
    again = refined(service, start, scan)
    assert not list(service.directory.rglob("*.lock")) and again._tickets.names() == []


def test_what_refine_is_at_live_tells_and_does_not_keep(follower, service):
    scan, start, watched = measured(1)
    held = tracking.claim(service.directory, uid(1))
    follower.begin(start)
    turn(follower, watched)
    assert [each.run for each in told(service, "scan")] == [uid(1), uid(1)]
    assert not list((service.directory / "tracks").glob("*.h5")) and not follower._whole
    held.release()
    refined(service, start, scan)
    assert len(list((service.directory / "tracks").glob("*.h5"))) == 1


def test_a_process_of_refine_that_dies_is_asked_again_but_not_for_ever(service, monkeypatch):
    scan, start, _ = measured(1)
    errands = refined(service, {"uid": uid(1)}, scan)
    assert errands._tickets.names() == [], "no start document"
    deaths = []

    def die(self, *arguments):
        deaths.append(arguments)
        future = Future()
        future.set_exception(BrokenProcessPool("killed"))
        return future

    monkeypatch.setattr(Here, "submit", die)
    errands = refined(service, start, scan)
    for _ in range(8):
        errands._next_s = 0.0
        errands.work()
    assert len(deaths) == errand_module.MAX_TRIES and errands._tickets.names() == []


def test_a_gap_beside_the_peak_is_seen_through_also_after_a_restart(follower, service, monkeypatch):
    """Of the first scan only its track is left. The crystal moves by a column a scan past three dead ones; what is
    between the scans is as if there were none, to a tenth of what the gap pulls by itself."""

    def shifted_scan(number, *, hole):
        scan = small_scan(num=NUM, shape=(24, 48))
        axes = [np.arange(n) for n in scan.intensity.shape]
        middle = (NUM / 2, 12, 18 + number)
        peak = [np.exp(-((axis - place) ** 2) / 8) for axis, place in zip(axes, middle)]
        pattern = 3000 * peak[0][:, None, None] * peak[1][:, None] * peak[2]
        scan.intensity[:] = np.random.default_rng(number).poisson(pattern)
        bad = np.zeros((24, 48), bool)
        bad[:, 21:24] = hole
        return replace(scan, bad_pixels=bad, flatfield=None)

    def not_asked(scan):
        raise ScanError("not asked")

    monkeypatch.setattr(tracking, "track_scan", not_asked)

    def columns(hole, first):
        for number in range(4):
            scan, run = shifted_scan(number, hole=hole), uid(first + number)
            start = {**start_document(scan, run), "time": 1.79e9 + 60 * number, "sample": f"hole {hole}"}
            if number == 3:  # refine has the last, in a process of its own
                tracking._read.cache_clear()
                refined(service, start, scan)
                continue
            live = LiveRun(run_plan(start), clock_s=lambda: 0.0)
            for frame in frames_of(scan, run):
                live.add(frame)
            one = Follower(service)
            tracking._read.cache_clear()
            one.begin(start)
            turn(one, Watched(live=live))
            one.stop()
        series = tracking.about_scan(start, service.config.operando)["series"]
        rows = tracking.series_fields(service.directory, series)["scans"]
        assert len(rows) == 4
        return [(row["rotation_mdeg"], row["strain"], row["column"] - rows[0]["column"]) for row in rows]

    whole, holed = columns(False, 10), columns(True, 20)
    monkeypatch.setattr(tracking, "beside", lambda first, own: own)
    shutil.rmtree(service.directory / "tracks")
    pulled = columns(True, 30)
    for number in range(1, 4):
        true = whole[number][2]
        assert true == pytest.approx(number, abs=0.05)
        assert abs(holed[number][2] - true) < 0.05
        assert holed[number][0] == pytest.approx(whole[number][0], rel=0.05, abs=1)
    assert max(abs(pulled[number][2] - whole[number][2]) for number in range(1, 4)) > 0.15


def test_frames_are_corrected_as_it_is_configured(service, tmp_path):
    """A dark frame of the whole detector, of which live sees a part; and a monitor that is not to be used."""
    scan, start, _ = measured(1)
    scan, dark = replace(scan, saturation_counts=None), np.arange(40.0 * 50).reshape(40, 50) // 50
    corner = (10, 20)
    part = dark[10 : 10 + 16, 20 : 20 + 18]
    np.save(tmp_path / "dark.npy", dark)
    raw = replace(
        scan,
        intensity=(scan.intensity + part).astype(np.float32),
        monitor=np.linspace(100, 300, NUM),
        bad_pixels=None,
        flatfield=None,
    )
    plain = record_scan(replace(scan, monitor=None, bad_pixels=None, flatfield=None))
    service.folder("tracks")
    settings = service.config.preprocess.model_copy(update={"dark": tmp_path / "dark.npy", "monitor": False})
    work = replace(work_of(service, start, raw, corner), settings=settings)
    tracking.follow_scan(work, service.directory)
    track = read_track(tracking.track_file(service.directory, work.about))
    np.testing.assert_allclose(track.record.view.origin, np.add(plain.view.origin, (0, 10, 20)), atol=0.05)
    assert np.isnan(track.record.facts.monitor)
    within = tracked(work)
    alone = tracked(work_of(service, start, replace(scan, monitor=None, bad_pixels=None)))
    np.testing.assert_allclose(within.found_steps, alone.found_steps, atol=0.05)
    np.save(tmp_path / "dark.npy", dark[:12, :22])
    tracking.track_file(service.directory, work.about).unlink()
    tracking.follow_scan(work, service.directory)
    track = read_track(tracking.track_file(service.directory, work.about))
    assert "dark frame is" in track.record


def test_what_was_found_of_fewer_frames_is_not_told_after_the_whole(follower, service, monkeypatch):
    """A look at 25 frames that takes longer than the scan."""
    slow = Future()
    submit = follower._pool.submit

    def given(job, *arguments):
        return slow if job is tracking.track_so_far else submit(job, *arguments)

    monkeypatch.setattr(follower._pool, "submit", given)
    _, start, watched = measured(1, frames=25)
    follower.begin(start)
    turn(follower, watched)
    scan, _, _ = measured(1)
    for frame in list(frames_of(scan, uid(1)))[25:]:
        watched.live.add(frame)
    turn(follower, watched)
    slow.set_result(({"of": "scan", "whole": False}, {}))
    turn(follower, watched)
    assert [each.fields["whole"] for each in told(service, "scan")] == [True, True]
