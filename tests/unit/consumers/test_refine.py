"""Whatever dies between a start and a result, the run is refined once somebody is there again."""

import errno
import json
import os
import signal
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from live_bcdi.cli import config_path
from live_bcdi.config import load_config
from live_bcdi.jobs import SchedulerAway, open_jobs
from live_bcdi.metadata import scan_metadata
from live_bcdi.offline import phase_to_file
from live_bcdi.sim import simulate_moving, simulate_scan
from live_bcdi.stream import journal
from live_bcdi.stream.fakes import RUN, start_document
from live_bcdi.transport.hdf5 import DATA_PATH, FrameWriter, read_result
from live_bcdi.types import ScanError, StorageError
from live_bcdi_consumers.backlog import Backlog
from live_bcdi_consumers.refine import MAX_TRIES, Refiner, _open_backlog
from live_bcdi_consumers.refining import refine_run
from live_bcdi_consumers.runs import Runs
from live_bcdi_consumers.tickets import Tickets


class Outbox:
    """A delivery that keeps what it gets."""

    def __init__(self):
        self.got = []

    def accept(self, name, summary):
        self.got.append(summary)

    def owed(self):
        return len(self.got)


class Refine:
    """The service's loop without its sockets."""

    def __init__(self, service):
        self.backlog = Backlog(service, service.config.jobs.waiting)
        self.runs = Runs(service, self.backlog)
        self.refined = []
        self.over = []
        jobs = open_jobs(service.config)
        self.refiner = Refiner(
            service, self.backlog, jobs, self.refined.append, lambda *run: self.over.append(run)
        )

    def measure(self, documents):
        for name, doc in documents:
            self.runs.document(name, doc, heard_s=time.time())

    def work(self, outbox):
        self.runs.work()
        self.refiner.work(outbox)

    def idle(self):
        return not any(self.backlog.counts(self.refiner._running).values())


def lying(service, folder):
    return sorted(path.name for path in service.folder(folder).glob("*.json"))


def said(service, topic):
    return [update.fields for update in service.updates.sent if update.topic == topic]


@pytest.fixture(scope="module")
def scan():
    settings = load_config(config_path("34idc"))
    return simulate_scan(shape=(16, 32, 32), photons=1e5, strain="weak", seed=1, config=settings)[0]


@pytest.fixture
def documents(scan, tmp_path):
    return documents_of(scan, tmp_path / "frames.h5")


def documents_of(scan, path):
    """Start, resource and stop of a run whose frames are on disk."""
    with FrameWriter(path, scan.intensity.shape[1:], scan.intensity.dtype, metadata=scan_metadata(scan)) as file:
        for index, image in enumerate(scan.intensity):
            file.append(image, angle_deg=float(scan.angles_deg[index]), monitor=1.0, timestamp_s=float(index))
    resource = {
        "uid": "r",
        "run_start": RUN,
        "uri": f"file://localhost{path}",
        "parameters": {"dataset": DATA_PATH},
    }
    stop = {"run_start": RUN, "uid": "s"}
    return [("start", start_document(scan)), ("stream_resource", resource), ("stop", stop)]


@pytest.fixture
def refiner(service):
    made = []

    def make():
        made.append(Refine(service))
        return made[-1]

    yield make
    for each in made:
        each.refiner.jobs.shutdown()


def worked(one, seconds=60.0):
    """The outbox after all that can be done is done."""
    outbox = Outbox()
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        one.work(outbox)
        if one.idle():
            return outbox
        time.sleep(0.02)
    pytest.fail("the refiner did not come to an end")


def test_a_run_is_under_way_from_its_start_to_its_stop(refiner, documents):
    one, seen = refiner(), []
    for document in documents:
        seen.append(one.runs.under_way)
        one.measure([document])
    assert [*seen, one.runs.under_way] == [False, True, True, False]


def test_a_run_is_refined(refiner, documents, service, caplog):
    caplog.set_level("INFO")
    one = refiner()
    one.measure(documents)
    (summary,) = worked(one).got
    assert (summary["run"], summary["frames"], summary["missing"]) == (RUN, 16, [])
    assert len(lying(service, "queue/done")) == len(one.over) == 1
    assert lying(service, "queue") == lying(service, "queue/open") == []
    assert 0 < summary["stop_to_result_s"] < 60
    assert summary["last_frame_to_result_s"] is None, "the frames' times are not of this epoch"
    (line,) = [each for each in caplog.records if each.getMessage().startswith("result written")]
    assert line.getMessage().endswith(
        f"{summary['stop_to_result_s']:.1f} s after the stop, unknown after the last frame"
    )
    (told,) = [fields for fields in said(service, "advice")]
    assert told["of"] == "result" and "advice" not in summary
    assert all(each["rule"] and each["what"] and each["why"] for each in told["advice"])
    jobs = [job for fields in said(service, "queue") for job in fields["jobs"]]
    assert {(job["run"], job["name"]) for job in jobs} == {(RUN, summary["name"])}
    assert said(service, "queue")[-1]["jobs"] == []
    assert not list(service.folder("progress").iterdir())
    assert line.run == RUN and all(summary[name] == value for name, value in line.fields.items())


def test_motion_is_corrected_live_as_offline(service, refiner, tmp_path):
    """The same bits as `live-bcdi phase --correct` of the same file, and not those of the frames as they came."""
    index = np.arange(32)
    offsets = 0.6 * np.random.default_rng(0).normal(size=32)
    offsets -= np.polyval(np.polyfit(index, offsets, 1), index)
    moved, _ = simulate_moving(
        config=load_config(config_path("34idc")), offsets_steps=offsets, detector=(32, 32), photons=1e6
    )
    table = {"correct_motion": True, "binning": (1, 1, 1)}
    quick = {"recipe": "2*ER", "starts": 1}
    service.config = service.config.changed(preprocess=table, phasing=quick)
    one = refiner()
    one.measure(documents_of(moved, tmp_path / "moved.h5"))
    live = read_result(Path(worked(one).got[0]["file"]))
    assert live.provenance["motion"].startswith("corrected: ")
    for name, correct in (("still.cxi", False), ("corrected.cxi", True)):
        config = service.config.changed(preprocess={**table, "correct_motion": correct})
        phase_to_file(str(tmp_path / "moved.h5"), tmp_path / name, config)
    np.testing.assert_array_equal(read_result(tmp_path / "corrected.cxi").density, live.density)
    assert not np.array_equal(read_result(tmp_path / "still.cxi").density, live.density)


def test_a_run_is_refined_with_what_the_configuration_says(refiner, documents, service):
    preprocess = {"shape": (16, 24, 20), "aliens": True}
    service.config = service.config.changed(preprocess=preprocess, crystal={"window": "blackman"})
    one = refiner()
    one.measure(documents)
    result = read_result(Path(worked(one).got[0]["file"]))
    assert result.density.shape == (16, 24, 20)
    assert json.loads(result.provenance["preprocessing"])["aliens"]
    assert json.loads(result.provenance["crystal"])["window"] == "blackman"


def test_killed_between_start_and_stop_with_the_archiver_awake(refiner, documents, service):
    refiner().measure(documents[:2])
    for name, doc in documents:  # what the archiver wrote down meanwhile
        journal.append(service.folder("documents") / f"{RUN}.jsonl", name, doc)
    assert worked(refiner()).got[0]["frames"] == 16


def test_away_for_the_whole_run(refiner, documents, service):
    for name, doc in documents:
        journal.append(service.folder("documents/sent") / f"{RUN}.jsonl", name, doc)
    assert worked(refiner()).got[0]["frames"] == 16
    assert worked(refiner()).got == [], "a run that is done is not done again"


def test_nobody_saw_the_stop_of_a_whole_scan(refiner, documents):
    refiner().measure(documents[:2])
    assert worked(refiner()).got[0]["frames"] == 16


def test_nobody_saw_the_stop_of_an_aborted_scan(refiner, documents, tmp_path):
    start = documents[0][1]
    start["live_bcdi"]["planned"]["num"] = 20
    refiner().measure(documents[:2])
    assert worked(refiner()).got == [], "it may still be measured"
    long_ago = time.time() - 3600
    os.utime(tmp_path / "frames.h5", (long_ago, long_ago))
    assert worked(refiner()).got[0]["missing"] == [16, 17, 18, 19]


def test_a_worker_that_always_dies_is_given_up(refiner, documents, service, monkeypatch):
    monkeypatch.setattr("live_bcdi_consumers.refine.refine_run", kill_worker)
    one = refiner()
    one.measure(documents)
    assert worked(one).got == []
    (result,) = said(service, "result")
    assert "lost its process (out of memory?), 3 times" in result["error"]
    assert "[preprocess] binning" in result["error"]
    assert len(lying(service, "queue/failed")) == 1


def kill_worker(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_full_disk_keeps_the_ticket(refiner, documents, service, monkeypatch):
    monkeypatch.setattr("live_bcdi_consumers.refine.PAUSE_S", 0.5)
    one = refiner()
    one.measure(documents)
    outbox = Outbox()
    with monkeypatch.context() as full:
        full.setattr("live_bcdi_consumers.refine.refine_run", no_room)
        full.setattr("live_bcdi_consumers.refine.has_room", lambda folder: False)
        while not said(service, "notice"):
            one.work(outbox)
        assert not one.refiner.busy
        assert len(lying(service, "queue")) == 1
    assert "the disk is full" in said(service, "notice")[0]["message"]
    assert worked(one).got[0]["frames"] == 16
    assert len(said(service, "notice")) == 1, "said once, not at every look"


def no_room(*_):
    raise StorageError("result.cxi could not be written: the disk is full")


@pytest.mark.parametrize("text", ["", "{", "[1]", "null"])
def test_an_unreadable_ticket_is_put_aside_and_holds_up_nobody(tmp_path, text):
    tickets = Tickets(tmp_path)
    tickets.put("2_good", {"a": 1})
    (tmp_path / "1_bad.json").write_text(text)
    assert list(tickets) == [("2_good", {"a": 1})]
    assert (tmp_path / "1_bad.unreadable").read_text() == text


def test_foreign_and_hostile_documents_are_passed_by(refiner, documents):
    one = refiner()
    for doc in ({}, {"uid": "../../x"}, {"uid": RUN}, {"uid": RUN, "live_bcdi": [1]}, {"uid": 5, "live_bcdi": {}}):
        one.runs.document("start", doc)
    one.runs.document("stop", {"run_start": "never-started"})
    one.runs.document("descriptor", {})
    one.measure(documents)
    assert worked(one).got[0]["frames"] == 16


def test_memory_that_ran_out_is_said_with_what_to_do(refiner, documents, service, monkeypatch):
    monkeypatch.setattr("live_bcdi_consumers.refine.refine_run", ask_for_a_petabyte)
    one = refiner()
    one.measure(documents)
    assert worked(one).got == []
    (result,) = said(service, "result")
    assert "ran out of memory (Unable to allocate" in result["error"]
    assert "bin or cut the volume ([preprocess] binning, shape)" in result["error"]


def ask_for_a_petabyte(*_):
    return np.empty(2**50, np.uint8)


def test_what_has_died_is_tried_again_alone(refiner, documents, service, monkeypatch, tmp_path):
    """Another's death is not its own: of three runs at a time, only the one that kills its worker counts tries."""
    service.config = service.config.changed(jobs={"workers": 3})
    monkeypatch.setattr("live_bcdi_consumers.refine.refine_run", kill_or_log)
    one = refiner()
    submit, beside = one.refiner.jobs.submit, []

    def noted(job, ticket, *rest):
        beside.append((ticket["start"]["uid"], len(one.refiner._running)))
        return submit(job, ticket, *rest)

    one.refiner.jobs.submit = noted
    for uid in ("good-1", "bad", "good-2"):
        one.measure(of_run(documents, uid))
    outbox = worked(one)
    assert {summary["run"] for summary in outbox.got} == {"good-1", "good-2"}
    assert [name.partition("_")[2] for name in lying(service, "queue/failed")] == ["bad.json"]
    begun = (service.directory / "results" / "log").read_text().split()
    assert begun.count("bad") == MAX_TRIES
    assert begun.count("good-1") == begun.count("good-2") == 1
    assert [others for run, others in beside if run == "bad"][1:] == [0, 0], "tried again while no other runs"


def kill_or_log(ticket, results, *_):
    run = ticket["start"]["uid"]
    with (results / "log").open("a") as file:
        file.write(run + "\n")
    if run == "bad":
        kill_worker()
    time.sleep(1.5 if run.startswith("good") else 0.0)
    return {"run": run}


def of_run(documents, uid, stopped_s=None):
    """The same documents of another run."""
    other = []
    for name, doc in documents:
        key = "uid" if name == "start" else "run_start"
        extra = {"time": stopped_s} if name == "stop" and stopped_s is not None else {}
        other.append((name, {**doc, key: uid, **extra}))
    return other


def test_the_newest_run_goes_first_and_too_many_are_put_off(refiner, documents, service, monkeypatch):
    service.config = service.config.changed(jobs={"workers": 1, "waiting": 2})
    monkeypatch.setattr("live_bcdi_consumers.refine.refine_run", kill_or_log)
    one = refiner()
    outbox = Outbox()
    one.measure(of_run(documents, "run-0", 1e9))
    one.work(outbox)
    for number in (3, 1, 5, 2, 4):
        one.measure(of_run(documents, f"run-{number}", 1e9 + number))
    one.work(outbox)
    told = said(service, "queue")[-1]
    assert [job["run"] for job in told.pop("jobs")] == ["run-0"]
    assert told == {"running": 1, "waiting": 2, "later": 3, "outbox": 0}
    assert [name.partition("_")[2] for name in lying(service, "queue/later")] == [
        f"run-{n}.json" for n in (1, 2, 3)
    ]
    outbox = worked(one)
    assert [summary["run"][-1] for summary in outbox.got] == ["0", "5", "4", "3", "2", "1"]
    assert len([notice for notice in said(service, "notice") if "runs come faster" in notice["message"]]) == 1
    assert said(service, "queue")[-1] == {"running": 0, "waiting": 0, "later": 0, "outbox": 6, "jobs": []}


def test_documents_that_come_again_refine_nothing_again(refiner, documents, service):
    one = refiner()
    start, resource, stop = documents
    one.measure([start, start, resource, resource, start, stop, stop, start, resource, stop])
    assert len(worked(one).got) == 1
    one.measure(documents)
    assert worked(one).got == []
    assert worked(refiner()).got == []
    assert lying(service, "queue/open") == []


def test_a_run_that_failed_is_tried_again_when_its_documents_come_again(refiner, documents, service, tmp_path):
    one = refiner()
    (tmp_path / "frames.h5").rename(tmp_path / "elsewhere.h5")
    one.measure(documents)
    assert worked(one).got == []
    assert "frames.h5 cannot be read: there is no such file" in said(service, "result")[0]["error"]
    assert worked(refiner()).got == [], "nobody asked for it again"
    (tmp_path / "elsewhere.h5").rename(tmp_path / "frames.h5")
    one.measure(documents)
    assert worked(one).got[0]["frames"] == 16
    assert lying(service, "queue/failed") == []


def test_a_run_without_a_file_of_frames_fails_after_its_stop(refiner, documents, service, monkeypatch):
    monkeypatch.setattr("live_bcdi_consumers.runs.LOOK_BACK_S", 0.0)
    monkeypatch.setattr("live_bcdi_consumers.runs.NAMELESS_S", -1.0)
    start, _, stop = documents
    one = refiner()
    one.measure([start, stop])
    assert worked(one).got == []
    assert "name no frame file" in said(service, "result")[0]["error"]


def test_a_truncated_file_is_one_clear_failure(refiner, documents, service, tmp_path):
    path = tmp_path / "frames.h5"
    path.write_bytes(path.read_bytes()[:-200])
    one = refiner()
    one.measure(documents)
    assert worked(one).got == []
    assert "it is truncated" in said(service, "result")[0]["error"] and len(one.over) == 1


def test_an_open_run_whose_file_vanished_ends_after_a_day(refiner, documents, service, tmp_path):
    (tmp_path / "frames.h5").unlink()
    one = refiner()
    one.measure(documents[:2])
    assert worked(one).got == []
    assert lying(service, "queue/open") == [f"{RUN}.json"]
    long_ago = time.time() - 90000
    os.utime(service.folder("queue/open") / f"{RUN}.json", (long_ago, long_ago))
    assert worked(refiner()).got == []
    assert "there is no such file" in said(service, "result")[0]["error"]
    assert lying(service, "queue/open") == []


@pytest.mark.parametrize("time_s", [None, "now", float("nan"), float("inf"), -5, 1e300])
def test_a_stop_with_a_senseless_time_is_a_stop_now(refiner, documents, service, time_s):
    documents[-1][1]["time"] = time_s
    refiner().measure(documents)
    (name,) = lying(service, "queue")
    assert abs(float(name.partition("_")[0]) - time.time()) < 60


def test_what_a_full_disk_did_not_take_is_noted_later(refiner, documents, service, monkeypatch):
    monkeypatch.setattr("live_bcdi_consumers.runs.NOTE_AGAIN_S", 0.0)
    one = refiner()
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", no_space)
        one.measure(documents)
        one.runs.work()
        assert lying(service, "queue/open") == []
    assert len([notice for notice in said(service, "notice") if "not noted" in notice["message"]]) == 1
    assert worked(one).got[0]["frames"] == 16


def test_a_run_found_by_its_file_is_owed_once_the_disk_has_room(refiner, documents, service, monkeypatch):
    monkeypatch.setattr("live_bcdi_consumers.runs.LOOK_BACK_S", 0.0)
    one = refiner()
    one.measure(documents[:2])
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", no_space)
        one.runs.work()
        one.runs.work()
        assert lying(service, "queue") == []
    assert len([notice for notice in said(service, "notice") if "not noted" in notice["message"]]) == 1
    assert worked(one).got[0]["frames"] == 16


def no_space(_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_result_that_cannot_be_noted_is_not_lost(refiner, documents, service, monkeypatch):
    """The disk fills up between the result file and its tickets."""
    monkeypatch.setattr("live_bcdi_consumers.refine.PAUSE_S", 0.0)
    one = refiner()
    one.measure(documents)
    outbox = Outbox()
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", no_space)
        while not said(service, "notice"):
            one.work(outbox)
    assert lying(service, "queue/done") == []
    outbox = worked(one)
    assert len(outbox.got) == 1
    assert len(lying(service, "queue/done")) == 1
    assert len(list(service.folder("results").glob("*.cxi"))) == 1, "it was not refined again"


class Cluster:
    """A scheduler that is away at first, and away again under the first job."""

    alone_helps = False

    def __init__(self, jobs):
        self._jobs, self.away, self.lost = jobs, 3, 1

    def places(self):
        return 1

    def submit(self, job, *args):
        if self.away:
            self.away -= 1
            raise SchedulerAway("the dask scheduler cannot be reached")
        if self.lost:
            self.lost -= 1
            future = Future()
            future.set_exception(SchedulerAway("the dask scheduler cannot be reached"))
            return future
        return self._jobs.submit(job, *args)

    def shutdown(self):
        self._jobs.shutdown()


def test_a_scheduler_that_is_away_costs_no_try(refiner, documents, service, monkeypatch):
    monkeypatch.setattr("live_bcdi_consumers.refine.PAUSE_S", 0.0)
    one = refiner()
    one.refiner.jobs = Cluster(one.refiner.jobs)
    one.measure(documents)
    assert worked(one).got[0]["frames"] == 16
    assert len(said(service, "notice")) == 1


def test_killed_between_noting_a_result_and_closing_its_ticket(refiner, documents, service):
    """It is owed to Tiled, or was, and its ticket still lies there: nobody refines it again."""
    one = refiner()
    one.measure(documents)
    (summary,) = worked(one).got
    name = lying(service, "queue/done")[0].removesuffix(".json")
    ticket = {"start": documents[0][1], "file": "frames.h5", "tries": 0}
    for folder in ("queue", "queue/later"):
        Tickets(service.folder(folder)).put(name, ticket)
    assert worked(refiner()).got == []
    Tickets(service.folder("queue/done")).drop(name)
    Tickets(service.folder("queue")).put(name, ticket)
    Tickets(service.folder("outbox")).put(name, summary)
    assert worked(refiner()).got == []
    assert lying(service, "queue") == lying(service, "queue/later") == []
    assert Tickets(service.folder("queue/done")).names() == [name]


def test_killed_between_owing_a_run_and_closing_it(refiner, documents, service):
    """The open ticket of a run that is refined by now does not have it refined again."""
    one = refiner()
    one.measure(documents[:2])
    opened = dict(Tickets(service.folder("queue/open")))[RUN]
    one.measure(documents[2:])
    assert len(worked(one).got) == 1
    Tickets(service.folder("queue/open")).put(RUN, opened)
    assert worked(refiner()).got == []
    assert lying(service, "queue/open") == []


def test_the_file_of_a_run_went_past_us_with_its_stop(refiner, documents, service, monkeypatch):
    """Both in the journal that the archiver has meanwhile."""
    monkeypatch.setattr("live_bcdi_consumers.runs.LOOK_BACK_S", 0.1)
    one = refiner()
    one.measure(documents[:1])
    worked_once = Outbox()
    one.work(worked_once)
    for name, doc in documents:
        journal.append(service.folder("documents") / f"{RUN}.jsonl", name, doc)
    while not worked_once.got:
        one.work(worked_once)
        time.sleep(0.02)
    assert worked_once.got[0]["frames"] == 16
    assert lying(service, "queue/open") == lying(service, "queue/failed") == []


def test_only_the_file_of_a_run_went_past_us(refiner, documents, service, monkeypatch):
    """The broker came back just before the stop, the archiver with the name after it. Found by the soak."""
    monkeypatch.setattr("live_bcdi_consumers.runs.LOOK_BACK_S", 0.1)
    one, outbox = refiner(), Outbox()
    one.measure([document for document in documents if document[0] != "stream_resource"])
    one.work(outbox)
    assert lying(service, "queue/failed") == []
    for name, doc in documents:
        journal.append(service.folder("documents") / f"{RUN}.jsonl", name, doc)
    while not outbox.got:
        one.work(outbox)
        time.sleep(0.02)
    assert outbox.got[0]["frames"] == 16
    assert lying(service, "queue/open") == lying(service, "queue/failed") == []


def test_a_run_of_which_no_document_came_is_found_without_a_restart(refiner, documents, service, monkeypatch):
    """The broker died with its start, and the archiver has it from the RunEngine's journal."""
    monkeypatch.setattr("live_bcdi_consumers.runs.LOOK_BACK_S", 0.1)
    one, outbox = refiner(), Outbox()
    one.work(outbox)
    for name, doc in documents:
        journal.append(service.folder("documents/sent") / f"{RUN}.jsonl", name, doc)
    while not outbox.got:
        one.work(outbox)
        time.sleep(0.02)
    assert outbox.got[0]["frames"] == 16


def test_a_full_disk_at_the_start_is_waited_for(service, monkeypatch):
    name = f"1.000000_{RUN}"
    Tickets(service.folder("outbox")).put(name, {"run": RUN})  # and killed before it was noted as done
    Tickets(service.folder("queue")).put(name, {"start": {"uid": RUN}})
    put, tries = Tickets.put, []

    def full_at_first(self, *ticket):
        tries.append(ticket)
        if len(tries) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        put(self, *ticket)

    monkeypatch.setattr(Tickets, "put", full_at_first)
    backlog = _open_backlog(service)
    assert backlog.has(RUN) and not lying(service, "queue") and len(lying(service, "queue/done")) == 1
    assert len(said(service, "notice")) == 1 and "No space left" in said(service, "notice")[0]["message"]


def test_who_ends_while_it_waits_for_the_disk_ends(service, monkeypatch):
    def full(service, most):
        service.stopping.set()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("live_bcdi_consumers.refine.Backlog", full)
    assert _open_backlog(service) is None


def test_half_a_ticket_of_who_was_killed_goes(tmp_path):
    half = tmp_path / "1_run.partial"
    half.write_text('{"st')
    Tickets(tmp_path)
    assert not half.exists()


def test_a_worker_that_does_not_see_the_storage_says_so_before_the_work(service, documents, tmp_path):
    with pytest.raises(ScanError, match="same paths"):
        refine_run({"start": documents[0][1], "file": "frames.h5"}, tmp_path / "elsewhere", service.config)


def test_a_refinement_says_how_far_it_is_while_it_works(refiner, documents, service, monkeypatch):
    """From its own process, with a share that rises and a text; at 1 s between words, it works for longer."""
    monkeypatch.setattr("live_bcdi_consumers.refine.TELL_RUNNING_S", 0.05)
    service.config = service.config.changed(phasing={"recipe": "6000*ER", "starts": 2, "threads": 1})
    one = refiner()
    one.measure(documents)
    (summary,) = worked(one).got
    jobs = [job for fields in said(service, "queue") for job in fields["jobs"]]
    shares = [job["share"] for job in jobs if job["share"] is not None]
    assert len(set(shares)) > 1 and shares == sorted(shares) and shares[-1] <= 1.0
    assert any("of 6000" in job["text"] for job in jobs)
    assert any(job["left_s"] is not None and job["left_s"] < 100 * summary["seconds"] for job in jobs)
    assert jobs[0]["share"] is None, "before its process is there, nothing is known"
