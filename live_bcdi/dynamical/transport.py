"""What a march through the crystal gives, by whatever transport: `Characteristics` or `FourierShift`."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..geometry import Floats
from ..types import ComplexArray, FloatArray, ScanError, Vector

Voxel = float | Vector


@dataclass(frozen=True, kw_only=True, slots=True)
class Gradient:
    """Derivatives of a real L: `density` is dL/dRe S + i dL/dIm S, like S; `s0` like s0; `delta_q` (n, 3) in m."""

    density: ComplexArray
    s0: FloatArray
    delta_q: Floats


class Passage(Protocol):
    """The fields on the exit plane, (n, nx, ny) each, and the way back. What it keeps is as large as they are, for
    any number of slices."""

    @property
    def e0(self) -> ComplexArray: ...

    @property
    def eh(self) -> ComplexArray: ...

    def pull_back(self, by_e0: ComplexArray | None, by_eh: ComplexArray | None) -> Gradient:
        """The gradient from dL/dRe E + i dL/dIm E of the two fields, None for a field that L does not have."""


class Transport(Protocol):
    """One way to carry the beams from slice to slice."""

    @property
    def identity(self) -> str:
        """The same for the same physics: beams, constants and voxels, by whatever device."""

    def march(self, density: ComplexArray, s0: FloatArray, delta_q: Floats) -> Passage:
        """Through S and s0, (nx, ny, nz), at n departures (n, 3) in 1/m of h from kh - k0."""


def voxel_edges(voxel_m: Voxel) -> Floats:
    """(dx, dy, dz) in m of a number or three. Raises ScanError for what is no length."""
    edges = np.asarray(voxel_m, float)
    if edges.shape not in ((), (3,)) or not np.isfinite(edges).all() or not (edges > 0).all():
        raise ScanError(f"voxel_m must be one positive length or three, not {voxel_m}")
    return np.array(np.broadcast_to(edges, 3))


def checked(density: ComplexArray, s0: FloatArray, delta_q: Floats) -> tuple[ComplexArray, FloatArray, Floats]:
    """The arguments of a march: complex64 with float32, or complex128 with float64. Raises ScanError."""
    single = np.asarray(density).dtype in (np.complex64, np.float32)
    kind = np.complex64 if single else np.complex128
    volume: ComplexArray = np.asarray(density, kind)
    electrons: FloatArray = np.asarray(s0, np.float32 if single else np.float64)
    departures = np.asarray(delta_q, np.float64)
    if volume.ndim != 3 or electrons.shape != volume.shape or volume.size == 0:
        raise ScanError(f"S and s0 must be volumes of one shape, not {volume.shape} and {electrons.shape}")
    if departures.ndim != 2 or departures.shape[1] != 3 or len(departures) == 0:
        raise ScanError(f"give one departure of three components an angle, not an array {departures.shape}")
    if not (np.isfinite(volume).all() and np.isfinite(electrons).all() and np.isfinite(departures).all()):
        raise ScanError("S, s0 and the angles must be finite")
    return volume, electrons, departures


def places(n: int, step_m: float) -> Floats:
    """Where the voxel centres are, n//2 at zero."""
    return np.asarray((np.arange(n) - n // 2) * step_m)


def exit_plane(n: int, step_m: float) -> float:
    """z of the last slice's far face."""
    return (n - n // 2 - 0.5) * step_m
