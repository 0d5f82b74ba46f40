"""What a displacement field says of the lattice planes: their tilt, shear and spacing, as functions of `LabImage`.

The gradient of u_h has one component along h, the normal strain that `LabImage` holds, and two across it, which a
single reflection shows as well: how the planes tilt and shear (Gorobtsov & Singer 2022).
"""

import numpy as np
from numpy.typing import NDArray

from .geometry import axes_across
from .strain import phase_gradient
from .types import FloatArray, LabImage, ScanError, Vector


def displacement_gradient(lab: LabImage, direction: FloatArray) -> NDArray[np.float32]:
    """d u_h / dx along the lab vector `direction` (3,), without unwrapping, NaN outside the support.

    Its mean is zero, as the mean tilt of the planes is in `q_centre_invA`. Along h it is `LabImage.strain`.
    """
    gradient: NDArray[np.float32] = _gradients(lab, np.asarray(direction, float)[None])[0]
    return gradient


def _gradients(lab: LabImage, directions: FloatArray) -> NDArray[np.float32]:
    """One for each of `directions` (n, 3), from one phase gradient."""
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    if not (lengths > 0).all():
        raise ScanError("the displacement gradient needs a direction other than zero")
    slopes = np.tensordot(directions / lengths, phase_gradient(lab.density, lab.support), axes=1)
    q_length = float(np.linalg.norm(lab.q_centre_invA))
    gradients = np.where(lab.support, -slopes / (q_length * lab.voxel_nm * 10), np.nan)
    return np.asarray(gradients - np.nanmean(gradients, axis=(1, 2, 3), keepdims=True), np.float32)


def shear_axes(lab: LabImage, reference: Vector = (0.0, 0.0, 1.0)) -> NDArray[np.float64]:
    """Two lab unit vectors (2, 3) across h: the part of `reference` (the beam, by default) that is across h, and
    h x that one, so that (first, second, h) is right-handed."""
    return axes_across(lab.q_centre_invA, reference)


def shear_gradients(lab: LabImage, reference: Vector = (0.0, 0.0, 1.0)) -> NDArray[np.float32]:
    """(2, x, y, z): d u_h / dx along each of `shear_axes`, NaN outside the support."""
    return _gradients(lab, shear_axes(lab, reference))


def mean_spacing_angstrom(lab: LabImage) -> float:
    """d_0 = 2 pi / |h|, the spacing that zero strain means."""
    return 2 * np.pi / float(np.linalg.norm(lab.q_centre_invA))


def d_spacing_angstrom(lab: LabImage) -> NDArray[np.float64]:
    """Lattice spacing d_0 (1 + strain) of the diffracting planes, d_0 = 2 pi / |h|; NaN outside the support.

    As accurate as the detector's calibration: an arm that points a few pixels aside scales the whole map.
    """
    return np.asarray(mean_spacing_angstrom(lab) * (1 + lab.strain.astype(np.float64)))
