"""The recorder: the frames of a detector that knows nothing of us into a file of our own form, and on to `live`.

It is the only one who listens to such a source (docs/adr/0007). Runs only where `[stream] source` is not ours.
"""

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from live_bcdi.log import about_run
from live_bcdi.stream import journal
from live_bcdi.stream.run import RunPlan, is_rocking_run, run_plan
from live_bcdi.stream.sources import FrameSource
from live_bcdi.transport.files import require_space
from live_bcdi.transport.frames import FrameFile, FrameWriter, RunLabel, part_path, parts_of
from live_bcdi.transport.keys import access_of
from live_bcdi.transport.sources import frame_source
from live_bcdi.transport.zmq import DocumentSubscriber, FramePublisher
from live_bcdi.types import Frame, ScanError

from .files import recorded_file, written_s
from .service import Service

QUIET_S = 0.05
RETRY_S = 5.0  # after a file that could not be written, a further part is tried
RECENT_S = 3600.0  # journals of runs that may have been cut off with us
MOST_RESUMED = 3  # goes at one run: a file on which HDF5 reads for ever would have us killed again and again
CONNECT_S = 0.5  # documents reach a new subscriber by then; what came before them is in the journal


def run(service: Service) -> None:
    documents = DocumentSubscriber(service.config.stream.documents_out, access_of(service.config.stream))
    frames = frame_source(service.config.stream, lambda message: service.notice("warning", message))
    recorder = Recorder(service, frames)
    poller = zmq.Poller()
    for socket in (documents.socket, frames.socket):
        if socket is not None:
            poller.register(socket, zmq.POLLIN)
    service.stopping.wait(CONNECT_S)
    try:
        recorder.resume()
        while not service.stopping.is_set():
            poller.poll(20)
            for name, doc in documents.receive(0):
                recorder.document(name, doc)
            recorder.take(frames.receive(0))  # after the documents: frames must not overtake their start
            service.beat(detail=recorder.detail)
    finally:
        recorder.close()
        frames.close()


class Recorder:
    """The newest run, as the source gives it: one file, or a further part where an earlier one was cut off."""

    def __init__(self, service: Service, frames: FrameSource) -> None:
        self._service = service
        self._frames = frames
        self._folder = service.folder("frames")
        self._publisher = FramePublisher(service.config.stream.relay, access_of(service.config.stream))
        self._known: set[str] = set()  # documents that the journal told
        self._record: _Record | None = None
        self.detail = ""

    def resume(self) -> None:
        """Hear again, from the archiver's journals, of runs whose file is not whole: we were away at their end."""
        recent_s = time.time() - RECENT_S
        paths = self._service.folder("documents").rglob("*.jsonl")
        for path in sorted((path for path in paths if written_s(path) > recent_s), key=written_s):
            told = journal.in_order(journal.read(path))
            if told and told[0][0] == "start" and is_rocking_run(told[0][1]) and not self._is_whole(told[0][1]):
                about_run("recorder", path.stem).info("goes on with what the journal says")
                self._known |= {journal.key_of(name, doc) for name, doc in told}
                self._hear_again(told)

    def _hear_again(self, told: list[tuple[str, dict[str, Any]]]) -> None:
        """All of a run. Of one that is over, and cannot be read again, only that its file is as whole as it will
        be: the frames that come now are not its own. The same of one that ends us whenever we go on with it."""
        is_lost = not self._may_resume(told[0][1])
        if is_lost or (told[-1][0] == "stop" and not self._frames.rereads):
            self._start(told[0][1])
            self._stop()
            return
        for name, doc in told:
            self._follow(name, doc)

    def _may_resume(self, start: dict[str, Any]) -> bool:
        """Count on disk, since who is killed remembers nothing; a full disk counts as nothing."""
        tries, run = _tries_of(recorded_file(self._folder, start)), str(start["uid"])
        with suppress(OSError), tries.open("ab") as file:
            file.write(b".")
        resumed = tries.stat().st_size if tries.exists() else 0
        if resumed > MOST_RESUMED:
            text = f"the recorder ended {MOST_RESUMED} times within this run and leaves the rest of it out"
            self._service.notice("error", f"{text}: see its log, and the detector's file", run)
        return resumed <= MOST_RESUMED

    def _is_whole(self, start: dict[str, Any]) -> bool:
        """Also where there is nothing to make whole: live says what its start document lacks."""
        try:
            path = recorded_file(self._folder, start)
        except ScanError:
            return True
        try:
            with FrameFile(path, wait_s=0.0) as file:
                return file.finished
        except ScanError:
            return False

    def document(self, name: str, doc: dict[str, Any]) -> None:
        """What the RunEngine says; not again what the journal has told."""
        if journal.key_of(name, doc) not in self._known:
            self._follow(name, doc)

    def _follow(self, name: str, doc: dict[str, Any]) -> None:
        record = self._record
        ends = name == "stop" and record is not None and doc.get("run_start") == record.plan.run
        if name == "start" and is_rocking_run(doc):
            self._start(doc)
        if ends:
            self._take_what_waits()
        self._frames.document(name, doc)
        self.take(self._frames.receive(0))  # those that waited for a document
        if ends:
            self._stop()

    def _start(self, doc: dict[str, Any]) -> None:
        self._stop()
        try:
            plan = run_plan(doc)
        except ScanError:
            return  # live says what the start document lacks
        self._record = _Record(self._service, plan, recorded_file(self._folder, doc))
        self._frames.labels.recall(self._record.origin, self._record.newest)

    def take(self, frames: Iterable[Frame]) -> bool:
        """Send frames on and keep them; whether there was any."""
        came = False
        for frame in frames:
            came = True
            self._publisher.send(frame)
            if self._record is not None and frame.run == self._record.plan.run:
                self._record.add(frame, self._frames.labels.origin)
                self.detail = f"{self._record.plan.name}: {self._record.count} of {self._record.plan.num} frames"
        return came

    def _take_what_waits(self) -> None:
        """A run's frames were sent before its stop, but on another way."""
        newest_s = time.monotonic()
        while self._frames.labels.missing and not self._service.stopping.is_set():
            if self.take(self._frames.receive(QUIET_S)):
                newest_s = time.monotonic()
            elif time.monotonic() > newest_s + self._frames.late_s():
                return
            self._service.beat(detail=self.detail)

    def _stop(self) -> None:
        if self._record is not None:
            self._record.finish()
        self._record, self.detail = None, ""

    def close(self) -> None:
        """Leave the file of a run that goes on unfinished, to be gone on with."""
        if self._record is not None:
            self._record.close()
            if self._service.stopping.is_set():  # we were told to end: it was not this run that ended us
                self._record.forget_tries()
        self._publisher.close()


def _tries_of(path: Path) -> Path:
    """Counts, a byte each, how often the run of a frame file was gone on with and did not come to its end."""
    return path.with_name(f".{path.name}.resumed")


class _Record:
    """The frames of one run on disk; never raises: a frame that cannot be kept is told of."""

    def __init__(self, service: Service, plan: RunPlan, path: Path) -> None:
        self.plan = plan
        self._service = service
        self._first = path
        self._writer: FrameWriter | None = None
        self._have: set[int] = set()
        self._lost: set[int] = set()
        self._retry_at_s = 0.0
        self.origin: tuple[int, int] | None = None
        self._recall()

    def _recall(self) -> None:
        if not self._first.exists():
            return
        try:
            with FrameFile(self._first) as file:
                self._have = file.indices()
                self.origin = None if file.label is None else file.label.origin
        except ScanError as error:
            self._notice("warning", f"an earlier part cannot be gone on with: {error}")

    @property
    def count(self) -> int:
        """Distinct frames on disk."""
        return len(self._have)

    @property
    def newest(self) -> int:
        """The last frame on disk; -1 where there is none."""
        return max(self._have, default=-1)

    def add(self, frame: Frame, origin: tuple[int, int] | None) -> None:
        """Keep a frame that is not there yet."""
        if frame.index in self._have:
            return
        try:
            require_space(self._first, frame.image.nbytes)
            self._write(frame, origin)
        except (ScanError, OSError) as error:
            self._lose(frame.index, error)
            return
        self._say_lost()
        self._have.add(frame.index)

    def _write(self, frame: Frame, origin: tuple[int, int] | None) -> None:
        if time.monotonic() < self._retry_at_s:
            raise ScanError("the file could not be written")
        try:
            writer = self._open(frame.image.shape, frame.image.dtype, origin)
            writer.append(
                frame.image,
                angle_deg=frame.angle_deg,
                monitor=frame.monitor,
                timestamp_s=frame.timestamp_s,
                index=frame.index,
            )
        except ScanError:
            self._retry_at_s = time.monotonic() + RETRY_S
            self.close()
            raise

    def _open(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], origin: tuple[int, int] | None = None
    ) -> FrameWriter:
        if self._writer is None:
            there = parts_of(self._first)
            path = part_path(self._first, len(there) + 1) if self._first.exists() else self._first
            label = RunLabel(run=self.plan.run, origin=origin)
            self._writer = FrameWriter(path, shape, dtype, metadata=self.plan.scan, label=label)
        return self._writer

    def _lose(self, index: int, error: Exception) -> None:
        if not self._lost:
            self._notice("error", f"frame {index} and those after it are shown but not archived: {error}")
        self._lost.add(index)

    def _say_lost(self) -> None:
        if not self._lost:
            return
        self._notice("error", f"not archived: frames {sorted(self._lost)}")
        self._lost.clear()

    def finish(self) -> None:
        """Mark the file whole: nothing more comes. A run without a frame gets a file that says so."""
        self._say_lost()
        try:
            self._open(*_empty_shape(self.plan)).finish()
            self.forget_tries()
        except (ScanError, OSError) as error:
            self._notice("error", f"its frame file could not be finished: {error}")
        about_run("recorder", self.plan.run).info("%d of %d frames on disk", self.count, self.plan.num)

    def forget_tries(self) -> None:
        """What was gone on with has not ended us."""
        with suppress(OSError):
            _tries_of(self._first).unlink(missing_ok=True)

    def close(self) -> None:
        """Leave the file as it is."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(ScanError):  # what could be written is there, and was told of
                writer.close()

    def _notice(self, level: str, message: str) -> None:
        self._service.notice(level, message, self.plan.run)


def _empty_shape(plan: RunPlan) -> tuple[tuple[int, ...], np.dtype[Any]]:
    packed = plan.scan.get("bad_pixels") or plan.scan.get("flatfield") or {"shape": (1, 1)}
    return tuple(packed["shape"]), np.dtype(np.uint16)
