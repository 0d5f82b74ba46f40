"""Where the counts of each frame lie on the detector: a jump within a scan is the sample, or the beam.

A frame cuts the pattern elsewhere than the one before, and a crystal's fringes lie aslant: the centroid also moves
without any drift, slowly, and most beside the peak. What is told apart from that is the tracking's work.
"""

import numpy as np

from ..cleaning import counts_of
from ..tracking.centroid import centroid
from .assembler import Assembler

EDGE = 32  # pixels of the box: the peak and a fringe or two, and little of what else is on the detector


class Centroids:
    """`row` and `column` of the centroid of each planned frame within a box around the run's peak, in the
    detector's pixels, and their standard deviations by counting noise; all (num,), NaN where it is not known."""

    def __init__(self, num: int) -> None:
        self.row, self.column, self.row_std, self.column_std = (np.full(num, np.nan) for _ in range(4))
        self._done = np.zeros(num, bool)
        self._pixel: tuple[int, int] | None = None

    def look(self, seen: Assembler, pixel: tuple[int, int]) -> None:
        """Take the frames that are new; all of them, where the peak's `pixel` (row, column) left the middle of the
        box. It is done at the pace of the page, for a box, so that the intake does not wait for it."""
        if self._pixel is None or max(abs(new - old) for new, old in zip(pixel, self._pixel)) > EDGE // 4:
            self._pixel = pixel
            self._done[:] = False
        new = np.flatnonzero(seen.have & ~self._done)
        if not len(new):
            return
        self._done[new] = True
        rows, columns = (_around(place, kept) for place, kept in zip(self._pixel, seen.volume.window))
        first = int(new[0])
        counts = counts_of(seen.volume.box(slice(first, int(new[-1]) + 1), rows, columns))[new - first]
        counts = counts.astype(np.float64)
        if seen.description.bad_pixels is not None:
            counts[:, seen.description.bad_pixels[rows, columns]] = 0
        self.row[new], self.row_std[new] = centroid(counts.sum(axis=2), rows.start)
        self.column[new], self.column_std[new] = centroid(counts.sum(axis=1), columns.start)


def _around(place: int, kept: slice) -> slice:
    """`EDGE` pixels around a place, moved to lie within what is kept; all of it where that is less."""
    start = max(kept.start, min(place - EDGE // 2, kept.stop - EDGE))
    return slice(start, min(start + EDGE, kept.stop))
