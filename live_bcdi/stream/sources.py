"""Where frames come from, and how a picture becomes a `Frame` where the detector knows nothing of runs and motors.

Such a detector counts. The documents say which of its pictures are a run's: `Labeller` has both.
"""

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..types import Frame, FrameArray, ScanError
from . import journal
from .angles import Angles, Readings
from .run import RunPlan, is_rocking_run, run_plan

EARLY_BYTES = 1 << 28  # pictures may overtake the start document; it follows within milliseconds
LATE_S = 2.0  # a network and a decoder are seldom further behind the documents
HELD_BYTES = 1 << 28  # pictures that wait for the document with their angle: 512 of one megapixel
LEAST_BYTES = 1 << 10  # what a picture costs at least, however small
CLOCK_S = 1.0  # a picture that comes earlier, or later, than this after its exposure is of a clock that is off

Tell = Callable[[str], None]


class FrameSource(Protocol):
    """A detector that knows nothing of runs. `socket` is for `zmq.Poller`; None where there is none to wait on.

    `labels` knows the run; `rereads` says whether frames that were missed come again with their documents.
    """

    @property
    def socket(self) -> Any: ...

    @property
    def labels(self) -> "Labeller": ...

    @property
    def rereads(self) -> bool: ...

    def document(self, name: str, doc: Mapping[str, Any]) -> None:
        """What the RunEngine says, in its order."""
        ...

    def late_s(self) -> float:
        """How long after the stop, and after the newest frame, one that is missing may still come."""
        ...

    def receive(self, timeout_s: float) -> Iterator[Frame]:
        """Some frames that are there within `timeout_s`; what is malformed is told of and skipped."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Exposure:
    """A picture (row, column) as its detector knows it: the `number` that it counts and, where it counts from 0
    each time it is armed, the `series`. `timestamp_s` is the middle of the exposure, NaN where it is not told."""

    number: int
    timestamp_s: float
    image: FrameArray
    series: int = 0


class Complaints:
    """Says a fault when it first happens in a run, and at the run's end how often it did: not a thousand lines."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._counts: Counter[str] = Counter()

    def say(self, kind: str, message: str) -> None:
        self._counts[kind] += 1
        if self._counts[kind] == 1:
            self._tell(message)

    def sum_up(self) -> None:
        """Tell of what happened more than once, and begin again."""
        often = [f"{kind} {count} times" for kind, count in self._counts.items() if count > 1]
        self._counts.clear()
        if often:
            self._tell("in this run: " + ", ".join(often))


@dataclass(slots=True)
class _Run:
    plan: RunPlan
    started_s: float
    angles: Angles
    monitor: Readings | None
    origin: tuple[int, int] | None  # series and number of the run's first frame, where that is known
    seen: set[int]
    exposure_s: float = 0.0
    newest: int = -1
    kind: tuple[tuple[int, ...], np.dtype[Any]] | None = None


class Labeller:
    """Gives exposures their run, index and angle; the newest run has them, as in the live consumer.

    With `series`, a run begins with the one that was armed and not ended when it started, or else with the next;
    in a series that an earlier run has used, with the next picture. All series of a run have as many pictures as
    the detector announced for one, and it counts the series up. Without, a run begins with the number `first` or,
    where that is None, with the first picture after it started. A picture waits until documents say its angle, and
    the reading of `monitor` where that is a data key. `prompt` sources bring a picture as soon as it is taken.
    """

    def __init__(
        self,
        tell: Tell,
        *,
        series: bool = False,
        first: int | None = None,
        monitor: str | None = None,
        prompt: bool = True,
        clock_s: Callable[[], float] = time.time,
    ) -> None:
        self.complaints = Complaints(tell)
        self._series, self._first = series, first
        self._run: _Run | None = None
        self._runs: dict[str, str] = {}
        self._armed: int | None = None
        self._pictures: dict[int, int] = {}
        self._used = (-1, -1)
        self._early: deque[Exposure] = deque()
        self._waiting: deque[tuple[int, Exposure, float]] = deque()
        self._monitor, self._prompt, self._clock_s = monitor, prompt, clock_s
        self._ready: deque[Frame] = deque()
        self._recalled: tuple[tuple[int, int] | None, int] = (None, -1)

    @property
    def origin(self) -> tuple[int, int] | None:
        """What the detector counted for frame 0 of the run: series and number; None where it is not known yet."""
        return None if self._run is None else self._run.origin

    def recall(self, origin: tuple[int, int] | None, newest: int) -> None:
        """The run that starts next began with this: someone else had its first frames, up to index `newest`."""
        self._recalled = (origin, newest)

    @property
    def missing(self) -> int:
        """How many planned frames of the run have not come."""
        return 0 if self._run is None else self._run.plan.num - len(self._run.seen)

    @property
    def run(self) -> str | None:
        """The run that has the exposures now."""
        return None if self._run is None else self._run.plan.run

    @property
    def started_s(self) -> float:
        """When that run started, by the clock of the RunEngine; minus infinity where there is none."""
        return -math.inf if self._run is None else self._run.started_s

    def armed(self, series: int, pictures: int) -> None:
        """The detector began a series of so many pictures."""
        self._armed = series
        self._pictures[series] = pictures
        self._early.clear()
        if self._run is not None and self._run.origin is None:
            self._run.origin = (series, 0)

    def ended(self, series: int) -> None:
        """The detector ended a series."""
        if self._armed == series:
            self._armed = None
            self._early.clear()

    def document(self, name: str, doc: Mapping[str, Any]) -> None:
        """Learn of runs and angles. After a `stop`, what waited is ready and what comes later is of no run."""
        uid = journal.run_of(name, doc, self._runs)
        if name == "start" and is_rocking_run(doc):
            self._start(doc)
        elif self._run is not None and uid == self._run.plan.run:
            self._learn(self._run, name, doc)
            if name == "stop":
                self._stop()

    def _learn(self, run: _Run, name: str, doc: Mapping[str, Any]) -> None:
        try:
            run.angles.document(name, doc)
            if run.monitor is not None:
                run.monitor.document(name, doc)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            text = f"the angle in one {name} document cannot be read: {type(error).__name__}: {error}"
            self.complaints.say("a document that cannot be used", text)

    def _start(self, doc: Mapping[str, Any]) -> None:
        try:
            plan = run_plan(doc)
        except ScanError:
            return  # whoever shows the run says what its start document lacks
        self._stop()
        said = doc.get("time")
        time_s = float(said) if isinstance(said, int | float) else math.nan
        self._run = _Run(
            plan=plan,
            started_s=time_s,
            angles=Angles(plan, doc),
            monitor=None if self._monitor is None else Readings(self._monitor),
            origin=self._origin(),
            seen=set(),
            newest=self._recalled[1],
            exposure_s=float(plan.scan.get("exposure_s") or 0.0),
        )
        self._recalled = (None, -1)
        early = list(self._early)
        self._early.clear()
        for exposure in early:
            of_run = exposure.series == self._armed if self._series else exposure.timestamp_s >= time_s
            if of_run:
                self.take(exposure)

    def _origin(self) -> tuple[int, int] | None:
        if (recalled := self._recalled[0]) is not None:
            return recalled
        if self._first is not None:
            return (0, self._first)
        armed, (used, number) = self._armed, self._used
        self._pictures = {series: count for series, count in self._pictures.items() if series == armed}
        return None if armed is None else (armed, number + 1 if used == armed else 0)

    def take(self, exposure: Exposure) -> None:
        """Take a picture; what cannot be of the run is told of, once, and left out."""
        run = self._run
        if run is None:
            self._early.append(exposure)
            while sum(_cost(early) for early in self._early) > EARLY_BYTES:
                self._early.popleft()
            return
        run.origin = run.origin or (exposure.series, 0 if self._series else exposure.number)
        index = self._index(run.origin, exposure)
        if not 0 <= index < run.plan.num:
            self._refuse(run.plan.num, run.origin, exposure)
        elif self._is_new(run, index, exposure.image):
            run.seen.add(index)
            run.newest = max(run.newest, index)
            self._used = max(self._used, (exposure.series, exposure.number))
            self._waiting.append((index, exposure, self._clock_s() - exposure.timestamp_s))

    def _index(self, origin: tuple[int, int], exposure: Exposure) -> int:
        """Of an exposure from the run's first; -1 where its series cannot be one of the run's."""
        series, number = origin
        if exposure.series == series:
            return exposure.number - number
        counts = {self._pictures[one] for one in (series, exposure.series) if one in self._pictures}
        if len(counts) != 1:
            return -1
        return (exposure.series - series) * counts.pop() + exposure.number - number

    def _refuse(self, num: int, origin: tuple[int, int], exposure: Exposure) -> None:
        of, since = (f" of series {exposure.series}", f" of series {origin[0]}") if self._series else ("", "")
        self.complaints.say(
            "a picture that is not of the run",
            f"picture {exposure.number}{of} is not one of the {num} that were planned from picture"
            f" {origin[1]}{since} on; it was left out",
        )

    def _is_new(self, run: _Run, index: int, image: FrameArray) -> bool:
        shape, dtype = run.kind = run.kind or (image.shape, image.dtype)
        if (image.shape, image.dtype) != (shape, dtype):
            text = f"frame {index} is {image.shape} {image.dtype}, the first was {shape} {dtype}; it was left out"
            self.complaints.say("a frame of another shape or type", text)
            return False
        if index in run.seen:
            self.complaints.say("a repeated frame", f"frame {index} came again; the first is kept")
            return False
        if index > run.newest + 1:
            text = (
                f"frames {run.newest + 1} to {index - 1} did not come before {index}; does someone else take them?"
            )
            self.complaints.say("a gap", text)
        return True

    def ready(self) -> Iterator[Frame]:
        """Frames whose angle is known, each once."""
        if self._run is not None:
            self._look_up(self._run)
        while self._ready:
            yield self._ready.popleft()

    def _look_up(self, run: _Run) -> None:
        for _ in range(len(self._waiting)):
            index, exposure, age_s = self._waiting.popleft()
            angle_deg = run.angles.of(index, self._time_s(run, exposure, age_s))
            monitor = 0.0 if run.monitor is None else run.monitor.of(index)
            if angle_deg is None or monitor is None:
                self._waiting.append((index, exposure, age_s))
            else:
                self._give(run, index, angle_deg, exposure)
        self._release(run, HELD_BYTES)

    def _time_s(self, run: _Run, exposure: Exposure, age_s: float) -> float:
        """When a picture was taken, by the clock of the motor; NaN where the detector's cannot be that. A file may
        be read at any time after, but nothing comes before it was exposed, or is older than its run."""
        if not run.angles.monitored or math.isnan(age_s):
            return exposure.timestamp_s
        early_s = exposure.timestamp_s - run.started_s
        if age_s < -CLOCK_S or early_s < -CLOCK_S or (self._prompt and age_s > CLOCK_S + run.exposure_s):
            text = (
                f"the detector's clock seems to be {age_s:.1f} s behind: a continuous scan needs it to agree with"
                " the motor's; frames get the planned angles where it does not"
            )
            self.complaints.say("a time stamp that cannot be", text)
            return math.nan
        return exposure.timestamp_s

    def _give(self, run: _Run, index: int, angle_deg: float, exposure: Exposure) -> None:
        monitor = math.nan if run.monitor is None else run.monitor.of(index)
        frame = Frame(
            run=run.plan.run,
            index=index,
            angle_deg=angle_deg,
            monitor=math.nan if monitor is None else monitor,
            timestamp_s=exposure.timestamp_s,
            image=exposure.image,
        )
        self._ready.append(frame)

    def _release(self, run: _Run, limit_bytes: int) -> None:
        """The oldest of those that wait beyond a limit, at the angle that is known without waiting."""
        held = sum(_cost(exposure) for _, exposure, _ in self._waiting)
        while held > limit_bytes:
            index, exposure, age_s = self._waiting.popleft()
            held -= _cost(exposure)
            angle_deg = run.angles.of(index, self._time_s(run, exposure, age_s))
            if angle_deg is not None:
                self._give(run, index, angle_deg, exposure)
                continue
            text = f"frame {index}: no document said its angle; the planned one stands"
            self.complaints.say("an angle that was not told", text)
            self._give(run, index, float(run.angles.planned[index]), exposure)

    def _stop(self) -> None:
        if self._run is not None:
            self._look_up(self._run)
            self._release(self._run, 0)
            self._run = None
            self.complaints.sum_up()


def _cost(exposure: Exposure) -> int:
    return max(exposure.image.nbytes, LEAST_BYTES)
