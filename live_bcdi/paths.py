"""How far a beam goes through a crystal on voxels: exactly along each ray, with partly filled voxels at the edges.

A ray goes from voxel to voxel (Amanatides & Woo, Eurographics 1987), and each counts by how full it is. A box
whose faces lie along the voxels has its exact lengths, wherever in a voxel the faces are; others are right to a
small part of a voxel.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from .types import BoolArray, ComplexArray, FloatArray


def filling(density: ComplexArray, support: BoolArray) -> NDArray[np.float32]:
    """How full each voxel (x, y, z) of a retrieved crystal is, 0 to 1: one inside, and in the two layers of voxels
    at its surface, on either side of it, the amplitude relative to that of the crystal nearby."""
    inside = ndimage.binary_erosion(support)
    around = ndimage.binary_dilation(support)
    if not inside.any():
        return np.asarray(support, np.float32)
    amplitude = np.where(inside, np.abs(density), 0).astype(np.float32)
    weight = ndimage.uniform_filter(inside.astype(np.float32), 5)
    nearby = ndimage.uniform_filter(amplitude, 5) / np.maximum(weight, 1e-6)
    known = around & (weight > 1e-3) & (nearby > 0)
    share = np.clip(np.abs(density) / np.where(known, nearby, 1), 0, 1)
    return np.where(inside, 1, np.where(known, share, support)).astype(np.float32)


def path_lengths_nm(
    filled: FloatArray | BoolArray,
    direction: FloatArray,
    voxel_nm: float | FloatArray,
    *,
    support: BoolArray | None = None,
) -> NDArray[np.float32]:
    """Length of crystal from the middle of each voxel (x, y, z) onwards along `direction` (3,), NaN outside
    `support`.

    `filled` says how full each voxel is, 0 to 1, `voxel_nm` is its edge or three; `support` is where that is not
    zero, unless it is given.
    """
    volume = np.ascontiguousarray(filled, np.float32)
    wanted = np.ascontiguousarray(volume > 0 if support is None else support)
    unit = np.asarray(direction, float) / np.linalg.norm(direction)
    lengths = np.full(volume.shape, np.nan, np.float32)
    _trace(volume, wanted, unit / np.broadcast_to(voxel_nm, 3), lengths)
    return lengths


@njit(nogil=True, cache=True)
def _trace(filled: FloatArray, wanted: BoolArray, pace: FloatArray, lengths: FloatArray) -> None:
    """`pace` is the voxels along each axis that a ray goes through a nanometre."""
    shape = filled.shape
    step = np.sign(pace).astype(np.int64)
    whole = np.empty(3)  # of the ray, from one face across an axis to the next
    for axis in range(3):
        whole[axis] = 1 / abs(pace[axis]) if pace[axis] != 0 else np.inf
    at = np.empty(3, np.int64)
    ahead = np.empty(3)  # where the ray crosses the next face across each axis
    for place in np.ndindex(shape):
        if not wanted[place]:
            continue
        for axis in range(3):
            at[axis] = place[axis]
            ahead[axis] = whole[axis] / 2
        gone, total = 0.0, 0.0
        while True:
            axis = int(np.argmin(ahead))
            total += filled[at[0], at[1], at[2]] * (ahead[axis] - gone)
            gone = ahead[axis]
            ahead[axis] += whole[axis]
            at[axis] += step[axis]
            if at[axis] < 0 or at[axis] >= shape[axis]:
                break
        lengths[place] = total
