"""A scan of a crystal that moved, onto the even angles that phase retrieval wants."""

from dataclasses import replace

import numpy as np

from ..types import BoolArray, FloatArray, RockingScan, ScanError, TrackingResult
from .band import Floats, band_of

_FLOOR = 0.05  # counts, of a pixel's variance
_LOOSE = 100.0
_WIDER = 1.2  # than the cutoff: what is kept of a pixel should lose nothing of the crystal
_NEAR = 0.75  # steps: a place with no frame so near was not measured
_CHUNK = 2048


def regrid(scan: RockingScan, tracking: TrackingResult) -> RockingScan:
    """The scan as frames at even angles would have had it, float32; `have` is False where no frame was near.

    Each pixel's band-limited series through its counts at the true angles, by least squares, evaluated at the
    file's even angles, and without the blur of frames that turned while they counted: of a crystal that is
    oversampled enough to be tracked it took little, and counting noise grows little where it is undone. Where
    `tracking` corrected nothing, the scan itself, less frames that it would not use. Raises ScanError where the
    two do not belong together.
    """
    if len(tracking.angles_deg) != len(scan.intensity):
        raise ScanError(
            f"{scan.name}: {len(scan.intensity)} frames, but the tracking is of {len(tracking.angles_deg)}"
        )
    have = np.isfinite(tracking.angles_deg)
    if not tracking.corrected:
        there = np.ones(len(have), bool) if scan.have is None else scan.have
        return scan if not (there & ~have).any() else replace(scan, have=there & have)
    index = np.flatnonzero(have)
    start, slope = even_angles(scan.angles_deg, have)
    true = (tracking.angles_deg[have] - start) / slope
    even = np.arange(len(have), dtype=np.float64)
    near = np.abs(even[:, None] - true).min(axis=1) <= _NEAR
    smear = abs((scan.angular_blur_deg or 0.0) / slope)
    counts = np.asarray(scan.intensity[have], np.float64).reshape(len(index), -1)
    made = np.zeros((len(have), counts.shape[1]), np.float32)
    for first in range(0, counts.shape[1], _CHUNK):
        here = slice(first, first + _CHUNK)
        made[:, here] = evaluated(counts[:, here], true, even, cutoff=tracking.cutoff, smear=smear)
    made[~near] = 0
    return replace(
        scan,
        intensity=made.reshape(scan.intensity.shape),
        angles_deg=start + slope * even,
        have=near,
        angular_blur_deg=None,
        monitor=None if scan.monitor is None else np.full(len(have), float(np.nanmedian(scan.monitor))),
    )


def even_angles(angles_deg: FloatArray, have: BoolArray) -> tuple[float, float]:
    """The even angles nearest to the file's: that of frame 0, and the step."""
    index = np.flatnonzero(have)
    slope, start = np.polyfit(index, np.asarray(angles_deg, np.float64)[index], 1)
    return float(start), float(slope)


def evaluated(counts: Floats, true: Floats, even: Floats, *, cutoff: float, smear: float = 0.0) -> Floats:
    """Least squares of (frames, pixels) counts with weights that fall with a frame's brightness, at `even`."""
    band = band_of(even, _WIDER * cutoff)
    values = replace(band, smear=smear).values(true)
    weight = 1 / (counts.mean(axis=1) + _FLOOR)
    gram = values.T @ (weight[:, None] * values)
    gram += np.eye(band.terms) * np.trace(gram) / band.terms / _LOOSE**2
    series = np.linalg.solve(gram, values.T @ (weight[:, None] * counts))
    return np.maximum(band.values(even) @ series, 0)
