"""Frames into a volume: keyed by index, duplicates dropped, gaps refilled from the file.

Nothing here knows where frames come from. A frame that came twice, out of order, late, or not at all ends in
the same volume as one that came in time.
"""

from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..cleaning import counts_of
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
    """One run's volume while it grows. Not thread-safe: one intake loop owns it.

    `description` is the scan that was promised, without frames: masks are unpacked once and not for every copy.
    """

    def __init__(self, plan: RunPlan) -> None:
        """Raises ScanError where the plan's mask or flat field cannot be read, or one does not fit the other."""
        self.plan = plan
        self.have: BoolArray = np.zeros(plan.num, bool)
        self.angles_deg = np.linspace(plan.start_deg, plan.stop_deg, plan.num)
        self.monitor = np.full(plan.num, np.nan)
        self.timestamps_s = np.full(plan.num, np.nan)
        self.totals = np.zeros(plan.num)
        self.duplicates = 0
        self.refilled = 0
        self.newest = -1
        self.description = _description(plan)
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

        Raises ScanError where it is of another run, beyond the planned number, of another shape or dtype than
        the first, or does not fit the run's mask or flat field.
        """
        self._check(frame)
        if self.have[frame.index]:
            self.duplicates += 1
            return False
        self.frames[frame.index] = frame.image
        self.angles_deg[frame.index] = frame.angle_deg
        self.monitor[frame.index] = frame.monitor
        self.timestamps_s[frame.index] = frame.timestamp_s
        self.totals[frame.index] = counts_of(frame.image).sum(dtype=np.float64)
        self.have[frame.index] = True
        self.newest = frame.index
        return True

    def _check(self, frame: Frame) -> None:
        if frame.run != self.plan.run:
            raise ScanError(f"frame {frame.index} is of run {frame.run[:8]}, not {self.plan.run[:8]}")
        if not 0 <= frame.index < self.plan.num:
            raise ScanError(f"frame {frame.index} of run {frame.run[:8]}: {self.plan.num} were planned")
        if self._frames is None:
            self._frames = self._room_for(frame)
        if frame.image.shape != self.frames.shape[1:] or frame.image.dtype != self.frames.dtype:
            raise ScanError(
                f"frame {frame.index} is {frame.image.shape} {frame.image.dtype}, "
                f"the others are {self.frames.shape[1:]} {self.frames.dtype}"
            )

    def _room_for(self, frame: Frame) -> NDArray[Any]:
        """Zeros for all planned frames, once the first is seen to fit what the plan says of its pixels."""
        if frame.image.ndim != 2:
            raise ScanError(f"frame {frame.index} is {frame.image.shape}; a frame is (row, column)")
        for name in ("bad_pixels", "flatfield"):
            values = getattr(self.description, name)
            if values is not None and values.shape != frame.image.shape:
                raise ScanError(
                    f"run {self.plan.run[:8]}: {name} is {values.shape}, its frames are {frame.image.shape}; "
                    "measure with the mask and the flat field of this detector"
                )
        return np.zeros((self.plan.num, *frame.image.shape), frame.image.dtype)

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
        """A copy of the scan as it stands, or of a box of it (slices without a step). Frames that never came are
        cut at the end and marked in `have` within. The arm points at the same place in space, which has another
        pixel number in a box. Raises ScanError where there is no frame."""
        first, end, _ = rocking.indices(self.plan.num)
        end = first + 1 + int(np.flatnonzero(self.have[first:end]).max(initial=-1))
        if end == first:
            raise ScanError(f"run {self.plan.run[:8]} has no frame")
        have = self.have[first:end].copy()
        known = self.description
        row, column = known.geometry.arm_pixel
        return replace(
            known,
            intensity=self.frames[first:end, rows, columns].copy(),
            angles_deg=self.angles_deg[first:end].copy(),
            monitor=_known(self.monitor[first:end]),
            timestamps_s=_known(self.timestamps_s[first:end]),
            have=None if have.all() else have,
            bad_pixels=None if known.bad_pixels is None else known.bad_pixels[rows, columns].copy(),
            flatfield=None if known.flatfield is None else known.flatfield[rows, columns].copy(),
            geometry=replace(known.geometry, arm_pixel=(row - (rows.start or 0), column - (columns.start or 0))),
        )


def _description(plan: RunPlan) -> RockingScan:
    packed = plan.scan.get("bad_pixels") or plan.scan.get("flatfield") or {"shape": (0, 0)}
    return scan_from_metadata(
        plan.scan, intensity=np.zeros((0, *packed["shape"]), np.int32), angles_deg=np.zeros(0)
    )


def _known(values: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The values where there is any: one lost reading is not a reason to do without the others."""
    return values.copy() if np.isfinite(values).any() else None
