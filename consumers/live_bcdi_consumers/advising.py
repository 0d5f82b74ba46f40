"""What plans asked to be advised on, from their documents and frames. No sockets; the clock is passed in."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from live_bcdi.metadata import scan_from_metadata
from live_bcdi.steering.advice import Advice
from live_bcdi.steering.tasks import Asked, Shot, Told, begin_task
from live_bcdi.stream import journal
from live_bcdi.stream.run import KEY, MOST_FRAMES
from live_bcdi.stream.updates import Update, UpdateSink
from live_bcdi.transport.hdf5 import FrameFile
from live_bcdi.types import Frame, RockingScan, ScanError

from .files import frame_file_of

ASKS = "steering"  # the start document's key
OPEN, SERIES = 8, 8  # runs and series of sweeps at once; the oldest gives way
AGAIN_S = 1.0  # a plan that began to listen late hears what was said before
EARLY = 64  # frames that overtook their start document
LATE_S, GONE_S = 0.3, 2.0  # until a frame is looked for in the file, and until it is given up
FOR_GOOD_S = 600.0  # after its end nobody asks for a run's advice again


@dataclass(slots=True, eq=False)
class _Run:
    """`frames` wait for those before them, and for what motors read; `next` is the index of the next to take."""

    asked: Asked
    num: int | None
    frames: dict[int, Frame] = field(default_factory=dict)
    positions: dict[int, dict[str, float]] = field(default_factory=dict)
    next: int = 0
    path: str | None = None
    waits_since_s: float | None = None
    stopped_s: float | None = None
    ended: bool = False
    last: Told | None = None
    said: Advice | None = None
    again_s: float = 0.0

    @property
    def is_waiting(self) -> bool:
        """Whether there should be a frame that is not there."""
        known = max((*self.frames, *self.positions, -1))
        all_in = self.num is not None and self.next >= self.num
        return known >= self.next or (self.stopped_s is not None and not all_in)


class Advising:
    """Takes documents and frames; `work` in turn with them looks for lost frames, and says the newest advice again
    every second."""

    def __init__(
        self,
        updates: UpdateSink,
        notice: Callable[[str, str, str], None],
        clock_s: Callable[[], float] = time.time,
    ) -> None:
        """`notice` takes a level, a message and a run."""
        self._updates, self._notice, self._clock_s = updates, notice, clock_s
        self._runs: OrderedDict[str, _Run] = OrderedDict()
        self._series: OrderedDict[str, Asked] = OrderedDict()
        self._uids: dict[str, str] = {}
        self._primary: dict[str, str] = {}
        self._early: deque[Frame] = deque(maxlen=EARLY)

    @property
    def detail(self) -> str:
        """What the page shows beside the service's name."""
        under_way = sum(not run.ended for run in self._runs.values())
        return f"{under_way} plans ask for advice" if under_way else ""

    def document(self, name: str, doc: dict[str, Any]) -> None:
        """Take a document; of a run that does not ask, nothing is kept."""
        run = journal.run_of(name, doc, self._uids)
        if run is None:
            return
        if name == "start" and ASKS in doc:
            self._start(run, doc)
        known = self._runs.get(run)
        if known is None:
            return
        if name == "descriptor" and doc.get("name") == "primary":
            self._primary[str(doc["uid"])] = run
        elif name == "event" and known.asked.needs and str(doc["descriptor"]) in self._primary:
            known.positions[int(doc["seq_num"]) - 1] = _numbers(doc["data"])
        elif name == "stream_resource":
            known.path = frame_file_of(doc) or known.path
        elif name == "stop":
            known.stopped_s = self._clock_s()
        self._take(run)

    def _start(self, run: str, doc: dict[str, Any]) -> None:
        if run in self._runs:
            return
        table = doc[ASKS]
        series = str(table.get("series") or "") if isinstance(table, dict) else ""
        try:
            asked = self._series.get(series) or begin_task(table, _described(doc))
        except ScanError as error:
            self._notice("error", f"there will be no advice: {error}", run)
            return
        if series:
            self._series[series] = asked
        self._runs[run] = _Run(asked=asked, num=_planned(doc))
        for kept, most in ((self._runs, OPEN), (self._series, SERIES)):
            while len(kept) > most:
                kept.popitem(last=False)
        self._primary = {uid: of for uid, of in self._primary.items() if of in self._runs}
        for frame in [frame for frame in self._early if frame.run == run]:
            self._runs[run].frames[frame.index] = frame
        self._say(run)

    def frame(self, frame: Frame) -> None:
        """Take a frame; one of a run that is not known may be ahead of its start document."""
        known = self._runs.get(frame.run)
        if known is None:
            self._early.append(frame)
        elif known.next <= frame.index < (known.num or MOST_FRAMES):
            known.frames[frame.index] = frame
            self._take(frame.run)

    def _take(self, run: str) -> None:
        """All frames that are there, in their order; then say what is new."""
        known, before = self._runs[run], self._runs[run].next
        while known.next in known.frames and self._is_placed(known):
            frame = known.frames.pop(known.next)
            self._add(run, frame, known.positions.pop(known.next, {}))
            known.next += 1
        if known.next > before:
            known.waits_since_s = None
            self._say(run)
        if known.stopped_s is not None and not known.ended and not known.is_waiting:
            self._end(run)

    def _is_placed(self, known: _Run) -> bool:
        """Whether the motor that the task needs is known to this frame."""
        return not known.asked.needs or known.asked.needs in known.positions.get(known.next, {})

    def _add(self, run: str, frame: Frame, positions: dict[str, float]) -> None:
        image, angle_deg, time_s = frame.image, frame.angle_deg, frame.timestamp_s
        try:
            self._runs[run].asked.add(Shot(image=image, angle_deg=angle_deg, positions=positions, time_s=time_s))
        except ScanError as error:
            self._notice("warning", f"frame {frame.index} is left out of the advice: {error}", run)

    def _end(self, run: str) -> None:
        known = self._runs[run]
        known.ended = True
        known.next = max(known.next, known.num or 0)
        try:
            known.asked.end()
        except ScanError as error:
            self._notice("warning", f"no advice: {error}", run)
            return
        self._say(run)

    def _say(self, run: str) -> None:
        """What the frames so far say."""
        known = self._runs[run]
        try:
            told = known.asked.told()
        except ScanError as error:
            told = Told(what="none", why=str(error))
        if told is None or (known.said is not None and (told, known.next) == (known.last, known.said.frames)):
            return
        known.last = told
        known.said = Advice(
            what=told.what,
            values=told.values,
            uncertainty=told.uncertainty,
            why=told.why,
            made_at_s=self._clock_s(),
            run=run,
            frames=known.next,
        )
        self._send(known)

    def _send(self, known: _Run) -> None:
        assert known.said is not None, "there is something to send"
        known.again_s = self._clock_s() + AGAIN_S
        fields = {name: value for name, value in asdict(known.said).items() if name != "run"}
        self._updates.send(Update(topic="steering", run=known.said.run, fields=fields))

    def work(self) -> None:
        """Look for lost frames; say the newest again to who began to listen late."""
        now_s = self._clock_s()
        for run, known in list(self._runs.items()):
            if known.is_waiting and not known.ended:
                self._look_for_lost(run, now_s)
            if known.said is not None and now_s >= known.again_s:
                self._send(known)
            if known.ended and known.stopped_s is not None and now_s > known.stopped_s + FOR_GOOD_S:
                del self._runs[run]

    def _look_for_lost(self, run: str, now_s: float) -> None:
        """In the file, after a while; a frame that is not there either is done without."""
        known = self._runs[run]
        known.waits_since_s = now_s if known.waits_since_s is None else known.waits_since_s
        waited_s = now_s - known.waits_since_s
        if waited_s < LATE_S:
            return
        if known.path is not None and known.next not in known.frames:
            known.frames |= _from_file(known.path, run, known.next)
        if waited_s > (GONE_S if known.num is not None or known.frames else LATE_S):
            known.next = min(
                (index for index in known.frames if index > known.next), default=known.num or known.next
            )
            known.frames = {index: frame for index, frame in known.frames.items() if index >= known.next}
            known.positions = {index: read for index, read in known.positions.items() if index >= known.next}
            known.waits_since_s = None
            if known.stopped_s is not None and not known.frames:
                self._end(run)
                return
        self._take(run)


def _from_file(path: str, run: str, first: int) -> dict[int, Frame]:
    """The frames that a file has from one on; none where it cannot be read yet."""
    found = {}
    try:
        with FrameFile(path, wait_s=0.0) as store:
            for index in (index for index in store.indices() if index >= first):
                image, angle_deg, monitor, timestamp_s = store.frame(index)
                numbers = {"angle_deg": angle_deg, "monitor": monitor, "timestamp_s": timestamp_s}
                found[index] = Frame(run=run, index=index, image=image, **numbers)
    except (ScanError, OSError):
        return found
    return found


def _numbers(data: dict[str, Any]) -> dict[str, float]:
    """Finite readings, by the motor that they are of."""
    values: Iterable[tuple[str, Any]] = data.items()
    return {
        key.removesuffix("-user_readback"): float(value)
        for key, value in values
        if isinstance(value, int | float) and np.isfinite(value)
    }


def _planned(start: dict[str, Any]) -> int | None:
    """How many frames a start document promises; None where it does not say."""
    table = start.get(KEY)
    planned = table.get("planned") if isinstance(table, dict) else None
    num = planned.get("num") if isinstance(planned, dict) else start.get("num_points")
    return num if isinstance(num, int) and num > 0 else None


def _described(start: dict[str, Any]) -> RockingScan | None:
    """The scan that a start document promises, without frames; None where it promises none. Raises ScanError."""
    table = start.get(KEY)
    scan = table.get("scan") if isinstance(table, dict) else None
    if not isinstance(scan, dict):
        return None
    packed = scan.get("bad_pixels") or scan.get("flatfield") or {"shape": (0, 0)}
    return scan_from_metadata(scan, intensity=np.zeros((0, *packed["shape"]), np.int32), angles_deg=np.zeros(0))
