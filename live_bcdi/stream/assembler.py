"""Frames into a volume: keyed by index, duplicates dropped, gaps refilled from the file.

Nothing here knows where frames come from. A frame that came twice, out of order, late, or not at all ends in
the same volume as one that came in time.
"""

import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..metadata import scan_from_metadata
from ..types import Frame, RockingScan, ScanError
from .run import RunPlan
from .volume import Volume


class FrameStore(Protocol):
    """The truth: frames that can be had again, by index."""

    def indices(self) -> Collection[int]: ...

    def frame(self, index: int) -> tuple[NDArray[Any], float, float, float]:
        """(image, angle_deg, monitor, timestamp_s)."""
        ...


class Assembler:
    """One run's volume while it grows. Not thread-safe: one intake loop owns it.

    `have` says which frames are in the volume, `seen` which have ever been, `brought` which came by themselves and
    not, or not only, by `refill`: flags, one a planned frame. `have` is `seen` but where the window moved.
    `description` is the scan that was promised, without frames: masks are unpacked once and not for every copy.
    """

    def __init__(self, plan: RunPlan, *, limit_bytes: int | None = None, least: int = 1) -> None:
        """`limit_bytes` is what the volume may take, and `least` the smallest window of a frame then (`Volume`).

        Raises ScanError where the plan's mask or flat field cannot be read, or one does not fit the other.
        """
        self.plan = plan
        self.have, self.seen, self.brought = (np.zeros(plan.num, bool) for _ in range(3))
        self.angles_deg = np.linspace(plan.start_deg, plan.stop_deg, plan.num)
        self.monitor = np.full(plan.num, np.nan)
        self.timestamps_s = np.full(plan.num, np.nan)
        self.duplicates = 0
        self.refilled = 0
        self.description = _description(plan)
        self._limit_bytes, self._least = limit_bytes, least
        self._volume: Volume | None = None

    @property
    def count(self) -> int:
        """Distinct frames that came, by themselves or from the file."""
        return int(np.count_nonzero(self.seen))

    @property
    def missing(self) -> list[int]:
        """Indices that are not in the volume."""
        return [int(index) for index in np.flatnonzero(~self.have)]

    @property
    def lost(self) -> int:
        """Frames that did not come by themselves, before the last one that is known."""
        end = 1 + int(np.flatnonzero(self.seen).max(initial=-1))
        return int(np.count_nonzero(~self.brought[:end]))

    @property
    def volume(self) -> Volume:
        """Where the frames are. Raises ScanError before the first."""
        if self._volume is None:
            raise ScanError(f"run {self.plan.run[:8]} has no frame yet")
        return self._volume

    @property
    def frames(self) -> NDArray[Any]:
        """What is kept of the frames (rocking, row, column), zero where `have` is False. Copy it to keep it.

        Raises ScanError before the first frame.
        """
        return self.volume.frames

    def limit(self, limit_bytes: int) -> None:
        """Make do with so much memory from now on; `crop` where the volume then wants a window."""
        self._limit_bytes = limit_bytes
        if self._volume is not None:
            self._volume.limit(limit_bytes)

    def crop(self, row: int, column: int) -> None:
        """Keep a window around a pixel of each frame. Where it moves away, what was there has to be refilled."""
        if not self.volume.crop(row, column):
            self.have[:] = False

    def add(self, frame: Frame) -> bool:
        """Take a frame; False where it was there already.

        Raises ScanError where it is of another run, beyond the planned number, of another shape or dtype than
        the first, or does not fit the run's mask or flat field.
        """
        self._check(frame)
        self.brought[frame.index] = True
        if self.have[frame.index]:
            self.duplicates += 1
            return False
        self._put(frame)
        return True

    def _put(self, frame: Frame) -> None:
        index = frame.index
        self.volume.put(index, frame.image)
        if math.isfinite(frame.angle_deg):  # a file of another program may have none: the planned one stands
            self.angles_deg[index] = frame.angle_deg
        self.monitor[index] = frame.monitor
        self.timestamps_s[index] = frame.timestamp_s
        self.have[index] = self.seen[index] = True

    def _check(self, frame: Frame) -> None:
        if frame.run != self.plan.run:
            raise ScanError(f"frame {frame.index} is of run {frame.run[:8]}, not {self.plan.run[:8]}")
        if not 0 <= frame.index < self.plan.num:
            raise ScanError(f"frame {frame.index} of run {frame.run[:8]}: {self.plan.num} were planned")
        if self._volume is None:
            self._volume = self._room_for(frame)
        if frame.image.shape != self._volume.shape or frame.image.dtype != self._volume.dtype:
            raise ScanError(
                f"frame {frame.index} is {frame.image.shape} {frame.image.dtype}, "
                f"the others are {self._volume.shape} {self._volume.dtype}"
            )

    def _room_for(self, frame: Frame) -> Volume:
        """Room for all planned frames, once the first is seen to fit what the plan says of its pixels."""
        if frame.image.ndim != 2:
            raise ScanError(f"frame {frame.index} is {frame.image.shape}; a frame is (row, column)")
        for name in ("bad_pixels", "flatfield"):
            values = getattr(self.description, name)
            if values is not None and values.shape != frame.image.shape:
                raise ScanError(
                    f"run {self.plan.run[:8]}: {name} is {values.shape}, its frames are {frame.image.shape}; "
                    "measure with the mask and the flat field of this detector"
                )
        kind = frame.image.shape, frame.image.dtype
        return Volume(self.plan.num, *kind, limit_bytes=self._limit_bytes, least=self._least)

    def refill(self, store: FrameStore) -> int:
        """Take from `store` every frame that is missing here; how many that were."""
        stored = store.indices()
        there = [index for index in self.missing if index in stored]
        for _ in self.refilling(store, there):
            pass
        return len(there)

    def refilling(self, store: FrameStore, indices: Iterable[int]) -> Iterator[Frame]:
        """The same one after another, each as it is taken; an index that is there already is left out.

        Raises ScanError where a frame cannot be read, or does not belong."""
        for index in indices:
            if self.have[index]:
                continue
            image, angle_deg, monitor, timestamp_s = store.frame(index)
            numbers = {"angle_deg": angle_deg, "monitor": monitor, "timestamp_s": timestamp_s}
            frame = Frame(run=self.plan.run, index=index, image=image, **numbers)
            self._check(frame)
            self.refilled += not self.seen[index]
            self._put(frame)
            yield frame

    def scan(
        self, rocking: slice = slice(None), rows: slice = slice(None), columns: slice = slice(None)
    ) -> RockingScan:
        """A copy of the scan as it stands, or of a box of it (slices without a step, in the detector's pixels), of
        what the window has. Frames that never came are cut at the end and marked in `have` within. The arm points
        at the same place in space, which has another pixel number in a box. Raises ScanError where there is no
        frame."""
        first, end, _ = rocking.indices(self.plan.num)
        end = first + 1 + int(np.flatnonzero(self.have[first:end]).max(initial=-1))
        if end == first:
            raise ScanError(f"run {self.plan.run[:8]} has no frame")
        have = self.have[first:end].copy()
        rows, columns = (_within(part, kept) for part, kept in zip((rows, columns), self.volume.window))
        known = self.description
        row, column = known.geometry.arm_pixel
        return replace(
            known,
            intensity=self.volume.box(slice(first, end), rows, columns),
            angles_deg=self.angles_deg[first:end].copy(),
            monitor=_known(self.monitor[first:end]),
            timestamps_s=_known(self.timestamps_s[first:end]),
            have=None if have.all() else have,
            bad_pixels=None if known.bad_pixels is None else known.bad_pixels[rows, columns].copy(),
            flatfield=None if known.flatfield is None else known.flatfield[rows, columns].copy(),
            geometry=replace(known.geometry, arm_pixel=(row - rows.start, column - columns.start)),
        )


def _within(part: slice, kept: slice) -> slice:
    start, stop, _ = part.indices(kept.stop)
    start = min(max(start, kept.start), kept.stop - 1)
    return slice(start, max(stop, start + 1))


def _description(plan: RunPlan) -> RockingScan:
    packed = plan.scan.get("bad_pixels") or plan.scan.get("flatfield") or {"shape": (0, 0)}
    return scan_from_metadata(
        plan.scan, intensity=np.zeros((0, *packed["shape"]), np.int32), angles_deg=np.zeros(0)
    )


def _known(values: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The values where there is any: one lost reading is not a reason to do without the others."""
    return values.copy() if np.isfinite(values).any() else None
