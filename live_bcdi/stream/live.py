"""One run as it is watched: assembler, peak, and what the page is told. No sockets, no clock of its own."""

import math
from collections import deque
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..advice import PatternFacts, ScanFacts
from ..cleaning import counts_of
from ..types import Frame, FrameArray, RockingScan, ScanError
from .assembler import Assembler, FrameStore
from .drift import Centroids
from .run import RunPlan
from .statistics import PeakWatcher
from .updates import Update
from .volume import part_around

PACE_FRAMES = 32  # of which the time between frames is the mean: a pause is soon forgotten, a burst evened out


class LiveRun:
    """`add` frames, ask for an `update` when the page wants one, `finish` from the file at `stop`.

    With a limit to its memory it keeps a window of each frame, around where most is seen, that follows the peak;
    curve, peak and pixel counts are of whole frames all the same.
    """

    def __init__(
        self, plan: RunPlan, clock_s: Callable[[], float], *, limit_bytes: int | None = None, least: int = 1
    ) -> None:
        """`limit_bytes` and `least` as for `Assembler`, which says what is raised."""
        self.plan = plan
        self.assembler = Assembler(plan, limit_bytes=limit_bytes, least=least)
        self._watcher = PeakWatcher(self.assembler.description, plan.num)
        self._clock_s = clock_s
        self._centroids, self._centred_at = Centroids(plan.num), 0
        self._pixel = (0, 0)
        self._first_s: float | None = None
        self._came_s: deque[float] = deque(maxlen=PACE_FRAMES)
        self._newest: tuple[int, FrameArray] | None = None
        self._shown = np.zeros(plan.num, bool)
        self._looked_at = 0  # frames that there were when the window was last seen to be in its place
        self.newest_s: float | None = None

    def add(self, frame: Frame) -> bool:
        """Take a frame; False for a duplicate. Raises ScanError as `Assembler.add` does."""
        new = self.assembler.add(frame)
        self.newest_s = self._clock_s()
        if new:
            self._first_s = self.newest_s if self._first_s is None else self._first_s
            self._came_s.append(self.newest_s)
            self._newest = (frame.index, frame.image)
            self._look(frame)
        return new

    def _look(self, frame: Frame) -> None:
        self._watcher.add(frame.index, frame.image)
        self._place_window(self.assembler.count > 1.1 * self._looked_at)

    def _place_window(self, due: bool) -> None:
        """Make one where memory ends, and move it where the peak has left its middle. That is looked at when the
        frames have grown by a tenth: where most was seen takes as long to find as several frames."""
        volume = self.assembler.volume
        if not volume.wants_window:
            if not (due and volume.is_cropped):
                return
            self._looked_at = self.assembler.count
            if volume.is_safe(*self._watcher.brightest_pixel) or volume.is_safe(*self._watcher.blob()):
                return
        self.assembler.crop(*self._watcher.blob())

    def limit(self, limit_bytes: int) -> None:
        """Make do with so much memory from now on."""
        self.assembler.limit(limit_bytes)
        if self.assembler.count:
            self._place_window(due=False)

    def refill(self, store: FrameStore, *, to_end: bool, for_s: float = math.inf) -> bool:
        """Take from the file what is missing, up to the newest frame or, `to_end`, all; stop after `for_s`.

        True where the file has no more of it. Raises ScanError where a frame cannot be read.
        """
        until_s = self._clock_s() + for_s
        known = 1 + int(np.flatnonzero(self.assembler.seen).max(initial=-1))
        end = self.plan.num if to_end else known
        stored = [index for index in store.indices() if index < end]
        missing = sorted(set(stored).intersection(self.assembler.missing))
        for frame in self.assembler.refilling(store, missing):
            if self._newest is None or frame.index > self._newest[0]:
                self._newest = (frame.index, frame.image)
            self._look(frame)
            if for_s < math.inf and self._clock_s() > until_s:
                break
        return bool(self.assembler.have[stored].all())

    @property
    def is_behind(self) -> bool:
        """Whether the volume lacks a frame before the last one that is known."""
        known = 1 + int(np.flatnonzero(self.assembler.seen).max(initial=-1))
        return not self.assembler.have[:known].all()

    def finish(self, store: FrameStore) -> int:
        """Refill from the file what the stream lost; how many frames that were."""
        before = self.assembler.refilled
        if self.assembler.count:
            self._place_window(due=True)
        while not self.refill(store, to_end=True):
            pass  # a window that moved on the way lost what it had
        return self.assembler.refilled - before

    def snapshot(self, edge: int) -> RockingScan:
        """A copy of at most `edge` voxels a side around the brightest voxel so far, for an estimate elsewhere; the
        brightest in the window where it is not in it. Raises ScanError before the first frame.
        """
        report = self._watcher.report()
        if report is None:
            raise ScanError(f"run {self.plan.run[:8]} has no frame yet")
        volume = self.assembler.volume
        index, *pixel = report.peak
        if not all(part.start <= place < part.stop for part, place in zip(volume.window, pixel)):
            pixel = list(volume.centre)
            index = int(np.argmax(counts_of(volume.line(*pixel))))
        rocking = part_around(index, edge, self.plan.num)
        rows, columns = (part_around(place, edge, size) for place, size in zip(pixel, volume.shape))
        return self.assembler.scan(rocking, rows, columns)

    def around_peak(self, edge: int) -> tuple[RockingScan, tuple[int, int]]:
        """A copy of all frames so far, at most `edge` pixels a side of them around where most is seen, and the
        first pixel of that. Raises ScanError before the first frame."""
        if not self.assembler.count:
            raise ScanError(f"run {self.plan.run[:8]} has no frame yet")
        sizes = self.assembler.volume.shape
        rows, columns = (part_around(place, edge, size) for place, size in zip(self._watcher.blob(), sizes))
        scan = self.assembler.scan(slice(None), rows, columns)
        whole, cut = self.assembler.description.geometry.arm_pixel, scan.geometry.arm_pixel
        return scan, (round(whole[0] - cut[0]), round(whole[1] - cut[1]))

    def rate_hz(self) -> float:
        """Mean rate of the frames so far."""
        if self._first_s is None or self.newest_s is None or self.newest_s <= self._first_s:
            return 0.0
        return (int(np.count_nonzero(self.assembler.brought)) - 1) / (self.newest_s - self._first_s)

    def interval_s(self) -> float | None:
        """Mean time between the newest frames of the stream; None before two have come."""
        if len(self._came_s) < 2:
            return None
        return (self._came_s[-1] - self._came_s[0]) / (len(self._came_s) - 1)

    def last_in_s(self) -> float:
        """How long until the last planned frame, by the pace of the newest; negative where that is over, infinite
        where it is not known."""
        interval_s = self.interval_s()
        if interval_s is None or self.newest_s is None:
            return math.inf
        return (self.plan.num - self.assembler.count) * interval_s - (self._clock_s() - self.newest_s)

    def facts(self, *, ended: bool = False, pattern: PatternFacts | None = None) -> ScanFacts | None:
        """What advice is given by; None before the first frame. `pattern` is what an estimate saw in it."""
        report = self._watcher.report()
        if report is None:
            return None
        seen = self.assembler
        return ScanFacts(
            angles_deg=seen.angles_deg,
            totals=self._watcher.totals,
            have=seen.seen,
            monitor=seen.monitor,
            planned_deg=(self.plan.start_deg, self.plan.stop_deg),
            shape=(seen.volume.shape[0], seen.volume.shape[1]),
            peak=report.peak[1:],
            peak_counts=report.peak_counts,
            rim_counts=self._watcher.rim_counts,
            saturated=report.saturated,
            saturation_counts=self.plan.scan.get("saturation_counts"),
            ended=ended,
            pattern=pattern,
        )

    def update(self, *, at_peak: bool = False, waiting: int = 0) -> Update:
        """Topic `live`: the rocking curve so far and the newest frame; in the end, `at_peak`, that of the peak.
        `waiting` is how many frames wait to be added."""
        report = self._watcher.report(final=at_peak)
        arrays: dict[str, NDArray[Any]] = {
            "angles_deg": self.assembler.angles_deg,
            "totals": self._watcher.totals,
            "have": self.assembler.seen,
        }
        fields = {**self._numbers(), "waiting": waiting}
        shown = self._newest
        if report is not None and shown is not None:
            time_s = float(self.assembler.timestamps_s[shown[0]])
            if at_peak and self._watcher.brightest is not None:
                shown, time_s = (report.peak[0], self._watcher.brightest), math.nan
            fields |= {
                "index": shown[0],
                "frame_time_s": time_s if math.isfinite(time_s) else None,
                "angle_deg": float(self.assembler.angles_deg[shown[0]]),
                "peak": list(report.peak),
                "peak_counts": report.peak_counts,
                "bragg_deg": report.bragg_deg,
                "d_angstrom": report.d_angstrom,
                "q_invA": report.q_invA,
                "saturated": report.saturated,
                "dead": report.dead,
            }
            arrays |= self._drift(at_end=at_peak)
            arrays["image"], fields["image_bin"] = _for_screen(counts_of(shown[1]))
            if not at_peak:  # a picture at the end is no pace; and what counts skipped frames only grows
                self._shown[shown[0]] = True
        fields["skipped"] = int(np.count_nonzero(self.assembler.seen & ~self._shown))
        return Update(topic="live", run=self.plan.run, fields=fields, arrays=arrays)

    def _drift(self, *, at_end: bool) -> dict[str, NDArray[Any]]:
        """Centroid, monitor and time of each frame, as far as they are known; seconds from the first frame's."""
        seen, centroids = self.assembler, self._centroids
        if seen.count > 1.5 * self._centred_at or at_end:  # a hot pixel is no peak, and to see that takes as long
            self._centred_at, self._pixel = seen.count, self._watcher.blob()  # as several frames
        centroids.look(seen, self._pixel)
        known = {
            "centroid_row": centroids.row,
            "centroid_column": centroids.column,
            "centroid_row_std": centroids.row_std,
            "centroid_column_std": centroids.column_std,
            "monitor": seen.monitor,
            "times_s": seen.timestamps_s - np.nanmin(seen.timestamps_s, initial=np.inf),
        }
        return {name: values.astype(np.float32) for name, values in known.items() if np.isfinite(values).any()}

    def _numbers(self) -> dict[str, object]:
        seen = self.assembler
        table: dict[str, object] = {
            "count": seen.count,
            "num": self.plan.num,
            "index": -1,
            "rate_hz": self.rate_hz(),
            "interval_s": self.interval_s(),
            "total": float(self._watcher.totals.sum()),
            "received": seen.count - seen.refilled,
            "lost": seen.lost,
            "duplicates": seen.duplicates,
            "refilled": seen.refilled,
            "missing": len(seen.missing),
            "newest_age_s": None if self.newest_s is None else self._clock_s() - self.newest_s,
            "saturation_counts": self.plan.scan.get("saturation_counts"),
        }
        if seen.count and seen.volume.is_cropped:
            rows, columns = seen.volume.window
            table["window"] = [rows.start, rows.stop, columns.start, columns.stop]
        return table


def _for_screen(image: np.ndarray) -> tuple[np.ndarray, int]:
    """At most 512 pixels an edge, float32, each the maximum of a block so that no peak is lost; its edge."""
    block = max(1, -(-max(image.shape) // 512))
    whole = np.pad(image, [(0, -edge % block) for edge in image.shape])
    rows = reduce(np.maximum, (whole[start::block] for start in range(block)))
    binned = reduce(np.maximum, (rows[:, start::block] for start in range(block)))
    return binned.astype(np.float32), block
