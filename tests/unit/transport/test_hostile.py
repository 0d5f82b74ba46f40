"""Malformed messages against every decoder: refused in one way, and in little memory."""

import os
import subprocess
import sys

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from live_bcdi.config import load_config
from live_bcdi.metadata import scan_from_metadata, scan_metadata
from live_bcdi.sim import hostile
from live_bcdi.stream import journal
from live_bcdi.stream.fakes import frames_of, small_scan, start_document
from live_bcdi.stream.inline import DocumentSource
from live_bcdi.stream.live import LiveRun
from live_bcdi.stream.run import is_rocking_run, run_plan
from live_bcdi.stream.updates import Update
from live_bcdi.transport import zmq as wire
from live_bcdi.transport.hdf5 import FrameFile, read_result, read_scan, write_scan
from live_bcdi.types import ScanError

SCAN = small_scan(num=5, shape=(5, 7))
FRAME = [bytes(part) for part in wire.encode_frame(frames_of(SCAN)[1])]
UPDATE = [
    bytes(part)
    for part in wire.encode_update(
        Update(topic="live", run="r", fields={"count": 3, "peak": [1, 2, 3]}, arrays={"image": np.eye(3)})
    )
]
DOCUMENT = b" start " + wire.encode_document(start_document(SCAN))
FRAMES, UPDATES, DOCUMENTS = hostile.frames(), hostile.updates(), hostile.documents()
NONSENSE = hostile.nonsense(scan_metadata(SCAN))
fuzz = settings(derandomize=True, max_examples=200, deadline=None)


@pytest.mark.parametrize("name", FRAMES)
def test_no_frame(name):
    with pytest.raises(wire.WireError):
        wire.decode_frame(FRAMES[name])


@pytest.mark.parametrize("name", UPDATES)
def test_no_update(name):
    with pytest.raises(wire.WireError):
        wire.decode_update(UPDATES[name])


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_document(name):
    with pytest.raises(wire.WireError):
        wire.decode_document(DOCUMENTS[name])


def test_a_pickle_is_refused_and_not_executed():
    for parts in (*FRAMES.values(), *UPDATES.values()):
        for decode in (wire.decode_frame, wire.decode_update):
            with pytest.raises(wire.WireError):
                decode(parts)
    assert not hostile.pickle_was_executed()


def test_good_ones_of_the_same_form_are_taken():
    """So that the corpus is refused for what is wrong with it, and not for what it is built on."""
    assert wire.decode_frame(hostile._frame()).image.shape == (5, 7)
    assert wire.decode_document(DOCUMENT)[1] == start_document(SCAN)
    event = wire.encode_document(hostile._event())
    assert wire.decode_document(b" event " + event)[1]["data"] == {"theta": 0.1}


def test_the_corpus_takes_little_memory():
    """A process of its own: the peak of this one is that of all tests before."""
    before_mb, after_mb = map(float, _alone("before = peak(); decode_all(); print(before, peak())").split())
    assert after_mb - before_mb < 250


def _alone(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", _DECODE_ALL + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


_DECODE_ALL = """
import resource
from live_bcdi.sim import hostile
from live_bcdi.transport import zmq as wire

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def decode_all():
    for decode, corpus in (
        (wire.decode_frame, hostile.frames()),
        (wire.decode_update, hostile.updates()),
        (wire.decode_document, hostile.documents()),
    ):
        for message in corpus.values():
            try:
                decode(message)
            except wire.WireError:
                continue
            raise SystemExit("taken")

"""


def test_tables_are_counted_and_numbers_are_not():
    """An empty table is a byte on the wire and 64 in memory; a picture is one list."""
    event = hostile._event(data={"x": [{}] * 250_000})
    with pytest.raises(wire.WireError, match="more than 200000 tables"):
        wire.decode_document(b" event " + msgpack.packb(event))
    picture = hostile._event(data={"x": [[1] * 1000] * 1000})
    assert len(wire.decode_document(b" event " + msgpack.packb(picture))[1]["data"]["x"]) == 1000


def _mutations(parts):
    """The message with some bytes changed, cut or doubled in one of its parts."""

    @st.composite
    def mutated(draw):
        changed = list(parts)
        which = draw(st.integers(0, len(parts) - 1))
        part = bytearray(changed[which])
        for _ in range(draw(st.integers(1, 4))):
            at = draw(st.integers(0, max(len(part) - 1, 0)))
            how = draw(st.sampled_from(["set", "cut", "insert", "double"]))
            if how == "set" and part:
                part[at] = draw(st.integers(0, 255))
            elif how == "cut":
                del part[at : at + draw(st.integers(1, 20))]
            elif how == "insert":
                part[at:at] = draw(st.binary(min_size=1, max_size=8))
            else:
                part += part[:at]
        changed[which] = bytes(part)
        return changed

    return mutated()


@fuzz
@given(_mutations(FRAME))
def test_a_damaged_frame_is_a_frame_or_refused(parts):
    try:
        frame = wire.decode_frame(parts)
    except wire.WireError:
        return
    assert frame.image.ndim == 2
    assert frame.image.size
    assert frame.index >= 0
    assert np.isfinite(frame.angle_deg)


@fuzz
@given(_mutations(UPDATE))
def test_a_damaged_update_is_an_update_or_refused(parts):
    try:
        update = wire.decode_update(parts)
    except wire.WireError:
        return
    assert isinstance(update.fields, dict)


@fuzz
@given(_mutations([DOCUMENT]))
def test_a_damaged_document_is_a_document_or_refused(parts):
    try:
        name, doc = wire.decode_document(parts[0])
    except wire.WireError:
        return
    assert name != "start" or isinstance(doc["uid"], str)


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_values = st.fixed_dictionaries(
    {},
    optional={
        key: _json
        for key in (
            "uid",
            "time",
            "run_start",
            "descriptor",
            "seq_num",
            "data",
            "timestamps",
            "data_keys",
            "uri",
            "parameters",
            "live_bcdi",
            "num_events",
            "exit_status",
            "resource",
            "plan_args",
            "name",
        )
    },
)


@fuzz
@given(st.sampled_from(["start", "stop", "descriptor", "event", "event_page", "stream_resource"]), _values)
def test_a_document_of_anything_is_refused_or_harmless(name, table):
    """What gets through the wire hurts neither the labels of frames nor the plan of a run."""
    message = f" {name} ".encode() + msgpack.packb(table)
    try:
        kind, doc = wire.decode_document(message)
    except wire.WireError:
        return
    source = DocumentSource(lambda text: None)
    source.document("start", start_document(SCAN))
    source.document(kind, doc)
    journal.run_of(kind, doc, {})
    if kind == "start" and is_rocking_run(doc):
        with pytest.raises(ScanError):
            run_plan(doc)


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_passes_the_wire_and_no_further(name):
    for kind, doc in NONSENSE[name]:
        assert wire.decode_document(f" {kind} ".encode() + wire.encode_document(doc))[0] == kind
    start = NONSENSE[name][0][1]
    if "uri" in name or "name is" in name:
        assert run_plan(start).num == 5
        return
    with pytest.raises(ScanError):
        LiveRun(run_plan(start), lambda: 0.0)


def test_packed_bombs_are_refused_in_little_memory():
    scan = """
from live_bcdi.metadata import scan_from_metadata, scan_metadata
from live_bcdi.stream.fakes import small_scan
from live_bcdi.types import ScanError
import numpy as np
good = scan_metadata(small_scan(num=5, shape=(5, 7)))
runs = hostile.nonsense(good)
before = peak()
for name, run in runs.items():
    if "bomb" in name or "huge" in name:
        try:
            table = run[0][1]["live_bcdi"]["scan"]
            scan_from_metadata(table, intensity=np.zeros((0, 5, 7)), angles_deg=np.zeros(0))
        except ScanError:
            continue
        raise SystemExit(name)
print(before, peak())
"""
    before_mb, after_mb = map(float, _alone(scan).split())
    assert after_mb - before_mb < 100


def test_a_good_mask_is_still_unpacked():
    again = scan_from_metadata(scan_metadata(SCAN), intensity=SCAN.intensity, angles_deg=SCAN.angles_deg)
    np.testing.assert_array_equal(again.bad_pixels, SCAN.bad_pixels)


JOURNALS = {
    "empty": b"",
    "zeros": bytes(100),
    "not UTF-8": b"\xff\xfe\n",
    "a number": b"5\n",
    "a pair of numbers": b"[1, 2]\n",
    "three things": b'["start", {}, 1]\n',
    "no document": b'["start", null]\n',
    "a name that is none": b'[["start"], {}]\n',
    "deeply nested": b"[" * 100_000,
    "a pickle": hostile.PAYLOADS["a pickle"],
}


@pytest.mark.parametrize("name", JOURNALS)
def test_a_damaged_journal_holds_no_document(tmp_path, name):
    path = tmp_path / "run.jsonl"
    path.write_bytes(JOURNALS[name])
    assert list(journal.read(path)) == []
    assert journal.known_runs(path) == {}
    assert journal.missing(journal.read(path)) == {}
    assert not journal.is_complete(path)


CONFIGS = {
    "zeros": bytes(100),
    "not UTF-8": b"\xff",
    "text": b"hello",
    "deeply nested": b"a = " + b"[" * 10_000,
    "long number": b"a = " + b"9" * 10_000,
    "keys of another kind": b"[stream]\nkeys = 5\n",
    "open to some": b'[stream]\nopen = "some"\n',
}


def test_a_journal_of_documents_without_what_they_need_ends_nothing(tmp_path):
    lines = b'["start", {}]\n["descriptor", {"uid": []}]\n["event", {}]\n["stop", {}]\n'
    (tmp_path / "run.jsonl").write_bytes(lines)
    assert len(list(journal.read(tmp_path / "run.jsonl"))) == 4
    assert journal.known_runs(tmp_path / "run.jsonl") == {}
    assert journal.missing(journal.read(tmp_path / "run.jsonl")) == {}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_damaged_configuration_is_one_clear_error(tmp_path, name):
    path = tmp_path / "beamline.toml"
    path.write_bytes(CONFIGS[name])
    with pytest.raises(ScanError, match=r"beamline\.toml"):
        load_config(path)


@pytest.fixture(scope="module")
def scan_bytes(tmp_path_factory):
    path = tmp_path_factory.mktemp("scan") / "good.h5"
    write_scan(path, SCAN)
    return path.read_bytes()


def _read_all(path):
    """What reads frames and results: a ScanError each, or an answer; nothing else."""
    for read in (read_scan, read_result, _read_frames):
        try:
            read(path)
        except ScanError:
            continue


def _read_frames(path):
    with FrameFile(path, wait_s=0.0) as file:
        for index in range(min(file.count(), 10)):
            file.frame(index)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_one_clear_error(tmp_path, scan_bytes, share):
    path = tmp_path / "cut.h5"
    path.write_bytes(scan_bytes[: int(share * len(scan_bytes))])
    for read in (read_scan, read_result, _read_frames):
        with pytest.raises(ScanError, match=r"cut\.h5"):
            read(path)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_file_ends_nothing(tmp_path_factory, scan_bytes, data):
    damaged = bytearray(scan_bytes)
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "scan.h5"
    path.write_bytes(bytes(damaged))
    _read_all(path)


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.h5")
    for path in (tmp_path / "pipe.h5", tmp_path, "/dev/zero", "/dev/null"):
        with pytest.raises(ScanError):
            FrameFile(path, wait_s=0.0)
        with pytest.raises(ScanError):
            read_scan(path)
