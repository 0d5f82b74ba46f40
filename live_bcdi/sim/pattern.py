"""The diffraction pattern of a known crystal as a function of q, fast enough to be looked at frame by frame."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .crystals import Floats, Truth
from .scattering import diffraction_amplitude, fine_crystal

_VOXELS_A_FRINGE = (
    4  # intensity has half a fringe at the shortest; a cubic spline is then right to 1e-3 of the peak
)
_SPLINE = 3


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Pattern:
    """Intensity around a Bragg peak, 1 at its brightest, within `fringes` fringes of it along every lab axis.

    `spline` are the coefficients of a cubic B-spline on a grid whose steps are `step_invA` (3,) long.
    `brightness` is how bright it is where it is brightest, against the same crystal without strain: at most 1.
    """

    truth: Truth
    fringes: int
    step_invA: Floats
    spline: NDArray[np.float32]
    brightness: float

    @property
    def h_invA(self) -> Floats:
        """The Bragg peak (3,), in the frame of the crystal."""
        return np.asarray(self.truth.h_invA)

    @property
    def fringe_invA(self) -> float:
        """The shortest distance of two fringes along the lab axes, 2 pi / width of the crystal."""
        return float(_VOXELS_A_FRINGE * self.step_invA.min())

    @property
    def reach_invA(self) -> float:
        """Beyond this distance from the peak the pattern is zero."""
        return float(np.linalg.norm(self.step_invA) * self.spline.shape[0] / 2)

    def at(self, q_invA: Floats) -> Floats:
        """Intensity at q (..., 3) in the frame of the crystal; zero beyond the fringes that are there."""
        places = (q_invA - self.h_invA) / self.step_invA + np.asarray(self.spline.shape) // 2
        found = np.zeros(places.shape[:-1])
        last = np.asarray(self.spline.shape) - 1
        inside = ((places >= 0) & (places <= last)).all(axis=-1)
        if inside.any():
            found[inside] = ndimage.map_coordinates(self.spline, places[inside].T, order=_SPLINE, prefilter=False)
        return np.maximum(found, 0, out=found)


def pattern_of(truth: Truth, *, fringes: int = 12) -> Pattern:
    """The pattern of `truth` as `scattering.diffraction_amplitude` has it. Takes about a second for 12 fringes."""
    width_angstrom = 10 * np.ptp(truth.vertices_nm(), axis=0)
    step_invA = 2 * np.pi / width_angstrom / _VOXELS_A_FRINGE
    edge = 2 * _VOXELS_A_FRINGE * fringes
    shape, steps = (edge, edge, edge), np.diag(step_invA)
    intensity = np.abs(diffraction_amplitude(truth, steps, shape)) ** 2
    brightest = float(intensity.max())
    intensity /= brightest
    unstrained = float(np.abs(fine_crystal(truth, steps, shape)[0]).sum())
    spline = ndimage.spline_filter(intensity, order=_SPLINE).astype(np.float32)
    return Pattern(
        truth=truth, fringes=fringes, step_invA=step_invA, spline=spline, brightness=brightest / unstrained**2
    )
