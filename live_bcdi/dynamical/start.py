"""From a kinematical retrieval to what a refinement needs: the object on the dynamical model's grid, the frames.

The retrieval's array is sheared and belongs to the lab; the model's voxels belong to the two beams. The object
goes over by its Fourier sum, its phase ramp with it: that says where the crystal's own h is, relative to the
peak's pixel. Then refraction and absorption are divided out, with path lengths through the retrieved support.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..config import CrystalConfig
from ..geometry import Floats, direct_basis_nm, rocking_circle, with_rocking_angle
from ..orthogonal import fourier_sum
from ..paths import path_lengths_nm
from ..phasing.align import twin, without_ramp
from ..preprocess import monitor_scale, rocking_grid_deg, scan_mask
from ..strain import lab_image
from ..types import (
    BoolArray,
    ComplexArray,
    DiffractionVolume,
    FloatArray,
    Geometry,
    LabImage,
    Reconstruction,
    RockingScan,
    ScanError,
)
from .beams import Beams
from .detector import FarField, Frame, departures, frame_at, pixel_momenta, pixel_samples
from .frames import Frames
from .refinement import interior

_FINER = 1.25  # than what is measured asks for: the wave of a slice reaches beyond
_TURN = 0.1  # radians that refraction may turn the phase in a slice; its commutators are then below 1e-2
_MARGIN = 3  # voxels around the support, for it to grow
_LARGEST = 512
_AT_ONCE = 2**22  # voxels that are placed at a time, or twice as many as were retrieved
_STEEPEST = float(np.deg2rad(85))  # beyond, slices of a few per cent of the pixels' edge, then none
_TURN_DEG = 1e-3  # over which the departures are differentiated


@dataclass(frozen=True, kw_only=True, slots=True)
class Placed:
    """A crystal on the model's grid: S and s0 (nx, ny, nz) with the voxel's `edges_m` (3,) in `frame`, voxel n//2
    at the origin. `peak` (row, column) is the pixel that the frame's z goes to, `geometry` has the rocking circle
    where the peak is; `rows`, `columns` are the part of the detector that was phased."""

    density: ComplexArray
    s0: FloatArray
    frame: Frame
    edges_m: Floats
    geometry: Geometry
    peak: tuple[float, float]
    rows: slice
    columns: slice


def placed(scan: RockingScan, result: Reconstruction, chi_0: complex) -> Placed:
    """The result of `scan` as it was retrieved, |S| about one inside. The voxels are fine enough for the pixels
    and the angles of the scan and for the refraction of `chi_0`, and have the shape that marches fast. That the
    result is of this scan is not looked at. Raises ScanError for a result without its volume, for one that is too
    large, and for a diffracted beam too far back."""
    volume = result.volume
    if volume is None:
        raise ScanError("this result does not say where its pattern was: retrieve it from its scan, with geometry")
    first, step = rocking_grid_deg(scan.angles_deg, _have(scan))
    geometry = with_rocking_angle(scan.geometry, first + step * volume.centre[0])
    peak = (volume.centre[1], volume.centre[2])
    rows, columns = _box(scan, volume)
    frame = frame_at(geometry, *peak)
    if frame.two_theta >= _STEEPEST:
        raise ScanError(
            f"two_theta is {np.rad2deg(frame.two_theta):.1f} degrees: a refinement marches along the diffracted"
            f" beam, and takes less than {np.rad2deg(_STEEPEST):.0f}"
        )
    basis_m = 1e-9 * frame.axes @ direct_basis_nm(volume.q_steps_invA, _three(result.density.shape))
    edges = _edges(scan, (geometry, peak, rows, columns), frame, chi_0)
    density, s0 = _resampled(result, basis_m, edges)
    if not np.any(density):
        raise ScanError("the retrieved object is empty: retrieve it again")
    density /= interior(density)
    return Placed(
        density=density,
        s0=s0,
        frame=frame,
        edges_m=edges,
        geometry=geometry,
        peak=peak,
        rows=rows,
        columns=columns,
    )


def twin_of(crystal: Placed) -> Placed:
    """The other object with the same kinematical pattern, conj S(-r)."""
    flipped = twin(np.asarray(crystal.s0, np.complex64)).real
    return replace(crystal, density=twin(crystal.density), s0=np.asarray(flipped, np.float32))


def refraction_divided_out(crystal: Placed, beams: Beams) -> Placed:
    """Divided by exp[i k chi_0 (l_in + l_out) / 2], the lengths of crystal before and behind each voxel along the
    two beams."""
    edges_nm = 1e9 * crystal.edges_m
    inwards, outwards = -np.asarray(beams.k0), np.asarray(beams.kh)
    length_nm = sum(path_lengths_nm(crystal.s0, along, edges_nm) for along in (inwards, outwards))
    length_m = 1e-9 * np.nan_to_num(length_nm)
    density = crystal.density / np.exp(0.5j * beams.wave_number * beams.chi_0 * length_m)
    return replace(crystal, density=np.asarray(density / interior(density), np.complex64))


def frames_of(
    scan: RockingScan, crystal: Placed, background: FloatArray | float = 0.0, *, threads: int = 1
) -> tuple[Frames, FarField]:
    """The scan's own counts, with its mask, monitor and flat field, and where its pixels are for this crystal.
    `background` in counts by monitor and flat field is a number, (row, column) or (rocking, row, column). Of
    preprocessing nothing is done: no pixel is masked as another crystal's, and no background is taken off."""
    have = _have(scan)
    scale, beam = (np.ones(len(have)), have) if scan.monitor is None else monitor_scale(scan.monitor, have)
    box = (slice(None), crystal.rows, crystal.columns)
    mask, _ = scan_mask(scan, beam)
    flat = np.ones(scan.intensity.shape[1:]) if scan.flatfield is None else np.asarray(scan.flatfield, float)
    known = np.where(np.isfinite(scan.angles_deg), scan.angles_deg, rocking_circle(crystal.geometry).angle_deg)
    here, before, behind = (
        departures(crystal.geometry, *crystal.peak, known + turn) for turn in (0, -_TURN_DEG, _TURN_DEG)
    )
    try:
        level = np.broadcast_to(np.asarray(background, float), scan.intensity.shape)
    except ValueError:
        raise ScanError(
            f"a background {np.shape(background)} does not go with frames {scan.intensity.shape}"
        ) from None
    frames = Frames(
        counts=np.where(mask, 0, scan.intensity)[box].astype(np.float64),
        delta_q=here,
        turning=(behind - before) / np.deg2rad(2 * _TURN_DEG),
        used=~mask[box],
        response=(flat / scale[:, None, None])[box],
        background=level[box],
    )
    samples = pixel_samples(crystal.geometry, crystal.peak, scan.intensity.shape[1:])
    return frames, FarField(samples[crystal.rows, crystal.columns], crystal.edges_m, threads=threads)


def in_the_lab(crystal: Placed, volume: DiffractionVolume, settings: CrystalConfig | None = None) -> LabImage:
    """The crystal on cubic voxels in the lab frame of `volume`, as `strain.lab_image` makes it."""
    shape = _three(crystal.density.shape)
    basis_nm = 1e9 * crystal.frame.axes.T * crystal.edges_m
    steps = 2 * np.pi * np.linalg.inv(basis_nm).T / np.asarray(shape) / 10
    flat, slopes = without_ramp(crystal.density)
    here = replace(volume, q_steps_invA=steps)
    return lab_image(flat, slopes, here, settings or CrystalConfig())


def _have(scan: RockingScan) -> BoolArray:
    return np.ones(len(scan.intensity), bool) if scan.have is None else np.asarray(scan.have, bool)


def _three(shape: tuple[int, ...]) -> tuple[int, int, int]:
    return shape[0], shape[1], shape[2]


def _box(scan: RockingScan, volume: DiffractionVolume) -> tuple[slice, slice]:
    """The detector's pixels that the volume holds."""
    found = []
    for axis in (1, 2):
        step = np.linalg.norm(volume.q_steps_invA[:, axis])
        pixel = np.linalg.norm(_pixel_step(scan, volume, axis))
        half = volume.intensity.shape[axis] * step / pixel / 2
        low, high = volume.centre[axis] - half, volume.centre[axis] + half
        found.append(slice(max(0, round(low)), min(scan.intensity.shape[axis], round(high))))
    return found[0], found[1]


def _pixel_step(scan: RockingScan, volume: DiffractionVolume, axis: int) -> Floats:
    """Change of momentum of one of the detector's pixels, in 1/Å."""
    ends = np.array([volume.centre[1:], volume.centre[1:]])
    ends[1, axis - 1] += 1
    momenta = pixel_momenta(scan.geometry, volume.centre[1:], ends[:, 0], ends[:, 1])
    return np.asarray(1e-10 * (momenta[1] - momenta[0]))


def _edges(
    scan: RockingScan,
    seen: tuple[Geometry, tuple[float, float], slice, slice],
    frame: Frame,
    chi_0: complex,
) -> Floats:
    """Voxel edges in m: dz = dx / tan(two_theta), so short that no momentum of the object that a pixel of a frame
    sees folds (|q| edge < pi, the object turned with its angle), nor refraction turns much in one slice."""
    geometry, peak, rows, columns = seen
    corners = np.meshgrid([rows.start, rows.stop - 1], [columns.start, columns.stop - 1], indexing="ij")
    pixels = pixel_momenta(geometry, peak, *corners).reshape(-1, 2)
    angles = scan.angles_deg[np.isfinite(scan.angles_deg)]
    turned = departures(geometry, *peak, [angles.min(), angles.max()])
    across = np.abs(pixels[:, None] - turned[None, :, :2]).max(axis=(0, 1))
    x, y, z = np.pi / (_FINER * np.maximum([*across, np.abs(turned[:, 2]).max()], 1.0))
    k = 2 * np.pi / frame.wavelength_m
    z = min(z, 2 * _TURN / (k * max(abs(chi_0), 1e-12)), 2 * max(x, y))
    x = min(x, z * np.tan(frame.two_theta))
    return np.array([x, y, x / np.tan(frame.two_theta)])


def _shape(support: BoolArray, basis_m: Floats, edges: Floats) -> tuple[int, int, int]:
    """Voxels that hold the support and its twin, with a margin."""
    middle = np.array([n // 2 for n in support.shape])
    reach = np.abs((np.argwhere(support) - middle) @ basis_m.T).max(axis=0, initial=0.0)
    x, y, z = (2 * (int(np.ceil(half)) + _MARGIN) for half in reach / edges)
    if max(x, y, z) > _LARGEST:
        raise ScanError(
            f"the crystal takes {x} x {y} x {z} voxels of {1e9 * edges.min():.3g} nm, more than {_LARGEST} along"
            " an axis: bin or crop the frames"
        )
    return x, y, z


def _resampled(result: Reconstruction, basis_m: Floats, edges: Floats) -> tuple[ComplexArray, FloatArray]:
    """S and s0 on the model's voxels, some slices at a time: places and sums take a hundred bytes a voxel, and
    each time costs a transform of twice the retrieval's edges."""
    shape = _shape(result.support, basis_m, edges)
    axes = [(np.arange(n) - n // 2) * edge for n, edge in zip(shape, edges)]
    to_voxels = np.linalg.inv(basis_m)
    density, s0 = np.zeros(shape, np.complex64), np.zeros(shape, np.float32)
    at_once = max(_AT_ONCE, 2 * result.density.size) // (shape[1] * shape[2]) + 1
    for first in range(0, shape[0], at_once):
        some = slice(first, first + at_once)
        places = np.stack(np.meshgrid(axes[0][some], *axes[1:], indexing="ij"))
        where = np.tensordot(to_voxels, places, axes=1)
        s0[some] = _filled(result.support, where)
        inside = s0[some] > 0
        density[some][inside] = fourier_sum(result.density, where[:, inside])
    return density, s0


def _filled(support: BoolArray, where: NDArray[np.float64]) -> FloatArray:
    """How much of the support is at these voxels (3, ...) from its middle, by what lies about them."""
    middle = np.reshape([n // 2 for n in support.shape], (3, 1, 1, 1))
    return np.asarray(ndimage.map_coordinates(support.astype(np.float32), where + middle, order=1, cval=0))
