"""What a plan asks to be advised on, in its start document's `steering` table, and what its frames say of that.

`{"task": "rocking" | "stop" | "maximise" | "search", ...}` with the fields of `RockingTask`, `StopTask`,
`MaximiseTask` or `SearchTask`: nested tables for theirs.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from typing import Any, Protocol, get_type_hints

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from ..geometry import q_lab_invA, q_steps_invA, with_rocking_angle
from ..preprocess import crop_centred, find_centre, rocking_grid_deg, scan_mask
from ..tracking.scan import box_of
from ..types import FrameArray, RockingScan, ScanError
from .dose import CRITERION, ShellSignal, signal_by_shell
from .peak import Look, Maximise, Next, next_look
from .rocking import PreScan, Wanted, advise_rocking
from .search import Found, Lost, Search, Sweep, Swept, next_sweep
from .spots import find_spots, peak_counts, shells_of
from .stopping import decide, parse_rule

MOST_BYTES = 1 << 29  # of a task's frames
_STEADY = 0.25  # of a sweep: how far the middle of an exposure may be from that of the sweep that was told


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Shot:
    """A frame, the rocking angle in its middle, what motors read then, and its time (seconds since 1970)."""

    image: FrameArray
    angle_deg: float
    positions: Mapping[str, float]
    time_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What is advised; `Advice` without its run and time."""

    what: str
    values: Mapping[str, Any] = field(default_factory=dict)
    uncertainty: Mapping[str, float] = field(default_factory=dict)
    why: str = ""


class Asked(Protocol):
    """A task under way. `needs` is the motor whose reading a shot must have, if any."""

    needs: str

    def add(self, shot: Shot) -> None: ...

    def end(self) -> None:
        """The run has ended."""
        ...

    def told(self) -> Told | None:
        """What the frames so far say; None where nothing is to be said yet."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class RockingTask:
    """Advise on the scan after this quick one, once it has ended: frames of `seconds` through `transmission`, each
    the sum of `acquisitions`; the attenuators offered are `transmissions`, and `planned_deg` is the range that was
    planned."""

    wanted: Wanted
    seconds: float
    transmission: float = 1.0
    acquisitions: int = 1
    transmissions: tuple[float, ...] = (1.0,)
    shortest_s: float = 1e-3
    planned_deg: tuple[float, float] | None = None

    def begin(self, scan: RockingScan | None) -> Asked:
        return _Rocking(self, scan)


@dataclass(frozen=True, kw_only=True, slots=True)
class StopTask:
    """Advise, after each of several like scans, whether all of them together are enough by `rule`."""

    rule: str
    criterion: float = CRITERION

    def begin(self, scan: RockingScan | None) -> Asked:
        if scan is None:
            raise ScanError("whether to stop is advised on for rocking scans that say their geometry")
        return _Stopping(self, scan)


@dataclass(frozen=True, kw_only=True, slots=True)
class MaximiseTask:
    """Advise where `motor` goes next to the top of the peak at `pixel` (row, column) of the detector, from the
    counts in a box of `box` pixels about it; each frame is of `dose_s` seconds of full beam."""

    motor: str
    search: Maximise
    pixel: tuple[float, float]
    dose_s: float
    box: int = 32

    def begin(self, scan: RockingScan | None) -> Asked:
        return _Maximising(self, scan)


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchTask:
    """Advise which sweep of the rocking circle comes next, to find a peak; each frame is a sweep of `dose_s`
    seconds of full beam."""

    search: Search
    dose_s: float

    def begin(self, scan: RockingScan | None) -> Asked:
        return _Searching(self, scan)


_TASKS: dict[str, type[RockingTask | StopTask | MaximiseTask | SearchTask]] = {
    "rocking": RockingTask,
    "stop": StopTask,
    "maximise": MaximiseTask,
    "search": SearchTask,
}


def begin_task(table: Any, scan: RockingScan | None = None) -> Asked:
    """The task of a start document's `steering` table; `scan` is what it says of the scan, without frames. Raises
    ScanError that says what is wrong with the table."""
    if not isinstance(table, Mapping) or str(table.get("task")) not in _TASKS:
        raise ScanError(f"a steering table has a task, one of {', '.join(_TASKS)}; not {str(table)[:80]}")
    values = {key: value for key, value in table.items() if key not in ("task", "series")}
    kind = _TASKS[str(table["task"])]
    _check_known(kind, values)
    try:
        task = TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ScanError(f"the steering table's {where or table['task']!r}: {first['msg']}") from None
    return task.begin(scan)


def _check_known(kind: type, values: Mapping[str, Any]) -> None:
    """Raises ScanError for a key that is no field, also of the tables within: pydantic takes no note of these."""
    known = get_type_hints(kind)
    for name, value in values.items():
        if name not in known:
            raise ScanError(f"the steering table says {str(name)[:40]!r}, which {kind.__name__} has not")
        if isinstance(value, Mapping) and is_dataclass(known[name]):
            _check_known(known[name], value)


class _Frames:
    """Frames and their angles, as many as memory has room for."""

    def __init__(self) -> None:
        self.images: list[FrameArray] = []
        self.angles_deg: list[float] = []
        self.bytes = 0

    def add(self, shot: Shot) -> None:
        if self.images and shot.image.shape != self.images[0].shape:
            raise ScanError(f"a frame is {shot.image.shape}, those before are {self.images[0].shape}")
        self.bytes += shot.image.nbytes
        if self.bytes > MOST_BYTES:
            raise ScanError(f"its frames take more than {MOST_BYTES >> 20} MB; advise on a region of the detector")
        self.images.append(shot.image)
        self.angles_deg.append(shot.angle_deg)

    def in_order(self) -> tuple[FrameArray, NDArray[np.float64]]:
        order = np.argsort(self.angles_deg, kind="stable")
        return np.stack([self.images[k] for k in order]), np.array(self.angles_deg)[order]


class _Rocking:
    needs = ""

    def __init__(self, task: RockingTask, scan: RockingScan | None) -> None:
        self._task, self._scan, self._frames, self._over = task, scan, _Frames(), False

    def add(self, shot: Shot) -> None:
        self._frames.add(shot)

    def end(self) -> None:
        self._over = True

    def told(self) -> Told | None:
        if not self._over or not self._frames.images:
            return None
        frames, angles = self._frames.in_order()
        task, scan, count = self._task, self._scan, len(frames)
        limit = None if scan is None or scan.saturation_counts is None else scan.saturation_counts
        pre = PreScan(
            frames=frames,
            angles_deg=angles,
            seconds=np.full(count, task.seconds),
            transmission=np.full(count, task.transmission),
            acquisitions=task.acquisitions,
            saturation_counts=None if limit is None else limit / task.acquisitions,
            bad_pixels=None if scan is None else scan.bad_pixels,
        )
        found = advise_rocking(
            pre, task.wanted, task.transmissions, shortest_s=task.shortest_s, planned_deg=task.planned_deg
        )
        values = {
            "centre_deg": found.range.centre_deg,
            "fringe_deg": found.range.fringe_deg,
            "start_deg": found.range.start_deg,
            "stop_deg": found.range.stop_deg,
            "num": found.range.num,
            "transmission": found.attenuation.transmission,
            "acquisition_s": min(found.attenuation.acquisition_s, float(found.seconds.max())),
            "seconds": found.seconds.tolist(),
        }
        return Told(
            what="again" if found.again else "scan",
            values=values,
            uncertainty={"centre_deg": found.range.centre_std_deg},
            why="; ".join(found.why),
        )


class _Stopping:
    needs = ""

    def __init__(self, task: StopTask, scan: RockingScan) -> None:
        self._task, self._scan = task, scan
        self._rule = parse_rule(task.rule)
        self._frames = _Frames()
        self._sum: NDArray[np.float64] | None = None
        self._angles = np.zeros(0)
        self._box: tuple[slice, slice] = (slice(None), slice(None))
        self._first_s, self._last_s = math.inf, -math.inf

    def add(self, shot: Shot) -> None:
        self._frames.add(shot)
        self._first_s, self._last_s = min(self._first_s, shot.time_s), max(self._last_s, shot.time_s)

    def end(self) -> None:
        """The sweep joins those before. Raises ScanError where it is of other angles."""
        if not self._frames.images:
            return
        frames, angles = self._frames.in_order()
        self._frames = _Frames()
        if self._sum is None:
            self._box, self._angles = box_of(frames), angles
            self._sum = np.zeros((len(frames), *frames[0, *self._box].shape))
        step = abs(float(np.median(np.diff(self._angles)))) if len(self._angles) > 1 else 0.0
        if len(angles) != len(self._angles) or np.abs(angles - self._angles).max() > step / 2:
            raise ScanError("this sweep is of other angles than those before; begin a new series of sweeps")
        self._sum += frames[:, *self._box]

    def told(self) -> Told | None:
        if self._sum is None:
            return None
        verdict = decide(
            self._rule,
            seconds=self._last_s - self._first_s + (self._scan.exposure_s or 0.0),
            counts=float(self._sum.sum()),
            signal=self._signal(self._sum),
            criterion=self._task.criterion,
        )
        numbers = {name: getattr(verdict, name) for name in ("resolution_nm", "dose_ratio", "seconds_left")}
        known = {name: value for name, value in numbers.items() if math.isfinite(value)}
        spread = {"resolution_nm": verdict.std_nm} if "resolution_nm" in known else {}
        return Told(what="stop" if verdict.stop else "go on", values=known, uncertainty=spread, why=verdict.why)

    def _signal(self, counts: NDArray[np.float64]) -> ShellSignal | None:
        """None where there are too few to speak of anything."""
        scan, (rows, columns) = self._scan, self._box
        part = RockingScan(
            name=scan.name,
            intensity=counts,
            angles_deg=self._angles,
            geometry=scan.geometry,
            bad_pixels=None if scan.bad_pixels is None else scan.bad_pixels[rows, columns],
        )
        try:
            mask, _ = scan_mask(part, np.ones(len(counts), bool))
            first_deg, step_deg = rocking_grid_deg(self._angles, np.ones(len(counts), bool))
            frame, row, column = find_centre(counts, mask)
            turned = with_rocking_angle(scan.geometry, first_deg + step_deg * frame)
            steps = q_steps_invA(turned, step_deg, row + rows.start, column + columns.start)
            at = (round(frame), round(row), round(column))
            shape = (counts.shape[0], counts.shape[1], counts.shape[2])
            return signal_by_shell(*crop_centred(counts, mask, at, shape), steps)
        except ScanError:
            return None


class _Maximising:
    def __init__(self, task: MaximiseTask, scan: RockingScan | None) -> None:
        self._task, self._looks = task, list[Look]()
        self._bad = None if scan is None else scan.bad_pixels
        self.needs = task.motor

    def add(self, shot: Shot) -> None:
        counts, background = peak_counts(shot.image, self._task.pixel, self._task.box, self._bad)
        place = shot.positions[self._task.motor]
        self._looks.append(Look(position=place, counts=counts, dose_s=self._task.dose_s, background=background))

    def end(self) -> None:
        """Nothing is waited for."""

    def told(self) -> Told | None:
        motor, found = self._task.motor, next_look(self._looks, self._task.search)
        if isinstance(found, Next):
            return Told(what="move", values={motor: found.position}, why="the next look tells the most there")
        why = found.why or f"the top is known to {found.std:.2g} after {len(self._looks)} looks"
        return Told(
            what="done" if found.done else "lost",
            values={motor: found.position},
            uncertainty={motor: found.std},
            why=why,
        )


class _Searching:
    needs = ""

    def __init__(self, task: SearchTask, scan: RockingScan | None) -> None:
        self._task, self._scan = task, scan
        self._seen: list[Swept] = []
        self._rings: NDArray[np.float64] | None = None

    def add(self, shot: Shot) -> None:
        """An exposure that was not the sweep that was told is no part of the search."""
        sweep = next_sweep(self._seen, self._task.search)
        if not isinstance(sweep, Sweep) or abs(shot.angle_deg - sweep.middle_deg) > _STEADY * sweep.span_deg:
            return
        bad = None if self._scan is None else self._scan.bad_pixels
        spots = find_spots(shot.image, bad, self._shells(shot.image.shape))
        self._seen.append(Swept(sweep=sweep, dose_s=self._task.dose_s, spots=tuple(spots)))

    def _shells(self, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
        if self._rings is None and self._scan is not None:
            self._rings = shells_of(np.linalg.norm(q_lab_invA(self._scan.geometry, *np.indices(shape)), axis=-1))
        return self._rings

    def end(self) -> None:
        """Nothing is waited for."""

    def told(self) -> Told | None:
        found = next_sweep(self._seen, self._task.search)
        if isinstance(found, Sweep):
            values = {name: getattr(found, name) for name in ("low_deg", "high_deg", "across_deg")}
            return Told(what="sweep", values=values, why="nothing is known of the peak there yet")
        if isinstance(found, Lost):
            return Told(what="lost", why=found.why)
        assert isinstance(found, Found)
        values = {
            "angle_deg": found.angle_deg,
            "across_deg": found.across_deg,
            "row": found.spot.row,
            "column": found.spot.column,
        }
        return Told(
            what="found",
            values=values,
            uncertainty={"angle_deg": found.std_deg, "row": found.spot.row_std, "column": found.spot.column_std},
            why=f"a spot of {found.spot.counts:.4g} counts, found in {found.looks} sweeps",
        )
