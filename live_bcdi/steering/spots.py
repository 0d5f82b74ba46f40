"""Bragg spots in an exposure, apart from powder rings, background and hot pixels."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..types import BoolArray, FrameArray, ScanError

Floats = NDArray[np.float64]

_BOX = 5  # pixels that are summed: a spot is an oversampled peak, and wider than one
_CLEARLY = 6.0  # standard deviations: once in 1e9, of a million places
_LEAST_COUNTS = 12.0
_PERHAPS = 2.0  # standard deviations: what is around a spot is its own
_OF_THE_TOP = 0.1  # of a spot's smoothed top: what belongs to it
_ONE_PIXEL = 0.8  # of the counts in one: it is hot
_RING_SHARE, _RING_LENGTH = 0.3, 4.0  # of the detector's edge, and times as long as wide
_MOST = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Spot:
    """`counts` above the `background` that is under them, at (`row`, `column`) with standard deviations `row_std`
    and `column_std`; `covariance` (row row, row column, column column) is the spot's own extent in pixels."""

    row: float
    column: float
    row_std: float
    column_std: float
    counts: float
    background: float
    covariance: tuple[float, float, float]


def find_spots(counts: FrameArray, bad_pixels: BoolArray | None = None, rings: Floats | None = None) -> list[Spot]:
    """The spots of a frame (row, column), the brightest first, at most 20. `rings` (row, column) says which shell
    of |q| each pixel is in (`shells_of`): a powder ring counts alike all along one, and is taken off by its
    median; so is an even background, without it. What is long and thin, or one pixel, is no spot. Raises ScanError
    for frames that are none."""
    image = np.asarray(counts, np.float64)
    if image.ndim != 2 or min(image.shape) < _BOX:
        raise ScanError(f"a frame is (row, column) of {_BOX} pixels and more an edge, not {image.shape}")
    bad = ~np.isfinite(image) | (image < 0)
    if bad_pixels is not None:
        bad |= bad_pixels
    image[bad] = 0
    if bad.all():
        return []
    level = _level(image, bad, rings)
    level[bad] = 0
    area = ndimage.uniform_filter((~bad).astype(float), _BOX, mode="constant")
    seen, under = (ndimage.uniform_filter(each, _BOX, mode="constant") * _BOX**2 for each in (image, level))
    excess = seen - under
    # the level is an estimate, too: where it is zero, a count or two may still be background
    sure = excess > np.maximum(_CLEARLY * np.sqrt(under + 1), _LEAST_COUNTS)
    sure &= area > 0.3
    labels, count = ndimage.label(sure, structure=np.ones((3, 3)))
    found = [_spot(image, level, where) for where in _regions(excess, under, labels, count)]
    return sorted((spot for spot in found if spot is not None), key=lambda spot: -spot.counts)


def shells_of(q_invA: Floats) -> Floats:
    """Which shell of |q| each pixel is in, and where in it: from |q| (row, column), each about a pixel wide."""
    width = max(float(np.median(np.hypot(*np.gradient(q_invA)))), 1e-12)
    return np.asarray((q_invA - q_invA.min()) / width)


def _level(image: Floats, bad: BoolArray, rings: Floats | None) -> Floats:
    """Counts a pixel without a spot: the median, which a spot does not move, of rings where there are some. Of few
    counts a median is 0 or 1; the mean of what is not above it by much stands for it then."""
    where = np.zeros(image.shape) if rings is None else rings
    middle = _by_ring(image, bad, where, np.median)
    usual = bad | (image > middle + 4 * np.sqrt(middle + 1))
    return np.where(middle > 3, middle, _by_ring(image, usual, where, np.mean))


def _by_ring(image: Floats, bad: BoolArray, where: Floats, of: object) -> Floats:
    """Of the pixels of each shell, straight between the middles of shells."""
    whole = where.astype(np.intp)
    numbers = np.arange(int(whole.max()) + 1)
    values = ndimage.labeled_comprehension(image, np.where(bad, -1, whole), numbers, of, np.float64, np.nan)
    known = np.isfinite(values)
    if not known.any():
        return np.zeros(image.shape)
    return np.asarray(np.interp(where, numbers[known] + 0.5, values[known]), np.float64)


def _regions(excess: Floats, under: Floats, labels: NDArray[np.integer], count: int) -> Iterator[BoolArray]:
    """What belongs to each of the brightest: all around its top that is above a tenth of it, and above noise."""
    if not count:
        return
    numbers = np.arange(1, count + 1)
    tops = ndimage.maximum_position(excess, labels, numbers)
    for top in sorted(tops, key=lambda place: -excess[place])[:_MOST]:
        higher = excess > np.maximum(_OF_THE_TOP * excess[top], _PERHAPS * np.sqrt(under + 1))
        parts, _ = ndimage.label(higher)
        yield np.asarray(parts == parts[top])


def _spot(image: Floats, level: Floats, inside: BoolArray) -> Spot | None:
    """None for what is no spot."""
    rows, columns = np.nonzero(inside)
    own, under = image[inside], level[inside]
    weight = np.maximum(own - under, 0)
    total = float((own - under).sum())
    if total <= 0 or weight.max() > _ONE_PIXEL * weight.sum():
        return None
    row, column = float(np.average(rows, weights=weight)), float(np.average(columns, weights=weight))
    off = np.stack([rows - row, columns - column])
    extent = (off * weight) @ off.T / weight.sum()
    if _is_ring(extent, image.shape, int(np.ptp(rows)), int(np.ptp(columns))):
        return None
    errors = np.sqrt(((off**2) * own).sum(axis=1)) / total
    return Spot(
        row=row,
        column=column,
        row_std=float(errors[0]),
        column_std=float(errors[1]),
        counts=total,
        background=float(under.sum()),
        covariance=(float(extent[0, 0]), float(extent[0, 1]), float(extent[1, 1])),
    )


def _is_ring(extent: Floats, shape: tuple[int, ...], rows: int, columns: int) -> bool:
    short, long = np.sqrt(np.maximum(np.linalg.eigvalsh(extent), 1e-6))
    return bool(long > _RING_LENGTH * short and math.hypot(rows, columns) > _RING_SHARE * min(shape))


def peak_counts(
    image: FrameArray, pixel: tuple[float, float], box: int, bad_pixels: BoolArray | None = None
) -> tuple[float, float]:
    """Counts in a box of so many pixels an edge about a pixel (row, column), and how many of them are background,
    by the mean of what is around it, half as wide again. Raises ScanError for a pixel beyond the frame."""
    counts = np.asarray(image, np.float64)
    inside = [0 <= place < edge for place, edge in zip(pixel, counts.shape)]
    if counts.ndim != 2 or not all(inside) or box < 1:
        raise ScanError(f"a peak at pixel {pixel} is not on frames of {counts.shape}")
    good = np.isfinite(counts) & (counts >= 0)
    if bad_pixels is not None:
        good &= ~bad_pixels
    away = np.maximum(*(np.abs(index - place) for index, place in zip(np.indices(counts.shape), pixel)))
    within, around = good & (away <= box / 2), good & (away > box / 2) & (away <= 0.75 * box)
    level = float(counts[around].mean()) if around.any() else 0.0
    return float(counts[within].sum()), level * float(np.count_nonzero(within))
