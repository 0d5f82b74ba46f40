"""Domain and twin walls: surfaces across which the phase jumps, less what the strain about them explains."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..strain import phase_gradient
from ..types import BoolArray, ComplexArray, LabImage, ScanError, Vector
from .lines import Line, without_turns
from .winding import MARGIN_VOXELS, readied

LEAST_JUMP_RAD = 0.8
LEAST_AREA_VOXELS = 30  # a patch of 6 by 5
_STEEP = (
    0.28  # rad a voxel above the mean around; of a jump of 1.3 rad half the voxels are above it, of strain few
)
_AROUND = 3.0  # voxels, the Gaussian's of that mean: strain has a slope, and it changes more slowly
_FROM_CORE = 1.0  # voxels from a dislocation whose turn is taken off: what is left of its slope of 1/r
_FROM_LOOP = 4.0  # voxels from one whose turn is not
_NEAR, _FAR = (
    3,
    6,
)  # voxels to both sides: the jump is across the first, the slope is that from there to the second
_FLAT = 0.5  # of a wall's shorter half width, that its voxels may scatter across it


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Wall:
    """A wall: `centre_nm` from voxel n//2 of the image, the unit `normal`, its largest part positive, `area_nm2`
    in the plane across it, and the phase beyond it less that before it, `jump_rad` in (-pi, pi], with the slope on
    both sides taken off. `jump_std_rad` is its scatter over the wall. `voxels` (n, 3) are those where it is steep.
    """

    centre_nm: Vector
    normal: Vector
    area_nm2: float
    jump_rad: float
    jump_std_rad: float
    voxels: NDArray[np.int64]


def find_walls(
    lab: LabImage,
    lines: Sequence[Line],
    *,
    least_jump_rad: float = LEAST_JUMP_RAD,
    least_area_voxels: int = LEAST_AREA_VOXELS,
    margin_voxels: int = MARGIN_VOXELS,
) -> list[Wall]:
    """The walls of a crystal, the largest first; `lines` are its dislocations, whose turns are taken off the phase
    (`without_turns`), and in whose cores no wall is looked for.

    A wall is a connected, flat patch of steep phase, `margin_voxels` and more below the surface. Walls that cross
    are one patch, and found only where that is flat. Raises ScanError for a crystal without support.
    """
    return walls_of(
        lab.density,
        lab.support,
        lab.voxel_nm,
        lines,
        least_jump_rad=least_jump_rad,
        least_area_voxels=least_area_voxels,
        margin_voxels=margin_voxels,
    )


def walls_of(
    density: ComplexArray,
    support: BoolArray,
    voxel_nm: float,
    lines: Sequence[Line],
    *,
    least_jump_rad: float = LEAST_JUMP_RAD,
    least_area_voxels: int = LEAST_AREA_VOXELS,
    margin_voxels: int = MARGIN_VOXELS,
) -> list[Wall]:
    """`find_walls` of an object (x, y, z) on cubic voxels."""
    if not support.any():
        raise ScanError("there is no crystal to look for walls in: its support is empty")
    straight = [line for line in lines if line.runs_through]
    bent = [line for line in lines if not line.runs_through]
    smooth, solid = readied(without_turns(density, straight, voxel_nm), support)
    steep = _steepness(smooth, solid) > _STEEP
    steep &= ndimage.binary_erosion(solid, iterations=margin_voxels)
    steep &= _away_from(straight, support.shape, voxel_nm) > _FROM_CORE
    steep &= _away_from(bent, support.shape, voxel_nm) > _FROM_LOOP
    labels, _ = ndimage.label(steep, np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel())[1:]
    walls = []
    for number in np.flatnonzero(sizes >= least_area_voxels):
        wall = _wall(smooth, solid, np.argwhere(labels == number + 1), voxel_nm)
        large = wall is not None and wall.area_nm2 >= least_area_voxels * voxel_nm**2
        if wall is not None and large and abs(wall.jump_rad) >= least_jump_rad:
            walls.append(wall)
    return sorted(walls, key=lambda wall: -wall.area_nm2)


def _steepness(smooth: ComplexArray, solid: BoolArray) -> NDArray[np.float64]:
    """Of the phase, in rad a voxel, less the mean slope around."""
    slope = phase_gradient(smooth, solid)
    share = np.maximum(ndimage.gaussian_filter(solid.astype(np.float64), _AROUND), 1e-6)
    around = [ndimage.gaussian_filter(part, _AROUND) / share for part in slope]  # it is 0 outside
    return np.asarray(np.linalg.norm(slope - np.stack(around), axis=0))


def _away_from(lines: Sequence[Line], shape: tuple[int, ...], voxel_nm: float) -> NDArray[np.float64]:
    """Of each voxel, in voxels, from the nearest line."""
    free = np.ones(shape, bool)
    for line in lines:
        at = np.rint(line.points_nm / voxel_nm).astype(int) + np.array(shape) // 2
        free[tuple(np.clip(at, 0, np.array(shape) - 1).T)] = False
    return np.asarray(ndimage.distance_transform_edt(free)) if lines else np.full(shape, np.inf)


def _wall(smooth: ComplexArray, solid: BoolArray, voxels: NDArray[np.int64], voxel_nm: float) -> Wall | None:
    """None where the patch is not flat, or too near the surface to look to both sides of it."""
    centre = voxels.mean(axis=0)
    values, axes = np.linalg.eigh(np.cov((voxels - centre).T))
    # for an even distribution the half width is sqrt 3 times the standard deviation
    if np.sqrt(max(values[0], 0)) > _FLAT * np.sqrt(3 * values[1]):
        return None
    normal = axes[:, 0] * np.sign(axes[np.argmax(np.abs(axes[:, 0])), 0])
    jumps = _jumps(smooth, solid, voxels, normal)
    if not len(jumps):
        return None
    mean = np.exp(1j * jumps).mean()
    off = np.angle(np.exp(1j * (jumps - np.angle(mean))))
    across = np.unique(np.rint((voxels - centre) @ axes[:, 1:]).astype(int), axis=0)
    x, y, z = ((centre - np.array(solid.shape) // 2) * voxel_nm).tolist()
    first, second, third = normal.tolist()
    return Wall(
        centre_nm=(x, y, z),
        normal=(first, second, third),
        area_nm2=float(len(across) * voxel_nm**2),
        jump_rad=float(np.angle(mean)),
        jump_std_rad=float(np.sqrt(np.mean(off**2))),
        voxels=voxels,
    )


def _jumps(
    smooth: ComplexArray, solid: BoolArray, voxels: NDArray[np.int64], normal: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Of each voxel with `_FAR` voxels of crystal to both sides: the phase's step across it, in radians."""
    along = np.arange(-_FAR, _FAR + 1)
    places = np.moveaxis(voxels[:, None] + along[:, None] * normal, -1, 0)
    inside = ndimage.map_coordinates(solid.astype(np.float32), places, order=1).min(axis=1) > 0.5
    if not inside.any():
        return np.zeros(0)
    line = ndimage.map_coordinates(smooth, places[:, inside], order=1)
    steps = np.angle(line[:, 1:] * line[:, :-1].conj())
    outer = np.abs(along[:-1] + 0.5) > _NEAR
    return np.asarray(steps[:, ~outer].sum(axis=1) - 2 * _NEAR * steps[:, outer].mean(axis=1), np.float64)
