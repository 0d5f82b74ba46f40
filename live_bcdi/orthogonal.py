"""From the sheared grid that a scan gives to cubic voxels of the lab frame, the complex object all the way.

A rocking scan's voxels are parallelepipeds. The object on them is carried over either by linear interpolation of
its complex values, or by its Fourier sum: the transform on the measured q, evaluated at the lab positions
(Maddali et al., J. Appl. Cryst. 53, 393 (2020); Li et al., J. Appl. Cryst. 53, 404 (2020)). Neither looks at a
phase, so a dislocation's winding stays.
"""

from dataclasses import dataclass

import finufft
import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from .config import Method, Window
from .types import ComplexArray, ScanError, Vector

_MARGIN_VOXELS = 4
_LONGEST = 512
# Of the Fourier sum's relative error; float32 objects hold no more.
_ACCURACY = 1e-6


def orthogonalise(
    density: ComplexArray,
    basis_nm: NDArray[np.float64],
    *,
    voxel_nm: float | None = None,
    threshold: float = 0.05,
    method: Method = "linear",
) -> tuple[NDArray[np.complex64], float]:
    """The object (rocking, row, column) on cubic voxels along lab x, y, z; returns it and the voxel in nm.

    `basis_nm` has the lab vector of one voxel step in each column. The box holds every voxel above `threshold`
    of the maximum, its |S|^2 centre of mass at n//2. The voxel defaults to the shortest of the basis. "linear"
    interpolates the complex value, which damps what rings at sharp edges; "fourier" is exact for what was
    measured, ringing included (`apodised` damps it). Raises ScanError where the object fills no box.
    """
    grid = lab_grid(density, basis_nm, voxel_nm, threshold)
    return on_grid(density, basis_nm, grid, method), grid.voxel_nm


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """Cubic voxels along lab x, y, z; voxel n//2 of them is at `origin_nm` from voxel n//2 of the object."""

    shape: tuple[int, int, int]
    voxel_nm: float
    origin_nm: Vector


def on_grid(
    density: ComplexArray, basis_nm: NDArray[np.float64], grid: Grid, method: Method = "linear"
) -> NDArray[np.complex64]:
    """The object as `orthogonalise` gives it, on a grid that was chosen before."""
    where = _places(grid, basis_nm)
    if method == "fourier":
        return np.asarray(fourier_sum(density, where), np.complex64)
    middle = np.reshape([n // 2 for n in density.shape], (3, 1, 1, 1))
    return np.asarray(ndimage.map_coordinates(density, where + middle, order=1, cval=0), np.complex64)


def _places(grid: Grid, basis_nm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fractional voxels of the object from its n//2, (3, x, y, z), where the grid's voxels are."""
    axes = [(np.arange(n) - n // 2) * grid.voxel_nm + o for n, o in zip(grid.shape, grid.origin_nm)]
    lab = np.stack(np.meshgrid(*axes, indexing="ij"))
    return np.tensordot(np.linalg.inv(basis_nm), lab, axes=1)


def fourier_sum(density: ComplexArray, where: NDArray[np.float64]) -> NDArray[np.complex128]:
    """S(m) = sum over k of A(k) exp(2 pi i k.m / N) / N at fractional voxels m = `where` (3, ...) from n//2, A
    being the transform of the object: what its samples say of it between them. Zero outside the array."""
    amplitude = fft.fftshift(fft.fftn(fft.ifftshift(density.astype(np.complex128)))) / density.size
    size = np.reshape(density.shape, (3,) + (1,) * (where.ndim - 1))
    inside = ((where >= -(size // 2)) & (where <= (size - 1) // 2)).all(axis=0)
    x, y, z = (np.ascontiguousarray(axis[inside] * (2 * np.pi / n)) for axis, n in zip(where, density.shape))
    values = np.zeros(inside.shape, np.complex128)
    values[inside] = finufft.nufft3d2(x, y, z, amplitude, isign=1, eps=_ACCURACY, nthreads=1)
    return values


def apodised(density: ComplexArray, window: Window = "blackman") -> NDArray[np.complex64]:
    """The object as seen with its transform under a window along each axis, 1 at n//2: less ringing at surfaces,
    and a resolution that is lower by about 1.7 (Hann: 1.4). "none" changes nothing."""
    if window == "none":
        return np.asarray(density, np.complex64)
    from scipy import signal  # half a second, which no service needs that only reads results

    amplitude = fft.fftshift(fft.fftn(fft.ifftshift(density)))
    for axis, n in enumerate(density.shape):
        # the periodic window of an even length has its top at n//2, the symmetric one that of an odd length
        weights = signal.get_window(window, n, fftbins=n % 2 == 0)
        amplitude *= np.expand_dims(weights, tuple(k for k in range(3) if k != axis))
    return np.asarray(fft.fftshift(fft.ifftn(fft.ifftshift(amplitude))), np.complex64)


def lab_grid(
    density: ComplexArray, basis_nm: NDArray[np.float64], voxel_nm: float | None = None, threshold: float = 0.05
) -> Grid:
    """The box that `orthogonalise` puts an object in. Raises ScanError where the object fills none."""
    modulus = np.abs(density)
    inside = np.argwhere(modulus > threshold * modulus.max())
    if not len(inside):
        raise ScanError("the object is zero everywhere; there is nothing to orthogonalise")
    middle = np.array([n // 2 for n in density.shape])
    power = modulus[tuple(inside.T)].astype(np.float64) ** 2
    lab = (inside - middle) @ basis_nm.T
    centre = np.average(lab, axis=0, weights=power)
    step = float(np.linalg.norm(basis_nm, axis=0).min()) if voxel_nm is None else voxel_nm
    x, y, z = (int(half) for half in np.ceil(np.abs(lab - centre).max(axis=0) / step) + _MARGIN_VOXELS)
    if 2 * max(x, y, z) > _LONGEST:
        raise ScanError(f"the object spans {2 * max(x, y, z)} voxels of {step:.3g} nm; give a larger voxel")
    origin = float(centre[0]), float(centre[1]), float(centre[2])
    return Grid(shape=(2 * x, 2 * y, 2 * z), voxel_nm=step, origin_nm=origin)
