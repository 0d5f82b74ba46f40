"""The exit waves of a crystal at the angles of a rocking scan: the front door of the forward model."""

import os

import numpy as np
from numpy.typing import ArrayLike

from ..phasing.devices import device_of
from ..types import ComplexArray, FloatArray, ScanError
from .beams import Beams, along_diffracted
from .characteristics import Characteristics, RowKernels, shift_of
from .fourier import FourierShift
from .transport import Transport, Voxel, voxel_edges

TRANSPORTS = ("auto", "characteristics", "fourier")


def fields(
    S: ComplexArray,
    s0: FloatArray,
    voxel_m: Voxel,
    wavelength_m: float,
    two_theta: float,
    chi_0: complex,
    chi_h: complex,
    chi_hbar: complex,
    dthetas: ArrayLike,
    *,
    device: str = "auto",
    transport: str = "auto",
    threads: int = 1,
) -> tuple[ComplexArray, ComplexArray]:
    """E0 and Eh on the exit plane, (n_angles, nx, ny) each, for a plane wave of amplitude 1.

    They solve the two-beam Takagi-Taupin equations (docs/dynamical.md) of a crystal S = s_h exp(-i h.u),
    (nx, ny, nz), whose electron density relative to the perfect crystal's is `s0`. Values are at voxel centres,
    voxel n//2 of each axis is the origin, the exit plane is the far face of the last slice. z lies along the
    diffracted beam, k0 = k (-sin two_theta, 0, cos two_theta); `dthetas` turn the crystal about +y, right-handed;
    all angles in radians. `voxel_m` is one edge or (dx, dy, dz). Im chi >= 0 absorbs; chi_h and chi_hbar have the
    polarisation in them. Outside the volume there is vacuum.

    Where dz = dx / tan(two_theta), or a whole multiple, the march is by whole pixels and fast, otherwise by
    Fourier shifts on the CPU; `transport` ("characteristics", "fourier") insists on one. `device` is for the fast
    one: "cpu", by `threads` (0: as many as cores), "cuda", or "auto" for a CUDA device where there is one whose
    march is found to equal the CPU's. S in single precision is marched in single precision. Raises ScanError for
    input that cannot be used.
    """
    volume = np.asarray(S)
    beams = along_diffracted(wavelength_m, two_theta, chi_0=chi_0, chi_h=chi_h, chi_hbar=chi_hbar)
    slices = volume.shape[-1] if volume.ndim else 1
    chosen = transport_of(beams, voxel_m, slices, device=device, transport=transport, threads=threads)
    passage = chosen.march(volume, s0, beams.turned(np.atleast_1d(np.asarray(dthetas, float))))
    return passage.e0, passage.eh


def transport_of(
    beams: Beams, voxel_m: Voxel, slices: int, *, device: str = "auto", transport: str = "auto", threads: int = 1
) -> Transport:
    """The transport by this name; for "auto" that by whole pixels where the voxels have the shape for it.
    `threads` share that out on a CPU; 0 are as many as cores."""
    if transport not in TRANSPORTS:
        raise ScanError(f"no transport {transport!r}; there are {', '.join(TRANSPORTS)}")
    lengths = voxel_edges(voxel_m)
    if transport == "fourier" or (transport == "auto" and shift_of(beams, lengths, slices) is None):
        return FourierShift(beams, lengths)
    return Characteristics(beams, lengths, _kernels(device, threads))


def _kernels(device: str, threads: int) -> RowKernels:
    if device_of(device).name == "cuda":
        from .cuda import CudaRowKernels, mistrust

        why = mistrust()
        if why is None:
            return CudaRowKernels()
        if device == "cuda":
            raise ScanError(f"the march on this CUDA device {why}: take the device cpu")
    return RowKernels(threads=threads or len(os.sched_getaffinity(0)))
