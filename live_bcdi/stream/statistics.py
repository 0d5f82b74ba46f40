"""What one wants to know after every frame: where the peak is, and whether the detector can be trusted."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..cleaning import counts_of, dead_pixels
from ..geometry import d_spacing_angstrom, two_theta_deg
from ..types import FrameArray, RockingScan

# Silent pixels of a larger detector are looked for once, at the end: it takes 60 ns a pixel, while frames wait.
_COUNT_AT_ONCE_PIXELS = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class PeakReport:
    """`peak` is the brightest voxel (rocking, row, column); the angles and lengths are of its pixel.

    `saturated` and `dead` count pixels: at the detector's limit in any frame, and marked as bad or silent in all
    frames so far although their neighbours count. Above a megapixel the silent ones are counted at the end only.
    """

    peak: tuple[int, int, int]
    peak_counts: float
    bragg_deg: float
    d_angstrom: float
    q_invA: float
    saturated: int
    dead: int


class PeakWatcher:
    """Per-pixel extremes, updated with two passes over each new frame; what they say is worked out when asked."""

    def __init__(self, description: RockingScan) -> None:
        """`description` gives geometry, bad pixels and the saturation limit; its frames are not looked at."""
        self._scan = description
        marked = 0 if description.bad_pixels is None else int(np.count_nonzero(description.bad_pixels))
        self._brightest: FrameArray | None = None
        self._totals: NDArray[np.float64] | None = None
        self._frames = 0
        self._dead, self._dead_of_frames = marked, 0
        self._report: PeakReport | None = None

    def add(self, image: FrameArray) -> None:
        """Take a frame (row, column); a detector's code for "no reading" is not a count."""
        image = counts_of(image)
        if self._brightest is None or self._totals is None:
            self._brightest, self._totals = image.copy(), image.astype(np.float64)
        else:
            np.maximum(self._brightest, image, out=self._brightest)
            np.add(self._totals, image, out=self._totals)
        self._frames += 1
        self._report = None

    def report(self, frames: FrameArray, *, final: bool = False) -> PeakReport | None:
        """None before the first frame. `frames` (rocking, row, column) holds those that were added, to find in
        which of them the brightest pixel was; `final` has the silent pixels of any detector counted."""
        if self._brightest is None or self._totals is None:
            return None
        self._count_dead(self._totals, final=final)
        if self._report is None or self._report.dead != self._dead:
            self._report = self._look(self._brightest, frames)
        return self._report

    def _look(self, brightest: FrameArray, frames: FrameArray) -> PeakReport:
        known, limit = self._scan.bad_pixels, self._scan.saturation_counts
        good = brightest if known is None else np.where(known, 0, brightest)
        row, column = divmod(int(np.argmax(good)), brightest.shape[1])
        spacing = d_spacing_angstrom(self._scan.geometry, row, column)
        return PeakReport(
            peak=(int(np.argmax(counts_of(frames[:, row, column]))), row, column),
            peak_counts=float(good[row, column]),
            bragg_deg=two_theta_deg(self._scan.geometry, row, column) / 2,
            d_angstrom=spacing,
            q_invA=2 * np.pi / spacing,
            saturated=0 if limit is None else int(np.count_nonzero(brightest >= limit)),
            dead=self._dead,
        )

    def _count_dead(self, totals: NDArray[np.float64], *, final: bool) -> None:
        """Looked at anew when the frames have grown by a tenth, and in the end: it costs more than a frame."""
        grown = totals.size <= _COUNT_AT_ONCE_PIXELS and self._frames > 1.1 * self._dead_of_frames
        if grown or (final and self._frames > self._dead_of_frames):
            silent = dead_pixels(totals[None])
            known = self._scan.bad_pixels
            self._dead = int(np.count_nonzero(silent if known is None else silent | known))
            self._dead_of_frames = self._frames
