"""The frames of a run in bounded memory: whole while all that are planned fit, else a window of each.

Until it is known where the window lies, the first frames are kept whole, in half of the memory; the window has the
other half. What is lost where it moves has to be had again from elsewhere.
"""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .memory import zeros_ahead

Window = tuple[slice, slice]


class Volume:
    """(rocking, row, column) of one dtype, zero where there is no frame; no more than `limit_bytes` (None:
    no limit), or what a window of `least` pixels an edge takes."""

    def __init__(
        self, num: int, shape: tuple[int, ...], dtype: DTypeLike, *, limit_bytes: int | None = None, least: int = 1
    ) -> None:
        self.num, self.shape, self.dtype = num, shape, np.dtype(dtype)
        self.window: Window = (slice(0, shape[0]), slice(0, shape[1]))
        self._least, self._limit_bytes = least, limit_bytes
        self.centre = (shape[0] // 2, shape[1] // 2)  # of the window, as it was asked for
        self._first: dict[int, NDArray[Any]] = {}  # whole frames from before there is a window
        self._frames = self._zeros() if self._fits(limit_bytes) else None

    def _zeros(self) -> NDArray[Any]:
        rows, columns = self.window
        return zeros_ahead((self.num, rows.stop - rows.start, columns.stop - columns.start), self.dtype)

    @property
    def _frame_bytes(self) -> int:
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    def _fits(self, limit_bytes: int | None) -> bool:
        return limit_bytes is None or self.num * self._frame_bytes <= limit_bytes

    @property
    def is_cropped(self) -> bool:
        """Whether only a window of each frame is kept."""
        return self._frames is not None and self._frames.shape[1:] != self.shape

    @property
    def wants_window(self) -> bool:
        """Whether there is no room for one more whole frame: time to say where the window lies."""
        if self._limit_bytes is None:
            return False
        if self._frames is not None:
            return self._frames.nbytes > self._limit_bytes and not self._is_least
        return (len(self._first) + 1) * self._frame_bytes > self._limit_bytes // 2

    @property
    def _is_least(self) -> bool:
        return all(part.stop - part.start <= self._least for part in self.window)

    def limit(self, limit_bytes: int) -> None:
        """Make do with so much from now on; `wants_window` says whether that takes a window."""
        self._limit_bytes = limit_bytes

    def put(self, index: int, image: NDArray[Any]) -> None:
        """Keep a frame, or its part in the window."""
        if self._frames is None:
            self._first[index] = image.copy()
        else:
            self._frames[index] = image[self.window]

    def crop(self, row: int, column: int) -> bool:
        """Put the window around a pixel, as large as the memory allows. False where frames were lost by it: it
        moved to where they are not known."""
        old, source, self.centre = self.window, self._frames, (row, column)
        self.window = self._around(row, column)
        if source is not None and self.window == old:
            return True
        inside = all(new.start >= was.start and new.stop <= was.stop for new, was in zip(self.window, old))
        self._frames = self._zeros()
        for index, image in self._first.items():
            self._frames[index] = image[self.window]
        self._first.clear()
        if source is not None and inside:
            part = tuple(slice(n.start - w.start, n.stop - w.start) for n, w in zip(self.window, old))
            self._frames[:] = source[:, *part]
        return inside

    def is_safe(self, row: int, column: int) -> bool:
        """Whether a pixel lies in the middle half of the window, or as near as the detector's edges allow."""
        around = self._around(row, column)
        return all(abs(new.start - now.start) * 4 <= now.stop - now.start for new, now in zip(around, self.window))

    def _around(self, row: int, column: int) -> Window:
        """A square of half the memory, or what the detector has of it."""
        assert self._limit_bytes is not None, "without a limit there is no window"
        pixels = self._limit_bytes // 2 // (self.num * self.dtype.itemsize)
        rows = min(max(int(pixels**0.5), self._least), self.shape[0])
        columns = min(max(pixels // rows, self._least), self.shape[1])
        rows = min(max(pixels // columns, rows), self.shape[0])
        return part_around(row, rows, self.shape[0]), part_around(column, columns, self.shape[1])

    def box(self, rocking: slice, rows: slice, columns: slice) -> NDArray[Any]:
        """A copy of a box within the window, in the detector's pixels."""
        if self._frames is not None:
            top, left = (part.start for part in self.window)
            moved = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
            return self._frames[rocking, *moved].copy()
        first, end, _ = rocking.indices(self.num)
        copy = np.zeros((end - first, rows.stop - rows.start, columns.stop - columns.start), self.dtype)
        for index, image in self._first.items():
            if first <= index < end:
                copy[index - first] = image[rows, columns]
        return copy

    def line(self, row: int, column: int) -> NDArray[Any]:
        """(rocking,) what a pixel of the window has in each frame."""
        return self.box(slice(0, self.num), slice(row, row + 1), slice(column, column + 1))[:, 0, 0]

    @property
    def frames(self) -> NDArray[Any]:
        """All that is kept (rocking, row, column): a view, or a copy while the first frames are whole."""
        return self.box(slice(0, self.num), *self.window) if self._frames is None else self._frames


def part_around(centre: int, edge: int, size: int) -> slice:
    """`edge` pixels around `centre`, moved to lie within `size`; all of it where it is smaller."""
    start = max(0, min(centre - edge // 2, size - edge))
    return slice(start, min(start + edge, size))
