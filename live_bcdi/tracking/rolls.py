"""Frames turned back: a crystal that turns about the beam turns its pattern about the direct beam's pixel."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .band import Floats

_WHOLE = 0.99  # of a turned-back pixel that must come from measured ones
_LEVER = 2.0  # of the pattern's width: a centre nearer than that is no lever for the centre of mass


@dataclass(frozen=True, kw_only=True, slots=True)
class Roll:
    """The pixel (row, column), on the detector or off it, that the frames turn about; `reach_px` on each side of
    where the centre of mass puts a frame, in steps of `step_px`, as the pattern moves at its peak or at its rim,
    whichever is farther from the centre."""

    centre: tuple[float, float]
    reach_px: float = 5.0
    step_px: float = 1.0

    def grid_px(self) -> Floats:
        number = int(np.ceil(self.reach_px / self.step_px))
        return self.step_px * np.arange(-number, number + 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Turned:
    """Counts of blocks of pixels, (frames, rolls, blocks), float32, and 1 where they were measured; `rolls_deg`
    (frames, rolls) is what was turned back, `shape` the rows and columns of blocks."""

    counts: NDArray[np.float32]
    used: NDArray[np.float32]
    rolls_deg: Floats
    shape: tuple[int, int]

    def middle(self) -> Floats:
        """The counts turned back as the centre of mass says, (frames, rows, columns) of blocks."""
        return self.counts[:, self.counts.shape[1] // 2].reshape(-1, *self.shape).astype(np.float64)


def lever_px(counts: Floats, roll: Roll) -> float:
    """How far a frame moves per radian of roll, at its peak or at its rim."""
    peak, width = _spread(counts.sum(axis=0))
    return max(float(np.hypot(*(peak - roll.centre))), width)


def near_rolls_deg(counts: Floats, roll: Roll) -> Floats:
    """Of each frame, by the direction of its centre of mass from the centre; zero where that is no lever."""
    peak, width = _spread(counts.sum(axis=0))
    found = np.zeros(len(counts))
    if np.hypot(*(peak - roll.centre)) < _LEVER * width:
        return found
    start = np.arctan2(peak[1] - roll.centre[1], peak[0] - roll.centre[0])
    for number, frame in enumerate(counts):
        if frame.sum() > 0:
            row, column = np.array(ndimage.center_of_mass(frame)) - roll.centre
            found[number] = np.angle(np.exp(1j * (np.arctan2(column, row) - start)), deg=True)
    return found


def turned_back(frame: Floats, good: NDArray[np.bool_], centre: tuple[float, float], roll_deg: float) -> Floats:
    """The frame before it rolled, by linear interpolation; NaN where it was not measured."""
    if roll_deg == 0:
        return np.where(good, frame, np.nan)
    row, column = (np.arange(n, dtype=np.float64) for n in frame.shape)
    row, column = (row - centre[0])[:, None], (column - centre[1])[None, :]
    turn = np.deg2rad(roll_deg)
    places = np.stack(
        [
            np.cos(turn) * row - np.sin(turn) * column + centre[0],
            np.cos(turn) * column + np.sin(turn) * row + centre[1],
        ]
    )
    made = ndimage.map_coordinates(np.where(good, frame, 0.0), places, order=1, mode="constant")
    whole = ndimage.map_coordinates(good.astype(np.float64), places, order=1, mode="constant")
    return np.where(whole >= _WHOLE, made, np.nan)


def turned_blocks(counts: Floats, good: NDArray[np.bool_], roll: Roll | None, block: int) -> Turned:
    """All frames at all rolls that are tried, summed over blocks; a block that is not whole is not used."""
    frames, rows, columns = counts.shape
    if roll is None:
        rolls_deg = np.zeros((frames, 1))
    else:
        grid = np.rad2deg(roll.grid_px() / lever_px(np.where(good, counts, 0), roll))
        rolls_deg = near_rolls_deg(np.where(good, counts, 0), roll)[:, None] + grid
    shape = rows // block, block, columns // block, block
    made = np.empty((*rolls_deg.shape, shape[0] * shape[2]), np.float32)
    centre = (0.0, 0.0) if roll is None else roll.centre
    for k, n in np.ndindex(*rolls_deg.shape):
        back = turned_back(counts[k], good, centre, float(rolls_deg[k, n]))
        back = back[: shape[0] * block, : shape[2] * block].reshape(shape)
        made[k, n] = back.sum(axis=(1, 3)).ravel()
    used = np.isfinite(made)
    return Turned(
        counts=np.where(used, made, 0),
        used=used.astype(np.float32),
        rolls_deg=rolls_deg,
        shape=(shape[0], shape[2]),
    )


def _spread(image: Floats) -> tuple[Floats, float]:
    """Centre of mass, and the root mean square distance from it."""
    place = np.array(ndimage.center_of_mass(image))
    apart = np.indices(image.shape) - place[:, None, None]
    return place, float(np.sqrt((image * (apart**2).sum(axis=0)).sum() / image.sum()))
