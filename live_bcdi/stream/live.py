"""One run as it is watched: assembler, peak, and what the page is told. No sockets, no clock of its own."""

from collections.abc import Callable
from functools import reduce

import numpy as np

from ..cleaning import counts_of
from ..types import Frame, RockingScan, ScanError
from .assembler import Assembler, FrameStore
from .run import RunPlan
from .statistics import PeakReport, PeakWatcher
from .updates import Update


class LiveRun:
    """`add` frames, ask for an `update` when the page wants one, `finish` from the file at `stop`."""

    def __init__(self, plan: RunPlan, clock_s: Callable[[], float]) -> None:
        """Raises ScanError as `Assembler` does."""
        self.plan = plan
        self.assembler = Assembler(plan)
        self._watcher = PeakWatcher(self.assembler.description)
        self._clock_s = clock_s
        self._first_s: float | None = None
        self._last_s = 0.0

    def add(self, frame: Frame) -> bool:
        """Take a frame; False for a duplicate. Raises ScanError as `Assembler.add` does."""
        new = self.assembler.add(frame)
        if new:
            self._watcher.add(frame.image)
            self._last_s = self._clock_s()
            self._first_s = self._last_s if self._first_s is None else self._first_s
        return new

    def finish(self, store: FrameStore) -> int:
        """Refill from the file what the stream lost; how many frames that were."""
        lost = self.assembler.missing
        count = self.assembler.refill(store)
        for index in lost:
            if self.assembler.have[index]:
                self._watcher.add(self.assembler.frames[index])
        return count

    def snapshot(self, edge: int) -> RockingScan:
        """A copy of at most `edge` voxels a side around the brightest voxel so far, for an estimate elsewhere.

        Raises ScanError before the first frame.
        """
        report = self._report()
        if report is None:
            raise ScanError(f"run {self.plan.run[:8]} has no frame yet")
        box = [_window(centre, edge, size) for centre, size in zip(report.peak, self.assembler.frames.shape)]
        return self.assembler.scan(box[0], box[1], box[2])

    def _report(self, *, final: bool = False) -> PeakReport | None:
        return self._watcher.report(self.assembler.frames, final=final) if self.assembler.count else None

    def rate_hz(self) -> float:
        """Mean rate of the frames so far."""
        if self._first_s is None or self._last_s <= self._first_s:
            return 0.0
        return (self.assembler.count - 1) / (self._last_s - self._first_s)

    def update(self, *, at_peak: bool = False) -> Update:
        """Topic `live`: the rocking curve so far and the newest frame; in the end, `at_peak`, that of the peak."""
        seen = self.assembler
        report = self._report(final=at_peak)
        shown = report.peak[0] if at_peak and report is not None else seen.newest
        fields = {
            "count": seen.count,
            "num": self.plan.num,
            "index": shown,
            "rate_hz": self.rate_hz(),
            "total": float(seen.totals.sum()),
            "duplicates": seen.duplicates,
            "refilled": seen.refilled,
            "missing": len(seen.missing),
            "saturation_counts": self.plan.scan.get("saturation_counts"),
        }
        arrays = {"angles_deg": seen.angles_deg, "totals": seen.totals, "have": seen.have}
        if report is not None:
            fields |= {
                "angle_deg": float(seen.angles_deg[shown]),
                "peak": list(report.peak),
                "peak_counts": report.peak_counts,
                "bragg_deg": report.bragg_deg,
                "d_angstrom": report.d_angstrom,
                "q_invA": report.q_invA,
                "saturated": report.saturated,
                "dead": report.dead,
            }
            arrays["image"], fields["image_bin"] = _for_screen(counts_of(seen.frames[shown]))
        return Update(topic="live", run=self.plan.run, fields=fields, arrays=arrays)


def _window(centre: int, edge: int, size: int) -> slice:
    """`edge` voxels around `centre`, moved to lie within the array."""
    start = max(0, min(centre - edge // 2, size - edge))
    return slice(start, min(start + edge, size))


def _for_screen(image: np.ndarray) -> tuple[np.ndarray, int]:
    """At most 512 pixels an edge, float32, each the maximum of a block so that no peak is lost; its edge."""
    block = max(1, -(-max(image.shape) // 512))
    whole = np.pad(image, [(0, -edge % block) for edge in image.shape])
    rows = reduce(np.maximum, (whole[start::block] for start in range(block)))
    binned = reduce(np.maximum, (rows[:, start::block] for start in range(block)))
    return binned.astype(np.float32), block
