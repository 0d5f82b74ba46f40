"""The recorder: every frame of a foreign source in a file of ours, whatever happens to either."""

import errno
import math
import shutil
from collections import deque

import numpy as np
import pytest

from live_bcdi.stream import journal
from live_bcdi.stream.fakes import RUN, small_scan, start_document
from live_bcdi.stream.sources import Exposure, Labeller
from live_bcdi.transport.frames import FrameFile, part_path
from live_bcdi.transport.hdf5 import read_scan
from live_bcdi.types import ScanError
from live_bcdi_consumers import recorder as module
from live_bcdi_consumers.files import recorded_file
from live_bcdi_consumers.recorder import Recorder

SCAN = small_scan(num=6, shape=(4, 5))
START = start_document(SCAN)
DESCRIPTOR = {"uid": "d", "run_start": RUN, "name": "primary", "data_keys": {"theta": {}}}
STOP = {"uid": "s", "run_start": RUN, "exit_status": "success"}


class Counting:
    """A detector that counts from 100, as areaDetector does; `came` is what its socket holds."""

    socket = None
    rereads = False

    def __init__(self, tell):
        self.labels = Labeller(tell)
        self.came = deque()

    def document(self, name, doc):
        self.labels.document(name, doc)

    def late_s(self):
        return 0.0

    def receive(self, timeout_s):
        while self.came:
            self.labels.take(self.came.popleft())
        yield from self.labels.ready()

    def close(self):
        pass


def exposure(index):
    return Exposure(number=100 + index, timestamp_s=2e9 + index, image=SCAN.intensity[index])


def event(index):
    data = {"theta": float(SCAN.angles_deg[index]) + 1e-3}
    return {
        "uid": f"e{index}",
        "descriptor": "d",
        "seq_num": index + 1,
        "data": data,
        "timestamps": {"theta": 0.0},
    }


@pytest.fixture
def make(service, free_port):
    made = []

    def one():
        stream = {"source": "pvaccess", "relay": f"tcp://127.0.0.1:{free_port()}"}
        service.config = service.config.changed(stream=stream)
        made.append(Recorder(service, Counting(lambda text: service.notice("warning", text))))
        return made[-1]

    yield one
    for each in made:
        each.close()


def begin(recorder):
    for name, doc in (("start", START), ("descriptor", DESCRIPTOR)):
        recorder.document(name, doc)


def expose(recorder, *indices):
    for index in indices:
        recorder._frames.came.append(exposure(index))
        recorder.document("event", event(index))


def path_of(service):
    return recorded_file(service.directory / "frames", START)


def notices(service):
    return [update.fields["message"] for update in service.updates.sent if update.topic == "notice"]


def counters(service):
    return [path.stat().st_size for path in (service.directory / "frames").glob(".*.resumed")]


def test_frames_end_in_a_file_with_their_angles_and_it_is_said_to_be_whole(service, make):
    recorder = make()
    begin(recorder)
    expose(recorder, *range(6))
    with FrameFile(path_of(service)) as file:
        assert not file.finished
    recorder.document("stop", STOP)
    with FrameFile(path_of(service)) as file:
        assert file.finished
        assert (file.label.run, file.label.origin) == (RUN, (0, 100))
    scan = read_scan(path_of(service))
    np.testing.assert_array_equal(scan.intensity, SCAN.intensity)
    np.testing.assert_array_equal(scan.angles_deg, SCAN.angles_deg + 1e-3)
    np.testing.assert_array_equal(scan.timestamps_s, 2e9 + np.arange(6))
    assert scan.have is None
    assert scan.geometry == SCAN.geometry
    assert notices(service) == []


def test_what_is_lost_or_comes_late_or_twice_keeps_every_other_in_its_place(service, make):
    recorder = make()
    begin(recorder)
    expose(recorder, 0, 3, 1, 1, 5)
    recorder.document("stop", STOP)
    scan = read_scan(path_of(service))
    assert scan.have.tolist() == [True, True, False, True, False, True]
    np.testing.assert_array_equal(scan.intensity[scan.have], SCAN.intensity[scan.have])
    np.testing.assert_array_equal(scan.angles_deg[scan.have], SCAN.angles_deg[scan.have] + 1e-3)
    assert not scan.intensity[~scan.have].any()


def test_one_that_was_killed_is_gone_on_with_in_a_second_part(service, make):
    first = make()
    begin(first)
    expose(first, 0, 1)
    first.close()  # as SIGKILL leaves it: the file is not finished, and nobody remembers
    path = service.folder("documents") / f"{RUN}.jsonl"
    for name, doc in (("start", START), ("descriptor", DESCRIPTOR), ("event", event(0)), ("event", event(1))):
        journal.append(path, name, doc)
    second = make()
    second.resume()
    second.document("start", START)  # it was on its way to the new subscriber as well
    expose(second, 3, 4, 5)
    second.document("stop", STOP)
    assert part_path(path_of(service), 2).exists()
    scan = read_scan(path_of(service))
    assert scan.have.tolist() == [True, True, False, True, True, True]
    np.testing.assert_array_equal(scan.intensity[scan.have], SCAN.intensity[scan.have])
    with FrameFile(path_of(service)) as file:
        assert file.finished
    assert [text.partition(";")[0] for text in notices(service)] == ["frames 2 to 2 did not come before 3"]


def test_a_run_that_ended_without_us_is_finished_as_it_is(service, make):
    first = make()
    begin(first)
    expose(first, 0, 1)
    first.close()
    path = service.folder("documents/sent") / f"{RUN}.jsonl"
    for name, doc in (("start", START), ("descriptor", DESCRIPTOR), ("stop", STOP)):
        journal.append(path, name, doc)
    second = make()
    second._frames.came.append(exposure(2))  # of whatever is measured now
    second.resume()
    with FrameFile(path_of(service)) as file:
        assert file.finished
        assert file.indices() == {0, 1}


@pytest.mark.parametrize("ended", [False, True])
def test_a_run_that_ends_the_recorder_again_and_again_is_left_out_and_holds_up_no_other(service, make, ended):
    """As a file does on which HDF5 reads for ever: the supervisor kills us."""
    path = service.folder("documents") / f"{RUN}.jsonl"
    for name, doc in (("start", START), ("descriptor", DESCRIPTOR), *((("stop", STOP),) if ended else ())):
        journal.append(path, name, doc)

    class Endless(Counting):
        rereads = True

        def document(self, name, doc):
            raise KeyboardInterrupt

    for _ in range(module.MOST_RESUMED):
        again = make()
        again._frames = Endless(print)
        with pytest.raises(KeyboardInterrupt):
            again.resume()
    assert notices(service) == []
    last = make()
    last._frames = Endless(print)
    last.resume()
    with FrameFile(path_of(service)) as file:
        assert file.finished
    assert "leaves the rest of it out" in notices(service)[0]
    assert counters(service) == []
    other = make()
    other.resume()
    assert len(notices(service)) == 1, "what is finished is not looked at again"


def test_a_recorder_that_is_told_to_end_may_be_started_again_as_often_as_one_likes(service, make):
    """Updates and restarts within a run are not its fault; being killed within it may be."""
    path = service.folder("documents") / f"{RUN}.jsonl"
    for name, doc in (("start", START), ("descriptor", DESCRIPTOR)):
        journal.append(path, name, doc)
    for index in range(module.MOST_RESUMED + 2):
        recorder = make()
        recorder.resume()
        assert counters(service) == [1], "as long as it may be killed"
        expose(recorder, index)
        service.stopping.set()
        recorder.close()
        service.stopping.clear()
        assert counters(service) == []
    for killed in range(2):
        recorder = make()
        recorder.resume()
        recorder.close()
        assert counters(service) == [killed + 1]
    recorder = make()
    recorder.resume()
    recorder.document("stop", STOP)
    assert counters(service) == []
    with FrameFile(path_of(service)) as file:
        assert file.finished
        assert file.indices() == set(range(5))
    assert notices(service) == []


@pytest.mark.parametrize("table", [None, {}, {"scan": {}}, "x"])
def test_a_run_that_does_not_say_what_it_must_is_not_gone_on_with(service, make, table):
    journal.append(service.folder("documents") / f"{RUN}.jsonl", "start", {**START, "live_bcdi": table})
    make().resume()
    assert list(service.folder("frames").iterdir()) == []


def test_a_run_without_a_frame_has_a_file_that_says_so(service, make):
    recorder = make()
    begin(recorder)
    recorder.document("stop", STOP)
    with FrameFile(path_of(service)) as file:
        assert file.finished
        assert file.count() == 0


def test_a_part_of_another_run_is_not_taken_for_ones_own(service, make):
    recorder = make()
    begin(recorder)
    expose(recorder, 0)
    recorder.document("stop", STOP)
    other = {**START, "uid": "f" * 8 + RUN[8:]}
    recorder.document("start", other)
    recorder.document("descriptor", {**DESCRIPTOR, "uid": "d2", "run_start": other["uid"]})
    recorder._frames.came.append(exposure(1))
    recorder.document("event", {**event(0), "uid": "x", "descriptor": "d2"})
    recorder.document("stop", {**STOP, "uid": "s2", "run_start": other["uid"]})
    shutil.copy(recorded_file(service.directory / "frames", other), part_path(path_of(service), 2))
    with FrameFile(path_of(service)) as file:
        assert file.count() == 1


def test_a_full_disk_loses_the_archive_of_some_frames_and_says_which(service, make, monkeypatch):
    recorder = make()
    begin(recorder)
    expose(recorder, 0, 1)

    def full(path, needed_bytes):
        raise ScanError(f"{path}: the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(module, "require_space", full)
        expose(recorder, 2, 3)
    expose(recorder, 4, 5)
    recorder.document("stop", STOP)
    scan = read_scan(path_of(service))
    assert scan.have.tolist() == [True, True, False, False, True, True]
    begun, which = notices(service)
    assert "the disk is full" in begun
    assert which == "not archived: frames [2, 3]"


def test_a_file_that_breaks_is_left_for_a_further_part(service, make, monkeypatch):
    monkeypatch.setattr(module, "RETRY_S", 0.0)
    recorder = make()
    begin(recorder)
    expose(recorder, 0)
    writer = recorder._record._writer

    def broken(*arguments, **keywords):
        raise ScanError(f"write failed: {errno.errorcode[errno.EIO]}")

    monkeypatch.setattr(writer, "append", broken)
    expose(recorder, 1, 2)
    recorder.document("stop", STOP)
    with FrameFile(path_of(service)) as file:
        assert file.indices() == {0, 2}
        assert math.isfinite(file.frame(2)[1])
