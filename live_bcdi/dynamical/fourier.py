"""Transport by Fourier shifts, for voxels of any shape and beams in any direction that go forwards along z.

Each slice is half a transport, the coupling, half a transport. The volume is given room for the beams to leave it:
what goes round by the transform's period never comes back to the crystal.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from ..geometry import Floats
from ..types import ComplexArray, FloatArray
from . import coupling
from .beams import Beams
from .transport import Gradient, checked, exit_plane, places


@dataclass(frozen=True, kw_only=True, slots=True)
class _Steps:
    """What a whole slice without matter does to the waves of a field: radians, for E0 (1, nx, ny) and for Fh
    (n, nx, ny), with ones for the axes along which all waves go alike; `by_q` (3, ...) is the derivative of Fh's
    by delta_q."""

    e0: Floats
    fh: Floats
    by_q: Floats


class FourierShift:
    """`Transport` for any voxels. `curvature` adds the transverse Laplacian: a wave of transverse momentum q is
    then carried by k_z = sqrt(k^2 - q^2), the Ewald sphere, and not by its tangent plane."""

    def __init__(self, beams: Beams, edges: Floats, *, curvature: bool = False) -> None:
        self._beams, self._edges, self._curvature = beams, edges, curvature

    @property
    def identity(self) -> str:
        return f"fourier {self._beams} {[float(edge) for edge in self._edges]} {self._curvature}"

    def march(self, density: ComplexArray, s0: FloatArray, delta_q: Floats) -> "FourierPassage":
        volume, electrons, departures = checked(density, s0, delta_q)
        room = self._room(volume.shape)
        pad = [(0, room[0] - volume.shape[0]), (0, room[1] - volume.shape[1]), (0, 0)]
        slices = np.pad(volume, pad).transpose(2, 0, 1), np.pad(electrons, pad).transpose(2, 0, 1)
        shape = (volume.shape[0], volume.shape[1])
        generator = self._beams.generator(float(self._edges[2]))
        steps = self._steps(room, departures)
        return FourierPassage(slices, generator, steps, departures, shape=shape, edges=self._edges)

    def _room(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Pixels so that neither beam comes back to the crystal, of lengths that transform fast."""
        beams = np.array([self._beams.k0, self._beams.kh])
        travel = np.abs(beams[:, :2] / beams[:, 2:]).max(axis=0) * shape[2] * self._edges[2] / self._edges[:2]
        wanted = np.array(shape[:2]) + np.where(travel > 1e-9, np.ceil(travel) + 1, 0).astype(int)
        return int(fft.next_fast_len(int(wanted[0]))), int(fft.next_fast_len(int(wanted[1])))

    def _steps(self, room: tuple[int, int], departures: Floats) -> _Steps:
        dz = self._edges[2]
        dqx, dqy, dqz = departures.T[:, :, None, None]
        k0, kh = np.asarray(self._beams.k0), np.asarray(self._beams.kh)
        rates, _ = self._rates(k0, *self._waves(room, k0))
        qx, qy = self._waves(room, kh)
        turns, slopes = self._rates(kh, qx + dqx, qy + dqy)
        return _Steps(
            e0=dz * rates, fh=dz * (turns - dqz), by_q=dz * np.stack([*slopes, np.full_like(turns, -1.0)])
        )

    def _waves(self, room: tuple[int, int], beam: Floats) -> tuple[Floats, Floats]:
        """Transverse momenta (1, nx, 1) and (1, 1, ny) in 1/m; one zero along an axis where all waves go alike."""
        qx, qy = (
            2 * np.pi * fft.fftfreq(n, step) if self._curvature or abs(along) > 1e-12 else np.zeros(1)
            for n, step, along in zip(room, self._edges[:2], beam[:2])
        )
        return qx[None, :, None], qy[None, None, :]

    def _rates(self, beam: Floats, qx: Floats, qy: Floats) -> tuple[Floats, tuple[Floats, Floats]]:
        """k_z of the wave less that of the beam, in 1/m, and its derivatives by qx and qy."""
        if not self._curvature:
            slopes = (-beam[0] / beam[2] + 0 * (qx + qy), -beam[1] / beam[2] + 0 * (qx + qy))
            return np.asarray(slopes[0] * qx + slopes[1] * qy), slopes
        k = self._beams.wave_number
        x, y = k * beam[0] + qx, k * beam[1] + qy
        z = np.sqrt(np.maximum(k**2 - x**2 - y**2, 0) + 0 * (x + y))
        return z - k * beam[2], (-x / z, -y / z)


class FourierPassage:
    """`Passage` by Fourier shifts: keeps the fields on the exit face."""

    def __init__(
        self,
        slices: tuple[ComplexArray, FloatArray],
        generator: ComplexArray,
        steps: _Steps,
        departures: Floats,
        *,
        shape: tuple[int, int],
        edges: Floats,
    ) -> None:
        self._density, self._s0 = slices
        self._generator, self._steps, self._departures = generator, steps, departures
        self._shape, self._edges = shape, edges
        self._times = coupling.doublings(generator, self._density, self._s0)
        kind = self._density.dtype
        self._factors = {
            share: tuple(np.exp(1j * share * turn).astype(kind) for turn in (steps.e0, steps.fh))
            for share in (1.0, 0.5, -1.0, -0.5)
        }
        e0 = np.ones((len(departures), *self._density.shape[1:]), kind)
        fh = np.zeros_like(e0)
        for number in range(len(self._density)):
            if number:
                e0, fh = self._carried(e0, fh, 1.0)
            e0, fh = _mixed(self._matrices(number, self._generator), e0, fh)
        self._e0, self._fh = self._carried(e0, fh, 0.5)
        self._ramp = self._ramps()
        self.e0: ComplexArray = np.array(self._cut(self._e0))
        self.eh: ComplexArray = self._cut(self._fh) * self._ramp

    def pull_back(self, by_e0: ComplexArray | None, by_eh: ComplexArray | None) -> Gradient:
        kind = self._density.dtype
        by_q = np.zeros_like(self._departures)
        ge, gf = np.zeros_like(self._e0), np.zeros_like(self._fh)
        if by_e0 is not None:
            self._cut(ge)[...] = by_e0
        if by_eh is not None:
            self._cut(gf)[...] = by_eh * np.conj(self._ramp)
            by_q += self._by_ramp((np.conj(by_eh) * 1j * self.eh).real)
        e0, fh = self._e0, self._fh
        by_density, by_s0 = np.zeros_like(self._density), np.zeros_like(self._s0)
        share = 0.5
        for number in range(len(self._density) - 1, -1, -1):
            by_q += self._by_turn(fh, gf, share)
            e0, fh = self._carried(e0, fh, -share)
            ge, gf = self._carried(ge, gf, -share)
            e0, fh = _mixed(self._matrices(number, -self._generator), e0, fh)
            by_matrix = np.stack([np.sum(g * np.conj(f), axis=0) for g in (ge, gf) for f in (e0, fh)])
            by_density[number], by_s0[number] = coupling.pull_back_plane(
                self._density[number], self._s0[number], self._generator, self._times, by_matrix
            )
            m11, m12, m21, m22 = np.conj(self._matrices(number, self._generator))
            ge, gf = _mixed(np.stack([m11, m21, m12, m22]).astype(kind), ge, gf)
            share = 1.0
        inside = (slice(0, self._shape[0]), slice(0, self._shape[1]))
        return Gradient(
            density=by_density.transpose(1, 2, 0)[inside], s0=by_s0.transpose(1, 2, 0)[inside], delta_q=by_q
        )

    def _matrices(self, number: int, generator: ComplexArray) -> ComplexArray:
        out = np.empty((4, *self._density.shape[1:]), self._density.dtype)
        coupling.matrices(self._density[number], self._s0[number], generator, self._times, out)
        return out

    def _carried(self, e0: ComplexArray, fh: ComplexArray, share: float) -> tuple[ComplexArray, ComplexArray]:
        """A part of a slice without matter, backwards where `share` is negative."""
        of_e0, of_fh = self._factors[share]
        return _carried(e0, of_e0), _carried(fh, of_fh)

    def _by_turn(self, fh: ComplexArray, gf: ComplexArray, share: float) -> Floats:
        """Gradient by delta_q of a transport of Fh, from the field and the gradient behind it."""
        slopes = self._steps.by_q
        axes = _axes(slopes[0])
        inner = np.conj(fft.fft2(gf, axes=axes)) * fft.fft2(fh, axes=axes)
        inner = inner / np.prod([inner.shape[axis] for axis in axes])
        others = tuple(axis for axis in (1, 2) if axis not in axes)
        by_turn = (1j * inner.sum(axis=others, keepdims=True)).real
        return np.asarray(share * np.sum(slopes * by_turn, axis=(2, 3)).T)

    def _cut(self, field: ComplexArray) -> ComplexArray:
        return field[:, : self._shape[0], : self._shape[1]]

    def _lengths(self) -> tuple[Floats, Floats, float]:
        x, y = (places(n, step) for n, step in zip(self._shape, self._edges[:2]))
        return x, y, exit_plane(len(self._density), float(self._edges[2]))

    def _ramps(self) -> ComplexArray:
        x, y, z = self._lengths()
        qx, qy, qz = self._departures.T[:, :, None]
        ramp = np.exp(1j * (qx * x + qz * z))[:, :, None] * np.exp(1j * qy * y)[:, None, :]
        return np.asarray(ramp, self._density.dtype)

    def _by_ramp(self, by_phase: FloatArray) -> Floats:
        x, y, z = self._lengths()
        by_x, by_y = by_phase.sum(axis=2, dtype=np.float64), by_phase.sum(axis=1, dtype=np.float64)
        return np.stack([by_x @ x, by_y @ y, by_x.sum(axis=1) * z], axis=1)


def _axes(factor: NDArray[Any]) -> tuple[int, ...]:
    """Those along which waves go differently."""
    return tuple(axis for axis in (1, 2) if factor.shape[axis] > 1)


def _carried(field: ComplexArray, factor: ComplexArray) -> ComplexArray:
    axes = _axes(factor)
    return np.asarray(fft.ifft2(fft.fft2(field, axes=axes) * factor, axes=axes) if axes else field * factor)


def _mixed(m: NDArray[Any], e0: ComplexArray, fh: ComplexArray) -> tuple[ComplexArray, ComplexArray]:
    return m[0] * e0 + m[1] * fh, m[2] * e0 + m[3] * fh
