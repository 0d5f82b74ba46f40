"""From the exit wave to the counts of pixels: the far field, and where a beamline's pixels lie in it.

Each frame is a plane of momenta across the diffracted beam, whatever the angle between the rows and the
scattering plane, and the rocking angle is already in the wave (the ramp exp(i delta_q.r)): the measured, sheared
grid needs no resampling in three dimensions. The plane is the tangent plane of the Ewald sphere.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import finufft
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..geometry import Floats, chain_matrix, pixel_place_m, q_lab_invA, wavelength_angstrom, with_rocking_angle
from ..types import ComplexArray, FloatArray, Geometry, ScanError

# finufft's tolerance and oversampling. In single precision the smaller grid is three times as fast, with the
# widest kernel that its rounding allows: it errs by 2e-5 of the largest amplitude, as the march does.
_ACCURACY: dict[Any, dict[str, float]] = {
    np.dtype(np.complex64): {"eps": 1.4e-5, "upsampfac": 1.25},
    np.dtype(np.complex128): {"eps": 1e-13, "upsampfac": 2.0},
}
_LEAST_SINE = 1e-3  # of two_theta


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """The volume's frame in the lab: `axes` (3, 3) has x, y, z as rows, z along the diffracted beam of the peak
    and the transmitted beam in the plane of x and z, towards -x; `two_theta` in radians."""

    axes: Floats
    two_theta: float
    wavelength_m: float


def beam_frame(beam: Floats, along: Floats) -> Floats:
    """Axes (3, 3) as rows, z along `along`, the beam in the plane of -x and z. Raises ScanError where both are one
    line."""
    z = np.asarray(along) / np.linalg.norm(along)
    x = (beam @ z) * z - beam
    if not np.linalg.norm(x) > _LEAST_SINE:
        raise ScanError("the peak lies in the direct beam: it has no scattering plane")
    x = x / np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z])


def frame_at(geometry: Geometry, row: float, column: float) -> Frame:
    """The frame of the peak in this pixel. Raises ScanError where it lies in the direct beam."""
    beam = np.asarray(geometry.beam_direction)
    axes = beam_frame(beam, pixel_place_m(geometry, row, column))
    return Frame(
        axes=axes,
        two_theta=float(np.arccos(np.clip(beam @ axes[2], -1, 1))),
        wavelength_m=1e-10 * wavelength_angstrom(geometry.energy_kev),
    )


def departures(geometry: Geometry, row: float, column: float, angles_deg: ArrayLike) -> Floats:
    """delta_q (n, 3) in 1/m, in `frame_at`, of a crystal whose peak is in this pixel at the geometry's own rocking
    angle, at each of `angles_deg`."""
    here, h = chain_matrix(geometry.sample), q_lab_invA(geometry, row, column)
    turned = [
        chain_matrix(with_rocking_angle(geometry, angle).sample) @ here.T @ h for angle in np.ravel(angles_deg)
    ]
    return np.asarray(1e10 * (np.array(turned) - h) @ frame_at(geometry, row, column).axes.T)


def pixel_momenta(geometry: Geometry, peak: tuple[float, float], rows: ArrayLike, columns: ArrayLike) -> Floats:
    """Momenta across the beam of the peak, (..., 2) in 1/m, of pixels (fractions allowed)."""
    axes = frame_at(geometry, *peak).axes[:2]
    at = q_lab_invA(geometry, np.asarray(rows, float), np.asarray(columns, float)) - q_lab_invA(geometry, *peak)
    return np.asarray(1e10 * at @ axes.T)


class FarField:
    """Intensities |sum Eh exp(-i q.r)|^2 of pixels, from waves (n, nx, ny) on a grid of dx, dy in m; from waves
    (n, polarisations, nx, ny), as `Unpolarised` has them, the mean of the polarisations' intensities.

    `momenta` (..., samples, 2) in 1/m: a pixel counts the mean over its samples, one where the pattern is sampled
    finely enough. `pixel_samples` spreads them over the pixel. `threads` share the waves out, to the same bits.
    """

    def __init__(self, momenta: Floats, edges: Floats, *, threads: int = 1) -> None:
        if momenta.ndim < 2 or momenta.shape[-1] != 2 or not np.isfinite(momenta).all():
            raise ScanError(f"momenta must be finite pairs for each pixel and sample, not {momenta.shape}")
        self._threads = threads
        self._pixels, self._samples = momenta.shape[:-2], momenta.shape[-2]
        angles = (momenta.reshape(-1, 2) * edges[:2] + np.pi) % (2 * np.pi) - np.pi
        self._x, self._y = (np.ascontiguousarray(column) for column in angles.T)

    @property
    def pixels(self) -> tuple[int, ...]:
        return self._pixels

    @property
    def identity(self) -> bytes:
        """The same for the same pixels on the same grid."""
        return self._x.tobytes() + self._y.tobytes() + repr((self._pixels, self._samples)).encode()

    def amplitudes(self, wave: ComplexArray) -> ComplexArray:
        """sum Eh exp(-i q.r), (n, ..., samples), or (n, polarisations, ..., samples)."""
        x, y = self._points(wave)
        found = self._shared(
            lambda some: finufft.nufft2d2(x, y, some, isign=-1, nthreads=1, **_ACCURACY[wave.dtype]),
            _flat(wave),
        )
        return np.asarray(found.reshape(*wave.shape[:-2], *self._pixels, self._samples))

    def intensities(self, wave: ComplexArray) -> FloatArray:
        """(n, ...), in units of |S dx|^2 where the wave is one."""
        return self.intensities_of(self.amplitudes(wave))

    def intensities_of(self, amplitudes: ComplexArray) -> FloatArray:
        """Those of `amplitudes`."""
        each = np.mean(np.abs(amplitudes) ** 2, axis=-1)
        return np.asarray(each if each.ndim == 1 + len(self._pixels) else each.mean(axis=1))

    def pull_back(
        self, wave: ComplexArray, by_intensity: FloatArray, amplitudes: ComplexArray | None = None
    ) -> ComplexArray:
        """dL/dRe Eh + i dL/dIm Eh from dL/dI; `amplitudes` are those of the wave, where they are known."""
        x, y = self._points(wave)
        by_mean = by_intensity if wave.ndim == 3 else by_intensity[:, None] / wave.shape[1]
        seen = self.amplitudes(wave) if amplitudes is None else amplitudes
        by = 2 / self._samples * by_mean[..., None] * seen
        flat = np.ascontiguousarray(by.reshape(-1, len(x)), wave.dtype)
        found = self._shared(
            lambda some: finufft.nufft2d1(
                x, y, some, wave.shape[-2:], isign=1, nthreads=1, **_ACCURACY[wave.dtype]
            ),
            flat,
        )
        return np.asarray(found.reshape(wave.shape))

    def _shared(self, transform: Callable[[ComplexArray], ComplexArray], waves: ComplexArray) -> ComplexArray:
        """finufft's own threads would share out the points, and round otherwise each time."""
        if self._threads == 1 or len(waves) == 1:
            return transform(waves)
        with ThreadPoolExecutor(self._threads) as pool:
            return np.concatenate(list(pool.map(transform, np.array_split(waves, min(self._threads, len(waves))))))

    def _points(self, wave: ComplexArray) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        kind = np.float32 if wave.dtype == np.complex64 else np.float64
        return self._x.astype(kind), self._y.astype(kind)


def _flat(wave: ComplexArray) -> ComplexArray:
    """(waves, nx, ny)"""
    return np.ascontiguousarray(wave.reshape(-1, *wave.shape[-2:]))


def pixel_samples(
    geometry: Geometry, peak: tuple[float, float], shape: tuple[int, int], *, across: int = 1
) -> Floats:
    """Momenta (rows, columns, across^2, 2) of a detector's pixels, `across` x `across` samples in each."""
    offsets = (np.arange(across) + 0.5) / across - 0.5
    rows, columns, up, along = np.meshgrid(*map(np.arange, shape), offsets, offsets, indexing="ij")
    found = pixel_momenta(geometry, peak, rows + up, columns + along)
    return found.reshape(*shape, across**2, 2)
