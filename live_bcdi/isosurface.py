"""The surface of a crystal as triangles, few enough to be sent while people watch.

Marching cubes (Lewiner et al., J. Graph. Tools 8, 1 (2003), in scikit-image) put a vertex on every edge of the
grid that crosses the level, and a closed surface has two triangles a vertex. So what a mesh will cost is known
before it is made, and where it is too much the volume is made coarser, not the mesh.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import marching_cubes

from .types import BoolArray, ComplexArray

LEVEL = 0.5  # of the typical amplitude inside: where the crystal ends, if it is uniform
MARGIN = 3  # voxels around the support that are looked at
SMOOTHING = (
    0.7  # voxels; a support cuts the amplitude off, and its stairs would be seen before the crystal's faces
)
MOST_TRIANGLES = 20_000  # with three values a vertex, 0.4 MB


@dataclass(frozen=True, kw_only=True, slots=True)
class Isosurface:
    """`vertices` (n, 3) from the support's centre of mass, in the frame and unit of the basis they were made with;
    `faces` (m, 3) index them counter-clockwise as seen from outside, in a right-handed frame. `level` is of the
    amplitude, relative to its maximum; `step` is how many voxels one cell of the grid was that was drawn on.
    `values` (n,) of each quantity at the vertices, NaN where the support has none.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.uint16]
    level: float
    step: float
    values: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


def about_mean_phase(density: ComplexArray, support: BoolArray) -> ComplexArray:
    """The object with its mean phase in the support taken out: a phase has no zero of its own."""
    mean = (density * np.abs(density))[support].sum()
    return np.asarray(density * (np.conj(mean) / max(float(np.abs(mean)), 1e-30)))


def isosurface(
    density: ComplexArray,
    support: BoolArray,
    basis: NDArray[np.float64],
    *,
    triangles: int = MOST_TRIANGLES,
    values: Mapping[str, NDArray[np.float32]] | None = None,
) -> Isosurface | None:
    """Where the amplitude falls to half of its mean (weighted by itself) inside `support`, with the phase (rad,
    about its own mean) and each of `values` (real, shaped as `density`) there; None where there is no surface.

    `basis` (3, 3) has the step of a voxel along each axis in its columns; a left-handed one is allowed for. There
    are at most `triangles`, and never more than 65,535: a vertex is numbered in 16 bits.
    """
    found = ndimage.find_objects(support.astype(np.uint8), max_label=1)[0] if support.any() else None
    if found is None:
        return None
    box = tuple(slice(max(0, part.start - MARGIN), part.stop + MARGIN) for part in found)
    density, support = density[box], support[box]
    # Beside the support there is nothing, but what interpolation has left next to it makes the surface smooth.
    amplitude = np.pad(np.abs(density) * ndimage.binary_dilation(support), MARGIN).astype(np.float32)
    level = LEVEL * _typical(np.abs(density)[support])
    mesh = _mesh(amplitude, level, min(triangles, np.iinfo(np.uint16).max))
    if mesh is None:
        return None
    vertices, faces, step = mesh
    places = vertices - MARGIN
    centre = np.array(ndimage.center_of_mass(support))
    phase = np.angle(_at(places, about_mean_phase(density, support), support))
    fields = {name: _at(places, array[box], support) for name, array in (values or {}).items()}
    return Isosurface(
        vertices=((places - centre) @ basis.T).astype(np.float32),
        faces=(faces if np.linalg.det(basis) > 0 else faces[:, ::-1]).astype(np.uint16),
        level=level / float(amplitude.max()),
        step=step,
        values={"phase": phase.astype(np.float32), **fields},
    )


def _mesh(
    amplitude: NDArray[np.float32], level: float, most: int
) -> tuple[NDArray[np.float32], NDArray[np.int32], float] | None:
    """Vertices in voxels, faces, and voxels a cell."""
    step, volume = 1.0, ndimage.gaussian_filter(amplitude, SMOOTHING)
    while expected := 2 * _crossings(volume > level):
        if expected <= most:
            # "ascent" turns the faces so that their normals look down the slope, out of the crystal
            vertices, faces, _, _ = marching_cubes(volume, level, gradient_direction="ascent")  # type: ignore[no-untyped-call]
            expected = len(faces)  # holes and doubtful cells add a few
            if expected <= most:
                return vertices * np.float32(step), faces, step
        step *= 1.02 * math.sqrt(expected / most)
        volume = _coarser(amplitude, step)
    return None


def _typical(amplitude: NDArray[np.floating[Any]]) -> float:
    """The mean amplitude, weighted by itself: what is faint in a loose support counts little."""
    total = float(amplitude.sum(dtype=np.float64))
    return float((amplitude.astype(np.float64) ** 2).sum()) / total if total > 0 else 0.0


def _crossings(inside: BoolArray) -> int:
    """How many edges of the grid have one end inside."""
    return sum(int(np.count_nonzero(np.diff(inside, axis=axis))) for axis in range(3))


def _coarser(amplitude: NDArray[np.float32], step: float) -> NDArray[np.float32]:
    """The amplitude on points `step` voxels apart, the first where it was, zero all around."""
    smooth = ndimage.gaussian_filter(amplitude, max(SMOOTHING, step / 2))
    shape = tuple(int(np.ceil(edge / step)) + 1 for edge in amplitude.shape)
    coarse = ndimage.affine_transform(smooth, np.full(3, step), output_shape=shape, order=1)
    coarse[0], coarse[:, 0], coarse[:, :, 0] = 0, 0, 0
    return np.asarray(coarse, np.float32)


def _at(places: NDArray[np.float32], values: NDArray[Any], support: BoolArray) -> NDArray[Any]:
    """Linear interpolation of what lies inside the support; NaN where none is next to a place."""
    weight = ndimage.map_coordinates(support.astype(np.float32), places.T, order=1)
    summed = ndimage.map_coordinates(np.where(support, values, 0), places.T, order=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(weight > 1e-3, summed / weight, np.nan).astype(summed.dtype)
