"""What one wants to know after every frame: where the peak is, and whether the detector can be trusted."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..geometry import d_spacing_angstrom, two_theta_deg
from ..preprocess import dead_pixels
from ..types import FrameArray, RockingScan


@dataclass(frozen=True, kw_only=True, slots=True)
class PeakReport:
    """`peak` is the brightest voxel (rocking, row, column); the angles and lengths are of its pixel.

    `saturated` and `dead` count pixels: at the detector's limit in any frame, and marked as bad or silent in all
    frames so far although their neighbours count.
    """

    peak: tuple[int, int, int]
    peak_counts: float
    bragg_deg: float
    d_angstrom: float
    q_invA: float
    saturated: int
    dead: int


class _DeadCount(NamedTuple):
    frames: int
    pixels: int


class PeakWatcher:
    """Running maximum and per-pixel extremes, updated with one pass over each new frame."""

    def __init__(self, description: RockingScan) -> None:
        """`description` gives geometry, bad pixels and the saturation limit; its frames are not looked at."""
        self._scan = description
        self._limit = description.saturation_counts
        self._best = (-1.0, 0, 0, 0)
        self._brightest: FrameArray | None = None
        self._totals: NDArray[np.float64] | None = None
        self._frames = 0
        self._dead = _DeadCount(0, 0)

    def add(self, index: int, image: FrameArray) -> None:
        """Take frame `index` (row, column)."""
        good = image if self._scan.bad_pixels is None else np.where(self._scan.bad_pixels, 0, image)
        flat = int(np.argmax(good))
        row, column = divmod(flat, image.shape[1])
        self._best = max(self._best, (float(good.flat[flat]), index, row, column))
        self._brightest = image.copy() if self._brightest is None else np.maximum(self._brightest, image)
        self._totals = image.astype(np.float64) if self._totals is None else self._totals + image
        self._frames += 1

    def report(self) -> PeakReport | None:
        """None before the first frame."""
        if self._brightest is None:
            return None
        counts, index, row, column = self._best
        spacing = d_spacing_angstrom(self._scan.geometry, row, column)
        return PeakReport(
            peak=(index, row, column),
            peak_counts=counts,
            bragg_deg=two_theta_deg(self._scan.geometry, row, column) / 2,
            d_angstrom=spacing,
            q_invA=2 * np.pi / spacing,
            saturated=0 if self._limit is None else int((self._brightest >= self._limit).sum()),
            dead=self._dead_pixels(),
        )

    def _dead_pixels(self) -> int:
        """Looked at anew when the frames have grown by a tenth: it costs more than a frame."""
        assert self._totals is not None, "there is a frame"
        if self._frames > 1.1 * self._dead.frames:
            silent = dead_pixels(self._totals[None])
            known = self._scan.bad_pixels
            pixels = int((silent if known is None else silent | known).sum())
            self._dead = _DeadCount(self._frames, pixels)
        return self._dead.pixels
