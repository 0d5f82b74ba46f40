"""Frames into a volume: keyed by index, duplicates dropped, gaps refilled from the file.

Nothing here knows where frames come from. A frame that came twice, out of order, late, or not at all ends in
the same volume as one that came in time.
"""

from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..metadata import scan_from_metadata
from ..types import BoolArray, Frame, RockingScan, ScanError
from .run import RunPlan


class FrameStore(Protocol):
    """The truth: frames that can be had again, by index."""

    def count(self) -> int: ...

    def frame(self, index: int) -> tuple[NDArray[Any], float, float, float]:
        """(image, angle_deg, monitor, timestamp_s)."""
        ...


class Assembler:
    """One run's volume while it grows. Not thread-safe: one intake loop owns it."""

    def __init__(self, plan: RunPlan) -> None:
        self.plan = plan
        self.have: BoolArray = np.zeros(plan.num, bool)
        self.angles_deg = np.linspace(plan.start_deg, plan.stop_deg, plan.num)
        self.monitor = np.full(plan.num, np.nan)
        self.timestamps_s = np.full(plan.num, np.nan)
        self.totals = np.zeros(plan.num)
        self.duplicates = 0
        self.refilled = 0
        self.newest = -1
        self._frames: NDArray[Any] | None = None

    @property
    def count(self) -> int:
        """Distinct frames received."""
        return int(self.have.sum())

    @property
    def missing(self) -> list[int]:
        """Indices that have not come."""
        return [int(index) for index in np.flatnonzero(~self.have)]

    @property
    def frames(self) -> NDArray[Any]:
        """The volume so far (rocking, row, column), zero where `have` is False. A view: copy it to keep it.

        Raises ScanError before the first frame.
        """
        if self._frames is None:
            raise ScanError(f"run {self.plan.run[:8]} has no frame yet")
        return self._frames

    def add(self, frame: Frame) -> bool:
        """Take a frame; False where it was there already.

        Raises ScanError where it is of another run, beyond the planned number, or of another shape or dtype.
        """
        self._check(frame)
        if self.have[frame.index]:
            self.duplicates += 1
            return False
        self.frames[frame.index] = frame.image
        self.angles_deg[frame.index] = frame.angle_deg
        self.monitor[frame.index] = frame.monitor
        self.timestamps_s[frame.index] = frame.timestamp_s
        self.totals[frame.index] = frame.image.sum(dtype=np.float64)
        self.have[frame.index] = True
        self.newest = frame.index
        return True

    def _check(self, frame: Frame) -> None:
        if frame.run != self.plan.run:
            raise ScanError(f"frame {frame.index} is of run {frame.run[:8]}, not {self.plan.run[:8]}")
        if not 0 <= frame.index < self.plan.num:
            raise ScanError(f"frame {frame.index} of run {frame.run[:8]}: {self.plan.num} were planned")
        if self._frames is None:
            self._frames = np.zeros((self.plan.num, *frame.image.shape), frame.image.dtype)
        if frame.image.shape != self.frames.shape[1:] or frame.image.dtype != self.frames.dtype:
            raise ScanError(
                f"frame {frame.index} is {frame.image.shape} {frame.image.dtype}, "
                f"the others are {self.frames.shape[1:]} {self.frames.dtype}"
            )

    def refill(self, store: FrameStore) -> int:
        """Take from `store` every frame that is missing here; how many that were."""
        there = [index for index in self.missing if index < store.count()]
        for index in there:
            image, angle_deg, monitor, timestamp_s = store.frame(index)
            self.add(
                Frame(
                    run=self.plan.run,
                    index=index,
                    angle_deg=angle_deg,
                    monitor=monitor,
                    timestamp_s=timestamp_s,
                    image=image,
                )
            )
        self.refilled += len(there)
        return len(there)

    def scan(
        self, rocking: slice = slice(None), rows: slice = slice(None), columns: slice = slice(None)
    ) -> RockingScan:
        """A copy of the scan as it stands, or of a box of it. Frames that never came are cut at the end and
        marked in `have` within. Raises ScanError where there is no frame."""
        chosen = np.arange(self.plan.num)[rocking]
        chosen = chosen[: 1 + int(np.flatnonzero(self.have[chosen]).max(initial=-1))]
        if not len(chosen):
            raise ScanError(f"run {self.plan.run[:8]} has no frame")
        have = self.have[chosen]
        whole = scan_from_metadata(
            self.plan.scan,
            intensity=self.frames[chosen],
            angles_deg=self.angles_deg[chosen],
            monitor=_known(self.monitor[chosen], have),
            timestamps_s=_known(self.timestamps_s[chosen], have),
            have=None if have.all() else have,
        )
        return _cropped(whole, rows, columns)


def _cropped(scan: RockingScan, rows: slice, columns: slice) -> RockingScan:
    """A box of the detector; the arm points at the same place in space, which has another pixel number."""
    if rows == columns == slice(None):
        return scan
    row, column = scan.geometry.arm_pixel
    arm_pixel = (row - (rows.start or 0), column - (columns.start or 0))
    return replace(
        scan,
        intensity=scan.intensity[:, rows, columns].copy(),
        bad_pixels=None if scan.bad_pixels is None else scan.bad_pixels[rows, columns],
        flatfield=None if scan.flatfield is None else scan.flatfield[rows, columns],
        geometry=replace(scan.geometry, arm_pixel=arm_pixel),
    )


def _known(values: NDArray[np.float64], have: BoolArray) -> NDArray[np.float64] | None:
    """The values where every frame that came has one."""
    return values.copy() if np.isfinite(values[have]).all() else None
