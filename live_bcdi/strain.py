"""From the object on the detector's conjugate grid to displacement and strain in the lab frame.

The object is complex all the way: a wrapped phase is never interpolated or differentiated, so dislocations
survive. Signs (Sun & Singer, Eq. 1): S = s exp(i phi), phi = -h.u, so u_h = -phi / |h| along +h.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.restoration import unwrap_phase

from .config import CrystalConfig
from .geometry import direct_basis_nm
from .orthogonal import Grid, apodised, lab_grid, on_grid
from .types import BoolArray, ComplexArray, DiffractionVolume, FloatArray, LabImage, Vector

Object = ComplexArray

_DEFAULTS = CrystalConfig()


def crystal_support(density: Object, threshold: float = 0.3) -> BoolArray:
    """The largest connected piece above `threshold` of the maximum modulus."""
    modulus = np.abs(density)
    labels, count = ndimage.label(modulus > threshold * modulus.max())
    sizes = np.bincount(labels.ravel())
    return np.asarray(labels == 1 + np.argmax(sizes[1:])) if count else np.zeros(density.shape, bool)


def phase_gradient(density: Object, support: BoolArray) -> NDArray[np.float64]:
    """Gradient of the phase, (3, ...) in radians a voxel, without unwrapping: the angle of S(r+1) S*(r), of
    both sides of a voxel where both are in the support, else of the one that is (0 where none is)."""
    inside = np.where(support, density, 0).astype(np.complex128)
    gradient = []
    for axis in range(density.ndim):
        link = np.zeros_like(inside)
        low = [slice(None)] * density.ndim
        high = [slice(None)] * density.ndim
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        product = inside[tuple(high)] * np.conj(inside[tuple(low)])
        # equal weights for both sides, so that the difference is central whatever the amplitudes
        product = np.divide(product, np.abs(product), out=np.zeros_like(product), where=product != 0)
        link[tuple(low)] += product
        link[tuple(high)] += product
        gradient.append(np.angle(link))
    return np.stack(gradient)


def displacement_angstrom(density: Object, support: BoolArray, q_length_invA: float) -> NDArray[np.float32]:
    """u_h = -phi / |Q| (Å, positive along +h), unwrapped inside the support, zero-mean, NaN outside."""
    phase = np.ma.masked_array(np.angle(density).astype(np.float64), ~support)
    unwrapped = np.ma.filled(unwrap_phase(phase, rng=0), np.nan)  # type: ignore[no-untyped-call]
    result = np.where(support, -unwrapped / q_length_invA, np.nan)
    return np.asarray(result - np.nanmean(result), np.float32)


def strain_along(density: Object, support: BoolArray, q_invA: FloatArray, voxel_nm: float) -> NDArray[np.float32]:
    """d u_h / d x_h from the complex gradient, in the frame that `q_invA` (3,) and the array share; NaN
    outside the support. Its mean is the zero of strain, as `displacement_angstrom` has no slope of its own."""
    length = float(np.linalg.norm(q_invA))
    slope = np.tensordot(np.asarray(q_invA) / length, phase_gradient(density, support), axes=1)
    strain = np.where(support, -slope / (length * voxel_nm * 10), np.nan)
    return np.asarray(strain - np.nanmean(strain), np.float32)


def lab_image(
    density: Object,
    slopes: tuple[float, float, float],
    volume: DiffractionVolume,
    settings: CrystalConfig = _DEFAULTS,
) -> LabImage:
    """The crystal in the lab frame from an object whose phase ramp `slopes` (radians a voxel) was taken out.

    The ramp is a difference between the voxel n//2 and the mean lattice: it goes into `q_centre_invA`.
    """
    shape = (density.shape[0], density.shape[1], density.shape[2])
    basis_nm = direct_basis_nm(volume.q_steps_invA, shape)
    seen = apodised(density, settings.window)
    grid = lab_grid(seen, basis_nm, settings.voxel_nm)
    cubic = on_grid(seen, basis_nm, grid, settings.method)
    support = crystal_support(cubic, settings.threshold)
    cubic, support, origin_nm = _recentred(cubic, support, grid)
    q_centre = volume.q_centre_invA + volume.q_steps_invA @ (np.asarray(slopes) * np.asarray(shape) / (2 * np.pi))
    return LabImage(
        density=cubic,
        support=support,
        displacement_angstrom=displacement_angstrom(cubic, support, float(np.linalg.norm(q_centre))),
        strain=strain_along(cubic, support, q_centre, grid.voxel_nm),
        voxel_nm=grid.voxel_nm,
        q_centre_invA=q_centre,
        origin_nm=origin_nm,
    )


def with_spread(
    lab: LabImage,
    starts: Iterable[Object],
    volume: DiffractionVolume,
    settings: CrystalConfig = _DEFAULTS,
) -> LabImage:
    """The image with the standard deviations (n - 1) of displacement and strain over `starts`.

    Each start, the image's own among them and less the same phase ramp, is put on the image's voxels as
    `lab_image` does with the same `settings`; its displacement and strain have zero mean in the image's support.
    Differences of phase are wrapped, so a displacement is at most half a spacing off. Fewer than two starts leave
    the image as it is.
    """
    displacements, strains = [], []
    x, y, z = lab.support.shape
    grid = Grid(shape=(x, y, z), voxel_nm=lab.voxel_nm, origin_nm=lab.origin_nm)
    q_length = float(np.linalg.norm(lab.q_centre_invA))
    for start in starts:
        basis_nm = direct_basis_nm(volume.q_steps_invA, (start.shape[0], start.shape[1], start.shape[2]))
        cubic = on_grid(apodised(start, settings.window), basis_nm, grid, settings.method)
        product = (cubic * lab.density.conj())[lab.support]
        displacements.append(-np.angle(product * np.exp(-1j * np.angle(product.sum()))) / q_length)
        strains.append(strain_along(cubic, lab.support, lab.q_centre_invA, lab.voxel_nm)[lab.support])
    if len(strains) < 2:
        return lab
    return replace(
        lab,
        displacement_std_angstrom=_spread(displacements, lab.support),
        strain_std=_spread(strains, lab.support),
    )


def _spread(values: list[FloatArray], support: BoolArray) -> NDArray[np.float32]:
    """Standard deviation over a list of values in the support, each less its mean; NaN outside."""
    centred = [each - each.mean() for each in values]
    image = np.full(support.shape, np.nan, np.float32)
    image[support] = np.std(centred, axis=0, ddof=1)
    return image


def _recentred(
    density: NDArray[np.complex64], support: BoolArray, grid: Grid
) -> tuple[NDArray[np.complex64], BoolArray, Vector]:
    """Padded with zeros (never rolled) to have the support's centre of mass within half a voxel of n//2, and
    where that voxel is."""
    centre = [round(c) for c in ndimage.center_of_mass(support)]
    pads = []
    for n, c in zip(support.shape, centre):
        # a box of even length with c at its middle: as many voxels below it as from it upwards
        half = max(c, n - c)
        pads.append((half - c, half - (n - c)))
    x, y, z = (
        o + (c - n // 2) * grid.voxel_nm for o, c, n in zip(grid.origin_nm, centre, support.shape, strict=True)
    )
    return np.pad(density, pads), np.pad(support, pads), (x, y, z)


def extent_nm(support: BoolArray, voxel_nm: float) -> tuple[float, float, float]:
    """Edges of the support's bounding box along lab x, y, z."""
    found = np.argwhere(support)
    size = (np.ptp(found, axis=0) + 1) * voxel_nm
    return float(size[0]), float(size[1]), float(size[2])
