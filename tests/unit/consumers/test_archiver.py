"""The journal has every document once whatever Tiled does; Tiled has every run whole, once."""

import random

import httpx
import pytest

from live_bcdi.stream import journal
from live_bcdi.stream.claim import Claim
from live_bcdi_consumers import archiver
from live_bcdi_consumers.archiver import MAX_TRIES, Archive


class FakeTiled:
    """Stands for the writer, the client and the container `raw`: takes documents, or raises `trouble`."""

    def __init__(self):
        self.runs: dict = {}
        self.trouble: Exception | None = None
        self.known: dict = {}
        self.fitted: list = []
        self._asked = ""

    def __getitem__(self, run):
        self._asked = run
        return self

    @property
    def metadata(self):
        return {"stop": {uid: None for uid in self.runs[self._asked] if uid.startswith("s-")}}

    def validate(self, *, try_reading):
        self.fitted.append(self._asked)

    def __contains__(self, run):
        return run in self.runs

    def delete_contents(self, names, **_):
        for name in names:
            del self.runs[name]

    def __call__(self, name, doc):
        if self.trouble is not None:
            raise self.trouble
        run = journal.run_of(name, doc, self.known)
        if name == "start":
            assert run not in self.runs, "written twice"
            self.runs[run] = []
        self.runs[run].append(doc["uid"])


@pytest.fixture
def tiled(monkeypatch):
    fake = FakeTiled()
    monkeypatch.setattr(archiver, "connect", lambda config: fake)
    monkeypatch.setattr(archiver, "container", lambda root, *path: fake)
    monkeypatch.setattr(archiver, "TiledWriter", lambda client, batch_size: fake)
    monkeypatch.setattr(archiver, "LATE_S", 0.0)
    return fake


def documents(run, events=3):
    """One stream whose events have a reading each and a frame in a file, as a step scan sends them."""
    keys = {"theta": {}, "det": {"external": "STREAM:"}}
    docs = [
        ("start", {"uid": run}),
        ("descriptor", {"uid": f"d-{run}", "run_start": run, "name": "primary", "data_keys": keys}),
        ("stream_resource", {"uid": f"r-{run}", "run_start": run, "data_key": "det"}),
    ]
    for number in range(1, events + 1):
        refers = {"descriptor": f"d-{run}", "stream_resource": f"r-{run}"}
        spans = {
            "indices": {"start": number - 1, "stop": number},
            "seq_nums": {"start": number, "stop": number + 1},
        }
        docs.append(("stream_datum", {"uid": f"x{number}-{run}", **refers, **spans}))
        docs.append(("event", {"uid": f"e{number}-{run}", "descriptor": f"d-{run}", "seq_num": number}))
    return [*docs, ("stop", {"uid": f"s-{run}", "run_start": run, "num_events": {"primary": events}})]


def uids(docs):
    return [doc["uid"] for _, doc in docs]


def send(archive, docs):
    """As the two threads do: a document to disk, and what is new to Tiled."""
    for name, doc in docs:
        archive.take(name, doc)
        while not archive._queue.empty():
            archive._send_live(*archive._queue.get())


def look_back(archive):
    archive._take_from_runengine()
    archive._send_leftovers()


def write_journal(service, docs):
    for name, doc in docs:
        journal.append(service.folder("journal") / f"{docs[0][1]['uid']}.jsonl", name, doc)


def names(folder):
    return sorted(path.stem for path in folder.glob("*.jsonl"))


def test_a_run_goes_to_tiled_while_it_is_measured(service, tiled):
    docs = documents("one")
    archive = Archive(service)
    send(archive, docs[:-1])
    assert tiled.runs == {"one": uids(docs[:-1])}
    send(archive, docs[-1:])
    assert tiled.runs == {"one": uids(docs)}
    assert names(service.folder("documents/sent")) == ["one"]
    assert names(service.folder("documents")) == []


def test_it_is_heard_while_it_reads_what_tiled_does_not_have(service, tiled, monkeypatch):
    """After days without Tiled these are thousands of runs, and who is silent for 90 s is killed."""
    for run in ("one", "two", "three"):
        for name, doc in documents(run):
            journal.append(service.folder("documents") / f"{run}.jsonl", name, doc)
    heard_after = []
    read = journal.read
    beats = lambda: sum(update.topic == "health" for update in service.updates.sent)  # noqa: E731
    monkeypatch.setattr(journal, "read", lambda path: heard_after.append(beats()) or read(path))
    monkeypatch.setattr("live_bcdi_consumers.service.BEAT_S", 0.0)
    archive = Archive(service)
    assert heard_after == [0, 1, 2], "each is read once, and a beat follows"
    look_back(archive)
    assert {run: set(sent) for run, sent in tiled.runs.items()} == {
        run: set(uids(documents(run))) for run in ("one", "two", "three")
    }


@pytest.mark.parametrize("trouble", [httpx.ConnectError("gone"), KeyError("odd"), TypeError("odder")])
def test_trouble_within_a_run_costs_nothing(service, tiled, trouble):
    archive = Archive(service)
    docs = documents("one")
    send(archive, docs[:2])
    tiled.trouble = trouble
    send(archive, docs[2:])
    assert names(service.folder("documents")) == ["one"]
    tiled.trouble = None
    look_back(archive)
    assert tiled.runs == {"one": uids(docs)}
    assert names(service.folder("documents/sent")) == ["one"]


def test_a_refused_run_is_put_aside_and_holds_up_nobody(service, tiled):
    archive = Archive(service)
    tiled.trouble = ValueError("never")
    send(archive, documents("bad"))
    for _ in range(MAX_TRIES):
        look_back(archive)
    assert names(service.folder("documents/refused")) == ["bad"]
    tiled.trouble = None
    send(archive, documents("good"))
    assert list(tiled.runs) == ["good"]


@pytest.mark.parametrize("received", range(1, 9))
def test_killed_after_any_document_it_knows_the_run_again(service, tiled, received):
    docs = documents("one")
    send(Archive(service), docs[:received])
    again = Archive(service)
    send(again, docs[received:])
    look_back(again)
    assert tiled.runs == {"one": uids(docs)}


@pytest.mark.parametrize("seed", range(20))
def test_twice_and_in_any_order_it_is_one_run(service, tiled, seed):
    docs = documents("one")
    shuffled = [*docs, *random.Random(seed).sample(docs, 5)]
    random.Random(seed).shuffle(shuffled)
    archive = Archive(service)
    send(archive, shuffled)
    look_back(archive)
    assert sorted(tiled.runs["one"]) == sorted(uids(docs))
    assert tiled.runs["one"][0] == "one" and tiled.runs["one"][-1] == "s-one"
    events = [uid for uid in tiled.runs["one"] if uid.startswith("e")]
    assert events == ["e1-one", "e2-one", "e3-one"]
    assert names(service.folder("documents/sent")) == ["one"]


def test_a_run_in_tiled_that_comes_again_is_not_written_again(service, tiled):
    """The assertion is in `FakeTiled`; another archiver has it from the files."""
    send(Archive(service), documents("one"))
    again = Archive(service)
    send(again, documents("one"))
    look_back(again)
    assert tiled.runs == {"one": uids(documents("one"))}


@pytest.mark.parametrize("lost", range(1, 10))
def test_a_lost_document_is_taken_from_the_runengines_journal(service, tiled, lost):
    """Also a whole stream's descriptor, which leaves its events without a name, and the stop."""
    docs = documents("one")
    write_journal(service, docs)
    archive = Archive(service)
    send(archive, [*docs[:lost], *docs[lost + 1 :]])
    look_back(archive)
    assert sorted(tiled.runs["one"]) == sorted(uids(docs))
    assert service.updates.sent == [], "nothing is said to be lost"


def test_a_run_that_nobody_received_is_taken_from_the_runengines_journal_when_it_is_over(service, tiled):
    docs = documents("one")
    write_journal(service, docs[:-1])
    archive = Archive(service)
    look_back(archive)
    assert tiled.runs == {}
    write_journal(service, [docs[0], docs[-1]])
    look_back(archive)
    look_back(archive)
    assert sorted(tiled.runs["one"]) == sorted(uids(docs))


def test_what_is_lost_is_counted_and_a_replay_mends_it(service, tiled):
    docs = documents("one", events=5)
    archive = Archive(service)
    lost = {"e2-one", "e3-one", "x5-one"}
    send(archive, [(name, doc) for name, doc in docs if doc["uid"] not in lost])
    look_back(archive)
    said = service.updates.sent[-1].fields["message"]
    assert "lost on their way: 2 of primary, 1 of det" in said
    assert "live-bcdi replay journal/one.jsonl" in said
    assert set(tiled.runs["one"]) == set(uids(docs)) - lost, "Tiled has what there is"
    send(archive, docs)
    look_back(archive)
    assert sorted(tiled.runs["one"]) == sorted(uids(docs))
    assert names(service.folder("documents/sent")) == ["one"]


def test_a_full_disk_keeps_nothing_from_tiled_and_is_said_once(service, tiled, monkeypatch):
    docs = documents("one")
    archive = Archive(service)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal, "append", full)
    send(archive, docs[:-1])
    assert tiled.runs == {"one": uids(docs[:-1])}
    assert len([update for update in service.updates.sent if "cannot be written" in str(update.fields)]) == 1


@pytest.fixture
def full_disk(monkeypatch):
    """Call it with True and nothing can be written to a journal of the archiver's, with False and it can."""
    append = journal.append
    full = [False]

    def appended(path, name, doc):
        if full[0] and path.parent.name != "journal":
            raise OSError(28, "No space left on device")
        append(path, name, doc)

    monkeypatch.setattr(journal, "append", appended)
    return lambda now: full.__setitem__(0, now)


@pytest.mark.parametrize("written", range(9))
@pytest.mark.parametrize("how", ["replay", "journal"])
def test_a_journal_that_a_full_disk_cut_short_is_made_whole(service, tiled, full_disk, written, how):
    docs = documents("one")
    archive = Archive(service)
    send(archive, docs[:written])
    full_disk(True)
    send(archive, docs[written:])
    assert tiled.runs == {"one": uids(docs)}, "Tiled has another disk"
    assert names(service.folder("documents/sent")) == []
    full_disk(False)
    if how == "replay":
        send(archive, docs)
    else:
        write_journal(service, docs)
    look_back(archive)
    (path,) = service.folder("documents/sent").glob("*.jsonl")
    assert sorted(uids(journal.read(path))) == sorted(uids(docs))
    assert sorted(tiled.runs["one"]) == sorted(uids(docs))


def test_the_runengines_journal_is_taken_again_where_a_full_disk_had_no_room_for_it(service, tiled, full_disk):
    docs = documents("one")
    write_journal(service, docs)
    archive = Archive(service)
    full_disk(True)
    look_back(archive)
    full_disk(False)
    look_back(archive)
    assert sorted(tiled.runs["one"]) == sorted(uids(docs))


def test_a_run_that_tiled_did_not_take_on_a_full_disk_is_not_called_sent(service, tiled, full_disk):
    docs = documents("one")
    archive = Archive(service)
    full_disk(True)
    tiled.trouble = httpx.ConnectError("gone")
    send(archive, docs)
    full_disk(False)
    tiled.trouble = None
    for again in (archive, Archive(service)):
        look_back(again)
        assert tiled.runs == {}
        assert names(service.folder("documents/sent")) == []
    write_journal(service, docs)
    look_back(again)
    assert sorted(tiled.runs["one"]) == sorted(uids(docs))


def test_what_tiled_has_whole_is_not_replaced_by_a_journal_with_holes(service, tiled, full_disk):
    """Neither by its own, nor with what the RunEngine could write on the same disk."""
    docs = documents("one")
    archive = Archive(service)
    send(archive, docs[:4])
    full_disk(True)
    send(archive, docs[4:-1])
    full_disk(False)
    send(archive, docs[-1:])
    write_journal(service, [*docs[:5], docs[-1]])
    look_back(Archive(service))
    assert tiled.runs == {"one": uids(docs)}


def test_documents_of_nobody_are_given_up(service, tiled, monkeypatch):
    archive = Archive(service)
    monkeypatch.setattr(archiver, "HOLD_S", -1.0)
    archive.take("event", {"uid": "e", "descriptor": "never seen", "seq_num": 1})
    archive.drop_orphans()
    assert not archive._held


@pytest.mark.parametrize("uid", ["../../escaped", "/etc/passwd", "", "a/b", 5, None, "x" * 200])
def test_a_uid_that_is_no_file_name_is_left_out(service, tiled, uid):
    archive = Archive(service)
    archive.take("start", {"uid": uid})
    assert archive._queue.empty()
    assert list(service.directory.parent.rglob("*escaped*")) == []


@pytest.mark.parametrize(
    "doc",
    [
        {"descriptor": "d-one"},
        {"descriptor": "d-one", "seq_num": "three"},
        {"descriptor": "d-one", "seq_num": []},
        {"descriptor": "d-one", "seq_nums": {"start": 0, "stop": 10**15}, "stream_resource": "r-one"},
        {"descriptor": "d-one", "indices": 5, "stream_resource": ["r"]},
    ],
)
@pytest.mark.parametrize("name", ["event", "event_page", "stream_datum"])
def test_a_malformed_document_does_no_harm(service, tiled, name, doc):
    docs = documents("one")
    archive = Archive(service)
    send(archive, [*docs[:4], (name, {"uid": "odd", **doc}), *docs[4:]])
    look_back(archive)
    assert set(uids(docs)) <= set(tiled.runs["one"])
    send(archive, documents("two"))
    assert tiled.runs["two"] == uids(documents("two"))


def test_a_run_whose_runengine_was_killed_gets_its_stop(service, tiled):
    """Its journal ends where it was killed; as long as it lives, nobody says that it is over."""
    docs = documents("a")
    path = service.folder("journal") / "a.jsonl"
    claim = Claim(path)
    write_journal(service, docs[:-2])
    archive = Archive(service)
    send(archive, docs[:4])
    look_back(archive)
    assert not any(name == "stop" for name, _ in journal.read(path))
    del claim
    look_back(archive)
    kept = list(journal.read(service.folder("documents/sent") / "a.jsonl"))
    name, stop = kept[-1]
    assert (name, stop["exit_status"], stop["num_events"]) == ("stop", "fail", {"primary": 2})
    assert sorted(tiled.runs["a"]) == sorted([*uids(docs[:-2]), stop["uid"]])
    assert any("ended within the run" in update.fields["message"] for update in service.updates.sent)
    look_back(Archive(service))
    assert len(list(journal.read(path))) == len(docs) - 1, "said once"


def test_many_finished_runs_at_once(service, tiled, monkeypatch):
    """More than are kept at hand: those forgotten on the way are done."""
    monkeypatch.setattr(archiver, "KEPT", 2)
    archive = Archive(service)
    send(archive, documents("z"))
    for number in range(8):
        for name, doc in documents(f"run-{number}"):
            archive.take(name, doc)
    look_back(archive)
    assert set(tiled.runs) == {*(f"run-{number}" for number in range(8)), "z"}
    assert len(names(service.folder("documents/sent"))) == 9


def test_a_run_that_was_taken_whole_is_not_begun_again_when_its_start_comes_to_its_turn(service, tiled):
    """A sender that was busy finds the run in the RunEngine's journal before it looks at its documents."""
    docs = documents("a")
    write_journal(service, docs)
    archive = Archive(service)
    for name, doc in docs:
        archive.take(name, doc)
    look_back(archive)
    assert sorted(tiled.runs["a"]) == sorted(uids(docs))
    while not archive._queue.empty():
        archive._send_live(*archive._queue.get())
    assert archive._live == {}
    assert sorted(tiled.runs["a"]) == sorted(uids(docs))
    assert archive.status == "", "nothing was refused"


@pytest.mark.parametrize("status", ["success", "abort"])
@pytest.mark.parametrize("whole", [False, True])
def test_a_run_that_was_cut_off_is_given_the_shape_of_its_file(service, tiled, status, whole):
    """Tiled reads no frame of an array whose file has one more than the documents tell of."""
    docs = documents("a")
    docs[-1][1]["exit_status"] = status
    archive = Archive(service)
    if whole:
        write_journal(service, docs)
    else:
        send(archive, docs)
    look_back(archive)
    assert tiled.fitted == (["a"] if status == "abort" else [])
    assert names(service.folder("documents/sent")) == ["a"]


def test_a_file_that_is_not_to_be_had_holds_up_nobody(service, tiled, monkeypatch):
    monkeypatch.setattr(tiled, "validate", None)
    docs = documents("a")
    docs[-1][1]["exit_status"] = "abort"
    send(Archive(service), docs)
    assert names(service.folder("documents/sent")) == ["a"]
