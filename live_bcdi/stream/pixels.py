"""One pass over a frame for all that is kept of it, at the speed of memory; the rest waits until someone asks.

A pixel without a reading (`cleaning.unreadable`; of floats also what is not finite) counts nothing.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import DTypeLike, NDArray

from ..types import BoolArray, FrameArray

_BLOCK = 4096  # pixels whose maximum is taken before it is asked where in them it is
_USUAL = ("u2", "u4", "i4")


def plain_image(image: FrameArray) -> FrameArray:
    """The same values as the kernels want them: contiguous, this machine's bytes, read-only, no half precision."""
    kind: np.dtype[Any] = image.dtype.newbyteorder("=")
    if kind == np.float16:
        kind = np.dtype(np.float32)
    elif kind == np.bool_:
        kind = np.dtype(np.uint8)
    plain: FrameArray = np.ascontiguousarray(image, kind).view()
    plain.flags.writeable = False
    return plain


class PixelSums:
    """What is known of each pixel over the frames so far: `brightest`, and `sums` (float32: who asks it wants a
    logarithm). Both (row, column), as of frames that `plain_image` gives."""

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike, bad_pixels: BoolArray | None) -> None:
        self.brightest: FrameArray = np.zeros(shape, dtype)
        self.sums: NDArray[np.float32] = np.zeros(shape, np.float32)
        self.good: BoolArray = np.ones(shape, bool) if bad_pixels is None else ~bad_pixels
        kind = self.brightest.dtype
        code = np.iinfo(kind.name).max if kind.kind == "u" else -1 if kind.kind == "i" else np.inf
        self._code = kind.type(code)

    def add(self, image: FrameArray) -> tuple[float, float, int]:
        """Take a frame: its sum, its highest count on a good pixel, and the first such pixel (row * columns +
        column; -1 where there is no count)."""
        flat = [array.ravel() for array in (image, self.good, self.brightest, self.sums)]
        total, best, pixel = _add(flat[0], flat[1], flat[2], flat[3], self._code)
        return float(total), float(best), int(pixel)

    def blob(self) -> tuple[int, int]:
        """The pixel (row, column) around which most was seen: where the maxima of the 3 x 3 good pixels, without
        the highest of them, sum to most. A hot pixel among dark ones counts nothing."""
        row, column = _blob(self.brightest, self.good)
        return int(row), int(column)


@njit(nogil=True, cache=True)
def _add(image: Any, good: Any, brightest: Any, sums: Any, code: Any) -> Any:
    """Three loops over a block that stays in the cache: the compiler makes vector code of each, not of one."""
    nothing = image.dtype.type(0)
    total, best, first = 0, nothing, -1
    for start in range(0, image.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        counts, usable, maxima, totals = image[block], good[block], brightest[block], sums[block]
        some, highest = 0, nothing
        for i in range(counts.size):
            some += counts[i] if (counts[i] != code) & (counts[i] > nothing) else nothing
        for i in range(counts.size):
            value = counts[i] if (counts[i] != code) & (counts[i] > nothing) else nothing
            totals[i] += value
            maxima[i] = max(maxima[i], value)
        for i in range(counts.size):
            highest = max(
                highest, counts[i] if usable[i] & (counts[i] != code) & (counts[i] > nothing) else nothing
            )
        total += some
        if highest > best:
            best, first = highest, start
    if first >= 0:
        for i in range(first, min(first + _BLOCK, image.size)):
            if image[i] == best and good[i]:
                return total, best, i
    return total, best, -1


@njit(nogil=True, cache=True)
def _blob(brightest: Any, good: Any) -> Any:
    rows, columns = brightest.shape
    best, at = -1.0, (rows // 2, columns // 2)
    for row in range(rows):
        for column in range(columns):
            if not good[row, column]:
                continue
            total, highest = 0.0, 0.0
            for r in range(max(row - 1, 0), min(row + 2, rows)):
                for c in range(max(column - 1, 0), min(column + 2, columns)):
                    if good[r, c]:
                        total += brightest[r, c]
                        highest = max(highest, float(brightest[r, c]))
            if total - highest > best:
                best, at = total - highest, (row, column)
    return at


def warm_up() -> None:
    """Compile for the usual kinds of frames, or load what was compiled: no frame should wait for it."""
    for dtype in _USUAL:
        image: FrameArray = np.ones((3, 3), dtype)
        sums = PixelSums((3, 3), dtype, None)
        sums.add(plain_image(image))
        sums.blob()
