"""How much of the physics a crystal needs: the rungs from a Fourier transform to two coupled beams.

The patterns of a perfect crystal of this shape are calculated kinematically, with the refraction and absorption of
both beams, and in full, on coarse voxels; what the first two are off by says which rung is enough.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from scipy import fft, ndimage

from ..geometry import Floats, wavelength_angstrom
from ..paths import filling
from ..types import FloatArray, Geometry, LabImage, ScanError, Vector
from .beams import Beams, along_bisector, along_diffracted
from .constants import Constants, Polarisation
from .detector import beam_frame
from .fields import transport_of
from .transport import Transport

TOLERANCE = 0.05  # of the amplitudes: about 0.05 rad of the phase (docs/dynamical.md)
_ACROSS, _ALONG = 40, 24  # voxels of the crystal, at least
_FRINGES, _A_FRINGE = 5, 2.5  # on either side of the peak, and frames in each
_ACROSS_BEAM = 0.1  # of the field along it
_STEEP = float(np.deg2rad(75))  # of two_theta: beyond, the march is along the bisector of the beams


class Rung(Enum):
    """From the cheapest; the value is what the user reads and writes."""

    KINEMATICAL = "kinematical"
    REFRACTION = "refraction"
    REFRACTED = "refracted-model"
    DYNAMICAL = "dynamical"


@dataclass(frozen=True, kw_only=True, slots=True)
class Misfits:
    """What two models are off by for a perfect crystal of this shape: |A| of the model at its best scale, less |A|
    in full, root mean square over pixels and angles, relative to |A| in full. `refraction` is what is left with
    the refraction and absorption of both beams (rungs "refraction" and "refracted-model", one before and one
    within the fit)."""

    kinematical: float
    refraction: float

    def rung(self, tolerance: float = TOLERANCE) -> Rung:
        """The cheapest that is within `tolerance`."""
        if self.kinematical <= tolerance:
            return Rung.KINEMATICAL
        return Rung.REFRACTION if self.refraction <= tolerance else Rung.DYNAMICAL


def misfits_of(lab: LabImage, geometry: Geometry, chi: Constants, polarisation: Polarisation) -> Misfits:
    """Of a retrieved crystal's shape between the beams that were measured; a second or less.

    Raises ScanError where the crystal is empty.
    """
    if not lab.support.any():
        raise ScanError("the crystal is empty: there is no shape to judge")
    beam = np.asarray(geometry.beam_direction)
    diffracted = beam + lab.q_centre_invA * wavelength_angstrom(geometry.energy_kev) / (2 * np.pi)
    beams, axes = beams_between(beam, diffracted, chi, polarisation)
    edges_m = _edges_m(_extents_m(lab, axes), beams)
    return misfits_between(_on_grid(lab, axes, edges_m, beams), edges_m, beams)


def beams_between(
    beam: Floats, diffracted: Floats, chi: Constants, polarisation: Polarisation
) -> tuple[Beams, Floats]:
    """Of these two directions in the lab, and the axes (3, 3) of their frame as rows: that of `fields`, or, where
    the diffracted beam is too steep for it, one with z along the bisector."""
    axes = beam_frame(beam, diffracted)
    two_theta = float(np.arccos(np.clip(beam @ axes[2], -1, 1)))
    factor = chi.factor(polarisation)
    values = {"chi_0": chi.chi_0, "chi_h": factor * chi.chi_h, "chi_hbar": factor * chi.chi_hbar}
    if two_theta <= _STEEP:
        return along_diffracted(chi.wavelength_m, two_theta, **values), axes
    return along_bisector(chi.wavelength_m, two_theta, **values), beam_frame(beam, beam + axes[2])


def polarisation_of(field: Vector | None, beam: Floats, diffracted: Floats) -> Polarisation:
    """Which of the three comes closest to light whose electric field is along `field`; None is unpolarised. Raises
    ScanError for a field along the beam."""
    if field is None:
        return "unpolarised"
    if abs(np.dot(field, beam)) > _ACROSS_BEAM:
        raise ScanError("the light's electric field is across the beam: correct [diffractometer] polarisation")
    y = beam_frame(beam, diffracted)[1]
    share = float(np.dot(field, y) ** 2)
    return "sigma" if share > 0.75 else "pi" if share < 0.25 else "unpolarised"


def misfits_between(s0: FloatArray, edges_m: Floats, beams: Beams) -> Misfits:
    """Of a perfect crystal that fills its voxels by `s0` (nx, ny, nz)."""
    turns = beams.turned(_angles(s0, edges_m, beams))
    density = np.asarray(s0, np.complex64)
    waves = [
        transport.march(density, np.asarray(s0, np.float32), turns).eh
        for transport in _models(beams, edges_m, s0.shape[-1])
    ]
    kinematical, refraction, full = (_amplitudes(np.asarray(wave)) for wave in waves)
    return Misfits(kinematical=_off_by(kinematical, full), refraction=_off_by(refraction, full))


def _models(beams: Beams, edges_m: Floats, slices: int) -> Iterator[Transport]:
    """Without any chi but chi_h; without scattering back; in full."""
    for each in (replace(beams, chi_0=0j, chi_hbar=0j), replace(beams, chi_hbar=0j), beams):
        x, y, z = edges_m
        yield transport_of(each, (float(x), float(y), float(z)), slices, device="cpu")


def _amplitudes(waves: FloatArray) -> FloatArray:
    shape = [fft.next_fast_len(2 * n) for n in waves.shape[1:]]
    return np.asarray(np.abs(fft.fft2(waves, shape)))


def _off_by(model: FloatArray, full: FloatArray) -> float:
    """The misfit at the best scale; that of equal amplitudes is rounding."""
    scale = np.vdot(model, full) / np.vdot(model, model)
    return float(np.linalg.norm(scale * model - full) / np.linalg.norm(full))


def _angles(s0: FloatArray, edges_m: Floats, beams: Beams) -> Floats:
    """Across some fringes on either side, and where refraction and reflection move and widen the peak."""
    extent = np.linalg.norm([np.ptp(np.nonzero(s0)[axis]) * edges_m[axis] for axis in (0, 2)])
    h = float(np.linalg.norm(beams.h))
    fringe = 2 * np.pi / (h * extent)
    cosine = float(np.dot(beams.k0, beams.kh))
    half = _FRINGES * fringe + (abs(beams.chi_0) + abs(beams.chi_h)) / np.sqrt(1 - cosine**2)
    count = int(np.ceil(half * _A_FRINGE / fringe))
    return np.asarray(fringe / _A_FRINGE * np.arange(-count, count + 1))


def _extents_m(lab: LabImage, axes: Floats) -> Floats:
    """How far the crystal reaches from voxel n//2 along each axis of the frame."""
    middle = np.array(lab.support.shape) // 2
    places = (np.argwhere(lab.support) - middle) @ axes.T
    return np.asarray((np.abs(places).max(axis=0) + 1) * 1e-9 * lab.voxel_nm)


def _edges_m(extents_m: Floats, beams: Beams) -> Floats:
    """Voxels that the march by whole pixels takes, where there is one, fine enough along each axis."""
    x, y, z = 2 * extents_m
    slope = abs(beams.k0[0] / beams.k0[2])
    dx = min(x / _ACROSS, slope * z / _ALONG)
    return np.array([dx, y / _ACROSS, dx / slope if beams.kh[2] > 1 - 1e-9 else z / _ALONG])


def _on_grid(lab: LabImage, axes: Floats, edges_m: Floats, beams: Beams) -> FloatArray:
    """How full voxels of the frame are, n//2 at the lab image's, and room for a diffracted beam that leaves along
    x."""
    filled = filling(lab.density, lab.support)
    finest = 1e9 * edges_m.min() / lab.voxel_nm
    if finest > 1.5:  # what lies between the samples counts too
        filled = ndimage.uniform_filter(filled, round(finest))
    reach = _extents_m(lab, axes)
    reach[0] += 2 * reach[2] * beams.kh[0] / beams.kh[2]
    shape = 2 * np.ceil(reach / edges_m).astype(int) + 3
    matrix = axes.T * edges_m * 1e9 / lab.voxel_nm
    offset = np.array(filled.shape) // 2 - matrix @ (shape // 2)
    grid = ndimage.affine_transform(filled, matrix, offset=offset, output_shape=tuple(shape), order=1)
    return np.asarray(grid, np.float32)
