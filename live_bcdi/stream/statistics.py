"""What one wants to know after every frame: where the peak is, and whether the detector can be trusted."""

from dataclasses import dataclass

import numpy as np

from ..cleaning import dead_pixels
from ..geometry import d_spacing_angstrom, two_theta_deg
from ..types import FrameArray, RockingScan
from .pixels import PixelSums, plain_image

# Silent pixels of a larger detector are looked for once, at the end: it takes 60 ns a pixel, while frames wait.
_COUNT_AT_ONCE_PIXELS = 300_000


@dataclass(frozen=True, kw_only=True, slots=True)
class PeakReport:
    """`peak` is the brightest voxel (rocking, row, column); the angles and lengths are of its pixel.

    `saturated` and `dead` count pixels: at the detector's limit in any frame, and marked as bad or silent in all
    frames so far although their neighbours count. Above 0.3 megapixels silent ones are counted at the end only.
    """

    peak: tuple[int, int, int]
    peak_counts: float
    bragg_deg: float
    d_angstrom: float
    q_invA: float
    saturated: int
    dead: int


class PeakWatcher:
    """One pass over each new frame; what it says is worked out when asked.

    `totals` are the counts of each planned frame, and `brightest` the image of the frame that holds the peak.
    """

    def __init__(self, description: RockingScan, num: int) -> None:
        """`description` gives geometry, bad pixels and the saturation limit; its frames are not looked at."""
        self._scan = description
        self.totals = np.zeros(num)
        self._counted = np.zeros(num, bool)
        self.brightest: FrameArray | None = None
        marked = 0 if description.bad_pixels is None else int(np.count_nonzero(description.bad_pixels))
        self._pixels: PixelSums | None = None
        self._top = (-np.inf, 0, 0)  # less its counts, pixel, frame: of equal counts the first in this order
        self._dead, self._dead_of_frames = marked, 0
        self._report: PeakReport | None = None

    def add(self, index: int, image: FrameArray) -> None:
        """Take frame `index` (row, column), which may be kept; again is harmless. A code for "no reading" is not a
        count."""
        if self._counted[index]:
            return
        self._counted[index] = True
        plain = plain_image(image)
        if self._pixels is None:
            self._pixels = PixelSums(plain.shape, plain.dtype, self._scan.bad_pixels)
        self.totals[index], counts, pixel = self._pixels.add(plain)
        mine = (-counts, max(pixel, 0), index)
        if self.brightest is None or mine < self._top:
            self._top, self.brightest = mine, image
        self._report = None

    @property
    def _frames(self) -> int:
        return int(np.count_nonzero(self._counted))

    def blob(self) -> tuple[int, int]:
        """The pixel (row, column) around which most was seen, a hot one apart; frames must have been added."""
        assert self._pixels is not None, "no frame was added"
        return self._pixels.blob()

    @property
    def brightest_pixel(self) -> tuple[int, int]:
        """Where the peak is (row, column)."""
        assert self._pixels is not None, "no frame was added"
        row, column = divmod(self._top[1], self._pixels.brightest.shape[1])
        return row, column

    @property
    def rim_counts(self) -> float:
        """The highest count at the frame's four edges so far; a bad pixel, and a hot one alone, apart."""
        assert self._pixels is not None, "no frame was added"
        brightest, good = self._pixels.brightest, self._pixels.good
        edges = [np.where(good[at], brightest[at], 0) for at in (0, -1, np.s_[:, 0], np.s_[:, -1])]
        # the middle one of three neighbours
        return float(max(np.sort(np.stack([edge[:-2], edge[1:-1], edge[2:]]), axis=0)[1].max() for edge in edges))

    def report(self, *, final: bool = False) -> PeakReport | None:
        """None before the first frame; `final` has the silent pixels of any detector counted."""
        if self._pixels is None:
            return None
        self._count_dead(self._pixels, final=final)
        if self._report is None or self._report.dead != self._dead:
            self._report = self._look(self._pixels)
        return self._report

    def _look(self, pixels: PixelSums) -> PeakReport:
        limit = self._scan.saturation_counts
        (row, column), (counts, _, index) = self.brightest_pixel, self._top
        spacing = d_spacing_angstrom(self._scan.geometry, row, column)
        return PeakReport(
            peak=(index, row, column),
            peak_counts=0.0 - counts,
            bragg_deg=two_theta_deg(self._scan.geometry, row, column) / 2,
            d_angstrom=spacing,
            q_invA=2 * np.pi / spacing,
            saturated=0 if limit is None else int(np.count_nonzero(pixels.brightest >= limit)),
            dead=self._dead,
        )

    def _count_dead(self, pixels: PixelSums, *, final: bool) -> None:
        """Looked at anew when the frames have grown by a tenth, and in the end: it costs more than a frame."""
        grown = pixels.sums.size <= _COUNT_AT_ONCE_PIXELS and self._frames > 1.1 * self._dead_of_frames
        if grown or (final and self._frames > self._dead_of_frames):
            silent = dead_pixels(pixels.sums[None])
            known = self._scan.bad_pixels
            self._dead = int(np.count_nonzero(silent if known is None else silent | known))
            self._dead_of_frames = self._frames
