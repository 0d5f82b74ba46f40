"""Crystals whose defects are known."""

import numpy as np
import pytest

from live_bcdi.sim.parts import Dislocation
from live_bcdi.strain import displacement_angstrom, strain_along
from live_bcdi.types import LabImage

SPACING_ANGSTROM = 2.35
H_INVA = np.array([0.0, 0.0, 2 * np.pi / SPACING_ANGSTROM])
VOXEL_NM = 5.0


def places_nm(n=40):
    return np.stack(np.meshgrid(*[(np.arange(n) - n // 2) * VOXEL_NM] * 3, indexing="ij"), axis=-1)


@pytest.fixture
def ball():
    """Makes the image of a ball of 75 nm: with lines, another `phase` (of points in nm) and noise."""

    def made(*lines: Dislocation, phase=None, noise=0.0, seed=0) -> LabImage:
        points = places_nm()
        along_h = H_INVA / np.linalg.norm(H_INVA)
        u = sum((line.along_angstrom(points, along_h) for line in lines), np.zeros(points.shape[:3]))
        turned = -np.linalg.norm(H_INVA) * u + (0 if phase is None else phase(points))
        random = np.random.default_rng(seed)
        grain = random.normal(size=u.shape) + 1j * random.normal(size=u.shape)
        support = np.linalg.norm(points, axis=-1) < 75
        density = (support * (np.exp(1j * turned) + noise * grain / np.sqrt(2))).astype(np.complex64)
        return LabImage(
            density=density,
            support=support,
            displacement_angstrom=displacement_angstrom(density, support, float(np.linalg.norm(H_INVA))),
            strain=strain_along(density, support, H_INVA, VOXEL_NM),
            voxel_nm=VOXEL_NM,
            q_centre_invA=H_INVA,
        )

    return made


@pytest.fixture
def dislocation():
    """Makes a straight line through `point` along `way` (any length) with h.b of `turns` times 2 pi."""

    def made(point=(0, 0, 0), way=(0, 0, 1), *, turns=1.0, across=(0.0, 0.0)) -> Dislocation:
        x, y, z = (float(part) for part in np.asarray(way) / np.linalg.norm(way))
        burgers = (*across, turns * SPACING_ANGSTROM)
        return Dislocation(point_nm=tuple(map(float, point)), line=(x, y, z), burgers_angstrom=burgers)

    return made
