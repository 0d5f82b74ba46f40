"""Images of one crystal in several states, computed and not resampled."""

import numpy as np
import pytest

from live_bcdi.strain import crystal_support, displacement_angstrom, strain_along
from live_bcdi.types import LabImage

Q_INVA = np.array([0.6, 2.4, 1.0])
Q_LENGTH = float(np.linalg.norm(Q_INVA))


def body_nm(shape, voxel_nm, shift_nm, turn):
    """Places (x, y, z, 3) in the crystal's own frame."""
    axes = [(np.arange(n) - n // 2) * voxel_nm - s for n, s in zip(shape, shift_nm)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1) @ turn


def charge(place):
    """The displacement, angstrom, that grows from state to state: without a slope of its own to speak of."""
    x, y, z = np.moveaxis(place, -1, 0)
    return 0.8 * np.sin(x / 25) * np.cos(y / 30) + 0.4 * np.cos(z / 22 + x / 40)


@pytest.fixture
def image():
    """Makes the image of a lopsided ellipsoid with soft edges, `order` times `charge` besides its own strain."""

    def made(order=0.0, *, shift_nm=(0, 0, 0), turn=None, twin=False, ramp_invA=(0, 0, 0)) -> LabImage:
        voxel_nm, shape, turn = 5.0, (40, 36, 34), np.eye(3) if turn is None else turn
        place = body_nm(shape, voxel_nm, shift_nm, turn)
        q = turn @ Q_INVA
        if twin:
            place = -place
        x, y, z = np.moveaxis(place, -1, 0)
        radius = np.sqrt((x / 70) ** 2 + (y / 55) ** 2 + (z / 60) ** 2 + 0.3 * x * y * z / 70**3)
        amplitude = 0.5 * (1 - np.tanh((radius - 1) * 9)) * (1 + 0.2 * z / 60)
        u_angstrom = 0.3 * np.sin(x / 40) * np.cos(z / 45) + order * charge(place)
        phase = -Q_LENGTH * u_angstrom * (-1 if twin else 1)
        lab_nm = body_nm(shape, voxel_nm, shift_nm, np.eye(3))
        density = amplitude * np.exp(1j * phase + 1j * 10 * lab_nm @ np.asarray(ramp_invA) + 0.3j)
        density = density.astype(np.complex64)
        support = crystal_support(density)
        return LabImage(
            density=density,
            support=support,
            displacement_angstrom=displacement_angstrom(density, support, Q_LENGTH),
            strain=strain_along(density, support, q, voxel_nm),
            voxel_nm=voxel_nm,
            q_centre_invA=q - np.asarray(ramp_invA),
        )

    return made
