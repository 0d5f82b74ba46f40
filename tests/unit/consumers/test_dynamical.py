"""Results whose crystal needs more than a Fourier transform are refined further when nothing else is to be done,
whoever is killed; a failure leaves the kinematical one."""

import errno
import hashlib
import os
import time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import pytest

from live_bcdi.dynamical.checkpoint import Checkpoint
from live_bcdi.metadata import scan_metadata
from live_bcdi.stream.fakes import RUN, start_document
from live_bcdi.transport.hdf5 import FrameWriter, read_result, write_result
from live_bcdi.types import ScanError, StorageError
from live_bcdi_consumers import delivery as delivery_module
from live_bcdi_consumers import dynamical as module
from live_bcdi_consumers import errands as errand_module
from live_bcdi_consumers.backlog import Backlog
from live_bcdi_consumers.delivery import Delivery
from live_bcdi_consumers.dynamical import Dynamical, OverBudget, Paced
from live_bcdi_consumers.errands import Errands
from live_bcdi_consumers.refining import refine_run
from live_bcdi_consumers.tickets import Tickets

NAME = f"1790000000.000000_{RUN}"
RECIPE = "2*(20*ER + 80*HIO(beta=0.9) + ShrinkWrap(sigma=1.0, threshold=0.15)) + 50*ER"
TABLES = {
    "sample": {"formula": "Au", "hkl": (0, 0, 2)},
    "phasing": {"recipe": RECIPE, "starts": 1, "device": "cpu", "threads": 1},
    "preprocess": {"binning": (1, 1, 1)},
    "dynamical": {"epochs": 60, "smoothings": (6.0,)},
}


@pytest.fixture(scope="module")
def measured(gold, tmp_path_factory):
    """The file of a scan of a micrometre of gold, and its start document."""
    scan, path = replace(gold(1e-6), hkl=(0.0, 0.0, 2.0)), tmp_path_factory.mktemp("gold") / "frames.h5"
    with FrameWriter(path, scan.intensity.shape[1:], scan.intensity.dtype, metadata=scan_metadata(scan)) as file:
        for index, image in enumerate(scan.intensity):
            file.append(image, angle_deg=float(scan.angles_deg[index]), monitor=1.0, timestamp_s=float(index))
    return {"start": start_document(scan), "file": str(path), "tries": 0}


@pytest.fixture(scope="module")
def phased(measured, tmp_path_factory):
    """What refine says of its result, and that file."""
    folder = tmp_path_factory.mktemp("results")
    settings = module_config().changed(storage={"directory": str(folder)}, **TABLES)
    (folder / "results").mkdir()
    return refine_run(measured, folder / "results", settings)


def module_config():
    from live_bcdi.config import parse_config

    return parse_config(
        {
            "beamline": "test",
            "diffractometer": {"rocking": "theta", "sample": [{"motor": "theta", "axis": "y+"}]},
            "detector": {"pixel_um": [55, 55], "arm_pixel": [3, 2], "rows": "y-", "columns": "x+"},
        }
    )


@pytest.fixture
def summary(service, phased):
    """Of the result in this test's own folder."""
    service.config = service.config.changed(**TABLES)
    file = service.folder("results") / "gold_1.cxi"
    file.write_bytes(Path(phased["file"]).read_bytes())
    return {**phased, "file": str(file)}


class Away:
    """A pool whose jobs end as `ends` says, in turn."""

    def __init__(self, *ends):
        self.ends, self.given = list(ends), []

    def submit(self, job, *arguments):
        self.given.append(arguments)
        future = Future()
        end = self.ends.pop(0) if self.ends else None
        if isinstance(end, BaseException):
            future.set_exception(end)
        elif end is not None:
            future.set_result(end)
        return future

    def shutdown(self):
        """Nothing runs."""


class Further:
    """The errand with a pool of the test's, or with its own; each `turn` is one in which it is time."""

    def __init__(self, service, pool=None):
        self.owed = []
        self.errand = Dynamical(service, lambda *told: self.owed.append(told))
        if pool is not None:
            self.errand.pool = lambda: pool
        self.errands = Errands(service, self.errand)

    def turn(self, *, free=True):
        self.errands._next_s = 0.0
        self.errands.work(free=free)

    def until(self, look, seconds=60.0):
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            self.turn()
            if look():
                return
            time.sleep(0.02)
        pytest.fail(f"it did not happen in {seconds} s")


@pytest.fixture
def further(service, monkeypatch):
    made = []

    def make(pool=None):
        made.append(Further(service, pool))
        return made[-1]

    yield make
    for each in made:
        each.errands.stop()


def names(service, folder):
    return sorted(path.name for path in service.folder(folder).iterdir())


def checksum(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_it_gives_way_goes_on_and_is_owed_beside(service, further, measured, summary, monkeypatch):
    """Its process is ended when a scan comes, and is not begun while one is there; what was done is not done
    again."""
    before = checksum(summary["file"])
    one = further()
    one.errands.add(NAME, measured, summary)
    one.turn(free=False)
    assert not one.errands.busy
    told = []

    def twin():
        for job in one.errand.jobs(time.monotonic()):
            told.append(job)
        return told and told[-1]["text"].startswith("twin")

    one.until(twin)
    assert told[-1]["run"] == RUN and told[-1]["name"].endswith("(dynamical)")
    one.turn(free=False)
    assert not one.errands.busy and one.errand.jobs(0.0) == [] and one.owed == []
    assert names(service, "queue/dynamical") == [f"{NAME}.json", f"{NAME}.npz"]
    assert names(service, "progress") == []
    one.errands.stop()

    told.clear()
    one = further()  # as of another process
    one.until(lambda: twin() is None or one.owed)
    assert not any(job["text"].startswith("retrieved, ") for job in told)
    ((name, found),) = one.owed
    assert (
        name == NAME
        and found["file"].endswith("gold_1_dynamical.cxi")
        and found["started_from"] == summary["file"]
    )
    assert names(service, "queue/dynamical") == names(service, "progress") == []
    assert checksum(summary["file"]) == before
    result = read_result(Path(found["file"]))
    assert result.provenance["model"] == found["rung"] == "dynamical"

    delivery, stored = Delivery(service), []
    delivery.accept_dynamical(name, found)
    assert delivery.owed() == 1 and service.updates.sent == [], "its ticket may go before it is shown"
    delivery._show()
    (shown,) = [each for each in service.updates.sent if each.topic == "estimate"]
    assert (shown.run, shown.fields["kind"], shown.fields["rung"]) == (RUN, "dynamical", "dynamical")
    assert shown.fields["free_misfit"] == found["free_misfit"] is not None, "by which the page shows it or not"
    assert not [each for each in service.updates.sent if each.topic == "result"], (
        "the result is the kinematical one"
    )
    monkeypatch.setattr("live_bcdi_consumers.delivery.connect", lambda config: "root")
    monkeypatch.setattr(
        "live_bcdi_consumers.delivery.store_result", lambda *where, kind: stored.append((where, kind)) or "a place"
    )
    delivery.work()
    ((where, kind),) = stored
    assert kind == "dynamical" and where[1] == RUN and where[3]["raw"] == f"raw/{RUN}" and "kind" not in where[3]
    assert delivery.owed() == 0


def test_what_tiled_refused_comes_back_as_what_it_was(service, summary, monkeypatch):
    """Moved back one folder, as `live-bcdi doctor` says, which is the box of refined results."""
    delivery, kinds, refusing = Delivery(service), [], [True]

    def store(*where, kind):
        if refusing:
            raise ValueError("no")
        return kinds.append(kind) or "a place"

    monkeypatch.setattr("live_bcdi_consumers.delivery.connect", lambda config: "root")
    monkeypatch.setattr("live_bcdi_consumers.delivery.require_answer", lambda config: None)
    monkeypatch.setattr("live_bcdi_consumers.delivery.store_result", store)
    del summary["advice"]  # which refine tells apart
    delivery.accept_dynamical(NAME, summary)
    for _ in range(delivery_module.MAX_TRIES):
        delivery._next_s = 0.0
        delivery.work()
    refused = service.folder("outbox/refused") / f"{NAME}_dynamical.json"
    refused.replace(service.folder("outbox") / refused.name)
    refusing.clear()
    assert Backlog(service, 9)._done.names() == [], "it is not taken for the run's own result"
    delivery = Delivery(service)
    delivery.work()
    assert kinds == ["dynamical"] and delivery.owed() == 0


def test_a_result_asks_for_it_by_its_rung(service, further, measured, summary):
    assert summary["rung"] == "dynamical"
    one = further()
    for rung, owed in (("kinematical", 0), ("refraction", 0), (None, 0), ("refracted-model", 1), ("dynamical", 1)):
        one.errands.add(rung or "unknown", measured, {**summary, "rung": rung})
        assert len(one.errands._tickets.names()) == owed
        one.errands._tickets.drop(str(rung))
    one.errands.add(NAME, measured, None)
    service.config = service.config.changed(dynamical={"automatic": False})
    one.errands.add(NAME, measured, summary)
    assert one.errands._tickets.names() == [], "a run without a result, and none where nobody asks"


@pytest.mark.parametrize(
    "error",
    [
        ScanError("the refinement diverged: take a smaller step"),
        ScanError("material unknown: set [sample] formula, or cif"),
        StorageError("no room: the disk is full"),
        OverBudget("it would take 40 min here"),
        KeyError("start"),
    ],
)
def test_what_cannot_be_done_is_told_and_ends(service, further, measured, summary, caplog, error):
    pool = Away(error)
    one = further(pool)
    one.errands.add(NAME, measured, summary)
    one.turn()
    (service.folder("queue/dynamical") / f"{NAME}.npz").write_bytes(b"a checkpoint")
    (service.folder("queue/dynamical") / f".{NAME}.1-ab.partial.npz").write_bytes(b"half of one")
    one.turn()
    assert names(service, "queue/dynamical") == [] and one.owed == []
    assert "the kinematical result stands" in caplog.text and str(error) in caplog.text
    assert Path(summary["file"]).exists()
    one.turn()
    assert len(pool.given) == 1


def test_a_process_that_dies_is_asked_again_but_not_for_ever(service, further, measured, summary, caplog):
    pool = Away(*[BrokenProcessPool("killed")] * 9)
    one = further(pool)
    one.errands.add(NAME, measured, summary)
    checkpoint = service.folder("queue/dynamical") / f"{NAME}.npz"
    for _ in range(errand_module.MAX_TRIES):
        one.turn()
        assert "the kinematical result stands" not in caplog.text and NAME in one.errands._tickets.names()
        checkpoint.write_bytes(b"a checkpoint")
    one.turn()
    assert names(service, "queue/dynamical") == [] and len(pool.given) == errand_module.MAX_TRIES
    assert "the kinematical result stands" in caplog.text


def test_tries_count_also_where_a_full_disk_does_not_take_them(service, further, measured, summary, monkeypatch):
    pool = Away(*[BrokenProcessPool("killed")] * 9)
    one = further(pool)
    one.errands.add(NAME, measured, summary)

    def full(name, ticket):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(one.errands._tickets, "put", full)
    for _ in range(errand_module.MAX_TRIES + 2):
        one.turn()
    assert names(service, "queue/dynamical") == [] and len(pool.given) == errand_module.MAX_TRIES


def test_the_newest_goes_first_and_the_older_is_not_lost(service, further, measured, summary):
    pool = Away()
    one = further(pool)
    for stamp in (1, 3, 2):
        one.errands.add(f"{stamp}_{RUN}", measured, {**summary, "name": f"scan {stamp}"})
    one.turn()
    one.turn(free=False)
    one.errands.add(f"4_{RUN}", measured, {**summary, "name": "scan 4"})
    one.turn()
    assert [given[0]["name"] for given in pool.given] == ["scan 3", "scan 4"]
    assert len(one.errands._tickets.names()) == 4
    assert names(service, "progress") == []


def test_who_was_killed_before_it_was_told_tells_it(service, further, measured, summary):
    """The file is there, and nothing is computed again; but one that was made by hand of another material, or of
    another result, is none of ours."""
    ticket = further().errand.ticket(measured, summary)
    source = module._source_of(ticket)
    need = module.needed(source.scan, source.result, service.config)

    def written(name, reflection, kept):
        told = {"model": "dynamical", "rung": "why", "refined": f"{reflection}; how"}
        path = Path(summary["file"]).with_name(name)
        done = replace(source.result, provenance=told)
        write_result(path, done, scan_name="gold", run=RUN, links={"kinematical": kept})
        return path

    written("gold_1_dynamical.cxi", "Pt (1 1 1)", summary["file"])
    written("gold_1_dynamical_2.cxi", need.reflection, "/elsewhere/gold_1.cxi")
    kept = Path(summary["file"])
    assert module._place(kept, need) == (kept.with_name("gold_1_dynamical_3.cxi"), None)
    path = written("gold_1_dynamical_3.cxi", need.reflection, summary["file"])
    found = module.climb_run(ticket, service.folder("queue/dynamical") / "x.npz", service.config, never)
    assert (found["rung"], found["why"], found["file"]) == ("dynamical", "why", str(path))
    assert {"run", "name", "frames", "num", "chi", "seconds", "resolution_nm"} <= found.keys()


def never(share, text):
    pytest.fail("it was refined again")


def test_a_crystal_that_needs_no_more_by_now_is_told_and_ends(service, further, measured, summary, caplog):
    """What it needs may be set otherwise while its ticket waits."""
    ticket = further().errand.ticket(measured, summary)
    service.config = service.config.changed(dynamical={"rung": "kinematical"})
    with pytest.raises(ScanError, match="needs no more by now"):
        module.climb_run(ticket, service.folder("queue/dynamical") / "x.npz", service.config)
    one = further(Away({"run": RUN, "rung": "kinematical", "file": "never written"}))
    one.errands.add(NAME, measured, summary)
    one.turn()
    one.turn()
    assert names(service, "queue/dynamical") == [] and "the kinematical result stands" in caplog.text


def test_a_checkpoint_of_other_settings_is_begun_anew(service, further, measured, summary, monkeypatch):
    checkpoint = service.folder("queue/dynamical") / "x.npz"
    checkpoint.write_bytes(b"of others")

    def refined(source, path, config, *, checkpoint, progress):
        Checkpoint(checkpoint, "key")
        return {"file": str(path), "rung": "dynamical"}

    monkeypatch.setattr(module, "climb_to_file", refined)
    ticket = further().errand.ticket(measured, summary)
    assert module.climb_run(ticket, checkpoint, service.config)["file"].endswith("gold_1_dynamical.cxi")
    assert not checkpoint.exists()


def test_two_checkpoints_are_kept_and_without_room_it_waits(service, further, measured, summary, monkeypatch):
    one, folder = further(Away()), service.folder("queue/dynamical")
    for stamp in (1, 2, 3, 4):
        one.errands.add(f"{stamp}_{RUN}", measured, summary)
        (folder / f"{stamp}_{RUN}.npz").write_bytes(b"a checkpoint")
    monkeypatch.setattr(module, "has_room", lambda folder: False)
    one.turn()
    assert not one.errands.busy and len(one.errands._tickets.names()) == len(list(folder.glob("*.npz"))) == 4
    monkeypatch.setattr(module, "has_room", lambda folder: True)
    one.turn()
    assert sorted(path.name[0] for path in folder.glob("*.npz")) == ["3", "4"]
    assert len(one.errands._tickets.names()) == 4


def test_what_a_full_disk_did_not_take_is_owed_later(service, further, measured, summary, monkeypatch):
    found = {"run": RUN, "rung": "dynamical", "chi": 0.1, "free_misfit": None, "file": "f", "seconds": 1.0}
    one = further(Away(found))
    one.errands.add(NAME, measured, summary)
    one.turn()
    put, full = one.errand._owe, [True]

    def owe(*told):
        if full:
            full.pop()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        put(*told)

    one.errand._owe = owe
    one.turn()
    assert one.errands._tickets.names() == [NAME] and one.owed == []
    one.errands._settle_s = 0.0
    one.turn(free=False)
    assert one.errands._tickets.names() == [] and one.owed == [(NAME, found)]


def test_what_is_left_of_others_goes_and_a_checkpoint_stays_with_its_ticket(service, further, measured, summary):
    further(Away()).errands.add(NAME, measured, summary)
    folder = service.folder("queue/dynamical")
    for name in (f"{NAME}.npz", "1_other.npz", ".1_other.2-ab.partial.npz"):
        (folder / name).write_bytes(b"a checkpoint")
    further(Away())
    assert names(service, "queue/dynamical") == [f"{NAME}.json", f"{NAME}.npz"]


def test_switched_off_what_waits_goes_on_waiting(service, further, measured, summary):
    one = further(Away())
    one.errands.add(NAME, measured, summary)
    (service.folder("queue/dynamical") / f"{NAME}.npz").write_bytes(b"a checkpoint")
    service.config = service.config.changed(dynamical={"automatic": False})
    one.turn()
    assert names(service, "queue/dynamical") == [f"{NAME}.json", f"{NAME}.npz"] and not one.errands.busy
    one.errands._tickets.drop(NAME)
    Tickets(service.folder("queue/dynamical")).put("a", {"nothing": 1})
    service.config = service.config.changed(dynamical={"automatic": True})
    one.turn()
    assert one.errands._tickets.names() == [], "a ticket that is none"


def test_what_takes_longer_than_the_budget_is_given_up_by_its_pace(monkeypatch):
    now, heard, held_s = [100.0], [], 0.0
    worked_s = [3.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module.time, "process_time", lambda: worked_s[0])

    def worked(per_share, budget_s, first=0.0):
        paced = Paced(lambda *told: heard.append(told), budget_s, RUN)
        for step in range(11):
            paced(first + (1 - first) * step / 10, "text, 12 s left")
            now[0] += per_share * (1 - first) / 10 + held_s
            worked_s[0] += per_share * (1 - first) / 10

    worked(500.0, 600.0)
    worked(500.0, 600.0, first=0.9)
    assert len(heard) == 22 and {text for _, text in heard} == {"text"}
    heard.clear()
    held_s = 500.0
    worked(500.0, 600.0)
    assert len(heard) == 11, "others had the processor"
    heard.clear()
    held_s = 0.0
    with pytest.raises(OverBudget, match=r"12 min here, more than \[dynamical\] budget_s \(600\)"):
        worked(700.0, 600.0)
    assert len(heard) == 2, "as soon as its pace is known"
    with pytest.raises(OverBudget):
        worked(700.0, 600.0, first=0.5)
