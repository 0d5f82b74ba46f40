"""Runs that overlap, begin without us, end badly: each ends as its file has it, and the page is told."""

import math
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import numpy as np
import pytest

from live_bcdi.advice import PatternFacts
from live_bcdi.estimate import LiveEstimate
from live_bcdi.metadata import scan_metadata
from live_bcdi.stream import journal
from live_bcdi.stream.fakes import frames_of, small_scan, start_document
from live_bcdi.stream.updates import Update
from live_bcdi.transport.hdf5 import DATA_PATH, FrameWriter
from live_bcdi.types import ScanError
from live_bcdi_consumers import following
from live_bcdi_consumers import watch as module
from live_bcdi_consumers.watch import OPEN_RUNS, Watch

NUM = 12
SCAN = small_scan(num=NUM, shape=(16, 18))


class NoEstimates:
    """A pool whose jobs never end."""

    def __init__(self, **settings):
        self.jobs, self.all = [], []

    def submit(self, job, *args, **kwargs):
        self.jobs.append((job, args))
        self.all.append((job, args, kwargs))
        return Future()


class Clock:
    """A monotonic clock that is moved by hand, and a little by itself."""

    def __init__(self):
        self.now_s = 1000.0

    def monotonic(self):
        self.now_s += 1e-3
        return self.now_s


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def watch(service, clock, monkeypatch):
    monkeypatch.setattr(module, "JobPool", NoEstimates)
    monkeypatch.setattr(following, "JobPool", NoEstimates)
    service.config = service.config.changed(live={"edge_voxels": 16})
    return Watch(service)


def uid(number):
    return f"{number:08d}-0000-4000-8000-000000000000"


def scan_of(number):
    return replace(SCAN, name=f"scan {number}", intensity=SCAN.intensity + number)


class Beamline:
    """A run: its documents, frames, and file of all frames but those that `unwritten` says."""

    def __init__(self, folder, number, unwritten=0):
        self.run, self.scan = uid(number), scan_of(number)
        self.path = folder / f"{self.run}.h5"
        with FrameWriter(self.path, (16, 18), np.int32, metadata=scan_metadata(self.scan)) as writer:
            for index in range(NUM - unwritten):
                writer.append(
                    self.scan.intensity[index],
                    angle_deg=self.scan.angles_deg[index],
                    monitor=self.scan.monitor[index],
                    timestamp_s=self.scan.timestamps_s[index],
                )
        self.frames = frames_of(self.scan, self.run)
        self.start = ("start", start_document(self.scan, self.run))
        resource = {"uid": f"r{number}", "run_start": self.run, "uri": f"file://localhost{self.path}"}
        self.resource = ("stream_resource", {**resource, "parameters": {"dataset": DATA_PATH}})
        self.descriptor = ("descriptor", {"uid": f"d{number}", "run_start": self.run, "name": "primary"})
        self.event = ("event", {"descriptor": f"d{number}", "seq_num": 3, "data": {}, "timestamps": {}})
        self.stop = ("stop", {"uid": f"s{number}", "run_start": self.run, "exit_status": "success"})

    def beginning(self):
        return [self.start, self.descriptor, self.resource]


def work(watch, turns=50):
    for _ in range(turns):
        if not watch.work(idle=True):
            return


def told(service, topic, run):
    return [update for update in service.updates.sent if update.topic == topic and update.run == run]


def assert_whole(service, beamline, **numbers):
    """The last word on a run is all of its frames."""
    last = told(service, "live", beamline.run)[-1]
    assert told(service, "run", beamline.run)[-1].fields["state"] == "stopped"
    np.testing.assert_array_equal(last.arrays["totals"], beamline.scan.intensity.sum(axis=(1, 2)))
    assert last.fields["missing"] == 0
    assert {key: last.fields[key] for key in numbers} == numbers


def test_two_runs_at_once_with_frames_in_turn(service, watch, tmp_path):
    one, two = Beamline(tmp_path, 1), Beamline(tmp_path, 2)
    for beamline in (one, two):
        for document in beamline.beginning():
            watch.document(*document)
    for pair in zip(one.frames, two.frames):
        for frame in pair:
            watch.frame(frame)
    watch.tell()
    assert told(service, "live", two.run) and not told(service, "live", one.run)  # the page has the newest
    watch.document(*two.stop)
    work(watch)
    watch.tell()
    for beamline in (two, one):
        watch.document(*beamline.stop)
        work(watch)
        assert_whole(service, beamline, received=NUM, lost=0, refilled=0, duplicates=0)


def test_a_frame_is_told_at_once_after_a_pause_and_else_in_its_turn(service, watch, clock, tmp_path):
    """Of 12 a second: one that follows 10 ms later waits for its turn, and the loop is told how long."""
    run = Beamline(tmp_path, 1)
    for document in run.beginning():
        watch.document(*document)
    watch.tell()  # of a run without a frame
    assert watch.until_tell_s() == math.inf
    clock.now_s += 1.0
    watch.frame(run.frames[0])
    assert watch.until_tell_s() == 0.0
    watch.tell()
    assert watch.until_tell_s() == math.inf
    watch.frame(run.frames[1])
    clock.now_s += 0.01
    watch.tell()
    assert [update.fields["count"] for update in told(service, "live", run.run)] == [0, 1]
    period_s = 1 / service.config.live.page_hz
    assert 0 < watch.until_tell_s() < period_s - 0.01
    clock.now_s += period_s
    watch.tell()
    clock.now_s += 0.95 * period_s  # turns pass in which there is nothing to tell
    watch.tell()
    clock.now_s += 0.1 * period_s
    watch.frame(run.frames[2])
    watch.tell()
    assert [update.fields["count"] for update in told(service, "live", run.run)] == [0, 1, 2, 3]


def test_lost_repeated_and_disordered_frames_are_counted_and_refilled_while_the_run_goes_on(
    service, watch, clock, tmp_path
):
    beamline = Beamline(tmp_path, 1)
    for document in beamline.beginning():
        watch.document(*document)
    for index in (0, 1, 1, 4, 7, 6):
        watch.frame(beamline.frames[index])
    work(watch)
    watch.tell()
    fields = told(service, "live", beamline.run)[-1].fields
    assert (fields["received"], fields["lost"], fields["refilled"], fields["duplicates"]) == (5, 3, 3, 1)
    watch.frame(beamline.frames[2])  # late: refilled before, so a copy, but not lost
    watch.document(*beamline.stop)
    work(watch)
    assert_whole(service, beamline, received=5, lost=NUM - 6, refilled=NUM - 5, duplicates=2)


def test_one_line_of_the_log_says_how_the_stream_was(service, watch, clock, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(module, "estimate_update", lambda *_, lag_s: Update(topic="estimate"))
    caplog.set_level("INFO")
    beamline = Beamline(tmp_path, 1)
    for document in beamline.beginning():
        watch.document(*document)
    for index in (0, 1, 1, 4, 7, 6):
        watch.frame(beamline.frames[index])
    for waiting in (3, 7, 0):
        watch.tell(waiting)
    clock.now_s += 2.0
    (*_, job) = watch._future
    job.set_result(estimate_of())
    watch.tell()
    watch.document(*beamline.stop)
    work(watch)
    (record,) = [each for each in caplog.records if each.getMessage().startswith("stop:")]
    fields = record.fields
    assert record.run == beamline.run
    assert record.getMessage().startswith(
        "stop: 12 of 12 frames, 7 lost on the way, 7 refilled, 1 duplicates, missing [], at most 7 waiting; the"
    )
    assert (fields["received"], fields["lost"], fields["refilled"], fields["duplicates"]) == (5, 7, 7, 1)
    assert (fields["missing"], fields["most_waiting"]) == (0, 7)
    assert 2.0 < fields["preview_lag_s"] < fields["newest_age_s"] < 3.0
    clock.now_s += 1.0
    watch.tell()
    (*_, job) = watch._future
    clock.now_s += 4.0
    job.set_result(estimate_of())
    watch.tell()
    record = caplog.records[-1]
    assert record.getMessage().startswith("preview of 12 of 12 frames, ") and record.run == beamline.run
    assert 6.9 < record.fields["last_frame_to_preview_s"] < 7.5


def test_a_run_that_began_without_us_is_picked_up_by_its_frames(service, watch, clock, tmp_path):
    beamline = Beamline(tmp_path, 1)
    for document in beamline.beginning():
        journal.append(service.folder("documents") / f"{beamline.run}.jsonl", *document)
    for frame in beamline.frames[5:8]:
        watch.frame(frame)
    work(watch)
    assert told(service, "run", beamline.run) == []  # its start may be on its way
    clock.now_s += 1.0
    work(watch)
    assert told(service, "run", beamline.run)[0].fields["state"] == "started"
    for frame in beamline.frames[8:]:
        watch.frame(frame)
    watch.document(*beamline.stop)
    work(watch)
    assert_whole(service, beamline, received=7, lost=5, refilled=5)


@pytest.mark.parametrize("which", ["event", "stop", "descriptor"])
def test_a_run_that_began_without_us_is_picked_up_by_its_documents(service, watch, tmp_path, which):
    beamline = Beamline(tmp_path, 1)
    for document in beamline.beginning():
        journal.append(service.folder("documents") / f"{beamline.run}.jsonl", *document)
    watch.document(*getattr(beamline, which))
    assert told(service, "run", beamline.run)[0].fields["state"] == "started"
    watch.document(*beamline.stop)
    work(watch)
    assert_whole(service, beamline, received=0, refilled=NUM)


def test_a_run_that_stopped_while_we_were_away_is_finished_from_what_was_sent(service, watch, tmp_path):
    beamline = Beamline(tmp_path, 1)
    for document in [*beamline.beginning(), beamline.stop]:
        journal.append(service.folder("documents/sent") / f"{beamline.run}.jsonl", *document)
    watch.document(*beamline.stop)
    work(watch)
    assert_whole(service, beamline, refilled=NUM)
    assert [update.fields["state"] for update in told(service, "run", beamline.run)] == ["started", "stopped"]


def test_frames_of_a_run_that_nobody_knows_are_bounded(service, watch, clock, monkeypatch):
    monkeypatch.setattr(module, "EARLY_BYTES", 5 * SCAN.intensity[0].nbytes)
    for frame in frames_of(SCAN, uid(7)) + frames_of(SCAN, "../../etc/passwd"):
        watch.frame(frame)
        clock.now_s += 1.0
        work(watch)
    assert len(watch._early) == 5
    assert service.updates.sent == []


def test_frames_that_overtake_their_start_are_kept(service, watch, tmp_path):
    beamline = Beamline(tmp_path, 1)
    for frame in beamline.frames:
        watch.frame(frame)
    for document in [*beamline.beginning(), beamline.stop]:
        watch.document(*document)
    work(watch)
    assert_whole(service, beamline, received=NUM, refilled=0)


def test_documents_that_come_twice_do_nothing_twice(service, watch, tmp_path):
    beamline = Beamline(tmp_path, 1)
    for document in beamline.beginning():
        watch.document(*document)
        watch.document(*document)
    for frame in beamline.frames:
        watch.frame(frame)
    for _ in range(2):
        watch.document(*beamline.stop)
        work(watch)
    watch.document(*beamline.start)
    assert_whole(service, beamline, received=NUM, duplicates=0)
    assert [update.fields["state"] for update in told(service, "run", beamline.run)] == ["started", "stopped"]


def test_what_the_file_lacks_too_is_said(service, watch, tmp_path):
    beamline = Beamline(tmp_path, 1, unwritten=4)
    for document in beamline.beginning():
        watch.document(*document)
    watch.frame(beamline.frames[9])
    watch.document(*beamline.stop)
    work(watch)
    fields = told(service, "live", beamline.run)[-1].fields
    assert (fields["missing"], fields["refilled"], fields["count"]) == (3, 8, 9)


def test_a_run_without_a_file_ends_with_what_came_and_says_so(service, watch, tmp_path):
    beamline = Beamline(tmp_path, 1)
    watch.document(*beamline.start)
    for frame in beamline.frames[:5]:
        watch.frame(frame)
    watch.document(*beamline.stop)
    work(watch)
    assert told(service, "live", beamline.run)[-1].fields["missing"] == NUM - 5
    assert "could not be refilled: its documents name no frame file" in service.updates.sent[-3].fields["message"]
    assert told(service, "run", beamline.run)[-1].fields["state"] == "stopped"


def test_frames_of_another_shape_are_told_of_and_left_out(service, watch, tmp_path):
    beamline = Beamline(tmp_path, 1)
    for document in beamline.beginning():
        watch.document(*document)
    watch.frame(beamline.frames[0])
    watch.frame(replace(beamline.frames[1], image=np.zeros((3, 3), np.int32)))
    watch.document(*beamline.stop)
    work(watch)
    assert_whole(service, beamline, received=1, refilled=NUM - 1)
    assert "the others are" in told(service, "notice", beamline.run)[0].fields["message"]


def test_runs_share_the_memory_and_are_bounded_in_number(service, watch, tmp_path):
    frame_bytes = SCAN.intensity[0].nbytes
    # a beamline of 4 runs, each of which would fit alone
    service.config = service.config.changed(live={"edge_voxels": 16, "memory_mb": NUM * frame_bytes / 1e6})
    runs = [Beamline(tmp_path, number) for number in range(OPEN_RUNS + 2)]
    for beamline in runs:
        watch.document(*beamline.start)
        watch.frame(beamline.frames[0])
    assert list(watch._open) == [beamline.run for beamline in runs[2:]]
    limits = {watched.live.assembler.volume._limit_bytes for watched in watch._open.values()}
    assert limits == {NUM * frame_bytes // OPEN_RUNS}
    assert "runs are watched at once" in told(service, "notice", runs[0].run)[0].fields["message"]


def test_a_run_long_silent_makes_room_and_comes_back_with_its_next_frame(service, watch, clock, tmp_path):
    paused, other = Beamline(tmp_path, 1), Beamline(tmp_path, 2)
    for document in paused.beginning():
        journal.append(service.folder("documents") / f"{paused.run}.jsonl", *document)
        watch.document(*document)
    for frame in paused.frames[:6]:
        watch.frame(frame)
    clock.now_s += 3600.0
    watch.document(*other.start)
    assert list(watch._open) == [other.run]
    watch.frame(paused.frames[6])
    clock.now_s += 1.0
    work(watch)
    assert list(watch._open) == [other.run, paused.run]
    for frame in paused.frames[7:]:
        watch.frame(frame)
    watch.document(*paused.stop)
    work(watch)
    assert_whole(service, paused, lost=6, refilled=6)


def test_advice_is_told_when_it_changes_and_not_again(service, watch, clock, tmp_path):
    """One pixel of the second frame passes the saturation limit; in the end the peak is off the middle."""
    one = Beamline(tmp_path, 1)
    one.frames[1].image[8, 9] = 5000
    for document in one.beginning():
        watch.document(*document)
    for frame in one.frames:
        watch.frame(frame)
        clock.now_s += 2.0
        watch.tell()
    watch.document(*one.stop)
    work(watch)
    clock.now_s += 2.0
    watch.tell()
    clock.now_s += 2.0
    watch.tell()
    advice = [update.fields for update in told(service, "advice", one.run)]
    assert [fields["of"] for fields in advice] == ["scan"] * 3
    assert [[each["rule"] for each in fields["advice"]] for fields in advice] == [
        [],
        ["saturated"],
        ["saturated", "off_range"],
    ]
    assert "1 pixel reached the detector's limit of 1e+03 counts" in advice[1]["advice"][0]["why"]


def settled(estimate):
    job = Future()
    job.set_result(estimate)
    return job


def test_why_there_is_no_network_is_said_once_and_why_it_is_not_asked_once_a_run(service, watch, clock, tmp_path):
    beamline = Beamline(tmp_path, 1)
    watch._prepared.set_result("torch is not installed")
    for document in beamline.beginning():
        watch.document(*document)
    said = []
    for frame in beamline.frames:
        watch.frame(frame)
        clock.now_s += 1.0
        watch.tell()
        settle(watch, unlike="nearly empty" if len(said) < NUM - 1 else "two peaks")
        said.append(len(told(service, "notice", beamline.run)))
    for _ in range(3):
        clock.now_s += 1.0
        watch.tell()
    assert said == [0] * NUM, "of frames on the way nothing is said: few are often refused"
    messages = [update.fields["message"] for update in service.updates.sent if update.topic == "notice"]
    assert [message.rpartition(": ")[2] for message in messages] == ["torch is not installed", "two peaks"]


def settle(watch, **about):
    """End the estimate that is under way, if one is."""
    if watch._future is not None:
        watch._future = (*watch._future[:3], settled(estimate_of(**about)))


def asked(watch):
    """(frames that are there, whether all are) of each estimate that was begun."""
    jobs = [(args, kwargs) for job, args, kwargs in watch.estimator.all if job.__name__ == "estimate_run"]
    scans = [args[1] for args, _ in jobs]
    counts = [len(scan.intensity) if scan.have is None else int(scan.have.sum()) for scan in scans]
    return [(count, kwargs["whole"]) for count, (_, kwargs) in zip(counts, jobs)]


def test_refreshes_take_a_quarter_of_a_processor_and_the_last_waits_for_nothing(service, watch, clock, tmp_path):
    """A frame every 0.1 s, of which an estimate works for 0.075 s: every third is shown, and the last at once."""
    beamline = Beamline(tmp_path, 1)
    for document in beamline.beginning():
        watch.document(*document)
    for frame in beamline.frames:
        clock.now_s += 0.1
        watch.frame(frame)
        watch.tell()
        settle(watch, cpu_s=0.075)
        watch.tell()
    counts = asked(watch)
    assert counts[-1] == (NUM, True)
    assert [count for count, _ in counts[:-1]] == pytest.approx(list(range(1, NUM, 3)), abs=1)
    watch.document(*beamline.stop)
    work(watch)
    for _ in range(3):
        clock.now_s += 1.0
        settle(watch)
        watch.tell()
    assert asked(watch) == counts, "what was estimated whole is not estimated again"


def test_a_run_that_is_aborted_has_its_whole_estimate_too(service, watch, clock, tmp_path):
    beamline = Beamline(tmp_path, 1, unwritten=NUM - 5)
    for document in beamline.beginning():
        watch.document(*document)
    for frame in beamline.frames[:5]:
        watch.frame(frame)
    watch.tell()
    settle(watch)
    watch.document(*beamline.stop)
    work(watch)
    clock.now_s += 1.0
    watch.tell()
    assert asked(watch) == [(5, False), (5, True)]


def test_an_estimate_that_lost_its_worker_is_begun_again_three_times_at_most(service, watch, clock, tmp_path):
    beamline = Beamline(tmp_path, 1)
    for document in beamline.beginning():
        watch.document(*document)
    for frame in beamline.frames:
        watch.frame(frame)
    for _ in range(8):
        clock.now_s += 1.0
        watch.tell()
        if watch._future is not None:
            watch._future[3].set_exception(BrokenProcessPool("killed"))
    assert asked(watch) == [(NUM, True)] * (1 + module.MAX_WORKERS_LOST)


@pytest.mark.parametrize("phase_std_rad", [0.4, None])
def test_the_last_preview_of_a_run_is_kept_once(service, watch, clock, tmp_path, phase_std_rad):
    beamline = Beamline(tmp_path, 1)
    for document in beamline.beginning():
        watch.document(*document)
    for frame in beamline.frames:
        watch.frame(frame)
    for step in range(5):
        clock.now_s += 1.0
        watch.tell()
        if watch._future is not None:
            watch._future = (*watch._future[:3], settled(estimate_of(phase_std_rad=phase_std_rad)))
        if step == 1:
            assert "keep_preview" not in [job.__name__ for job, _ in watch.estimator.jobs], "the run is under way"
            watch.document(*beamline.stop)
            work(watch)
    kept = [args for job, args in watch.estimator.jobs if job.__name__ == "keep_preview"]
    if phase_std_rad is None:
        assert kept == []
    else:
        ((summary, storage, _),) = kept
        assert (summary["run"], summary["frames"], summary["num"], storage) == (
            *(beamline.run, NUM, NUM),
            service.directory,
        )


@pytest.mark.parametrize("ends", [True, False])
def test_a_run_keeps_its_preview_where_the_next_one_begins_before_it_is_there(service, watch, tmp_path, ends):
    """Unless its estimate of all frames fails: what there is of fewer is not that of the run."""
    one, two = Beamline(tmp_path, 1), Beamline(tmp_path, 2)
    for document in one.beginning():
        watch.document(*document)
    for frame in one.frames:
        watch.frame(frame)
    watch.tell()
    job = watch._future[3]
    watch.document(*one.stop)
    work(watch)
    for document in two.beginning():
        watch.document(*document)
    watch.frame(two.frames[0])
    watch._future[0].previous = estimate_of(phase_std_rad=0.9)
    if ends:
        watch._future = (*watch._future[:3], settled(estimate_of(phase_std_rad=0.4)))
    else:
        job.set_exception(ScanError("the counts do not fall off"))
    watch.tell()
    kept = [args[0]["run"] for name, args in watch.estimator.jobs if name.__name__ == "keep_preview"]
    assert kept == ([one.run] if ends else [])


def test_a_run_is_estimated_whole_where_the_next_one_begins_during_a_refresh(service, watch, tmp_path):
    one, two = Beamline(tmp_path, 1), Beamline(tmp_path, 2)
    for document in one.beginning():
        watch.document(*document)
    for frame in one.frames[:-1]:
        watch.frame(frame)
    watch.tell()
    assert asked(watch) == [(NUM - 1, False)]
    watch.frame(one.frames[-1])
    watch.document(*one.stop)
    work(watch)
    for document in two.beginning():
        watch.document(*document)
    settle(watch)
    watch.tell()
    assert asked(watch) == [(NUM - 1, False), (NUM, True)]


def estimate_of(*, phase_std_rad=None, unlike="", cpu_s=0.0):
    density = np.zeros((16, 16, 16), np.complex64)
    density[6:10, 6:10, 6:10] = 1
    return LiveEstimate(
        **{"density": density, "support": density.real > 0, "chi": 0.1, "frames": NUM, "seconds": 0.1},
        **{"voxel_nm": (1.0, 1.0, 1.0), "origin": (0.0, 0.0, 0.0), "q_centre_invA": (0.0, 0.0, 1.0)},
        pattern=PatternFacts(counts=1e6, oversampling=(4.0, 4.0, 4.0), asymmetry=0.1),
        phase_std_rad=phase_std_rad,
        unlike=unlike,
        cpu_s=cpu_s,
    )
