"""Phase singularities joined into dislocation lines: where each runs, how long it is, which way it turns.

A loop with a winding is pierced by a line; the loop lies between two cubes of voxels, and what goes into a cube
comes out of it, so that loops follow each other from cube to cube until the crystal's surface, or round.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from ..types import BoolArray, ComplexArray, LabImage, ScanError, Vector
from .winding import MARGIN_VOXELS, SMOOTH_VOXELS, phase_winding, readied

LEAST_VOXELS = 5.0  # of length; a shorter line is taken for noise (docs/series.md)
_ROUNDED = 2.0  # steps: a path from voxel to voxel is a staircase, and too long by up to 1.7
_NEWTON = 4  # steps to where an object is zero
_REMEMBERED = 4  # steps that say where a line was going, where lines cross
_FINER = 0.5  # of the Gaussian, with which a line that turns back is looked at again
_BESIDE = 2.0  # voxels between a line and the same more finely seen
_MOSTLY = 0.7  # of its points

Place = tuple[int, int, int]
_Loops = dict[Place, list[tuple[Place, NDArray[np.float64]]]]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Line:
    """A dislocation line: `points_nm` (n, 3) along it, from voxel n//2 of the image, in the sense about which the
    phase turns by +2 pi, right-handed: with b right-handed about it too, h.b = -2 pi. A line with h.b of two
    turns is two lines side by side.

    `length_nm` is within the crystal's support. `direction` is the unit vector from end to end, or for a `closed`
    line across its plane, turned so that its largest part is positive; `sign` is that of the turn about it.
    `depth_nm` is how far below the surface it goes.
    """

    points_nm: NDArray[np.float64]
    length_nm: float
    direction: Vector
    sign: int
    closed: bool
    depth_nm: float

    @property
    def runs_through(self) -> bool:
        """Whether its second half goes on as its first: no loop, nor half of one from the surface and back."""
        half = self.points_nm[len(self.points_nm) // 2]
        return not self.closed and float((half - self.points_nm[0]) @ (self.points_nm[-1] - half)) >= 0


def find_lines(
    lab: LabImage,
    *,
    least_voxels: float = LEAST_VOXELS,
    margin_voxels: float = MARGIN_VOXELS,
    smooth_voxels: float = SMOOTH_VOXELS,
) -> list[Line]:
    """The dislocation lines of a crystal, the longest first, of `least_voxels` of length and more that somewhere
    are `margin_voxels` below its surface. `smooth_voxels` is the Gaussian's that quiets noise (`readied`).

    A reflection shows the dislocations with h.b other than zero. Raises ScanError for a crystal without support.
    """
    return lines_of(
        lab.density,
        lab.support,
        lab.voxel_nm,
        least_voxels=least_voxels,
        margin_voxels=margin_voxels,
        smooth_voxels=smooth_voxels,
    )


def lines_of(
    density: ComplexArray,
    support: BoolArray,
    voxel_nm: float,
    *,
    least_voxels: float = LEAST_VOXELS,
    margin_voxels: float = MARGIN_VOXELS,
    smooth_voxels: float = SMOOTH_VOXELS,
) -> list[Line]:
    """`find_lines` of an object (x, y, z) on cubic voxels."""
    if not support.any():
        raise ScanError("there is no crystal to look for dislocations in: its support is empty")

    def at(smooth_voxels: float) -> list[Line]:
        return [
            line
            for line in _lines(density, support, voxel_nm, smooth_voxels)
            if line.length_nm >= least_voxels * voxel_nm and line.depth_nm >= margin_voxels * voxel_nm
        ]

    found = at(smooth_voxels)
    if any(_turns_back(line) for line in found):
        found = _told_apart(found, at(_FINER * smooth_voxels), voxel_nm)
    return sorted(found, key=lambda line: -line.length_nm)


def _lines(density: ComplexArray, support: BoolArray, voxel_nm: float, smooth_voxels: float) -> Iterator[Line]:
    """All, however short and shallow."""
    smooth, solid = readied(density, support, smooth_voxels=smooth_voxels)
    depth = ndimage.distance_transform_edt(np.pad(solid, 1))[1:-1, 1:-1, 1:-1]
    middle = np.array(density.shape) // 2
    for path, closed in _paths(_loops_by_cube(smooth, phase_winding(smooth, solid))):
        points = _rounded(path, closed=closed)
        steps = np.linalg.norm(np.diff(points, axis=0), axis=1).sum()
        # from the middle of the last loop it goes on, half a voxel on the average, to the support's last voxels
        length = steps if closed else steps + 1
        deep = float(ndimage.map_coordinates(depth, points.T, order=1).max())
        yield _line((points - middle) * voxel_nm, length * voxel_nm, deep * voxel_nm, closed=closed)


def _turns_back(line: Line) -> bool:
    return not line.closed and not line.runs_through


def _told_apart(coarse: list[Line], fine: list[Line], voxel_nm: float) -> list[Line]:
    """`coarse` with those of `fine` in the place of lines that these follow, where fewer turn back then.

    Two lines of opposite sense, nearer to each other than the Gaussian tells apart, are joined by it where they
    are nearest, to one that turns back. What noise adds to the finer lines is not along the coarse ones; a line
    that is too short or shallow when seen finely stays as it was.
    """
    finer = [line for line in fine if _follows(line, coarse, voxel_nm)]
    stay = [line for line in coarse if not _follows(line, finer, voxel_nm)]
    found = stay + [line for line in finer if not _follows(line, stay, voxel_nm)]
    return found if sum(map(_turns_back, found)) < sum(map(_turns_back, coarse)) else coarse


def _follows(line: Line, others: list[Line], voxel_nm: float) -> bool:
    """Whether most of a line is beside others."""
    if not others:
        return False
    away = cKDTree(np.concatenate([other.points_nm for other in others])).query(line.points_nm)[0]
    return bool(np.mean(away < _BESIDE * voxel_nm) > _MOSTLY)


def without_turns(density: ComplexArray, lines: Sequence[Line], voxel_nm: float) -> ComplexArray:
    """An object (x, y, z) on cubic voxels, less the angle about each of `lines`, which must run through it: the
    phase h.b / 2 pi times that angle that Burgers' cut makes, bends of the line followed from height to height.
    What an edge adds to it, and does not turn, stays (Hirth & Lothe, Theory of Dislocations, Eq. 3-45)."""
    flat = np.asarray(density, np.complex64)
    places = np.moveaxis(np.indices(density.shape), 0, -1) - np.array(density.shape) // 2
    for line in lines:
        flat = flat * np.exp(-1j * _angle_about(line, places * voxel_nm)).astype(np.complex64)
    return flat


def _angle_about(line: Line, places_nm: NDArray[np.float64]) -> NDArray[np.float64]:
    """The angle (...) of places (..., 3), right-handed about the way of a line, which goes on straight."""
    along = line.sign * np.array(line.direction)
    first = np.cross(along, np.eye(3)[np.argmin(np.abs(along))])
    first /= np.linalg.norm(first)
    axes = np.array([along, first, np.cross(along, first)])
    own = line.points_nm @ axes.T
    own = own[np.argsort(own[:, 0])]
    height, x, y = np.moveaxis(places_nm @ axes.T, -1, 0)
    return np.asarray(
        np.arctan2(y - np.interp(height, own[:, 0], own[:, 2]), x - np.interp(height, own[:, 0], own[:, 1]))
    )


def _loops_by_cube(smooth: ComplexArray, winding: NDArray[np.int8]) -> _Loops:
    """By cube: the cubes that lines go to from there, and where they pierce the loops between, in voxels."""
    leaving: _Loops = defaultdict(list)
    loops = np.argwhere(winding)
    for (axis, i, j, k), place in zip(loops.tolist(), _pierced(smooth, loops)):
        there: Place = (i, j, k)
        before = (i - (axis == 0), j - (axis == 1), k - (axis == 2))
        first, second = (before, there) if winding[axis, i, j, k] > 0 else (there, before)
        leaving[first].append((second, place))
    return leaving


def _pierced(smooth: ComplexArray, loops: NDArray[np.int64]) -> NDArray[np.float64]:
    """Where the object, bilinear between the corners, is zero in each of `loops` (n, 4), in voxels (n, 3)."""
    axes, corner = loops[:, 0], loops[:, 1:]
    one, other = (np.eye(3, dtype=int)[(axes + step) % 3] for step in (1, 2))
    here, along, beside, across = (
        smooth[tuple(place.T)] for place in (corner, corner + one, corner + other, corner + one + other)
    )
    mixed = here - along - beside + across
    s, t = np.full((2, len(loops)), 0.5)
    for _ in range(_NEWTON):
        value = here + s * (along - here) + t * (beside - here) + s * t * mixed
        by_s, by_t = along - here + t * mixed, beside - here + s * mixed
        area = by_s.real * by_t.imag - by_s.imag * by_t.real
        area = np.where(area == 0, np.inf, area)
        s = np.clip(s - (value.real * by_t.imag - value.imag * by_t.real) / area, 0, 1)
        t = np.clip(t - (by_s.real * value.imag - by_s.imag * value.real) / area, 0, 1)
    return np.asarray(corner + s[:, None] * one + t[:, None] * other, np.float64)


def _paths(leaving: _Loops) -> Iterator[tuple[NDArray[np.float64], bool]]:
    """Lines as places in their loops (n, 3), and whether they close; those from the surface come first."""
    entering: dict[Place, int] = defaultdict(int)
    for ends in leaving.values():
        for end, _ in ends:
            entering[end] += 1
    starts = [cube for cube, ends in leaving.items() for _ in range(len(ends) - entering[cube])]
    for cube in starts:
        yield np.array(_followed(leaving, cube)), False
    for cube in list(leaving):
        while leaving[cube]:
            yield np.array(_followed(leaving, cube)), True


def _followed(leaving: _Loops, cube: Place) -> list[NDArray[np.float64]]:
    """Loop after loop from a cube, each taken out of `leaving`; where lines cross, as straight on as there is."""
    path: list[NDArray[np.float64]] = []
    while ends := leaving.get(cube):
        way = path[-1] - path[-_REMEMBERED] if len(path) >= _REMEMBERED else np.zeros(3)
        best = max(range(len(ends)), key=lambda number: float((ends[number][1] - path[-1]) @ way) if path else 0.0)
        cube, middle = ends.pop(best)
        path.append(middle)
    return path


def _rounded(path: NDArray[np.float64], *, closed: bool) -> NDArray[np.float64]:
    """Smoothed along itself; the ends of an open path stay where they are."""
    if closed:
        smooth = ndimage.gaussian_filter1d(path, _ROUNDED, axis=0, mode="wrap")
        return np.concatenate([smooth, smooth[:1]])
    count = min(len(path) - 1, int(4 * _ROUNDED))
    before, after = 2 * path[0] - path[count:0:-1], 2 * path[-1] - path[-2 : -count - 2 : -1]
    longer = np.concatenate([before, path, after])
    return np.asarray(ndimage.gaussian_filter1d(longer, _ROUNDED, axis=0)[count : count + len(path)])


def _line(points_nm: NDArray[np.float64], length_nm: float, depth_nm: float, *, closed: bool) -> Line:
    if closed:
        away = points_nm - points_nm.mean(axis=0)
        way = np.cross(away[:-1], np.diff(away, axis=0)).sum(axis=0)
    else:
        way = points_nm[-1] - points_nm[0]
    way = way / max(float(np.linalg.norm(way)), 1e-12)
    sign = 1 if way[np.argmax(np.abs(way))] > 0 else -1
    x, y, z = (float(part) for part in sign * way)
    return Line(
        points_nm=points_nm,
        length_nm=float(length_nm),
        direction=(x, y, z),
        sign=sign,
        closed=closed,
        depth_nm=depth_nm,
    )
