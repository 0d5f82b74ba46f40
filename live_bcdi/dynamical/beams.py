"""The two beams of a reflection, and what a slice of crystal does to them.

Plane waves are exp(i k.r - i omega t) with k = 2 pi / lambda, Im chi >= 0 absorbs, the polarisation factor is
inside chi_h and chi_hbar, and S = s_h exp(-i h.u). `docs/dynamical.md` derives what is used here.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..geometry import Floats
from ..types import ScanError, Vector

_LARGEST = 0.1  # of X-rays in matter a thousand times less; the envelopes would not be slow beside the wave


@dataclass(frozen=True, kw_only=True, slots=True)
class Beams:
    """Wave number in 1/m, unit vectors of the transmitted and the diffracted beam in the volume's frame, and the
    susceptibilities of the perfect crystal. Both beams must go forwards along z, the direction of the march."""

    wave_number: float
    k0: Vector
    kh: Vector
    chi_0: complex
    chi_h: complex
    chi_hbar: complex

    def __post_init__(self) -> None:
        if not (np.isfinite(self.wave_number) and self.wave_number > 0):
            raise ScanError(f"the wave number must be positive, not {self.wave_number}")
        if not np.isfinite([self.chi_0, self.chi_h, self.chi_hbar]).all():
            raise ScanError("chi_0, chi_h and chi_hbar must be finite")
        if max(abs(self.chi_0), abs(self.chi_h), abs(self.chi_hbar)) > _LARGEST or np.imag(self.chi_0) < 0:
            raise ScanError(
                f"chi_0 = {self.chi_0:.3g}, chi_h = {self.chi_h:.3g} and chi_hbar = {self.chi_hbar:.3g} are of"
                f" no X-rays: sizes are below {_LARGEST}, and Im chi_0 >= 0 absorbs"
            )
        for name, beam in (("k0", self.k0), ("kh", self.kh)):
            if not abs(np.linalg.norm(beam) - 1) < 1e-6 or beam[2] <= 0:
                raise ScanError(f"{name} must be a unit vector that goes forwards along z, not {beam}")

    @property
    def h(self) -> Floats:
        """Reciprocal lattice vector kh - k0, (3,) in 1/m."""
        return np.asarray(self.wave_number * (np.asarray(self.kh) - np.asarray(self.k0)))

    def turned(self, dthetas: ArrayLike) -> Floats:
        """(R_y(dtheta) - 1) h, (n, 3) in 1/m, of right-handed turns about +y in radians."""
        x, _, z = self.h
        angles = np.asarray(dthetas, float)
        cosine, sine = -2 * np.sin(angles / 2) ** 2, np.sin(angles)  # cos - 1, without its cancellation
        return np.stack([cosine * x + sine * z, 0 * angles, cosine * z - sine * x], axis=-1)

    def turning(self, dthetas: ArrayLike) -> Floats:
        """Derivative of `turned` by the angle, (n, 3) in 1/m."""
        x, _, z = self.h
        angles = np.asarray(dthetas, float)
        cosine, sine = np.cos(angles), np.sin(angles)
        return np.stack([cosine * z - sine * x, 0 * angles, -cosine * x - sine * z], axis=-1)

    def in_plane(self) -> "Beams":
        """Those of pi, if these are those of sigma: C = cos two_theta more in chi_h and chi_hbar."""
        cosine = float(np.dot(self.k0, self.kh))
        return replace(self, chi_h=cosine * self.chi_h, chi_hbar=cosine * self.chi_hbar)

    def generator(self, step_m: float) -> NDArray[np.complex128]:
        """(a0, ah, b, c): over a step of z, (E0, Fh) is multiplied by exp [[a0 s0, b S*], [c S, ah s0]]."""
        factor = 0.5j * self.wave_number * step_m
        return factor * np.array(
            [
                self.chi_0 / self.k0[2],
                self.chi_0 / self.kh[2],
                self.chi_hbar / self.k0[2],
                self.chi_h / self.kh[2],
            ]
        )


def along_diffracted(
    wavelength_m: float, two_theta: float, *, chi_0: complex, chi_h: complex, chi_hbar: complex
) -> Beams:
    """Beams in the frame with z along the diffracted one and k0 = k (-sin two_theta, 0, cos two_theta)."""
    if not 0 < two_theta < np.pi / 2:
        raise ScanError(
            f"two_theta = {two_theta} rad: with z along the diffracted beam the transmitted one goes forwards only"
            " between 0 and pi/2; beyond, march along their bisector: FourierShift(along_bisector(...), edges)"
        )
    return Beams(
        wave_number=_wave_number(wavelength_m),
        k0=(-float(np.sin(two_theta)), 0.0, float(np.cos(two_theta))),
        kh=(0.0, 0.0, 1.0),
        chi_0=complex(chi_0),
        chi_h=complex(chi_h),
        chi_hbar=complex(chi_hbar),
    )


def along_bisector(
    wavelength_m: float, two_theta: float, *, chi_0: complex, chi_h: complex, chi_hbar: complex
) -> Beams:
    """Beams in the frame with z halfway between them, k0 = k (-sin theta, 0, cos theta), kh = k (sin theta, 0, cos
    theta): both go forwards for any two_theta below pi. It takes `FourierShift`."""
    if not 0 < two_theta < np.pi:
        raise ScanError(f"two_theta must be between 0 and pi, not {two_theta} rad")
    sine, cosine = float(np.sin(two_theta / 2)), float(np.cos(two_theta / 2))
    return Beams(
        wave_number=_wave_number(wavelength_m),
        k0=(-sine, 0.0, cosine),
        kh=(sine, 0.0, cosine),
        chi_0=complex(chi_0),
        chi_h=complex(chi_h),
        chi_hbar=complex(chi_hbar),
    )


def _wave_number(wavelength_m: float) -> float:
    if not (np.isfinite(wavelength_m) and wavelength_m > 0):
        raise ScanError(f"the wavelength must be positive, not {wavelength_m} m")
    return 2 * np.pi / wavelength_m
