"""What one wants to know after every frame: where the peak is, and whether the detector can be trusted."""

from dataclasses import dataclass

import numpy as np

from ..geometry import d_spacing_angstrom, two_theta_deg
from ..types import FrameArray, RockingScan


@dataclass(frozen=True, kw_only=True, slots=True)
class PeakReport:
    """`peak` is the brightest voxel (rocking, row, column); the angles and lengths are of its pixel.

    `saturated` and `dead` count pixels: above the detector's limit in any frame, and marked as bad or silent
    in all frames so far.
    """

    peak: tuple[int, int, int]
    peak_counts: float
    bragg_deg: float
    d_angstrom: float
    q_invA: float
    saturated: int
    dead: int


class PeakWatcher:
    """Running maximum and per-pixel extremes, updated with one pass over each new frame."""

    def __init__(self, description: RockingScan) -> None:
        """`description` gives geometry, bad pixels and the saturation limit; its frames are not looked at."""
        self._scan = description
        self._limit = description.saturation_counts
        self._best = (-1.0, 0, 0, 0)
        self._brightest: FrameArray | None = None

    def add(self, index: int, image: FrameArray) -> None:
        """Take frame `index` (row, column)."""
        good = image if self._scan.bad_pixels is None else np.where(self._scan.bad_pixels, 0, image)
        flat = int(np.argmax(good))
        row, column = divmod(flat, image.shape[1])
        self._best = max(self._best, (float(good.flat[flat]), index, row, column))
        self._brightest = image.copy() if self._brightest is None else np.maximum(self._brightest, image)

    def report(self) -> PeakReport | None:
        """None before the first frame."""
        if self._brightest is None:
            return None
        counts, index, row, column = self._best
        spacing = d_spacing_angstrom(self._scan.geometry, row, column)
        silent = self._brightest <= 0
        bad = silent if self._scan.bad_pixels is None else silent | self._scan.bad_pixels
        return PeakReport(
            peak=(index, row, column),
            peak_counts=counts,
            bragg_deg=two_theta_deg(self._scan.geometry, row, column) / 2,
            d_angstrom=spacing,
            q_invA=2 * np.pi / spacing,
            saturated=0 if self._limit is None else int((self._brightest >= self._limit).sum()),
            dead=int(bad.sum()),
        )
