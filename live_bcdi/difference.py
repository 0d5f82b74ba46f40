"""What changed between two images of a crystal: both on one lab grid, centred on their centres of mass, B - A.

Only a shift is taken out. Two results of one crystal may also differ by a rotation, which stays in the difference,
or be each other's twin, which is said and never undone: only who knows the sample can tell which one is right.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .lattice import mean_spacing_angstrom
from .orthogonal import Grid
from .strain import displacement_angstrom, strain_along
from .types import BoolArray, ComplexArray, FloatArray, LabImage, ScanError, Vector

MARGIN = 4  # voxels around both supports
INSIDE = 0.5  # of a resampled support
ORDER = 3  # of the splines that move an image by a part of a voxel


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """`first` and `second` on one grid, and B - A of amplitude (of the maximum of A, B scaled to fit), phase (rad,
    wrapped), displacement (angstrom, along +h) and strain: NaN outside `support`, where both are; all but the
    amplitude have zero mean there.

    `shift_nm` is how far the centre of mass of B, from its voxel n//2, was moved to lie on that of A.
    `correlation` is that of the amplitudes in either support, `twin_correlation` the same with B inverted.
    `mean_strain` is d_B / d_A - 1 of the mean lattice, which `strain` does not hold; `angle_deg` is between the
    two scattering vectors.
    """

    first: LabImage
    second: LabImage
    support: BoolArray
    amplitude: NDArray[np.float32]
    phase_rad: NDArray[np.float32]
    displacement_angstrom: NDArray[np.float32]
    strain: NDArray[np.float32]
    shift_nm: Vector
    correlation: float
    twin_correlation: float
    mean_strain: float
    angle_deg: float

    @property
    def overlap(self) -> float:
        """Voxels in both supports, of those in either."""
        return float(self.support.sum() / (self.first.support | self.second.support).sum())

    @property
    def rms_strain(self) -> float:
        """Over `support`."""
        return _rms(self.strain[self.support])

    @property
    def rms_displacement_angstrom(self) -> float:
        """Over `support`."""
        return _rms(self.displacement_angstrom[self.support])


def compare(first: LabImage, second: LabImage) -> Difference:
    """The difference of two images, on the coarser voxels of the two.

    Raises ScanError where one has no crystal, or the crystals do not overlap.
    """
    images = (first, second)
    for name, image in zip("AB", images):
        if not image.support.any() or not np.isfinite(image.density).all():
            raise ScanError(f"{name} has no crystal that could be compared: its support is empty, or not finite")
    centres = [_centre_nm(image) for image in images]
    grid = _common_grid(images, centres)
    a, b = (_placed(image, centre, grid) for image, centre in zip(images, centres))
    support = a.support & b.support
    if not support.any():
        raise ScanError("A and B have no voxel in common, though both were centred")
    x, y, z = (float(step) for step in centres[0] - centres[1])
    return Difference(
        first=a,
        second=b,
        support=support,
        amplitude=_amplitude(a, b, support),
        phase_rad=_phase(a, b, support),
        displacement_angstrom=_displacement(a, b, support),
        strain=_strain(a, b, support),
        shift_nm=(x, y, z),
        correlation=_correlation(a, b.density, b.support),
        twin_correlation=_correlation(a, *_moved(second, centres[1], grid, inverted=True)),
        mean_strain=mean_spacing_angstrom(second) / mean_spacing_angstrom(first) - 1,
        angle_deg=_angle_deg(first.q_centre_invA, second.q_centre_invA),
    )


def _centre_nm(image: LabImage) -> NDArray[np.float64]:
    """Centre of mass of |S|^2 inside the support, from voxel n//2."""
    power = np.where(image.support, np.abs(image.density.astype(np.complex128)) ** 2, 0)
    away = np.array(ndimage.center_of_mass(power)) - _middle(image.support.shape)
    return np.asarray(away * image.voxel_nm, np.float64)


def _middle(shape: Sequence[int]) -> NDArray[np.int_]:
    return np.array(shape) // 2


def _common_grid(images: Sequence[LabImage], centres: Sequence[NDArray[np.float64]]) -> Grid:
    """Room for both crystals and their inverse about the centre of mass, which is zero. The coarser image, or the
    first of two alike, keeps its voxels."""
    coarser = max(range(2), key=lambda number: images[number].voxel_nm)
    voxel_nm = images[coarser].voxel_nm
    reach = np.zeros(3)
    for image, centre in zip(images, centres):
        found = (np.argwhere(image.support) - _middle(image.support.shape)) * image.voxel_nm - centre
        reach = np.maximum(reach, np.abs(found).max(axis=0))
    x, y, z = (2 * (int(np.ceil(length / voxel_nm - 1e-3)) + MARGIN) for length in reach)  # rounding is no voxel
    off = centres[coarser] / voxel_nm
    origin = (np.rint(off) - off) * voxel_nm
    return Grid(
        shape=(x, y, z), voxel_nm=voxel_nm, origin_nm=(float(origin[0]), float(origin[1]), float(origin[2]))
    )


def _moved(
    image: LabImage, centre_nm: NDArray[np.float64], grid: Grid, *, inverted: bool = False
) -> tuple[NDArray[np.complex64], BoolArray]:
    """Density and support on the grid, the centre of mass at zero; `inverted` has what was at r at -r."""
    ratio = grid.voxel_nm / image.voxel_nm
    sign = -1 if inverted else 1
    middle = (sign * np.array(grid.origin_nm) + centre_nm) / image.voxel_nm + _middle(image.support.shape)
    offset = middle - sign * ratio * _middle(grid.shape)
    # the mean over a coarser voxel, as a Gaussian: a box of n voxels has the variance of (n^2 - 1) / 12 more
    sigma = np.sqrt(max(0.0, ratio**2 - 1) / 12)

    def at(array: NDArray[Any], order: int) -> NDArray[Any]:
        mean = ndimage.gaussian_filter(array, sigma) if sigma > 0 else array
        matrix = np.full(3, sign * ratio)
        return np.asarray(ndimage.affine_transform(mean, matrix, offset, grid.shape, order=order))

    support = at(image.support.astype(np.float32), 1) > INSIDE
    return at(image.density.astype(np.complex128), ORDER).astype(np.complex64), support


def _placed(image: LabImage, centre_nm: NDArray[np.float64], grid: Grid) -> LabImage:
    """The image on the grid; displacement and strain are found anew there."""
    density, support = _moved(image, centre_nm, grid)
    if not support.any():
        raise ScanError("a crystal is smaller than a voxel of the other image")
    q_length = float(np.linalg.norm(image.q_centre_invA))
    return LabImage(
        density=density,
        support=support,
        displacement_angstrom=displacement_angstrom(density, support, q_length),
        strain=strain_along(density, support, image.q_centre_invA, grid.voxel_nm),
        voxel_nm=grid.voxel_nm,
        q_centre_invA=image.q_centre_invA,
    )


def _amplitude(a: LabImage, b: LabImage, support: BoolArray) -> NDArray[np.float32]:
    """Of the maximum of A, with B in the scale that fits A best: amplitudes of results have no unit."""
    one, other = np.abs(a.density), np.abs(b.density)
    scale = (one * other)[support].sum() / (other**2)[support].sum()
    return _inside((scale * other - one) / one.max(), support)


def _product(a: LabImage, b: LabImage, support: BoolArray) -> ComplexArray:
    """Its phase is that of B less that of A, with a mean of zero: no object has a phase of its own."""
    product = b.density * a.density.conj()
    return np.asarray(product * np.exp(-1j * np.angle(product[support].sum(dtype=np.complex128))))


def _phase(a: LabImage, b: LabImage, support: BoolArray) -> NDArray[np.float32]:
    return _inside(np.angle(_product(a, b, support)), support)


def _displacement(a: LabImage, b: LabImage, support: BoolArray) -> NDArray[np.float32]:
    """u = -phi / |Q| of each with its own Q, from the unwrapped difference of the phases: what A and B have in
    common, a dislocation among it, is not unwrapped twice."""
    q_a, q_b = (float(np.linalg.norm(image.q_centre_invA)) for image in (a, b))
    changed = displacement_angstrom(_product(a, b, support), support, q_b)
    scaled = (q_a / q_b - 1) * displacement_angstrom(a.density, support, q_a)
    return _inside(changed + scaled, support)


def _strain(a: LabImage, b: LabImage, support: BoolArray) -> NDArray[np.float32]:
    """From the same neighbours in both, so that a support that grew by a voxel is no strain."""
    strain_a, strain_b = (
        strain_along(image.density, support, image.q_centre_invA, image.voxel_nm) for image in (a, b)
    )
    return _inside(strain_b - strain_a, support)


def _inside(values: NDArray[Any], support: BoolArray) -> NDArray[np.float32]:
    return np.where(support, values, np.nan).astype(np.float32)


def _correlation(a: LabImage, density: ComplexArray, support: BoolArray) -> float:
    """sum |A||B| / sqrt(sum |A|^2 sum |B|^2) in either support: 1 where they are the same but for a scale. Without
    their means it would say little, for a crystal is nearly uniform."""
    either = a.support | support
    one, other = (np.abs(each)[either].astype(np.float64) for each in (a.density, density))
    return float((one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum()))


def _angle_deg(one: FloatArray, other: FloatArray) -> float:
    cosine = float(one @ other) / float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(values.astype(np.float64) ** 2)))
