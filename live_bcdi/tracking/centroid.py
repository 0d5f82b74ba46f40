"""Where the counts of a frame lie, with the error bar that counting gives."""

import numpy as np
from numpy.typing import NDArray

LEAST_COUNTS = 20.0  # in the box: with fewer a centroid is off by a quarter of the peak's width and more


def centroid(counts: NDArray[np.float64], start: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean place of (frames, pixels) counts, the first pixel at `start`, and its standard deviation: each count is
    Poisson's, so the variance is sum(counts (x - mean)^2) / sum(counts)^2."""
    total = counts.sum(axis=1)
    total = np.where(total >= LEAST_COUNTS, total, np.nan)
    place = start + np.arange(counts.shape[1])
    mean = counts @ place / total
    variance = (counts * (place - mean[:, None]) ** 2).sum(axis=1) / total**2
    return mean, np.sqrt(variance)
