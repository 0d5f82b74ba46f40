"""Frames that are not where the scan says: put back, told twice, or missing."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.distance import pdist, squareform

from .band import Floats

NEAR = 0.75  # steps: a place with no frame so near was not measured
_NEIGHBOURS = 9  # frames: a run of fewer than half as many is out of order, a longer one is a slip of the crystal
_SIGMAS = 5.0
_SAME = 0.5  # steps, at most, between two frames of one angle
_TO_SIGMA = 1.4826


@dataclass(frozen=True, kw_only=True, slots=True)
class Disorder:
    """Frames that stand elsewhere than their neighbours' motion says, pairs (kept, again) of one angle or of the
    very same counts, and nominal angles that no frame has."""

    out_of_order: tuple[int, ...]
    duplicates: tuple[tuple[int, int], ...]
    missing: tuple[float, ...]


def disorder(first: NDArray[np.int64], nominal: Floats, angles: Floats, std: Floats) -> Disorder:
    """Of frames (frames,) found at `angles` where `nominal` was asked for, in steps; `first` is the number of the
    first frame with the same counts. Frames that jitter so that two may meet are not called duplicates for it."""
    offsets = angles - nominal
    local = offsets - ndimage.median_filter(offsets, _NEIGHBOURS, mode="nearest")
    jitter = _TO_SIGMA * float(np.median(np.abs(local)))
    apart = np.maximum(NEAR, _SIGMAS * np.hypot(jitter, std))
    again = _duplicates(first, angles, std, jitter)
    told = {second for _, second in again}
    return Disorder(
        out_of_order=tuple(k for k in np.flatnonzero(np.abs(local) > apart).tolist() if k not in told),
        duplicates=again,
        missing=tuple(float(place) for place in nominal if np.abs(angles - place).min() > NEAR + 2 * jitter),
    )


def _duplicates(
    first_alike: NDArray[np.int64], angles: Floats, std: Floats, jitter: float
) -> tuple[tuple[int, int], ...]:
    near = squareform(pdist(angles[:, None])) + _SIGMAS * np.sqrt(2) * np.hypot(jitter, std)[:, None]
    found = []
    for second in range(1, len(angles)):
        for first in range(second):
            if near[first, second] < _SAME or first_alike[second] == first:
                found.append((first, second))
                break
    return tuple(found)
